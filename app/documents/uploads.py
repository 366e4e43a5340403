"""A multipart body -> a blob, a document row and a wake-up, without ever holding the file."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO
from uuid import UUID

import structlog
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.db import Database
from app.core.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    StorageFull,
    UnprocessableRequest,
    UnsupportedMediaType,
)
from app.core.ids import new_id
from app.core.jobs import JobName, enqueue
from app.core.storage import BlobStore
from app.documents.filenames import clean_filename
from app.ingestion.media_types import HEAD_BYTES, find_media_type
from app.models.documents import Document, DocumentStatus

log = structlog.get_logger(__name__)

# What the boundaries and headers around one file may take.
_ENVELOPE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UploadResult:
    """`is_new` is False when the organization had these bytes already."""

    document: Document
    is_new: bool


@dataclass(slots=True)
class _ReceivedFile:
    """The one file of a multipart body, written to disk as it arrives."""

    target: BinaryIO
    limit_bytes: int
    filename: str | None = None
    media_type: str = ""
    size_bytes: int = 0
    head: bytes = b""
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > self.limit_bytes:
            raise _too_large(self.limit_bytes)
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        self.sha256.update(data)
        self.target.write(data)


class _MultipartFile:
    """Feeds the part named `file` of a multipart body into a _ReceivedFile."""

    def __init__(self, boundary: bytes, received: _ReceivedFile) -> None:
        self._received = received
        self._in_file = False
        self._has_ended = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self.parser = MultipartParser(
            boundary,
            callbacks={
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )

    @property
    def is_complete(self) -> bool:
        return self._has_ended

    def _on_part_begin(self) -> None:
        self._disposition = self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._in_file = options.get(b"name") == b"file"
        if not self._in_file:
            return
        if self._received.filename is not None:
            raise UnprocessableRequest("Send one file at a time.", param="file")
        name = options.get(b"filename")
        if name is None:
            raise UnprocessableRequest("The field `file` must be a file.", param="file")
        self._received.filename = clean_filename(name.decode("utf-8", "replace"))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._received.write(data[start:end])

    def _on_end(self) -> None:
        self._has_ended = True


@dataclass(frozen=True, slots=True)
class Uploader:
    """Takes uploads in. A client that sends nothing for `chunk_timeout_s` is given up."""

    db: Database
    storage: BlobStore
    limit_bytes: int
    chunk_timeout_s: float = 30.0

    async def receive(
        self,
        principal: Principal,
        body: AsyncIterator[bytes],
        *,
        content_type: str,
        content_length: int | None,
    ) -> UploadResult:
        """Store one uploaded file and queue it for ingestion.

        Reads at most `limit_bytes` and its envelope. Raises PayloadTooLarge, UnsupportedMediaType,
        UnprocessableRequest, RequestTimeout or StorageFull, and then leaves nothing behind.
        """
        boundary = _boundary_of(content_type)
        if content_length is not None and content_length > self.limit_bytes + _ENVELOPE_BYTES:
            raise _too_large(self.limit_bytes)
        if not self.storage.has_room_for(content_length or 0):
            raise StorageFull("There is no room left for files on the server.")
        upload_id = new_id()
        try:
            with _disk_errors():
                received = await self._write(upload_id, body, boundary)
            return await self._store(principal, upload_id, received)
        finally:
            self.storage.discard(upload_id)

    async def _write(
        self, upload_id: UUID, body: AsyncIterator[bytes], boundary: bytes
    ) -> _ReceivedFile:
        """Bring the file to the disk, durably. Raises OSError when the disk does not take it."""
        with self.storage.incoming_path(upload_id).open("xb") as target:
            received = _ReceivedFile(target, self.limit_bytes)
            await _read_body(body, boundary, received, chunk_timeout_s=self.chunk_timeout_s)
            _check_file(received)
            target.flush()
            await asyncio.to_thread(os.fsync, target.fileno())
        return received

    async def _store(
        self, principal: Principal, upload_id: UUID, received: _ReceivedFile
    ) -> UploadResult:
        document_id = new_id()
        values = {
            "org_id": principal.org_id,
            "id": document_id,
            "uploaded_by": principal.user_id,
            "filename": received.filename,
            "media_type": received.media_type,
            "size_bytes": received.size_bytes,
            "sha256": received.sha256.digest(),
            "status": DocumentStatus.QUEUED,
        }
        async with self.db.transaction(principal) as session:
            # A known document may be deleted just before it is looked at: then there is room.
            while (document := await _insert_unless_known(session, values)) is None:
                known = await _requeue_if_failed(session, principal.org_id, values["sha256"])
                if known is not None:
                    self._restore_file(upload_id, known)
                    return UploadResult(known, is_new=False)
            # Before the commit: a row that others can see always has its file.
            with _disk_errors():
                self.storage.commit(upload_id, principal.org_id, document_id)
            enqueue(session, JobName.INGEST)
        return UploadResult(document, is_new=True)

    def _restore_file(self, upload_id: UUID, known: Document) -> None:
        """Give a document whose file was lost the same bytes again."""
        if not self.storage.path(known.org_id, known.id).is_file():
            with _disk_errors():
                self.storage.commit(upload_id, known.org_id, known.id)


async def _insert_unless_known(
    session: AsyncSession, values: Mapping[str, object]
) -> Document | None:
    statement = (
        insert(Document)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=["org_id", "sha256"], index_where=Document.deleted_at.is_(None)
        )
        .returning(Document)
    )
    return await session.scalar(statement)


async def _requeue_if_failed(
    session: AsyncSession, org_id: UUID, sha256: object
) -> Document | None:
    """Lock and return the document with these bytes, queued again if it had failed."""
    document = (
        await session.scalars(
            select(Document)
            .where(
                Document.org_id == org_id,
                Document.sha256 == sha256,
                Document.deleted_at.is_(None),
            )
            .with_for_update()
        )
    ).one_or_none()
    if document is not None and document.status == DocumentStatus.FAILED:
        document.status = DocumentStatus.QUEUED
        document.error_code = document.error_message = None
        document.attempts = 0
        document.percent = 0
        document.queued_at = document.updated_at = func.now()
        enqueue(session, JobName.INGEST)
        await session.flush()
        await session.refresh(document)
    return document


async def _read_body(
    body: AsyncIterator[bytes],
    boundary: bytes,
    received: _ReceivedFile,
    *,
    chunk_timeout_s: float,
) -> None:
    total_bytes = 0
    chunks = aiter(body)
    try:
        multipart = _MultipartFile(boundary, received)
        while True:
            async with asyncio.timeout(chunk_timeout_s):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            total_bytes += len(chunk)
            if total_bytes > received.limit_bytes + _ENVELOPE_BYTES:
                raise _too_large(received.limit_bytes)
            multipart.parser.write(chunk)
    except FormParserError as error:
        raise InvalidRequest("The multipart body is malformed.", param="file") from error
    except TimeoutError as error:
        raise RequestTimeout("The upload stalled.") from error
    if received.filename is None:
        raise UnprocessableRequest("The body has no file in the field `file`.", param="file")
    if not multipart.is_complete:
        raise InvalidRequest("The multipart body ended too early.", param="file")


def _check_file(received: _ReceivedFile) -> None:
    """Sniff what it is. Raises UnprocessableRequest or UnsupportedMediaType."""
    if received.size_bytes == 0:
        raise UnprocessableRequest("The file is empty.", code="empty_file", param="file")
    media_type = find_media_type(received.head, filename=received.filename or "")
    if media_type is None:
        raise UnsupportedMediaType(
            "This kind of file is not supported. Upload a PDF, plain text or Markdown.",
            code="unsupported_type",
            param="file",
        )
    received.media_type = media_type


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Only around the disk: a database that is away raises OSError too."""
    try:
        yield
    except OSError as error:
        log.error("upload_not_stored", error=type(error).__name__)
        raise StorageFull("The file could not be stored on the server.") from error


def _boundary_of(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMediaType("Send the file as multipart/form-data, in the field `file`.")
    return boundary


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The file is larger than {limit_bytes // (1024 * 1024)} MB.",
        code="payload_too_large",
        param="file",
    )
