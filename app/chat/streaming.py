"""An answer as a stream of frames, generated in a task of its own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog

from app.chat.events import Failure, Start, to_frame
from app.chat.pipeline import Answer, Route
from app.core.errors import AppError, Unavailable
from app.core.sse import Frame
from app.models.conversations import RunStatus

log = structlog.get_logger(__name__)

# A reader that is slower than the model slows the model down.
_MAX_BUFFERED_FRAMES = 256


class AnswerStream:
    """Generates an answer for one reader, who gets frames that end in exactly one `done`.

    The task is not the reader's: whatever cancels the reader, `aclose()` closes the provider's
    socket in peace.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MAX_BUFFERED_FRAMES)
        self._is_decided = asyncio.Event()
        self._has_content = False
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._produce())

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

    @property
    def route(self) -> Route | None:
        """Who answers; None until that is known."""
        return self._answer.route

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

    async def _produce(self) -> None:
        try:
            async with aclosing(self._answer.events()) as events:
                async for event in events:
                    if isinstance(event, Start):
                        self._drop_unread()
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

    def _drop_unread(self) -> None:
        """Before a Start only another one can wait, which nobody needs any more."""
        with suppress(asyncio.QueueEmpty):
            self._queue.get_nowait()
            self._room.release()

    def _closing_frames(self) -> list[Frame]:
        if self._failure is None:
            return []
        done = self._answer.conclude(RunStatus.FAILED, "error")
        return [to_frame(to_failure(self._failure)), to_frame(done)]


def to_failure(error: Exception) -> Failure:
    """Return what a reader is told of an error, and log it: what is not ours with its traceback."""
    if not isinstance(error, AppError):
        log.error("stream_failed", exc_info=error)
        return Failure("internal_error", "Something went wrong.", is_retryable=True)
    log.warning("stream_failed", code=error.code)
    return Failure.of(error)
