"""Takes in a file that comes in one request: a multipart body -> a synced file and its options."""

import asyncio
import hmac
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.core.errors import StorageFull
from app.core.ids import new_id
from app.core.sealing import Sealer
from app.core.storage import BlobStore
from app.documents.intake import IncomingFile, read_media_type
from app.documents.multipart import ENVELOPE_BYTES, FilePart, boundary_of, read_form
from app.documents.options import UploadOptions, parse_options
from app.documents.receiving import (
    USUAL_PATIENCE,
    Patience,
    disk_errors,
    iter_in_time,
    too_large,
)

# Nothing else that is signed with the same secret begins like this.
_DIGEST_CONTEXT = b"footnote upload\0"


@dataclass(frozen=True, slots=True)
class ReceivedForm:
    """`digest` is equal for equal forms: file, name and options. Nobody else can compute it.

    `further` has the texts of the fields besides.
    """

    file: IncomingFile
    digest: bytes
    further: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Uploader:
    """Receives uploads of at most `limit_bytes`. `secret` keys the digests of what they hold."""

    storage: BlobStore
    sealer: Sealer
    limit_bytes: int
    secret: bytes = field(repr=False)
    patience: Patience = USUAL_PATIENCE

    @asynccontextmanager
    async def receive(
        self,
        body: AsyncIterator[bytes],
        *,
        content_type: str,
        content_length: int | None,
        further: frozenset[str] = frozenset(),
        refuses_others: bool = False,
    ) -> AsyncIterator[ReceivedForm]:
        """Bring one file to the disk, for as long as the block lasts or until it is moved away.

        Of the form's other fields only options and those named by `further` are read; it
        `refuses_others`, or ignores them. Reads at most
        `limit_bytes` and the envelope. Raises PayloadTooLarge, UnsupportedMediaType,
        UnprocessableRequest, InvalidRequest, RequestTimeout or StorageFull.
        """
        boundary = boundary_of(content_type)
        if content_length is not None and content_length > self.limit_bytes + ENVELOPE_BYTES:
            raise too_large(self.limit_bytes)
        if not self.storage.has_room_for(content_length or 0):
            raise StorageFull("There is no room left for files on the server.")
        path = self.storage.incoming_path(new_id())
        try:
            with disk_errors():
                part, texts = await self._write(
                    path, body, boundary, further, refuses_others=refuses_others
                )
                said = {name: texts.pop(name) for name in further & texts.keys()}
                options = parse_options(texts)
                media_type = await read_media_type(path, part.filename or "")
            form = self._describe(path, part, media_type, options)
            yield replace(form, further=said)
        finally:
            path.unlink(missing_ok=True)

    async def _write(
        self,
        path: Path,
        body: AsyncIterator[bytes],
        boundary: bytes,
        further: frozenset[str],
        *,
        refuses_others: bool,
    ) -> tuple[FilePart, dict[str, list[str]]]:
        """Bring the file to the disk, durably. Raises OSError when the disk does not take it."""
        with path.open("xb") as target:
            part = FilePart(target, self.limit_bytes)
            body = iter_in_time(body, self.patience)
            texts = await read_form(
                body, boundary, part, further=further, refuses_others=refuses_others
            )
            target.flush()
            await asyncio.to_thread(os.fsync, target.fileno())
        return part, texts

    def _describe(
        self, path: Path, part: FilePart, media_type: str, options: UploadOptions
    ) -> ReceivedForm:
        password, expires_at = options.password, options.expires_at
        sha256 = part.sha256.digest()
        said: list[object] = [part.filename, password, expires_at and expires_at.isoformat()]
        if options.tags is not None or options.metadata is not None:
            said += [options.tags, options.metadata]
        if options.visibility is not None:
            said.append({"visibility": options.visibility})
        message = _DIGEST_CONTEXT + sha256 + json.dumps(said, sort_keys=True).encode()
        file = IncomingFile(
            path=path,
            filename=part.filename or "",
            media_type=media_type,
            size_bytes=part.size_bytes,
            sha256=sha256,
            sealed_password=None if password is None else self.sealer.seal(password),
            expires_at=expires_at,
            tags=options.tags,
            metadata=options.metadata,
            visibility=options.visibility,
        )
        return ReceivedForm(file, hmac.digest(self.secret, message, "sha256"))
