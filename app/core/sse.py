"""Frames of a server-sent event stream: unnamed, a numeric id, one line of JSON."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import anyio
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus, SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.confirmation import CONFIRM_EVERY_S

log = structlog.get_logger(__name__)

_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_CLOSE_TIMEOUT_S = 5.0
# Between the interruption of a stream and its end by force, for the last frames.
_FAREWELL_S = 1.0
_AWAY_S, _AWAY_PING_S = 10.0, 2.0
PING_FRAME = ServerSentEvent(data='{"type":"ping"}', sep="\n")
# To readers that take every frame for a part of the answer: nothing sees it but a proxy.
PING_COMMENT = ServerSentEvent(comment="ping", sep="\n")
# Between two looks whether the server stops: it tells nobody.
_STOP_LOOK_S = 0.5

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """Seconds. `status_wait_s`: how long the status waits for the first event, to tell a failure.

    `confirm_s`: how often a long stream asks whether its reader may still read.
    `drain_s`: how long a stream may go on after SIGTERM. With the second or so that it takes to
    say so and to end, this must stay below the server's own grace (`app/__main__.py`).
    """

    ping_s: float = 15.0
    send_timeout_s: float = 30.0
    status_wait_s: float = 10.0
    confirm_s: float = CONFIRM_EVERY_S
    drain_s: float = 8.0


def stream_timing(*, is_production: bool) -> StreamTiming:
    # The server itself waits 25 s in production, 10 s else, before it cuts what is open.
    return StreamTiming(drain_s=22.0) if is_production else StreamTiming()


class FrameSource(Protocol):
    """What a stream sends; belongs to one response, which closes it however it ends."""

    def frames(self) -> AsyncGenerator[Frame]: ...

    def interrupt(self) -> None:
        """Come to an end now: the server stops."""
        ...

    async def aclose(self) -> None: ...


# From the frames of a source to the bytes of a stream.
FrameWriter = Callable[[AsyncGenerator[Frame]], AsyncGenerator[bytes]]


async def write_frames(frames: AsyncGenerator[Frame], *, after: int = 0) -> AsyncGenerator[bytes]:
    """Give frames their ids, from `after` + 1 on; `EventSource.onmessage` sees each of them."""
    async with aclosing(frames):
        number = after
        async for frame in frames:
            number += 1
            yield encode_frame(number, to_json_line(frame).encode())


class FrameStream(EventSourceResponse):
    """Sends the frames of a source, pings while it is silent, drops a reader that does not read.

    `write` closes the frames that it is given. On SIGTERM the source has `drain_s` to finish; then
    it is interrupted and says so.
    """

    def __init__(
        self,
        source: FrameSource,
        timing: StreamTiming,
        *,
        write: FrameWriter = write_frames,
        ping: ServerSentEvent = PING_FRAME,
    ) -> None:
        self._source = source
        self._drain_s = timing.drain_s
        self._shutdown = anyio.Event()
        super().__init__(
            write(source.frames()),
            ping=timing.ping_s,
            ping_message_factory=lambda: ping,
            send_timeout=timing.send_timeout_s,
            sep="\n",
            headers=_HEADERS,
            shutdown_event=self._shutdown,
            shutdown_grace_period=timing.drain_s + _FAREWELL_S,
            data_sender_callable=self._interrupt_at_shutdown,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("slow_reader_dropped")
        finally:
            # A reader that leaves cancels this task, and anyio again at every await, hence the
            # shield. Here and not in the generators: one that never began runs no `finally`.
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                await self._source.aclose()

    async def _interrupt_at_shutdown(self) -> None:
        await self._shutdown.wait()
        await anyio.sleep(self._drain_s)
        self._source.interrupt()


class EncodedSource(Protocol):
    """What an encoded stream sends; belongs to one response, which closes it however it ends."""

    async def take(self, timeout_s: float) -> bytes | None:
        """Wait for news. Empty when there is none for so long, None at the end."""
        ...

    def interrupt(self) -> None:
        """Let `take` end now: the reader is gone."""
        ...

    async def aclose(self) -> None: ...


class EncodedStream(Response):
    """Sends frames that are encoded already, as many at once as there are.

    For streams whose frames several readers share, and for short ones: a FrameStream costs five
    tasks more. Pings while the source is silent, drops a reader that does not read. It is
    the source that knows when the server stops. `retry_ms` tells an `EventSource` how soon to
    come back.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: EncodedSource,
        timing: StreamTiming,
        *,
        retry_ms: int | None = None,
        ping: ServerSentEvent = PING_FRAME,
    ) -> None:
        self._source = source
        self._timing = timing
        self._ping = ping
        self._first = b"" if retry_ms is None else b"retry: %d\n\n" % retry_ms
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(self._interrupt_when_gone(receive))
        deadline = _Deadline()
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] != "HEAD":
                await self._send_all(send, deadline)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not deadline.was_missed():
                raise
            log.info("slow_reader_dropped")
        finally:
            deadline.close()
            gone.cancel()
            await self._source.aclose()

    async def _send_all(self, send: Send, deadline: "_Deadline") -> None:
        timing = self._timing
        chunk: bytes | None = self._first
        while chunk is not None:
            if chunk:
                deadline.set(timing.send_timeout_s)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                deadline.clear()
            chunk = await self._source.take(timing.ping_s)
            if chunk == b"":
                chunk = self._ping.encode()

    async def _interrupt_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        # A server's `send` returns at once for a client that is gone.
        self._source.interrupt()


