"""Vector stores in the shape of OpenAI's API: named sets of documents, and search in them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from sqlalchemy import select

from app.core.errors import NotFound, UnprocessableRequest
from app.core.text import AnyText
from app.dependencies import Reader, ResourcesDep, Searcher, Writer, get_retriever
from app.documents import vector_stores
from app.documents.vector_stores import (
    Attributes,
    BatchView,
    FileStatus,
    StoredFile,
    StoreSettings,
    StoreView,
)
from app.ingestion.outcomes import IngestErrorCode
from app.models.documents import StoredPage
from app.models.vector_stores import MAX_EXPIRY_DAYS
from app.retrieval.base import RankedChunk, RetrievalQuery
from app.retrieval.filters import Filter, InVectorStores
from app.retrieval.pipeline import Retriever
from app.routers.openai_filters import AttributeValue, FileAttributes, Filters
from app.routers.openai_shapes import (
    BATCH,
    FILE,
    STORE,
    ListOut,
    ListQuery,
    leave_known,
    list_ends,
    parse_id,
    to_id,
    to_listing,
    to_seconds,
    unsupported_value,
)

router = APIRouter(prefix="/v1/vector_stores", tags=["openai"])

MAX_QUERY_CHARS = 4_000
_MAX_QUERIES = 10
_MAX_BATCH = 2_000
# How long SDKs wait between two looks at a file that is being processed.
_POLL_AFTER_MS = "500"
_RANKERS = ("auto", "default-2024-11-15")
# What is wrong with the file itself; anything else is our failure.
_FILE_ERRORS: Mapping[str, str] = {
    IngestErrorCode.UNSUPPORTED_TYPE: "unsupported_file",
    **dict.fromkeys(
        (
            *(IngestErrorCode.ENCRYPTED, IngestErrorCode.WRONG_PASSWORD, IngestErrorCode.CORRUPT),
            *(IngestErrorCode.NO_TEXT, IngestErrorCode.TOO_MANY_PAGES, IngestErrorCode.TOO_LARGE),
        ),
        "invalid_file",
    ),
}

MetadataKey = Annotated[AnyText, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[AnyText, Field(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
FileIds = list[Annotated[str, Field(max_length=100)]]
StatusQuery = Annotated[FileStatus | None, Query(alias="filter")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        return leave_known(body, cls.model_fields, only_values={}, labels=frozenset())


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: Literal["last_active_at"] = "last_active_at"
    days: int = Field(ge=1, le=MAX_EXPIRY_DAYS)


class ChunkingStrategy(BaseModel):
    """How files are cut into chunks is ours to say."""

    type: str

    @model_validator(mode="before")
    @classmethod
    def _is_auto(cls, strategy: object) -> object:
        if isinstance(strategy, dict) and strategy.get("type") != "auto":
            raise unsupported_value("chunking_strategy", '{"type": "auto"}')
        return strategy


class StoreRequest(_Body):
    name: Annotated[AnyText, Field(max_length=256)] = ""
    description: Annotated[AnyText, Field(max_length=2_000)] | None = None
    file_ids: FileIds = Field(default_factory=list, max_length=_MAX_BATCH)
    metadata: Metadata = Field(default_factory=dict)
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None


class StoreChange(BaseModel):
    """What is named is set; null takes it away."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[AnyText, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None


class StoreFileRequest(_Body):
    file_id: str = Field(max_length=100)
    attributes: FileAttributes = Field(default_factory=dict)
    chunking_strategy: ChunkingStrategy | None = None


class AttributesChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    attributes: FileAttributes | None = Field(description="They replace what was there.")


class BatchRequest(_Body):
    """`file_ids` with attributes for all of them, or `files` with their own."""

    file_ids: FileIds | None = Field(default=None, min_length=1, max_length=_MAX_BATCH)
    files: list[StoreFileRequest] | None = Field(default=None, min_length=1, max_length=_MAX_BATCH)
    attributes: FileAttributes = Field(default_factory=dict)
    chunking_strategy: ChunkingStrategy | None = None

    @model_validator(mode="after")
    def _names_files_once(self) -> "BatchRequest":
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("file_ids: send it, or files, and not both")
        return self

    def to_files(self) -> dict[UUID, Attributes]:
        """Raises NotFound for what is no id."""
        if self.files is not None:
            return {_file_id(each.file_id): each.attributes for each in self.files}
        return {_file_id(id_): self.attributes for id_ in self.file_ids or ()}


