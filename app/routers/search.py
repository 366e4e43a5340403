"""Retrieval without generation."""

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.core.errors import UnprocessableRequest
from app.core.text import AnyText
from app.dependencies import ResourcesDep, Searcher
from app.documents.library import check_all_exist
from app.llm.base import Message, Role
from app.retrieval.base import RetrievalQuery
from app.retrieval.pipeline import Retrieval
from app.retrieval.trace import Cut, StepOutcome
from app.routers.chat_requests import ChatMessage
from app.routers.search_filters import FilterFields

router = APIRouter(prefix="/api/v1/search", tags=["search"])


class SearchRequest(FilterFields):
    query: AnyText = Field(
        min_length=1, max_length=4_000, examples=["What were net sales in 2018?"]
    )
    top_k: int = Field(default=5, ge=1, le=50)
    history: list[ChatMessage] = Field(
        default_factory=list,
        max_length=200,
        description="The turns before, oldest first: a follow-up is searched as a full question.",
    )
    explain: bool = Field(default=False, description="Adds `trace`: how the results were found.")


class SearchHit(BaseModel):
    document_id: UUID
    filename: str
    chunk_id: UUID
    chunk_index: int
    text: str
    page_start: int
    page_end: int
    score: float = Field(
        ge=0, le=1, description="The probability that it answers; after reranking, its place's."
    )


class StepOut(BaseModel):
    name: str
    outcome: StepOutcome
    reason: str | None


class PlaceOut(BaseModel):
    rank: int = Field(ge=1)
    score: float = Field(description="The stage's own score.")


class TracedCandidateOut(BaseModel):
    chunk_id: UUID
    document_id: UUID
    filename: str
    chunk_index: int
    page_start: int
    page_end: int
    similarity: float | None = Field(description="The cosine; null for a chunk without a vector.")
    fulltext: float = Field(ge=0, description="The chunk's share of the question's words, by BM25.")
    places: dict[str, PlaceOut] = Field(description="By stage, in the order of the stages.")
    cut: Cut | None = Field(description="Why it is not among the results; null for a result.")


class TraceOut(BaseModel):
    """How the results were found. Timings are in milliseconds."""

    asked: str
    queries: list[str] = Field(description="What was searched, the main query first.")
    phrases: list[str] = Field(description="Other names of what is asked, searched with it.")
    steps: list[StepOut]
    plan: str = Field(description="How vectors were searched: exact, hnsw or none.")
    space_id: int | None
    answerability: float = Field(
        ge=0, le=1, description="The probability that the results hold an answer."
    )
    is_answerable: bool = Field(description="False where no model would be asked.")
    timings_ms: dict[str, float]
    candidates: list[TracedCandidateOut]


class SearchResponse(BaseModel):
    results: list[SearchHit]
    trace: TraceOut | None = Field(default=None, description="With `explain` only.")


@router.post("", response_model=SearchResponse)
async def search(body: SearchRequest, caller: Searcher, resources: ResourcesDep) -> Response:
    """The chunks that answer a query, best first."""
    query = body.query.strip()
    if not query:
        raise UnprocessableRequest("query: it is blank.", code="validation_error", param="query")
    if body.document_ids:
        async with resources.db.transaction(caller) as session:
            await check_all_exist(session, caller.org_id, body.document_ids)
    history = tuple(Message(Role(turn.role), turn.content) for turn in body.history)
    found = await resources.retriever.retrieve(
        caller,
        RetrievalQuery(query, body.top_k, body.to_filter(), history),
        meter=resources.ledger.meter(caller),
    )
    response = SearchResponse(
        results=[
            SearchHit(
                document_id=chunk.document_id,
                filename=chunk.filename,
                chunk_id=chunk.chunk_id,
                chunk_index=chunk.ordinal,
                text=chunk.text,
                page_start=chunk.page_start,
                page_end=chunk.page_end,
                score=chunk.score,
            )
            for chunk in found.chunks
        ]
    )
    if body.explain:
        response.trace = _trace(found)
    # Not the model: FastAPI would validate it once more.
    return Response(response.model_dump_json(exclude_unset=True), media_type="application/json")


def _trace(found: Retrieval) -> TraceOut:
    trace = found.trace
    return TraceOut(
        asked=trace.asked,
        queries=trace.queries,
        phrases=trace.phrases,
        steps=[
            StepOut(name=step.name, outcome=step.outcome, reason=step.reason)
            for step in trace.steps
        ],
        plan=trace.plan,
        space_id=trace.space_id,
        answerability=found.answerability,
        is_answerable=found.is_answerable,
        timings_ms={name: round(elapsed, 3) for name, elapsed in trace.timings_ms.items()},
        candidates=[
            TracedCandidateOut(
                chunk_id=candidate.chunk_id,
                document_id=candidate.document_id,
                filename=candidate.filename,
                chunk_index=candidate.ordinal,
                page_start=candidate.page_start,
                page_end=candidate.page_end,
                similarity=candidate.similarity,
                fulltext=candidate.fulltext,
                places={
                    stage: PlaceOut(rank=place.rank, score=place.score)
                    for stage, place in candidate.places.items()
                },
                cut=candidate.cut,
            )
            for candidate in trace.candidates.values()
        ],
    )
