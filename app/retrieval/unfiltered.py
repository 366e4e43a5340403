"""Both stages of a question that no filter narrows, in one round trip.

What `dense` and `fulltext` find one after the other, over one snapshot too. Those take four trips:
to begin, for the vectors, for the words, and to end.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import asyncpg

from app.core.db import TenantScope, user_of
from app.retrieval.base import Candidate
from app.retrieval.loading import Passage
from app.retrieval.query_terms import AnalyzedQuery
from app.retrieval.spaces import QueryVector

# Migration 0014. The columns of a passage, then its place among the nearest, and their time.
_SEARCH = "SELECT * FROM search_everything($1, $2, $3, $4, $5, $6, $7, $8)"
_NEAREST, _NEAREST_MS = len(Passage._fields), len(Passage._fields) + 1


class Unfiltered(NamedTuple):
    """What each stage found, best first. `passages` holds the nearest too, behind the others.

    `nearest_ms` is the part of the time that the vectors took.
    """

    nearest: list[Candidate]
    passages: list[Passage]
    nearest_ms: float


async def search_unfiltered(
    driver: asyncpg.Connection,
    scope: TenantScope,
    *,
    query: AnalyzedQuery,
    limit: int,
    embedded: QueryVector,
) -> Unfiltered:
    """Return the `limit` nearest of the caller's chunks, and those that have words of the query.

    `driver` is in no transaction: the statement names the organization and the user itself. Vectors
    are compared one by one.
    """
    rows = await driver.fetch(
        _SEARCH,
        scope.org_id,
        embedded.space.id if embedded.space else None,
        embedded.vector,
        query.terms,
        query.weights,
        query.groups,
        limit,
        user_of(scope),
    )
    return Unfiltered(
        _nearest(rows),
        [Passage._make(row[:_NEAREST]) for row in rows],
        rows[0][_NEAREST_MS] if rows else 0.0,
    )


def _nearest(rows: Sequence[asyncpg.Record]) -> list[Candidate]:
    near = sorted((row for row in rows if row[_NEAREST] is not None), key=itemgetter(_NEAREST))
    return [Candidate(row["chunk_id"], row["similarity"]) for row in near]