class RankingOptions(BaseModel):
    """Each search ranks by all that there is: only how good a result must be can be said."""

    model_config = ConfigDict(extra="forbid")

    score_threshold: float = Field(default=0.0, ge=0, le=1)
    ranker: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, body: object) -> object:
        fields = leave_known(body, cls.model_fields, only_values={}, labels=frozenset())
        if isinstance(fields, dict) and fields.get("ranker", "auto") not in _RANKERS:
            raise unsupported_value("ranking_options.ranker", " or ".join(_RANKERS))
        return fields


def _as_list(query: object) -> object:
    return [query] if isinstance(query, str) else query


class StoreSearchRequest(_Body):
    query: Annotated[
        list[Annotated[AnyText, Field(min_length=1, max_length=MAX_QUERY_CHARS)]],
        BeforeValidator(_as_list),
        Field(min_length=1, max_length=_MAX_QUERIES, description="Or one string."),
    ]
    filters: Filters | None = None
    max_num_results: int = Field(default=10, ge=1, le=50)
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = Field(default=False, description="A search is never rewritten.")


class FileCountsOut(BaseModel):
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class StoreOut(BaseModel):
    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    description: str | None
    usage_bytes: int = Field(description="Of the files.")
    file_counts: FileCountsOut = Field(description="Of files that the caller may see.")
    status: str = Field(description="in_progress, completed or expired.")
    expires_after: ExpiresAfter | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class StoreListOut(ListOut):
    data: list[StoreOut]


class StoreDeletedOut(BaseModel):
    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True


class FileErrorOut(BaseModel):
    code: str = Field(description="server_error, unsupported_file or invalid_file.")
    message: str


class StoreFileOut(BaseModel):
    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: FileStatus
    last_error: FileErrorOut | None
    attributes: dict[str, AttributeValue]
    chunking_strategy: dict[str, str] = Field(default={"type": "other"}, description="Ours.")


class StoreFileListOut(ListOut):
    data: list[StoreFileOut]


class StoreFileDeletedOut(BaseModel):
    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


class TextOut(BaseModel):
    type: Literal["text"] = "text"
    text: str


class StoreFileContentOut(BaseModel):
    """The text of the file, page by page."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextOut]
    has_more: Literal[False] = False
    next_page: None = None


class BatchOut(BaseModel):
    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: str = Field(description="in_progress, completed, cancelled or failed.")
    file_counts: FileCountsOut


class FoundOut(BaseModel):
    """A passage. `page_start` and `page_end` are ours."""

    file_id: str
    filename: str
    score: float = Field(ge=0, le=1)
    attributes: dict[str, AttributeValue]
    content: list[TextOut]
    page_start: int
    page_end: int


class FoundPageOut(BaseModel):
    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[FoundOut]
    has_more: Literal[False] = False
    next_page: None = None


# Stores


@router.post("")
async def create_vector_store(
    body: StoreRequest, caller: Writer, resources: ResourcesDep
) -> StoreOut:
    """Make a store, of files that are there. It is the organization's."""
    files: dict[UUID, Attributes] = {_file_id(id_): {} for id_ in body.file_ids}
    said = StoreSettings(
        name=body.name,
        description=body.description,
        metadata=body.metadata,
        expires_after_days=body.expires_after.days if body.expires_after else None,
    )
    async with resources.db.transaction(caller) as session:
        store = await vector_stores.create_store(session, caller, said)
        if files:
            await vector_stores.add_files(session, caller.org_id, store.id, files)
        return _store_out(await vector_stores.view_store(session, store))


@router.get("")
async def list_vector_stores(
    query: ListQuery, caller: Reader, resources: ResourcesDep
) -> StoreListOut:
    async with resources.db.transaction(caller) as session:
        found = await vector_stores.list_stores(session, caller.org_id, to_listing(STORE, query))
    stores = [_store_out(view) for view in found.items]
    return StoreListOut(
        data=stores, has_more=found.has_more, **list_ends([store.id for store in stores])
    )


