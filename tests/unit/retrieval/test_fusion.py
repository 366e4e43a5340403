from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.base import Candidate
from app.retrieval.fusion import (
    KNOWN_LANGUAGE,
    OTHER_LANGUAGE,
    OTHER_MODEL,
    OTHER_MODEL_AND_LANGUAGE,
    Calibration,
    Evidence,
    Verdict,
    choose_calibration,
    find_best,
    judge,
)
from app.retrieval.fusion import (
    fuse as fuse_with_places,
)

CALIBRATIONS = pytest.mark.parametrize("calibration", [KNOWN_LANGUAGE, OTHER_LANGUAGE])
EVIDENCE = st.builds(
    Evidence,
    st.uuids(),
    st.floats(-1, 1),
    st.floats(0, 2.5),
    st.floats(0, 1.3),
)


def fuse(items: list[Evidence], calibration: Calibration) -> list[Candidate]:
    """Fuse chunks that are all of different pages."""
    places = {item.chunk_id: item.chunk_id for item in items}
    return fuse_with_places(items, calibration, places)


def evidence(number: int, similarity: float, fulltext: float) -> Evidence:
    return Evidence(UUID(int=number), similarity, fulltext)


@CALIBRATIONS
@given(items=st.lists(EVIDENCE, max_size=30, unique_by=lambda item: item.chunk_id))
def test_each_chunk_comes_once_with_probabilities_that_fall(
    calibration: Calibration, items: list[Evidence]
) -> None:
    ranked = fuse(items, calibration)
    assert {c.chunk_id for c in ranked} == {item.chunk_id for item in items}
    assert all(0 <= c.score <= 1 for c in ranked)
    assert all(better.score >= worse.score for better, worse in pairwise(ranked))


def test_a_chunk_that_both_stages_know_beats_those_of_one() -> None:
    ranked = fuse(
        [evidence(1, 0.6, 0.0), evidence(2, 0.5, 0.8), evidence(3, 0.1, 0.9)], KNOWN_LANGUAGE
    )
    assert ranked[0].chunk_id.int == 2


def test_vectors_hardly_count_in_a_language_that_their_model_does_not_know() -> None:
    items = [evidence(1, 0.9, 0.3), evidence(2, 0.3, 0.6)]
    assert fuse(items, KNOWN_LANGUAGE)[0].chunk_id.int == 1
    assert fuse(items, OTHER_LANGUAGE)[0].chunk_id.int == 2


def test_of_equals_the_one_that_follows_the_wording_is_first() -> None:
    items = [evidence(1, 0.5, 0.5), evidence(2, 0.5, 0.5)._replace(wording=0.4)]
    assert fuse(items, KNOWN_LANGUAGE)[0].chunk_id.int == 2


@CALIBRATIONS
@given(items=st.lists(EVIDENCE, max_size=30, unique_by=lambda item: item.chunk_id))
def test_the_best_are_those_that_are_fused_first(
    calibration: Calibration, items: list[Evidence]
) -> None:
    best = find_best(items, calibration, 5)
    assert best == [candidate.chunk_id for candidate in fuse(items, calibration)][:5]


def test_a_best_chunk_with_a_rival_is_less_probable() -> None:
    alone = fuse([evidence(1, 0.6, 0.6), evidence(2, 0.1, 0.0)], KNOWN_LANGUAGE)
    contested = fuse([evidence(1, 0.6, 0.6), evidence(2, 0.6, 0.59)], KNOWN_LANGUAGE)
    assert alone[0].score > contested[0].score


def test_equals_are_ordered_by_id_and_equally_probable() -> None:
    ranked = fuse([evidence(2, 0.5, 0.5), evidence(1, 0.5, 0.5)], KNOWN_LANGUAGE)
    assert [c.chunk_id.int for c in ranked] == [1, 2]
    assert ranked[0].score == ranked[1].score


def test_without_chunks_nothing_is_answerable() -> None:
    assert fuse([], KNOWN_LANGUAGE) == []
    assert judge(None, KNOWN_LANGUAGE) == Verdict(0.0, is_answerable=False)


def test_a_near_chunk_is_answerable_and_a_far_one_is_not() -> None:
    assert judge(evidence(1, 0.65, 0.7), KNOWN_LANGUAGE).is_answerable
    assert not judge(evidence(1, 0.15, 0.2), KNOWN_LANGUAGE).is_answerable


def test_of_a_chunk_without_a_vector_its_words_tell() -> None:
    assert judge(Evidence(UUID(int=1), None, 0.6), KNOWN_LANGUAGE).is_answerable
    assert not judge(Evidence(UUID(int=1), None, 0.05), KNOWN_LANGUAGE).is_answerable


@pytest.mark.parametrize(
    ("question", "model", "calibration"),
    [
        ("What were net sales?", "all-MiniLM-L6-v2", KNOWN_LANGUAGE),
        ("Wie hoch war der Umsatz im Jahr 2022?", "all-MiniLM-L6-v2", OTHER_LANGUAGE),
        ("NASUWT是什么?", "all-MiniLM-L6-v2", OTHER_LANGUAGE),
        ("Who is 习近平?", "all-MiniLM-L6-v2", KNOWN_LANGUAGE),
        ("売上高はいくらですか", "BAAI/bge-small-en-v1.5", OTHER_LANGUAGE),
        ("What were net sales?", "BAAI/bge-small-en-v1.5", OTHER_MODEL),
        (
            "Wie hoch war der Umsatz im Jahr 2022?",
            "nomic-embed-text-v2-moe",
            OTHER_MODEL_AND_LANGUAGE,
        ),
        (
            "Wie hoch war der Umsatz im Jahr 2022?",
            "text-embedding-3-small",
            OTHER_MODEL_AND_LANGUAGE,
        ),
        ("What were net sales?", None, OTHER_LANGUAGE),
    ],
)
def test_vectors_count_where_their_model_knows_the_language(
    question: str, model: str | None, calibration: Calibration
) -> None:
    assert choose_calibration(question, model) == calibration


def test_a_further_chunk_of_a_page_gives_way_to_one_of_another_page() -> None:
    items = [evidence(1, 0.6, 0.6), evidence(2, 0.6, 0.55), evidence(3, 0.6, 0.5)]
    places = {items[0].chunk_id: 1, items[1].chunk_id: 1, items[2].chunk_id: 2}
    ranked = fuse_with_places(items, KNOWN_LANGUAGE, places)
    assert [c.chunk_id.int for c in ranked] == [1, 3, 2]
    assert [c.score for c in ranked] == sorted((c.score for c in ranked), reverse=True)
