"""Pages, chunks and vectors -> Postgres, under the lease's fencing token.

`COPY FROM` is not allowed on tables with row-level security: rows are copied into a temporary
table and inserted from there.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.analysis import to_tsvector
from app.core.db import get_driver
from app.core.ids import new_id
from app.ingestion.base import Chunk, Page
from app.ingestion.checkpoints import Batch
from app.ingestion.lease import Checkpoint, Lease, hold
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.llm.base import FloatMatrix
from app.models.documents import IngestionStage
from app.models.spans import flatten_spans

_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_pages
        (number integer, text text, width float8, height float8, source text, warnings text[],
         label text)
        ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_chunks
        (id uuid, ordinal integer, text text, spans integer[], page_start integer,
         page_end integer, heading text, token_count integer, tsv text, embedding halfvec)
        ON COMMIT DELETE ROWS;
"""
_INSERT_PAGES = text("""
    INSERT INTO pages (org_id, document_id, generation, number, text, width, height, source,
                       warnings, label)
    SELECT :org_id, :document_id, :generation, number, text, width, height, source, warnings, label
    FROM staged_pages
""")
_INSERT_CHUNKS = text("""
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, heading, token_count, tsv)
    SELECT :org_id, id, :document_id, :generation, ordinal, text, spans, page_start, page_end,
           heading, token_count,
           CAST(tsv AS tsvector) || array_to_tsvector(ARRAY[org_lexeme(:org_id)])
    FROM staged_chunks
""")
_INSERT_EMBEDDINGS = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space_id, :org_id, id, :document_id, :generation, embedding FROM staged_chunks
""")
_ENSURE_SPACE = text("SELECT ensure_embedding_space(:provider, :model, :dimensions)")
_REPORT_PAGES = text("""
    UPDATE documents SET pages_total = :total, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