@router.get("/{vector_store_id}")
async def get_vector_store(
    vector_store_id: str, caller: Reader, resources: ResourcesDep
) -> StoreOut:
    async with resources.db.transaction(caller) as session:
        store = await vector_stores.get_store(session, caller.org_id, _store_id(vector_store_id))
        return _store_out(await vector_stores.view_store(session, store))


@router.post("/{vector_store_id}")
async def change_vector_store(
    vector_store_id: str, body: StoreChange, caller: Writer, resources: ResourcesDep
) -> StoreOut:
    changes: dict[str, Any] = {}
    if "name" in body.model_fields_set:
        changes["name"] = body.name or ""
    if "metadata" in body.model_fields_set:
        changes["metadata_"] = body.metadata or {}
    if "expires_after" in body.model_fields_set:
        changes["expires_after_days"] = body.expires_after.days if body.expires_after else None
    async with resources.db.transaction(caller) as session:
        store = await vector_stores.change_store(
            session, caller.org_id, _store_id(vector_store_id), changes
        )
        return _store_out(await vector_stores.view_store(session, store))


@router.delete("/{vector_store_id}")
async def delete_vector_store(
    vector_store_id: str, caller: Writer, resources: ResourcesDep
) -> StoreDeletedOut:
    """Delete the store. Its files stay documents."""
    async with resources.db.transaction(caller) as session:
        await vector_stores.delete_store(session, caller.org_id, _store_id(vector_store_id))
    return StoreDeletedOut(id=vector_store_id)


@router.post("/{vector_store_id}/search")
async def search_vector_store(
    vector_store_id: str,
    body: StoreSearchRequest,
    caller: Searcher,
    resources: ResourcesDep,
    retriever: Annotated[Retriever, Depends(get_retriever)],
) -> FoundPageOut:
    """The passages of the store's files that answer a query, best first; of several, any."""
    store_id = _store_id(vector_store_id)
    if not all(query.strip() for query in body.query):
        raise UnprocessableRequest("query: it is blank.", code="validation_error", param="query")
    async with resources.db.transaction(caller) as session:
        await vector_stores.open_stores(session, caller.org_id, [store_id])
    meter = resources.ledger.meter(caller)
    where = InVectorStores((store_id,), body.filters.to_where() if body.filters else None)
    best: dict[UUID, RankedChunk] = {}
    for query in body.query:
        asked = RetrievalQuery(query.strip(), body.max_num_results, Filter(where=where))
        for chunk in (await retriever.retrieve(caller, asked, meter=meter)).chunks:
            known = best.get(chunk.chunk_id)
            if known is None or known.score < chunk.score:
                best[chunk.chunk_id] = chunk
    ranked = sorted(best.values(), key=lambda chunk: chunk.score, reverse=True)
    kept = [chunk for chunk in ranked if chunk.score >= body.ranking_options.score_threshold]
    kept = kept[: body.max_num_results]
    async with resources.db.transaction(caller) as session:
        attributes = await vector_stores.find_attributes(
            session, caller.org_id, [store_id], [chunk.document_id for chunk in kept]
        )
    return FoundPageOut(
        search_query=body.query, data=[_found_out(chunk, attributes) for chunk in kept]
    )


# Files of a store


@router.post("/{vector_store_id}/files")
async def add_vector_store_file(
    vector_store_id: str, body: StoreFileRequest, caller: Writer, resources: ResourcesDep
) -> StoreFileOut:
    """Put a file into the store. One that is in it gets these attributes."""
    store_id, document_id = _store_id(vector_store_id), _file_id(body.file_id)
    async with resources.db.transaction(caller) as session:
        await vector_stores.add_files(
            session, caller.org_id, store_id, {document_id: body.attributes}
        )
        return _file_out(
            await vector_stores.get_file(session, caller.org_id, store_id, document_id)
        )


