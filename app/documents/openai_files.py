"""Documents as files of OpenAI's API: the same rows, and what they were uploaded for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, and_, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.documents.intake import UploadResult, latest_expiry
from app.documents.library import is_visible
from app.documents.listing import Listed, Listing
from app.models.documents import Document
from app.models.vector_stores import FilePurpose, OpenAIFile

# Of what came in another way.
_OTHERS = FilePurpose.USER_DATA
_purpose_sql = func.coalesce(OpenAIFile.purpose, _OTHERS.value)


@dataclass(frozen=True, slots=True)
class FileView:
    document: Document
    purpose: FilePurpose


async def describe_file(
    session: AsyncSession,
    upload: UploadResult,
    *,
    purpose: FilePurpose,
    expires_after_s: int | None,
) -> FileView:
    """Keep what was said of an uploaded document: what it is for, and when it is to be deleted.

    A known one gets the new purpose, and an expiry only in place of an earlier one.
    """
    document = upload.document
    statement = insert(OpenAIFile).values(
        org_id=document.org_id, document_id=document.id, purpose=purpose.value
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["org_id", "document_id"], set_={"purpose": purpose.value}
        )
    )
    if expires_after_s is not None:
        # A known one may be older than that: for it, from now.
        begun = document.created_at if upload.is_new else datetime.now(UTC)
        expires_at = begun + timedelta(seconds=expires_after_s)
        document.expires_at = expires_at if upload.is_new else latest_expiry(document, expires_at)
        await session.flush()
    return FileView(document, purpose)


async def get_file(session: AsyncSession, org_id: UUID, document_id: UUID) -> FileView:
    """Raises NotFound."""
    row = (await session.execute(_files(org_id).where(Document.id == document_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such file.", param="file_id")
    document, said = row
    return FileView(document, FilePurpose(said))


async def list_files(
    session: AsyncSession, org_id: UUID, listing: Listing, *, purpose: str | None
) -> Listed[FileView]:
    """Return all documents that the caller may see, whichever way they came."""
    query = _files(org_id)
    if purpose is not None:
        query = query.where(_purpose_sql == purpose)
    found = await listing.read(session, query, Document.id)
    views = [FileView(document, FilePurpose(said)) for document, said in found.items]
    return Listed(views, found.has_more)


def _files(org_id: UUID) -> Select[Document, FilePurpose]:
    return (
        select(Document, _purpose_sql)
        .outerjoin(
            OpenAIFile,
            and_(OpenAIFile.org_id == Document.org_id, OpenAIFile.document_id == Document.id),
        )
        .where(*is_visible(org_id))
    )
