"""A question -> weighted terms: what counts in it, and what it may be found by besides."""

from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.query_terms import analyze_query


def weights(question: str, *phrases: str) -> dict[str, float]:
    query = analyze_query(question, phrases)
    return dict(zip(query.terms, query.weights, strict=True))


def test_function_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert set(weights("What is the zebra?")) == {"zebra", "~zebra"}
    assert {"to", "be", "or"} <= set(weights("To be or not to be?"))
    assert weights("?!") == {}
    assert weights("") == {}


def test_a_stem_weighs_more_than_the_beginning_of_the_word() -> None:
    found = weights("What were the dividends of the year?")
    assert found["dividend"] > found["~divid"] > 0


def test_other_names_weigh_less_and_stand_for_no_word_of_the_question() -> None:
    query = analyze_query("What was the capex?", ("capital expenditures", "the capex"))
    found = dict(zip(query.terms, zip(query.weights, query.groups, strict=True), strict=True))
    assert found["capex"][0] > found["expenditur"][0] > 0
    assert found["expenditur"][1] == 0 < found["capex"][1]
    assert "the" not in found


def test_each_term_stands_once_and_its_group_is_its_word() -> None:
    query = analyze_query("Sales, sales and more expenditures than the sale of FY2022")
    assert len(set(query.terms)) == len(query.terms) == len(query.weights) == len(query.groups)
    group = dict(zip(query.terms, query.groups, strict=True))
    assert group["expenditur"] == group["~expen"]
    assert group["sale"] != group["expenditur"]
    assert group["fy2022"] == group["2022"]


def test_pairs_of_characters_are_words_of_their_own() -> None:
    query = analyze_query("城市建筑")
    assert set(query.terms) == {"城市", "市建", "建筑"}
    assert len(set(query.groups)) == 3


def test_a_question_without_a_clear_language_is_stemmed_by_several() -> None:
    # "Häuser" alone may be any language's; "der" and "die" would tell.
    assert "haus" in weights("Häuser")


@given(st.text(), st.lists(st.text()).map(tuple))
def test_any_text_is_a_question(text: str, phrases: tuple[str, ...]) -> None:
    query = analyze_query(text, phrases)
    assert all(0 < weight <= 1 for weight in query.weights)
    assert not any("'" in term or "\\" in term for term in query.terms)