@router.get("/{vector_store_id}/files")
async def list_vector_store_files(
    vector_store_id: str,
    query: ListQuery,
    caller: Reader,
    resources: ResourcesDep,
    status: StatusQuery = None,
) -> StoreFileListOut:
    """The files of the store that the caller may see, by when they were uploaded."""
    async with resources.db.transaction(caller) as session:
        found = await vector_stores.list_files(
            session,
            caller.org_id,
            _store_id(vector_store_id),
            to_listing(FILE, query),
            status=status,
        )
    return _files_out(found.items, has_more=found.has_more)


@router.get("/{vector_store_id}/files/{file_id}")
async def get_vector_store_file(
    vector_store_id: str, file_id: str, response: Response, caller: Reader, resources: ResourcesDep
) -> StoreFileOut:
    async with resources.db.transaction(caller) as session:
        found = await vector_stores.get_file(
            session, caller.org_id, _store_id(vector_store_id), _file_id(file_id)
        )
    response.headers["openai-poll-after-ms"] = _POLL_AFTER_MS
    return _file_out(found)


@router.post("/{vector_store_id}/files/{file_id}")
async def change_vector_store_file(
    vector_store_id: str,
    file_id: str,
    body: AttributesChange,
    caller: Writer,
    resources: ResourcesDep,
) -> StoreFileOut:
    """Set the attributes; searches go by them at once."""
    async with resources.db.transaction(caller) as session:
        found = await vector_stores.set_attributes(
            session,
            caller.org_id,
            _store_id(vector_store_id),
            _file_id(file_id),
            body.attributes or {},
        )
        return _file_out(found)


@router.delete("/{vector_store_id}/files/{file_id}")
async def remove_vector_store_file(
    vector_store_id: str, file_id: str, caller: Writer, resources: ResourcesDep
) -> StoreFileDeletedOut:
    """Take a file out of the store. It stays a document."""
    async with resources.db.transaction(caller) as session:
        await vector_stores.remove_file(
            session, caller.org_id, _store_id(vector_store_id), _file_id(file_id)
        )
    return StoreFileDeletedOut(id=file_id)


@router.get("/{vector_store_id}/files/{file_id}/content")
async def get_vector_store_file_content(
    vector_store_id: str, file_id: str, caller: Reader, resources: ResourcesDep
) -> StoreFileContentOut:
    """The text that was read from the file. 404 `not_ready` before that."""
    async with resources.db.transaction(caller) as session:
        found = await vector_stores.get_file(
            session, caller.org_id, _store_id(vector_store_id), _file_id(file_id)
        )
        document = found.document
        if document.generation == 0:
            raise NotFound("This file has not been read.", code="not_ready", param="file_id")
        pages = await session.scalars(
            select(StoredPage.text)
            .where(
                StoredPage.org_id == caller.org_id,
                StoredPage.document_id == document.id,
                StoredPage.generation == document.generation,
            )
            .order_by(StoredPage.number)
        )
        return StoreFileContentOut(data=[TextOut(text=text) for text in pages])


# Batches


@router.post("/{vector_store_id}/file_batches")
async def create_file_batch(
    vector_store_id: str, body: BatchRequest, caller: Writer, resources: ResourcesDep
) -> BatchOut:
    """Put many files into the store at once."""
    files = body.to_files()
    async with resources.db.transaction(caller) as session:
        return _batch_out(
            await vector_stores.create_batch(
                session, caller.org_id, _store_id(vector_store_id), files
            )
        )


@router.get("/{vector_store_id}/file_batches/{batch_id}")
async def get_file_batch(
    vector_store_id: str, batch_id: str, response: Response, caller: Reader, resources: ResourcesDep
) -> BatchOut:
    response.headers["openai-poll-after-ms"] = _POLL_AFTER_MS
    async with resources.db.transaction(caller) as session:
        return _batch_out(
            await vector_stores.get_batch(
                session, caller.org_id, _store_id(vector_store_id), _batch_id(batch_id)
            )
        )


@router.post("/{vector_store_id}/file_batches/{batch_id}/cancel")
async def cancel_file_batch(
    vector_store_id: str, batch_id: str, caller: Writer, resources: ResourcesDep
) -> BatchOut:
    """Leave out what is not ready yet: it gets no part of the store, but ready all the same."""
    async with resources.db.transaction(caller) as session:
        return _batch_out(
            await vector_stores.cancel_batch(
                session, caller.org_id, _store_id(vector_store_id), _batch_id(batch_id)
            )
        )


