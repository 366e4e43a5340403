"""Evidence of the stages -> one ranking, with calibrated probabilities.

A weighted sum of relative scores: the cosine of the vectors, the share of the question's words by
BM25, and how closely the best of these follow its wording. All keep how sure they are, which ranks
throw away. The sum goes through a logistic function (Platt 1999). `python -m bench.calibrate` fits
the constants on the development sets; between 0.6 and 0.85 of full text, and 0.4 and 0.8 of
wording, to one of similarity the difference is within the noise.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from app.core.analysis import is_english
from app.retrieval.base import Candidate


class Evidence(NamedTuple):
    """What the stages say of a chunk. There are dozens for each question: hence no dataclass.

    `similarity` is the cosine, None where the chunk has no vector in the question's space.
    `fulltext` is the BM25 score divided by the sum of the question's term weights: 0 for no word in
    common, about 0.5 for each word once. `wording` is what `measure_closeness` says, 0 where it was
    not asked.
    """

    chunk_id: UUID
    similarity: float | None
    fulltext: float
    wording: float = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Weights of the ranking, `similarity` + `fulltext` + `wording`, and two logistic functions.

    Relevance of a chunk: of its sum, and of its lead over the best other chunk (negative: how far
    it is behind the best). Answerability of the question: of the best chunk's two parts; below
    `min_answerability` no model is asked, which at most 5 % of the questions with an answer are in
    any development set, those in `tests/data/quality` included.
    """

    similarity: float
    fulltext: float
    wording: float
    relevance: tuple[float, float, float]
    answerability: tuple[float, float, float]
    min_answerability: float


# What each further chunk of a page costs in the sum, up to MAX_REPETITIONS times: it rarely answers
# what a better one of the page does not. On the filings of `bench.quality` that finds one page in
# twenty more among the first ten, and elsewhere it changes nothing.
REPETITION = 0.1
MAX_REPETITIONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The probability, in 0..1, that there is an answer, and whether it is worth asking for one."""

    answerability: float
    is_answerable: bool


# The question is in a language that the embedding model knows: all-MiniLM-L6-v2, and English.
KNOWN_LANGUAGE = Calibration(
    similarity=1.0,
    fulltext=0.7,
    wording=0.6,
    relevance=(-2.53, 1.75, 5.04),
    answerability=(-4.1, 6.83, 1.55),
    min_answerability=0.08,
)
# It is not: its vectors are next to noise.
OTHER_LANGUAGE = Calibration(
    similarity=0.1,
    fulltext=1.0,
    wording=0.0,
    relevance=(-3.01, 7.97, 4.87),
    answerability=(-3.13, 0.0, 8.68),
    min_answerability=0.096,
)

# Cosines of other models lie elsewhere: only what is far away in all of them is refused.
OTHER_MODEL = replace(KNOWN_LANGUAGE, min_answerability=0.05)
# How closely a passage follows a question is only known of English.
OTHER_MODEL_AND_LANGUAGE = replace(
    OTHER_MODEL, fulltext=0.85, wording=0.0, relevance=(-2.51, 1.98, 8.1)
)
_CALIBRATED_MODELS = ("all-minilm-l6-v2", "all-minilm")

# Embedding models that were trained on English alone: how their names begin, without a vendor's.
_ENGLISH_MODELS = (
    "all-minilm",
    "bge-base-en",
    "bge-large-en",
    "bge-small-en",
    "mxbai-embed-large",
    "nomic-embed-text",
    "snowflake-arctic-embed",
)
_MULTILINGUAL_MODELS = ("nomic-embed-text-v2", "snowflake-arctic-embed2")


# Questions come again, and soon.
@lru_cache(maxsize=1_000)
def choose_calibration(question: str, model: str | None) -> Calibration:
    """Return how to weigh evidence on a question, given the embedding model: None is no model."""
    if model is None:
        return OTHER_LANGUAGE
    name = model.casefold().rpartition("/")[2]
    knows_english_alone = name.startswith(_ENGLISH_MODELS) and not name.startswith(
        _MULTILINGUAL_MODELS
    )
    if not is_english(question):
        return OTHER_LANGUAGE if knows_english_alone else OTHER_MODEL_AND_LANGUAGE
    return KNOWN_LANGUAGE if name in _CALIBRATED_MODELS else OTHER_MODEL


def find_best(evidence: Iterable[Evidence], calibration: Calibration, count: int) -> list[UUID]:
    """Return the `count` best chunks by what is known of them, in order."""
    return [chunk_id for _, chunk_id in _negated_sums(evidence, calibration)[:count]]


def fuse(
    evidence: Iterable[Evidence],
    calibration: Calibration,
    places: Mapping[UUID, Hashable],
) -> list[Candidate]:
    """Return every chunk once, best first; the score is the probability that it is relevant.

    `places` are the chunks' pages: a further chunk of one is worth less than the first of another.
    """
    sums = _less_repeats(_negated_sums(evidence, calibration), places)
    best = -sums[0][0] if sums else 0.0
    next_best = -sums[1][0] if len(sums) > 1 else 0.0
    return [
        Candidate(chunk_id, _relevance(-negated, best, next_best, calibration))
        for negated, chunk_id in sums
    ]


def _negated_sums(
    evidence: Iterable[Evidence], calibration: Calibration
) -> list[tuple[float, UUID]]:
    """Return the chunks with their sums, negated, so that the best come first."""
    of_similarity, of_fulltext = calibration.similarity, calibration.fulltext
    of_wording = calibration.wording
    return sorted(
        (-of_similarity * (similarity or 0.0) - of_fulltext * fulltext - of_wording * wording, id_)
        for id_, similarity, fulltext, wording in evidence
    )


def _less_repeats(
    sums: Sequence[tuple[float, UUID]], places: Mapping[UUID, Hashable]
) -> list[tuple[float, UUID]]:
    """Return negated sums in order anew, each repetition of a place made to cost REPETITION."""
    seen: defaultdict[Hashable, int] = defaultdict(int)
    lowered = []
    for negated, chunk_id in sums:
        place = places[chunk_id]
        before = seen[place]
        lowered.append((negated + REPETITION * min(before, MAX_REPETITIONS), chunk_id))
        seen[place] = before + 1
    return sorted(lowered)


def judge(best: Evidence | None, calibration: Calibration) -> Verdict:
    """Say how probable it is that the documents hold an answer, by their best chunk."""
    if best is None:
        return Verdict(0.0, is_answerable=False)
    if best.similarity is None:  # only words can tell
        calibration = OTHER_LANGUAGE
    intercept, similarity, fulltext = calibration.answerability
    probability = _logistic(
        intercept + similarity * (best.similarity or 0.0) + fulltext * best.fulltext
    )
    return Verdict(probability, probability >= calibration.min_answerability)


def _relevance(own: float, best: float, next_best: float, calibration: Calibration) -> float:
    intercept, strength, lead = calibration.relevance
    other = next_best if own == best else best
    return _logistic(intercept + strength * own + lead * (own - other))


def _logistic(x: float) -> float:
    if not -60.0 < x < 60.0:  # exp() would overflow
        x = math.copysign(60.0, x)
    return 1 / (1 + math.exp(-x))
