"""What is known of each space's vectors and index, without counting rows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.models.embeddings import HNSW_BUILD_LOCK, HNSW_INDEX


class IndexState(StrEnum):
    NONE = "none"
    BUILDING = "building"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class MeasuredRecall:
    """Recall in 0..1 of `queries`, of which `hnsw_queries` took the index, at `measured_at`."""

    measured_at: datetime
    queries: int
    hnsw_queries: int
    recall: float
    worst_org_id: UUID
    worst_recall: float


@dataclass(frozen=True, slots=True)
class SpaceIndex:
    """A space. `vectors` is the database's estimate; `table_bytes` is without any index."""

    space_id: int
    provider: str
    model: str
    dimensions: int
    is_live: bool
    vectors: int
    table_bytes: int
    index_bytes: int
    other_index_bytes: int
    state: IndexState
    recall: MeasuredRecall | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large organizations are, in chunks that readers may find; `large` those over a bound."""

    organizations: int
    large: tuple[int, ...]
    largest_org_id: UUID | None
    largest_chunks: int


# An index that is not valid while nobody holds the lock is what a killed build left.
_SPACES = text(f"""
    SELECT s.id, s.provider, s.model, s.dimensions,
        EXISTS (SELECT FROM embedding_rollout r WHERE r.live_id = s.id) AS is_live,
        greatest(t.reltuples, pg_stat_get_live_tuples(t.oid), 0)::bigint AS vectors,
        pg_table_size(t.oid) AS table_bytes,
        coalesce(pg_relation_size(i.indexrelid), 0) AS index_bytes,
        pg_indexes_size(t.oid) AS all_index_bytes,
        CASE WHEN i.indisvalid THEN 'ready'
             WHEN i.indexrelid IS NOT NULL AND EXISTS (
                 SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
                   AND (l.classid::bigint << 32 | l.objid::bigint) = {HNSW_BUILD_LOCK}
                   AND l.database = (SELECT oid FROM pg_database
                                     WHERE datname = current_database())) THEN 'building'
             ELSE 'none' END AS state,
        r.measured_at, r.queries, r.hnsw_queries, r.recall, r.worst_org_id, r.worst_recall
    FROM embedding_spaces s
    JOIN pg_class t ON t.oid = to_regclass(format('chunk_embeddings_%s', s.id))
    LEFT JOIN pg_index i ON i.indexrelid = {HNSW_INDEX}
    LEFT JOIN index_recall r ON r.space_id = s.id
    ORDER BY s.id
""")  # noqa: S608  # constants
_SIZES = text("""
    SELECT count(*) AS organizations,
        coalesce(array_agg(chunks::bigint) FILTER (WHERE chunks > :threshold), '{}') AS large,
        coalesce(max(chunks), 0)::bigint AS largest_chunks,
        (array_agg(org_id ORDER BY chunks DESC, org_id))[1] AS largest_org_id
    FROM (SELECT org_id, sum(chunk_count) AS chunks FROM documents
          WHERE generation > 0 AND deleted_at IS NULL GROUP BY org_id) AS sizes
""")


async def list_indexes(session: AsyncSession) -> list[SpaceIndex]:
    """Return every space, in the order in which they were made. System role only."""
    return [
        SpaceIndex(
            space_id=row.id,
            provider=row.provider,
            model=row.model,
            dimensions=row.dimensions,
            is_live=row.is_live,
            vectors=row.vectors,
            table_bytes=row.table_bytes,
            index_bytes=row.index_bytes,
            other_index_bytes=row.all_index_bytes - row.index_bytes,
            state=IndexState(row.state),
            recall=None
            if row.measured_at is None
            else MeasuredRecall(
                measured_at=row.measured_at,
                queries=row.queries,
                hnsw_queries=row.hnsw_queries,
                recall=row.recall,
                worst_org_id=row.worst_org_id,
                worst_recall=row.worst_recall,
            ),
        )
        for row in (await session.execute(_SPACES)).all()
    ]


async def measure_sizes(session: AsyncSession, *, threshold: int = EXACT_SCAN_MAX_CHUNKS) -> Sizes:
    """Return how many organizations there are, and the sizes of those over `threshold` chunks.

    Reads the rows of documents, none of chunks. System role only.
    """
    row = (await session.execute(_SIZES, {"threshold": threshold})).one()
    return Sizes(row.organizations, tuple(row.large), row.largest_org_id, row.largest_chunks)
