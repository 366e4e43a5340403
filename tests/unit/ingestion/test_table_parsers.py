"""CSV and JSON: one line for each row or value, which says what it is."""

from pathlib import Path

import pytest

from app.ingestion.media_types import CSV, JSON, JSON_LINES, TSV
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.tables import split_names, table_lines
from tests.unit.ingestion.samples import fail, read, read_text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_finds_its_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = [["Name", "Price", "Note"], ["Nut", "1.5", "a: b"], ["Bolt", "2.5", ""]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read_text(tmp_path, CSV, text) == (
        "Name: Nut | Price: 1.5 | Note: a: b\nName: Bolt | Price: 2.5"
    )


def test_csv_numbers_with_a_comma_do_not_make_it_the_delimiter(tmp_path: Path) -> None:
    text = "Name;Price\nNut;1,5\nBolt;2,5\nPin;12\n"
    assert read_text(tmp_path, CSV, text).startswith("Name: Nut | Price: 1,5\n")


def test_csv_obeys_the_delimiter_that_excel_declares(tmp_path: Path) -> None:
    assert read_text(tmp_path, CSV, "sep=;\na,b;c\nd,e;1\n") == "a,b: d,e | c: 1"


def test_csv_quoted_line_ends_and_delimiters_stay_in_their_cell(tmp_path: Path) -> None:
    text = 'Name,Note\nAnn,"two\nlines, with ""quotes"""\nBob,short\n'
    assert read_text(tmp_path, CSV, text) == (
        'Name: Ann | Note: two lines, with "quotes"\nName: Bob | Note: short'
    )


def test_csv_with_a_quote_that_is_never_closed_loses_no_row(tmp_path: Path) -> None:
    text = 'Name,Size\nScreen,"27 inch\nCable,2 m\nPlug,small\n'
    assert read_text(tmp_path, CSV, text).split("\n") == [
        'Name: Screen | Size: "27 inch',
        "Name: Cable | Size: 2 m",
        "Name: Plug | Size: small",
    ]
    huge = f'Name,Size\n"{"x" * 200_000}",1\n'
    assert read_text(tmp_path, CSV, huge).endswith("x | Size: 1")


def test_csv_without_names_or_with_lines_around_it_keeps_all_cells(tmp_path: Path) -> None:
    assert read_text(tmp_path, CSV, "1,2,3\n4,5,6\n") == "1 | 2 | 3\n4 | 5 | 6"
    assert read_text(tmp_path, CSV, "just one\ncolumn\n") == "just one\ncolumn"
    text = "Report of May\n\nItem,Price\nNut,1\n\nLast line\n"
    assert read_text(tmp_path, CSV, text) == "Report of May\nItem: Nut | Price: 1\nLast line"
    assert read_text(tmp_path, CSV, "Name,Price\n") == "Name | Price"


def test_csv_is_decoded_by_its_bytes_and_tsv_has_tabs(tmp_path: Path) -> None:
    text = "Имя;Цена\nБолт;5\nГайка;7\n"
    assert read_text(tmp_path, CSV, text.encode("cp1251")).startswith("Имя: Болт | Цена: 5")
    assert read_text(tmp_path, TSV, "a,b\tc\n1,2\t3\n") == "a,b: 1,2 | c: 3"


@pytest.mark.parametrize(
    ("rows", "has_names"),
    [
        ([["Item", "Price"], ["Nut", "$1.50"]], True),
        ([["Country", "Capital"], ["France", "Paris"]], False),
        ([["Country", "Capital", "River"], ["France", "Paris", "Seine"]], True),
        ([["", "2023", "2024"], ["Sales", "1,000", "(20)"]], True),
        ([["France", "2019"], ["Spain", "2020"]], False),
        ([["Nut", "1"], ["Bolt", "2"]], False),
        ([["Price", "Price"], ["1", "2"]], False),
        ([["Company:", "Acme", "Ltd"], ["Country:", "Norway", "EU"]], False),
        ([["Item", "Price"]], False),
        ([], False),
    ],
)
def test_a_first_row_names_the_columns_if_what_is_below_shows_it(
    rows: list[list[str]], has_names: bool
) -> None:
    names, body = split_names(rows)
    assert (names, list(body)) == ((rows[0], rows[1:]) if has_names else (None, rows))


def test_a_row_with_one_cell_is_a_caption_within_its_table() -> None:
    rows = [["Assets", "", ""], ["Cash", "1", "2", "3"], ["", "", ""], ["", "", "7"]]
    assert list(table_lines(rows, ["", "2023", "2024:"])) == [
        "Assets",
        "Cash | 2023: 1 | 2024: 2 | 3",
        "2024: 7",
    ]


def test_json_is_a_line_for_each_value_with_its_path(tmp_path: Path) -> None:
    text = """{"invoice": {"no": 12.50, "paid": true, "note": null, "tags": ["a", "b"],
        "big": 12345678901234567890.10, "items": [{"name": "Nut", "price": 1}, {"name": "Pin"}],
        "parts": [{"in": {"deep": "x"}}, [1, [2]]], "letter": "Dear\\nall"}}"""
    assert read_text(tmp_path, JSON, text) == (
        "invoice.no: 12.50\ninvoice.paid: true\ninvoice.tags: a, b\n"
        "invoice.big: 12345678901234567890.10\n"
        "invoice.items[0] | name: Nut | price: 1\ninvoice.items[1] | name: Pin\n"
        "invoice.parts[0].in.deep: x\ninvoice.parts[1][0]: 1\ninvoice.parts[1][1]: 2\n\n"
        "invoice.letter: Dear\nall"
    )


def test_json_list_of_flat_objects_is_a_table(tmp_path: Path) -> None:
    assert (
        read_text(tmp_path, JSON, '[{"a": 1, "b": ""}, {"a": 2, "b": "x"}]') == "a: 1\na: 2 | b: x"
    )


def test_json_lines_are_a_line_for_each_record_also_in_a_json_file(tmp_path: Path) -> None:
    text = '{"user": {"name": "Ann"}, "tags": [1, 2]}\n\n{"user": {"name": "Bob"}}\n'
    for media_type in (JSON, JSON_LINES):
        assert (
            read_text(tmp_path, media_type, text) == "user.name: Ann | tags: 1, 2\nuser.name: Bob"
        )


def test_json_lines_that_are_damaged_are_kept_with_a_warning(tmp_path: Path) -> None:
    (page,) = read(tmp_path, JSON_LINES, '{"a": 1}\n{"a": \n')
    assert page.text == 'a: 1\n{"a":'
    assert len(page.warnings) == 1


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"a": 1',
        "[" * 100_000,
        "[" * 110 + "]" * 110,
        '{"a":' * 900 + "1" + "}" * 900,
    ],
)
@pytest.mark.parametrize("media_type", [JSON, JSON_LINES])
def test_json_that_is_none_or_nested_too_deeply_is_corrupt(
    tmp_path: Path, media_type: str, text: str
) -> None:
    assert fail(tmp_path, media_type, text) is IngestErrorCode.CORRUPT


def test_json_numbers_of_any_length_are_read(tmp_path: Path) -> None:
    assert read_text(tmp_path, JSON, f'{{"n": {"9" * 10_000}, "x": NaN}}').startswith("n: 999")
