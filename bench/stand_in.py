"""A lean provider for load: OpenAI's streaming format for thousands of streams at once.

python -m bench.stand_in --port 9100

The model's name says how an answer comes: `paced-20` is 20 tokens/s until `POST /_finish`,
`paced-20x400` ends after 400 tokens, and `paced-20x400-after50` gives its first one after 50 ms. A
token is the moment when it was sent, in ms of the machine's monotonic clock: a reader sees how old
it is, that none came twice, and that they are in order. `POST /_rate {"rate": 30}` changes the pace
of all that is open, `POST /_finish {"over_s": 5}` ends it, `GET /_stats` tells what there was.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
import uvloop

from app.core.process import die_with_parent
from bench.product import free_port

STAMP_MODULUS = 10_000_000
TOKEN_CHARS = 8  # seven digits and a space
_TICK_S = 0.005
_MODEL = re.compile(r"paced-(?P<rate>[\d.]+)(?:x(?P<count>\d+))?(?:-after(?P<after_ms>\d+))?")
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = (
    b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"paced",'
    b'"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}'
)
_USAGE = (
    b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"paced","choices":[],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}'
)


def stamp_now() -> int:
    """Milliseconds of the monotonic clock, which all processes of a machine share."""
    return int(time.monotonic() * 1000) % STAMP_MODULUS


def age_ms(stamp: int, now: int) -> int:
    """How old a token is; the clock's number wraps around."""
    return (now - stamp) % STAMP_MODULUS


@dataclass(frozen=True, slots=True)
class Pace:
    """How one answer comes. Without a count it goes on until it is told to end."""

    rate: float
    count: int | None
    after_s: float | None


def parse_pace(model: str) -> Pace:
    """Raises ValueError for a model of another name."""
    found = _MODEL.fullmatch(model)
    if not found:
        raise ValueError(f"{model!r} is not paced-RATE[xCOUNT][-afterMS]")
    count, after_ms = found["count"], found["after_ms"]
    return Pace(
        float(found["rate"]),
        int(count) if count else None,
        int(after_ms) / 1000 if after_ms else None,
    )


@dataclass
class Pacer:
    """All open streams, in the slots of the tick in which their next token is due."""

    open: set["Connection"] = field(default_factory=set)
    started: int = 0
    completed: int = 0
    aborted: int = 0
    tokens: int = 0
    worst_lag_s: float = 0.0
    _slots: dict[int, list["Connection"]] = field(default_factory=dict)
    _slot: int = 0

    def schedule(self, connection: "Connection") -> None:
        slot = max(int(connection.due / _TICK_S) + 1, self._slot + 1)
        self._slots.setdefault(slot, []).append(connection)

    async def run(self) -> None:
        self._slot = int(time.monotonic() / _TICK_S)
        while True:
            now = time.monotonic()
            slot = int(now / _TICK_S)
            chunk = token_chunk()
            while self._slot < slot:
                self._slot += 1
                for connection in self._slots.pop(self._slot, ()):
                    if connection.pace is not None:
                        self.worst_lag_s = max(self.worst_lag_s, now - connection.due)
                        connection.emit(chunk)
            await asyncio.sleep(max(0.0, (self._slot + 1) * _TICK_S - time.monotonic()))

    def set_rate(self, rate: float) -> None:
        for connection in self.open:
            connection.interval_s = 1 / rate

    def finish(self, over_s: float) -> None:
        """End every open stream at a moment of its own within `over_s`."""
        now = time.monotonic()
        for connection in self.open:
            connection.finish_at = now + random.uniform(0, over_s)

    def stats(self) -> dict[str, float]:
        stats = {
            "open": len(self.open),
            "started": self.started,
            "completed": self.completed,
            "aborted": self.aborted,
            "tokens": self.tokens,
            "worst_lag_ms": 1000 * self.worst_lag_s,
            "at": time.monotonic(),
        }
        self.worst_lag_s = 0.0
        return stats


