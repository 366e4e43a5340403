"""ingest_next(): claim a document -> parse -> chunk -> embed -> index -> ready, or failed."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog
from sqlalchemy import text

from app.core.db import Database
from app.core.errors import ProviderError, ProviderErrorKind
from app.core.metrics import INGESTION_OUTCOMES, INGESTION_STAGE_SECONDS
from app.core.storage import BlobStore
from app.ingestion import indexing
from app.ingestion.base import Chunk, Page
from app.ingestion.chunking import chunk_pages
from app.ingestion.embedding import PREFIX_TOKENS, document_title, embedding_text
from app.ingestion.lease import Lease, LeaseLost, claim_next, kept_alive
from app.ingestion.outcomes import IngestErrorCode, remedy_of
from app.ingestion.parsers.base import DocumentUnreadable, ParsedDocument
from app.ingestion.parsing import open_document
from app.llm.base import EmbeddingProvider
from app.llm.embedder import Embedder
from app.models.documents import IngestionStage

log = structlog.get_logger(__name__)

CHUNKS_PER_BATCH = 100

_FAIL = text("""
    UPDATE documents SET status = 'failed', stage = NULL, error_code = :code,
        error_message = :message, lease_expires_at = NULL, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
""")


@dataclass(frozen=True, slots=True)
class Ingester:
    """What ingestion stands on."""

    db: Database
    storage: BlobStore
    embedder: Embedder
    embedding: EmbeddingProvider


@dataclass(frozen=True, slots=True)
class _Batch:
    """Chunks that are embedded and committed together, and the pages that came with them."""

    pages: list[Page]
    chunks: list[Chunk]


async def ingest_next(ingester: Ingester) -> bool:
    """Claim one queued document and bring it to ready or failed. False when none was queued.

    Killed at any point it leaves a document that another worker starts again. Raises what the
    database raises; the document then stays claimed until its lease expires.
    """
    async with ingester.db.system_transaction() as session:
        lease = await claim_next(session)
    if lease is None:
        return False
    structlog.contextvars.bind_contextvars(document_id=str(lease.document_id))
    try:
        await _ingest_and_record(ingester, lease)
    finally:
        structlog.contextvars.unbind_contextvars("document_id")
    return True


async def _ingest_and_record(ingester: Ingester, lease: Lease) -> None:
    started = time.monotonic()
    try:
        outcome = await _ingest_or_fail(ingester, lease)
    except LeaseLost:
        outcome = "lease_lost"
    INGESTION_OUTCOMES.labels(outcome=outcome).inc()
    log.info("ingestion_ended", outcome=outcome, elapsed_ms=_milliseconds_since(started))


async def _ingest_or_fail(ingester: Ingester, lease: Lease) -> str:
    """Return the outcome: ready, or the error code that was recorded. Raises LeaseLost."""
    try:
        async with kept_alive(ingester.db, lease):
            await _ingest(ingester, lease)
    except DocumentUnreadable as error:
        return await _fail(ingester.db, lease, error.error_code, error.message)
    except ProviderError as error:
        code = _code_of(error)
        return await _fail(ingester.db, lease, code, remedy_of(code))
    return "ready"


async def _ingest(ingester: Ingester, lease: Lease) -> None:
    async with ingester.db.transaction(lease) as session:
        # What an attempt that was killed left behind.
        await indexing.discard_other_generations(session, lease, keep=lease.generation)
    path = ingester.storage.path(lease.org_id, lease.document_id)
    async with _opened(path, lease.media_type) as document:
        title = document_title(lease.filename, document.title)
        chunk_count = 0
        # Closed before the document is, whatever happens here: a thread may be reading it.
        async with aclosing(_read_batches(document, ingester.embedding)) as batches:
            async for batch in batches:
                await _index_batch(ingester, lease, document, batch, title=title)
                chunk_count += len(batch.chunks)
    if not chunk_count:
        raise DocumentUnreadable(IngestErrorCode.NO_TEXT)
    async with ingester.db.transaction(lease) as session:
        await indexing.publish(
            session, lease, page_count=document.page_count, chunk_count=chunk_count
        )


async def _index_batch(
    ingester: Ingester, lease: Lease, document: ParsedDocument, batch: _Batch, *, title: str
) -> None:
    """Embed one batch and commit it. No transaction is open while the vectors are made."""
    with _timed(IngestionStage.EMBEDDING):
        vectors = await ingester.embedder.embed_documents(
            [embedding_text(chunk, title=title) for chunk in batch.chunks]
        )
    space_id = await _ensure_space(ingester, dimensions=vectors.shape[1])
    with _timed(IngestionStage.INDEXING):
        async with ingester.db.transaction(lease) as session:
            await indexing.insert_batch(
                session,
                lease,
                space_id=space_id,
                title=title,
                pages=batch.pages,
                chunks=batch.chunks,
                vectors=vectors,
            )
            await indexing.report_progress(
                session,
                lease,
                stage=IngestionStage.EMBEDDING,
                percent=min(99, 100 * batch.chunks[-1].page_end // document.page_count),
                page_count=document.page_count,
                title=title,
            )


@asynccontextmanager
async def _opened(path: Path, media_type: str) -> AsyncIterator[ParsedDocument]:
    """Open and close the document in a thread. Raises DocumentUnreadable."""
    opening = open_document(path, media_type)
    try:
        document = await asyncio.to_thread(opening.__enter__)
    except FileNotFoundError as error:
        # No attempt will find it; uploading the file again puts it back.
        detail = "The stored file is gone."
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail=detail) from error
    try:
        yield document
    finally:
        await asyncio.to_thread(opening.__exit__, None, None, None)


async def _read_batches(
    document: ParsedDocument, embedding: EmbeddingProvider
) -> AsyncGenerator[_Batch]:
    """Parse and chunk in a thread, one batch ahead of the reader."""
    batches = _iter_batches(document, embedding)
    ahead = asyncio.create_task(asyncio.to_thread(_next_batch, batches))
    try:
        # Shielded: a cancelled task would say that it is done while its thread goes on.
        while (batch := await asyncio.shield(ahead)) is not None:
            ahead = asyncio.create_task(asyncio.to_thread(_next_batch, batches))
            yield batch
    finally:
        await asyncio.wait([ahead])
        ahead.exception()  # marks it as seen when nobody asks for the batch any more


def _next_batch(batches: Iterator[_Batch]) -> _Batch | None:
    with _timed(IngestionStage.PARSING):
        return next(batches, None)


def _iter_batches(document: ParsedDocument, embedding: EmbeddingProvider) -> Iterator[_Batch]:
    pages: list[Page] = []

    def seen_pages() -> Iterator[Page]:
        for page in document.pages():
            pages.append(page)
            yield page

    chunks = chunk_pages(
        seen_pages(),
        tokenizer=embedding.tokenizer,
        max_tokens=embedding.max_input_tokens - PREFIX_TOKENS,
        markup=document.markup,
    )
    # One batch is held back, so that the pages behind the last chunk go with the last batch.
    held: _Batch | None = None
    while some := list(islice(chunks, CHUNKS_PER_BATCH)):
        if held is not None:
            yield held
        held = _Batch(pages[:], some)
        pages.clear()
    if held is not None:
        yield _Batch(held.pages + pages, held.chunks)


async def _ensure_space(ingester: Ingester, *, dimensions: int) -> int:
    embedding = ingester.embedding
    async with ingester.db.system_transaction() as session:
        return await indexing.ensure_space(
            session, provider=embedding.name, model=embedding.model, dimensions=dimensions
        )


async def _fail(db: Database, lease: Lease, code: IngestErrorCode, message: str) -> str:
    """Record a final failure with what the user can do. Returns the code. Raises LeaseLost."""
    log.warning("ingestion_failed", error_code=str(code))
    async with db.transaction(lease) as session:
        await indexing.discard_other_generations(session, lease, keep=lease.generation)
        await session.execute(_FAIL, {**lease.key, "code": code, "message": message})
    return str(code)


def _code_of(error: ProviderError) -> IngestErrorCode:
    if error.kind is ProviderErrorKind.PROTOCOL:
        return IngestErrorCode.EMBEDDING_INVALID
    return IngestErrorCode.EMBEDDING_UNAVAILABLE


@contextmanager
def _timed(stage: IngestionStage) -> Iterator[None]:
    with INGESTION_STAGE_SECONDS.labels(stage=stage).time():
        yield


def _milliseconds_since(started: float) -> int:
    return round(1000 * (time.monotonic() - started))
