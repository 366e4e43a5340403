"""Whether who is being served still may be: asked again and again while they are."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.core.db import DATABASE_ERRORS
from app.core.errors import AppError, NotAuthenticated

log = structlog.get_logger(__name__)

Confirm = Callable[[], Awaitable[object]]

# What is told may be 3 s old (`app/accounts/credentials.py`), and who is removed is promised to be
# served no more after 5 s.
CONFIRM_EVERY_S = 2.0
# Once the database could not say. It has most often waited for 3 s by then.
_CONFIRM_AGAIN_S = 2.0


class Confirming:
    """Asks every so many seconds, at first after `first_s`; calls back once with why to end.

    That is NotAuthenticated when the credential has expired or been revoked, another error when
    that can't be found out. As long as the database is away nobody can be told from anybody.
    Belongs to one running loop; asks no more once closed.
    """

    def __init__(
        self,
        confirm: Confirm,
        end: Callable[[AppError], object],
        *,
        every_s: float = CONFIRM_EVERY_S,
        first_s: float = CONFIRM_EVERY_S,
    ) -> None:
        self._confirm = confirm
        self._end = end
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        # Most of what is served is done before: a timer costs less than a task.
        self._timer = asyncio.get_running_loop().call_later(first_s, self._begin)

    def close(self) -> None:
        """Ask no more, once or again."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while True:
            wait_s = self._every_s
            try:
                await self._confirm()
            except NotAuthenticated as error:
                self._end(error)
                return
            except DATABASE_ERRORS as error:
                log.info("caller_not_confirmed", error=type(error).__name__)
                wait_s = min(wait_s, _CONFIRM_AGAIN_S)
            except Exception:
                log.exception("caller_not_confirmed")
                self._end(AppError("Something went wrong on our side."))
                return
            await asyncio.sleep(wait_s)
