"""The documents of one organization: list, get, delete, and purge what was deleted."""

import unicodedata
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Select, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.errors import NotFound
from app.core.jobs import JobName, enqueue
from app.core.pagination import Cursor, Page
from app.core.storage import BlobStore
from app.models.documents import Document, DocumentStatus

_UNCOUNT_LEXEMES = text("""
    SELECT count_lexemes(org_id, id, generation, -1) FROM documents
    WHERE org_id = :org_id AND id = :id AND generation > 0
""")
# To the end of the queue with it: one that can't be removed must not hold up the others.
_TAKE_DELETED = text("""
    UPDATE documents SET queued_at = now()
    WHERE (org_id, id) = (
        SELECT org_id, id FROM documents WHERE status = 'deleting'
        ORDER BY queued_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING org_id, id
""")


async def list_documents(
    session: AsyncSession,
    org_id: UUID,
    *,
    status: DocumentStatus | None,
    name: str | None,
    cursor: Cursor | None,
    limit: int,
) -> Page[Document]:
    """Return a page of documents, newest first; `name` is any part of the file name."""
    query = _visible(org_id).order_by(Document.created_at.desc(), Document.id.desc())
    if status is not None:
        query = query.where(Document.status == status)
    if name:
        # As file names are stored.
        composed = unicodedata.normalize("NFC", name)
        query = query.where(Document.filename.icontains(composed, autoescape=True))
    if cursor is not None:
        query = query.where(
            tuple_(Document.created_at, Document.id) < (cursor.created_at, cursor.id)
        )
    rows = (await session.scalars(query.limit(limit + 1))).all()
    items = rows[:limit]
    has_more = len(rows) > limit
    next_cursor = Cursor(items[-1].created_at, items[-1].id).encode() if has_more else None
    return Page(items, next_cursor)


async def get_document(session: AsyncSession, org_id: UUID, document_id: UUID) -> Document:
    """Raises NotFound, also for another organization's document and one that is being deleted."""
    document = await session.scalar(_visible(org_id).where(Document.id == document_id))
    if document is None:
        raise NotFound("There is no such document.")
    return document


async def check_all_exist(session: AsyncSession, org_id: UUID, document_ids: list[UUID]) -> None:
    """Raises NotFound when any of the ids names no document of the organization."""
    found = await session.scalars(
        select(Document.id).where(
            Document.org_id == org_id,
            Document.id.in_(document_ids),
            Document.deleted_at.is_(None),
        )
    )
    if len(set(found)) < len(set(document_ids)):
        raise NotFound("There is no such document.", param="document_ids")


async def delete_document(session: AsyncSession, org_id: UUID, document_id: UUID) -> None:
    """Hide the document from every reader at once; a worker removes it. Raises NotFound."""
    result: CursorResult[Any] = await session.execute(  # type: ignore[assignment]  # an UPDATE
        update(Document)
        .where(Document.org_id == org_id, Document.id == document_id, Document.deleted_at.is_(None))
        .values(
            status=DocumentStatus.DELETING,
            stage=None,
            error_code=None,
            error_message=None,
            deleted_at=func.now(),
            queued_at=func.now(),
            updated_at=func.now(),
        )
        .execution_options(synchronize_session=False)
    )
    if result.rowcount == 0:
        raise NotFound("There is no such document.")
    enqueue(session, JobName.PURGE)


async def purge_next(db: Database, storage: BlobStore) -> bool:
    """Remove one deleted document: chunks, then the file, then the row. False when none is left.

    Killed at any point, or raising what the disk or the database raises, it leaves a document
    that a later call takes up again.
    """
    async with db.system_transaction() as session:
        row = (await session.execute(_TAKE_DELETED)).one_or_none()
    if row is None:
        return False
    async with db.system_transaction() as session:
        # Together with the chunks, so that a second attempt finds nothing left to take out.
        await session.execute(_UNCOUNT_LEXEMES, {"org_id": row.org_id, "id": row.id})
        for table in ("chunk_embeddings", "chunks", "pages"):
            await session.execute(
                text(f"DELETE FROM {table} WHERE org_id = :org_id AND document_id = :id"),  # noqa: S608
                {"org_id": row.org_id, "id": row.id},
            )
    storage.delete(row.org_id, row.id)
    async with db.system_transaction() as session:
        await session.execute(
            text("DELETE FROM documents WHERE org_id = :org_id AND id = :id AND status='deleting'"),
            {"org_id": row.org_id, "id": row.id},
        )
    return True


def _visible(org_id: UUID) -> Select[Document]:
    return select(Document).where(Document.org_id == org_id, Document.deleted_at.is_(None))
