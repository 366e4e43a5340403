"""Uploads that arrive in several requests and survive all of them being cut, and the API killed.

The row tells what is to come, the size of the partial file how much of it has; nothing else has to
be remembered. When all is there, the file takes the same way as any other upload, under the
upload's own id: if the process dies between moving the file and committing its row, the next
request finds the file there and takes it back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.db import Database, take_turn
from app.core.errors import (
    Conflict,
    Gone,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    StorageFull,
    UnprocessableRequest,
    UnsupportedMediaType,
)
from app.core.ids import new_id
from app.core.sealing import Sealer
from app.core.storage import BlobStore
from app.documents.intake import IncomingFile, Intake, read_media_type
from app.documents.options import UploadOptions
from app.documents.partial_file import Checksum, PartialFile, hash_file
from app.documents.receiving import (
    USUAL_PATIENCE,
    Patience,
    disk_errors,
    iter_in_time,
    too_large,
)
from app.models.documents import Visibility
from app.models.uploads import Upload

# After the last request about it.
LIFETIME = timedelta(hours=24)
MAX_UNFINISHED = 100
_TOO_MANY_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class UploadState:
    """How far an upload is. Complete, and then a document, when `document_id` is set."""

    upload_id: UUID
    filename: str
    size_bytes: int
    offset: int
    expires_at: datetime
    document_id: UUID | None


@dataclass(frozen=True, slots=True)
class Piece:
    """The body of a request, which goes behind the first `offset` bytes."""

    body: AsyncIterator[bytes]
    offset: int
    length: int | None
    checksum: Checksum | None


@dataclass(frozen=True, slots=True)
class ResumableUploads:
    """The unfinished uploads of users. Each belongs to one user: for others it is not there."""

    db: Database
    storage: BlobStore
    sealer: Sealer
    intake: Intake
    limit_bytes: int
    patience: Patience = USUAL_PATIENCE

    async def create(
        self, principal: Principal, *, size_bytes: int, filename: str, options: UploadOptions
    ) -> UploadState:
        """Announce a file. Raises UnprocessableRequest, PayloadTooLarge, StorageFull, RateLimited.

        An organization may have MAX_UNFINISHED of them.
        """
        self._check_size(size_bytes)
        password = options.password
        upload = Upload(
            org_id=principal.org_id,
            id=new_id(),
            user_id=principal.user_id,
            filename=filename,
            size_bytes=size_bytes,
            sealed_password=None if password is None else self.sealer.seal(password),
            document_expires_at=options.expires_at,
            document_tags=options.tags,
            document_metadata=options.metadata,
            document_is_private=options.visibility == Visibility.PRIVATE,
            expires_at=datetime.now(UTC) + LIFETIME,
        )
        async with self.db.transaction(principal) as session:
            await self.intake.check_queue(session, principal.org_id)
            await self.intake.check_room(session, principal.org_id, size_bytes=size_bytes)
            await take_turn(session, f"uploads {principal.org_id}")
            await _check_count(session, principal.org_id)
            # Before the row: what has a row has a folder.
            with disk_errors():
                self.storage.upload_folder(upload.id).mkdir(mode=0o700)
            session.add(upload)
        return _state(upload, 0)

    async def get(self, principal: Principal, upload_id: UUID) -> UploadState:
        """Return how far it is, and complete what has only that left: its process was killed.

        Raises NotFound, Gone, Locked while another request completes it, or like `append`.
        """
        upload = await self._touch(principal, upload_id)
        offset = self._offset(upload)
        if upload.document_id is None and offset == upload.size_bytes:
            async with self._held(principal, upload_id) as held:
                return await self._complete_if_whole(principal, held)
        return _state(upload, offset)

    async def append(self, principal: Principal, upload_id: UUID, piece: Piece) -> UploadState:
        """Add a piece, and make a document of the file when it is whole.

        Raises NotFound, Gone, Locked, Conflict for another offset, PayloadTooLarge, RequestTimeout,
        ChecksumMismatch or StorageFull. For a whole file that can't be taken now RateLimited; one
        of no known type raises UnsupportedMediaType and is removed.
        """
        async with self._held(principal, upload_id) as upload:
            offset = self._offset(upload)
            if piece.offset != offset:
                raise Conflict(f"The upload is at offset {offset}.", code="offset_mismatch")
            length = piece.length or 0
            if offset + length > upload.size_bytes:
                raise PayloadTooLarge("The upload was announced to be shorter.")
            if not self.storage.has_room_for(length):
                raise StorageFull("There is no room left for files on the server.")
            if offset < upload.size_bytes:
                with disk_errors():
                    await self._partial(upload).append(
                        iter_in_time(piece.body, self.patience),
                        limit_bytes=upload.size_bytes,
                        checksum=piece.checksum,
                    )
            return await self._complete_if_whole(principal, upload)

    async def terminate(self, principal: Principal, upload_id: UUID) -> None:
        """Forget an upload. A document that it has become stays. Raises NotFound, Gone, Locked."""
        async with self._held(principal, upload_id) as upload:
            await self._remove(principal, upload)

    @asynccontextmanager
    async def _held(self, principal: Principal, upload_id: UUID) -> AsyncIterator[Upload]:
        """Keep other requests from this upload, unless it has become a document."""
        upload = await self._touch(principal, upload_id)
        if upload.document_id is not None:
            yield upload
            return
        with self._partial(upload).locked():
            # Only from here on nobody else can complete or terminate it.
            yield await self._touch(principal, upload_id)

    async def _touch(self, principal: Principal, upload_id: UUID) -> Upload:
        """Return the row, which lives on from now. Waits for who is just completing it."""
        async with self.db.transaction(principal) as session:
            upload = await _lock_row(session, principal, upload_id)
            now = datetime.now(UTC)
            if upload.expires_at <= now:
                raise Gone("The upload has expired.")
            if upload.document_id is None:
                upload.expires_at = now + LIFETIME
        return upload

    async def _complete_if_whole(self, principal: Principal, upload: Upload) -> UploadState:
        partial = self._partial(upload)
        offset = self._offset(upload)
        if upload.document_id is not None or offset < upload.size_bytes:
            return _state(upload, offset)
        try:
            file = await self._describe(upload, partial)
        except UnsupportedMediaType:
            await self._remove(principal, upload)
            raise
        async with self.db.transaction(principal) as session:
            row = await _lock_row(session, principal, upload.id)
            result = await self.intake.add(session, principal, file, document_id=upload.id)
            row.document_id = result.document.id
            row.sealed_password = None
        partial.remove()
        return _state(row, offset)

    async def _describe(self, upload: Upload, partial: PartialFile) -> IncomingFile:
        """Read the whole file for what the row does not say. Raises UnsupportedMediaType."""
        with disk_errors():
            if not partial.path.exists():
                self.storage.path(upload.org_id, upload.id).replace(partial.path)
            return IncomingFile(
                path=partial.path,
                filename=upload.filename,
                media_type=await read_media_type(partial.path, upload.filename),
                size_bytes=upload.size_bytes,
                sha256=await asyncio.to_thread(hash_file, partial.path),
                sealed_password=upload.sealed_password,
                expires_at=upload.document_expires_at,
                tags=upload.document_tags,
                metadata=upload.document_metadata,
                visibility=Visibility.PRIVATE if upload.document_is_private else Visibility.SHARED,
            )

    async def _remove(self, principal: Principal, upload: Upload) -> None:
        async with self.db.transaction(principal) as session:
            await session.execute(
                delete(Upload).where(Upload.org_id == upload.org_id, Upload.id == upload.id)
            )
        self._partial(upload).remove()

    def _partial(self, upload: Upload) -> PartialFile:
        return PartialFile(self.storage.upload_folder(upload.id))

    def _offset(self, upload: Upload) -> int:
        """How much has arrived; all, if it was moved to be a document and then not stored."""
        moved = self.storage.path(upload.org_id, upload.id)
        is_whole = upload.document_id is not None or moved.exists()
        return upload.size_bytes if is_whole else self._partial(upload).size_bytes()

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes == 0:
            raise UnprocessableRequest("The file is empty.", code="empty_file", param="file")
        if size_bytes > self.limit_bytes:
            raise too_large(self.limit_bytes)
        if not self.storage.has_room_for(size_bytes):
            raise StorageFull("There is no room left for files on the server.")


async def _lock_row(session: AsyncSession, principal: Principal, upload_id: UUID) -> Upload:
    upload = await session.scalar(_of_user(principal, upload_id).with_for_update())
    if upload is None:
        raise NotFound("There is no such upload.")
    return upload


async def _check_count(session: AsyncSession, org_id: UUID) -> None:
    unfinished = await session.scalar(
        select(func.count()).where(
            Upload.org_id == org_id,
            Upload.document_id.is_(None),
            Upload.expires_at > datetime.now(UTC),
        )
    )
    if (unfinished or 0) >= MAX_UNFINISHED:
        raise RateLimited(
            f"The organization has {MAX_UNFINISHED} unfinished uploads. Finish or delete some.",
            code="too_many_uploads",
            retry_after_s=_TOO_MANY_RETRY_AFTER_S,
        )


def _of_user(principal: Principal, upload_id: UUID) -> Select[Upload]:
    return select(Upload).where(
        Upload.org_id == principal.org_id,
        Upload.id == upload_id,
        Upload.user_id == principal.user_id,
    )


def _state(upload: Upload, offset: int) -> UploadState:
    return UploadState(
        upload_id=upload.id,
        filename=upload.filename,
        size_bytes=upload.size_bytes,
        offset=offset,
        expires_at=upload.expires_at,
        document_id=upload.document_id,
    )
