"""Answers made of the sources' own sentences."""

import re

import pytest

from app.chat.citations import Marker, MarkerFilter, TextPiece
from app.chat.quotes import find_claim, find_quote
from app.llm.base import (
    NOT_IN_DOCUMENTS,
    ChatRequest,
    Finish,
    FinishReason,
    Message,
    Role,
    Source,
    TextDelta,
)
from app.llm.providers.extractive import NO_LANGUAGE_MODEL, ExtractiveProvider, choose_extracts

CASH_FLOWS = Source(
    1,
    "Consolidated Statement of Cash Flows\n"
    "(Millions) 2018 2017 2016\n"
    "Depreciation and amortization 1,488 1,544 1,474\n"
    "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420)\n"
    "Dividends paid to shareholders (3,193) (2,803) (2,678)",
)
EXPENSES = Source(
    2,
    "Research, Development and Related Expenses:\n"
    "R&D in dollars decreased $49 million for full year 2018 when compared to the same period\n"
    "last year. The decrease primarily relates to R&D no longer incurred for the Communication\n"
    "Markets Division.[3] The company was founded in 1902 by five businessmen in Minnesota.",
)
SOURCES = (CASH_FLOWS, EXPENSES)


def request(
    question: str, sources: tuple[Source, ...] = SOURCES, *, max_tokens: int = 1024
) -> ChatRequest:
    prompt = "\n".join([question, *(source.text for source in sources)])
    return ChatRequest(
        model="extractive",
        messages=(Message(Role.USER, prompt),),
        temperature=0.7,
        max_tokens=max_tokens,
        question=question,
        sources=sources,
    )


async def ask(chat_request: ChatRequest) -> tuple[list[str], Finish]:
    """Return the deltas and the Finish; checks the order of events."""
    events = [event async for event in ExtractiveProvider().stream(chat_request)]
    finish = events.pop()
    assert isinstance(finish, Finish)
    assert all(isinstance(event, TextDelta) and event.text for event in events)
    return [event.text for event in events if isinstance(event, TextDelta)], finish


async def test_the_best_sentence_comes_verbatim_with_its_marker_and_folded_lines() -> None:
    deltas, finish = await ask(request("By how much did R&D decrease in 2018?"))
    assert "".join(deltas).startswith(
        "R&D in dollars decreased $49 million for full year 2018 when compared to the same period"
        " last year. [2]"
    )
    assert len(deltas) > 3
    assert finish.reason is FinishReason.STOP
    assert finish.model == "extractive"


async def test_a_table_row_comes_below_the_years_of_its_columns() -> None:
    deltas, _ = await ask(request("What were the purchases of property and equipment in 2017?"))
    lines = "".join(deltas).splitlines()
    assert lines[0] == "(Millions) 2018 2017 2016 [1]"
    assert "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420) [1]" in lines


async def test_each_statement_is_verified_by_the_source_that_its_marker_names() -> None:
    texts = {source.n: source.text for source in SOURCES}
    for question in ("How did R&D expenses of the division develop?", "Dividends paid in 2016?"):
        deltas, _ = await ask(request(question))
        marker_filter, answer, count = MarkerFilter(texts), "", 0
        for event in marker_filter.feed("".join(deltas)) + marker_filter.close():
            if isinstance(event, TextPiece):
                answer += event.text
                continue
            assert isinstance(event, Marker)
            quote = find_quote(find_claim(answer), texts[event.n])
            assert quote is not None
            assert quote.verified
            count += 1
        assert count > 0
        assert marker_filter.dropped_markers == 0
        assert answer == "".join(deltas)


async def test_reference_marks_of_a_document_do_not_become_citations() -> None:
    deltas, _ = await ask(request("Which division does the R&D decrease relate to primarily?"))
    answer = "".join(deltas)
    assert "Communication Markets Division. [2]" in answer
    assert "[3]" not in answer


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Who painted the Mona Lisa?",
        "¿Cuántos habitantes tiene Madrid?",
        "?",
    ],
)
async def test_a_question_that_nothing_fits_gets_the_fixed_sentence(question: str) -> None:
    deltas, finish = await ask(request(question))
    assert "".join(deltas) == NOT_IN_DOCUMENTS
    assert finish.reason is FinishReason.STOP


async def test_no_sources_are_not_in_documents_and_no_retrieval_needs_a_model() -> None:
    assert "".join((await ask(request("What were sales?", ())))[0]) == NOT_IN_DOCUMENTS
    assert "".join((await ask(request("", ())))[0]) == NO_LANGUAGE_MODEL


async def test_one_shared_word_is_no_answer() -> None:
    source = Source(1, "Capital expenditures were high. Working capital fell by 3 million.")
    deltas, _ = await ask(request("What is the capital of France?", (source,)))
    assert "".join(deltas) == NOT_IN_DOCUMENTS


