"""Vector stores: named sets of documents, with attributes for filters.

A document can be in any number of stores. What leaves a store stays a document; a document that is
deleted leaves all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.errors import InvalidRequest, NotFound
from app.core.ids import new_id
from app.documents.library import check_all_exist, is_visible
from app.documents.listing import Listed, Listing
from app.ingestion.outcomes import IngestErrorCode
from app.models.documents import Document, DocumentStatus
from app.models.vector_stores import VectorStore, VectorStoreBatch, VectorStoreFile

Attributes = Mapping[str, str | float | bool]

MAX_FILES = 10_000
# A store that is searched all the time is not written to each time.
_TOUCH = text("""
    UPDATE vector_stores SET last_active_at = now()
    WHERE org_id = :org_id AND id = ANY (:ids) AND last_active_at < now() - interval '1 minute'
""")
_HOLD = text("SELECT true FROM vector_stores WHERE org_id = :org_id AND id = :id FOR UPDATE")


class FileStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# A document of which readers see an older version is searched, whatever becomes of the new one.
_status_sql = case(
    (VectorStoreFile.cancelled_at.is_not(None), FileStatus.CANCELLED.value),
    (Document.generation > 0, FileStatus.COMPLETED.value),
    (Document.error_code == IngestErrorCode.CANCELLED.value, FileStatus.CANCELLED.value),
    (Document.status == DocumentStatus.FAILED.value, FileStatus.FAILED.value),
    else_=FileStatus.IN_PROGRESS.value,
)
_JOINED = and_(
    Document.org_id == VectorStoreFile.org_id, Document.id == VectorStoreFile.document_id
)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What a caller says of a store."""

    name: str = ""
    description: str | None = None
    metadata: Mapping[str, str] | None = None
    expires_after_days: int | None = None


@dataclass(frozen=True, slots=True)
class StoreView:
    """A store, how many of its files have which status, and what they take on the disk.

    Counts files that the caller may see.
    """

    store: VectorStore
    counts: Mapping[FileStatus, int]
    usage_bytes: int

    @property
    def expires_at(self) -> datetime | None:
        return _expiry(self.store)

    @property
    def is_expired(self) -> bool:
        return _is_expired(self.store)


@dataclass(frozen=True, slots=True)
class StoredFile:
    file: VectorStoreFile
    document: Document
    status: FileStatus


@dataclass(frozen=True, slots=True)
class BatchView:
    batch: VectorStoreBatch
    counts: Mapping[FileStatus, int]


async def create_store(
    session: AsyncSession, principal: Principal, said: StoreSettings
) -> VectorStore:
    store = VectorStore(
        org_id=principal.org_id,
        id=new_id(),
        created_by=principal.user_id,
        name=said.name,
        description=said.description,
        metadata_=dict(said.metadata or {}),
        expires_after_days=said.expires_after_days,
    )
    session.add(store)
    await session.flush()
    await session.refresh(store)
    return store


async def get_store(session: AsyncSession, org_id: UUID, store_id: UUID) -> VectorStore:
    """Raises NotFound."""
    store = await session.scalar(
        select(VectorStore).where(VectorStore.org_id == org_id, VectorStore.id == store_id)
    )
    if store is None:
        raise NotFound("There is no such vector store.", param="vector_store_id")
    return store


async def view_store(session: AsyncSession, store: VectorStore) -> StoreView:
    [view] = await _view(session, store.org_id, [store])
    return view


async def list_stores(session: AsyncSession, org_id: UUID, listing: Listing) -> Listed[StoreView]:
    query = select(VectorStore).where(VectorStore.org_id == org_id)
    found = await listing.read(session, query, VectorStore.id)
    return Listed(
        await _view(session, org_id, [row[0] for row in found.items]), has_more=found.has_more
    )


async def change_store(
    session: AsyncSession, org_id: UUID, store_id: UUID, changes: Mapping[str, Any]
) -> VectorStore:
    """Set `name`, `metadata_` or `expires_after_days`, each where it is named. Raises NotFound."""
    store = await get_store(session, org_id, store_id)
    for name, value in changes.items():
        setattr(store, name, value)
    store.last_active_at = func.now()
    await session.flush()
    await session.refresh(store)
    return store


async def delete_store(session: AsyncSession, org_id: UUID, store_id: UUID) -> None:
    """Its files stay documents. Raises NotFound."""
    store = await get_store(session, org_id, store_id)
    await session.delete(store)


