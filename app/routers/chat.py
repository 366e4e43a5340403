"""Ask: as JSON, or as a stream of frames."""

import time
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from sse_starlette import EventSourceResponse

from app.accounts.principal import Principal
from app.chat.events import Citation, Done, Event, Start, Token, usage_frame
from app.chat.pipeline import Answerer, Prepared, Question, answer
from app.chat.streaming import AnswerStream
from app.core.connection import while_connected
from app.core.sse import FrameStream, StreamTiming
from app.core.text import AnyText
from app.dependencies import Caller, ResourcesDep, get_answerer, get_stream_timing
from app.documents.library import check_all_exist
from app.llm.base import Message, Role
from app.resources import Resources
from app.routers.search_filters import FilterFields

router = APIRouter(prefix="/api/v1/chat", tags=["chat"])

AnswererDep = Annotated[Answerer, Depends(get_answerer)]
StreamTimingDep = Annotated[StreamTiming, Depends(get_stream_timing)]


def _not_blank(content: str) -> str:
    if not content.strip():
        raise ValueError("it is blank")
    return content


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant", "system"] = "user"
    content: Annotated[AnyText, AfterValidator(_not_blank)] = Field(min_length=1, max_length=10_000)


class ChatRequest(FilterFields):
    """The last message must be the user's: it is what is asked."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=200)
    model: str | None = Field(
        default=None, max_length=200, description="`provider/model`, or a bare model id."
    )
    temperature: float = Field(default=0.7, ge=0, le=2)
    max_tokens: int = Field(default=1024, ge=1, le=4096)
    stream: bool = False
    use_rag: bool = True

    @field_validator("messages")
    @classmethod
    def _last_is_users(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError("the last message must have the role `user`")
        return messages


class CitationOut(BaseModel):
    """`quote` is the page's own words; `quote_start` and `quote_end` count in the page's text."""

    n: int = Field(description="The marker `[n]` in the answer.")
    document_id: UUID
    filename: str
    chunk_id: UUID
    chunk_index: int
    text: str
    score: float = Field(ge=0, le=1)
    page_start: int
    page_end: int
    quote: str
    quote_start: int
    quote_end: int
    verified: bool
    url: str = Field(description="The document, opened at the page.")


class ChatMetadata(BaseModel):
    request_id: str
    processing_time_ms: float
    tokens_used: int
    estimated_cost_usd: float | None = Field(description="Null where the price is unknown.")
    model_version: str
    timestamp: datetime


class ChatResponse(BaseModel):
    response: str
    citations: list[CitationOut]
    tokens_used: int
    model: str = Field(description="As requested; the one chosen when none was.")
    processing_time_ms: float
    finish_reason: str
    degraded: bool = Field(description="True when no language model was used.")
    usage: dict[str, Any]
    metadata: ChatMetadata


@router.post("/", response_model=ChatResponse)
async def chat(
    body: ChatRequest,
    request: Request,
    caller: Caller,
    resources: ResourcesDep,
    answerer: AnswererDep,
    timing: StreamTimingDep,
) -> ChatResponse | Response:
    """Answer from the caller's documents, with citations. `stream: true` streams instead."""
    started = time.perf_counter()
    prepared = await _prepare(body, caller, resources, answerer)
    if body.stream:
        return await _respond_with_stream(prepared, request, timing)
    events = await while_connected(request.receive, _collect(prepared))
    return _to_response(
        events, body, prepared, request.state.request_id, 1000 * (time.perf_counter() - started)
    )


@router.post("/stream", response_class=EventSourceResponse)
async def chat_stream(
    body: ChatRequest,
    request: Request,
    caller: Caller,
    resources: ResourcesDep,
    answerer: AnswererDep,
    timing: StreamTimingDep,
) -> Response:
    """The same as frames: `{"token": …}` and at last `{"done": true}`."""
    prepared = await _prepare(body, caller, resources, answerer)
    return await _respond_with_stream(prepared, request, timing)


async def _prepare(
    body: ChatRequest, caller: Principal, resources: Resources, answerer: Answerer
) -> Prepared:
    """Do every check that can fail, so that a failure still has a status of its own."""
    if body.document_ids:
        async with resources.db.transaction(caller) as session:
            await check_all_exist(session, caller.org_id, body.document_ids)
    question = Question(
        messages=tuple(Message(Role(m.role), m.content) for m in body.messages),
        model=body.model,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        use_rag=body.use_rag,
        filter=body.to_filter(),
    )
    return await answerer.prepare(caller, question)


async def _respond_with_stream(
    prepared: Prepared, request: Request, timing: StreamTiming
) -> Response:
    """Let the provider's first event decide the status, if it comes in time."""
    stream = AnswerStream(answer(prepared))
    try:
        await while_connected(request.receive, stream.wait_until_begun(timing.status_wait_s))
    except BaseException:
        await stream.aclose()
        raise
    return FrameStream(stream, timing)


async def _collect(prepared: Prepared) -> list[Event]:
    async with aclosing(answer(prepared)) as events:
        return [event async for event in events]


def _to_response(
    events: list[Event], body: ChatRequest, prepared: Prepared, request_id: str, elapsed_ms: float
) -> ChatResponse:
    done = events[-1]
    assert isinstance(done, Done) and isinstance(events[0], Start)  # noqa: S101  # answer()'s promise
    tokens_used = done.usage.input_tokens + done.usage.output_tokens
    elapsed_ms = round(elapsed_ms, 1)
    return ChatResponse(
        response="".join(event.text for event in events if isinstance(event, Token)),
        citations=_distinct_citations(events),
        tokens_used=tokens_used,
        model=body.model or prepared.model_id,
        processing_time_ms=elapsed_ms,
        finish_reason=done.finish_reason,
        degraded=done.degraded,
        usage=usage_frame(done.usage),
        metadata=ChatMetadata(
            request_id=request_id,
            processing_time_ms=elapsed_ms,
            tokens_used=tokens_used,
            estimated_cost_usd=None if done.cost_usd is None else float(done.cost_usd),
            model_version=done.model_version,
            timestamp=datetime.now(UTC),
        ),
    )


def _distinct_citations(events: list[Event]) -> list[CitationOut]:
    """Each quote once, in the order in which the answer cites.

    Twice if it supports one sentence and fails another.
    """
    distinct: dict[tuple[int, int, bool], Citation] = {}
    for event in events:
        if isinstance(event, Citation):
            distinct.setdefault((event.n, event.quote_start, event.verified), event)
    return [_citation_out(citation) for citation in distinct.values()]


def _citation_out(citation: Citation) -> CitationOut:
    return CitationOut(
        n=citation.n,
        document_id=citation.document_id,
        filename=citation.filename,
        chunk_id=citation.chunk_id,
        chunk_index=citation.chunk_index,
        text=citation.text,
        score=citation.score,
        page_start=citation.page_start,
        page_end=citation.page_end,
        quote=citation.quote,
        quote_start=citation.quote_start,
        quote_end=citation.quote_end,
        verified=citation.verified,
        url=f"/api/v1/documents/{citation.document_id}/content#page={citation.page_start}",
    )
