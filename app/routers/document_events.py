"""Watch documents: server-sent events of one document, or of all of the organization.

Each frame is the whole state, so a reader who comes back needs no replay. What a reader must know:

- All documents: `document` frames of what is active, then `progress`; then what changes, and
  `progress` while something is active. A reader who comes back with `Last-Event-ID` also gets what
  has changed in the last ten minutes.
- One document: `document`, again at least every 2 s while it is active, and at the end `done`. To
  come back to one that has ended gives 204, which stops an `EventSource`: who has seen no `done`
  then asks for the document.
- A stream may end at any time without `done`: the server stopped, or its database is away. Come
  again. It ends with `error` when the credential has expired or been revoked; coming again then
  gives 401, which stops an `EventSource`: get a new URL.
- There is no 503: it would stop an `EventSource` for good. While the database is away a stream is
  silent but for pings, and a new one ends after some seconds.
"""

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Response, status
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse

from app.core.sse import FrameStream, StreamTiming, wait_for_database, write_frames
from app.core.stream_tokens import StreamAudience, StreamScope
from app.dependencies import (
    LastEventId,
    Reader,
    ResourcesDep,
    StreamAuthentication,
    StreamCaller,
    StreamTimingDep,
)
from app.documents.library import get_document
from app.documents.progress_stream import ProgressStream
from app.models.documents import DocumentStatus
from app.resources import Resources

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])


AllCaller = Annotated[StreamCaller | None, Depends(StreamAuthentication(StreamAudience.DOCUMENTS))]
OneCaller = Annotated[
    StreamCaller | None,
    Depends(StreamAuthentication(StreamAudience.DOCUMENTS, resource="document_id")),
]


class EventsRequest(BaseModel):
    """What to watch: one document, or all of the organization."""

    model_config = ConfigDict(extra="forbid")

    document_id: UUID | None = None


class EventsUrl(BaseModel):
    """For `new EventSource(url)`. Opens that stream, again and again, until `expires_at`."""

    events_url: str
    expires_at: datetime


@router.post("/events", status_code=status.HTTP_201_CREATED)
async def create_events_url(
    caller: Reader, resources: ResourcesDep, body: EventsRequest | None = None
) -> EventsUrl:
    """Make a URL for an `EventSource`, which can't send an `Authorization` header."""
    document_id = body.document_id if body else None
    path = f"{router.prefix}/events"
    if document_id is not None:
        path = f"{router.prefix}/{document_id}/events"
        async with resources.db.transaction(caller) as session:
            await get_document(session, caller.org_id, document_id)
    scope = StreamScope(StreamAudience.DOCUMENTS, document_id)
    issued = await resources.principals.issue_stream_token(caller, scope)
    return EventsUrl(events_url=f"{path}?token={issued.token}", expires_at=issued.expires_at)


@router.get("/events", response_class=EventSourceResponse)
async def watch_documents(
    caller: AllCaller, resources: ResourcesDep, timing: StreamTimingDep, last_event_id: LastEventId
) -> Response:
    """Progress of all documents as frames; does not end."""
    if caller is None:
        return wait_for_database(timing)
    return _watch(caller, None, resources, timing, last_event_id)


@router.get("/{document_id}/events", response_class=EventSourceResponse)
async def watch_document(
    document_id: UUID,
    caller: OneCaller,
    resources: ResourcesDep,
    timing: StreamTimingDep,
    last_event_id: LastEventId,
) -> Response:
    """Progress of one document as frames; at last `{"done": true}`."""
    if caller is None:
        return wait_for_database(timing)
    try:
        async with resources.db.transaction(caller.principal) as session:
            document = await get_document(session, caller.principal.org_id, document_id)
    except (SQLAlchemyError, OSError) as error:
        log.warning("document_not_found_out", error=type(error).__name__)
        return wait_for_database(timing)
    has_ended = document.status in (DocumentStatus.READY, DocumentStatus.FAILED)
    if has_ended and last_event_id is not None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return _watch(caller, document_id, resources, timing, last_event_id)


def _watch(
    caller: StreamCaller,
    document_id: UUID | None,
    resources: Resources,
    timing: StreamTiming,
    last_event_id: int | None,
) -> Response:
    """Raises RateLimited."""
    principal = caller.principal
    watch = resources.progress.join(
        principal.user_id, principal.org_id, document_id, is_resumed=last_event_id is not None
    )
    stream = ProgressStream(resources.progress, watch, caller.confirm, confirm_s=timing.confirm_s)
    # No answer is lost by an end at once.
    write = partial(write_frames, after=last_event_id or 0)
    return FrameStream(stream, replace(timing, drain_s=0.0), write=write)