async def open_stores(
    session: AsyncSession, org_id: UUID, store_ids: Sequence[UUID]
) -> list[VectorStore]:
    """Return stores that are to be searched, and note that they are used.

    Raises NotFound, or InvalidRequest (`vector_store_expired`).
    """
    stores = [await get_store(session, org_id, store_id) for store_id in store_ids]
    for store in stores:
        _refuse_expired(store)
    await session.execute(_TOUCH, {"org_id": org_id, "ids": list(store_ids)})
    return stores


async def add_files(
    session: AsyncSession, org_id: UUID, store_id: UUID, files: Mapping[UUID, Attributes]
) -> None:
    """Put documents into a store. One that is in it gets the new attributes.

    Raises NotFound for a store or document that is not there, InvalidRequest where the store has
    expired or would have over MAX_FILES.
    """
    store = await get_store(session, org_id, store_id)
    _refuse_expired(store)
    await check_all_exist(session, org_id, list(files), param="file_id")
    # Who adds at the same time waits: they count each other's files.
    await session.execute(_HOLD, {"org_id": org_id, "id": store_id})
    statement = insert(VectorStoreFile)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["org_id", "vector_store_id", "document_id"],
            set_={"attributes": statement.excluded.attributes, "cancelled_at": None},
        ),
        [
            {
                "org_id": org_id,
                "vector_store_id": store_id,
                "document_id": document_id,
                "attributes": dict(attributes),
            }
            for document_id, attributes in sorted(files.items())
        ],
    )
    count = select(func.count()).select_from(VectorStoreFile).where(*_in_store(org_id, store_id))
    if (await session.scalar(count) or 0) > MAX_FILES:
        raise InvalidRequest(
            f"A vector store has at most {MAX_FILES:,} files.", code="vector_store_full"
        )
    await session.execute(_TOUCH, {"org_id": org_id, "ids": [store_id]})


async def get_file(
    session: AsyncSession, org_id: UUID, store_id: UUID, document_id: UUID
) -> StoredFile:
    """Raises NotFound."""
    await get_store(session, org_id, store_id)
    query = _files(org_id, store_id).where(VectorStoreFile.document_id == document_id)
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise NotFound("There is no such file in this vector store.", param="file_id")
    return _to_file(row)


async def list_files(
    session: AsyncSession,
    org_id: UUID,
    store_id: UUID,
    listing: Listing,
    *,
    status: FileStatus | None = None,
    among: Sequence[UUID] | None = None,
) -> Listed[StoredFile]:
    """Return files by their own age; `among` these ones unless None. Raises NotFound."""
    await get_store(session, org_id, store_id)
    query = _files(org_id, store_id)
    if status is not None:
        query = query.where(_status_sql == status.value)
    if among is not None:
        query = query.where(VectorStoreFile.document_id.in_(among))
    found = await listing.read(session, query, VectorStoreFile.document_id)
    return Listed([_to_file(row) for row in found.items], found.has_more)


async def set_attributes(
    session: AsyncSession, org_id: UUID, store_id: UUID, document_id: UUID, attributes: Attributes
) -> StoredFile:
    """Replace them; searches go by them at once. Raises NotFound."""
    found = await get_file(session, org_id, store_id, document_id)
    found.file.attributes = dict(attributes)
    return found


async def remove_file(
    session: AsyncSession, org_id: UUID, store_id: UUID, document_id: UUID
) -> None:
    """The document stays. Raises NotFound."""
    await get_store(session, org_id, store_id)
    removed = await session.scalar(
        delete(VectorStoreFile)
        .where(*_in_store(org_id, store_id), VectorStoreFile.document_id == document_id)
        .returning(VectorStoreFile.document_id)
    )
    if removed is None:
        raise NotFound("There is no such file in this vector store.", param="file_id")


async def create_batch(
    session: AsyncSession, org_id: UUID, store_id: UUID, files: Mapping[UUID, Attributes]
) -> BatchView:
    """Put documents into a store at once; see `add_files`."""
    await add_files(session, org_id, store_id, files)
    batch = VectorStoreBatch(
        org_id=org_id, id=new_id(), vector_store_id=store_id, document_ids=list(files)
    )
    session.add(batch)
    await session.flush()
    await session.refresh(batch)
    return await _view_batch(session, batch)


async def get_batch(
    session: AsyncSession, org_id: UUID, store_id: UUID, batch_id: UUID
) -> BatchView:
    """Raises NotFound."""
    batch = await session.scalar(
        select(VectorStoreBatch).where(
            VectorStoreBatch.org_id == org_id,
            VectorStoreBatch.id == batch_id,
            VectorStoreBatch.vector_store_id == store_id,
        )
    )
    if batch is None:
        raise NotFound("There is no such batch in this vector store.", param="batch_id")
    return await _view_batch(session, batch)


