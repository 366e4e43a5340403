"""What the gateway adds to a completion without documents, and how many it does in a second.

python -m bench.gateway
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import numpy as np
import uvloop

from app.core.process import die_with_parent
from bench.product import free_port
from bench.servers import cpu_s, running_apis
from bench.stand_in import running_paced

GOAL_ADDED_MS, GOAL_PER_S, GOAL_MB = 6, 300, 120
CALLERS = 16
# One token, at once: what is left is the way there and back.
MODEL = "paced-50x1-after0"
_WARM_UP_ROUNDS = 20
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with (
        running_paced() as stand_in,
        running_passthrough(stand_in.url) as bare,
        running_apis(1, stand_in.url, EMBEDDING_MODEL="openai/text-embedding-3-small") as servers,
    ):
        api = servers.apis[0]
        servers.sign_up(1)
        print(f"one process, {api.rss_mb():.0f} MB at rest (goal: {GOAL_MB})")
        port = urlsplit(api.url).port
        assert port is not None
        ways = {
            "provider": Way(stand_in.port, stream=True),
            "pass-through": Way(bare.port, stream=True, pid=bare.pid),
            "gateway, stream": Way(port, True, servers.people[0], api.pid),
            "gateway, JSON": Way(port, False, servers.people[0], api.pid),
        }
        uvloop.run(compare(ways, options.rounds, options.seconds))
        print(f"{api.rss_mb():.0f} MB after that")


@contextmanager
def running_passthrough(upstream: str) -> Iterator["Passthrough"]:
    """Start the bare one in a process of its own."""
    port = free_port()
    command = ["-m", "bench.bare_passthrough", "--port", str(port), "--upstream", upstream]
    process = subprocess.Popen(
        [sys.executable, *command],
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    try:
        while process.poll() is None:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/")
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        yield Passthrough(port, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=10)


@dataclass(frozen=True, slots=True)
class Passthrough:
    port: int
    pid: int


@dataclass
class Way:
    """A server that completes, and one connection to it. Bare HTTP: a library would be half."""

    port: int
    stream: bool
    authorization: str = "Bearer nobody"
    pid: int = 0
    elapsed_ms: list[float] = field(default_factory=list)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def complete(self) -> float:
        """Ask, read all of the answer, and return the milliseconds that it took."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        body = json.dumps(
            {
                "model": "openai/" + MODEL if self.authorization != "Bearer nobody" else MODEL,
                "messages": [{"role": "user", "content": "Say a number."}],
                "stream": self.stream,
            }
        ).encode()
        started = time.perf_counter()
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: {self.authorization}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = _LENGTH.search(head)
        if length:
            await reader.readexactly(int(length[1]))
        else:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readexactly(2)
        return 1000 * (time.perf_counter() - started)

    def again(self) -> "Way":
        """Another connection."""
        return Way(self.port, self.stream, self.authorization)


async def compare(ways: dict[str, Way], rounds: int, seconds: float) -> None:
    for turn in range(-_WARM_UP_ROUNDS, rounds):
        # No way always comes behind the same other one.
        for name in random.sample(sorted(ways), len(ways)):
            elapsed = await ways[name].complete()
            if turn >= 0:
                ways[name].elapsed_ms.append(elapsed)
    bare = np.array(ways["pass-through"].elapsed_ms)
    for name, way in ways.items():
        p50, p95 = np.percentile(way.elapsed_ms, [50, 95])
        line = f"  {name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms"
        if name.startswith("gateway"):
            more50 = p50 - np.percentile(bare, 50)
            more95 = p95 - np.percentile(bare, 95)
            line += f"; added {more50:.1f} and {more95:.1f} ms (goal: {GOAL_ADDED_MS} at p50)"
        print(line)
    for name in ("pass-through", "gateway, stream", "gateway, JSON"):
        per_s, cpu_ms = await _measure_rate(ways[name], seconds)
        goal = f" (goal: {GOAL_PER_S})" if name.startswith("gateway") else ""
        print(
            f"  {name}, {CALLERS} callers: {per_s:.0f} requests/s{goal},"
            f" {cpu_ms:.2f} ms of its process's CPU each"
        )


async def _measure_rate(way: Way, seconds: float) -> tuple[float, float]:
    """Return requests in a second, and ms of CPU for each: on a busy machine that says more."""
    before_s = cpu_s(way.pid)
    deadline = time.perf_counter() + seconds

    async def ask() -> int:
        mine, count = way.again(), 0
        while time.perf_counter() < deadline:
            await mine.complete()
            count += 1
        return count

    count = sum(await asyncio.gather(*(ask() for _ in range(CALLERS))))
    return count / seconds, 1000 * (cpu_s(way.pid) - before_s) / count


if __name__ == "__main__":
    main()
