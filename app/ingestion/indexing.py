"""Pages, chunks and vectors -> Postgres, under the lease's fencing token.

`COPY FROM` is not allowed on tables with row-level security: rows are copied into a temporary
table and inserted from there.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import get_driver
from app.core.ids import new_id
from app.ingestion.base import Chunk, Page
from app.ingestion.lease import Lease, hold
from app.llm.base import FloatMatrix
from app.models.documents import IngestionStage
from app.models.spans import flatten_spans

_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_pages
        (number integer, text text, width float8, height float8) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_chunks
        (id uuid, ordinal integer, text text, spans integer[], page_start integer,
         page_end integer, heading text, token_count integer, embedding halfvec)
        ON COMMIT DELETE ROWS;
"""
_INSERT_PAGES = text("""
    INSERT INTO pages (org_id, document_id, generation, number, text, width, height)
    SELECT :org_id, :document_id, :generation, number, text, width, height FROM staged_pages
""")
_INSERT_CHUNKS = text("""
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, heading, token_count, tsv)
    SELECT :org_id, id, :document_id, :generation, ordinal, text, spans, page_start, page_end,
           heading, token_count,
           to_tsvector('english', concat_ws(' ', CAST(:title AS text), heading))
           || to_tsvector('english', text)
           || array_to_tsvector(ARRAY[org_lexeme(:org_id)])
    FROM staged_chunks
""")
_INSERT_EMBEDDINGS = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space_id, :org_id, id, :document_id, :generation, embedding FROM staged_chunks
""")
_ENSURE_SPACE = text("SELECT ensure_embedding_space(:provider, :model, :dimensions)")
_PROGRESS = text("""
    UPDATE documents SET stage = :stage, percent = :percent, page_count = :page_count,
        title = :title, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
_PUBLISH = text("""
    UPDATE documents SET status = 'ready', stage = NULL, percent = 100, generation = :generation,
        chunk_count = :chunk_count, page_count = :page_count, attempts = 0, error_code = NULL,
        error_message = NULL, lease_expires_at = NULL, updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token
""")
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
        await session.execute(
            text(
                f"DELETE FROM {table} WHERE org_id = :org_id AND document_id = :id"  # noqa: S608
                " AND generation <> :keep"  # table names from the constant above
            ),
            {"org_id": lease.org_id, "id": lease.document_id, "keep": keep},
        )


async def report_progress(
    session: AsyncSession,
    lease: Lease,
    *,
    stage: IngestionStage,
    percent: int,
    page_count: int | None,
    title: str | None,
) -> None:
    await hold(session, lease)
    await session.execute(
        _PROGRESS,
        {
            **lease.key,
            "stage": stage,
            "percent": percent,
            "page_count": page_count,
            "title": title,
        },
    )


async def insert_batch(
    session: AsyncSession,
    lease: Lease,
    *,
    space_id: int,
    title: str,
    pages: Sequence[Page],
    chunks: Sequence[Chunk],
    vectors: FloatMatrix,
) -> None:
    """Add pages and embedded chunks to the generation in the making. Raises LeaseLost."""
    await hold(session, lease)
    connection = await get_driver(session)
    await connection.execute(_STAGING)
    await connection.copy_records_to_table(
        "staged_pages", records=[(p.number, p.text, p.width, p.height) for p in pages]
    )
    await connection.copy_records_to_table("staged_chunks", records=_chunk_records(chunks, vectors))
    target = {**_document_key(lease), "generation": lease.generation + 1}
    await session.execute(_INSERT_PAGES, target)
    await session.execute(_INSERT_CHUNKS, {**target, "title": title})
    await session.execute(_INSERT_EMBEDDINGS, {**target, "space_id": space_id})


async def publish(
    session: AsyncSession, lease: Lease, *, page_count: int, chunk_count: int
) -> None:
    """Make the new generation the one that readers see, at once. Raises LeaseLost."""
    generation = lease.generation + 1
    await hold(session, lease)
    for counted, sign in ((lease.generation, -1), (generation, 1)):
        await session.execute(
            _COUNT_LEXEMES, {**_document_key(lease), "generation": counted, "sign": sign}
        )
    await discard_other_generations(session, lease, keep=generation)
    await session.execute(
        _PUBLISH,
        {
            **lease.key,
            "generation": generation,
            "page_count": page_count,
            "chunk_count": chunk_count,
        },
    )


def _document_key(lease: Lease) -> dict[str, Any]:
    return {"org_id": lease.org_id, "document_id": lease.document_id}


def _chunk_records(chunks: Sequence[Chunk], vectors: FloatMatrix) -> Iterable[tuple[Any, ...]]:
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
            vector,
        )
