"""Names of documents and texts of passages that stored answers refer to, as readers see them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.chat.events import Citation
from app.models.documents import Document, StoredChunk

Filenames = dict[UUID, str]


async def find_filenames(
    session: AsyncSession, org_id: UUID, document_ids: Iterable[UUID]
) -> Filenames:
    """Return the file names by id. A document that was deleted or has expired has none."""
    wanted = set(document_ids)
    if not wanted:
        return {}
    rows = await session.execute(
        select(
            Document.id, func.coalesce(Document.ready_filename, Document.filename).label("filename")
        ).where(
            Document.org_id == org_id,
            Document.id.in_(wanted),
            Document.deleted_at.is_(None),
            or_(Document.expires_at.is_(None), Document.expires_at > func.now()),
        )
    )
    return {row.id: row.filename for row in rows}


async def with_passages(
    session: AsyncSession, org_id: UUID, citations: Sequence[Citation]
) -> list[Citation]:
    """Return the citations with the texts of their chunks.

    One whose chunk was replaced since has its quote for text, as one of a deleted document has: the
    quote of that is empty.
    """
    rows = await session.execute(
        select(StoredChunk.id, StoredChunk.text).where(
            StoredChunk.org_id == org_id,
            StoredChunk.id.in_({citation.chunk_id for citation in citations if citation.quote}),
        )
    )
    texts = {row.id: row.text for row in rows}
    return [replace(each, text=texts.get(each.chunk_id, each.quote)) for each in citations]
