"""Frames of a server-sent event stream: unnamed, a numeric id, one line of JSON."""

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_CLOSE_TIMEOUT_S = 5.0
# Between the interruption of a stream and its end by force, for the last frames.
_FAREWELL_S = 1.0

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """Seconds. `status_wait_s`: how long the status waits for the first event, to tell a failure.

    `confirm_s`: how often a long stream asks whether its reader may still read. What it is told
    may be 5 s old, and revocations are promised to end a stream within 20 s.
    `drain_s`: how long a stream may go on after SIGTERM. With the second or so that it takes to
    say so and to end, this must stay below the server's own grace (`app/__main__.py`).
    """

    ping_s: float = 15.0
    send_timeout_s: float = 30.0
    status_wait_s: float = 10.0
    confirm_s: float = 10.0
    drain_s: float = 8.0


class FrameSource(Protocol):
    """What a stream sends; belongs to one response, which closes it however it ends."""

    def frames(self) -> AsyncGenerator[Frame]: ...

    def interrupt(self) -> None:
        """Come to an end now: the server stops."""
        ...

    async def aclose(self) -> None: ...


class FrameStream(EventSourceResponse):
    """Numbers the frames of a source, pings while it is silent, drops a reader that does not read.

    The first frame's id is `after` + 1. On SIGTERM the source has `drain_s` to finish; then it is
    interrupted and says so.
    """

    def __init__(self, source: FrameSource, timing: StreamTiming, *, after: int = 0) -> None:
        self._source = source
        self._drain_s = timing.drain_s
        self._shutdown = anyio.Event()
        super().__init__(
            _numbered(source.frames(), after=after),
            ping=timing.ping_s,
            ping_message_factory=_ping,
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


def to_json_line(frame: Frame) -> str:
    """ASCII: U+2028 and other line ends of some readers must not split a line."""
    return json.dumps(frame, separators=(",", ":"))


async def _numbered(
    frames: AsyncGenerator[Frame], *, after: int
) -> AsyncGenerator[ServerSentEvent]:
    """Give frames their ids, 1, 2, 3, …; `EventSource.onmessage` sees each of them."""
    number = after
    async with aclosing(frames):
        async for frame in frames:
            number += 1
            yield ServerSentEvent(data=to_json_line(frame), id=str(number), sep="\n")


def _ping() -> ServerSentEvent:
    return ServerSentEvent(data=to_json_line({"type": "ping"}), sep="\n")