@router.get("/{vector_store_id}/file_batches/{batch_id}/files")
async def list_file_batch_files(
    vector_store_id: str,
    batch_id: str,
    query: ListQuery,
    caller: Reader,
    resources: ResourcesDep,
    status: StatusQuery = None,
) -> StoreFileListOut:
    store_id = _store_id(vector_store_id)
    async with resources.db.transaction(caller) as session:
        view = await vector_stores.get_batch(session, caller.org_id, store_id, _batch_id(batch_id))
        found = await vector_stores.list_files(
            session,
            caller.org_id,
            store_id,
            to_listing(FILE, query),
            status=status,
            among=view.batch.document_ids,
        )
    return _files_out(found.items, has_more=found.has_more)


def _store_id(text: str) -> UUID:
    return parse_id(STORE, text, param="vector_store_id")


def _file_id(text: str) -> UUID:
    return parse_id(FILE, text, param="file_id")


def _batch_id(text: str) -> UUID:
    return parse_id(BATCH, text, param="batch_id")


def _counts_out(counts: Mapping[FileStatus, int]) -> FileCountsOut:
    return FileCountsOut(
        **{status.value: counts.get(status, 0) for status in FileStatus},
        total=sum(counts.values()),
    )


def _store_out(view: StoreView) -> StoreOut:
    store = view.store
    status = "in_progress" if view.counts.get(FileStatus.IN_PROGRESS) else "completed"
    days = store.expires_after_days
    return StoreOut(
        id=to_id(STORE, store.id),
        created_at=to_seconds(store.created_at),
        name=store.name,
        description=store.description,
        usage_bytes=view.usage_bytes,
        file_counts=_counts_out(view.counts),
        status="expired" if view.is_expired else status,
        expires_after=ExpiresAfter(days=days) if days else None,
        expires_at=to_seconds(view.expires_at) if view.expires_at else None,
        last_active_at=to_seconds(store.last_active_at),
        metadata=store.metadata_,
    )


def _file_out(found: StoredFile) -> StoreFileOut:
    document = found.document
    error = None
    if found.status is FileStatus.FAILED and document.error_code:
        error = FileErrorOut(
            code=_FILE_ERRORS.get(document.error_code, "server_error"),
            message=document.error_message or "",
        )
    return StoreFileOut(
        id=to_id(FILE, document.id),
        created_at=to_seconds(found.file.created_at),
        vector_store_id=to_id(STORE, found.file.vector_store_id),
        usage_bytes=document.size_bytes,
        status=found.status,
        last_error=error,
        attributes=found.file.attributes,
    )


def _files_out(found: Sequence[StoredFile], *, has_more: bool) -> StoreFileListOut:
    files = [_file_out(each) for each in found]
    return StoreFileListOut(data=files, has_more=has_more, **list_ends([f.id for f in files]))


def _batch_out(view: BatchView) -> BatchOut:
    batch, counts = view.batch, view.counts
    status = "in_progress" if counts.get(FileStatus.IN_PROGRESS) else "completed"
    if batch.cancelled_at is not None:
        status = "cancelled"
    elif counts.get(FileStatus.FAILED, 0) == sum(counts.values()) > 0:
        status = "failed"
    return BatchOut(
        id=to_id(BATCH, batch.id),
        created_at=to_seconds(batch.created_at),
        vector_store_id=to_id(STORE, batch.vector_store_id),
        status=status,
        file_counts=_counts_out(counts),
    )


def _found_out(chunk: RankedChunk, attributes: Mapping[UUID, Attributes]) -> FoundOut:
    return FoundOut(
        file_id=to_id(FILE, chunk.document_id),
        filename=chunk.filename,
        score=chunk.score,
        attributes=dict(attributes.get(chunk.document_id, {})),
        content=[TextOut(text=chunk.text)],
        page_start=chunk.page_start,
        page_end=chunk.page_end,
    )
