"""One reader of a run: a place in its log, and the right to read on."""

import asyncio
import time
from collections.abc import Callable

from app.chat.run_log import FrameLog, resolve
from app.core.confirmation import CONFIRM_EVERY_S, Confirm, Confirming
from app.core.errors import AppError, NotAuthenticated
from app.core.sse import Alarm, encode_error


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
        self._confirming: Confirming | None = None
        self._refusal: bytes | None = None
        self._is_over = False
        self._news: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._ring)

    def confirm_with(
        self, confirm: Confirm, *, every_s: float = CONFIRM_EVERY_S, is_due: bool = False
    ) -> None:
        """Ask every so many seconds from now on, and first of all now if that `is_due`."""
        first_s = 0.0 if is_due else every_s
        self._confirming = Confirming(confirm, self._refuse, every_s=every_s, first_s=first_s)

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
            self._confirming.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)

    def _refuse(self, error: AppError) -> None:
        if isinstance(error, NotAuthenticated):
            self._refusal = encode_error(error.code, error.message, is_retryable=False)
            self._ring()
        else:  # who can't be asked about reads no more, and may come again
            self.interrupt()
