"""List, inspect, download, cancel, retry, expire and delete documents."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status
from fastapi.responses import FileResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    computed_field,
    model_validator,
)
from starlette import responses

from app.accounts.principal import Principal
from app.audit_trail import Noted
from app.core.errors import NotFound, RangeNotSatisfiable
from app.core.text import storable
from app.core.times import FutureTime
from app.dependencies import Reader, ResourcesDep, Writer, get_intake
from app.documents import library, lifecycle
from app.documents.deletion import delete_document
from app.documents.intake import Intake
from app.documents.library import DocumentFilter, DocumentView
from app.documents.options import MAX_PASSWORD_CHARS, check_password
from app.documents.sorting import DocumentSort, SortCursor, SortOrder, make_sorting
from app.documents.suggestions import suggest_questions
from app.documents.versions import list_versions
from app.documents.visibility import set_visibility
from app.ingestion.media_types import CONTENT_TYPES
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.models.document_metadata import (
    MAX_TAG_CHARS,
    MAX_TAGS,
    Value,
    check_metadata,
    check_tag,
    check_tags,
)
from app.models.documents import DocumentStatus, IngestionStage, VersionStatus, Visibility
from app.resources import Resources

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

_MAX_TAGS_LISTED = 500
_MAX_VERSIONS_LISTED = 500

Tag = Annotated[str, AfterValidator(check_tag)]


class DocumentOut(BaseModel):
    """A document and how far its ingestion is. `error_*` say why it failed and what to do."""

    id: UUID
    filename: str
    title: str | None
    media_type: str
    size_bytes: int
    version: int = Field(description="Of the newest content; the name, type and size are its own.")
    ready_version: int = Field(description="What is searched and downloaded; 0: none is ready yet.")
    status: DocumentStatus
    stage: IngestionStage | None
    percent: int = Field(ge=0, le=100)
    pages_done: int
    pages_total: int | None
    queue_position: int | None = Field(
        default=None,
        ge=1,
        description="Among the queued ones that are shared or, of a private one, yours; 1 is next.",
    )
    page_count: int | None
    chunk_count: int
    warning_count: int = Field(description="Pages with a warning; the report has them.")
    error_code: IngestErrorCode | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = Field(description="When it is deleted; null: never.")
    visibility: Visibility = Field(
        description="`shared`: everybody in the organization sees it; `private`: nobody but you."
    )
    tags: list[str]
    # The row's attribute has another name.
    metadata: dict[str, Value] = Field(validation_alias="metadata_")

    @computed_field(description="Whether the same file can get ready when it is tried again.")
    def retryable(self) -> bool | None:
        return OUTCOMES[self.error_code].is_retryable if self.error_code else None


class DocumentPage(BaseModel):
    items: list[DocumentOut]
    next_cursor: str | None
    total: int = Field(description="How many documents the filter lets through, on all pages.")


class DocumentTag(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    tag: str
    documents: int = Field(description="How many documents have it.")


class DocumentTagList(BaseModel):
    items: list[DocumentTag]


class SuggestedQuestion(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    question: str
    document_id: UUID
    filename: str
    heading: str | None = Field(description="What it asks about; null: the document as a whole.")


class SuggestedQuestionList(BaseModel):
    items: list[SuggestedQuestion]


class DocumentVersionOut(BaseModel):
    """One of the contents that a document has had."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    filename: str
    media_type: str
    size_bytes: int | None = Field(description="Null: not known of a very old version.")
    uploaded_at: datetime
    ready_at: datetime | None
    status: VersionStatus
    error_code: IngestErrorCode | Literal["superseded"] | None = Field(
        description="`superseded`: the next version came before this one was ready."
    )
    page_count: int | None = Field(description="Null unless it got ready.")
    chunk_count: int | None = Field(description="Null unless it got ready.")
    is_served: bool = Field(description="Whether it is what is searched and downloaded.")


class DocumentVersionList(BaseModel):
    items: list[DocumentVersionOut]


