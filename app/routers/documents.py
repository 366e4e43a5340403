"""Upload, list, inspect, download and delete documents."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette import responses
from starlette.requests import ClientDisconnect

from app.core.errors import InvalidRequest, NotFound, PermissionDenied, RangeNotSatisfiable
from app.core.pagination import Cursor
from app.core.text import storable
from app.dependencies import Caller, ResourcesDep, get_uploader
from app.documents import library
from app.documents.uploads import Uploader
from app.models.accounts import MemberRole
from app.models.documents import Document, DocumentStatus, IngestionStage

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

# What a browser is told. Text is never served as something that it would render.
_CONTENT_TYPES = {"application/pdf": "application/pdf"}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class DocumentOut(BaseModel):
    """A document and how far its ingestion is. `error_*` say why it failed and what to do."""

    id: UUID
    filename: str
    title: str | None
    media_type: str
    size_bytes: int
    status: DocumentStatus
    stage: IngestionStage | None
    percent: int = Field(ge=0, le=100)
    page_count: int | None
    chunk_count: int
    error_code: str | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    items: list[DocumentOut]
    next_cursor: str | None


class UploadOut(BaseModel):
    document_id: UUID
    filename: str
    status: str = Field(description="`processing`, or the real status of a known document.")
    message: str
    media_type: str
    size_bytes: int
    deduplicated: bool


@router.post("/upload", status_code=status.HTTP_202_ACCEPTED, openapi_extra=_UPLOAD_BODY)
async def upload_document(
    request: Request,
    response: Response,
    caller: Caller,
    uploader: Annotated[Uploader, Depends(get_uploader)],
) -> UploadOut:
    """Take in one file. The same bytes again give the document that is there (200)."""
    _require_writer(caller.role)
    length = request.headers.get("content-length", "")
    result = await uploader.receive(
        caller,
        _body_of(request),
        content_type=request.headers.get("content-type", ""),
        content_length=int(length) if length.isascii() and length.isdigit() else None,
    )
    document = result.document
    response.headers["Location"] = f"/api/v1/documents/{document.id}"
    if not result.is_new:
        response.status_code = status.HTTP_200_OK
    return UploadOut(
        document_id=document.id,
        filename=document.filename,
        status="processing" if result.is_new else document.status,
        message=_upload_message(document, is_new=result.is_new),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        deduplicated=not result.is_new,
    )


@router.get("")
async def list_documents(
    caller: Caller,
    resources: ResourcesDep,
    status: DocumentStatus | None = None,
    name: Annotated[str | None, Query(max_length=255)] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """Documents, newest first; `name` is any part of the file name."""
    async with resources.db.transaction(caller) as session:
        page = await library.list_documents(
            session,
            caller.org_id,
            status=status,
            name=storable(name) if name else None,
            cursor=Cursor.decode(cursor) if cursor else None,
            limit=limit,
        )
    return DocumentPage(items=[_out(d) for d in page.items], next_cursor=page.next_cursor)


@router.get("/{document_id}")
async def get_document(document_id: UUID, caller: Caller, resources: ResourcesDep) -> DocumentOut:
    async with resources.db.transaction(caller) as session:
        return _out(await library.get_document(session, caller.org_id, document_id))


@router.get("/{document_id}/content", response_class=FileResponse)
async def get_content(document_id: UUID, caller: Caller, resources: ResourcesDep) -> FileResponse:
    """The original file, with range requests. Always as a download: its content is untrusted."""
    async with resources.db.transaction(caller) as session:
        document = await library.get_document(session, caller.org_id, document_id)
    path = resources.storage.path(caller.org_id, document.id)
    try:
        stat_result = path.stat()
    except FileNotFoundError as error:
        raise NotFound("The file of this document is gone.", code="file_missing") from error
    return _Download(
        path,
        media_type=_CONTENT_TYPES.get(document.media_type, "text/plain; charset=utf-8"),
        filename=document.filename,
        stat_result=stat_result,
        headers={"Content-Security-Policy": "sandbox; default-src 'none'"},
    )


@router.delete("/{document_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_document(document_id: UUID, caller: Caller, resources: ResourcesDep) -> None:
    """Delete a document: gone for every reader at once, then removed with its chunks and file."""
    _require_writer(caller.role)
    async with resources.db.transaction(caller) as session:
        await library.delete_document(session, caller.org_id, document_id)


async def _body_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises InvalidRequest when the client is gone."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise InvalidRequest("The client went away.", code="client_disconnected") from error


class _Download(FileResponse):
    """Starlette answers bad ranges in plain text: this ignores or refuses them as our routes do."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except responses.MalformedRangeHeader:
            return []  # the whole file: RFC 9110, section 14.2, lets a server ignore it
        except responses.RangeNotSatisfiable as error:
            raise RangeNotSatisfiable(f"The file has {file_size} bytes.", param="Range") from error


def _require_writer(role: MemberRole) -> None:
    if role is MemberRole.VIEWER:
        raise PermissionDenied("Viewers can't change documents.")


def _upload_message(document: Document, *, is_new: bool) -> str:
    if is_new:
        return "The document is being processed."
    if document.status == DocumentStatus.READY:
        return "This document is here already."
    return "This document is here already and is being processed."


def _out(document: Document) -> DocumentOut:
    return DocumentOut.model_validate(document, from_attributes=True)
