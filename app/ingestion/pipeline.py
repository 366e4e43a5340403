"""ingest_next(): claim a document -> parse -> chunk -> embed -> index -> ready, or failed.

What is embedded is committed batch by batch: a killed attempt costs one batch, and the next one
goes on behind it. Pages without text wait for `recognition`, and the document with them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from app.core.db import Database
from app.core.errors import (
    AppError,
    BudgetExceeded,
    ProviderError,
    ProviderErrorKind,
    RateLimited,
    Unavailable,
)
from app.core.jobs import JobName, enqueue
from app.core.metrics import INGESTION_OUTCOMES, INGESTION_STAGE_SECONDS
from app.core.sealing import Sealer
from app.core.storage import BlobStore
from app.ingestion import indexing, recognition
from app.ingestion.base import Page
from app.ingestion.batches import NoText, OcrNeeded, read_batches
from app.ingestion.checkpoints import CheckpointStale, NumberedBatch, skip_committed
from app.ingestion.embedding import document_title, embedding_text
from app.ingestion.kept_spaces import KeptSpaces, hold_live_vectors
from app.ingestion.lease import (
    Checkpoint,
    Lease,
    LeaseLost,
    claim_next,
    give_way,
    hold,
    kept_alive,
    others_wait,
)
from app.ingestion.outcomes import IngestErrorCode, remedy_of
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.rollout import hold_space
from app.ingestion.sandbox import ParserLost, SandboxedDocument, start_sandboxed
from app.llm.base import EmbeddingProvider, FloatMatrix
from app.llm.embedder import Embedder
from app.llm.metering import UNMETERED, CallMeter
from app.models.documents import IngestionStage
from app.usage.metering import Ledger

log = structlog.get_logger(__name__)

# How long a document is worked at while another organization waits for a place.
SLICE_S = 15.0

_CODES = {
    ProviderErrorKind.PROTOCOL: IngestErrorCode.EMBEDDING_INVALID,
    ProviderErrorKind.AUTH: IngestErrorCode.EMBEDDING_UNAUTHORIZED,
    ProviderErrorKind.QUOTA: IngestErrorCode.EMBEDDING_QUOTA,
}


class _GiveWay(Exception):
    """Another organization's document has waited long enough."""


@dataclass(frozen=True, slots=True)
class Ingester:
    """What ingestion stands on. `per_org`: documents of one organization in work at once.

    With `kept`, what the database says is live goes before `embedder` and `embedding`, and a
    document is ready only with all its vectors there. Without it, documents get vectors in the
    space of `embedding` alone, whether anybody searches it or not.
    """

    db: Database
    storage: BlobStore
    sealer: Sealer
    embedder: Embedder
    embedding: EmbeddingProvider
    kept: KeptSpaces | None = None
    has_ocr: bool = False
    per_org: int = 2
    slice_s: float = SLICE_S
    ledger: Ledger | None = None

    def meter(self, lease: Lease) -> CallMeter:
        """Return what measures the calls for a document, at the cost of who uploaded it."""
        if self.ledger is None or lease.user_id is None:
            return UNMETERED
        return self.ledger.meter(_Uploader(lease.org_id, lease.user_id), in_background=True)


@dataclass(frozen=True, slots=True)
class _Uploader:
    org_id: UUID
    user_id: UUID
    key_id: None = None


async def ingest_next(ingester: Ingester) -> bool:
    """Claim one queued document and bring it to its next rest. False when none could be claimed.

    That is ready, failed, waiting for text recognition, or the queue again. Killed at any point it
    leaves a document that another worker goes on with. Raises what the database raises; the
    document then stays claimed until its lease expires.
    """
    async with ingester.db.system_transaction() as session:
        lease = await claim_next(session, per_org=ingester.per_org)
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
    elapsed_ms = round(1000 * (time.monotonic() - started))
    log.info("ingestion_ended", outcome=outcome, elapsed_ms=elapsed_ms)