class DocumentPatch(BaseModel):
    """What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")

    expires_at: FutureTime | None = Field(
        default=None, description="When the document is deleted, with a time zone; null: never."
    )
    tags: Annotated[list[str], PlainValidator(check_tags, list[str])] = Field(
        default=[], description="All of its tags from now on."
    )
    metadata: Annotated[dict[str, Value], PlainValidator(check_metadata, dict[str, Value])] = Field(
        default={}, description="All of its metadata from now on: a flat object."
    )
    visibility: Visibility = Field(
        default=Visibility.SHARED,
        description="`private`, which only who uploaded it can choose: nobody else sees it any "
        "more. `shared`: everybody in the organization does.",
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one of expires_at, tags, metadata and visibility")
        return self


class RetryRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    password: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PASSWORD_CHARS,
        description="Opens an encrypted file. Kept until it has been read.",
    )


class DeletionStarted(BaseModel):
    deletion_id: UUID
    document_id: UUID
    status_url: str


@router.get("")
async def list_documents(
    caller: Reader,
    resources: ResourcesDep,
    status: Annotated[list[DocumentStatus] | None, Query(max_length=len(DocumentStatus))] = None,
    name: Annotated[str | None, Query(max_length=255)] = None,
    tag: Annotated[list[Tag] | None, Query(max_length=MAX_TAGS)] = None,
    visibility: Visibility | None = None,
    sort: DocumentSort = DocumentSort.CREATED,
    order: SortOrder | None = None,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DocumentPage:
    """Documents, newest first; `name` is any part of the file name.

    `status` and `tag` may come several times: documents have one of the former and all of the
    latter. Unless `order` is said, names and statuses go from A to Z, and the newest or largest
    come first; documents whose pages are not known yet come last either way. A cursor goes with
    the `sort` and `order` that it came from. While documents are processed their `updated` moves.
    """
    async with resources.db.transaction(caller) as session:
        page = await library.list_documents(
            session,
            caller.org_id,
            which=DocumentFilter(
                status or (), storable(name) if name else None, tag or (), visibility
            ),
            sorting=make_sorting(sort, order),
            cursor=SortCursor.decode(cursor) if cursor else None,
            limit=limit,
        )
    return DocumentPage(
        items=[_out(view) for view in page.items], next_cursor=page.next_cursor, total=page.total
    )


@router.get("/tags")
async def list_document_tags(
    caller: Reader,
    resources: ResourcesDep,
    prefix: Annotated[str | None, Query(max_length=MAX_TAG_CHARS)] = None,
) -> DocumentTagList:
    """The tags in use, the most used first, at most 500. `prefix`, in any case, begins them."""
    async with resources.db.transaction(caller) as session:
        counts = await library.list_tags(
            session,
            caller.org_id,
            prefix=storable(prefix) if prefix else None,
            limit=_MAX_TAGS_LISTED,
        )
    return DocumentTagList(items=[DocumentTag.model_validate(count) for count in counts])


@router.get("/suggestions")
async def suggest_document_questions(
    caller: Reader,
    resources: ResourcesDep,
    document_id: Annotated[list[UUID] | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=20)] = 4,
) -> SuggestedQuestionList:
    """Questions that the documents' own headings suggest, of the newest ready documents first.

    Made without a model, and the same for the same documents. `document_id` may come several
    times: only these. No document is ready: no question.
    """
    async with resources.db.transaction(caller) as session:
        if document_id:
            await library.check_all_exist(session, caller.org_id, document_id, param="document_id")
        suggestions = await suggest_questions(
            session, caller.org_id, document_ids=document_id, limit=limit
        )
    return SuggestedQuestionList(
        items=[SuggestedQuestion.model_validate(suggestion) for suggestion in suggestions]
    )


@router.get("/{document_id}")
async def get_document(document_id: UUID, caller: Reader, resources: ResourcesDep) -> DocumentOut:
    async with resources.db.transaction(caller) as session:
        return _out(await library.get_view(session, caller.org_id, document_id))


@router.get("/{document_id}/versions")
async def list_document_versions(
    document_id: UUID, caller: Reader, resources: ResourcesDep
) -> DocumentVersionList:
    """The contents that the document has had, newest first, at most 500.

    Only the served one can be downloaded: the file of a version is removed when the next is ready.
    """
    async with resources.db.transaction(caller) as session:
        views = await list_versions(session, caller.org_id, document_id, limit=_MAX_VERSIONS_LISTED)
    return DocumentVersionList(items=[DocumentVersionOut.model_validate(view) for view in views])


@router.patch("/{document_id}")
async def patch_document(
    document_id: UUID, body: DocumentPatch, caller: Writer, resources: ResourcesDep, note: Noted
) -> DocumentOut:
    """Set when the document is deleted by itself, or that it never is; its tags; its metadata; who
    sees it.

    403 `forbidden` for making private what somebody else uploaded, 409 `duplicate_content` where
    the same bytes are shared, or private to you, already.
    """
    named = body.model_fields_set
    note.details = {"changed": sorted(named)}  # tags and metadata may be content
    if "visibility" in named:
        note.details["visibility"] = body.visibility
    async with resources.db.transaction(caller) as session:
        if "visibility" in named:
            await set_visibility(session, caller, document_id, body.visibility)
        if "expires_at" in named:
            await lifecycle.set_expiry(session, caller.org_id, document_id, body.expires_at)
        await library.describe_document(
            session,
            caller.org_id,
            document_id,
            tags=body.tags if "tags" in named else None,
            metadata=body.metadata if "metadata" in named else None,
        )
        return _out(await library.get_view(session, caller.org_id, document_id))


@router.post("/{document_id}/cancel")
async def cancel_document(
    document_id: UUID, caller: Writer, resources: ResourcesDep
) -> DocumentOut:
    """Stop the processing: the document is `failed` with `cancelled`. Readers keep what they see.

    409 `not_in_progress` when it was neither queued nor being processed.
    """
    async with resources.db.transaction(caller) as session:
        await lifecycle.cancel(session, caller.org_id, document_id)
        return _out(await library.get_view(session, caller.org_id, document_id))


@router.post("/{document_id}/retry")
async def retry_document(
    document_id: UUID,
    caller: Writer,
    resources: ResourcesDep,
    intake: Annotated[Intake, Depends(get_intake)],
    body: RetryRequest | None = None,
) -> DocumentOut:
    """Queue a failed document again, if need be with its password. 409 `not_failed` when ready."""
    password = body.password.get_secret_value() if body and body.password else None
    if password is not None:
        check_password(password)
    sealed = resources.sealer.seal(password) if password else None
    async with resources.db.transaction(caller) as session:
        await lifecycle.retry(
            session, caller.org_id, document_id, intake=intake, sealed_password=sealed
        )
        return _out(await library.get_view(session, caller.org_id, document_id))


@router.delete("/{document_id}", status_code=status.HTTP_202_ACCEPTED)
async def remove_document(
    document_id: UUID, response: Response, caller: Writer, resources: ResourcesDep
) -> DeletionStarted:
    """Delete a document: gone for every reader at once, then removed with its chunks and files.

    `status_url` is the receipt, also when it is asked for once more.
    """
    async with resources.db.transaction(caller) as session:
        deletion = await delete_document(
            session, caller.org_id, document_id, requested_by=caller.user_id
        )
    status_url = f"/api/v1/deletions/{deletion.id}"
    response.headers["Location"] = status_url
    return DeletionStarted(deletion_id=deletion.id, document_id=document_id, status_url=status_url)


@router.head("/{document_id}/content", include_in_schema=False)
@router.get("/{document_id}/content", response_class=FileResponse)
async def get_content(document_id: UUID, caller: Reader, resources: ResourcesDep) -> FileResponse:
    """The original file, with range requests. Always as a download: its content is untrusted.

    While a new version is being processed it is the one before, as in search.
    """
    # The file of a version goes when the next one gets ready: then there is that one.
    for _ in range(2):
        download = await _find_content(resources, caller, document_id)
        if download is not None:
            return download
    raise NotFound("The file of this document is gone.", code="file_missing")


async def _find_content(
    resources: Resources, caller: Principal, document_id: UUID
) -> FileResponse | None:
    async with resources.db.transaction(caller) as session:
        document = await library.get_document(session, caller.org_id, document_id)
    version = document.ready_version or document.version
    media_type = document.ready_media_type or document.media_type
    path = resources.storage.path(caller.org_id, document.id, version)
    try:
        stat_result = path.stat()
    except FileNotFoundError:
        return None
    return _Download(
        path,
        # Text of any kind is never served as something that a browser would render.
        media_type=CONTENT_TYPES.get(media_type, "text/plain; charset=utf-8"),
        filename=document.ready_filename or document.filename,
        stat_result=stat_result,
        headers={"Content-Security-Policy": "sandbox; default-src 'none'"},
    )


class _Download(FileResponse):
    """Starlette answers bad ranges in plain text: this ignores or refuses them as our routes do."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except responses.MalformedRangeHeader:
            return []  # the whole file: RFC 9110, section 14.2, lets a server ignore it
        except responses.RangeNotSatisfiable as error:
            raise RangeNotSatisfiable(size_bytes=file_size) from error


def _out(view: DocumentView) -> DocumentOut:
    shown = DocumentOut.model_validate(view.document, from_attributes=True)
    return shown.model_copy(update={"queue_position": view.queue_position})
