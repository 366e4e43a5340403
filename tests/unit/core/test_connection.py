"""Work for a client that may leave: its result, or its end as soon as the client is gone."""

import asyncio
from contextlib import suppress

import pytest
from starlette.types import Message

from app.core.connection import ClientGone, while_connected


class Client:
    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


class Work:
    """Waits until it is told to go on; then, and when it is cancelled, it cleans up for a while."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.is_clean = False

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.goes_on.wait()
        finally:
            await asyncio.sleep(0)
            self.is_clean = True
        return "done"


async def test_the_result_of_work_is_told_and_nobody_watches_on() -> None:
    client, work = Client(), Work()
    work.goes_on.set()
    tasks = asyncio.all_tasks()
    assert await while_connected(client.receive, work()) == "done"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks


async def test_work_ends_cleanly_when_the_client_leaves() -> None:
    client, work = Client(), Work()
    asking = asyncio.create_task(while_connected(client.receive, work()))
    await work.begun.wait()
    client.leaves.set()
    with pytest.raises(ClientGone):
        await asking
    assert work.is_clean
    assert asking.cancelling() == 0  # what comes behind it is not cancelled


async def test_who_is_cancelled_while_the_client_leaves_stays_cancelled() -> None:
    client, work = Client(), Work()
    asking = asyncio.create_task(while_connected(client.receive, work()))
    await work.begun.wait()
    client.leaves.set()
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert work.is_clean


async def test_an_error_of_the_work_is_told() -> None:
    async def fail() -> None:
        raise LookupError("of the work")

    with pytest.raises(LookupError, match="of the work"):
        await while_connected(Client().receive, fail())


async def test_work_that_ends_in_spite_of_its_cancellation_counts() -> None:
    client = Client()

    async def insist() -> str:
        client.leaves.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "done"

    asking = asyncio.create_task(while_connected(client.receive, insist()))
    assert await asking == "done"
    assert asking.cancelling() == 0