async def _ingest_or_fail(ingester: Ingester, lease: Lease) -> str:
    """Return the outcome: ready, an error code, or why the document waits. Raises LeaseLost."""
    db = ingester.db
    try:
        async with kept_alive(db, lease):
            try:
                await _ingest(ingester, lease)
            except CheckpointStale:
                await _ingest(ingester, await _discard_checkpoint(db, lease))
    except DocumentUnreadable as error:
        pages = error.pages if isinstance(error, NoText) else []
        return await _fail(db, lease, error.error_code, error.message, pages=pages)
    except (ProviderError, BudgetExceeded, RateLimited, Unavailable) as error:
        code = _code_of(error)
        return await _fail(db, lease, code, remedy_of(code))
    except (OcrNeeded, _GiveWay) as reason:
        return await _set_aside(db, lease, reason)
    except ParserLost:
        # The lease runs out and the attempt is lost: a pause, in which a machine can recover.
        return "parser_lost"
    # Readers have the new version now; nobody needs the files of those before.
    ingester.storage.delete(lease.org_id, lease.document_id, before=lease.version)
    return "ready"


def _code_of(error: AppError) -> IngestErrorCode:
    if isinstance(error, BudgetExceeded):
        return IngestErrorCode.BUDGET_EXCEEDED
    kind = error.kind if isinstance(error, ProviderError) else ProviderErrorKind.OVERLOADED
    return _CODES.get(kind, IngestErrorCode.EMBEDDING_UNAVAILABLE)


async def _ingest(ingester: Ingester, lease: Lease) -> None:
    if ingester.kept:
        embedder = await ingester.kept.get_embedder()
        ingester = replace(ingester, embedder=embedder, embedding=embedder.provider)
    async with ingester.db.transaction(lease) as session:
        if not lease.checkpoint.chunks:
            await indexing.discard_other_generations(session, lease, keep=lease.generation)
        recognized = await recognition.load_pages(session, lease)
    async with _opened(ingester, lease) as document:
        async with ingester.db.transaction(lease) as session:
            await indexing.report_pages(session, lease, total=document.page_count)
        title = document_title(lease.filename, document.title)
        batches = read_batches(
            document, ingester.embedding, recognized=recognized, has_ocr=ingester.has_ocr
        )
        made_of = (title, ingester.embedding.name, ingester.embedding.model)
        chunk_count = lease.checkpoint.chunks
        # Closed before the document is, whatever happens here: a thread may be reading it.
        async with (
            aclosing(batches),
            aclosing(skip_committed(batches, lease.checkpoint, made_of=made_of)) as rest,
        ):
            writer = _BatchWriter(ingester, lease, title, document.page_count)
            async for numbered in rest:
                await writer.write(numbered)
                chunk_count = numbered.reached.chunks
        page_count = document.page_count
    await _enter(ingester, lease, IngestionStage.INDEXING)
    while not await _publish(
        ingester, lease, title, page_count=page_count, chunk_count=chunk_count
    ):
        log.info("live_space_changed")


async def _publish(
    ingester: Ingester, lease: Lease, title: str, *, page_count: int, chunk_count: int
) -> bool:
    """Make the document ready. False if another space went live on the way: try again.

    Raises LeaseLost, and ProviderError when the live model has become another one and fails.
    """
    if ingester.kept:
        with _timed(IngestionStage.EMBEDDING):
            await ingester.kept.complete(lease, title=title, meter=ingester.meter(lease))
    with _timed(IngestionStage.INDEXING):
        async with ingester.db.transaction(lease) as session:
            await hold(session, lease)
            if ingester.kept and not await hold_live_vectors(session, lease):
                return False
            await indexing.publish(session, lease, page_count=page_count, chunk_count=chunk_count)
    return True


