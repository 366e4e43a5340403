"""Removes everything of deleted organizations, and signs the receipt when a count finds nothing.

The documents go as documents do (`deletion.py`), the rest table by table, in pieces; the
organization's own row last, so that nothing new can belong to it. For the worker: killed at any
point, a later call goes on.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.storage import BlobStore
from app.documents.deletion import delete_some_documents

log = structlog.get_logger(__name__)

# Longer than it takes until every process knows that nobody is a member any more.
SETTLE_S = 10
_ROWS_AT_ONCE = 5_000
_DOCUMENTS_AT_ONCE = 500

# Every table with an `org_id`, each before those that it refers to. A test compares it with the
# database: a migration that adds a table adds it here.
ORGANIZATION_TABLES = (
    *("webhook_attempts", "webhook_deliveries", "webhook_events", "webhooks"),
    *("usage_events", "usage_daily", "organization_prices"),
    *("budget_reservations", "budget_periods", "budgets"),
    *("openai_responses", "vector_store_batches", "vector_store_files", "vector_stores"),
    "openai_files",
    *("citations", "runs", "messages", "conversations"),
    *("chunk_embeddings", "chunks", "pages", "ocr_pages", "document_versions", "documents"),
    *("deletions", "lexemes", "private_lexemes", "uploads", "idempotency_keys"),
    *("invitations", "api_keys", "refresh_tokens", "memberships"),
)
# What tells of the organization after it is gone. Operators still see who did what and when.
KEPT_TABLES = ("organization_deletions", "audit_events")

# To the end of the queue with it: one that can't be removed must not hold up the others.
_TAKE = text("""
    UPDATE organization_deletions SET attempted_at = now()
    WHERE id = (
        SELECT id FROM organization_deletions
        WHERE verified_at IS NULL AND requested_at <= now() - make_interval(secs => :settle_s)
        ORDER BY attempted_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, org_id, requested_by, counted_at IS NOT NULL AS is_counted,
        completed_at IS NOT NULL AS is_completed
""")
# What went with the request for the deletion was counted there.
_KEEP_COUNTS = text("""
    UPDATE organization_deletions
    SET row_counts = :counts || row_counts, file_count = :files, file_bytes = :bytes,
        counted_at = now()
    WHERE id = :id AND counted_at IS NULL
""").bindparams(bindparam("counts", type_=JSONB))
_HAS_DOCUMENTS = text("SELECT EXISTS (SELECT FROM documents WHERE org_id = :org_id)")
# Nobody may change a line: a function of the owner's takes what is personal out of them, for
# deleted organizations alone.
_FORGET_PERSONAL = text("SELECT forget_audit_events(:org_id)")
_UPLOADS = text("SELECT id FROM uploads WHERE org_id = :org_id")
_DELETE_ROW = text("DELETE FROM organizations WHERE id = :org_id")
_COMPLETE = text("UPDATE organization_deletions SET completed_at = now() WHERE id = :id")
_IS_THERE = text("SELECT EXISTS (SELECT FROM organizations WHERE id = :org_id)")
_VERIFY = text("UPDATE organization_deletions SET verified_at = now() WHERE id = :id")


async def remove_next_organization(db: Database, storage: BlobStore) -> bool:
    """Do one piece of removing a deleted organization. False when there is nothing to do just now.

    Raises what the disk or the database raises.
    """
    async with db.system_transaction() as session:
        taken = (await session.execute(_TAKE, {"settle_s": SETTLE_S})).one_or_none()
    if taken is None:
        return False
    org_id: UUID = taken.org_id
    if not taken.is_counted:
        await _keep_counts(db, storage, taken.id, org_id)
    async with db.system_transaction() as session:
        if await delete_some_documents(
            session, org_id, limit=_DOCUMENTS_AT_ONCE, requested_by=taken.requested_by
        ):
            return True
        if await session.scalar(_HAS_DOCUMENTS, {"org_id": org_id}):
            return False  # the purge is at them
    await _remove_uploads(db, storage, org_id)
    for table in ORGANIZATION_TABLES:
        if await _delete_rows(db, table, org_id):
            return True
    async with db.system_transaction() as session:
        await session.execute(_FORGET_PERSONAL, {"org_id": org_id})
    await asyncio.to_thread(storage.delete_organization, org_id)
    if not taken.is_completed:
        return await _complete(db, taken.id, org_id)
    return await _verify(db, storage, taken.id, org_id)


async def _keep_counts(db: Database, storage: BlobStore, deletion_id: UUID, org_id: UUID) -> None:
    files, size_bytes = await asyncio.to_thread(storage.measure_organization, org_id)
    async with db.system_transaction() as session:
        counts = await _count_rows(session, org_id)
        await session.execute(
            _KEEP_COUNTS,
            {"id": deletion_id, "counts": counts, "files": files, "bytes": size_bytes},
        )


async def _remove_uploads(db: Database, storage: BlobStore, org_id: UUID) -> None:
    """Before their rows, which say where the files are."""
    async with db.system_transaction() as session:
        upload_ids = (await session.scalars(_UPLOADS, {"org_id": org_id})).all()
    for upload_id in upload_ids:
        await asyncio.to_thread(storage.delete_upload, upload_id)


async def _delete_rows(db: Database, table: str, org_id: UUID) -> bool:
    """Delete some rows. False if there are none; `table` is a name of this module's."""
    # The second condition, because a place in a partition is one in others too.
    statement = text(
        f"DELETE FROM {table} WHERE org_id = :org_id AND ctid = ANY (ARRAY("  # noqa: S608
        f"SELECT ctid FROM {table} WHERE org_id = :org_id LIMIT :limit))"
    )
    async with db.system_transaction() as session:
        result = await session.execute(statement, {"org_id": org_id, "limit": _ROWS_AT_ONCE})
        return bool(result.rowcount)  # type: ignore[attr-defined]  # what changes rows has one


async def _complete(db: Database, deletion_id: UUID, org_id: UUID) -> bool:
    """Remove the organization's row. What came in between is taken up by the next call."""
    try:
        async with db.system_transaction() as session:
            await session.execute(_DELETE_ROW, {"org_id": org_id})
            await session.execute(_COMPLETE, {"id": deletion_id})
    except IntegrityError:
        log.warning("organization_not_empty", org_id=str(org_id))
    return True


async def _verify(db: Database, storage: BlobStore, deletion_id: UUID, org_id: UUID) -> bool:
    """Count once more, and sign the receipt if nothing is left. Else False: later once more."""
    has_files = await asyncio.to_thread(storage.has_organization, org_id)
    async with db.system_transaction() as session:
        counts = await _count_rows(session, org_id)
        is_there = await session.scalar(_IS_THERE, {"org_id": org_id})
        if has_files or counts or is_there:
            log.error("organization_deletion_incomplete", org_id=str(org_id))
            return False
        await session.execute(_VERIFY, {"id": deletion_id})
    return True


async def _count_rows(session: AsyncSession, org_id: UUID) -> Mapping[str, int]:
    """Return the number of rows by table, of those that have any."""
    counts: dict[str, Any] = {
        table: await session.scalar(_count_of(table), {"org_id": org_id})
        for table in ORGANIZATION_TABLES
    }
    return {table: count for table, count in counts.items() if count}


def _count_of(table: str) -> TextClause:
    return text(f"SELECT count(*) FROM {table} WHERE org_id = :org_id")  # noqa: S608
