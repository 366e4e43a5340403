"""Nearest chunks by vector. Chooses its plan itself, because it knows how much a filter covers."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.retrieval.base import Candidate
from app.retrieval.filters import EVERYTHING, Filter, compile_documents

# The index looks at this many chunks of the scope, and so at more the smaller its share is of all
# that is indexed. See `bench.recall`.
SCANNED_IN_SCOPE = 150
_MAX_EF_SEARCH = 1_000  # pgvector's limit
# Up to here looking into the index takes no longer than an exact scan of EXACT_SCAN_MAX_CHUNKS.
_CHEAP_EF_SEARCH = 500

# Without a sort the order can come from the index alone, whatever the planner thinks of the costs.
# Where the index has to look further than it was told to, it gives rows in nearly the right order;
# in strict order it would leave out the near ones that it meets late. $1 is hnsw.ef_search.
USE_HNSW = """
    SELECT set_config('enable_sort', 'off', true),
           set_config('hnsw.iterative_scan', 'relaxed_order', true),
           set_config('hnsw.ef_search', $1, true),
           set_config('plan_cache_mode', 'force_custom_plan', true)
"""
# The other statements of the transaction are planned as ever.
_USE_ANYTHING = """
    SELECT set_config('enable_sort', 'on', true), set_config('plan_cache_mode', 'auto', true)
"""


class Plan(StrEnum):
    EXACT = "exact"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class Nearest:
    """Candidates, best first, and how they were found. The score is the cosine."""

    candidates: list[Candidate]
    plan: Plan


@dataclass(frozen=True, slots=True)
class Scope:
    """Which chunks a query may find, as SQL; `$1` is the organization.

    `documents` holds for the row `d` of a document, `chunks` for the row `e` of an embedding;
    `share` estimates how much of a document's chunks the latter lets through, in 0..1.
    """

    documents: str
    chunks: str
    share: str
    values: tuple[object, ...]

    def covered(self) -> str:
        """About how many chunks there are (exact without a range of pages), and in the index.

        The space is the last parameter.
        """
        return f"""
            SELECT coalesce(sum(d.chunk_count * {self.share}), 0) AS chunks,
                (SELECT reltuples FROM pg_class WHERE oid = to_regclass(
                    'chunk_embeddings_' || ${len(self.values) + 1}::integer)) AS indexed
            FROM documents d
            WHERE d.org_id = $1 AND d.generation > 0 AND {self.documents}
        """  # noqa: S608  # constants, and what the filter compiled

    def exact(self) -> str:
        """Space, unit vector and limit are the last three parameters. Reads every row in scope."""
        space, vector, limit = self._parameters()
        # Descending by one expression: computed once a row, and no order that an index has.
        return f"""
            SELECT e.chunk_id, -(e.embedding <#> {vector}::halfvec) AS similarity
            {self._rows(space)}
            ORDER BY similarity DESC, e.chunk_id
            LIMIT {limit}
        """

    def hnsw(self, dimensions: int) -> str:
        """The same rows in an order that matches the index of a space with these dimensions."""
        space, vector, limit = self._parameters()
        embedding, query = (
            f"{side}::halfvec({int(dimensions)})" for side in ("e.embedding", vector)
        )
        return f"""
            SELECT e.chunk_id, -({embedding} <#> {query}) AS similarity
            {self._rows(space)}
            ORDER BY {embedding} <#> {query}
            LIMIT {limit}
        """

    def _parameters(self) -> tuple[str, str, str]:
        first = len(self.values) + 1
        return f"${first}", f"${first + 1}", f"${first + 2}"

    def _rows(self, space: str) -> str:
        return f"""
            FROM chunk_embeddings e
            JOIN documents d ON d.org_id = e.org_id AND d.id = e.document_id
                AND d.generation = e.generation AND {self.documents}
            WHERE e.space_id = {space} AND e.org_id = $1 AND {self.chunks}
        """


def scope_of(org_id: UUID, wanted: Filter) -> Scope:
    """Return what a query of this organization may find under a filter."""
    documents = ["d.deleted_at IS NULL", "(d.expires_at IS NULL OR d.expires_at > now())"]
    chunks, share = "true", "1"
    values: tuple[object, ...] = (org_id,)
    if wanted.pages is not None:
        # The key of chunks, one look-up for each row that is in scope otherwise.
        chunks = """EXISTS (
            SELECT FROM chunks c WHERE c.org_id = e.org_id AND c.id = e.chunk_id
                AND c.page_start <= $3 AND c.page_end >= $2)"""
        share = """CASE WHEN d.page_count >= $2
            THEN least(1, ($3 - $2 + 1) / greatest(d.page_count, 1)::real) ELSE 0 END"""
        values += wanted.pages
    condition = compile_documents(wanted, first_parameter=len(values) + 1)
    if condition is not None:
        documents.append(f"({condition.sql})")
        values += condition.values
    return Scope(" AND ".join(documents), chunks, share, values)


async def search_dense(
    driver: asyncpg.Connection,
    org_id: UUID,
    *,
    space_id: int,
    has_hnsw: bool,
    query: NDArray[np.float32],
    wanted: Filter = EVERYTHING,
    limit: int,
    exact_max_chunks: int = EXACT_SCAN_MAX_CHUNKS,
) -> Nearest:
    """Return the chunks nearest to a unit vector, of what the filter lets through.

    Exact where the space has no index or `takes_index` says so, and `limit` of them if there are
    so many.
    """
    scope = scope_of(org_id, wanted)
    values = (*scope.values, space_id, query, limit)
    if has_hnsw:
        ((chunks, indexed),) = await driver.fetch(scope.covered(), *scope.values, space_id)
        if takes_index(chunks, indexed, exact_max_chunks=exact_max_chunks):
            await driver.fetch(USE_HNSW, str(ef_search(chunks, indexed)))
            rows = await driver.fetch(scope.hnsw(len(query)), *values)
            candidates = sorted(_to_candidates(rows), key=lambda c: c.score, reverse=True)
            await driver.execute(_USE_ANYTHING)
            # An iterative scan gives up after hnsw.max_scan_tuples rows of other organizations.
            if len(candidates) == limit:
                return Nearest(candidates, Plan.HNSW)
    return Nearest(_to_candidates(await driver.fetch(scope.exact(), *values)), Plan.EXACT)


def takes_index(
    chunks: float, indexed: float | None, *, exact_max_chunks: int = EXACT_SCAN_MAX_CHUNKS
) -> bool:
    """Whether the index is faster for a scope of `chunks` out of all `indexed`.

    Not up to `exact_max_chunks`, nor somewhat beyond where the scope is a small share of the index.
    """
    dearer = max(1.0, ef_search(chunks, indexed) / _CHEAP_EF_SEARCH)
    return chunks > exact_max_chunks * dearer


def ef_search(chunks: float, indexed: float | None) -> int:
    """Return how many rows the index looks at for a scope of `chunks` out of all `indexed`."""
    # Before the first ANALYZE nothing is known of the table (-1), and the scope may be all of it.
    outnumbered = max(1.0, (indexed or 0) / max(chunks, 1))
    return min(_MAX_EF_SEARCH, round(SCANNED_IN_SCOPE * outnumbered))


def _to_candidates(rows: Sequence[asyncpg.Record]) -> list[Candidate]:
    return [Candidate(row["chunk_id"], row["similarity"]) for row in rows]
