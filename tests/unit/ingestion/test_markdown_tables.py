"""Tables in Markdown: each row is a line with the names of its columns, all else stays."""

from pathlib import Path

import pytest

from app.ingestion.media_types import MARKDOWN
from app.ingestion.outcomes import IngestErrorCode
from tests.unit.ingestion.samples import fail, headings, read, read_text


@pytest.mark.parametrize(
    "table",
    [
        "| Name | Price | Note |\n|---|:--:|--:|\n| Nut | 1 |  |\n| Bolt | | a\\|b |",
        "Name|Price|Note\n:-|-|-\nNut|1|\nBolt||a\\|b",
        "  |Name|Price|Note\n | --- | --- | --- |\n|Nut|1\n|Bolt|  |a\\|b|",
    ],
)
def test_each_row_is_a_line_with_the_names_of_its_columns(tmp_path: Path, table: str) -> None:
    text = read_text(tmp_path, MARKDOWN, f"before  \n\n{table}\n\n\n    after\n")
    rows = "Name: Nut | Price: 1\nName: Bolt | Note: a|b"
    assert text == f"before  \n\n{rows}\n\n\n    after\n"


@pytest.mark.parametrize(
    "source",
    [
        "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```\n",
        "~~~~ md\n~~~\n| a | b |\n|---|---|\n| 1 | 2 |",
        "    | a | b |\n    |---|---|\n    | 1 | 2 |\n",
        "| a | b |\n| 1 | 2 |\n",
        "| a | b |\n|---|\n| 1 | 2 |\n",
        "| a |\n|---|\n| 1 |\n",
        "| a | b |\n|---|---|\n\n| 1 | 2 |\n",
        "| a | b |\n|---|---|",
        "a \\| b\n--- | ---\nc | d\n",
        "- a | b\n--- | ---\nc | d\n",
        "x || y | z\n\n  \n",
    ],
)
def test_what_is_no_table_stays_as_it_is(tmp_path: Path, source: str) -> None:
    assert read_text(tmp_path, MARKDOWN, source) == source


def test_a_table_ends_where_something_else_begins(tmp_path: Path) -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    for rest in ("# One | two\n", "> one | two", "- one | two", "```\n| 3 | 4 |\n```", "word"):
        assert read_text(tmp_path, MARKDOWN, table + rest) == f"a: 1 | b: 2\n{rest}"


def test_headings_have_their_places_in_the_text_with_its_tables_written_out(
    tmp_path: Path,
) -> None:
    source = "# One\n| # of | b |\n|-|-|\n| 1 | 2 |\n| ``` | |\n---\n## Two\n"
    (page,) = read(tmp_path, MARKDOWN, source)
    assert page.text == "# One\n| # of: 1 | b: 2\n| ```\n\n---\n## Two\n"
    assert headings(page) == [(1, "One"), (2, "Two")]
    assert [page.text[h.start : h.end] for h in page.headings] == ["# One", "## Two"]


def test_names_that_make_too_much_text_of_a_table_are_refused(tmp_path: Path) -> None:
    table = f"{'name' * 5000}|b\n-|-\n" + "x|y\n" * 2000
    assert fail(tmp_path, MARKDOWN, table) is IngestErrorCode.TOO_LARGE
