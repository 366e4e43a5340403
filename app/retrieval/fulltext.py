"""Chunks that share words with the question: BM25 over terms made in Python, ranked in SQL."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.retrieval.base import Candidate
from app.retrieval.filters import Filter, compile_documents
from app.retrieval.query_terms import AnalyzedQuery

# $1 organization, $2 and $3 pages, $4 terms, $5 weights, $6 groups, $7 limit, $8 further chunks.
_SEARCH = """
    SELECT chunk_id, score
    FROM search_chunks_fulltext($1, {documents}, $2, $3, $4, $5, $6, $7, $8)
"""
_FIRST_CONDITION_PARAMETER = 9


async def search_fulltext(
    driver: asyncpg.Connection,
    org_id: UUID,
    *,
    query: AnalyzedQuery,
    wanted: Filter,
    limit: int,
    also: Sequence[UUID] = (),
) -> list[Candidate]:
    """Return the `limit` best chunks that have any word of the query, best first.

    The score is BM25 divided by what the query's words weigh: about 0.5 for each of them once.
    Those of `also` are in the list too, with a score of 0 where they have no word of it.
    """
    condition = compile_documents(wanted, first_parameter=_FIRST_CONDITION_PARAMETER)
    documents = "NULL"
    if condition is not None:
        documents = (
            "(SELECT coalesce(array_agg(d.id), '{}') FROM documents d"  # noqa: S608
            f" WHERE d.org_id = $1 AND ({condition.sql}))"
        )
    rows = await driver.fetch(
        _SEARCH.format(documents=documents),
        org_id,
        *(wanted.pages or (None, None)),
        query.terms,
        query.weights,
        query.groups,
        limit,
        list(also),
        *(condition.values if condition else ()),
    )
    return [Candidate(row["chunk_id"], row["score"]) for row in rows]
