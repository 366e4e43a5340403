"""Where a page may be cut, and what is the row of a table."""

import pytest

from app.ingestion.base import Heading
from app.ingestion.boundaries import Break, find_boundaries, is_row


@pytest.mark.parametrize(
    "line",
    [
        "Name: Ann | Town: Rome",
        "a\tb",
        "Net sales $ 32,765 $ 31,657 $ 30,109",
        "Other — net 120 256",
        "Net cash used in investing activities 222 (3,086) (1,403)",
        "Service cost discount rate 5.5 % 3.2 %",
        "Worldwide — —",
        "Umsatz 1.234,5 n/a",
    ],
)
def test_rows_of_tables_are_told(line: str) -> None:
    assert is_row(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2018",
        "12 14 16",
        "Net sales rose by 5",
        "Sales were 5 in 2018 and 6 in 2017.",
        "Well-known words - and more",
        "\tindented",
        "either|or",
    ],
)
def test_other_lines_are_no_rows(line: str) -> None:
    assert not is_row(line)


def test_a_passage_begins_at_lines_sentences_and_paragraphs() -> None:
    text = "One. Two\ngoes on\nends.\nNext\n\nPart"
    boundaries = find_boundaries(text, [])
    found = {text[p:][:4]: b for p, b in zip(boundaries.positions, boundaries.breaks, strict=True)}
    assert found == {
        "One.": Break.PARAGRAPH,
        "Two\n": Break.SENTENCE,
        "goes": Break.LINE,
        "ends": Break.LINE,
        "Next": Break.SENTENCE,
        "Part": Break.PARAGRAPH,
    }


def test_there_is_no_boundary_in_a_row_nor_in_and_behind_a_heading() -> None:
    text = "Item 7. Results\nof the year\n\nText. More\nName: A. B | Sum: 5\nEnd"
    boundaries = find_boundaries(text, [Heading(0, 27, 1, "Item 7. Results of the year")])
    assert [text[position:][:4] for position in boundaries.positions] == [
        "Item",
        "More",
        "Name",
        "End",
    ]
    start = text.index("Name")
    assert boundaries.find_row(start) is None
    assert boundaries.find_row(start + 1) == (start, start + 19)
    assert boundaries.find_row(start + 18) == (start, start + 19)
    assert boundaries.find_row(start + 19) is None


def test_hostile_texts_are_searched_in_linear_time() -> None:
    for text in ("." * 1_000_000, "1 " * 500_000, "a | " * 250_000, "a |\n" * 250_000, "—" * 10**6):
        assert len(find_boundaries(text, []).positions) <= len(text)
