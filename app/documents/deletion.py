"""Delete a document: a tombstone at once, then everything of it, then a receipt that was checked.

What is asked for (`delete_document`) and what has expired (`delete_expired`) go the same way.
`purge_next` does the removing, also of the quotes in stored answers. It may be killed anywhere,
and a later call goes on.
"""

import hashlib
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, TextClause, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.errors import NotFound
from app.core.ids import new_id
from app.core.jobs import JobName, enqueue
from app.core.pagination import Page
from app.core.storage import BlobStore
from app.models.deletions import Deletion, DeletionReason
from app.models.documents import Document

log = structlog.get_logger(__name__)

_EXPIRED_AT_ONCE = 500

# Raising the token stops a worker that is at it: it writes nothing more.
_TOMBSTONE = """
    UPDATE documents SET status = 'deleting', stage = NULL, error_code = NULL,
        error_message = NULL, lease_token = lease_token + 1, lease_expires_at = NULL,
        sealed_password = NULL, deleted_at = now(), queued_at = now(), updated_at = now()
    WHERE {which}
    RETURNING org_id, id, private_to
"""
_DELETE_ONE = text(_TOMBSTONE.format(which="org_id = :org_id AND id = :id AND deleted_at IS NULL"))
_DELETE_ONE_EXPIRED = text(
    _TOMBSTONE.format(which="org_id = :org_id AND id = :id AND expires_at <= now()")
)
_DELETE_PRIVATE = text(
    _TOMBSTONE.format(which="org_id = :org_id AND private_to = :user_id AND deleted_at IS NULL")
)
_DELETE_ABANDONED = text(
    _TOMBSTONE.format(
        which="""(org_id, id) IN (
            SELECT org_id, id FROM documents d
            WHERE private_to IS NOT NULL AND deleted_at IS NULL AND NOT EXISTS (
                SELECT FROM memberships m
                WHERE m.org_id = d.org_id AND m.user_id = d.private_to)
            LIMIT :limit FOR UPDATE SKIP LOCKED)"""
    )
)
_DELETE_SOME = text(
    _TOMBSTONE.format(
        which="""(org_id, id) IN (
            SELECT org_id, id FROM documents WHERE org_id = :org_id AND deleted_at IS NULL
            LIMIT :limit FOR UPDATE)"""
    )
)
_DELETE_EXPIRED = text(
    _TOMBSTONE.format(
        which="""(org_id, id) IN (
            SELECT org_id, id FROM documents WHERE expires_at <= now() AND deleted_at IS NULL
            ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)"""
    )
)
# To the end of the queue with it: one that can't be removed must not hold up the others.
_TAKE_DELETED = text("""
    UPDATE documents SET queued_at = now()
    WHERE (org_id, id) = (
        SELECT org_id, id FROM documents WHERE status = 'deleting'
        ORDER BY queued_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING org_id, id
""")
_HOLD_DELETED = text("""
    SELECT true FROM documents WHERE org_id = :org_id AND id = :id AND status = 'deleting'
    FOR UPDATE SKIP LOCKED
""")
_UNCOUNT_LEXEMES = text("""
    SELECT count_lexemes(org_id, id, generation, -1) FROM documents
    WHERE org_id = :org_id AND id = :id AND generation > 0
""")
# An answer without a model is nothing but sentences of documents: its words go with them. Who reads
# it again gets these in one frame, without citations.
_REDACTED = "This answer quoted a document that was deleted."
_REDACTED_FOR_OTHERS = "This answer quoted a document that is private to its owner now."
_REDACT_ANSWERS = text("""
    WITH held AS MATERIALIZED (
        SELECT id FROM messages m
        WHERE org_id = :org_id AND degraded AND EXISTS (
            SELECT FROM citations c
            WHERE c.org_id = m.org_id AND c.message_id = m.id AND c.document_id = :id)
            AND NOT EXISTS (
                SELECT FROM conversations v
                WHERE v.org_id = m.org_id AND v.id = m.conversation_id AND v.user_id = :owner)
        ORDER BY id FOR NO KEY UPDATE),
    redacted AS (
        UPDATE messages m SET content = :redacted, answer_sha256 = :sha256, terms = '',
            unsupported = '{}'
        FROM held WHERE m.org_id = :org_id AND m.id = held.id),
    told AS (
        UPDATE runs r SET token_ids = r.token_ids[1:1], token_offsets = r.token_offsets[1:1]
        FROM held WHERE r.org_id = :org_id AND r.message_id = held.id)
    DELETE FROM citations c USING held WHERE c.org_id = :org_id AND c.message_id = held.id
""")
# Any other answer keeps its markers, which then name a document that was deleted.
# In the order in which they go with their conversation: else the two could deadlock.
_REDACT_QUOTES = text("""
    WITH held AS MATERIALIZED (
        SELECT message_id, event_id FROM citations
        WHERE org_id = :org_id AND document_id = :id AND quote IS NOT NULL
        ORDER BY message_id, event_id FOR NO KEY UPDATE)
    UPDATE citations c SET quote = NULL FROM held
    WHERE c.org_id = :org_id AND c.message_id = held.message_id AND c.event_id = held.event_id
""")
# The rows are counted as they go. Files go after the commit, so a second attempt may find fewer.
_COUNT_IN = text("""
    UPDATE deletions SET page_count = page_count + :pages, chunk_count = chunk_count + :chunks,
        embedding_count = embedding_count + :embeddings, quote_count = quote_count + :quotes,
        file_count = greatest(file_count, :files), file_bytes = greatest(file_bytes, :file_bytes)
    WHERE org_id = :org_id AND document_id = :id
""")
_DELETE_ROW = text(
    "DELETE FROM documents WHERE org_id = :org_id AND id = :id AND status = 'deleting'"
)
_COMPLETE = text("""
    UPDATE deletions SET completed_at = now()
    WHERE org_id = :org_id AND document_id = :id AND completed_at IS NULL
""")
_UNVERIFIED = text("""
    SELECT org_id, document_id AS id FROM deletions
    WHERE completed_at IS NOT NULL AND verified_at IS NULL
""")
_VERIFY = text("""
    UPDATE deletions SET verified_at = now()
    WHERE org_id = :org_id AND document_id = :id AND completed_at IS NOT NULL
      AND verified_at IS NULL
      AND NOT EXISTS (SELECT FROM documents WHERE org_id = :org_id AND id = :id)
      AND NOT EXISTS (SELECT FROM pages WHERE org_id = :org_id AND document_id = :id)
      AND NOT EXISTS (SELECT FROM ocr_pages WHERE org_id = :org_id AND document_id = :id)
      AND NOT EXISTS (SELECT FROM chunks WHERE org_id = :org_id AND document_id = :id)
      AND NOT EXISTS (SELECT FROM chunk_embeddings WHERE org_id = :org_id AND document_id = :id)
      AND NOT EXISTS (SELECT FROM citations
                      WHERE org_id = :org_id AND document_id = :id AND quote IS NOT NULL)
    RETURNING true
""")


