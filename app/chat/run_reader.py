"""One reader of a run: a place in its log, and the right to read on."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from app.chat.run_log import FrameLog, resolve
from app.chat.run_rows import DATABASE_ERRORS
from app.core.errors import NotAuthenticated
from app.core.sse import Alarm, encode_error

log = structlog.get_logger(__name__)

Confirm = Callable[[], Awaitable[object]]


class RunReader:
    """The frames behind `after`, as an EncodedSource.

    `confirm`, asked every `confirm_s`, raises NotAuthenticated when the reader's credential has
    expired or been revoked. The stream then ends with an `error` and nothing behind it: `done`
    would speak of the answer.
    """

    def __init__(
        self, frames: FrameLog, after: int, *, on_close: Callable[["RunReader"], None]
    ) -> None:
        self.frames = frames
        self._after = after
        self._on_close: Callable[[RunReader], None] | None = on_close
        self._confirm: Confirm | None = None
        self._confirm_s = self._confirm_at = float("inf")
        self._is_over = False
        self._news: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._ring)

    def confirm_with(self, confirm: Confirm, *, every_s: float) -> None:
        self._confirm = confirm
        self._confirm_s = every_s
        self._confirm_at = time.monotonic() + every_s

    async def take(self, timeout_s: float) -> bytes | None:
        deadline = time.monotonic() + timeout_s
        while not self._is_over:
            now = time.monotonic()
            if now >= self._confirm_at:
                if refusal := await self._find_refusal():
                    self._is_over = True
                    return refusal
                self._confirm_at = now + self._confirm_s
            self._after, encoded = self.frames.read(self._after)
            if encoded:
                return encoded
            if self.frames.is_closed:
                break
            if now >= deadline:
                return b""
            await self._wait_until(min(deadline, self._confirm_at))
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
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    async def _find_refusal(self) -> bytes | None:
        assert self._confirm is not None  # noqa: S101  # else there is no time for it
        try:
            await self._confirm()
        except NotAuthenticated as error:
            return encode_error(error.code, error.message, is_retryable=False)
        except DATABASE_ERRORS as error:
            # As long as the database is away nobody can be told from anybody.
            log.info("stream_not_confirmed", error=type(error).__name__)
        return None
