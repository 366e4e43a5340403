"""A thousand answers at once on one API process, and how many tokens a second it carries.

python -m bench.streams
python -m bench.streams --sweep
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import numpy as np
import uvloop

from bench.event_source import State
from bench.profile_stages import STAGES, stage_of, top_functions
from bench.servers import ApiProcess, Servers, cpu_s, running_apis
from bench.stand_in import StandIn, running_paced
from bench.stream_clients import (
    RUNS,
    Caller,
    Refused,
    RunReader,
    Timings,
    check_text,
    describe_ms,
    open_callers,
    read_run,
    run_body,
    start_run,
)

GAP_P99_MS, RSS_MB, REDIS, POSTGRES, TOKENS_PER_S = 400, 600, 20, 5, 10_000
_CALLERS = 16
_RUNS_PER_S = 40  # while they are started
_START_TIMEOUT_S = 30.0
_SETTLE_S = 3.0
_END_OVER_S = 8.0
_END_TIMEOUT_S = 60.0
_SAMPLE = 50
_SWEEP_RUNS = 200
_SWEEP_RATES = (1000, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000, 14_000, 17_000, 20_000)
_STEP_S = 6.0
_PROFILE_RATE = 4000
_PROFILE_S = 10.0
# Of one step of the sweep.
_MAX_LATENCY_MS = 1000
_MIN_SHARE = 0.98


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=5.0, help="tokens/s of each run")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cut-share", type=float, default=0.05)
    parser.add_argument("--sweep", action="store_true", help="find the highest total rate")
    parser.add_argument("--top", type=int, default=0, help="also show the costliest functions")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    random.seed(options.seed)
    wrong: list[str] = []
    with running_paced() as stand_in, running_product_api(stand_in) as servers:
        if options.sweep:
            wrong += uvloop.run(sweep_product(servers, stand_in, options.top))
        else:
            wrong += uvloop.run(hold(servers, stand_in, options))
    if options.sweep:
        with running_paced("bench.bare_starlette") as bare:
            wrong += uvloop.run(sweep_bare(bare))
    for line in wrong[:20]:
        print(f"  WRONG: {line}")
    sys.exit(1 if wrong else 0)


@contextmanager
def running_product_api(stand_in: StandIn) -> Iterator[Servers]:
    with running_apis(
        1,
        stand_in.url,
        DATABASE_POOL_SIZE="3",
        DEFAULT_MODEL="openai/paced-20x20",
        MODEL_TOTAL_TIMEOUT_S="900",
    ) as servers:
        yield servers


# --- a thousand at once


async def hold(servers: Servers, stand_in: StandIn, options: argparse.Namespace) -> list[str]:
    """Read all runs for some seconds, print what there was, and return what is wrong."""
    (api,) = servers.apis
    timings = Timings()
    started = time.monotonic()
    readers = await start_readers(servers, f"openai/paced-{options.rate:g}", options.runs, timings)
    print(
        f"{len(readers)} runs, begun within {time.monotonic() - started:.0f} s, each within"
        f" {describe_ms(timings.begins)}; refused: {dict(timings.refusals) or 'none'}"
    )
    await asyncio.sleep(_SETTLE_S)
    await asyncio.to_thread(stand_in.stats)
    before, received = _Cpu.read(api.pid, stand_in.pid), timings.tokens
    timings.restart()
    started = time.monotonic()
    schedule_cuts(readers, options.cut_share, options.seconds)
    await asyncio.sleep(options.seconds * 0.7)
    rss, redis, postgres = await asyncio.to_thread(
        lambda: (api.rss_mb(), servers.redis_connections(), servers.postgres_connections())
    )
    await asyncio.sleep(max(0, started + options.seconds - time.monotonic()))
    timings.is_on = False
    seconds = time.monotonic() - started
    spent, received = _Cpu.read(api.pid, stand_in.pid) - before, timings.tokens - received
    stats = await asyncio.to_thread(stand_in.stats)
    wrong = await end_all(servers, stand_in, readers)
    if len(readers) < options.runs:
        wrong.append(f"only {len(readers)} of {options.runs} runs could be begun")
    rss = max(rss, api.rss_mb())
    print(
        f"{seconds:.0f} s at {received / seconds:.0f} tokens/s; the stand-in was"
        f" {stats['worst_lag_ms']:.0f} ms late at worst\n"
        f"  gap between tokens: {describe_ms(timings.gaps)} (goal: p99 < {GAP_P99_MS} ms)\n"
        f"  less the provider's own: {describe_ms(timings.excess)}\n"
        f"  age of a token: {describe_ms(timings.latencies)}\n"
        f"  {sum(reader.cuts for reader in readers)} cuts, from each to the next token:"
        f" {describe_ms(timings.resumes)}\n"
        f"  memory of the API {rss:.0f} MB (goal: {RSS_MB}), Redis connections {redis}"
        f" (goal: {REDIS}), Postgres connections {postgres} (goal: {POSTGRES})\n"
        f"  CPU: API {spent.server / seconds:.0%}, {1e6 * spent.server / max(1, received):.0f} µs"
        f" a token; stand-in {spent.stand_in / seconds:.0%}; readers"
        f" {spent.readers / seconds:.0%}\n"
        f"  {sum(is_whole(reader) for reader in readers)} of {len(readers)} answers are complete"
        " and equal to their hash"
    )
    if complaints := Counter(map(name_complaint, api.complaints())):
        print(f"  the API complained: {dict(complaints.most_common(8))}")
    return wrong


def name_complaint(line: str) -> str:
    """Return the event of a log line, with its error where it names one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line[:80]
    return " ".join(str(entry[name]) for name in ("event", "code", "error") if name in entry)


