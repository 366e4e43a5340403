"""Repaired text: what pdfium and odd files leave in it, and what must never be stored."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.cleaning import (
    Vocabulary,
    clean_extracted,
    clean_markup,
    clean_plain,
    clean_title,
    repair_hyphens,
)

DOCUMENT = (
    "We compile code. A weighted cost, an average cost, a forward-looking view. "
    "Non-GAAP measures. The qualified plan. TraceMonkey is fast. Sales rose."
)


def vocabulary(*texts: str) -> Vocabulary:
    words = Vocabulary()
    words.add([DOCUMENT, *texts])
    return words


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ("we com\ufffepile it", "we compile it"),
        ("better perfor\ufffemance.", "better performance."),
        ("Trace\ufffeMonkey runs", "TraceMonkey runs"),
        ("a forward\ufffelooking view", "a forward-looking view"),
        ("weighted\ufffeaverage cost", "weighted-average cost"),
        ("Non\ufffeGAAP", "Non-GAAP"),
        ("non\ufffequalified", "non-qualified"),
        ("Post\ufffeDisability", "Post-Disability"),
        ("held-for\ufffesale", "held-for-sale"),
        ("COVID\ufffe19", "COVID-19"),
        ("a dash \ufffe here", "a dash - here"),
        ("com\x02pile", "compile"),
        ("com\ufffe\npile", "compile"),
        ("a\ufffeb\ufffec", "abc"),
    ],
)
def test_hyphen_at_a_line_end_is_kept_only_where_it_belongs(raw: str, repaired: str) -> None:
    assert repair_hyphens(raw, vocabulary()) == repaired


def test_halves_of_a_split_word_are_no_evidence_for_a_compound() -> None:
    assert repair_hyphens("in\ufffedeed", vocabulary("in\ufffedeed, in time")) == "indeed"


def test_extracted_text_has_single_spaces_and_at_most_one_blank_line() -> None:
    raw = " A\u00a0 b \r\n\r\n\r\n\r\nc\td  \r e\x0cf "
    assert clean_extracted(raw) == "A b\n\nc d\ne\nf"


def test_soft_hyphens_and_ligatures_become_plain_letters() -> None:
    assert clean_extracted("exam\u00ad\nple of\ufb01ce e\ufb03cient") == "example office efficient"


def test_what_no_reader_sees_is_removed() -> None:
    hidden = "a\u202eb\u2066c\u200bd\U000e0041e\ufefff\x00g\ud800h\x1bi\x9fj\uffffk"
    assert clean_extracted(hidden) == "abcdefghijk"


def test_plain_text_keeps_its_columns() -> None:
    assert clean_plain("  a    b  \r\n\r\n\r\n\r\nc\t\td ") == "  a    b\n\nc\t\td"


def test_markdown_keeps_every_space() -> None:
    assert clean_markup("- a  \r\n\n\n\n    code\n") == "- a  \n\n\n\n    code\n"


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_can_be_stored_and_cleaning_it_again_changes_nothing(raw: str) -> None:
    for clean in (clean_extracted, clean_plain, clean_markup):
        text = clean(raw)
        assert clean(text) == text
        assert json.loads(json.dumps(text)) == text
        text.encode("utf-8")
        assert not any(unicodedata.category(c) == "Cc" and c not in "\n\t" for c in text)


@pytest.mark.parametrize(
    "raw", ["x" * 1_000_000, " " * 1_000_000 + "x", "a-" * 500_000 + "\ufffeb"]
)
def test_long_runs_are_cleaned_in_linear_time(raw: str) -> None:
    words = vocabulary(raw)
    for clean in (clean_extracted, clean_plain, clean_markup):
        assert clean(repair_hyphens(raw, words)).strip()[:1] in {"x", "a"}


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        ("Annual  Report\x00 2023", "Annual Report 2023"),
        ("Microsoft Word - Quarterly plan.docx", "Quarterly plan"),
        ("report_final.pdf", "report_final"),
        ("東京の報告", "東京の報告"),
        ("0000764478-23-000006", None),
        ("untitled", None),
        ("Document1", None),
        ("  ", None),
        (None, None),
    ],
)
def test_title_is_cleaned_or_dropped(raw: str | None, title: str | None) -> None:
    assert clean_title(raw) == title