async def cancel_batch(
    session: AsyncSession, org_id: UUID, store_id: UUID, batch_id: UUID
) -> BatchView:
    """Leave out the files that are not ready; the documents go on getting so. Raises NotFound."""
    batch = (await get_batch(session, org_id, store_id, batch_id)).batch
    if batch.cancelled_at is None:
        batch.cancelled_at = func.now()
        unready = select(Document.id).where(
            Document.org_id == org_id,
            Document.id.in_(batch.document_ids),
            Document.generation == 0,
            Document.status.in_([DocumentStatus.QUEUED.value, DocumentStatus.PROCESSING.value]),
        )
        await session.execute(
            update(VectorStoreFile)
            .where(*_in_store(org_id, store_id), VectorStoreFile.document_id.in_(unready))
            .values(cancelled_at=func.now())
        )
        await session.flush()
        await session.refresh(batch)
    return await _view_batch(session, batch)


async def find_attributes(
    session: AsyncSession, org_id: UUID, store_ids: Sequence[UUID], document_ids: Sequence[UUID]
) -> dict[UUID, Attributes]:
    """Return the attributes of documents; of one in several stores, those in the first of them."""
    rows = await session.execute(
        select(
            VectorStoreFile.vector_store_id, VectorStoreFile.document_id, VectorStoreFile.attributes
        ).where(
            VectorStoreFile.org_id == org_id,
            VectorStoreFile.vector_store_id.in_(store_ids),
            VectorStoreFile.document_id.in_(document_ids),
        )
    )
    found = sorted(rows, key=lambda row: store_ids.index(row.vector_store_id), reverse=True)
    return {row.document_id: row.attributes for row in found}


async def _view(
    session: AsyncSession, org_id: UUID, stores: Sequence[VectorStore]
) -> list[StoreView]:
    rows = await session.execute(
        select(
            VectorStoreFile.vector_store_id,
            _status_sql.label("file_status"),
            func.count().label("files"),
            func.sum(Document.size_bytes).label("size_bytes"),
        )
        .join(Document, _JOINED)
        .where(
            VectorStoreFile.org_id == org_id,
            VectorStoreFile.vector_store_id.in_([store.id for store in stores]),
            *is_visible(org_id),
        )
        .group_by(VectorStoreFile.vector_store_id, text("file_status"))
    )
    counts: dict[UUID, dict[FileStatus, int]] = {store.id: {} for store in stores}
    sizes = dict.fromkeys(counts, 0)
    for row in rows:
        counts[row.vector_store_id][FileStatus(row.file_status)] = row.files
        sizes[row.vector_store_id] += int(row.size_bytes)
    return [StoreView(store, counts[store.id], sizes[store.id]) for store in stores]


async def _view_batch(session: AsyncSession, batch: VectorStoreBatch) -> BatchView:
    rows = await session.execute(
        select(_status_sql.label("file_status"), func.count())
        .select_from(VectorStoreFile)
        .join(Document, _JOINED)
        .where(
            *_in_store(batch.org_id, batch.vector_store_id),
            VectorStoreFile.document_id.in_(batch.document_ids),
            *is_visible(batch.org_id),
        )
        .group_by(text("file_status"))
    )
    return BatchView(batch, {FileStatus(status): count for status, count in rows})


def _files(org_id: UUID, store_id: UUID) -> Select[VectorStoreFile, Document, str]:
    return (
        select(VectorStoreFile, Document, _status_sql)
        .join(Document, _JOINED)
        .where(*_in_store(org_id, store_id), *is_visible(org_id))
    )


def _in_store(org_id: UUID, store_id: UUID) -> tuple[Any, Any]:
    return VectorStoreFile.org_id == org_id, VectorStoreFile.vector_store_id == store_id


def _to_file(row: Any) -> StoredFile:
    file, document, status = row
    return StoredFile(file, document, FileStatus(status))


def _refuse_expired(store: VectorStore) -> None:
    if _is_expired(store):
        raise InvalidRequest(
            "This vector store has expired: make another one.", code="vector_store_expired"
        )


def _is_expired(store: VectorStore) -> bool:
    expiry = _expiry(store)
    return expiry is not None and expiry <= datetime.now(UTC)


def _expiry(store: VectorStore) -> datetime | None:
    if store.expires_after_days is None:
        return None
    return store.last_active_at + timedelta(days=store.expires_after_days)
