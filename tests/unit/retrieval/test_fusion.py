"""Reciprocal rank fusion."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.base import Candidate
from app.retrieval.fusion import RRF_K, fuse

A, B, C = (UUID(int=n) for n in (1, 2, 3))
EQUAL = {"dense": 1.0, "fulltext": 1.0}
RANKINGS = st.lists(st.integers(0, 80).map(lambda n: UUID(int=n)), unique=True, max_size=60)


def ranking(*chunk_ids: UUID) -> list[Candidate]:
    """The stages' own scores are on scales of their own and must not matter."""
    return [Candidate(chunk_id, 1000.0 - 7 * n) for n, chunk_id in enumerate(chunk_ids)]


def test_first_in_every_ranking_scores_one() -> None:
    fused = fuse({"dense": ranking(A, B), "fulltext": ranking(A, C)}, EQUAL)
    assert fused[0] == Candidate(A, 1.0)
    assert [candidate.chunk_id for candidate in fused] == [A, B, C]  # a tie goes by the id


def test_found_twice_beats_found_first_once() -> None:
    fused = fuse({"dense": ranking(A, B), "fulltext": ranking(C, B)}, EQUAL)
    assert fused[0].chunk_id == B
    assert fused[0].score == (2 / (RRF_K + 2)) / (2 / (RRF_K + 1))


def test_weights_decide_between_stages() -> None:
    rankings = {"dense": ranking(A), "fulltext": ranking(B)}
    assert fuse(rankings, {"dense": 1.0, "fulltext": 3.0})[0].chunk_id == B


def test_a_stage_that_found_nothing_changes_no_order() -> None:
    alone = fuse({"dense": ranking(C, A, B)}, EQUAL)
    assert alone[0].score == 1.0
    beside = fuse({"dense": ranking(C, A, B), "fulltext": []}, EQUAL)
    assert [c.chunk_id for c in alone] == [c.chunk_id for c in beside] == [C, A, B]


def test_no_candidates() -> None:
    assert fuse({"dense": [], "fulltext": []}, EQUAL) == []


@given(dense=RANKINGS, fulltext=RANKINGS)
def test_every_candidate_once_with_falling_scores_within_one(
    dense: list[UUID], fulltext: list[UUID]
) -> None:
    fused = fuse({"dense": ranking(*dense), "fulltext": ranking(*fulltext)}, EQUAL)
    assert sorted(c.chunk_id for c in fused) == sorted({*dense, *fulltext})
    scores = [c.score for c in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
