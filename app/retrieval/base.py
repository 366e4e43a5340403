"""What flows through retrieval."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from app.llm.base import Message
from app.models.spans import Span
from app.retrieval.filters import EVERYTHING, Filter


class Candidate(NamedTuple):
    """A chunk that one stage found, best first. `score` is that stage's own.

    There are a hundred for each question: hence no dataclass.
    """

    chunk_id: UUID
    score: float


@dataclass(frozen=True, slots=True)
class RetrievalQuery:
    """What is looked for: at most `top_k` chunks of what `filter` lets through.

    `history` are the turns before `text`, oldest first; a follow-up is condensed with them.
    `model` is the chat model that may help (condense, further queries, rerank by LLM), as the
    request names it; None is the default one. With `may_expand` it is asked for further queries
    where the documents hardly seem to hold an answer: too slow for a search as one types.
    """

    text: str
    top_k: int
    filter: Filter = EVERYTHING
    history: tuple[Message, ...] = ()
    model: str | None = None
    may_expand: bool = False


@dataclass(frozen=True, slots=True)
class RankedChunk:
    """A chunk that answers a question, with what is needed to cite it.

    `score` is the probability, in 0..1, that the chunk answers the question; it falls along the
    ranking. `similarity` is the cosine of question and chunk, or None where the chunk has no vector
    in the question's space.
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
