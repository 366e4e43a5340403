"""Candidates -> what is known of them: one statement for both stages."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from app.models.spans import unflatten_spans
from app.retrieval.base import Candidate, RankedChunk

# The file name is the one that goes with the chunks.
_FACTS = """
    SELECT c.id, c.document_id, d.ready_filename, d.page_count, c.ordinal, c.page_start, c.page_end,
           -(e.embedding <#> $4::halfvec) AS similarity, c.text, c.spans, c.heading
    FROM chunks c
    JOIN documents d ON d.org_id = c.org_id AND d.id = c.document_id
    LEFT JOIN chunk_embeddings e
        ON e.space_id = $3 AND e.org_id = c.org_id AND e.chunk_id = c.id
    WHERE c.org_id = $1 AND c.id = ANY ($2)
"""

# Text and web pages come as one page of any length: there so many passages count as a page.
_PASSAGES_A_PAGE = 5

# What passages may repeat each other on: a page of a document.
Place = tuple[UUID, int, int]


@dataclass(frozen=True, slots=True)
class Fact:
    """A chunk and where it stands. `similarity` is its cosine to the question, None where it has no
    vector; `spans` is flat.
    """

    document_id: UUID
    filename: str
    page_count: int
    ordinal: int
    page_start: int
    page_end: int
    similarity: float | None
    text: str
    spans: Sequence[int]
    heading: str | None

    @property
    def place(self) -> Place:
        part = self.ordinal // _PASSAGES_A_PAGE if self.page_count == 1 else 0
        return self.document_id, self.page_start, part


async def load_facts(
    driver: asyncpg.Connection,
    org_id: UUID,
    chunk_ids: Collection[UUID],
    *,
    space_id: int | None,
    vector: NDArray[np.float32],
) -> dict[UUID, Fact]:
    """Return the facts of each chunk that is there. `vector` is a unit vector of the space."""
    rows = await driver.fetch(_FACTS, org_id, list(chunk_ids), space_id, vector)
    return {row[0]: Fact(*row[1:]) for row in map(tuple, rows)}


def to_chunk(candidate: Candidate, fact: Fact) -> RankedChunk:
    """Return the chunk of a candidate, with its score."""
    return RankedChunk(
        chunk_id=candidate.chunk_id,
        document_id=fact.document_id,
        filename=fact.filename,
        ordinal=fact.ordinal,
        text=fact.text,
        spans=unflatten_spans(fact.spans),
        heading=fact.heading,
        score=candidate.score,
        similarity=fact.similarity,
    )
