"""The loop of the periodic tasks: it ends by being cancelled and in no other way."""

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from app.core.periodic import run_periodically


@pytest.mark.parametrize(
    "error",
    [OperationalError("SELECT", {}, Exception("gone")), OSError("full"), KeyError("a mistake")],
)
async def test_what_a_round_raises_does_not_end_the_rounds(error: Exception) -> None:
    done = asyncio.Event()
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise error
        done.set()

    task = asyncio.create_task(run_periodically("test", work, 0))
    await asyncio.wait_for(done.wait(), 5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_rounds_do_not_overlap() -> None:
    running, most, rounds = 0, 0, 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal running, most, rounds
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        rounds += 1
        if rounds == 3:
            done.set()

    task = asyncio.create_task(run_periodically("test", work, 0))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert most == 1
