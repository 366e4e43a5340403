"""Claims, quotes and where they stand on a page."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.chat.quotes import (
    MAX_QUOTE_LENGTH,
    PageQuote,
    SourceIndex,
    find_claim,
    find_page_quote,
    find_quote,
    locate_quote,
)
from app.models.spans import SPAN_SEPARATOR, Span

PROSE = (
    "SG&A in dollars increased 14.7 percent for full year 2018 when compared to last year.\n"
    "R&D in dollars decreased $49 million for full year 2018. 3M continued to invest in its key\n"
    "initiatives, including R&D aimed at new innovation programs. Dividends were paid in June."
)
TABLE = (
    "Consolidated Statement of Cash Flows\n"
    "(Millions) 2018 2017 2016\n"
    "Depreciation and amortization 1,488 1,544 1,474\n"
    "Purchases of property, plant and equipment (PP&E) (1,577) (1,373) (1,420)\n"
    "Proceeds from sale of PP&E and other assets 262 49 58\n"
)


@pytest.mark.parametrize(
    ("answer", "claim"),
    [
        ("Costs rose. Net sales fell by 3 %", "Net sales fell by 3 %"),
        ("Costs rose. Net sales fell by 3 %.", "Net sales fell by 3 %."),
        ("Costs rose [1]. Net sales fell by 3 % [2]", "Net sales fell by 3 %"),
        ("Costs rose. [1] Net sales fell by 3 %. [2][3] ", "Net sales fell by 3 %."),
        (
            "Net sales fell by 3 % [1] and net profit rose to 9 million",
            "and net profit rose to 9 million",
        ),
        ("The company [1] is old", "The company is old"),
        ("Here:\n1. Net sales fell by 3 %", "Net sales fell by 3 %"),
        ("- Net sales fell by 3 %", "Net sales fell by 3 %"),
        ("", ""),
        (" [1]", ""),
    ],
)
def test_a_claim_is_what_stands_before_the_marker(answer: str, claim: str) -> None:
    assert find_claim(answer) == claim


def test_the_quote_is_the_sentence_that_supports_the_claim_word_for_word() -> None:
    quote = find_quote("In 2018, R&D spending decreased by $49 million.", PROSE)
    assert quote is not None
    assert quote.text == "R&D in dollars decreased $49 million for full year 2018."
    assert PROSE[quote.start : quote.end] == quote.text
    assert quote.verified
    assert 0.3 < quote.score <= 1


@pytest.mark.parametrize(
    "claim",
    [
        "R&D decreased by $48 million in full year 2018.",
        "R&D decreased $49 million for full year 2017.",
        "Dividends caused innovation to collapse among disappointed shareholders everywhere.",
    ],
)
def test_a_claim_with_another_number_or_other_words_is_not_verified(claim: str) -> None:
    quote = find_quote(claim, PROSE)
    assert quote is not None
    assert not quote.verified


def test_a_claim_over_two_sentences_is_quoted_with_both() -> None:
    quote = find_quote(
        "SG&A increased 14.7 percent in 2018 while R&D decreased $49 million.", PROSE
    )
    assert quote is not None
    assert quote.verified
    assert quote.text.startswith("SG&A")
    assert quote.text.endswith("for full year 2018.")


@pytest.mark.parametrize(
    ("claim", "verified"),
    [
        ("Purchases of property, plant and equipment were $1,577 million in 2018.", True),
        ("Purchases of property, plant and equipment (1,577) (1,373) (1,420)", True),
        ("In FY2018 purchases of property, plant and equipment were 1577.", True),
        ("Purchases of property, plant and equipment were $1,373 million in 2018.", False),
        ("Purchases of property, plant and equipment were $1,577 million in 2019.", False),
        ("Purchases of property, plant and equipment fell in 2018.", False),
    ],
)
def test_a_row_is_verified_under_the_year_of_its_column(claim: str, verified: bool) -> None:
    quote = find_quote(claim, TABLE)
    assert quote is not None
    assert quote.text.startswith("Purchases of property")
    assert quote.verified is verified


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ("特斯拉于1943年在纽约去世。", "他是发明家。特斯拉于1943年1月7日在纽约去世。他很有名。"),
        (
            "توفي تسلا في نيويورك عام 1943",
            "كان مخترعا. توفي تسلا في 7 يناير 1943 في نيويورك. كان معروفا.",
        ),
        ("टेस्ला की मृत्यु 1943 में हुई।", "वह आविष्कारक थे। टेस्ला की मृत्यु 7 जनवरी 1943 को हुई। वह प्रसिद्ध थे।"),
    ],
)
def test_quotes_are_found_in_any_script(claim: str, text: str) -> None:
    quote = find_quote(claim, text)
    assert quote is not None
    assert "1943" in quote.text
    assert len(quote.text) < len(text) * 0.7
    assert quote.verified


def test_a_long_sentence_is_cut_to_the_part_that_supports_the_claim() -> None:
    text = (
        "filler words going on and on, " * 30 + "net sales rose to 42 million, " + "and more " * 60
    )
    quote = find_quote("Net sales rose to 42 million.", text)
    assert quote is not None
    assert len(quote.text) <= MAX_QUOTE_LENGTH
    assert "net sales rose to 42 million" in quote.text
    assert quote.verified


@pytest.mark.parametrize("text", ["", " \n ", "Völlig anderes Thema hier."])
def test_nothing_alike_is_no_quote(text: str) -> None:
    assert find_quote("Net sales rose.", text) is None
    assert find_page_quote("Net sales rose.", text, [Span(1, 0, len(text))]) is None


def test_a_claim_without_words_has_no_quote() -> None:
    assert find_quote("", PROSE) is None
    assert find_quote("…", PROSE) is None


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.text(alphabet="ab1 .\n,東京$%", max_size=40),
    st.text(alphabet="ab12 .\n,;東京都$%", max_size=900),
)
def test_a_quote_is_always_a_verbatim_slice(claim: str, text: str) -> None:
    quote = find_quote(claim, text)
    if quote is not None:
        assert text[quote.start : quote.end] == quote.text != ""
        assert len(quote.text) <= MAX_QUOTE_LENGTH
        assert 0 <= quote.score <= 1


PAGES = {3: "head. Sales rose to 42 million in the", 4: "year 2018 because prices rose. tail."}
SPANS = (Span(3, 6, 37), Span(4, 0, 30))
CHUNK = SPAN_SEPARATOR.join(PAGES[s.page][s.start : s.end] for s in SPANS)


def test_offsets_in_a_chunk_become_offsets_in_a_page() -> None:
    start = CHUNK.index("prices")
    place = locate_quote(SPANS, start, start + 6)
    assert place == PageQuote(4, 18, 24, start, start + 6)
    assert PAGES[4][place.start : place.end] == "prices"


def test_a_quote_over_two_pages_is_cut_to_the_longer_part() -> None:
    place = locate_quote(SPANS, 0, len(CHUNK))
    assert (place.page, place.start, place.end) == (3, 6, 37)
    assert CHUNK[place.chunk_start : place.chunk_end] == PAGES[3][place.start : place.end]


def test_offsets_outside_of_all_spans_are_an_error() -> None:
    with pytest.raises(ValueError, match="no span"):
        locate_quote(SPANS, 31, 32)  # the separator itself
    with pytest.raises(ValueError, match="no span"):
        locate_quote((), 0, 1)


def test_a_quote_that_was_cut_is_judged_by_what_is_left() -> None:
    found = find_page_quote("Sales rose to 42 million in the year 2018.", CHUNK, SPANS)
    assert found is not None
    quote, place = found
    assert quote.text == PAGES[place.page][place.start : place.end]
    assert (quote.start, quote.end) == (place.chunk_start, place.chunk_end)
    assert place.page == 3
    assert not quote.verified  # the year stands on the other page
    whole = find_page_quote("Sales rose to 42 million.", CHUNK, SPANS)
    assert whole is not None
    assert whole[0].verified


@pytest.mark.parametrize(
    ("claim", "text", "missing"),
    [
        ("R&D decreased by $48 million in 2018.", PROSE, ("48 million",)),
        ("R&D decreased by $49 billion in 2018.", PROSE, ("49 billion",)),
        ("R&D decreased by $49 million in 2018.", PROSE, ()),
        ("Purchases of property, plant and equipment were $1,577 in 2018.", TABLE, ()),
        ("Purchases of property, plant and equipment were $1,373 in 2018.", TABLE, ("1,373",)),
        (
            "Purchases of property, plant and equipment were $1,577 in 2019.",
            TABLE,
            ("1,577", "2019"),
        ),
        ("Der Umsatz stieg um 5,5 %.", "Der Umsatz stieg um 4,5 %.", ("5,5 %",)),
        ("营业收入为24亿元。", "营业收入为42亿元。", ("24亿",)),
    ],
)
def test_numbers_that_the_quote_does_not_hold_are_named(
    claim: str, text: str, missing: tuple[str, ...]
) -> None:
    quote = find_quote(claim, text)
    assert quote is not None
    assert quote.missing_numbers == missing
    assert quote.verified is not bool(missing)


def test_a_source_is_taken_apart_once_for_all_claims() -> None:
    source = SourceIndex(PROSE)
    first = find_quote("R&D decreased by $49 million.", source)
    sentences, windows = source.sentences, source.windows
    assert find_quote("R&D decreased by $49 million.", source) == first
    assert find_quote("R&D decreased by $49 million.", PROSE) == first
    assert source.sentences is sentences
    assert source.windows is windows


def test_the_next_best_sentence_is_quoted_where_the_best_says_something_else() -> None:
    text = "Net sales did not rise by 5 percent in Asia. In Europe net sales rose by 5 percent."
    quote = find_quote("Net sales rose by 5 percent in Europe.", text)
    assert quote is not None
    assert quote.verified
    assert quote.text == "In Europe net sales rose by 5 percent."


def test_a_claim_is_in_the_last_line() -> None:
    assert find_claim("- Net sales rose by 5 percent in the year\n- Costs fell") == "Costs fell"
    assert find_claim("Net sales rose.\n\n[1]") == "Net sales rose."


@pytest.mark.parametrize(
    "text", ["2018 " * 200, "not " * 200, "from 4 to 5, and " * 60, "5 % " * 200]
)
def test_a_claim_with_more_figures_than_a_statement_has_is_not_verified(text: str) -> None:
    quote = find_quote(text, text)
    assert quote is None or not quote.verified or quote.text.startswith("not")