async def delete_document(
    session: AsyncSession, org_id: UUID, document_id: UUID, *, requested_by: UUID
) -> Deletion:
    """Hide the document from every reader at once; a worker removes it. Returns the receipt.

    A document that was deleted before gives the receipt that there is. Raises NotFound.
    """
    key = {"org_id": org_id, "id": document_id}
    deleted = (await session.execute(_DELETE_ONE, key)).one_or_none()
    if deleted is None:
        return await _get_receipt_of(session, org_id, document_id)
    deletion = Deletion(**_receipt_of(deleted, requested_by=requested_by))
    session.add(deletion)
    await session.flush()
    enqueue(session, JobName.PURGE)
    return deletion


async def delete_if_expired(session: AsyncSession, document: Document) -> bool:
    """Delete a locked document whose time is up, before the sweep gets to it. False if it isn't."""
    key = {"org_id": document.org_id, "id": document.id}
    deleted = (await session.execute(_DELETE_ONE_EXPIRED, key)).one_or_none()
    if deleted is None:
        return False
    session.add(Deletion(**_receipt_of(deleted)))
    await session.flush()
    enqueue(session, JobName.PURGE)
    return True


async def delete_expired(session: AsyncSession) -> int:
    """Delete documents whose time is up, some hundred at once. Returns how many.

    Needs a system transaction. Two callers don't get the same document.
    """
    rows = (await session.execute(_DELETE_EXPIRED, {"limit": _EXPIRED_AT_ONCE})).all()
    if rows:
        await session.execute(insert(Deletion), [_receipt_of(row) for row in rows])
        enqueue(session, JobName.PURGE)
    return len(rows)


