"""A file that has arrived -> a document's row, its blob and a wake-up, in one transaction."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import Select, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.db import take_turn
from app.core.errors import (
    Conflict,
    NotFound,
    RateLimited,
    UnprocessableRequest,
    UnsupportedMediaType,
)
from app.core.jobs import JobName, enqueue
from app.core.storage import BlobStore
from app.documents.deletion import delete_if_expired
from app.documents.quotas import QuotaOf, check_quota
from app.documents.receiving import disk_errors
from app.ingestion.media_types import SUPPORTED_NAMES, find_media_type
from app.models.document_metadata import Value
from app.models.documents import Document, DocumentStatus, OcrPage, Visibility

_BACKLOG_RETRY_AFTER_S = 30.0
# So far below the cap nobody has to wait for another's commit to know that there is room.
_CLOSE_TO_CAP = 64
# Also those that the caller does not see.
_COUNT_QUEUED = text("SELECT count_queued_documents(:org_id, :cap + 1)")


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file at `path`: whole, synced to the disk, and of a type that can be read.

    Expiry, tags and metadata are None where nothing was said: a known document keeps its own.
    Without `visibility` a new document is shared.
    """

    path: Path
    filename: str
    media_type: str
    size_bytes: int
    sha256: bytes
    sealed_password: bytes | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    tags: list[str] | None = None
    metadata: dict[str, Value] | None = field(default=None, repr=False)
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True)
class UploadResult:
    """`is_new` is False when these bytes were there already."""

    document: Document
    is_new: bool


@dataclass(frozen=True, slots=True)
class Intake:
    """Stores arrived files. At most `max_queued` documents of an organization may wait.

    Each method takes the session of a transaction of the organization, and moves the file to its
    blob's place before that commits: a row that others can see always has its file. A file whose
    transaction then fails is an orphan, which `app/documents/cleanup.py` removes.
    """

    storage: BlobStore
    max_queued: int
    quota_of: QuotaOf | None = None

    async def check_queue(self, session: AsyncSession, org_id: UUID) -> None:
        """Raises RateLimited when no further document may wait. For before a body is read."""
        if await self._count_queued(session, org_id) >= self.max_queued:
            raise _backlog()

    async def check_room(
        self, session: AsyncSession, org_id: UUID, *, documents: int = 1, size_bytes: int = 0
    ) -> None:
        """Raises PermissionDenied (`quota_exceeded`). For before a body is read."""
        if self.quota_of is not None:
            quota = await self.quota_of(org_id)
            await check_quota(session, org_id, quota, documents=documents, size_bytes=size_bytes)

    async def _check_quota(self, session: AsyncSession, org_id: UUID) -> None:
        """Raises PermissionDenied when this transaction's own document is too much."""
        if self.quota_of is None:
            return
        quota = await self.quota_of(org_id)
        if quota.documents is None and quota.storage_bytes is None:
            return
        # Those who store at the same time are counted too.
        await take_turn(session, f"quota {org_id}")
        await check_quota(session, org_id, quota)

    async def add(
        self, session: AsyncSession, principal: Principal, file: IncomingFile, *, document_id: UUID
    ) -> UploadResult:
        """Make a document of it, unless there is one with these bytes.

        One that is shared, for a shared file; for a private one, a private one of the caller: so
        nobody learns what others keep for themselves. That one gets new tags and new metadata where
        they came, a later expiry, a lost file back, and its turn again if it had failed. Raises
        RateLimited, PermissionDenied (`quota_exceeded`) or StorageFull.
        """
        is_private = file.visibility == Visibility.PRIVATE
        private_to = principal.user_id if is_private else None
        values = {
            "org_id": principal.org_id,
            "private_to": private_to,
            "id": document_id,
            "uploaded_by": principal.user_id,
            "filename": file.filename,
            "media_type": file.media_type,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "status": DocumentStatus.QUEUED,
            "sealed_password": file.sealed_password,
            "expires_at": file.expires_at,
            "tags": file.tags or [],
            "metadata_": file.metadata or {},
        }
        # A known document may be deleted just before it is looked at: then there is room. One that
        # has expired makes room now.
        while (document := await _insert_unless_known(session, values)) is None:
            known = await session.scalar(
                select_twin(principal.org_id, file.sha256, private_to).with_for_update()
            )
            if known is not None and await delete_if_expired(session, known):
                continue
            if known is not None:
                expires_at = latest_expiry(known, file.expires_at)
                await self._use_again(session, known, replace(file, expires_at=expires_at))
                return UploadResult(known, is_new=False)
        await self._check_quota(session, principal.org_id)
        await self._check_cap(session, principal.org_id)
        with disk_errors():
            self.storage.commit(file.path, principal.org_id, document_id)
        enqueue(session, JobName.INGEST)
        return UploadResult(document, is_new=True)

    async def replace(
        self, session: AsyncSession, principal: Principal, file: IncomingFile, *, document_id: UUID
    ) -> UploadResult:
        """Make it the next version of a document; readers see the old one until it is ready.

        The bytes that the document has already change nothing, except that a failed one is tried
        again. Raises NotFound, Conflict for another document's bytes, UnprocessableRequest for
        another visibility than it has, RateLimited or StorageFull.
        """
        document = await session.scalar(
            _visible(principal.org_id).where(Document.id == document_id).with_for_update()
        )
        if document is None or await delete_if_expired(session, document):
            raise NotFound("There is no such document.")
        if file.visibility not in (None, document.visibility):
            raise UnprocessableRequest(
                f"The document is {document.visibility}; another version does not change that.",
                param="visibility",
            )
        if document.sha256 == file.sha256:
            await self._use_again(session, document, file)
            return UploadResult(document, is_new=False)
        await refuse_twin(session, principal.org_id, file.sha256, document.private_to)
        _begin_version(document, file)
        try:
            await _queue(session, document)
        except IntegrityError as error:
            raise Conflict(
                "These bytes have just become another document.", code="duplicate_content"
            ) from error
        await session.execute(
            delete(OcrPage).where(
                OcrPage.org_id == document.org_id, OcrPage.document_id == document.id
            )
        )
        await self._check_quota(session, principal.org_id)
        await self._check_cap(session, principal.org_id)
        with disk_errors():
            # What a failed attempt may have left in this version's place is replaced.
            self.storage.commit(file.path, document.org_id, document.id, document.version)
        return UploadResult(document, is_new=True)

    async def _use_again(
        self, session: AsyncSession, document: Document, file: IncomingFile
    ) -> None:
        """Let a locked document that has these bytes profit from their coming again."""
        _take_over(document, file)
        waits = document.status in (DocumentStatus.FAILED, DocumentStatus.QUEUED)
        if waits and file.sealed_password is not None:
            document.sealed_password = file.sealed_password
        if document.status == DocumentStatus.FAILED:
            await _queue(session, document)
            await self._check_cap(session, document.org_id)
        with disk_errors():
            if not self.storage.path(document.org_id, document.id, document.version).is_file():
                self.storage.commit(file.path, document.org_id, document.id, document.version)

    async def _check_cap(self, session: AsyncSession, org_id: UUID) -> None:
        """Raises RateLimited when this transaction's own document is one too many to wait."""
        queued = await self._count_queued(session, org_id)
        if queued > self.max_queued - _CLOSE_TO_CAP:
            # Those who store at the same time are counted too.
            await take_turn(session, f"queue cap {org_id}")
            queued = await self._count_queued(session, org_id)
        if queued > self.max_queued:
            raise _backlog()

    async def _count_queued(self, session: AsyncSession, org_id: UUID) -> int:
        count = await session.scalar(_COUNT_QUEUED, {"org_id": org_id, "cap": self.max_queued})
        return int(count or 0)


