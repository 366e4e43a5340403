"""Chunks that share words with the question, by Postgres full-text search."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Uuid

from app.retrieval.base import Candidate

_SEARCH = text(
    "SELECT chunk_id, rank FROM search_chunks_fulltext(:org_id, :document_ids, :query, :limit)"
).bindparams(bindparam("org_id", type_=Uuid()), bindparam("document_ids", type_=ARRAY(Uuid())))


async def search_fulltext(
    session: AsyncSession,
    org_id: UUID,
    *,
    query: str,
    document_ids: Sequence[UUID] | None,
    limit: int,
) -> list[Candidate]:
    """Return chunks with any word of the query, best first; the score is `ts_rank`.

    `document_ids` of None means all documents. Any text is a valid query.
    """
    rows = await session.execute(
        _SEARCH,
        {
            "org_id": org_id,
            "document_ids": list(document_ids) if document_ids else None,
            "query": query.replace("\0", " "),
            "limit": limit,
        },
    )
    return [Candidate(row.chunk_id, row.rank) for row in rows]
