"""The versions that a document has had. `record_document_version()` in the database writes them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.documents.library import get_document
from app.models.documents import DocumentVersion, VersionStatus


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version; `is_served` says whether it is the one that is searched and downloaded."""

    version: int
    filename: str
    media_type: str
    size_bytes: int | None
    uploaded_at: datetime
    ready_at: datetime | None
    status: VersionStatus
    error_code: str | None
    page_count: int | None
    chunk_count: int | None
    is_served: bool


_COLUMNS = [getattr(DocumentVersion, f.name) for f in fields(VersionView) if f.name != "is_served"]


async def list_versions(
    session: AsyncSession, org_id: UUID, document_id: UUID, *, limit: int
) -> Sequence[VersionView]:
    """Return the newest versions of a document, newest first. Raises NotFound."""
    document = await get_document(session, org_id, document_id)
    served = literal(document.ready_version)
    rows = await session.execute(
        select(*_COLUMNS, (DocumentVersion.version == served).label("is_served"))
        .where(DocumentVersion.org_id == org_id, DocumentVersion.document_id == document_id)
        .order_by(DocumentVersion.version.desc())
        .limit(limit)
    )
    return [VersionView(**row._mapping) for row in rows]