async def read_media_type(path: Path, filename: str) -> str:
    """Look at a finished file. Raises UnprocessableRequest or UnsupportedMediaType."""
    if path.stat().st_size == 0:
        raise UnprocessableRequest("The file is empty.", code="empty_file", param="file")
    media_type = await asyncio.to_thread(find_media_type, path, filename=filename)
    if media_type is None:
        raise UnsupportedMediaType(
            "What is in this file is of no supported kind, whatever its name, or damaged. Save it "
            f"anew in its own program, or upload one of these: {SUPPORTED_NAMES}.",
            code="unsupported_type",
            param="file",
        )
    return media_type


def latest_expiry(document: Document, expires_at: datetime | None) -> datetime | None:
    """Return until when a document is kept whose bytes came again, with this expiry or without.

    Somebody may count on the document that there is: it is never kept for less.
    """
    if document.expires_at is None or expires_at is None:
        return document.expires_at
    return max(document.expires_at, expires_at)


def _begin_version(document: Document, file: IncomingFile) -> None:
    document.version += 1
    document.filename = file.filename
    document.media_type = file.media_type
    document.size_bytes = file.size_bytes
    document.sha256 = file.sha256
    document.sealed_password = file.sealed_password
    _take_over(document, file)
    # Whoever works on the old content may write nothing more.
    document.lease_token += 1
    document.lease_expires_at = None
    document.checkpoint_chunks = 0
    document.checkpoint_digest = None


def _take_over(document: Document, file: IncomingFile) -> None:
    """Have a document be as was said of the file now; what was not said stays."""
    if file.expires_at is not None:
        document.expires_at = file.expires_at
    if file.tags is not None:
        document.tags = file.tags
    if file.metadata is not None:
        document.metadata_ = file.metadata


async def _queue(session: AsyncSession, document: Document) -> None:
    """Put a locked document at the end of the queue, as if it had never been tried."""
    document.status = DocumentStatus.QUEUED
    document.stage = None
    document.error_code = document.error_message = None
    document.attempts = document.percent = document.pages_done = 0
    document.pages_total = None
    document.queued_at = document.updated_at = func.now()
    enqueue(session, JobName.INGEST)
    await session.flush()
    await session.refresh(document)


async def _insert_unless_known(
    session: AsyncSession, values: Mapping[str, object]
) -> Document | None:
    statement = (
        insert(Document)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=["org_id", "sha256", "private_to"],
            index_where=Document.deleted_at.is_(None),
        )
        .returning(Document)
    )
    return await session.scalar(statement)


def select_twin(org_id: UUID, sha256: bytes, private_to: UUID | None) -> Select[Document]:
    """The one document with these bytes among the shared ones, or those private to a user."""
    return _visible(org_id).where(
        Document.sha256 == sha256, Document.private_to.is_not_distinct_from(private_to)
    )


async def refuse_twin(
    session: AsyncSession, org_id: UUID, sha256: bytes, private_to: UUID | None
) -> None:
    """Raise Conflict (`duplicate_content`) when there is a document with these bytes."""
    twin = await session.scalar(select_twin(org_id, sha256, private_to))
    if twin is not None:
        raise Conflict(f"These bytes are the document {twin.id} already.", code="duplicate_content")


def _visible(org_id: UUID) -> Select[Document]:
    return select(Document).where(Document.org_id == org_id, Document.deleted_at.is_(None))


def _backlog() -> RateLimited:
    return RateLimited(
        "Too many documents of this organization are waiting. Try again when some are done.",
        code="ingestion_backlog",
        retry_after_s=_BACKLOG_RETRY_AFTER_S,
    )