async def start_readers(
    servers: Servers, model: str, runs: int, timings: Timings
) -> list[RunReader]:
    """Start runs at a steady pace, and a reader for each; fewer, if the server can't keep up."""
    (api,) = servers.apis
    await asyncio.to_thread(servers.sign_up_for, runs)
    readers: list[RunReader] = []
    numbers = count()
    began = time.monotonic()
    async with open_callers(api.url, _CALLERS) as callers:

        async def start_some(number: int) -> None:
            while (turn := next(numbers)) < runs:
                await asyncio.sleep(began + turn / _RUNS_PER_S - time.monotonic())
                person = servers.people[turn % len(servers.people)]
                run_id, target = await _start_at_last(callers[number], person, model, timings)
                readers.append(
                    read_run(run_id, person, target, lambda: ("127.0.0.1", api.port), timings)
                )

        with suppress(TimeoutError):
            async with asyncio.timeout(runs / _RUNS_PER_S + _START_TIMEOUT_S):
                await asyncio.gather(*(start_some(number) for number in range(_CALLERS)))
    return readers


async def _start_at_last(
    caller: Caller, person: str, model: str, timings: Timings
) -> tuple[str, str]:
    """Ask until it is granted: under load a server may refuse for a moment."""
    while True:
        started = time.monotonic()
        try:
            begun = await start_run(caller, person, run_body(model))
        except Refused as error:
            timings.refusals[str(error)] += 1
            await asyncio.sleep(1)
            continue
        timings.begins.append(1000 * (time.monotonic() - started))
        return begun


def schedule_cuts(readers: Sequence[RunReader], share: float, seconds: float) -> None:
    """Cut some of the readers at random moments, every third of them twice."""
    loop = asyncio.get_running_loop()
    for number, reader in enumerate(random.sample(readers, int(share * len(readers)))):
        moment = random.uniform(0, seconds / 2)
        loop.call_later(moment, reader.cut)
        if number % 3 == 0:
            loop.call_later(moment + random.uniform(0, seconds / 2), reader.cut)


async def end_all(servers: Servers, stand_in: StandIn, readers: Sequence[RunReader]) -> list[str]:
    """Let all answers end, and return what is wrong with any of them."""
    await asyncio.to_thread(stand_in.finish, _END_OVER_S)
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_OVER_S + _END_TIMEOUT_S):
            for reader in readers:
                await reader.has_ended.wait()
    wrong = [f"{reader.run_id}: {line}" for reader in readers for line in find_wrong(reader)]
    sample = [reader for reader in readers if reader.cuts][:_SAMPLE]
    sample += random.sample(readers, min(_SAMPLE, len(readers)))
    async with open_callers(servers.apis[0].url, 1) as (caller,):
        for reader in sample:
            status, run = await caller.call(reader.person, "GET", f"{RUNS}/{reader.run_id}")
            if status != 200 or run["status"] != "completed" or run["answer"] != reader.text:
                wrong.append(f"{reader.run_id}: GET says something else ({status})")
    return wrong


def find_wrong(reader: RunReader) -> list[str]:
    if reader.done is None:
        reader.source.close()
        return [f"no end; the last status was {reader.source.status}"]
    if reader.done["status"] != "completed":
        return [f"ended as {reader.done['status']}: {reader.error}"]
    return reader.violations + check_text(reader.text, reader.done)


def is_whole(reader: RunReader) -> bool:
    return not find_wrong(reader)


@dataclass(frozen=True, slots=True)
class _Cpu:
    """CPU seconds: of the server, of the stand-in, and of this process, which reads."""

    server: float
    stand_in: float
    readers: float

    @classmethod
    def read(cls, server_pid: int, stand_in_pid: int) -> "_Cpu":
        return cls(cpu_s(server_pid), cpu_s(stand_in_pid), cpu_s(os.getpid()))

    def __sub__(self, other: "_Cpu") -> "_Cpu":
        return _Cpu(
            self.server - other.server,
            self.stand_in - other.stand_in,
            self.readers - other.readers,
        )


# --- as many tokens as it carries


