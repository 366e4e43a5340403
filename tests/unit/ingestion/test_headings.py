"""Headings of Markdown and of a PDF's plain text."""

import pytest

from app.ingestion.headings import HeadingPath, PlainHeadingFinder, find_markdown_headings

MARKDOWN = """---
title: not a heading
---
# Guide ##

Text with # no heading.

Setup
-----
```
# a comment in code
```
## `install` the [tool](https://example.org)
#no-heading
###   Deep
"""


def test_markdown_headings_are_found_outside_code_and_front_matter() -> None:
    found = [(h.level, h.title) for h in find_markdown_headings(MARKDOWN)]
    assert found == [(1, "Guide"), (2, "Setup"), (2, "install the tool"), (3, "Deep")]


def test_heading_offsets_are_its_lines() -> None:
    lines = [MARKDOWN[h.start : h.end] for h in find_markdown_headings(MARKDOWN)]
    assert lines[0] == "# Guide ##"
    assert lines[1] == "Setup\n-----"


def test_a_heading_closes_those_of_its_level_and_below() -> None:
    path = HeadingPath()
    seen = []
    for heading in find_markdown_headings("# A\n## B\n### C\n## D\n# E\n"):
        path.enter(heading)
        seen.append(str(path))
    assert seen == ["A", "A > B", "A > B > C", "A > D", "E"]


@pytest.mark.parametrize(
    "line",
    [
        "PART II",
        "Item 7. Management’s Discussion and Analysis",
        "ITEM 1A. RISK FACTORS",
        "NOTE 5 — Goodwill and Intangible Assets",
        "Chapter 3 The Middle Years",
    ],
)
def test_headings_of_reports_are_told_by_their_words(line: str) -> None:
    assert [h.title for h in PlainHeadingFinder()(f"Before\n{line}\nAfter")] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "Item 7. Management’s Discussion and Analysis 23",
        "Note 5. Goodwill .......... 61",
        "Items sold rose by 5 %",
        "Note that this is text.",
        "Part of the plan",
    ],
)
def test_contents_entries_and_sentences_are_no_headings(line: str) -> None:
    assert PlainHeadingFinder()(f"Before\n{line}\nAfter") == []


def test_a_line_set_like_a_title_names_its_page_and_parts() -> None:
    text = (
        "Statement of Cash Flows\n3M Company and Subsidiaries\n(Millions) 2018 2017\n"
        "Cash Flows from Operating Activities\nNet Income 5,363 4,869\n"
        "Cash Flows from Investing Activities\nPurchases of Property and\nPlant Equipment 12 14"
    )
    assert [(h.level, h.title) for h in PlainHeadingFinder()(text)] == [
        (4, "Statement of Cash Flows"),
        (5, "Cash Flows from Operating Activities"),
        (5, "Cash Flows from Investing Activities, Purchases of Property and"),
    ]


def test_running_headers_stop_being_headings() -> None:
    finder = PlainHeadingFinder()
    found = [finder("Annual Report\nText of the page goes on here.") for _ in range(5)]
    assert [len(headings) for headings in found] == [1, 1, 1, 0, 0]


def test_hostile_lines_are_searched_in_linear_time() -> None:
    for text in (
        "# " + "# " * 500_000,
        "[" * 1_000_000 + "\n===",
        "`" * 1_000_000,
        "#\n" * 300_000,
    ):
        assert find_markdown_headings(text) == []
