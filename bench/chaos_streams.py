"""Streams of two API processes that are cut, killed and robbed of Redis; see `bench.chaos`."""

import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import uvloop

from bench.servers import ApiProcess, Servers, running_apis
from bench.stand_in import running_paced
from bench.stream_clients import (
    RUNS,
    Caller,
    Refused,
    RunReader,
    Timings,
    check_text,
    describe_ms,
    read_run,
    run_body,
    start_run,
)

RUN_COUNT = 240
CUTS = 500
FLUSHES = 3
KILLS = 3
INTERRUPTED_GOAL_S = 20
_MODEL = "openai/paced-4x60"  # 15 s
_STARTED_OVER_S = 55.0
_DISTURBED_S = 56.0
_FIRST_KILL_S = 8.0
# With the seconds that a start takes: no process dies before all that the last one left is closed.
_NEXT_KILL_S = 18.0
_RETRY_S = 1.0
_END_TIMEOUT_S = 60.0
_INTERRUPTED = "stream_interrupted"


@dataclass
class _Scene:
    """What there is, and what was done to it. `killed_at`: moments by port."""

    servers: Servers
    timings: Timings = field(default_factory=Timings)
    readers: list[RunReader] = field(default_factory=list)
    maker: dict[str, int] = field(default_factory=dict)  # run -> port of the process
    begun_at: dict[str, float] = field(default_factory=dict)
    killed_at: dict[int, list[float]] = field(default_factory=dict)
    refused: int = 0
    flushes: int = 0

    def choose_port(self) -> int:
        return random.choice(self.servers.apis).port

    def death_of_maker(self, reader: RunReader) -> float | None:
        """When the process that made this run's answer was killed, if it was in that time."""
        begun, ended = self.begun_at[reader.run_id], reader.done_at or float("inf")
        moments = self.killed_at.get(self.maker[reader.run_id], [])
        return next((moment for moment in moments if begun < moment < ended), None)


def measure_streams(seed: int) -> None:
    """Disturb, print how every reader ended, and exit with 1 if one ended wrongly."""
    random.seed(seed)
    with (
        running_paced() as stand_in,
        running_apis(2, stand_in.url, DEFAULT_MODEL=_MODEL) as servers,
    ):
        servers.sign_up_for(RUN_COUNT)
        scene = _Scene(servers)
        wrong = uvloop.run(_disturb_all(scene))
    outcomes = Counter(str(reader.done and reader.done["status"]) for reader in scene.readers)
    print(
        f"{len(scene.readers)} runs, {sum(reader.cuts for reader in scene.readers)} cuts,"
        f" {sum(map(len, scene.killed_at.values()))} kills, {scene.flushes} FLUSHALL;"
        f" {sum(reader.source.connections for reader in scene.readers)} connections,"
        f" {sum(reader.snapshots for reader in scene.readers)} snapshots;"
        f" {scene.refused} questions were asked again, as their process was dead; seed {seed}"
    )
    for outcome, number in outcomes.most_common():
        print(f"  {number:4} {outcome}")
    print(f"  from a cut to the next token: {describe_ms(scene.timings.resumes)}")
    if late := _interrupted_after(scene):
        print(
            f"  from a kill to the end of its streams: median {statistics.median(late):.1f} s,"
            f" at most {max(late):.1f} s (goal: {INTERRUPTED_GOAL_S} s)"
        )
    print(f"  {len(wrong)} readers ended with something else than GET /runs/{{id}}, or wrongly")
    for line in wrong[:20]:
        print(f"    {line}")
    if wrong:
        sys.exit(1)


async def _disturb_all(scene: _Scene) -> list[str]:
    async with asyncio.TaskGroup() as group:
        group.create_task(_start_all(scene))
        group.create_task(_cut(scene))
        group.create_task(_flush(scene))
        group.create_task(_kill(scene))
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_TIMEOUT_S):
            for reader in scene.readers:
                await reader.has_ended.wait()
    return await _find_wrong(scene)


