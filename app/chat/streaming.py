"""An answer as a stream for one reader, generated in a task of its own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import structlog

from app.chat.events import Event, Failure, Start, to_frame
from app.chat.pipeline import Answer, Route
from app.chat.run_log import to_line
from app.core.confirmation import Confirm, Confirming
from app.core.errors import AppError, Unavailable
from app.core.sse import Alarm, Drain, Frame, encode_frame
from app.models.conversations import RunStatus

log = structlog.get_logger(__name__)

# A reader that is slower than the model slows the model down.
_MAX_BUFFERED_EVENTS = 256
_FOREVER_S = 1e6

EventEncoder = Callable[[Event], bytes]


class AnswerStream:
    """Generates an answer for one reader, who gets events that end in exactly one Done.

    The task is not the reader's: whatever cancels the reader, `aclose()` closes the provider's
    socket in peace. `drain_s`: how long it may go on after SIGTERM. `confirm` raises
    NotAuthenticated once the reader may read no more.
    """

    def __init__(self, answer: Answer, *, drain_s: float, confirm: Confirm) -> None:
        self._answer = answer
        self._unread: list[Event] = []
        self._has_room = asyncio.Event()
        self._is_decided = asyncio.Event()
        self._has_content = False
        self._has_ended = False
        self._is_left = False
        self._failure: Exception | None = None
        self._news: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._wake)
        self._drain = Drain(self.interrupt, drain_s)
        self._confirming = Confirming(confirm, self._break_off)
        self._task = asyncio.create_task(self._produce())

    async def wait_until_begun(self, timeout_s: float) -> None:
        """Wait for the model's first event, but no longer than `timeout_s`.

        Raises what the model failed with instead; later failures are events.
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

    async def take(self, timeout_s: float) -> Sequence[Event] | None:
        """Wait for news. Empty when there is none for so long, None at the end."""
        deadline = time.monotonic() + timeout_s
        while not self._is_left:
            if self._unread:
                events, self._unread = self._unread, []
                self._has_room.set()
                return events
            if self._has_ended:
                self._is_left = True
                return self._closing_events() or None
            if time.monotonic() >= deadline:
                return ()
            await self._wait_until(deadline)
        return None

    async def frames(self) -> AsyncGenerator[Frame]:
        while (events := await self.take(_FOREVER_S)) is not None:
            for event in events:
                yield to_frame(event)

    def interrupt(self) -> None:
        """End the answer where it is; its reader still gets that, a Failure and Done."""
        self._break_off(Unavailable("The server is restarting.", code="shutting_down"))

    def leave(self) -> None:
        """Let `take` end now: the reader is gone."""
        self._is_left = True
        self._wake()

    async def aclose(self) -> None:
        """Stop generating, and wait until the provider's socket is closed."""
        self._alarm.close()
        self._drain.close()
        self._confirming.close()
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _break_off(self, why: AppError) -> None:
        if not self._has_ended and self._failure is None:
            self._failure = why
            self._task.cancel()

    async def _produce(self) -> None:
        try:
            async with aclosing(self._answer.events()) as events:
                async for event in events:
                    if isinstance(event, Start):
                        # Before a Start only another one can wait, which nobody needs any more.
                        self._unread.clear()
                    else:
                        self._has_content = True
                        self._is_decided.set()
                    self._unread.append(event)
                    self._wake()
                    if len(self._unread) >= _MAX_BUFFERED_EVENTS:
                        self._has_room.clear()
                        await self._has_room.wait()
        except Exception as error:  # noqa: BLE001  # raised or logged by whoever reads
            self._failure = error
        finally:
            self._has_ended = True
            self._is_decided.set()
            self._wake()

    async def _wait_until(self, at: float) -> None:
        """Wait for anything to happen, or for a time."""
        self._news = asyncio.get_running_loop().create_future()
        self._alarm.set(at)
        try:
            await self._news
        finally:
            self._alarm.clear()
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _closing_events(self) -> Sequence[Event]:
        if self._failure is None:
            return ()
        return to_failure(self._failure), self._answer.conclude(RunStatus.FAILED, "error")


class EncodedAnswer:
    """What an AnswerStream tells, as an EncodedSource."""

    def __init__(self, stream: AnswerStream, encode: EventEncoder) -> None:
        self._stream = stream
        self._encode = encode

    async def take(self, timeout_s: float) -> bytes | None:
        """Wait for news. Empty when there is none for so long, None at the end."""
        while events := await self._stream.take(timeout_s):
            if encoded := b"".join(map(self._encode, events)):
                return encoded
        return None if events is None else b""

    def interrupt(self) -> None:
        """Let `take` end now: the reader is gone."""
        self._stream.leave()

    async def aclose(self) -> None:
        await self._stream.aclose()


class NumberedFrames:
    """Encodes events as frames with the ids 1, 2, 3, …"""

    def __init__(self) -> None:
        self._number = 0

    def encode(self, event: Event) -> bytes:
        self._number += 1
        return encode_frame(self._number, to_line(event))


def to_failure(error: Exception) -> Failure:
    """Return what a reader is told of an error, and log it: what is not ours with its traceback."""
    if not isinstance(error, AppError):
        log.error("stream_failed", exc_info=error)
        return Failure("internal_error", "Something went wrong.", is_retryable=True)
    log.warning("stream_failed", code=error.code)
    return Failure.of(error)
