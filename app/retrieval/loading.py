"""What is known of a candidate, and the chunk that is made of it."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from app.models.spans import unflatten_spans
from app.retrieval.base import RankedChunk

# Text and web pages come as one page of any length: there so many passages count as a page.
_PASSAGES_A_PAGE = 5

# What passages may repeat each other on: a page of a document.
PageKey = tuple[UUID, int, int]


class Passage(NamedTuple):
    """A chunk as the full-text stage loads it, for all candidates at once: hence no dataclass.

    `fulltext` is the stage's score, 0 without a word in common. `filename` is the one that goes
    with the chunk. `similarity` is the cosine to the question, None where there is no vector in its
    space; `spans` is flat.
    """

    chunk_id: UUID
    fulltext: float
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
    def page_key(self) -> PageKey:
        part = self.ordinal // _PASSAGES_A_PAGE if self.page_count == 1 else 0
        return self.document_id, self.page_start, part

    def to_chunk(self, score: float) -> RankedChunk:
        """Return the chunk, with the score that it was ranked by."""
        return RankedChunk(
            chunk_id=self.chunk_id,
            document_id=self.document_id,
            filename=self.filename,
            ordinal=self.ordinal,
            text=self.text,
            spans=unflatten_spans(self.spans),
            heading=self.heading,
            score=score,
            similarity=self.similarity,
        )
