"""The plain rules for follow-up questions, in several languages."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.followups import MAX_FOLLOW_UP_CHARS, is_follow_up, resolve_follow_up

SALES = "What were 3M's net sales in 2018?"
REPOSITORY = Path(__file__).parents[3]
FOLDER = Path(os.environ.get("FOOTNOTE_EVAL", REPOSITORY.parent / "shared" / "eval"))


@pytest.mark.parametrize(
    ("follow_up", "resolved"),
    [
        ("and the year before?", "What were 3M's net sales in 2017?"),
        ("And the year before that?", "What were 3M's net sales in 2017?"),
        ("What about the previous year?", "What were 3M's net sales in 2017?"),
        ("And the following year?", "What were 3M's net sales in 2019?"),
        ("a year later?", "What were 3M's net sales in 2019?"),
        ("What about 2016?", "What were 3M's net sales in 2016?"),
        ("2016?", "What were 3M's net sales in 2016?"),
        ("In 2016", "What were 3M's net sales in 2016?"),
        ("And net income the year before?", "What were 3M's net sales in 2017? net income 2017?"),
        # Both years are needed to compare them.
        (
            "How does that compare to the year before?",
            "What were 3M's net sales in 2018? How does that compare to 2017?",
        ),
        ("And in 2016 and 2017?", "What were 3M's net sales in 2018? in 2016 and 2017?"),
        ("Why?", "What were 3M's net sales in 2018? Why?"),
        ("Why did it fall?", "What were 3M's net sales in 2018? Why did it fall?"),
        ("Who audited them?", "What were 3M's net sales in 2018? Who audited them?"),
        ("And in Germany?", "What were 3M's net sales in 2018? in Germany?"),
        ("For Europe?", "What were 3M's net sales in 2018? For Europe?"),
    ],
)
def test_a_follow_up_is_joined_with_the_question_before(follow_up: str, resolved: str) -> None:
    assert resolve_follow_up(follow_up, [SALES]) == resolved


@pytest.mark.parametrize(
    ("earlier", "follow_up", "resolved"),
    [
        (
            "Wie hoch war der Umsatz von Siemens 2018?",
            "Und im Vorjahr?",
            "Wie hoch war der Umsatz von Siemens 2017?",
        ),
        (
            "Wie hoch war der Umsatz von Siemens 2018?",
            "Warum ist er gefallen?",
            "Wie hoch war der Umsatz von Siemens 2018? Warum ist er gefallen?",
        ),
        (
            "Quel était le chiffre d'affaires de Renault en 2018 ?",
            "Et l'année précédente ?",
            "Quel était le chiffre d'affaires de Renault en 2017 ?",
        ),
        (
            "¿Cuáles fueron las ventas de Inditex en 2018?",
            "¿Y el año anterior?",
            "¿Cuáles fueron las ventas de Inditex en 2017?",
        ),
        (
            "¿Cuáles fueron las ventas de Inditex en 2018?",
            "¿Y en México?",
            "¿Cuáles fueron las ventas de Inditex en 2018? en México?",
        ),
        (
            "Quais foram as vendas da Vale em 2018?",
            "E no ano anterior?",
            "Quais foram as vendas da Vale em 2017?",
        ),
        (
            "Quali erano le vendite di Fiat nel 2018?",
            "E l'anno dopo?",
            "Quali erano le vendite di Fiat nel 2019?",
        ),
        (
            "Wat was de omzet van Philips in 2018?",
            "En het jaar ervoor?",
            "Wat was de omzet van Philips in 2017?",
        ),
        (
            "Какая выручка была у Газпрома в 2018 году?",
            "А годом ранее?",
            "Какая выручка была у Газпрома в 2017 году?",
        ),
        (
            "Ποια ήταν τα έσοδα της ΔΕΗ το 2018;",
            "Και το προηγούμενο έτος;",
            "Ποια ήταν τα έσοδα της ΔΕΗ το 2017;",
        ),
        (
            "THY'nin 2018 geliri ne kadardı?",
            "Peki önceki yıl?",
            "THY'nin 2017 geliri ne kadardı?",
        ),
        (
            "Doanh thu của Vinamilk năm 2018 là bao nhiêu?",
            "Còn năm trước đó thì sao?",
            "Doanh thu của Vinamilk năm 2017 là bao nhiêu?",
        ),
        ("华为2018年的收入是多少？", "那前一年呢？", "华为2017年的收入是多少？"),
        (
            "华为2018年的收入是多少？",
            "它的总部在哪里？",
            "华为2018年的收入是多少？ 它的总部在哪里？",
        ),
        ("トヨタの2018年の売上高は？", "翌年は？", "トヨタの2019年の売上高は？"),
        ("삼성전자의 2018년 매출은?", "그럼 전년도는?", "삼성전자의 2017년 매출은?"),
        ("ปตท. มีรายได้เท่าไรในปี 2561", "แล้วปีก่อนหน้าล่ะ", "ปตท. มีรายได้เท่าไรในปี 2560"),
        ("ما هي مبيعات أرامكو في 2018؟", "وماذا عن السنة السابقة؟", "ما هي مبيعات أرامكو في 2017؟"),
        ("ما هي مبيعات أرامكو في ٢٠١٨؟", "وماذا عن السنة السابقة؟", "ما هي مبيعات أرامكو في 2017؟"),
        ("2018 में टाटा की बिक्री कितनी थी?", "और पिछले साल?", "2017 में टाटा की बिक्री कितनी थी?"),
        (
            "2018 में टाटा की बिक्री कितनी थी?",
            "उसका मुनाफ़ा कितना था?",
            "2018 में टाटा की बिक्री कितनी थी? उसका मुनाफ़ा कितना था?",
        ),
    ],
)
def test_follow_ups_of_many_languages(earlier: str, follow_up: str, resolved: str) -> None:
    assert resolve_follow_up(follow_up, [earlier]) == resolved


@pytest.mark.parametrize(
    "question",
    [
        "What is Apple's revenue in 2020?",
        "When did Tesla release its first car?",
        "Who founded Tesla and when was it sold?",
        "How did revenue change compared to the previous year in 2018?",
        "How long does it take to boil an egg?",
        "Are there any risks?",
        "Who wrote this report?",
        "Summarize this document",
        "What is EBITDA?",
        "Photosynthesis",
        "net sales 2018",
        "Wann wurde Siemens gegründet?",
        "Was ist DECnet?",
        "Quand la guerre a-t-elle commencé ?",
        "Combien d'habitants y a-t-il à Paris ?",
        "¿Cuándo terminó su reinado el rey Felipe II?",
        "NASUWT nedir?",
        "Что такое фотосинтез?",
        "法国的首都是哪里？",
        "日本の首都はどこですか？",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(question: str) -> None:
    assert resolve_follow_up(question, [SALES]) == question


def test_a_follow_up_of_a_follow_up_goes_back_to_the_question() -> None:
    assert resolve_follow_up("And the year before that?", [SALES, "and the year before?"]) == (
        "What were 3M's net sales in 2016?"
    )
    earlier = ["Who is the CEO of Apple?", SALES, "And 2015?"]
    assert resolve_follow_up("and the next year?", earlier) == "What were 3M's net sales in 2016?"


def test_the_years_around_a_range_are_added_to_it() -> None:
    earlier = ["How did 3M's sales grow from 2016 to 2018?"]
    assert resolve_follow_up("And the year before?", earlier) == f"{earlier[0]} 2015"
    assert resolve_follow_up("And the year after?", earlier) == f"{earlier[0]} 2019"


def test_a_year_that_was_not_named_is_not_invented() -> None:
    earlier = ["What were 3M's 2,018 patents worth?"]
    assert resolve_follow_up("And the year before?", earlier) == (f"{earlier[0]} the year before?")


def test_without_a_question_before_nothing_is_changed() -> None:
    assert resolve_follow_up("and the year before?", []) == "and the year before?"


def test_a_long_text_is_no_follow_up() -> None:
    assert not is_follow_up("and " + "it " * MAX_FOLLOW_UP_CHARS)


@given(text=st.text(max_size=200), earlier=st.lists(st.text(max_size=2_000), max_size=8))
def test_any_text_is_resolved_to_something_with_its_words(text: str, earlier: list[str]) -> None:
    resolved = resolve_follow_up(text, earlier)
    assert resolved == text or is_follow_up(text)
    assert len(resolved) <= len(text) + 500


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the question sets are not here")
def test_hardly_any_question_of_the_sets_is_taken_for_a_follow_up() -> None:
    """XQuAD's questions stand alone, in 12 languages."""
    with (FOLDER / "xquad_dev.jsonl").open() as lines:
        questions = [str(json.loads(line)["question"]) for line in lines]
    taken = [question for question in questions if is_follow_up(question)]
    assert len(taken) <= 0.002 * len(questions), taken
