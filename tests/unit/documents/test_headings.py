"""Headings as they stand in documents -> phrases."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.headings import (
    MAX_HEADING_CHARS,
    clean_heading,
    is_informative,
    lower_word,
    rate_fluency,
)


@pytest.mark.parametrize(
    ("title", "heading"),
    [
        ("Item 7A. Quantitative Disclosures", "Quantitative Disclosures"),
        ("ITEM 1A. RISK FACTORS", "Risk factors"),
        ("PART II — OTHER INFORMATION", "Other information"),
        ("Part I > Item 1. - Business", "> Item 1. - Business"),
        ("Part I, Item 2. Properties and Plants", "Properties and Plants"),
        ("3.2 Trace Trees", "Trace Trees"),
        ("1 Topologische Grundbegriffe", "Topologische Grundbegriffe"),
        ("10. Speed: what to beat", "Speed: what to beat"),
        ("(a) Basis of presentation", "Basis of presentation"),
        ("IV. Results and discussion", "Results and discussion"),
        ("Kapitel 3: Der Vertrag", "Der Vertrag"),
        ("3M COMPANY", "3M company"),
        ("4G LTE networks", "4G LTE networks"),
        ("2018 annual results", "2018 annual results"),
        ("Notes on style", "Notes on style"),
        ("The local stack (the default)", "The local stack"),
        ("NON-GAAP FINANCIAL MEASURES:", "Non-GAAP financial measures"),
        ("EPS AND THE R&D BUDGET", "EPS and the R&D budget"),
        ("  two\n lines\t here ", "Two lines here"),
        ("Page 3", "Page 3"),
        ("Exhibit 99.1", ""),
        ("• ", ""),
        ("", ""),
        ("Safe\u202etxet\u202c \x07text\u200b", "Safe txet text"),
    ],
)
def test_numbering_notes_and_shouting_are_left_out(title: str, heading: str) -> None:
    assert clean_heading(title) == heading


@given(st.text(max_size=400))
def test_a_heading_is_one_clean_line_whatever_it_was(title: str) -> None:
    heading = clean_heading(title)
    assert len(heading) <= MAX_HEADING_CHARS + 2  # some capitals are two or three letters
    assert heading == " ".join(heading.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in heading)
    assert not set(heading) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200f")
    rate_fluency(heading or "x")
    is_informative(heading)


@pytest.mark.parametrize(
    "title",
    [
        "Risk factors",
        "Item 1A. Risk Factors",
        "Research, development and related expenses",
        "Use of proceeds",
        "Was ist Topologie?",
        "Topologische Grundbegriffe",
        "财务报表分析",
        "目的と適用範囲",
        "How it finds the page",
    ],
)
def test_phrases_are_informative(title: str) -> None:
    assert is_informative(clean_heading(title))


@pytest.mark.parametrize(
    "title",
    [
        "Contents",
        "TABLE OF CONTENTS",
        "Index to the consolidated statements",
        "Page 3",
        "12",
        "2018 2017 2016",
        "PART I",
        "PART II — OTHER INFORMATION",
        "SIGNATURES",
        "Item 6. Exhibits",
        "Exhibit 31.1, CERTIFICATION PURSUANT TO",
        "UNITED STATES, SECURITIES AND EXCHANGE COMMISSION",
        "FORM 10-K",
        "Documents Incorporated By Reference:",
        "• attractive relative growth, and",
        "Run it",
        "Install the package",
        "With Docker",
        "We may be unable to obtain debt",
        "A heading that goes on for far more than the ten words allowed",
        "$ 1,234 (5.6 %) — n/a",
        "目次",
        "Definition 12",
        "",
        "????",
    ],
)
def test_what_is_no_phrase_is_not(title: str) -> None:
    assert not is_informative(clean_heading(title))


def test_torn_words_and_joined_titles_read_worse() -> None:
    assert rate_fluency("Currency Ef ects") < rate_fluency("Currency Effects")
    assert rate_fluency("Business s") < rate_fluency("Business plan")
    assert rate_fluency("Business Strategy, Strategy") < rate_fluency("Business Strategy")
    assert rate_fluency("Goods, Services, and Taxes") == rate_fluency("Goods and Services")
    assert rate_fluency("Risks of our contracts") < rate_fluency("Risks of contracts")


def test_what_is_no_common_word_keeps_its_capitals() -> None:
    words = ["Net", "R&D", "4G", "Non-GAAP", "iPhone", "Build-Out", "eBPF"]
    lowered = ["net", "R&D", "4G", "non-GAAP", "iphone", "build-out", "eBPF"]
    assert [lower_word(word) for word in words] == lowered
