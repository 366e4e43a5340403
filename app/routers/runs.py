"""Ask, and read the answer as often and from wherever one likes: runs.

A POST does every check and begins the answer; it goes on whether somebody reads it or not. What a
reader must know:

- `events_url` is made for `new EventSource(url)`. Frames are numbered from 1. Who comes back with
  `Last-Event-ID`, or `?after=`, gets exactly the rest, and 204 once the end was seen.
- The last frame is `done`, once; where the answer failed, `error` comes before it.
- Before any text `start` may come again: another model has taken over, with sources of its own.
- `snapshot` holds all of the answer so far, and replaces what the reader has.
- A stream may end without `done`: its process stopped. Come again. There is no 503.
- An answer that nobody reads or asks for is cancelled after a minute, unless it is `detached`.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import BaseModel, Field
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sse_starlette import EventSourceResponse

from app.accounts.principal import Principal
from app.chat.events import to_frame
from app.chat.run_state import RunState
from app.core.db import DATABASE_ERRORS
from app.core.sse import EncodedStream, wait_for_database
from app.core.stream_tokens import StreamAudience, StreamScope
from app.dependencies import (
    AnswererDep,
    Asker,
    ConversationWriter,
    LastEventId,
    Reader,
    ResourcesDep,
    RunsDep,
    StreamAuthentication,
    StreamCaller,
    StreamTimingDep,
    take_stream_place,
)
from app.resources import Resources
from app.routers.chat import set_route_headers
from app.routers.chat_requests import ChatRequest, IdempotencyKeyHeader, begin_answer
from app.routers.document_events import EventsUrl

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/api/v1/chat/runs", tags=["chat"])

_BUSY_S = 2.0
# A native `EventSource` else waits for 3 s and more.
_RETRY_MS = 1000

RunReader = Annotated[
    StreamCaller | None,
    Depends(StreamAuthentication(StreamAudience.RUN, resource="run_id", recalls=True)),
]


class RunBody(ChatRequest):
    detached: bool = Field(default=False, description="Go on even if nobody reads.")


class RunCreated(BaseModel):
    run_id: UUID
    message_id: UUID = Field(description="Of the answer.")
    conversation_id: UUID
    status: str
    events_url: str = Field(description="For `new EventSource(url)`, until `expires_at`.")
    expires_at: datetime


class RunOut(BaseModel):
    """`answer` and `citations` as far as they are; what follows `usage` is null until the end."""

    run_id: UUID
    message_id: UUID
    conversation_id: UUID
    status: str = Field(description="queued, running, completed, failed or cancelled.")
    model: str
    answer: str
    citations: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    unready_documents: list[dict[str, Any]]
    error: dict[str, Any] | None
    usage: dict[str, Any] | None
    cost_usd: str | None
    finish_reason: str | None
    model_version: str | None
    answer_sha256: str | None
    degraded: bool | None
    provider: str | None = Field(description="Of the model that answered.")
    fallbacks: int | None = Field(description="Models that were passed over for it.")
    unsupported: list[dict[str, int]] | None


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_run(
    body: RunBody,
    request: Request,
    response: Response,
    caller: Asker,
    resources: ResourcesDep,
    answerer: AnswererDep,
    runs: RunsDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> RunCreated:
    """Begin an answer, and say where its events are. 409 while the conversation has another.

    429 (`too_many_streams`) while its reader would have no place.
    """
    if not body.detached:
        await take_stream_place(request, caller)
    answer = await begin_answer(
        body, request, caller, answerer, runs, key=idempotency_key, is_detached=body.detached
    )
    run_id = UUID(answer.body["run_id"])
    state = await runs.get(caller, run_id) if answer.is_replayed else None
    events = await _issue_events_url(resources, caller, run_id)
    set_route_headers(response, runs.find_route(run_id))
    response.headers["Location"] = f"{router.prefix}/{run_id}"
    if answer.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    now = {} if state is None else {"status": state.status.value}
    return RunCreated(**answer.body | now | events.model_dump())


@router.get("/{run_id}")
async def get_run(run_id: UUID, caller: Reader, runs: RunsDep) -> RunOut:
    """The answer as far as it is. To ask counts as reading."""
    return _run_out(await runs.get(caller, run_id))


@router.post("/{run_id}/cancel", status_code=status.HTTP_202_ACCEPTED)
async def cancel_run(run_id: UUID, caller: ConversationWriter, runs: RunsDep) -> RunOut:
    """End the answer where it is, within a second; one that has ended stays as it is."""
    return _run_out(await runs.cancel(caller, run_id))


@router.post("/{run_id}/events", status_code=status.HTTP_201_CREATED)
async def create_run_events_url(
    run_id: UUID, caller: Reader, resources: ResourcesDep, runs: RunsDep
) -> EventsUrl:
    """Make another URL for an `EventSource`: the page was loaded anew, or the first has expired."""
    await runs.get(caller, run_id)
    return await _issue_events_url(resources, caller, run_id)


@router.get("/{run_id}/events", response_class=EventSourceResponse)
async def read_run(
    run_id: UUID,
    request: Request,
    caller: RunReader,
    runs: RunsDep,
    timing: StreamTimingDep,
    last_event_id: LastEventId,
) -> Response:
    """The answer as frames, from where the reader left."""
    if caller is None:
        return wait_for_database(timing)
    await take_stream_place(request, caller.principal)
    try:
        reader = await runs.open(caller.principal, run_id, after=last_event_id)
    except DATABASE_ERRORS as error:
        log.warning("run_not_found_out", error=type(error).__name__)
        # Whose connections are all in use has some again soon.
        return (
            wait_for_database(timing, seconds=_BUSY_S)
            if isinstance(error, PoolTimeout)
            else wait_for_database(timing)
        )
    if reader is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    reader.confirm_with(caller.confirm, every_s=timing.confirm_s, is_due=caller.is_recalled)
    return EncodedStream(reader, timing, retry_ms=_RETRY_MS)


async def _issue_events_url(resources: Resources, caller: Principal, run_id: UUID) -> EventsUrl:
    issued = await resources.principals.issue_stream_token(
        caller, StreamScope(StreamAudience.RUN, run_id)
    )
    return EventsUrl(
        events_url=f"{router.prefix}/{run_id}/events?token={issued.token}",
        expires_at=issued.expires_at,
    )


def _run_out(state: RunState) -> RunOut:
    start, failure, done = state.start, state.failure, state.done
    shown = to_frame(start) if start else {"sources": [], "unready_documents": []}
    end = to_frame(done) if done else {}
    return RunOut(
        run_id=state.run_id,
        message_id=state.message_id,
        conversation_id=state.conversation_id,
        status=state.status.value,
        model=state.model,
        answer=state.text,
        citations=[_without_type(to_frame(citation)) for citation in state.citations],
        sources=shown["sources"],
        unready_documents=shown["unready_documents"],
        error=_without_type(to_frame(failure)) if failure else None,
        **{name: end.get(name) for name in _END_FIELDS},
    )


_END_FIELDS = (
    *("usage", "cost_usd", "finish_reason", "model_version", "answer_sha256", "degraded"),
    *("provider", "fallbacks", "unsupported"),
)


def _without_type(frame: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in frame.items() if name != "type"}
