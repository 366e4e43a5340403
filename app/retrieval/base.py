"""What flows through retrieval."""

from dataclasses import dataclass
from uuid import UUID

from app.models.spans import Span


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that one stage found, best first. `score` is that stage's own."""

    chunk_id: UUID
    score: float


@dataclass(frozen=True, slots=True)
class RankedChunk:
    """A chunk that answers a question, with what is needed to cite it.

    `score` is in 0..1 and falls along the ranking; `similarity` is the cosine of question and
    chunk, or None where the chunk has no vector in the question's space.
    """

    chunk_id: UUID
    document_id: UUID
    filename: str
    ordinal: int
    text: str
    spans: tuple[Span, ...]
    heading: str | None
    score: float
    similarity: float | None

    @property
    def page_start(self) -> int:
        return self.spans[0].page

    @property
    def page_end(self) -> int:
        return self.spans[-1].page
