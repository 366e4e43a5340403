"""Removes what nobody will ask for again: expired uploads and keys, and blobs without a document.

For the sweeper. Killed at any point, or run by two processes at once, it does no harm.
"""

import asyncio
import shutil
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from uuid import UUID

import structlog
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.storage import Blob, BlobStore
from app.models.documents import Document
from app.models.uploads import IdempotencyKey, Upload

log = structlog.get_logger(__name__)

# Longer than any transaction lasts between moving a file to its place and committing its row.
_ORPHAN_AGE_S = 3600.0
_PAGE_BLOBS = 1000


async def remove_expired(db: Database, storage: BlobStore) -> int:
    """Remove expired resumable uploads with their files, and expired idempotency keys.

    Returns how many.
    """
    async with db.system_transaction() as session:
        uploads = (
            await session.scalars(
                delete(Upload).where(Upload.expires_at < func.now()).returning(Upload.id)
            )
        ).all()
        keys = (
            await session.scalars(
                delete(IdempotencyKey)
                .where(IdempotencyKey.expires_at < func.now())
                .returning(IdempotencyKey.key_hash)
            )
        ).all()
    for upload_id in uploads:
        shutil.rmtree(storage.upload_folder(upload_id), ignore_errors=True)
    await _remove_stray_folders(db, storage)
    return len(uploads) + len(keys)


async def remove_orphans(db: Database, storage: BlobStore) -> int:
    """Remove the blobs of over an hour that belong to no document's row. Returns how many.

    They are what is left of a process that was killed between moving a file to its place and
    committing the row. Reads the name of every blob: for once an hour, not for every round. What
    was made of a blob that is gone goes, too.
    """
    blobs = storage.iter_blobs(older_than=time.time() - _ORPHAN_AGE_S)
    removed = 0
    while page := await asyncio.to_thread(lambda: list(islice(blobs, _PAGE_BLOBS))):
        async with db.system_transaction() as session:
            known = await _current_versions(session, page)
        for blob in page:
            if (blob.org_id, blob.document_id, blob.version) not in known:
                removed += await _remove_if_orphan(db, blob)
    await asyncio.to_thread(storage.remove_stray_derived)
    return removed


async def _current_versions(
    session: AsyncSession, blobs: Sequence[Blob]
) -> set[tuple[UUID, UUID, int]]:
    """Return the versions that the documents of these blobs need: the newest and the visible."""
    keys = {(blob.org_id, blob.document_id) for blob in blobs}
    rows = await session.execute(
        select(Document.org_id, Document.id, Document.version, Document.ready_version).where(
            tuple_(Document.org_id, Document.id).in_(keys)
        )
    )
    return {
        (row.org_id, row.id, version)
        for row in rows
        for version in (row.version, row.ready_version)
    }


async def _remove_if_orphan(db: Database, blob: Blob) -> bool:
    async with db.system_transaction() as session:
        # Whoever gives the document a new version holds this lock while moving the file.
        await session.execute(
            select(Document.id)
            .where(Document.org_id == blob.org_id, Document.id == blob.document_id)
            .with_for_update()
        )
        known = await _current_versions(session, [blob])
        if (blob.org_id, blob.document_id, blob.version) in known:
            return False
        blob.path.unlink(missing_ok=True)
    log.warning("orphan_blob_removed", document_id=str(blob.document_id), version=blob.version)
    return True


async def _remove_stray_folders(db: Database, storage: BlobStore) -> None:
    """Remove folders whose row never came or went without them."""
    stale = storage.iter_stale_upload_folders(older_than=time.time() - _ORPHAN_AGE_S)
    by_id = {found: folder for folder in stale if (found := _id_of(folder)) is not None}
    if not by_id:
        return
    async with db.system_transaction() as session:
        known = set(await session.scalars(select(Upload.id).where(Upload.id.in_(by_id))))
    for upload_id in by_id.keys() - known:
        shutil.rmtree(by_id[upload_id], ignore_errors=True)


def _id_of(folder: Path) -> UUID | None:
    """Return None for what is none of ours."""
    try:
        return UUID(folder.name)
    except ValueError:
        return None
