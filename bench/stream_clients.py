"""Readers of runs, many in one process: what each of them got, when, and whether it holds."""

import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.event_source import DEFAULT_RETRY_S, Address, ChunkedBody, EventSource
from bench.stand_in import STAMP_MODULUS, TOKEN_CHARS, age_ms, stamp_now

RUNS = "/api/v1/chat/runs"
# What was missed comes at once, and tells nothing of the pace.
_REPLAY_S = 0.1
_STAMP = re.compile(r"\d{7}")


@dataclass
class Timings:
    """What all readers of a benchmark saw while `is_on`, in ms.

    `latencies`: from when the provider sent the oldest token of a frame. `gaps`: between two token
    frames of one connection; `excess`: that, less what the provider itself let pass. `resumes`:
    from a cut to the next token frame, always taken.
    `begins`: what POST takes, of those that were not refused.
    """

    is_on: bool = False
    tokens: int = 0  # always counted
    frames: int = 0  # always counted
    latencies: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    resumes: list[float] = field(default_factory=list)
    begins: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    def restart(self) -> None:
        self.latencies, self.gaps, self.excess = [], [], []
        self.is_on = True


@dataclass(eq=False)
class RunReader:
    """Reads one run to its end. The answer's tokens are stamps of the stand-in."""

    run_id: str
    person: str
    source: EventSource
    timings: Timings
    text: str = ""
    snapshots: int = 0
    cuts: int = 0
    error: dict[str, Any] | None = None
    done: dict[str, Any] | None = None
    done_at: float | None = None
    violations: list[str] = field(default_factory=list)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _cut_at: float | None = None
    _replayed_until: float = 0.0
    _arrived_at: float | None = None
    _stamp: int = 0

    def cut(self) -> None:
        if self.source.cut():
            self.cuts += 1
            self._cut_at = time.monotonic()
            self._arrived_at = None

    def on_message(self, data: bytes) -> None:
        frame = json.loads(data)
        kind = frame["type"]
        if kind == "token":
            self._on_token(frame["token"], frame["offset"])
        elif kind == "snapshot":
            self.text = frame["text"]
            self.snapshots += 1
        elif kind == "error":
            self.error = frame
        elif kind == "done":
            self.done = frame
            self.done_at = time.monotonic()
            self.source.close()

    def _on_token(self, text: str, offset: int) -> None:
        if offset != len(self.text):
            self.violations.append(f"a token at {offset} after {len(self.text)} characters")
        timings = self.timings
        timings.frames += 1
        timings.tokens -= len(self.text) // TOKEN_CHARS
        self.text += text
        timings.tokens += len(self.text) // TOKEN_CHARS
        now = time.monotonic()
        stamps = _STAMP.findall(text)
        if not stamps:
            return  # a part of a token tells no time
        first, last = int(stamps[0]), int(stamps[-1])
        if self._cut_at is not None:
            timings.resumes.append(1000 * (now - self._cut_at))
            self._cut_at = None
            self._replayed_until = now + _REPLAY_S
        elif now < self._replayed_until:
            pass
        elif timings.is_on and self._arrived_at is not None:
            gap = 1000 * (now - self._arrived_at)
            timings.gaps.append(gap)
            timings.excess.append(gap - age_ms(self._stamp, last))
            timings.latencies.append(age_ms(first, stamp_now()))
        self._arrived_at = now
        self._stamp = last


def check_text(text: str, done: dict[str, Any]) -> list[str]:
    """Return what is wrong with a complete answer: its hash, its length, its order."""
    wrong = []
    if hashlib.sha256(text.encode()).hexdigest() != done["answer_sha256"]:
        wrong.append("the text has another hash than `done` says")
    stamps = [int(token) for token in text.split()]
    if done["status"] == "completed" and len(stamps) != done["usage"]["output_tokens"]:
        wrong.append(f"{len(stamps)} tokens of {done['usage']['output_tokens']}")
    # Half the range tells a step back from a wrap around.
    if any(age_ms(before, after) > STAMP_MODULUS // 2 for before, after in pairwise(stamps)):
        wrong.append("tokens are out of order")
    return wrong


class Caller:
    """One kept connection for small JSON calls. Bare HTTP: a client library would be the load."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = address.hostname, address.port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self, person: str, method: str, target: str, body: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        """Return status and JSON. Raises OSError or EOFError; the next call connects again."""
        content = json.dumps(body).encode() if body is not None else b""
        request = (
            f"{method} {target} HTTP/1.1\r\nHost: bench\r\nAuthorization: {person}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(request + content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await _read_body(reader, head)
        except (OSError, EOFError):
            self.close()
            raise
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), json.loads(answer) if answer else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" in head:
        body = ChunkedBody()
        content = b""
        while not body.is_complete:
            block = await reader.read(65_536)
            if not block:
                raise EOFError
            content += body.feed(block)
        return content
    _, _, length = head.partition(b"content-length:")
    return await reader.readexactly(int(length.split(b"\r\n")[0])) if length else b""


@asynccontextmanager
async def open_callers(base_url: str, count: int) -> AsyncIterator[Sequence[Caller]]:
    callers = [Caller(base_url) for _ in range(count)]
    try:
        yield callers
    finally:
        for caller in callers:
            caller.close()


def run_body(model: str, **more: Any) -> dict[str, Any]:
    """The request for a run without retrieval."""
    question = {"role": "user", "content": "What is it?"}
    return {"messages": [question], "use_rag": False, "model": model, **more}


class Refused(Exception):
    """A run was not begun; the message is the status and the code."""


async def start_run(caller: Caller, person: str, body: dict[str, Any]) -> tuple[str, str]:
    """Create a run. Returns its id and the path of its events. Raises Refused, OSError."""
    status, created = await caller.call(person, "POST", RUNS, body)
    if status != 201:
        raise Refused(f"{status} {created['error']['code']}")
    address = urlsplit(created["events_url"])
    return created["run_id"], f"{address.path}?{address.query}"


def read_run(
    run_id: str,
    person: str,
    target: str,
    choose_server: Callable[[], tuple[str, int]],
    timings: Timings,
    *,
    retry_s: float = DEFAULT_RETRY_S,
) -> RunReader:
    """Begin to read a run of `person`. `choose_server` gives host and port for each connection."""

    source = EventSource(lambda: Address(*choose_server(), target), retry_s=retry_s)
    reader = RunReader(run_id, person, source, timings)
    source.on_message = reader.on_message
    source.on_closed = reader.has_ended.set
    source.connect()
    return reader


def describe_ms(values: Sequence[float]) -> str:
    if not values:
        return "none"
    p50, p99 = np.percentile(values, [50, 99])
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {max(values):.0f} ms"
