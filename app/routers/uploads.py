"""Take in files: a document's first content, and later versions of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response, status
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import ClientDisconnect

from app.accounts.idempotency import Answer, answer_once, check_key, has_answer
from app.accounts.principal import Principal
from app.audit_trail import audit_note
from app.core.errors import InvalidRequest
from app.core.ids import new_id
from app.dependencies import ResourcesDep, UploadCaller, get_intake, get_uploader
from app.documents import library
from app.documents.intake import IncomingFile, Intake, UploadResult
from app.documents.multipart import ENVELOPE_BYTES
from app.documents.options import MAX_PASSWORD_CHARS
from app.documents.uploads import Uploader
from app.models.document_metadata import MAX_KEYS, MAX_TAG_CHARS, MAX_TAGS, Value
from app.models.documents import Document, DocumentStatus, Visibility

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])


_FORM_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "password": {
                            "type": "string",
                            "maxLength": MAX_PASSWORD_CHARS,
                            "description": "Opens an encrypted file. Kept, encrypted, only until "
                            "the file has been read.",
                        },
                        "expires_at": {
                            "type": "string",
                            "format": "date-time",
                            "description": "When the document is to be deleted. A known document "
                            "gets it as its new expiry.",
                        },
                        "tags": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Repeated, or one field with a JSON array or a list "
                            f"with commas: at most {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} "
                            "characters. They replace a known document's.",
                        },
                        "metadata": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "examples": ['{"year": 2022, "company": "3M"}'],
                            "description": f"A flat JSON object, at most {MAX_KEYS} keys: values "
                            "are strings, numbers, true, false, null or lists of strings. It "
                            "replaces a known document's.",
                        },
                        "visibility": {
                            "type": "string",
                            "enum": [*Visibility],
                            "description": "`shared`, as it is unless said, with everybody in the "
                            "organization, or `private` to you. The same bytes are one shared "
                            "document, and one of each user.",
                        },
                    },
                }
            }
        },
    }
}

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters. For 24 hours the same request with the "
        "same key is answered the same, with `Idempotency-Replayed: true`, and done once.",
    ),
]
IntakeDep = Annotated[Intake, Depends(get_intake)]
UploaderDep = Annotated[Uploader, Depends(get_uploader)]


class UploadOut(BaseModel):
    document_id: UUID
    filename: str
    status: str = Field(description="`processing`, or the real status of a known document.")
    message: str
    media_type: str
    size_bytes: int
    deduplicated: bool
    visibility: Visibility = Visibility.SHARED
    tags: list[str] = Field(default_factory=list, description="As they are stored now.")
    metadata: dict[str, Value] = Field(default_factory=dict, description="As it is stored now.")


class ReplaceOut(BaseModel):
    document_id: UUID
    version: int
    filename: str
    status: str = Field(description="`processing`, or the real status if nothing has changed.")
    message: str
    tags: list[str] = Field(default_factory=list, description="As they are stored now.")
    metadata: dict[str, Value] = Field(default_factory=dict, description="As it is stored now.")


@router.post("/upload", status_code=status.HTTP_202_ACCEPTED, openapi_extra=_FORM_BODY)
async def upload_document(
    request: Request,
    response: Response,
    caller: UploadCaller,
    resources: ResourcesDep,
    intake: IntakeDep,
    uploader: UploaderDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> UploadOut:
    """Take in one file. The same bytes again give the document that is there (200)."""
    check_key(idempotency_key)
    async with resources.db.transaction(caller) as session:
        if not await has_answer(session, caller, idempotency_key):
            await intake.check_queue(session, caller.org_id)
            size_bytes = max(0, (content_length_of(request) or 0) - ENVELOPE_BYTES)
            await intake.check_room(session, caller.org_id, size_bytes=size_bytes)

    async def add(session: AsyncSession, file: IncomingFile) -> Answer:
        result = await intake.add(session, caller, file, document_id=new_id())
        return _answer(result, _upload_out(result))

    answer = await _store(request, caller, resources, uploader, idempotency_key, add)
    out = UploadOut.model_validate(answer.body)
    _describe(response, answer, out.document_id)
    audit_note(request).object_id = str(out.document_id)
    return out


@router.put(
    "/{document_id}/content", status_code=status.HTTP_202_ACCEPTED, openapi_extra=_FORM_BODY
)
async def replace_content(
    document_id: UUID,
    request: Request,
    response: Response,
    caller: UploadCaller,
    resources: ResourcesDep,
    intake: IntakeDep,
    uploader: UploaderDep,
    idempotency_key: IdempotencyKeyHeader = None,
) -> ReplaceOut:
    """Give a document new content: readers see the old one until the new one is ready.

    The bytes that it has already change nothing (200); another document's bytes are a 409.
    """
    check_key(idempotency_key)
    async with resources.db.transaction(caller) as session:
        if not await has_answer(session, caller, idempotency_key):
            await library.get_document(session, caller.org_id, document_id)
            await intake.check_queue(session, caller.org_id)

    async def replace(session: AsyncSession, file: IncomingFile) -> Answer:
        result = await intake.replace(session, caller, file, document_id=document_id)
        return _answer(result, _replace_out(result))

    answer = await _store(request, caller, resources, uploader, idempotency_key, replace)
    _describe(response, answer, document_id)
    return ReplaceOut.model_validate(answer.body)


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises InvalidRequest when the client is gone."""
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect as error:
        raise InvalidRequest("The client went away.", code="client_disconnected") from error


