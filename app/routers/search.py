"""Retrieval without generation."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from app.core.errors import UnprocessableRequest
from app.core.text import AnyText
from app.dependencies import Caller, ResourcesDep, get_retriever
from app.documents.library import check_all_exist
from app.retrieval.pipeline import Retriever

router = APIRouter(prefix="/api/v1/search", tags=["search"])


class SearchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: AnyText = Field(
        min_length=1, max_length=4_000, examples=["What were net sales in 2018?"]
    )
    top_k: int = Field(default=5, ge=1, le=50)
    document_ids: list[UUID] = Field(
        default_factory=list, max_length=1_000, description="Empty means all documents."
    )


class SearchHit(BaseModel):
    document_id: UUID
    filename: str
    chunk_id: UUID
    chunk_index: int
    text: str
    page_start: int
    page_end: int
    score: float = Field(ge=0, le=1)


class SearchResponse(BaseModel):
    results: list[SearchHit]


@router.post("")
async def search(
    body: SearchRequest,
    caller: Caller,
    resources: ResourcesDep,
    retriever: Annotated[Retriever, Depends(get_retriever)],
) -> SearchResponse:
    """The chunks that answer a query, best first."""
    query = body.query.strip()
    if not query:
        raise UnprocessableRequest("query: it is blank.", code="validation_error", param="query")
    if body.document_ids:
        async with resources.db.transaction(caller) as session:
            await check_all_exist(session, caller.org_id, body.document_ids)
    chunks = await retriever.retrieve(
        caller, query, top_k=body.top_k, document_ids=body.document_ids
    )
    return SearchResponse(
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
            for chunk in chunks
        ]
    )
