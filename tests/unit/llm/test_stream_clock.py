"""The deadlines of a streamed answer: what moves them, and whose time they count."""

import asyncio
import weakref
from typing import Any

import pytest

from app.llm.base import Timeouts
from app.llm.wire import StreamClock

NEVER = 1000.0
SOON = 0.05


def forever() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


async def test_result_and_error_of_what_is_awaited_pass_through() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own")

    with StreamClock(Timeouts()) as clock:
        assert await clock.wait(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(ValueError, match="its own"):
            await clock.wait(fail())


@pytest.mark.parametrize(
    "timeouts",
    [
        Timeouts(first_content_s=SOON, idle_s=NEVER, total_s=NEVER),
        Timeouts(first_content_s=NEVER, idle_s=NEVER, total_s=SOON),
    ],
)
async def test_silence_is_a_timeout_that_leaves_the_task_uncancelled(timeouts: Timeouts) -> None:
    task = asyncio.current_task()
    assert task is not None
    with StreamClock(timeouts) as clock, pytest.raises(TimeoutError):
        await clock.wait(forever())

    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_pause_after_content_may_be_shorter_than_the_wait_for_it() -> None:
    with StreamClock(Timeouts(first_content_s=NEVER, idle_s=SOON, total_s=NEVER)) as clock:
        await clock.wait(asyncio.sleep(0))
        clock.saw_chunk(has_content=True)
        with pytest.raises(TimeoutError):
            await clock.wait(forever())


async def test_each_chunk_starts_the_pause_anew() -> None:
    timeouts = Timeouts(first_content_s=1.0, idle_s=1.0, total_s=NEVER)
    with StreamClock(timeouts) as clock:
        for _ in range(12):
            await clock.wait(asyncio.sleep(0.1))
            clock.saw_chunk(has_content=True)


async def test_chunks_without_content_do_not_move_the_deadline() -> None:
    timeouts = Timeouts(first_content_s=0.2, idle_s=NEVER, total_s=NEVER)
    with StreamClock(timeouts) as clock, pytest.raises(TimeoutError):
        while True:
            await clock.wait(asyncio.sleep(0.02))
            clock.saw_chunk(has_content=False)


async def test_time_of_the_consumer_is_free() -> None:
    """The timer rings while nobody waits, and serves the next wait all the same."""
    timeouts = Timeouts(first_content_s=0.3, idle_s=0.3, total_s=NEVER)
    with StreamClock(timeouts) as clock:
        await clock.wait(asyncio.sleep(0))
        await asyncio.sleep(0.4)
        clock.saw_chunk(has_content=True)
        assert await clock.wait(asyncio.sleep(0, "done")) == "done"
        with pytest.raises(TimeoutError):
            await clock.wait(forever())


async def test_cancelling_the_reader_is_no_timeout() -> None:
    async def read() -> None:
        with StreamClock(Timeouts()) as clock:
            await clock.wait(forever())

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_both_at_once_is_no_timeout() -> None:
    async def read() -> None:
        with StreamClock(Timeouts(first_content_s=SOON)) as clock:
            await clock.wait(cancelled_twice(clock))

    async def cancelled_twice(_clock: StreamClock) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            reader.cancel()
            raise

    reader = asyncio.create_task(read())
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_a_deadline_around_it_is_not_taken_for_its_own() -> None:
    with StreamClock(Timeouts()) as clock:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await clock.wait(forever())
        assert await clock.wait(asyncio.sleep(0, "still")) == "still"


async def test_closed_clock_leaves_nothing_behind_on_the_loop() -> None:
    async def use() -> "weakref.ref[Any]":
        with StreamClock(Timeouts()) as clock:
            await clock.wait(asyncio.sleep(0))
        return weakref.ref(clock)

    assert (await use())() is None
