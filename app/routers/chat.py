"""Ask: as JSON, or as a stream of frames."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse

from app.accounts.idempotency import Answer as Begun
from app.accounts.principal import Principal
from app.chat.document_texts import with_passages
from app.chat.events import Citation, Done, Failure, Start, spans_frame, usage_frame
from app.chat.pipeline import Answer, Answerer, Question, Route
from app.chat.runs import RunEngine
from app.chat.streaming import AnswerStream, EncodedAnswer, NumberedFrames
from app.core.connection import while_served
from app.core.db import Database
from app.core.errors import (
    AppError,
    BudgetExceeded,
    Conflict,
    InvalidRequest,
    ProviderError,
    ProviderErrorKind,
    RateLimited,
    Unavailable,
)
from app.core.sse import EncodedStream, StreamTiming
from app.dependencies import (
    AnswererDep,
    Asker,
    ResourcesDep,
    RunsDep,
    StreamTimingDep,
    take_stream_place,
)
from app.routers.chat_requests import ChatRequest, IdempotencyKeyHeader, begin_answer
from app.routers.messages import UnreadyDocumentOut

router = APIRouter(prefix="/api/v1/chat", tags=["chat"])

_POLL_S = 0.5


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
    page_label: str | None = Field(description="The page's printed name, where it has another.")
    quote: str
    quote_start: int
    quote_end: int
    chunk_start: int = Field(description="Where the quote stands in `text`.")
    chunk_end: int
    answer_start: int = Field(description="Where the marker stands in the answer, the first time.")
    verified: bool = Field(description="Whether the quote supports the sentence that cites it.")
    missing_numbers: list[str] = Field(description="Of that sentence, but not in the quote.")
    url: str = Field(description="The document, opened at the page.")


class AnswerSpanOut(BaseModel):
    """Code points, end exclusive."""

    start: int
    end: int


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
    run_id: UUID
    message_id: UUID
    conversation_id: UUID | None = Field(description="Null for an answer that is not kept.")
    finish_reason: str
    degraded: bool = Field(description="True when no language model was used.")
    usage: dict[str, Any]
    unsupported: list[AnswerSpanOut] = Field(description="Of the answer: no source supports these.")
    unready_documents: list[UnreadyDocumentOut] = Field(
        description="Left out, as they can't be searched yet."
    )
    metadata: ChatMetadata


@router.post("/", response_model=ChatResponse)
async def chat(
    body: ChatRequest,
    request: Request,
    response: Response,
    caller: Asker,
    resources: ResourcesDep,
    answerer: AnswererDep,
    runs: RunsDep,
    timing: StreamTimingDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> ChatResponse | Response:
    """Answer from the caller's documents, with citations. `stream: true` streams instead.

    In a conversation, or with an `Idempotency-Key`, the answer is kept: see `/chat/runs`.
    """
    started = time.perf_counter()
    if body.stream:
        return await chat_stream(body, request, caller, answerer, runs, timing, idempotency_key)
    if _is_kept(body, idempotency_key):
        begun = await begin_answer(body, request, caller, answerer, runs, key=idempotency_key)
        run_id = UUID(begun.body["run_id"])
        _mark_replayed(response, begun)
        collected = await while_served(request, collect_run(resources.db, runs, caller, run_id))
    else:
        collected = await answer_whole(body.to_question(), request, caller, answerer)
    set_route_headers(response, collected.route)
    elapsed_ms = 1000 * (time.perf_counter() - started)
    return _to_response(collected, body, request.state.request_id, elapsed_ms)


@router.post("/stream", response_class=EventSourceResponse)
async def chat_stream(
    body: ChatRequest,
    request: Request,
    caller: Asker,
    answerer: AnswererDep,
    runs: RunsDep,
    timing: StreamTimingDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Response:
    """The same as frames: `{"token": …}` and at last `{"done": true}`."""
    await take_stream_place(request, caller)
    if not _is_kept(body, idempotency_key):
        answering = await open_stream(body.to_question(), request, caller, answerer, timing)
        streamed = EncodedStream(EncodedAnswer(answering, NumberedFrames().encode), timing)
        set_route_headers(streamed, answering.route)
        return streamed
    runs.refuse_too_many(caller)  # while nothing has begun that nobody would read
    begun = await begin_answer(body, request, caller, answerer, runs, key=idempotency_key)
    run_id = UUID(begun.body["run_id"])
    wait = runs.wait_until_begun(run_id, timing.status_wait_s)
    await while_served(request, wait)
    reader = await runs.open(caller, run_id)
    assert reader is not None  # noqa: S101  # it has seen nothing yet
    reader.confirm_with(request.state.confirm)
    stream = EncodedStream(reader, timing)
    set_route_headers(stream, runs.find_route(run_id))
    _mark_replayed(stream, begun)
    return stream


def set_route_headers(response: Response, route: Route | None) -> None:
    """Say who answers, as far as that is known."""
    if route is None:
        return
    response.headers["X-Footnote-Provider"] = route.provider
    # A name that somebody made up may hold what no header can.
    response.headers["X-Footnote-Model"] = quote(route.model, safe="/:@+~,;=")
    if route.fallbacks is not None:
        response.headers["X-Footnote-Fallbacks"] = str(route.fallbacks)


def _mark_replayed(response: Response, begun: Begun) -> None:
    if begun.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"


def _is_kept(body: ChatRequest, key: str | None) -> bool:
    """What may be asked for again has to be kept."""
    return body.conversation_id is not None or key is not None


@dataclass(frozen=True, slots=True)
class CollectedAnswer:
    start: Start
    text: str
    citations: Sequence[Citation]
    done: Done

    @property
    def route(self) -> Route | None:
        done = self.done
        if done.provider is None:
            return None
        return Route(done.provider, self.start.model, done.fallbacks)


async def prepare_answer(
    question: Question, request: Request, caller: Principal, answerer: Answerer
) -> Answer:
    """Do every check that can fail, so that a failure still has a status of its own.

    The answer is not kept. Raises ClientGone.
    """

    return await while_served(request, _prepare(question, caller, answerer))


async def answer_whole(
    question: Question, request: Request, caller: Principal, answerer: Answerer
) -> CollectedAnswer:
    """Check, prepare and generate all of it, not kept.

    Raises what refuses the question, what the provider failed with, and ClientGone.
    """

    async def answer() -> CollectedAnswer:
        return await collect(await _prepare(question, caller, answerer))

    return await while_served(request, answer())


async def _prepare(question: Question, caller: Principal, answerer: Answerer) -> Answer:
    admitted = await answerer.admit(caller, question)
    return Answer(await answerer.prepare(caller, admitted))


async def open_stream(
    question: Question,
    request: Request,
    caller: Principal,
    answerer: Answerer,
    timing: StreamTiming,
) -> AnswerStream:
    """Check, prepare, and let the provider's first event decide the status, if it comes in time.

    Raises what refuses the question, what the provider failed with, and ClientGone.
    """

    async def begin() -> AnswerStream:
        return await _begin(await _prepare(question, caller, answerer), request, timing)

    return await while_served(request, begin())


async def begin_stream(answer: Answer, request: Request, timing: StreamTiming) -> AnswerStream:
    """The same for an answer that is prepared."""
    return await while_served(request, _begin(answer, request, timing))


async def _begin(answer: Answer, request: Request, timing: StreamTiming) -> AnswerStream:
    stream = AnswerStream(answer, drain_s=timing.drain_s, confirm=request.state.confirm)
    try:
        await stream.wait_until_begun(timing.status_wait_s)
    except BaseException:
        await stream.aclose()
        raise
    return stream


async def collect(answer: Answer) -> CollectedAnswer:
    """Generate all of it. Raises what the provider failed with."""
    async with aclosing(answer.events()) as events:
        done = [event async for event in events][-1]
    assert isinstance(done, Done)  # noqa: S101  # the promise of events()
    return CollectedAnswer(answer.start, answer.text, answer.citations, done)


# What refuses a call of the model when its prompt is known: the size, the budget, the day's tokens.
_ERRORS: Mapping[str, type[AppError]] = {
    "context_length_exceeded": InvalidRequest,
    "budget_exceeded": BudgetExceeded,
    "budget_reserved": RateLimited,
    "tokens_per_day_exceeded": RateLimited,
}


async def collect_run(
    db: Database, runs: RunEngine, caller: Principal, run_id: UUID
) -> CollectedAnswer:
    """Wait for the end of a run, here or elsewhere. Raises what it failed with."""
    record = None
    while record is None:
        record = (await runs.wait(caller, run_id)).record
        if record is None:  # another process makes it
            await runs.get(caller, run_id)  # so that it counts as being read
            await asyncio.sleep(_POLL_S)
    if record.failure is not None:
        raise _to_error(record.failure)
    if record.start is None:
        raise Conflict("The run was cancelled before it began.", code="run_cancelled")
    async with db.transaction(caller) as session:
        citations = await with_passages(
            session, caller.org_id, [citation for _, citation in record.citations]
        )
    return CollectedAnswer(record.start, record.text, citations, record.done)


def _to_error(failure: Failure) -> AppError:
    """Return what another process made of it: of the error only code and message are kept."""
    prefix, _, kind = failure.code.partition("_")
    if prefix == "provider" and kind in map(str, ProviderErrorKind):
        return ProviderError(failure.message, kind=ProviderErrorKind(kind), provider="")
    return _ERRORS.get(failure.code, Unavailable)(failure.message, code=failure.code)


def _to_response(
    collected: CollectedAnswer,
    body: ChatRequest,
    request_id: str,
    elapsed_ms: float,
) -> ChatResponse:
    start, done = collected.start, collected.done
    tokens_used = done.usage.input_tokens + done.usage.output_tokens
    elapsed_ms = round(elapsed_ms, 1)
    return ChatResponse(
        response=collected.text,
        citations=_distinct_citations(collected.citations),
        tokens_used=tokens_used,
        model=body.model or start.model,
        processing_time_ms=elapsed_ms,
        run_id=start.run_id,
        message_id=start.message_id,
        conversation_id=start.conversation_id,
        finish_reason=done.finish_reason,
        degraded=done.degraded,
        usage=usage_frame(done.usage),
        unsupported=[AnswerSpanOut(**span) for span in spans_frame(done.unsupported)],
        unready_documents=[
            UnreadyDocumentOut.model_validate(each) for each in start.unready_documents
        ],
        metadata=ChatMetadata(
            request_id=request_id,
            processing_time_ms=elapsed_ms,
            tokens_used=tokens_used,
            estimated_cost_usd=None if done.cost_usd is None else float(done.cost_usd),
            model_version=done.model_version,
            timestamp=datetime.now(UTC),
        ),
    )


def _distinct_citations(citations: Sequence[Citation]) -> list[CitationOut]:
    """Each quote once, in the order in which the answer cites.

    Twice if it supports one sentence and fails another.
    """
    distinct: dict[tuple[int, int, bool], Citation] = {}
    for each in citations:
        distinct.setdefault((each.n, each.quote_start, each.verified), each)
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
        page_label=citation.page_label,
        quote=citation.quote,
        quote_start=citation.quote_start,
        quote_end=citation.quote_end,
        chunk_start=citation.chunk_start,
        chunk_end=citation.chunk_end,
        answer_start=citation.answer_start,
        verified=citation.verified,
        missing_numbers=list(citation.missing_numbers),
        url=f"/api/v1/documents/{citation.document_id}/content#page={citation.page_start}",
    )