async def delete_private_documents(
    session: AsyncSession, org_id: UUID, user_id: UUID, *, requested_by: UUID
) -> int:
    """Delete what is private to a user in an organization, for when they leave it.

    Returns how many documents. Needs a transaction of that user, or a system transaction: nobody
    else sees these documents, nor their receipts.
    """
    key = {"org_id": org_id, "user_id": user_id}
    rows = (await session.execute(_DELETE_PRIVATE, key)).all()
    if rows:
        receipts = [_receipt_of(row, requested_by=requested_by) for row in rows]
        await session.execute(insert(Deletion), receipts)
        enqueue(session, JobName.PURGE)
    return len(rows)


async def delete_abandoned(session: AsyncSession) -> int:
    """Delete what is private to users who are no members any more. Returns how many documents.

    They are of uploads that were on their way when their user was removed. Needs a system
    transaction.
    """
    rows = (await session.execute(_DELETE_ABANDONED, {"limit": _EXPIRED_AT_ONCE})).all()
    if rows:
        await session.execute(insert(Deletion), [_receipt_of(row) for row in rows])
        enqueue(session, JobName.PURGE)
    return len(rows)


async def delete_some_documents(
    session: AsyncSession, org_id: UUID, *, limit: int, requested_by: UUID
) -> int:
    """Delete documents of an organization, whoever sees them. Returns how many; 0 at the end.

    Needs a system transaction.
    """
    rows = (await session.execute(_DELETE_SOME, {"org_id": org_id, "limit": limit})).all()
    if rows:
        receipts = [_receipt_of(row, requested_by=requested_by) for row in rows]
        await session.execute(insert(Deletion), receipts)
        enqueue(session, JobName.PURGE)
    return len(rows)


async def redact_answers_of_others(session: AsyncSession, document: Document) -> None:
    """Take the words of a document that is private now out of others' answers without a model.

    Quotes in citations need no redaction: without the document's name readers don't see them.
    """
    await _redact_answers(
        session,
        {"org_id": document.org_id, "id": document.id},
        instead=_REDACTED_FOR_OTHERS,
        owner=document.private_to,
    )


async def get_deletion(session: AsyncSession, org_id: UUID, deletion_id: UUID) -> Deletion:
    """Raises NotFound, also for another organization's receipt."""
    deletion = await session.scalar(
        select(Deletion).where(Deletion.org_id == org_id, Deletion.id == deletion_id)
    )
    if deletion is None:
        raise NotFound("There is no such deletion.")
    return deletion


async def list_deletions(
    session: AsyncSession, org_id: UUID, *, cursor: UUID | None, limit: int
) -> Page[Deletion]:
    """Return a page of receipts, newest first, behind the one that `cursor` names."""
    # By id alone: a UUIDv7 begins with the time.
    query = select(Deletion).where(Deletion.org_id == org_id).order_by(Deletion.id.desc())
    if cursor is not None:
        query = query.where(Deletion.id < cursor)
    rows = (await session.scalars(query.limit(limit + 1))).all()
    return Page.of(rows, limit, lambda last: str(last.id))


async def purge_next(db: Database, storage: BlobStore) -> bool:
    """Remove one deleted document: chunks, then the files, then the row. False when none is left.

    Killed at any point, or raising what the disk or the database raises, it leaves a document
    that a later call takes up again, and a receipt that a later call verifies.
    """
    async with db.system_transaction() as session:
        taken = (await session.execute(_TAKE_DELETED)).one_or_none()
    if taken is not None:
        await _purge(db, storage, taken)
    await _verify_completed(db, storage)
    return taken is not None