class Alarm:
    """Calls back at a time that is put off all the while and seldom comes.

    A timer of asyncio would be made and cancelled each time, which costs as much as sending does;
    this one is made again only when it rings too early.
    """

    def __init__(self, ring: Callable[[], object]) -> None:
        self._ring = ring
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def set(self, at: float) -> None:
        """Ring at a time (monotonic seconds), and no more at another."""
        self._at = at
        if self._timer is None or at < self._timer_at:
            self._start(at, time.monotonic())

    def clear(self) -> None:
        """Don't ring."""
        self._at = None

    def close(self) -> None:
        self._at = None
        if self._timer is not None:
            self._timer.cancel()

    def _start(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(at - now, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        now = time.monotonic()
        if now < self._at:
            self._start(self._at, now)
        else:
            self._at = None
            self._ring()


class _Deadline:
    """Cancels the task that made it when it takes too long for a step."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._alarm = Alarm(self._miss)
        self._is_missed = False

    def set(self, seconds: float) -> None:
        self._alarm.set(time.monotonic() + seconds)

    def clear(self) -> None:
        self._alarm.clear()

    def close(self) -> None:
        self._alarm.close()

    def was_missed(self) -> bool:
        """Whether a cancellation was this one's; then it is over."""
        if self._is_missed and self._task is not None:
            return self._task.uncancel() == 0
        return False

    def _miss(self) -> None:
        self._is_missed = True
        if self._task is not None:
            self._task.cancel()


def is_server_stopping() -> bool:
    """Whether the server of this process was told to stop; it then waits for open streams."""
    # The handler is uvicorn's until it has shut down; sse-starlette looks at both in this way.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return AppStatus.should_exit or bool(getattr(server, "should_exit", False))


class Drain:
    """Calls back `drain_s` after the server was told to stop, unless it is closed before."""

    def __init__(self, interrupt: Callable[[], object], drain_s: float) -> None:
        self._interrupt = interrupt
        self._drain_s = drain_s
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_STOP_LOOK_S, self._look)

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if is_server_stopping():
            self._timer = self._loop.call_later(self._drain_s, self._interrupt)
        else:
            self._timer = self._loop.call_later(_STOP_LOOK_S, self._look)


_encode = json.JSONEncoder(separators=(",", ":")).encode


class SilentStream:
    """A stream that says nothing for a while and ends.

    For a reader who comes while the database is away: an `EventSource` gives up for good on any
    status but 200, and comes again after a stream that ended.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._is_interrupted = asyncio.Event()

    async def frames(self) -> AsyncGenerator[Frame]:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._is_interrupted.wait()
        return
        yield

    def interrupt(self) -> None:
        self._is_interrupted.set()

    async def aclose(self) -> None:
        """It holds nothing."""


def wait_for_database(timing: StreamTiming, *, seconds: float = _AWAY_S) -> FrameStream:
    """Return the stream of a reader of whom nothing can be known now, and who comes again."""
    timing = replace(timing, drain_s=0.0, ping_s=_AWAY_PING_S)
    return FrameStream(SilentStream(seconds=seconds), timing)


def to_json_line(frame: Frame) -> str:
    """ASCII: U+2028 and other line ends of some readers must not split a line."""
    return _encode(frame)


def encode_frame(number: int, line: bytes) -> bytes:
    """Return a frame as it is sent: its id and its one line of JSON."""
    return b"id: %d\ndata: %b\n\n" % (number, line)


def line_of(encoded: bytes) -> bytes:
    """Return the line of JSON in what `encode_frame` made."""
    return encoded[encoded.index(b"\n") + 7 : -2]


def encode_error(code: str, message: str, *, is_retryable: bool) -> bytes:
    """Return a frame about the stream itself, without an id: it is not part of what is told."""
    frame = {"type": "error", "code": code, "message": message, "retryable": is_retryable}
    return b"data: %b\n\n" % to_json_line(frame).encode()
