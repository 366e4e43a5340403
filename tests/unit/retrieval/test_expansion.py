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
        (
            "Please list the segments. And their sales?",
            "Please list the segments. And their sales?",
        ),
        ("Please answer in English.", "Please answer in English."),
        ("If sales fall, what happens?", "If sales fall, what happens?"),
    ],
)
def test_instructions_are_left_out_unless_they_are_all_there_is(question: str, core: str) -> None:
    assert expand_question(question).core == core


def test_an_instruction_still_tells_the_statement() -> None:
    question = "How much was spent? Give a response by relying on the cash flow statement."
    assert "consolidated statements of cash flows" in expand_question(question).phrases


@given(st.text(max_size=300).filter(str.strip))
def test_any_question_keeps_a_core(question: str) -> None:
    assert expand_question(question).core.strip()
