import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.wording import analyze_wording, measure_closeness


def closeness(question: str, *texts: str, phrases: tuple[str, ...] = ()) -> list[float]:
    return measure_closeness(analyze_wording(question, phrases), texts)


def test_words_in_one_sentence_are_closer_than_in_several() -> None:
    together, apart = closeness(
        "Which castle did the duke build?",
        "It rained. The duke had a castle built there. Nobody came.",
        "It rained on the castle. The duke stayed away. Nobody built.",
    )
    assert together > apart > 0


def test_neighbors_of_the_question_are_closer_side_by_side() -> None:
    side_by_side, turned = closeness(
        "Who was the head of the company?",
        "He became head of the company in May.",
        "The company of the widow with one head.",
    )
    assert side_by_side > turned > 0


def test_a_rare_word_tells_more_than_a_common_one() -> None:
    rare, common = closeness(
        "Which river has a dolphin?", "A dolphin lives here.", "The river is long.", "This river."
    )[:2]
    assert rare > common


def test_a_word_is_found_in_its_other_forms_but_not_inside_others() -> None:
    forms = closeness("Which countries export art?", "One country exported it.", "The party left.")
    assert forms[0] > 0
    assert forms[1] == 0


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What were sales in FY2022?", "For the year 2022, none."),
        ("Who earned 1,577?", "Earned: $1,577."),
        ("Who was Tesla’s father?", "Tesla's home."),
        ("When did Zoë arrive?", "It was Zoë—late."),
        ("What did the U.S. buy?", "(bought) “buy”!"),
    ],
)
def test_marks_do_not_hide_a_word(question: str, text: str) -> None:
    assert closeness(question, text)[0] > 0


def test_phrases_count_less_than_the_question() -> None:
    asked, other = closeness(
        "What is the capex?", "Its capex grew.", "Its purchases grew.", phrases=("purchases",)
    )
    assert asked > other > 0


@pytest.mark.parametrize("question", ["", "?", "\0", "売上高はいくらですか", "What is it?"])
def test_what_has_no_words_of_its_own_tells_nothing(question: str) -> None:
    assert closeness(question, "What is it? 売上高", "") == [0.0, 0.0]


@given(
    question=st.text(max_size=80),
    texts=st.lists(st.text(st.characters(exclude_characters="\0")), max_size=5),
    phrases=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)
def test_any_text_is_measured(question: str, texts: list[str], phrases: tuple[str, ...]) -> None:
    measured = closeness(question, *texts, phrases=phrases)
    assert len(measured) == len(texts)
    assert all(0 <= one < 1.4 for one in measured)
