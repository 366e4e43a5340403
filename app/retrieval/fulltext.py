"""Chunks that share words with the question, by Postgres full-text search."""

import re
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from app.retrieval.base import Candidate

_LETTERS_THEN_DIGITS = re.compile(r"(?<=[^\W\d_])(?=\d)")

_SEARCH = "SELECT chunk_id, rank FROM search_chunks_fulltext($1, $2, $3, $4)"


async def search_fulltext(
    driver: asyncpg.Connection,
    org_id: UUID,
    *,
    query: str,
    document_ids: Sequence[UUID] | None,
    limit: int,
) -> list[Candidate]:
    """Return chunks with any word of the query, best first, by their rarity and number.

    `document_ids` of None means all documents. Any text is a valid query.
    """
    documents = list(document_ids) if document_ids else None
    rows = await driver.fetch(_SEARCH, org_id, documents, _words_of(query), limit)
    return [Candidate(row["chunk_id"], row["rank"]) for row in rows]


def _words_of(query: str) -> str:
    """Return the query, and once more with letters and digits apart: FY2022 stands for 2022 too."""
    clean = query.replace("\0", " ")
    apart = _LETTERS_THEN_DIGITS.sub(" ", clean)
    return clean if apart == clean else f"{clean} {apart}"
