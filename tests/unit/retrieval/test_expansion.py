import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.retrieval.expansion import expand_question


@pytest.mark.parametrize(
    ("question", "phrase"),
    [
        ("What was capex in FY2022?", "purchases of property, plant and equipment"),
        ("How high were the CapEx?", "capital expenditures"),
        ("What is net PP&E?", "property, plant and equipment, net"),
        ("Did the quick ratio improve?", "total current assets"),
        ("What was the gross margin?", "cost of sales"),
        ("What is the EBITDA margin?", "depreciation and amortization"),
        ("SG&A expenses?", "selling, general and administrative expenses"),
        ("Any ongoing legal battles?", "legal proceedings"),
    ],
)
def test_what_is_asked_for_is_also_called_as_reports_call_it(question: str, phrase: str) -> None:
    assert phrase in expand_question(question).phrases


@pytest.mark.parametrize(
    "question", ["Who wrote the novel?", "Wie hoch war der Umsatz?", "cape exit", "steps", "3D era"]
)
def test_other_questions_get_no_phrases(question: str) -> None:
    assert expand_question(question).phrases == ()


@pytest.mark.parametrize("question", ["an excapex and Capex?", "capexes, CAPEX", "_capex: capex"])
def test_a_name_is_found_behind_a_word_that_only_ends_like_it(question: str) -> None:
    assert "capital expenditures" in expand_question(question).phrases


@pytest.mark.parametrize("question", ["the excapex?", "3capex", "_capex", "capexes"])
def test_a_part_of_a_word_is_no_name(question: str) -> None:
    assert expand_question(question).phrases == ()


def test_no_phrase_comes_twice() -> None:
    phrases = expand_question("capex, capital expenditure and free cash flow").phrases
    assert len(phrases) == len(set(phrases)) > 3


@pytest.mark.parametrize(
    ("question", "core"),
    [
        ("What was EPS? Answer in USD.", "What was EPS?"),
        (
            "Assume that you are an analyst. What was EPS? If it is not given, then state that.",
            "What was EPS?",
        ),
        (
            "Answer the following question by using the balance sheet: what is PP&E?",
            "what is PP&E?",
        ),
    ],
)
def test_instructions_are_left_out(question: str, core: str) -> None:
    assert expand_question(question).core == core


@pytest.mark.parametrize(
    "question",
    [
        "Please list the segments. And their sales?",
        "Please answer in English.",
        "If sales fall, what happens?",
        "Please give me the net sales of 3M in 2018. Thank you.",
        "If a tenant leaves early, state the penalty. I need it for the Acme lease.",
        "Please explain the deductible. Is flood damage covered by it?",
        "Please explain how many turbines there are. Thanks!",
    ],
)
def test_what_may_be_asked_stays(question: str) -> None:
    assert expand_question(question).core == question


def test_an_instruction_still_tells_the_statement() -> None:
    question = "How much was spent? Give a response by relying on the cash flow statement."
    assert "consolidated statements of cash flows" in expand_question(question).phrases


@given(st.text(max_size=300).filter(str.strip))
def test_any_question_keeps_a_core(question: str) -> None:
    assert expand_question(question).core.strip()