async def _start_all(scene: _Scene) -> None:
    began = time.monotonic()

    async def start(number: int) -> None:
        await asyncio.sleep(began + number * _STARTED_OVER_S / RUN_COUNT - time.monotonic())
        person = scene.servers.people[number % len(scene.servers.people)]
        while True:
            port = scene.choose_port()
            caller = Caller(f"http://127.0.0.1:{port}")
            try:
                begun = time.monotonic()
                run_id, target = await start_run(caller, person, run_body(_MODEL, detached=True))
                break
            except (OSError, EOFError, Refused):
                scene.refused += 1
                await asyncio.sleep(0.2)
            finally:
                caller.close()
        scene.maker[run_id] = port
        scene.begun_at[run_id] = begun
        scene.readers.append(
            read_run(
                run_id,
                person,
                target,
                lambda: ("127.0.0.1", scene.choose_port()),
                scene.timings,
                retry_s=_RETRY_S,
            )
        )

    await asyncio.gather(*(start(number) for number in range(RUN_COUNT)))


async def _cut(scene: _Scene) -> None:
    cuts = 0
    while cuts < CUTS:
        await asyncio.sleep(random.expovariate(CUTS / (0.8 * _DISTURBED_S)))
        reading = [reader for reader in scene.readers if not reader.has_ended.is_set()]
        if reading:
            reader = random.choice(reading)
            before = reader.cuts
            reader.cut()
            cuts += reader.cuts - before
        elif len(scene.readers) == RUN_COUNT:
            return


async def _flush(scene: _Scene) -> None:
    for _ in range(FLUSHES):
        await asyncio.sleep(random.uniform(0.5, 1.5) * _DISTURBED_S / (FLUSHES + 1))
        await asyncio.to_thread(scene.servers.flush_redis)
        scene.flushes += 1


async def _kill(scene: _Scene) -> None:
    """Kill one process after the other; never the last one that is ready."""
    for number in range(KILLS):
        await asyncio.sleep(_NEXT_KILL_S if number else _FIRST_KILL_S)
        api = scene.servers.apis[number % len(scene.servers.apis)]
        scene.killed_at.setdefault(api.port, []).append(time.monotonic())
        await asyncio.to_thread(_restart, api)


def _restart(api: ApiProcess) -> None:
    api.kill()
    api.start()
    api.wait_until_ready()


async def _find_wrong(scene: _Scene) -> list[str]:
    wrong = []
    caller = Caller(scene.servers.apis[0].url)
    for reader in scene.readers:
        status, run = await caller.call(reader.person, "GET", f"{RUNS}/{reader.run_id}")
        problems = list(reader.violations) + _judge(scene, reader)
        if status != 200:
            problems.append(f"GET says {status}")
        elif reader.done and run["status"] != reader.done["status"]:
            problems.append(f"GET says {run['status']}, the stream {reader.done['status']}")
        elif run["answer"] != reader.text:
            problems.append(
                f"GET has {len(run['answer'])} characters, the reader {len(reader.text)}"
            )
        wrong += [f"{reader.run_id}: {problem}" for problem in problems]
    caller.close()
    return wrong


def _judge(scene: _Scene, reader: RunReader) -> list[str]:
    if reader.done is None:
        reader.source.close()
        return [f"no end; the last status was {reader.source.status}"]
    if reader.done["status"] == "completed":
        return check_text(reader.text, reader.done)
    code = reader.error and reader.error["code"]
    if code != _INTERRUPTED or scene.death_of_maker(reader) is None:
        return [f"{reader.done['status']} with {code}, though its process lived"]
    return check_text(reader.text, reader.done)


def _interrupted_after(scene: _Scene) -> list[float]:
    """Seconds from the death of a process to the end of each of its streams."""
    return [
        reader.done_at - moment
        for reader in scene.readers
        if reader.done_at is not None
        and reader.done is not None
        and reader.done["status"] == "failed"
        and (moment := scene.death_of_maker(reader)) is not None
    ]
