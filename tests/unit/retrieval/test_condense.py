"""What is taken of a model's answer when it rewrites a query, and what is not."""

import pytest

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import Message, Role
from app.retrieval.base import RetrievalQuery
from app.retrieval.condense import (
    MAX_FURTHER,
    MAX_QUERY_CHARS,
    QueryRewriter,
    read_queries,
    read_question,
)
from app.retrieval.trace import Step, StepOutcome, Trace

SALES = "What were 3M's net sales in 2018?"
HISTORY = (
    Message(Role.USER, SALES),
    Message(Role.ASSISTANT, "Net sales were $32,765 million [1]."),
)
FOLLOW_UP = RetrievalQuery("and the year before?", 5, history=HISTORY)


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("What were 3M's net sales in 2017?", "What were 3M's net sales in 2017?"),
        ('"What were 3M\'s net sales in 2017?"', "What were 3M's net sales in 2017?"),
        ("Standalone question: 3M net sales in 2017?", "3M net sales in 2017?"),
        ("Why were net sales 32,765 million?", "Why were net sales 32,765 million?"),
    ],
)
def test_a_question_about_what_was_spoken_of_is_taken(answer: str, question: str) -> None:
    assert read_question(answer, FOLLOW_UP) == question


@pytest.mark.parametrize(
    "answer",
    [
        "",
        '""',
        "I'm sorry, but I can't help with that.",
        "I cannot see the documents about net sales.",
        "Net sales in 2017 were $31,657 million.",  # an answer: the figure is its own
        "Here is the question:\nWhat were 3M's net sales in 2017?",
        "What were 3M's net sales " + "in 2017 " * 60 + "?",
        "Paris liegt an der Seine.",
    ],
)
def test_anything_else_is_not(answer: str) -> None:
    with pytest.raises(ProviderError) as raised:
        read_question(answer, FOLLOW_UP)
    assert raised.value.kind is ProviderErrorKind.PROTOCOL


@pytest.mark.parametrize(
    ("answer", "queries"),
    [
        ('["3M revenue 2017", "net sales 2017"]', ["3M revenue 2017", "net sales 2017"]),
        ('```json\n["3M revenue 2017"]\n```', ["3M revenue 2017"]),
        (
            "Here are three queries:\n\n1. 3M revenue\n2) “net sales”\n- sales by segment",
            ["3M revenue", "net sales", "sales by segment"],
        ),
        ("1990 was when?\n2018 sales", ["1990 was when?", "2018 sales"]),
        # Repeats, the question itself, what is too long, and more than was asked for.
        (
            f'["what WERE 3M\'s net sales in 2018", "a b", "A  b?", "{"x" * 301}", "c", "d", "e"]',
            ["a b", "c", "d"],
        ),
    ],
)
def test_further_queries_are_read_from_an_array_or_lines(answer: str, queries: list[str]) -> None:
    read = read_queries(answer, SALES)
    assert read == queries
    assert len(read) <= MAX_FURTHER
    assert all(len(query) <= MAX_QUERY_CHARS for query in read)


@pytest.mark.parametrize(
    "answer",
    ["", "[]", "[1, 2]", '["a", ["b"]]', '{"queries": []}', '["cut', "[" * 9999, SALES, "Sorry!"],
)
def test_an_answer_without_further_queries_is_unusable(answer: str) -> None:
    with pytest.raises(ProviderError) as raised:
        read_queries(answer, SALES)
    assert raised.value.kind is ProviderErrorKind.PROTOCOL


async def test_without_history_nothing_is_rewritten_or_noted() -> None:
    trace = Trace("and the year before?")
    query = RetrievalQuery("and the year before?", 5)
    assert await QueryRewriter(None).condense(query, trace) == query.text
    assert trace.steps == []


async def test_rules_alone_when_rewriting_is_off() -> None:
    trace = Trace(FOLLOW_UP.text)
    rewriter = QueryRewriter(None)
    assert await rewriter.condense(FOLLOW_UP, trace) == "What were 3M's net sales in 2017?"
    assert await rewriter.expand(SALES, None, trace) == []
    assert trace.steps == [
        Step("condense", StepOutcome.SKIPPED, "off"),
        Step("expand", StepOutcome.SKIPPED, "off"),
    ]
