"""One reader of a run: a place in its log, and the right to read on."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from app.chat.run_log import FrameLog, resolve
from app.core.db import DATABASE_ERRORS
from app.core.errors import NotAuthenticated
from app.core.sse import Alarm, encode_error

log = structlog.get_logger(__name__)

Confirm = Callable[[], Awaitable[object]]

# Once the database could not say. It has most often waited for 3 s by then.
_CONFIRM_AGAIN_S = 2.0


class RunReader:
    """The frames behind `after`, as an EncodedSource.

    `confirm` raises NotAuthenticated when the reader's credential has expired or been revoked. The
    stream then ends with an `error` and nothing behind it: `done` would speak of the answer. No
    frame waits for its answer.
    """

    def __init__(
        self, frames: FrameLog, after: int, *, on_close: Callable[["RunReader"], None]
    ) -> None:
        self.frames = frames
        self._after = after
        self._on_close: Callable[[RunReader], None] | None = on_close
        self._confirming: asyncio.Task[None] | None = None
        self._refusal: bytes | None = None
        self._is_over = False
        self._news: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._ring)

    def confirm_with(self, confirm: Confirm, *, every_s: float, is_due: bool = False) -> None:
        """Ask every so many seconds from now on, and first of all now if that `is_due`."""
        first_s = 0.0 if is_due else every_s
        self._confirming = asyncio.create_task(self._confirm(confirm, first_s, every_s))

    async def take(self, timeout_s: float) -> bytes | None:
        deadline: float | None = None
        while not self._is_over:
            if self._refusal is not None:
                self._is_over = True
                return self._refusal
            self._after, encoded = self.frames.read(self._after)
            if encoded:
                return encoded
            if self.frames.is_closed:
                break
            now = time.monotonic()
            if deadline is None:
                deadline = now + timeout_s
            if now >= deadline:
                return b""
            await self._wait_until(deadline)
        return None

    async def _wait_until(self, at: float) -> None:
        """Wait for anything to happen, or for a time."""
        self._news = news = self.frames.expect()
        self._alarm.set(at)
        try:
            await news
        finally:
            self._alarm.clear()
            self.frames.forget(news)

    def _ring(self) -> None:
        if self._news is not None:
            resolve(self._news)

    def interrupt(self) -> None:
        """End where it is: the reader is gone, or another process goes on."""
        self._is_over = True
        self.frames.wake()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Read no more, once or again."""
        self._alarm.close()
        if self._confirming is not None:
            self._confirming.cancel()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    async def _confirm(self, confirm: Confirm, first_s: float, every_s: float) -> None:
        wait_s = first_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = every_s
            try:
                await confirm()
            except NotAuthenticated as error:
                self._refusal = encode_error(error.code, error.message, is_retryable=False)
                self._ring()
                return
            except DATABASE_ERRORS as error:
                # As long as the database is away nobody can be told from anybody.
                log.info("stream_not_confirmed", error=type(error).__name__)
                wait_s = min(every_s, _CONFIRM_AGAIN_S)
            except Exception:  # who can't be asked about reads no more, and may come again
                log.exception("stream_not_confirmed")
                self.interrupt()
                return
