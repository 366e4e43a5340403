"""Chunks that share words with the question: BM25 over terms made in Python, ranked in SQL."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.retrieval.filters import Filter, compile_documents
from app.retrieval.loading import Passage
from app.retrieval.query_terms import AnalyzedQuery
from app.retrieval.spaces import NO_VECTOR, QueryVector

# $1 organization, $2 and $3 pages, $4 terms, $5 weights, $6 groups, $7 limit, $8 further chunks,
# $9 space, $10 vector. Searched and loaded by one statement: a round trip costs 0.3 ms.
_SEARCH = """
    SELECT found.chunk_id, found.score, found.document_id, d.ready_filename, d.page_count,
        found.ordinal, found.page_start, found.page_end, -(e.embedding <#> $10::halfvec),
        found.passage, found.spans, found.heading
    FROM search_chunks_fulltext($1, {documents}, $2, $3, $4, $5, $6, $7, $8) AS found
    JOIN documents d ON d.org_id = $1 AND d.id = found.document_id
    LEFT JOIN chunk_embeddings e
        ON e.space_id = $9 AND e.org_id = $1 AND e.chunk_id = found.chunk_id
    ORDER BY found.score DESC, found.chunk_id
"""
_FIRST_CONDITION_PARAMETER = 11


async def search_fulltext(
    driver: asyncpg.Connection,
    org_id: UUID,
    *,
    query: AnalyzedQuery,
    wanted: Filter,
    limit: int,
    embedded: QueryVector = NO_VECTOR,
    also: Sequence[UUID] = (),
) -> list[Passage]:
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
        also,
        embedded.space.id if embedded.space else None,
        embedded.vector,
        *(condition.values if condition else ()),
    )
    return list(map(Passage._make, rows))