async def _purge(db: Database, storage: BlobStore, taken: Row[Any]) -> None:
    key = {"org_id": taken.org_id, "id": taken.id}
    async with db.system_transaction() as session:
        # Two at once would take its words out of the counts twice; the other one goes on.
        if await session.scalar(_HOLD_DELETED, key) is None:
            return
        # Together with the chunks, so that a second attempt finds nothing left to take out.
        await session.execute(_UNCOUNT_LEXEMES, key)
        counts = {
            "embeddings": await _delete_from(session, "chunk_embeddings", key),
            "chunks": await _delete_from(session, "chunks", key),
            "pages": await _delete_from(session, "pages", key),
            "quotes": await _count(session, _REDACT_QUOTES, key),
        }
        await _redact_answers(session, key, instead=_REDACTED)
        await _delete_from(session, "ocr_pages", key)
        sizes = [path.stat().st_size for path in storage.iter_versions(taken.org_id, taken.id)]
        await session.execute(
            _COUNT_IN, {**key, **counts, "files": len(sizes), "file_bytes": sum(sizes)}
        )
    storage.delete(taken.org_id, taken.id)
    async with db.system_transaction() as session:
        await session.execute(_DELETE_ROW, key)
        await session.execute(_COMPLETE, key)


async def _redact_answers(
    session: AsyncSession, key: dict[str, UUID], *, instead: str, owner: UUID | None = None
) -> None:
    """Replace answers that quote a document, but for those of its owner."""
    sha256 = hashlib.sha256(instead.encode()).digest()
    await session.execute(
        _REDACT_ANSWERS, {**key, "redacted": instead, "sha256": sha256, "owner": owner}
    )


async def _delete_from(session: AsyncSession, table: str, key: dict[str, UUID]) -> int:
    """Return how many there were. `table` is a name of this module's, never a caller's."""
    statement = f"DELETE FROM {table} WHERE org_id = :org_id AND document_id = :id"  # noqa: S608
    return await _count(session, text(statement), key)


async def _count(session: AsyncSession, statement: TextClause, key: dict[str, UUID]) -> int:
    """Change rows. Returns how many there were."""
    result = await session.execute(statement, key)
    count: int = result.rowcount  # type: ignore[attr-defined]  # what changes rows has a rowcount
    return count


async def _verify_completed(db: Database, storage: BlobStore) -> None:
    """Count once more what is left of removed documents, and sign the receipts of those gone."""
    async with db.system_transaction() as session:
        for row in (await session.execute(_UNVERIFIED)).all():
            # An upload that lost against the deletion may have left a file behind it.
            is_clean = _remove_left_files(storage, row.org_id, row.id)
            key = {"org_id": row.org_id, "id": row.id}
            if not is_clean or await session.scalar(_VERIFY, key) is None:
                log.error("deletion_incomplete", document_id=str(row.id))


def _remove_left_files(storage: BlobStore, org_id: UUID, document_id: UUID) -> bool:
    """False when one can't be removed: the next round tries again, and the others go on."""
    try:
        storage.delete(org_id, document_id)
    except OSError:
        return False
    return not storage.iter_versions(org_id, document_id)


async def _get_receipt_of(session: AsyncSession, org_id: UUID, document_id: UUID) -> Deletion:
    deletion = await session.scalar(
        select(Deletion).where(Deletion.org_id == org_id, Deletion.document_id == document_id)
    )
    if deletion is None:
        raise NotFound("There is no such document.")
    return deletion


def _receipt_of(deleted: Row[Any], *, requested_by: UUID | None = None) -> dict[str, Any]:
    """Return the receipt of a deletion that somebody asked for, or else of one by time."""
    is_requested = requested_by is not None
    return {
        "org_id": deleted.org_id,
        "id": new_id(),
        "document_id": deleted.id,
        "private_to": deleted.private_to,
        "reason": DeletionReason.REQUESTED if is_requested else DeletionReason.EXPIRED,
        "requested_by": requested_by,
    }
