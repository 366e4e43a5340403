"""What the writer of runs does to a real Redis that is slow, wiped, full or away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.chat.events import Done, Start, Token
from app.chat.run_frames import rebuild
from app.chat.run_log import RunLog
from app.chat.run_store import RunStore, read_lines, stream_key
from app.core.redis import open_redis
from app.llm.base import Usage
from app.models.conversations import RunStatus

START = Start(uuid4(), uuid4(), uuid4(), "openai/gpt-4.1-mini", ())
DONE = Done(RunStatus.COMPLETED, "stop", Usage(3, 4), "gpt", None, "00", False, 0)


@pytest.fixture
async def hasty(redis_url: str) -> AsyncIterator[Redis]:
    """A client that waits for 0.1 s."""
    redis = open_redis(redis_url, timeout_s=0.1)
    yield redis
    await redis.aclose(close_connection_pool=True)


@asynccontextmanager
async def writing(redis: Redis) -> AsyncIterator[RunStore]:
    store = RunStore(redis)
    task = asyncio.create_task(store.run())
    yield store
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def open_log(store: RunStore) -> tuple[UUID, RunLog]:
    run_id, log = uuid4(), RunLog(store)
    store.add(run_id, log)
    log.add(START)
    return run_id, log


def say(log: RunLog, *words: str) -> None:
    for word in words:
        log.add(Token(word, len(log.text)))
        log.flush()


async def until_written(redis: Redis, run_id: UUID, log: RunLog) -> list[tuple[int, bytes]]:
    async with asyncio.timeout(10):
        while True:
            lines = await read_lines(redis, run_id)
            if lines and lines[-1][0] == log.last_id:
                return lines
            await asyncio.sleep(0.02)


async def test_frames_have_their_ids_and_lines(redis: Redis) -> None:
    async with writing(redis) as store:
        logs = [open_log(store) for _ in range(20)]
        for _, log in logs:
            say(log, "one ", "two\n\n", "thr\u2028ee")
        for run_id, log in logs:
            lines = await until_written(redis, run_id, log)
            assert lines == list(enumerate(log.lines_after(0, limit=99), start=1))
            assert 800 < await redis.ttl(stream_key(run_id)) <= 900
            log.finish(None, DONE)
        for run_id, log in logs:
            await until_written(redis, run_id, log)
            assert 0 < await redis.ttl(stream_key(run_id)) <= 60
        async with asyncio.timeout(10):
            while store._copies:
                await asyncio.sleep(0.02)


async def test_what_arrived_without_an_answer_is_there_once(redis: Redis, hasty: Redis) -> None:
    """A server that stands still reads what was sent before it sees that nobody waits."""
    async with writing(hasty) as store:
        run_id, log = open_log(store)
        await until_written(redis, run_id, log)
        sleeping = asyncio.create_task(_sleep(redis, 0.4))
        await asyncio.sleep(0.05)
        say(log, *(f"word{n} " for n in range(30)))
        await sleeping
        say(log, "and ", "more")
        log.finish(None, DONE)
        lines = await until_written(redis, run_id, log)
    assert [number for number, _ in lines] == list(range(1, log.last_id + 1))
    assert rebuild(lines).text == log.text


async def _sleep(redis: Redis, seconds: float) -> None:
    with suppress(Exception):  # its client does not wait for so long either
        await redis.execute_command("DEBUG", "SLEEP", seconds)  # type: ignore[no-untyped-call]
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_wiped_stream_begins_again_with_a_snapshot(redis: Redis, is_silent: bool) -> None:
    async with writing(redis) as store:
        run_id, log = open_log(store)
        say(log, "one ", "two ")
        before = await until_written(redis, run_id, log)
        await redis.delete(stream_key(run_id))
        if not is_silent:
            say(log, "three ")
        async with asyncio.timeout(10):
            while len(lines := await read_lines(redis, run_id)) == 0:
                await asyncio.sleep(0.02)
        assert lines[0][1].startswith(b'{"type":"snapshot"')
        assert lines[0][0] > before[-1][0]
        say(log, "four")
        lines = await until_written(redis, run_id, log)
        heard = rebuild(lines)
        assert (heard.start, heard.text) == (START, log.text)
        assert 800 < await redis.ttl(stream_key(run_id)) <= 900


async def test_a_stream_that_lost_its_end_begins_again(redis: Redis) -> None:
    """As after a crash: Redis is back, with what it had saved some seconds ago."""
    async with writing(redis) as store:
        run_id, log = open_log(store)
        say(log, "one ", "two ", "three ")
        lines = await until_written(redis, run_id, log)
        await redis.xdel(stream_key(run_id), *(f"{number}-0" for number, _ in lines[2:]))
        say(log, "four")
        lines = await until_written(redis, run_id, log)
    assert [line[:16] for _, line in lines].count(b'{"type":"snapsho') == 1
    assert rebuild(lines).text == log.text


async def test_a_full_redis_is_left_alone(redis: Redis) -> None:
    async with writing(redis) as store:
        _, log = open_log(store)
        try:
            await redis.config_set("maxmemory", "1")
            say(log, "one ", "two ")
            async with asyncio.timeout(10):
                while log in store._copies:
                    await asyncio.sleep(0.02)
        finally:
            await redis.config_set("maxmemory", "0")
        run_id, other = open_log(store)
        say(other, "one")
        assert rebuild(await until_written(redis, run_id, other)).text == "one"


async def test_ended_runs_are_not_kept_for_a_redis_that_stays_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.chat.run_store._KEPT_FOR_S", 1.0)
    nowhere = open_redis("redis://127.0.0.1:9/0")
    async with writing(nowhere) as store:
        (_, ended), (_, going_on) = open_log(store), open_log(store)
        ended.finish(None, DONE)
        async with asyncio.timeout(10):
            while ended in store._copies:
                await asyncio.sleep(0.02)
        assert going_on in store._copies
    await nowhere.aclose(close_connection_pool=True)


async def test_what_is_left_at_the_end_is_written(redis: Redis) -> None:
    store = RunStore(redis)
    run_id, log = open_log(store)
    say(log, *("word " for _ in range(2000)))
    log.finish(None, DONE)
    await store.finish()
    assert rebuild(await read_lines(redis, run_id)).text == log.text


async def test_an_ended_run_is_not_told_again(redis: Redis) -> None:
    """Its end is in Postgres."""
    async with writing(redis) as store:
        run_id, log = open_log(store)
        say(log, "one ", "two ")
        await until_written(redis, run_id, log)
        log.freeze()
        await redis.delete(stream_key(run_id))
        async with asyncio.timeout(10):
            while log in store._copies:
                await asyncio.sleep(0.02)
        last = log.last_id
        log.finish(None, DONE)
        assert log.last_id == last + 1
        assert await read_lines(redis, run_id) == []