def content_length_of(request: Request) -> int | None:
    """What the client says; None if it says nothing, or nonsense."""
    length = request.headers.get("content-length", "")
    # Longer ones would be no size of anything, and slow to convert.
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None


async def _store(
    request: Request,
    caller: Principal,
    resources: ResourcesDep,
    uploader: Uploader,
    key: str | None,
    act: Callable[[AsyncSession, IncomingFile], Awaitable[Answer]],
) -> Answer:
    """Receive the form, then act on its file in one transaction, once for each key."""
    form = uploader.receive(
        body_of(request),
        content_type=request.headers.get("content-type", ""),
        content_length=content_length_of(request),
    )
    async with form as received, resources.db.transaction(caller) as session:
        what = f"{request.method} {request.url.path}\n".encode()
        return await answer_once(
            session,
            caller,
            key,
            request_hash=sha256(what + received.digest).digest(),
            act=lambda: act(session, received.file),
        )


def _answer(result: UploadResult, out: BaseModel) -> Answer:
    code = status.HTTP_202_ACCEPTED if result.is_new else status.HTTP_200_OK
    return Answer(code, out.model_dump(mode="json"))


def _describe(response: Response, answer: Answer, document_id: UUID) -> None:
    response.status_code = answer.status
    response.headers["Location"] = f"/api/v1/documents/{document_id}"
    if answer.is_replayed:
        response.headers["Idempotency-Replayed"] = "true"


def _upload_out(result: UploadResult) -> UploadOut:
    document = result.document
    return UploadOut(
        document_id=document.id,
        filename=document.filename,
        status="processing" if result.is_new else document.status,
        message=_upload_message(document, is_new=result.is_new),
        media_type=document.media_type,
        size_bytes=document.size_bytes,
        deduplicated=not result.is_new,
        visibility=document.visibility,
        tags=document.tags,
        metadata=document.metadata_,
    )


def _replace_out(result: UploadResult) -> ReplaceOut:
    document = result.document
    return ReplaceOut(
        document_id=document.id,
        version=document.version,
        filename=document.filename,
        status="processing" if result.is_new else document.status,
        message="The new content is being processed."
        if result.is_new
        else "This is the document's content already.",
        tags=document.tags,
        metadata=document.metadata_,
    )


def _upload_message(document: Document, *, is_new: bool) -> str:
    if is_new:
        return "The document is being processed."
    if document.status == DocumentStatus.READY:
        return "This document is here already."
    return "This document is here already and is being processed."
