"""What the documents of an organization take up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.documents.library import is_visible
from app.models.documents import Document, DocumentStatus

# Runs as the owner: the documents that are private to others are counted too.
_MEASURE = text("SELECT * FROM measure_documents(:org_id)")


@dataclass(frozen=True, slots=True)
class LargeDocument:
    id: UUID
    filename: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StorageUse:
    """Of documents that are not deleted. `size_bytes` is that of their newest contents; pages and
    chunks are those of what is searched. `by_status` leaves out statuses that none has."""

    documents: int
    size_bytes: int
    pages: int
    chunks: int
    by_status: Mapping[DocumentStatus, int]
    largest: Sequence[LargeDocument]


async def measure_storage(session: AsyncSession, org_id: UUID, *, largest: int) -> StorageUse:
    """Add up all documents of an organization, and name the `largest` ones that the caller sees."""
    totals = (await session.execute(_MEASURE, {"org_id": org_id})).all()
    rows = await session.execute(
        select(Document.id, Document.filename, Document.size_bytes)
        .where(*is_visible(org_id))
        .order_by(Document.size_bytes.desc(), Document.id)
        .limit(largest)
    )
    return StorageUse(
        documents=sum(row.documents for row in totals),
        size_bytes=sum(row.size_bytes for row in totals),
        pages=sum(row.pages for row in totals),
        chunks=sum(row.chunks for row in totals),
        by_status={DocumentStatus(row.status): row.documents for row in totals},
        largest=[LargeDocument(row.id, row.filename, row.size_bytes) for row in rows],
    )
