"""Work for a client that may leave or be shut out: nobody pays for an answer that nobody reads."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from app.core.confirmation import Confirm, Confirming

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before it had an answer."""


async def while_served(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the work's result, for a client who is there and whose credential is good.

    As `while_connected`; also cancels the work and raises NotAuthenticated once `confirm` in the
    request's state does.
    """
    return await while_connected(request.receive, work, confirm=request.state.confirm)


async def while_connected(
    receive: Receive, work: Coroutine[Any, Any, T], *, confirm: Confirm | None = None
) -> T:
    """Return the work's result. Cancels it and raises ClientGone when the client leaves first.

    The request's body must have been read.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in a task
    cancelling = task.cancelling()
    reason: Exception | None = None

    def stop(why: Exception) -> None:
        nonlocal reason
        if reason is None:
            reason = why
            task.cancel()

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stop(ClientGone())

    watching = asyncio.create_task(watch())
    confirming = Confirming(confirm, stop) if confirm is not None else None
    try:
        return await work
    except asyncio.CancelledError as error:
        # Where somebody else cancels too, it is not about the client.
        if reason is not None and task.cancelling() == cancelling + 1:
            raise reason from error
        raise
    finally:
        watching.cancel()
        if confirming is not None:
            confirming.close()
        if reason is not None:
            task.uncancel()
