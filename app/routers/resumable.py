"""Resumable uploads by the tus protocol 1.0.0: https://tus.io/protocols/resumable-upload.

Extensions: creation, termination, expiration and checksum.
"""

import re
from base64 import b64decode, b64encode
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response, status
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from app.audit_trail import Noted
from app.core.errors import InvalidRequest, PreconditionFailed, UnsupportedMediaType
from app.dependencies import Reader, ResourcesDep, UploadCaller, Writer, get_resumable_uploads
from app.documents.filenames import clean_filename
from app.documents.options import parse_options
from app.documents.partial_file import Checksum
from app.documents.receiving import too_large
from app.documents.resumable import Piece, ResumableUploads, UploadState
from app.routers.uploads import body_of, content_length_of

VERSION: Final = "1.0.0"
CHECKSUM_ALGORITHMS: Final = ("sha1", "sha256")
_PIECE_TYPE = "application/offset+octet-stream"
_PIECE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {_PIECE_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_METADATA = (
    "Pairs of a key and its Base64 value. Known keys: `filename`, `password`, `expires_at`, `tags`,"
    " `metadata`, `visibility` (`shared`, or `private` to you)."
)
_NUMBER = re.compile(r"[0-9]{1,18}")


class _TusRoute(APIRoute):
    """Puts the protocol's version on every response, errors too, as the protocol demands."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = headers["Tus-Version"] = VERSION
            await send(message)

        await super().handle(scope, receive, send_with_version)


router = APIRouter(prefix="/api/v1/uploads", tags=["resumable uploads"], route_class=_TusRoute)


async def require_version(tus_resumable: Annotated[str | None, Header()] = None) -> None:
    """Raises PreconditionFailed for a client that speaks another version, or no tus at all."""
    if tus_resumable != VERSION:
        raise PreconditionFailed(f"Send `Tus-Resumable: {VERSION}`.", param="Tus-Resumable")


UploadsDep = Annotated[ResumableUploads, Depends(get_resumable_uploads)]


class UploadStateOut(BaseModel):
    upload_id: UUID
    filename: str
    size_bytes: int
    offset: int
    expires_at: datetime
    document_id: UUID | None


@router.options("", status_code=status.HTTP_204_NO_CONTENT)
async def show_abilities(caller: Reader, resources: ResourcesDep) -> Response:
    """Tell a tus client what this server can do."""
    return Response(
        status_code=status.HTTP_204_NO_CONTENT,
        headers={
            "Tus-Extension": "creation,termination,expiration,checksum",
            "Tus-Max-Size": str(resources.settings.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
        },
    )


# The caller comes before the version: who is not signed in learns only that.
@router.post("", status_code=status.HTTP_201_CREATED)
async def create_upload(
    response: Response,
    caller: UploadCaller,
    uploads: UploadsDep,
    _version: Annotated[None, Depends(require_version)],
    note: Noted,
    upload_length: Annotated[str | None, Header()] = None,
    upload_metadata: Annotated[str, Header(description=_METADATA)] = "",
) -> UploadStateOut:
    """Announce a file of `Upload-Length` bytes; it is sent to the `Location` of the answer."""
    size_bytes = _parse_size(upload_length, limit_bytes=uploads.limit_bytes)
    metadata = _parse_metadata(upload_metadata)
    state = await uploads.create(
        caller,
        size_bytes=size_bytes,
        filename=clean_filename(metadata.get("filename") or metadata.get("name") or ""),
        options=parse_options({key: [value] for key, value in metadata.items()}),
    )
    note.object_id = str(state.upload_id)
    response.headers["Location"] = f"/api/v1/uploads/{state.upload_id}"
    response.headers["Upload-Expires"] = format_datetime(state.expires_at, usegmt=True)
    return _out(state)


@router.get("/{upload_id}")
async def get_upload(upload_id: UUID, caller: Writer, uploads: UploadsDep) -> UploadStateOut:
    """Tell how far an upload is, and which document it became."""
    return _out(await uploads.get(caller, upload_id))


@router.head("/{upload_id}")
async def get_offset(
    upload_id: UUID,
    caller: Writer,
    uploads: UploadsDep,
    _version: Annotated[None, Depends(require_version)],
) -> Response:
    """Tell a client where to go on."""
    state = await uploads.get(caller, upload_id)
    filename = b64encode(state.filename.encode()).decode()
    headers = {"Upload-Length": str(state.size_bytes), "Upload-Metadata": f"filename {filename}"}
    return Response(headers=headers | _progress(state))


@router.patch("/{upload_id}", status_code=status.HTTP_204_NO_CONTENT, openapi_extra=_PIECE_BODY)
async def append_piece(
    upload_id: UUID,
    request: Request,
    caller: Writer,
    uploads: UploadsDep,
    _version: Annotated[None, Depends(require_version)],
    upload_offset: Annotated[str, Header()] = "",
    upload_checksum: Annotated[str | None, Header()] = None,
) -> Response:
    """Add a piece at `Upload-Offset`. The last one makes a document: `Document-Id` names it."""
    if request.headers.get("content-type") != _PIECE_TYPE:
        raise UnsupportedMediaType(f"Send the piece as {_PIECE_TYPE}.", param="Content-Type")
    if not _NUMBER.fullmatch(upload_offset):
        raise InvalidRequest("Upload-Offset must be a number of bytes.", param="Upload-Offset")
    piece = Piece(
        body_of(request),
        offset=int(upload_offset),
        length=content_length_of(request),
        checksum=None if upload_checksum is None else _parse_checksum(upload_checksum),
    )
    state = await uploads.append(caller, upload_id, piece)
    return Response(status_code=status.HTTP_204_NO_CONTENT, headers=_progress(state))


@router.delete("/{upload_id}", status_code=status.HTTP_204_NO_CONTENT)
async def terminate_upload(
    upload_id: UUID,
    caller: Writer,
    uploads: UploadsDep,
    _version: Annotated[None, Depends(require_version)],
) -> None:
    """Give an upload up. The document that it became, if any, stays."""
    await uploads.terminate(caller, upload_id)


def _progress(state: UploadState) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(state.offset),
        "Upload-Expires": format_datetime(state.expires_at, usegmt=True),
    }
    if state.document_id is not None:
        headers["Document-Id"] = str(state.document_id)
    return headers


def _parse_size(text: str | None, *, limit_bytes: int) -> int:
    """Raises InvalidRequest, also for a length that is to come later, or PayloadTooLarge."""
    if text is None:
        raise InvalidRequest("Send Upload-Length; it can't be deferred.", param="Upload-Length")
    if text.isascii() and text.isdigit() and not _NUMBER.fullmatch(text):
        raise too_large(limit_bytes)
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest("Upload-Length must be a number of bytes.", param="Upload-Length")
    return int(text)


def _parse_metadata(header: str) -> dict[str, str]:
    """Read `key base64,key base64`; a key may have no value. Raises InvalidRequest."""
    metadata: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, value = pair.strip().partition(" ")
        try:
            text = b64decode(value.strip(), validate=True).decode()
        except ValueError as error:
            raise InvalidRequest(
                "Upload-Metadata must be pairs of a key and Base64 of UTF-8.",
                param="Upload-Metadata",
            ) from error
        if not key or key in metadata:
            raise InvalidRequest(
                "Upload-Metadata has a key twice, or an empty one.", param="Upload-Metadata"
            )
        metadata[key] = text
    return metadata


def _parse_checksum(header: str) -> Checksum:
    algorithm, _, value = header.partition(" ")
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise InvalidRequest(
            f"Use one of these checksums: {', '.join(CHECKSUM_ALGORITHMS)}.",
            param="Upload-Checksum",
        )
    try:
        return Checksum(algorithm, b64decode(value.strip(), validate=True))
    except ValueError as error:
        raise InvalidRequest("Upload-Checksum is no Base64.", param="Upload-Checksum") from error


def _out(state: UploadState) -> UploadStateOut:
    return UploadStateOut.model_validate(state, from_attributes=True)
