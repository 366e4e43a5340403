"""The periodic tasks of an API process: every few seconds, whatever happened the last time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.core.db import DATABASE_ERRORS

log = structlog.get_logger(__name__)


async def run_periodically(
    name: str, work: Callable[[], Awaitable[object]], every_s: float
) -> None:
    """Do `work` until cancelled, with `every_s` seconds between its end and its next start.

    What it raises is logged as `{name}_failed` and waited out: a database or a disk that is away
    in one line, anything else with its traceback.
    """
    while True:
        try:
            await work()
        except DATABASE_ERRORS as error:
            log.warning(f"{name}_failed", error=type(error).__name__)
        except Exception:  # the next round may go well, and without it nothing would
            log.exception(f"{name}_failed")
        await asyncio.sleep(every_s)
