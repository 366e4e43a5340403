"""The documents of one organization: list them and their tags, get one, hold one to change it."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import NotFound
from app.documents.sorting import SortCursor, Sorting
from app.models.document_metadata import Value
from app.models.documents import Document, DocumentStatus, Visibility

# Numbered in one pass. Joined to the documents it was, before an ANALYZE, a pass for each of them.
# A shared one has the same place for everybody, whoever has private ones before it.
_QUEUE_POSITIONS = text("""
    SELECT id, position FROM (
        SELECT id, CASE WHEN private_to IS NULL
            THEN count(*) FILTER (WHERE private_to IS NULL) OVER queue
            ELSE count(*) OVER queue END AS position
        FROM documents WHERE org_id = :org_id AND status = 'queued'
        WINDOW queue AS (ORDER BY queued_at, id)) AS placed
    WHERE id = ANY(:ids)
""")
_TAGS = text("""
    SELECT tag, count(*) AS documents FROM documents, unnest(tags) AS tag
    WHERE org_id = :org_id AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
      AND starts_with(lower(tag), lower(:prefix))
    GROUP BY tag ORDER BY documents DESC, tag LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document and its place among the queued ones that everybody sees, or its owner.

    1 is next; None unless it is queued.
    """

    document: Document
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents: of one of `statuses` unless empty, with `name` in the file name, with all of
    `tags`, and of a visibility."""

    statuses: Sequence[DocumentStatus] = ()
    name: str | None = None
    tags: Sequence[str] = ()
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True)
class DocumentList:
    """A page of documents. `total` is how many there are on all pages.

    `next_cursor` is None at the end.
    """

    items: Sequence[DocumentView]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class TagCount:
    """How many documents have a tag."""

    tag: str
    documents: int


async def list_documents(
    session: AsyncSession,
    org_id: UUID,
    *,
    which: DocumentFilter,
    sorting: Sorting,
    cursor: SortCursor | None,
    limit: int,
) -> DocumentList:
    """Return a page of documents. Raises UnprocessableRequest for a cursor of another order."""
    conditions = [*is_visible(org_id), *_conditions(which)]
    query = sorting.apply(select(Document, sorting.key).where(*conditions), cursor)
    rows = (await session.execute(query.limit(limit + 1))).all()
    shown = [row[0] for row in rows[:limit]]
    next_cursor = None
    if len(rows) > limit:
        last, value = rows[limit - 1]
        next_cursor = SortCursor(sorting, value, last.id).encode()
    total = len(rows)
    if cursor is not None or next_cursor is not None:
        count = select(func.count()).select_from(Document).where(*conditions)
        total = await session.scalar(count) or 0
    return DocumentList(await _place(session, org_id, shown), next_cursor, total)


async def list_tags(
    session: AsyncSession, org_id: UUID, *, prefix: str | None, limit: int
) -> list[TagCount]:
    """Return the tags that documents have, the most used first, then by name.

    A prefix is compared without its case.
    """
    rows = await session.execute(
        _TAGS, {"org_id": org_id, "prefix": _composed(prefix or ""), "limit": limit}
    )
    return [TagCount(row.tag, row.documents) for row in rows]


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


async def check_all_exist(
    session: AsyncSession,
    org_id: UUID,
    document_ids: Sequence[UUID],
    *,
    param: str = "document_ids",
) -> None:
    """Raises NotFound when any of the ids names no document of the organization."""
    found = await session.scalars(
        select(Document.id).where(*is_visible(org_id), Document.id.in_(document_ids))
    )
    if len(set(found)) < len(set(document_ids)):
        raise NotFound("There is no such document.", param=param)


def _conditions(which: DocumentFilter) -> Iterator[ColumnElement[bool]]:
    if which.statuses:
        yield Document.status.in_(which.statuses)
    if which.name:
        yield Document.filename.icontains(_composed(which.name), autoescape=True)
    if which.tags:
        yield Document.tags.contains(list(which.tags))
    if which.visibility is not None:
        is_shared = Document.private_to.is_(None)
        yield is_shared if which.visibility == Visibility.SHARED else ~is_shared


def _composed(words: str) -> str:
    """As file names and tags are stored."""
    return unicodedata.normalize("NFC", words)


def _visible(org_id: UUID) -> Select[Document]:
    return select(Document).where(*is_visible(org_id))


def is_visible(org_id: UUID) -> tuple[ColumnElement[bool], ...]:
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
