"""Builds a space's HNSW index when an organization in it has grown too large for exact scans.

Keeping the index makes every insert slower, so a partition has none until then.
"""

from functools import partial

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from app.core.periodic import run_periodically
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.models.embeddings import HAS_HNSW, HNSW_BUILD_LOCK

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 60.0
# What pgvector can index of a halfvec.
_MAX_DIMENSIONS = 4_000
# Denser than pgvector's own 16 and 64. With `hnsw.ef_search` 200, 300 and 400 those found 0.977,
# 0.983 and 0.973 of the nearest ten in 6, 8 and 11 ms of CPU, this 0.997, 0.990 and 0.999 in 9, 12
# and 17 (`bench.recall`). Building takes about twice as long, and so does each insert.
_GRAPH = "WITH (m = 24, ef_construction = 128)"

_LOCK = text(f"SELECT pg_try_advisory_lock({HNSW_BUILD_LOCK})")
# Documents are few: they tell which organizations are worth counting in a partition.
_DUE = text(f"""
    WITH large AS MATERIALIZED (
        SELECT org_id FROM documents WHERE generation > 0 AND deleted_at IS NULL
        GROUP BY org_id HAVING sum(chunk_count) > :threshold)
    SELECT s.id, s.dimensions FROM embedding_spaces s
    WHERE s.dimensions <= :max_dimensions
      AND NOT {HAS_HNSW}
      AND EXISTS (
        SELECT FROM large
        WHERE :threshold < (SELECT count(*) FROM (
            SELECT FROM chunk_embeddings e WHERE e.space_id = s.id AND e.org_id = large.org_id
            LIMIT :threshold + 1) AS few))
    ORDER BY s.id
""")  # noqa: S608  # constants


async def run_index_builder(database_url: str) -> None:
    """Build what is due, every minute until cancelled. A database that is away is waited for."""
    await run_periodically("hnsw_build", partial(build_due_indexes, database_url), CHECK_INTERVAL_S)


async def build_due_indexes(
    database_url: str, *, threshold: int = EXACT_SCAN_MAX_CHUNKS
) -> list[str]:
    """Build the index of each space in which an organization has over `threshold` chunks.

    Returns the names of the indexes that it built; none while another process builds. Takes
    minutes for a large partition, during which rows can be read and written. Connects as the
    owner: `database_url` without a role.
    """
    # CONCURRENTLY can't run in a transaction, and the lock lives as long as the connection.
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            if not await connection.scalar(_LOCK):
                return []
            due = await connection.execute(
                _DUE, {"threshold": threshold, "max_dimensions": _MAX_DIMENSIONS}
            )
            return [await _build(connection, row.id, row.dimensions) for row in due.all()]
    finally:
        await engine.dispose()


async def _build(connection: AsyncConnection, space_id: int, dimensions: int) -> str:
    """Build one index, in place of what a killed build may have left. Returns its name."""
    table = f"chunk_embeddings_{int(space_id)}"
    index = f"{table}_hnsw"
    log.info("hnsw_build_started", index=index)
    # A graph that fits is built many times faster; of 200,000 vectors of 384 it takes some 350 MB.
    # Parallel workers would share memory that a container has little of.
    for statement in (
        "SET maintenance_work_mem = '512MB'",
        "SET max_parallel_maintenance_workers = 0",
        f"DROP INDEX CONCURRENTLY IF EXISTS {index}",
        # The operator class of <#>, by which retrieval orders.
        f"CREATE INDEX CONCURRENTLY {index} ON {table}"
        f" USING hnsw ((embedding::halfvec({int(dimensions)})) halfvec_ip_ops) {_GRAPH}",
    ):
        await connection.execute(text(statement))
    log.info("hnsw_build_finished", index=index)
    return index
