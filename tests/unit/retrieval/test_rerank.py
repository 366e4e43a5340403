"""The order that a reranker gives, the scores that stay, and what is read of rerankers' answers."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.metering import UNMETERED, CallMeter
from app.llm.rerankers import MAX_TEXTS, read_ranking, read_relevances
from app.llm.wire import provider_error
from app.retrieval.base import Candidate
from app.retrieval.loading import Passage
from app.retrieval.rerank import rerank
from app.retrieval.trace import Place, Step, StepOutcome, Trace, TracedCandidate

K = ProviderErrorKind


class ScriptedReranker:
    """Answers with fixed relevances, or fails. `seen` are the texts of each call."""

    name = "scripted"

    def __init__(
        self, relevances: Sequence[float] = (), *, fails: ProviderErrorKind | None = None
    ) -> None:
        self._relevances = list(relevances)
        self._fails = fails
        self.seen: list[list[str]] = []

    async def rerank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        model: str | None = None,
        meter: CallMeter = UNMETERED,
    ) -> list[float]:
        self.seen.append(list(texts))
        if self._fails:
            raise provider_error(self._fails, self.name)
        return self._relevances


def passage(n: int, *, heading: str | None = None) -> Passage:
    return Passage(
        chunk_id=UUID(int=n),
        fulltext=0.0,
        document_id=UUID(int=1000),
        filename="report.pdf",
        page_count=1,
        ordinal=n,
        page_start=1,
        page_end=1,
        similarity=None,
        text=f"text {n}",
        spans=(1, 0, 6),
        heading=heading,
    )


def numbers(candidates: Sequence[Candidate]) -> list[int]:
    return [each.chunk_id.int for each in candidates]


PASSAGES = {UUID(int=n): passage(n) for n in range(MAX_TEXTS + 3)}
RANKED = [Candidate(UUID(int=n), score) for n, score in enumerate([0.9, 0.5, 0.4])]


async def test_the_reranker_decides_the_order_and_the_scores_stay_with_the_places() -> None:
    reranked = await rerank(ScriptedReranker([0.1, 0.2, 0.7]), "q", RANKED, PASSAGES, Trace("q"))
    assert numbers(reranked) == [2, 1, 0]
    assert [each.score for each in reranked] == [0.9, 0.5, 0.4]


async def test_what_the_reranker_finds_equal_keeps_its_place() -> None:
    reranked = await rerank(ScriptedReranker([0.0, 0.0, 1.0]), "q", RANKED, PASSAGES, Trace("q"))
    assert numbers(reranked) == [2, 0, 1]


async def test_only_the_best_are_reranked() -> None:
    ranked = [Candidate(UUID(int=n), 1 - n / 100) for n in range(MAX_TEXTS + 3)]
    reranker = ScriptedReranker([n / MAX_TEXTS for n in range(MAX_TEXTS)])
    reranked = await rerank(reranker, "q", ranked, PASSAGES, Trace("q"))
    last = list(range(MAX_TEXTS, MAX_TEXTS + 3))
    assert numbers(reranked) == [*reversed(range(MAX_TEXTS)), *last]
    assert len(reranker.seen[0]) == MAX_TEXTS
    scores = [each.score for each in reranked]
    assert scores == sorted(scores, reverse=True)


async def test_a_passage_is_read_under_its_document_and_section() -> None:
    reranker = ScriptedReranker([1.0, 0.5])
    passages = {UUID(int=0): passage(0, heading="Item 7"), UUID(int=1): passage(1)}
    await rerank(reranker, "q", RANKED[:2], passages, Trace("q"))
    assert reranker.seen == [["report.pdf – Item 7\ntext 0", "report.pdf\ntext 1"]]


async def test_the_trace_holds_the_step_and_the_relevances() -> None:
    trace = Trace("q")
    trace.describe(
        lambda: [
            TracedCandidate(each, UUID(int=1000), "report.pdf", 0, 1, 1, 0.5, 0.5)
            for each in PASSAGES
        ]
    )
    await rerank(ScriptedReranker([0.1, 0.2, 0.7]), "q", RANKED, PASSAGES, trace)
    trace.finish({each.chunk_id for each in RANKED}, {})
    assert trace.steps == [Step("rerank", StepOutcome.DONE)]
    assert trace.candidates[UUID(int=2)].places == {"reranked": Place(1, 0.7)}
    assert trace.candidates[UUID(int=0)].places == {"reranked": Place(3, 0.1)}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (K.TIMEOUT, "timeout"),
        (K.OVERLOADED, "unavailable"),
        (K.UNREACHABLE, "unavailable"),
        (K.AUTH, "unavailable"),
        (K.PROTOCOL, "unusable"),
        (K.TRUNCATED, "unusable"),
        (K.MODEL_NOT_FOUND, "no_model"),
    ],
)
async def test_a_reranker_that_fails_leaves_the_order(kind: K, reason: str) -> None:
    trace = Trace("q")
    assert await rerank(ScriptedReranker(fails=kind), "q", RANKED, PASSAGES, trace) == RANKED
    assert trace.steps == [Step("rerank", StepOutcome.FELL_BACK, reason)]


async def test_without_a_reranker_or_candidates_nothing_is_noted() -> None:
    trace = Trace("q")
    reranker = ScriptedReranker()
    assert await rerank(None, "q", RANKED, PASSAGES, trace) == RANKED
    assert await rerank(reranker, "q", [], {}, trace) == []
    assert trace.steps == [] and reranker.seen == []


def test_logits_become_relevances_in_the_same_order() -> None:
    results = [
        {"index": 1, "relevance_score": 8},
        {"index": 0, "relevance_score": 0.5},
        {"index": 2, "relevance_score": -1e4},
    ]
    relevances = read_relevances({"results": results}, count=3)
    assert relevances == [pytest.approx(0.6225, abs=1e-4), pytest.approx(0.9997, abs=1e-4), 0.0]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_any_finite_scores_are_in_0_to_1_and_in_order(scores: list[float]) -> None:
    answer = [{"index": n, "score": score} for n, score in enumerate(scores)]
    relevances = read_relevances(answer[::-1], count=len(scores))
    assert all(0.0 <= relevance <= 1.0 for relevance in relevances)
    by_score = sorted(range(len(scores)), key=lambda n: scores[n])
    in_order = [relevances[n] for n in by_score]
    assert in_order == sorted(in_order)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"results": None},
        {"error": "overloaded"},
        [],
        [{"index": 0, "score": 1.0}],
        [{"index": 0, "score": 1.0}, {"index": 0, "score": 0.5}],
        [{"index": 0, "score": 1.0}, {"index": 2, "score": 0.5}],
        [{"index": 0, "score": 1.0}, {"index": -1, "score": 0.5}],
        [{"index": 0, "score": 1.0}, {"index": 1.0, "score": 0.5}],
        [{"index": False, "score": 1.0}, {"index": True, "score": 0.5}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": "0.5"}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": True}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": None}],
        [{"index": 0, "score": 1.0}, {"index": 1}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": float("nan")}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": float("-inf")}],
        [{"index": 0, "score": 1.0}, {"index": 1, "score": 10**400}],
        [{"index": 0, "score": 1.0}, "text"],
    ],
)
def test_an_answer_that_does_not_judge_each_text_once_is_refused(answer: object) -> None:
    with pytest.raises(ProviderError) as raised:
        read_relevances(answer, count=2)
    assert raised.value.kind is K.PROTOCOL


@pytest.mark.parametrize(
    ("answer", "indexes"),
    [
        ("[3, 1]", [2, 0]),
        ("[]", []),
        ("```json\n[2]\n```", [1]),
        ("Passages [1] and [4] are close, so:\n[4, 1]", [3, 0]),
        ('{"ranking": [1,\n2]}', [0, 1]),
        ("[0, 5, 99999999999, 2, 2]", [1]),
    ],
)
def test_the_ranking_of_a_chat_model_is_read(answer: str, indexes: list[int]) -> None:
    assert read_ranking(answer, count=4) == indexes


@pytest.mark.parametrize(
    "answer", ["", "None of them.", "The answer is this [1].", "3, 1", "[5, 6]", "[1.5]", "[one]"]
)
def test_an_answer_without_a_ranking_is_refused(answer: str) -> None:
    with pytest.raises(ProviderError) as raised:
        read_ranking(answer, count=4)
    assert raised.value.kind is K.PROTOCOL