# A batch that is committed is progress: the attempts begin to count anew.
_REACH_CHECKPOINT = text("""
    UPDATE documents SET stage = 'embedding', title = :title, pages_done = :pages_done,
        pages_total = :pages_total, attempts = 0, updated_at = now(),
        percent = greatest(percent, least(99, 100 * :pages_done / greatest(:pages_total, 1))),
        checkpoint_chunks = :checkpoint_chunks, checkpoint_digest = :checkpoint_digest
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_ENTER_STAGE = text("""
    UPDATE documents SET stage = :stage, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_FORGET_CHECKPOINT = text("""
    UPDATE documents SET checkpoint_chunks = 0, checkpoint_digest = NULL, percent = 0,
        pages_done = 0, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_PUBLISH = text("""
    UPDATE documents SET status = 'ready', stage = NULL, percent = 100, generation = :generation,
        chunk_count = :chunk_count, page_count = :page_count, attempts = 0, error_code = NULL,
        error_message = NULL, lease_expires_at = NULL, updated_at = now(),
        pages_done = :page_count, pages_total = :page_count, checkpoint_chunks = 0,
        checkpoint_digest = NULL, sealed_password = NULL, ready_version = version,
        ready_filename = filename, ready_media_type = media_type,
        warning_count = (SELECT count(*) FROM pages p
                         WHERE p.org_id = :org_id AND p.document_id = :id
                           AND p.generation = :generation AND p.warnings <> '{}')
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_FAIL = text("""
    UPDATE documents SET status = 'failed', stage = NULL, error_code = :code,
        error_message = :message, lease_expires_at = NULL, updated_at = now(),
        sealed_password = CASE WHEN :is_retryable THEN sealed_password END
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
# Pages that text recognition gave up are tried again with the document.
_DELETE_UNREAD_PAGES = text("""
    DELETE FROM ocr_pages
    WHERE org_id = :org_id AND document_id = :id AND warning IS NOT NULL
""")
_DELETE_OCR_PAGES = text("DELETE FROM ocr_pages WHERE org_id = :org_id AND document_id = :id")
_COUNT_LEXEMES = text("SELECT count_lexemes(:org_id, :document_id, :generation, :sign)")
_CHUNK_TABLES = ("chunk_embeddings", "chunks", "pages")


async def ensure_space(session: AsyncSession, *, provider: str, model: str, dimensions: int) -> int:
    """Return the id of the embedding space, made with its partition when new. System role only."""
    space_id: int = await session.scalar(
        _ENSURE_SPACE, {"provider": provider, "model": model, "dimensions": dimensions}
    )
    return space_id


async def discard_other_generations(session: AsyncSession, lease: Lease, *, keep: int) -> None:
    """Delete the document's chunks of every generation but `keep`. Raises LeaseLost."""
    await hold(session, lease)
    for table in _CHUNK_TABLES:
        await session.execute(_delete_others(table), _others_key(lease, keep))


async def report_pages(session: AsyncSession, lease: Lease, *, total: int) -> None:
    """Tell how many pages there are. Raises LeaseLost."""
    await hold(session, lease)
    await session.execute(_REPORT_PAGES, {**lease.key, "total": total})


async def enter_stage(session: AsyncSession, lease: Lease, stage: IngestionStage) -> None:
    """Tell what is being done. Raises LeaseLost."""
    await hold(session, lease)
    await session.execute(_ENTER_STAGE, {**lease.key, "stage": stage})


async def reach_checkpoint(
    session: AsyncSession,
    lease: Lease,
    reached: Checkpoint,
    *,
    title: str,
    pages_done: int,
    pages_total: int,
) -> None:
    """Record how far the generation in the making is, with what `insert_batch` adds to it."""
    await session.execute(
        _REACH_CHECKPOINT,
        {
            **lease.key,
            "checkpoint_chunks": reached.chunks,
            "checkpoint_digest": reached.digest,
            "title": title,
            "pages_done": pages_done,
            "pages_total": pages_total,
        },
    )


async def forget_checkpoint(session: AsyncSession, lease: Lease) -> None:
    await session.execute(_FORGET_CHECKPOINT, lease.key)


async def insert_batch(
    session: AsyncSession,
    lease: Lease,
    *,
    space_id: int,
    title: str,
    batch: Batch,
    vectors: FloatMatrix,
) -> None:
    """Add pages and embedded chunks to the generation in the making. Raises LeaseLost."""
    await insert_pages(session, lease, batch.pages)
    connection = await get_driver(session)
    records = _chunk_records(batch.chunks, vectors, title=title)
    await connection.copy_records_to_table("staged_chunks", records=records)
    target = {**_document_key(lease), "generation": lease.generation + 1}
    await session.execute(_INSERT_CHUNKS, target)
    await session.execute(_INSERT_EMBEDDINGS, {**target, "space_id": space_id})


async def insert_pages(session: AsyncSession, lease: Lease, pages: Sequence[Page]) -> None:
    """Add pages to the generation in the making. Raises LeaseLost."""
    await hold(session, lease)
    connection = await get_driver(session)
    await connection.execute(_STAGING)
    await connection.copy_records_to_table("staged_pages", records=map(_page_record, pages))
    target = {**_document_key(lease), "generation": lease.generation + 1}
    await session.execute(_INSERT_PAGES, target)


async def publish(
    session: AsyncSession, lease: Lease, *, page_count: int, chunk_count: int
) -> None:
    """Make the new generation and its version what readers see, at once. Raises LeaseLost."""
    generation = lease.generation + 1
    await hold(session, lease)
    for counted, sign in ((lease.generation, -1), (generation, 1)):
        await session.execute(
            _COUNT_LEXEMES, {**_document_key(lease), "generation": counted, "sign": sign}
        )
    await discard_other_generations(session, lease, keep=generation)
    await session.execute(_DELETE_OCR_PAGES, lease.key)
    await session.execute(
        _PUBLISH,
        {
            **lease.key,
            "generation": generation,
            "page_count": page_count,
            "chunk_count": chunk_count,
        },
    )


async def fail(session: AsyncSession, lease: Lease, *, code: IngestErrorCode, message: str) -> None:
    """Record the end of a document that can't be made ready. Raises LeaseLost.

    Where a retry can help, it goes on from the checkpoint, with the password that came with the
    file. Otherwise both and the chunks in the making go, and the pages stay for the report.
    """
    await hold(session, lease)
    is_retryable = OUTCOMES[code].is_retryable
    if not is_retryable:
        for table in ("chunk_embeddings", "chunks"):
            await session.execute(_delete_others(table), _others_key(lease, lease.generation))
        await session.execute(_DELETE_OCR_PAGES, lease.key)
        await forget_checkpoint(session, lease)
    else:
        await session.execute(_DELETE_UNREAD_PAGES, lease.key)
    facts = {"code": code, "message": message, "is_retryable": is_retryable}
    await session.execute(_FAIL, {**lease.key, **facts})


def _document_key(lease: Lease) -> dict[str, Any]:
    return {"org_id": lease.org_id, "document_id": lease.document_id}


def _others_key(lease: Lease, keep: int) -> dict[str, object]:
    return {"org_id": lease.org_id, "id": lease.document_id, "keep": keep}


def _delete_others(table: str) -> TextClause:
    """`table` is a name of this module's, never a caller's."""
    return text(
        f"DELETE FROM {table} WHERE org_id = :org_id AND document_id = :id"  # noqa: S608
        " AND generation <> :keep"
    )


def _page_record(page: Page) -> tuple[Any, ...]:
    warnings = list(page.warnings)
    sizes = (page.width, page.height)
    return (page.number, page.text, *sizes, page.source, warnings, page.label)


def _chunk_records(
    chunks: Sequence[Chunk], vectors: FloatMatrix, *, title: str
) -> Iterable[tuple[Any, ...]]:
    for chunk, vector in zip(chunks, vectors, strict=True):
        yield (
            new_id(),
            chunk.ordinal,
            chunk.text,
            flatten_spans(chunk.spans),
            chunk.page_start,
            chunk.page_end,
            chunk.heading,
            chunk.token_count,
            to_tsvector(chunk.text, title=title, heading=chunk.heading),
            vector,
        )
