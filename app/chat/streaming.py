"""An answer as a stream of frames, generated in a task of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from app.chat.events import Event, Start, error_frames, to_frame
from app.core.errors import AppError, ProviderError, Unavailable
from app.core.sse import Frame

log = structlog.get_logger(__name__)

# A reader that is slower than the model slows the model down.
_MAX_BUFFERED_FRAMES = 256


class AnswerStream:
    """Generates an answer for one reader, who gets frames that end in exactly one `done`.

    The task is not the reader's: whatever cancels the reader, `aclose()` closes the provider's
    socket in peace.
    """

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        self._queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MAX_BUFFERED_FRAMES)
        self._is_decided = asyncio.Event()
        self._has_content = False
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._produce(events))

    async def wait_until_begun(self, timeout_s: float) -> None:
        """Wait for the model's first event, but no longer than `timeout_s`.

        Raises what the model failed with instead; later failures are frames.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_decided.wait()
        except TimeoutError:
            return
        if self._failure is not None and not self._has_content:
            raise self._failure

    async def frames(self) -> AsyncGenerator[Frame]:
        while (frame := await self._queue.get()) is not None:
            self._room.release()
            yield frame
        for frame in self._closing_frames():
            yield frame

    def interrupt(self) -> None:
        """End the answer where it is; its reader still gets that, an `error` and `done`."""
        if not self._task.done():
            self._failure = Unavailable("The server is restarting.", code="shutting_down")
            self._task.cancel()

    async def aclose(self) -> None:
        """Stop generating, and wait until the provider's socket is closed."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _produce(self, events: AsyncGenerator[Event]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    await self._room.acquire()
                    self._queue.put_nowait(to_frame(event))
                    if not isinstance(event, Start):
                        self._has_content = True
                        self._is_decided.set()
        except Exception as error:  # noqa: BLE001  # raised or logged by whoever reads
            self._failure = error
        finally:
            self._is_decided.set()
            self._queue.put_nowait(None)

    def _closing_frames(self) -> list[Frame]:
        error = self._failure
        if error is None:
            return []
        if not isinstance(error, AppError):
            log.error("stream_failed", exc_info=error)
            return [*error_frames("internal_error", "Something went wrong.", retryable=True)]
        is_retryable = not isinstance(error, ProviderError) or error.is_retryable
        log.warning("stream_failed", code=error.code)
        return [*error_frames(error.code, error.message, retryable=is_retryable)]
