"""Whether anything is left behind by clients that go away at random points.

python -m bench.disconnects
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.event_source import reset
from bench.servers import Servers, running_apis
from bench.stand_in import StandIn, running_paced
from bench.stream_clients import RUNS, Caller, run_body, start_run

_MODEL = "openai/paced-20x600"  # 30 s, longer than any client stays
_AT_ONCE = 60
_WARM_UP = 150
_STAY_S = 3.0
_SETTLE_TIMEOUT_S = 45.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What the API holds. `tasks` by the name of their coroutine."""

    postgres: int
    redis: int
    open_files: int
    upstream: int
    tasks: Counter[str]
    memory_mb: float

    @classmethod
    def take(cls, servers: Servers, stand_in: StandIn) -> "Counts":
        (api,) = servers.apis
        return cls(
            postgres=servers.postgres_connections(),
            redis=servers.redis_connections(),
            open_files=api.open_files(),
            upstream=int(stand_in.stats()["open"]),
            tasks=Counter(api.tasks()),
            memory_mb=api.rss_mb(),
        )

    @property
    def held(self) -> dict[str, int]:
        return {
            "Postgres connections": self.postgres,
            "Redis connections": self.redis,
            # Pools may grow for a peak, and are counted above.
            "other open files and sockets": self.open_files - self.postgres - self.redis,
            "tasks": self.tasks.total(),
            "upstream streams": self.upstream,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    random.seed(options.seed)
    with (
        running_paced() as stand_in,
        running_apis(
            1,
            stand_in.url,
            DATABASE_POOL_SIZE="3",
            RUN_UNREAD_S="2",
            DEFAULT_MODEL=_MODEL,
        ) as servers,
    ):
        servers.sign_up_for(2 * _AT_ONCE)
        is_clean = measure(servers, stand_in, options.clients)
    sys.exit(0 if is_clean else 1)


def measure(servers: Servers, stand_in: StandIn, clients: int) -> bool:
    """Print the counts before and after. Returns whether nothing was left behind."""
    uvloop.run(send_clients(servers, _WARM_UP))
    before, _ = settle(servers, stand_in, None)
    upstream = stand_in.stats()["started"]
    began = time.monotonic()
    outcomes = uvloop.run(send_clients(servers, clients))
    seconds = time.monotonic() - began
    after, settled_s = settle(servers, stand_in, before)
    print(f"{clients} clients that went away within {seconds:.0f} s:")
    for outcome, number in outcomes.most_common():
        print(f"  {number:4} {outcome}")
    print(
        f"  {stand_in.stats()['started'] - upstream:.0f} upstream streams were opened;"
        f" all was as below {settled_s:.0f} s later\n"
        f"  {'':<30} before  after"
    )
    is_clean = True
    for name, number in after.held.items():
        is_more = number > before.held[name]
        is_clean = is_clean and not is_more
        print(f"  {name:<30} {before.held[name]:6} {number:6}{'  LEAKED' if is_more else ''}")
    print(f"  {'memory, MB':<30} {before.memory_mb:6.0f} {after.memory_mb:6.0f}")
    for name, number in (after.tasks - before.tasks).items():
        print(f"    {number} more of the task {name}")
    return is_clean


def settle(servers: Servers, stand_in: StandIn, goal: Counts | None) -> tuple[Counts, float]:
    """Wait until nothing is above `goal` (without one: until counts stand still for 8 s).

    Returns the counts and the seconds that it took, at most 45.
    """
    began = changed = time.monotonic()
    last = Counts.take(servers, stand_in)
    while time.monotonic() < began + _SETTLE_TIMEOUT_S:
        if goal and all(number <= goal.held[name] for name, number in last.held.items()):
            break
        if goal is None and time.monotonic() > changed + 8 and not last.upstream:
            break
        time.sleep(0.5)
        counts = Counts.take(servers, stand_in)
        if counts.held != last.held:
            changed = time.monotonic()
        last = counts
    return last, time.monotonic() - began


async def send_clients(servers: Servers, clients: int) -> Counter[str]:
    """Let clients come and go, some at once. Returns how each of them left."""
    outcomes: Counter[str] = Counter()
    room = asyncio.Semaphore(_AT_ONCE)

    async def send(number: int) -> None:
        async with room:
            visit = visit_stream if number % 2 else visit_run
            outcomes[await visit(servers)] += 1

    await asyncio.gather(*(send(number) for number in range(clients)))
    return outcomes


async def visit_stream(servers: Servers) -> str:
    """Ask for a stream, and go before, in, or behind its first bytes."""
    body = json.dumps(run_body(_MODEL)).encode()
    request = _head("POST", "/api/v1/chat/stream", servers, len(body)) + body
    return f"/chat/stream, {await _visit(servers.apis[0].port, request)}"


async def visit_run(servers: Servers) -> str:
    """Create a run and read its events for a while."""
    caller = Caller(servers.apis[0].url)
    if random.random() < 0.1:
        body = json.dumps(run_body(_MODEL)).encode()
        request = _head("POST", RUNS, servers, len(body)) + body
        return f"creating a run, {await _visit(servers.apis[0].port, request, stay_s=0.05)}"
    _, target = await start_run(caller, random.choice(servers.people), run_body(_MODEL))
    caller.close()
    request = _head("GET", target, servers, 0, is_signed=False)
    return f"events of a run, {await _visit(servers.apis[0].port, request)}"


async def _visit(port: int, request: bytes, *, stay_s: float = _STAY_S) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    received = 0
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(random.uniform(0, stay_s)):
            while block := await reader.read(4096):
                received += len(block)
    if random.random() < 0.5:
        reset(cast(asyncio.Transport, writer.transport))
    else:
        writer.close()
    return "while it came" if received else "before the first byte"


def _head(
    method: str, target: str, servers: Servers, length: int, *, is_signed: bool = True
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: bench"]
    if is_signed:
        lines.append(f"Authorization: {random.choice(servers.people)}")
    if length:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


if __name__ == "__main__":
    main()
