"""Evidence of the stages -> one ranking, with calibrated probabilities.

A weighted sum of relative scores: the cosine of the vectors, and the share of the question's words
by BM25. Both keep how sure a stage is, which ranks throw away. The sum goes through a logistic
function (Platt 1999). `python -m bench.calibrate` fits the constants on the development sets.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from app.core.analysis import is_english
from app.retrieval.base import Candidate


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the stages say of a chunk.

    `similarity` is the cosine, 0 where the chunk has no vector in the question's space. `fulltext`
    is the BM25 score divided by the sum of the question's term weights: 0 for no word in common,
    about 1 for each word once.
    """

    chunk_id: UUID
    similarity: float
    fulltext: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of the ranking, `similarity` + `fulltext`, and two logistic functions.

    Relevance of a chunk: of its sum, and of its lead over the best other chunk (negative: how far
    it is behind the best). Answerability of the question: of the best chunk's two parts.
    """

    similarity: float
    fulltext: float
    relevance: tuple[float, float, float]
    answerability: tuple[float, float, float]
    min_answerability: float


# The question is in a language that the embedding model knows.
KNOWN_LANGUAGE = Calibration(
    similarity=0.89,
    fulltext=1.0,
    relevance=(-3.18, 2.14, 2.89),
    answerability=(-3.87, 6.72, 1.28),
    min_answerability=0.24,
)
# It is not: its vectors are next to noise.
OTHER_LANGUAGE = Calibration(
    similarity=0.15,
    fulltext=1.0,
    relevance=(-2.75, 8.48, 6.36),
    answerability=(-2.0, 0.0, 5.0),
    min_answerability=0.15,
)

# Embedding models, by their names without versions, that were trained on English alone.
_ENGLISH_MODELS = (
    "all-minilm",
    "bge-large-en",
    "mxbai-embed-large",
    "nomic-embed-text",
    "snowflake-arctic-embed",
)


def choose_calibration(question: str, model: str | None) -> Calibration:
    """Return how to weigh evidence on a question, given the embedding model: None is no model."""
    if model is None:
        return OTHER_LANGUAGE
    knows_all = not model.casefold().startswith(_ENGLISH_MODELS)
    return KNOWN_LANGUAGE if knows_all or is_english(question) else OTHER_LANGUAGE


def fuse(evidence: Iterable[Evidence], calibration: Calibration) -> list[Candidate]:
    """Return every chunk once, best first; the score is the probability that it is relevant."""
    sums = sorted(
        ((-_sum(item, calibration), item.chunk_id) for item in evidence),
    )
    best = -sums[0][0] if sums else 0.0
    next_best = -sums[1][0] if len(sums) > 1 else 0.0
    return [
        Candidate(chunk_id, _relevance(-negated, best, next_best, calibration))
        for negated, chunk_id in sums
    ]


def answerability(best: Evidence | None, calibration: Calibration) -> float:
    """Return the probability, in 0..1, that the documents hold an answer, by their best chunk."""
    if best is None:
        return 0.0
    intercept, similarity, fulltext = calibration.answerability
    return _logistic(intercept + similarity * best.similarity + fulltext * best.fulltext)


def _sum(evidence: Evidence, calibration: Calibration) -> float:
    return calibration.similarity * evidence.similarity + calibration.fulltext * evidence.fulltext


def _relevance(own: float, best: float, next_best: float, calibration: Calibration) -> float:
    intercept, strength, lead = calibration.relevance
    other = next_best if own == best else best
    return _logistic(intercept + strength * own + lead * (own - other))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -60.0), 60.0)))