INCOME = Source(
    2,
    "Consolidated Statement of Income\n"
    "(Millions) 2018 2017 2016\n"
    "Net sales $ 32,765 $ 31,657 $ 30,109\n"
    "Cost of sales 16,682 16,055 15,118\n"
    "Operating income 7,207 7,692 7,027",
    "3M_2018_10K.pdf",
)
REGIONS = Source(
    1,
    "Asia Pacific included China/Hong Kong net sales to customers of $3.574 billion in 2018.\n"
    "(Millions) 2018 2017 2016\n"
    "China/Hong Kong net sales 3,574 3,255 2,799\n"
    "Net property, sales offices 542 541 530",
    "3M_2018_10K.pdf",
)


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("What were net sales in 2018?", "Net sales $ 32,765"),
        ("What was 3M's operating income in 2018?", "Operating income 7,207"),
        ("What were the China/Hong Kong net sales in 2018?", "China/Hong Kong net sales 3,574"),
    ],
)
def test_a_row_whose_label_is_what_is_asked_comes_first(question: str, row: str) -> None:
    best = choose_extracts(question, (REGIONS, INCOME))[0]
    assert best.source.text[best.start : best.end].startswith(row)


def test_a_row_with_the_year_asked_comes_before_one_of_other_years() -> None:
    older = Source(1, "(Millions) 2014 2013 2012\nNet sales $ 31,821 $ 30,871 $ 29,904")
    best = choose_extracts("What were net sales in 2018?", (older, INCOME))[0]
    assert best.source is INCOME


REVENUE = Source(
    1, "Approximately $500 million was recognized as revenue during the year 2018.", "10K.pdf"
)


@pytest.mark.parametrize(
    "question",
    [
        "What was Apple's revenue in 2018?",
        "Apple's revenue in 2018?",
        "How much revenue was recognized by Apple?",
    ],
)
def test_a_question_about_a_name_that_no_source_holds_is_not_answered(question: str) -> None:
    assert not choose_extracts(question, (REVENUE,))
    assert choose_extracts(question.replace("Apple", "the company"), (REVENUE,))


def test_a_name_in_the_title_of_a_source_is_not_absent() -> None:
    titled = Source(1, REVENUE.text, "Apple_2018_10K.pdf")
    assert choose_extracts("What was Apple's revenue in 2018?", (titled,))


def test_a_sentence_need_not_name_what_all_titles_name() -> None:
    text = (
        "3M has retirement plans covering substantially all employees.\n"
        "At December 31, 2018, the Company employed 93,516 people in many countries."
    )
    best = choose_extracts("How many employees does 3M have?", (Source(1, text, "3M_10K.pdf"),))[0]
    assert "93,516" in text[best.start : best.end]


async def test_a_heading_is_no_answer() -> None:
    source = Source(
        1, "Research and Development Expenses\n\nOffices are in Minnesota, near a lake."
    )
    deltas, _ = await ask(request("What are the research and development expenses?", (source,)))
    assert "".join(deltas) == NOT_IN_DOCUMENTS


def test_the_same_sentence_in_two_sources_is_taken_once() -> None:
    twin = Source(3, EXPENSES.text)
    extracts = choose_extracts("By how much did R&D decrease in 2018?", (EXPENSES, twin))
    assert extracts
    assert {extract.source.n for extract in extracts} == {2}


def test_extracts_are_slices_without_white_space_at_their_edges() -> None:
    for extract in choose_extracts("When was the company founded, and by whom?", SOURCES):
        piece = extract.source.text[extract.start : extract.end]
        assert piece == piece.strip() != ""


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        (
            "特斯拉在哪一年去世？",
            "特斯拉是发明家。特斯拉在1943年去世。他很有名。",
            "特斯拉在1943年去世。 [1]",
        ),
        (
            "في أي سنة توفي تسلا؟",
            "كان معروفا. توفي تسلا في سنة 1943.",
            "توفي تسلا في سنة 1943. [1]",
        ),
        (
            "Wann starb Tesla?",
            "Er war bekannt. Tesla starb am 7. Januar 1943.",
            "Tesla starb am 7. Januar 1943. [1]",
        ),
    ],
)
async def test_questions_in_other_languages(question: str, text: str, answer: str) -> None:
    deltas, _ = await ask(request(question, (Source(1, text),)))
    assert answer in "".join(deltas)


async def test_max_tokens_leaves_out_whole_sentences_and_says_so() -> None:
    question = "How did R&D develop, and what does the R&D decrease primarily relate to?"
    whole, full = await ask(request(question))
    assert "".join(whole).count("[2]") == 2
    for max_tokens in range(1, full.usage.output_tokens):
        deltas, finish = await ask(request(question, max_tokens=max_tokens))
        answer = "".join(deltas)
        assert finish.reason is FinishReason.LENGTH
        assert finish.usage.output_tokens <= max_tokens
        assert not answer or re.search(r"\. \[2\]\Z", answer)
    _, exact = await ask(request(question, max_tokens=full.usage.output_tokens))
    assert exact.reason is FinishReason.STOP


async def test_the_usage_is_counted_and_marked_as_an_estimate() -> None:
    _, finish = await ask(request("By how much did R&D decrease in 2018?"))
    assert finish.usage.is_estimated
    assert finish.usage.input_tokens > 100
    assert finish.usage.output_tokens > 10


async def test_it_has_one_model() -> None:
    provider = ExtractiveProvider()
    assert await provider.list_models() == ["extractive"]
    await provider.aclose()
