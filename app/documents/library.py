"""The documents of one organization: list them, get one, hold one to change it."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.core.pagination import Cursor, Page
from app.models.document_metadata import Value
from app.models.documents import Document, DocumentStatus

# Numbered in one pass. Joined to the documents it was, before an ANALYZE, a pass for each of them.
_QUEUE_POSITIONS = text("""
    SELECT id, position FROM (
        SELECT id, row_number() OVER (ORDER BY queued_at, id) AS position
        FROM documents WHERE org_id = :org_id AND status = 'queued') AS queue
    WHERE id = ANY(:ids)
""")


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document and its place among the queued ones of its organization.

    1 is next; None unless it is queued.
    """

    document: Document
    queue_position: int | None


async def list_documents(
    session: AsyncSession,
    org_id: UUID,
    *,
    status: DocumentStatus | None,
    name: str | None,
    tags: Sequence[str],
    cursor: Cursor | None,
    limit: int,
) -> Page[DocumentView]:
    """Return a page of documents, newest first, that have all of `tags`.

    `name` is any part of the file name.
    """
    query = _visible(org_id).order_by(Document.created_at.desc(), Document.id.desc())
    if status is not None:
        query = query.where(Document.status == status)
    if name:
        # As file names are stored.
        composed = unicodedata.normalize("NFC", name)
        query = query.where(Document.filename.icontains(composed, autoescape=True))
    if tags:
        query = query.where(Document.tags.contains(list(tags)))
    if cursor is not None:
        query = query.where(
            tuple_(Document.created_at, Document.id) < (cursor.created_at, cursor.id)
        )
    rows = (await session.scalars(query.limit(limit + 1))).all()
    items = rows[:limit]
    has_more = len(rows) > limit
    next_cursor = Cursor(items[-1].created_at, items[-1].id).encode() if has_more else None
    return Page(await _place(session, org_id, items), next_cursor)


async def get_document(session: AsyncSession, org_id: UUID, document_id: UUID) -> Document:
    """Raises NotFound, also for another organization's document and one that is deleted."""
    document = await session.scalar(_visible(org_id).where(Document.id == document_id))
    if document is None:
        raise _not_found()
    return document


async def get_view(session: AsyncSession, org_id: UUID, document_id: UUID) -> DocumentView:
    """Like `get_document`, with the place in the queue."""
    document = await get_document(session, org_id, document_id)
    return (await _place(session, org_id, [document]))[0]


async def lock_document(session: AsyncSession, org_id: UUID, document_id: UUID) -> Document:
    """Like `get_document`; nobody else changes the row until the transaction ends."""
    document = await session.scalar(
        _visible(org_id).where(Document.id == document_id).with_for_update()
    )
    if document is None:
        raise _not_found()
    return document


async def describe_document(
    session: AsyncSession,
    org_id: UUID,
    document_id: UUID,
    *,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Replace tags or metadata, each unless None; searches go by them at once. Raises NotFound."""
    document = await lock_document(session, org_id, document_id)
    if tags is not None:
        document.tags = list(tags)
    if metadata is not None:
        document.metadata_ = dict(metadata)
    document.updated_at = func.now()


async def check_all_exist(session: AsyncSession, org_id: UUID, document_ids: list[UUID]) -> None:
    """Raises NotFound when any of the ids names no document of the organization."""
    found = await session.scalars(
        select(Document.id).where(*_is_visible(org_id), Document.id.in_(document_ids))
    )
    if len(set(found)) < len(set(document_ids)):
        raise NotFound("There is no such document.", param="document_ids")


def _visible(org_id: UUID) -> Select[Document]:
    return select(Document).where(*_is_visible(org_id))


def _is_visible(org_id: UUID) -> tuple[ColumnElement[bool], ...]:
    """An expired document is gone on the second, not when the sweep gets to it."""
    return (
        Document.org_id == org_id,
        Document.deleted_at.is_(None),
        or_(Document.expires_at.is_(None), Document.expires_at > func.now()),
    )


async def _place(
    session: AsyncSession, org_id: UUID, documents: Sequence[Document]
) -> list[DocumentView]:
    queued = [d.id for d in documents if d.status == DocumentStatus.QUEUED]
    positions: dict[UUID, int] = {}
    if queued:
        rows = await session.execute(_QUEUE_POSITIONS, {"org_id": org_id, "ids": queued})
        positions = {row.id: row.position for row in rows}
        # One that has left the queue since it was read: its turn had come.
        positions = dict.fromkeys(queued, 1) | positions
    return [DocumentView(document, positions.get(document.id)) for document in documents]


def _not_found() -> NotFound:
    return NotFound("There is no such document.")
