"""Documents as files of OpenAI's API.

A file is a document: what is uploaded here is in search, in the web app, and the other way round.
The same bytes are one file, however often they come; deleting it deletes the document.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from app.core.errors import UnprocessableRequest
from app.core.ids import new_id
from app.core.text import AnyText
from app.dependencies import Reader, ResourcesDep, UploadCaller, Writer, get_intake, get_uploader
from app.documents import openai_files
from app.documents.deletion import delete_document
from app.documents.intake import Intake
from app.documents.listing import Listing
from app.documents.multipart import ENVELOPE_BYTES
from app.documents.openai_files import FileView
from app.documents.uploads import Uploader
from app.models.documents import DocumentStatus
from app.models.vector_stores import FilePurpose
from app.routers.documents import get_content
from app.routers.openai_shapes import (
    FILE,
    AfterQuery,
    ListOut,
    OrderQuery,
    list_ends,
    parse_id,
    to_id,
    to_seconds,
    unsupported_value,
)
from app.routers.uploads import body_of, content_length_of

router = APIRouter(prefix="/v1/files", tags=["openai"])

_PURPOSES = " or ".join(FilePurpose)
_PURPOSE = "purpose"
_EXPIRY_ANCHOR, _EXPIRY_SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_FIELDS = frozenset({_PURPOSE, _EXPIRY_ANCHOR, _EXPIRY_SECONDS})
_MIN_EXPIRY_S, _MAX_EXPIRY_S = 3_600, 2_592_000
_STATES = {DocumentStatus.READY: "processed", DocumentStatus.FAILED: "error"}
_FORM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", _PURPOSE],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        _PURPOSE: {"type": "string", "enum": [*FilePurpose]},
                        _EXPIRY_ANCHOR: {"type": "string", "enum": ["created_at"]},
                        _EXPIRY_SECONDS: {
                            "type": "integer",
                            "minimum": _MIN_EXPIRY_S,
                            "maximum": _MAX_EXPIRY_S,
                        },
                    },
                }
            }
        },
    }
}


class FileOut(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: FilePurpose
    status: str = Field(description="uploaded, processed or error.")
    status_details: str | None = Field(description="Of an error: what to do.")


class FileListOut(ListOut):
    data: list[FileOut]


class FileDeletedOut(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post("", openapi_extra=_FORM_BODY)
async def upload_file(
    request: Request,
    caller: UploadCaller,
    resources: ResourcesDep,
    intake: Annotated[Intake, Depends(get_intake)],
    uploader: Annotated[Uploader, Depends(get_uploader)],
) -> FileOut:
    """Take in one file, which is then processed. The same bytes again give the file there is.

    The form may hold the fields of `/api/v1/documents/upload` besides.
    """
    size_bytes = max(0, (content_length_of(request) or 0) - ENVELOPE_BYTES)
    async with resources.db.transaction(caller) as session:
        await intake.check_room(session, caller.org_id, size_bytes=size_bytes)
        await intake.check_queue(session, caller.org_id)
    form = uploader.receive(
        body_of(request),
        content_type=request.headers.get("content-type", ""),
        content_length=content_length_of(request),
        further=_FIELDS,
        refuses_others=True,
    )
    async with form as received:
        purpose, expires_after_s = _read_fields(received.further)
        async with resources.db.transaction(caller) as session:
            result = await intake.add(session, caller, received.file, document_id=new_id())
            view = await openai_files.describe_file(
                session, result, purpose=purpose, expires_after_s=expires_after_s
            )
            return _out(view)


@router.get("")
async def list_files(
    caller: Reader,
    resources: ResourcesDep,
    after: AfterQuery = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: OrderQuery = "desc",
    purpose: Annotated[AnyText | None, Query(max_length=100)] = None,
) -> FileListOut:
    """All documents that the caller may see; what came in another way counts as `user_data`."""
    listing = Listing(
        limit,
        after=parse_id(FILE, after, param="after") if after else None,
        is_ascending=order == "asc",
    )
    async with resources.db.transaction(caller) as session:
        found = await openai_files.list_files(session, caller.org_id, listing, purpose=purpose)
    files = [_out(view) for view in found.items]
    return FileListOut(
        data=files, has_more=found.has_more, **list_ends([file.id for file in files])
    )


@router.get("/{file_id}")
async def get_file(file_id: str, caller: Reader, resources: ResourcesDep) -> FileOut:
    async with resources.db.transaction(caller) as session:
        document_id = parse_id(FILE, file_id, param="file_id")
        return _out(await openai_files.get_file(session, caller.org_id, document_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, caller: Writer, resources: ResourcesDep) -> FileDeletedOut:
    """Delete the document: gone for every reader at once, also from all vector stores."""
    document_id = parse_id(FILE, file_id, param="file_id")
    async with resources.db.transaction(caller) as session:
        await openai_files.get_file(session, caller.org_id, document_id)  # a deleted one is 404
        await delete_document(session, caller.org_id, document_id, requested_by=caller.user_id)
    return FileDeletedOut(id=file_id)


@router.get("/{file_id}/content", response_class=FileResponse)
async def get_file_content(file_id: str, caller: Reader, resources: ResourcesDep) -> FileResponse:
    """The original file, whatever it was uploaded for."""
    document_id = parse_id(FILE, file_id, param="file_id")
    async with resources.db.transaction(caller) as session:
        await openai_files.get_file(session, caller.org_id, document_id)
    return await get_content(document_id, caller, resources)


def _read_fields(texts: Mapping[str, list[str]]) -> tuple[FilePurpose, int | None]:
    """Return purpose and seconds until expiry. Raises InvalidRequest or UnprocessableRequest."""
    said = {name: values[0] for name, values in texts.items()}
    if _PURPOSE not in said:
        raise UnprocessableRequest(f"{_PURPOSE}: it is missing.", param=_PURPOSE)
    try:
        purpose = FilePurpose(said[_PURPOSE])
    except ValueError as error:
        raise unsupported_value(_PURPOSE, _PURPOSES) from error
    if not said.keys() & {_EXPIRY_ANCHOR, _EXPIRY_SECONDS}:
        return purpose, None
    seconds = said.get(_EXPIRY_SECONDS, "")
    if said.get(_EXPIRY_ANCHOR) != "created_at" or not _is_expiry(seconds):
        raise UnprocessableRequest(
            f"expires_after: give `created_at` as its anchor, and {_MIN_EXPIRY_S:,} to "
            f"{_MAX_EXPIRY_S:,} seconds.",
            param="expires_after",
        )
    return purpose, int(seconds)


def _is_expiry(text: str) -> bool:
    is_number = text.isascii() and text.isdigit() and len(text) < 9
    return is_number and _MIN_EXPIRY_S <= int(text) <= _MAX_EXPIRY_S


def _out(view: FileView) -> FileOut:
    document = view.document
    return FileOut(
        id=to_id(FILE, document.id),
        bytes=document.size_bytes,
        created_at=to_seconds(document.created_at),
        expires_at=to_seconds(document.expires_at) if document.expires_at else None,
        filename=document.filename,
        purpose=view.purpose,
        status=_STATES.get(DocumentStatus(document.status), "uploaded"),
        status_details=document.error_message,
    )