class Connection(asyncio.Protocol):
    """One client's connection, which serves one call after the other."""

    def __init__(self, pacer: Pacer) -> None:
        self.pace: Pace | None = None  # while it streams
        self.due = 0.0
        self.interval_s = 0.0
        self.finish_at = float("inf")
        self._pacer = pacer
        self._sent = 0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by type.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        length = int(found[1]) if found else 0
        if end and len(body) >= length:
            self._buffer = body[length:]
            _, path, _ = head.split(b" ", 2)
            self._answer(path.decode(), json.loads(body[:length]) if length else {})

    def connection_lost(self, exc: Exception | None) -> None:
        if self.pace is not None:
            self._pacer.aborted += 1
            self._end()

    def emit(self, chunk: bytes) -> None:
        """Send one token, and come again when the next one is due, or end."""
        assert self.pace is not None
        self._sent += 1
        self._pacer.tokens += 1
        self._write(chunk)
        if self._sent == self.pace.count or time.monotonic() >= self.finish_at:
            self._write(
                _event(_CHUNK % (b"{}", b'"stop"'))
                + _event(_USAGE % (self._sent, self._sent + 10))
                + _event(b"[DONE]")
                + b"0\r\n\r\n"
            )
            self._pacer.completed += 1
            self._end()
        else:
            self.due += self.interval_s
            self._pacer.schedule(self)

    def _end(self) -> None:
        self.pace = None
        self._pacer.open.discard(self)

    def _answer(self, path: str, body: dict[str, Any]) -> None:
        if path == "/v1/chat/completions":
            self._begin(parse_pace(body["model"]))
            return
        reply: dict[str, Any] = {}
        if path == "/_rate":
            self._pacer.set_rate(body["rate"])
        elif path == "/_finish":
            self._pacer.finish(body["over_s"])
        elif path == "/_stats":
            reply = self._pacer.stats()
        elif path == "/v1/models":
            reply = {"data": [{"id": "paced-20x20", "object": "model"}]}
        content = json.dumps(reply).encode()
        self._write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(content), content)
        )

    def _begin(self, pace: Pace) -> None:
        self.pace = pace
        self.interval_s = 1 / pace.rate
        self.finish_at = float("inf")
        self._sent = 0
        self._pacer.open.add(self)
        self._pacer.started += 1
        self._write(_HEAD + _event(_CHUNK % (b'{"role":"assistant","content":""}', b"null")))
        if pace.after_s is not None:
            # A tick is too coarse for what is measured to the millisecond.
            self.due = time.monotonic() + pace.after_s
            asyncio.get_running_loop().call_later(pace.after_s, self._emit_first)
            return
        # Else streams that began together would all come at the same moments.
        self.due = time.monotonic() + random.uniform(0, self.interval_s)
        self._pacer.schedule(self)

    def _emit_first(self) -> None:
        if self.pace is not None:
            self.emit(token_chunk())

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def token_chunk() -> bytes:
    return _event(_CHUNK % (b'{"content":"%07d "}' % stamp_now(), b"null"))


def _event(data: bytes) -> bytes:
    """A server-sent event as one chunk of an HTTP body."""
    return b"%x\r\ndata: %s\n\n\r\n" % (len(data) + 8, data)


@dataclass(frozen=True, slots=True)
class StandIn:
    """The running stand-in, as a benchmark sees it. `url` is its OpenAI base URL."""

    pid: int
    port: int
    client: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def set_rate(self, rate: float) -> None:
        self._post("/_rate", {"rate": rate})

    def finish(self, over_s: float) -> None:
        self._post("/_finish", {"over_s": over_s})

    def stats(self) -> dict[str, float]:
        """See Pacer.stats. `worst_lag_ms` is that since the last call."""
        return self._post("/_stats", {})

    def _post(self, path: str, body: dict[str, float]) -> dict[str, float]:
        stats: dict[str, float] = self.client.post(path, json=body).raise_for_status().json()
        return stats


@contextmanager
def running_paced(module: str = "bench.stand_in") -> Iterator[StandIn]:
    """Start a module that is paced in this way in a process of its own, and stop it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--port", str(port)],
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            stand_in = StandIn(process.pid, port, client)
            while process.poll() is None:
                with suppress(httpx2.TransportError):
                    stand_in.stats()
                    break
                time.sleep(0.05)
            yield stand_in
    finally:
        process.terminate()
        process.wait(timeout=10)


async def _serve(port: int) -> None:
    pacer = Pacer()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(pacer), "127.0.0.1", port, backlog=1024)
    async with server:
        await pacer.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(options.port))


if __name__ == "__main__":
    main()