@dataclass(frozen=True, slots=True)
class Step:
    """One total rate: what came, in which state, at what cost."""

    sent_per_s: float
    received_per_s: float
    frames_per_s: float
    latency_p99_ms: float
    excess_p99_ms: float
    us_per_token: float
    is_sustained: bool

    def __str__(self) -> str:
        return (
            f"  {self.sent_per_s:6.0f} tokens/s sent, {self.received_per_s:6.0f} received in"
            f" {self.frames_per_s:5.0f} frames: age p99 {self.latency_p99_ms:5.0f} ms,"
            f" gap over the provider's p99 {self.excess_p99_ms:5.0f} ms,"
            f" CPU {self.us_per_token:3.0f} µs/token"
            f"{'' if self.is_sustained else '  (too much)'}"
        )


async def sweep_product(servers: Servers, stand_in: StandIn, top: int) -> list[str]:
    """Raise the rate until one process can't carry it; print that and what a token costs."""
    (api,) = servers.apis
    timings = Timings()
    readers = await start_readers(servers, "openai/paced-5", _SWEEP_RUNS, timings)
    print(f"{len(readers)} runs on one API process")
    best = await sweep(stand_in, api.pid, timings)
    print(f"  highest: {best:.0f} tokens/s (goal: {TOKENS_PER_S})")
    rate = min(best or _SWEEP_RATES[0], _PROFILE_RATE)
    await asyncio.to_thread(stand_in.set_rate, rate / _SWEEP_RUNS)
    await asyncio.sleep(_SETTLE_S)
    await profile(api, timings, top)
    return await end_all(servers, stand_in, readers)


async def profile(api: ApiProcess, timings: Timings, top: int) -> None:
    """Print what a token costs by stage, from samples of the stack by CPU time."""
    spent, received = api.cpu_s(), timings.tokens
    api.start_profile()
    await asyncio.sleep(_PROFILE_S)
    spent, received = api.cpu_s() - spent, timings.tokens - received
    stacks = await asyncio.to_thread(api.stop_profile)
    us = 1e6 * spent / max(1, received)
    total = sum(stacks.values())
    print(f"CPU of a token at {received / _PROFILE_S:.0f} tokens/s: {us:.0f} µs, of which")
    for stage in STAGES:
        samples = sum(number for stack, number in stacks.items() if stage_of(stack) == stage)
        print(f"  {stage:<28} {us * samples / max(1, total):5.1f} µs")
    for name, samples in top_functions(stacks, top):
        print(f"    {us * samples / total:5.1f} µs in {name}")


async def sweep_bare(bare: StandIn) -> list[str]:
    timings = Timings()
    readers = [
        read_run("", "", "/events", lambda: ("127.0.0.1", bare.port), timings)
        for _ in range(_SWEEP_RUNS)
    ]
    print(f"{len(readers)} streams of the same frames from bare Starlette")
    while any(reader.source.state is not State.OPEN for reader in readers):
        await asyncio.sleep(0.1)
    best = await sweep(bare, bare.pid, timings)
    print(f"  highest: {best:.0f} tokens/s")
    await asyncio.to_thread(bare.finish, 1.0)
    for reader in readers:
        await reader.has_ended.wait()
    return [f"bare: {line}" for reader in readers for line in find_wrong(reader)]


async def sweep(source: StandIn, server_pid: int, timings: Timings) -> float:
    """Print each step. Returns the highest rate that was sustained, in tokens/s."""
    best = 0.0
    for rate in _SWEEP_RATES:
        await asyncio.to_thread(source.set_rate, rate / _SWEEP_RUNS)
        await asyncio.sleep(_SETTLE_S)
        step = await measure_step(source, server_pid, timings, rate)
        print(step)
        if not step.is_sustained:
            break
        best = step.received_per_s
    return best


async def measure_step(source: StandIn, server_pid: int, timings: Timings, rate: float) -> Step:
    before = await asyncio.to_thread(source.stats)
    received, frames, spent = timings.tokens, timings.frames, cpu_s(server_pid)
    timings.restart()
    began = time.monotonic()
    await asyncio.sleep(_STEP_S)
    timings.is_on = False
    seconds = time.monotonic() - began
    received, frames = timings.tokens - received, timings.frames - frames
    spent = cpu_s(server_pid) - spent
    after = await asyncio.to_thread(source.stats)
    sent_per_s = (after["tokens"] - before["tokens"]) / (after["at"] - before["at"])
    latency, excess = (
        float(np.percentile(values, 99)) if values else float("inf")
        for values in (timings.latencies, timings.excess)
    )
    return Step(
        sent_per_s=sent_per_s,
        received_per_s=received / seconds,
        frames_per_s=frames / seconds,
        latency_p99_ms=latency,
        excess_p99_ms=excess,
        us_per_token=1e6 * spent / max(1, received),
        # Less sent than asked for is the stand-in's fault, or bare Starlette's.
        is_sustained=latency < _MAX_LATENCY_MS
        and received / seconds > _MIN_SHARE * sent_per_s
        and sent_per_s > _MIN_SHARE * rate,
    )


if __name__ == "__main__":
    main()
