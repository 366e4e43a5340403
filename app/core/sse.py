"""Frames of a server-sent event stream: unnamed, a numeric id, one line of JSON."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent

PING_INTERVAL_S = 15
_SEND_TIMEOUT_S = 30
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


async def numbered(frames: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[ServerSentEvent]:
    """Give frames their ids, 1, 2, 3, …; `EventSource.onmessage` sees each of them."""
    number = 0
    async for frame in frames:
        number += 1
        yield ServerSentEvent(data=to_json_line(frame), id=str(number), sep="\n")


def event_stream(frames: AsyncIterator[Mapping[str, Any]]) -> EventSourceResponse:
    """Respond with a stream that pings while it is silent and drops a reader that does not read."""
    return EventSourceResponse(
        numbered(frames),
        ping=PING_INTERVAL_S,
        ping_message_factory=_ping,
        send_timeout=_SEND_TIMEOUT_S,
        sep="\n",
        headers=_HEADERS,
    )


def to_json_line(frame: Mapping[str, Any]) -> str:
    """ASCII: U+2028 and other line ends of some readers must not split a line."""
    return json.dumps(frame, separators=(",", ":"))


def _ping() -> ServerSentEvent:
    return ServerSentEvent(data=to_json_line({"type": "ping"}), sep="\n")
