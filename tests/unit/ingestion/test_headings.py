"""Headings of Markdown and of plain text."""

import pytest

from app.ingestion.headings import HeadingPath, find_markdown_headings, find_plain_headings

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
    assert [h.title for h in find_plain_headings(f"Before\n{line}\nAfter")] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "Item 7. Management’s Discussion and Analysis 23",
        "Note 5. Goodwill .......... 61",
        "Items sold rose by 5 %",
        "Note that this is text.",
        "Part II, Item 1A, Risk Factors on pages 172-173 of this Form",
        "Part of the plan",
    ],
)
def test_contents_entries_and_sentences_are_no_headings(line: str) -> None:
    assert find_plain_headings(f"Before\n{line}\nAfter") == []


def test_a_line_set_like_a_title_is_a_heading_behind_a_blank_line() -> None:
    text = (
        "Statement of Cash Flows\nAcme Company and Subsidiaries\n(Millions) 2018 2017\n\n"
        "Cash Flows from Operating Activities\nNet Income 5,363 4,869\n"
        "Cash Flows from Investing Activities\nPurchases and Sales of Property 12 14"
    )
    found = find_plain_headings(text)
    assert [(h.level, h.title) for h in found] == [
        (5, "Statement of Cash Flows, Acme Company and Subsidiaries"),
        (5, "Cash Flows from Operating Activities"),
    ]
    assert [text[h.start : h.end].splitlines()[0] for h in found] == [
        "Statement of Cash Flows",
        "Cash Flows from Operating Activities",
    ]


def test_many_titles_in_a_row_are_a_list() -> None:
    names = ["Ada Lovelace", "Grace Hopper", "Mary Shelley", "Jane Austen"]
    assert find_plain_headings("\n".join(names)) == []
    assert len(find_plain_headings("\n".join(names[:3]))) == 1


def test_only_the_body_of_a_page_is_searched() -> None:
    text = "Annual Report\n\nNote 5. Goodwill\nText.\n\nOther Matters"
    start, end = text.index("Note"), text.index("Other") - 1
    assert [(h.start, h.title) for h in find_plain_headings(text, start, end)] == [
        (start, "Note 5. Goodwill")
    ]


def test_hostile_lines_are_searched_in_linear_time() -> None:
    for text in (
        "# " + "# " * 500_000,
        "[" * 1_000_000 + "\n===",
        "`" * 1_000_000,
        "#\n" * 300_000,
    ):
        assert find_markdown_headings(text) == []