class _BatchWriter:
    """Embeds and commits one batch after the other."""

    def __init__(self, ingester: Ingester, lease: Lease, title: str, page_count: int) -> None:
        self._ingester = ingester
        self._lease = lease
        self._title = title
        self._page_count = page_count
        self._space_id: int | None = None
        self._since = time.monotonic()

    async def write(self, numbered: NumberedBatch) -> None:
        """Embed one batch and commit it. No transaction is open while the vectors are made.

        Raises ProviderError, LeaseLost, CheckpointStale when the space is kept no longer, and
        _GiveWay once the batch is committed.
        """
        chunks = numbered.batch.chunks
        if self._space_id is None:
            await _enter(self._ingester, self._lease, IngestionStage.EMBEDDING)
        with _timed(IngestionStage.EMBEDDING):
            vectors = await self._ingester.embedder.embed_documents(
                [embedding_text(chunk, title=self._title) for chunk in chunks],
                self._ingester.meter(self._lease),
            )
        if self._space_id is None:
            self._space_id = await self._find_space(vectors)
        with _timed(IngestionStage.INDEXING):
            async with self._ingester.db.transaction(self._lease) as session:
                await hold(session, self._lease)
                if self._ingester.kept and not await hold_space(session, self._space_id):
                    raise CheckpointStale
                await indexing.insert_batch(
                    session,
                    self._lease,
                    space_id=self._space_id,
                    title=self._title,
                    batch=numbered.batch,
                    vectors=vectors,
                )
                await indexing.reach_checkpoint(
                    session,
                    self._lease,
                    numbered.reached,
                    title=self._title,
                    pages_done=chunks[-1].page_end,
                    pages_total=self._page_count,
                )
        await self._make_way()

    async def _make_way(self) -> None:
        # Only behind progress of its own: a document that gives way always gets further each time.
        if time.monotonic() - self._since < self._ingester.slice_s:
            return
        async with self._ingester.db.system_transaction() as session:
            if await others_wait(session, self._lease):
                raise _GiveWay

    async def _find_space(self, vectors: FloatMatrix) -> int:
        embedding = self._ingester.embedding
        if self._ingester.kept:
            space_id = await self._ingester.kept.find_space_of(embedding, vectors)
            if space_id is None:
                raise CheckpointStale
            return space_id
        async with self._ingester.db.system_transaction() as session:
            return await indexing.ensure_space(
                session,
                provider=embedding.name,
                model=embedding.model,
                dimensions=vectors.shape[1],
            )


@asynccontextmanager
async def _opened(ingester: Ingester, lease: Lease) -> AsyncIterator[SandboxedDocument]:
    """Open the document, and close it however the block ends. Raises DocumentUnreadable,
    ParserLost, or OSError where no process can be started."""
    path = ingester.storage.path(lease.org_id, lease.document_id, lease.version)
    if not path.is_file():
        # No attempt will find it; uploading the file again puts it back.
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The stored file is gone.")
    password = ingester.sealer.unseal(lease.sealed_password) if lease.sealed_password else None
    with start_sandboxed(path, lease.media_type, password=password) as document:
        opening = asyncio.create_task(asyncio.to_thread(document.wait_until_open))
        try:
            await asyncio.shield(opening)
        finally:
            if not opening.done():
                document.kill()
                await asyncio.wait([opening])
                opening.exception()
        yield document


async def _enter(ingester: Ingester, lease: Lease, stage: IngestionStage) -> None:
    async with ingester.db.transaction(lease) as session:
        await indexing.enter_stage(session, lease, stage)


async def _discard_checkpoint(db: Database, lease: Lease) -> Lease:
    """Return the lease without the checkpoint, which nothing can go on from. Raises LeaseLost."""
    log.info("checkpoint_discarded", chunks=lease.checkpoint.chunks)
    async with db.transaction(lease) as session:
        await indexing.discard_other_generations(session, lease, keep=lease.generation)
        await indexing.forget_checkpoint(session, lease)
    return replace(lease, checkpoint=Checkpoint())


async def _fail(
    db: Database, lease: Lease, code: IngestErrorCode, message: str, *, pages: Sequence[Page] = ()
) -> str:
    """Record a failure with what the user can do, and pages for the report. Returns the code.

    Raises LeaseLost.
    """
    log.warning("ingestion_failed", error_code=str(code))
    async with db.transaction(lease) as session:
        if pages:
            await indexing.insert_pages(session, lease, pages)
        await indexing.fail(session, lease, code=code, message=message)
    return str(code)


async def _set_aside(db: Database, lease: Lease, reason: OcrNeeded | _GiveWay) -> str:
    """Let somebody go on with the document later. Returns why. Raises LeaseLost."""
    async with db.transaction(lease) as session:
        match reason:
            case OcrNeeded():
                await recognition.wait_for_pages(session, lease, reason.numbers)
                return "waits_for_ocr"
            case _GiveWay():
                await give_way(session, lease)
                enqueue(session, JobName.INGEST)
                return "gave_way"


@contextmanager
def _timed(stage: IngestionStage) -> Iterator[None]:
    with INGESTION_STAGE_SECONDS.labels(stage=stage).time():
        yield
