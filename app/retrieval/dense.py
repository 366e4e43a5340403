"""Nearest chunks by vector. Chooses its plan itself, because it knows how much a filter covers."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.retrieval.base import Candidate

# $1 organization, $2 documents or NULL, $3 space, $4 unit vector, $5 limit.
_SCOPE = """
    JOIN documents d ON d.org_id = e.org_id AND d.id = e.document_id
        AND d.generation = e.generation AND d.deleted_at IS NULL
    WHERE e.space_id = $3 AND e.org_id = $1
      AND ($2::uuid[] IS NULL OR e.document_id = ANY ($2))
"""
# `+ 0` keeps the order from matching the HNSW expression: this plan reads every row in scope.
EXACT = f"""
    SELECT e.chunk_id, -(e.embedding <#> $4::halfvec) AS similarity
    FROM chunk_embeddings e {_SCOPE}
    ORDER BY (e.embedding <#> $4::halfvec) + 0, e.chunk_id
    LIMIT $5
"""  # noqa: S608  # the only thing put in is the constant above

_COVERED = """
    SELECT coalesce(sum(chunk_count), 0) FROM documents
    WHERE org_id = $1 AND generation > 0 AND deleted_at IS NULL
      AND ($2::uuid[] IS NULL OR id = ANY ($2))
"""

# Without a sort the order can come from the index alone, whatever the planner thinks of the costs.
# The other statements of the transaction have no choice but to sort.
USE_HNSW = """
    SELECT set_config('enable_sort', 'off', true),
           set_config('hnsw.iterative_scan', 'strict_order', true),
           set_config('hnsw.ef_search', '100', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
"""


def hnsw_query(dimensions: int) -> str:
    """The query whose order matches the index expression of a space with these dimensions."""
    vector = f"e.embedding::halfvec({int(dimensions)})"
    return f"""
        SELECT e.chunk_id, -({vector} <#> $4::halfvec({int(dimensions)})) AS similarity
        FROM chunk_embeddings e {_SCOPE}
        ORDER BY {vector} <#> $4::halfvec({int(dimensions)})
        LIMIT $5
    """  # noqa: S608  # an integer and constants


async def search_dense(
    driver: asyncpg.Connection,
    org_id: UUID,
    *,
    space_id: int,
    has_hnsw: bool,
    query: NDArray[np.float32],
    document_ids: Sequence[UUID] | None,
    limit: int,
    exact_max_chunks: int = EXACT_SCAN_MAX_CHUNKS,
) -> list[Candidate]:
    """Return the chunks nearest to a unit vector, best first; the score is the cosine.

    `document_ids` of None means all documents. Exact where the scope has at most
    `exact_max_chunks` chunks or the space has no index, and `limit` of them if there are so many.
    """
    documents = list(document_ids) if document_ids else None
    values = (org_id, documents, space_id, query, limit)
    if has_hnsw and await driver.fetchval(_COVERED, org_id, documents) > exact_max_chunks:
        await driver.execute(USE_HNSW)
        candidates = _to_candidates(await driver.fetch(hnsw_query(len(query)), *values))
        # An iterative scan gives up after hnsw.max_scan_tuples rows of other organizations.
        if len(candidates) == limit:
            return candidates
    return _to_candidates(await driver.fetch(EXACT, *values))


def _to_candidates(rows: Sequence[asyncpg.Record]) -> list[Candidate]:
    return [Candidate(row["chunk_id"], row["similarity"]) for row in rows]
