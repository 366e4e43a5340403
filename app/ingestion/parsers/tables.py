"""The rows of a table as text: each on one line, with what its columns are called."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

# As many rows as are looked at to tell whether the first one names the columns.
_SAMPLE_ROWS = 30
_MAX_NAME_CHARACTERS = 100
_ENOUGH_COLUMNS = 3
# A number or a date, with a sign, a currency or a unit.
_FIGURE = re.compile(r"\W{0,4}\d[\d.,:/'’ -]{0,30}(?:T[\d:.]{4,15}Z?)?\W{0,4}\w{0,3}\W?")
_YEAR = re.compile(r"(?:19|20)\d\d")

# What stands in each column, made by `to_cell`.
Row = Sequence[str]


def to_cell(text: str) -> str:
    """Put a text on one line. The line that it becomes a part of is cleaned as a whole."""
    return " ".join(text.split())


def table_lines(rows: Iterable[Row], names: Row | None) -> Iterator[str]:
    """Yield a line for each row: `Name: value | Name: value`, and without names `value | value`.

    Empty cells are left out, and empty rows. A row with nothing but its first cell stands alone:
    it is a caption within the table.
    """
    columns = [name.rstrip(": ") for name in names or ()]
    for row in rows:
        if any(row[1:]):
            yield " | ".join(_with_names(row, columns))
        elif row and row[0]:
            yield row[0]


def split_names(
    rows: Sequence[Row], *, is_marked: bool = False
) -> tuple[Row | None, Sequence[Row]]:
    """Return the names of a table's columns, if the first row has them, and the rows below.

    `is_marked`: the document itself says that it has. Otherwise figures below show it, or three
    columns; two columns of words may as well be names and their values from the first row on.
    """
    sample = rows[:_SAMPLE_ROWS]
    has_names = _may_have_names(sample) and (
        sum(map(bool, rows[0])) >= _ENOUGH_COLUMNS or _has_figures(sample)
    )
    if has_names or (is_marked and len(rows) > 1):
        return rows[0], rows[1:]
    return None, rows


def sheet_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a sheet of cells: a table, or several with texts around them.

    Names of columns are looked for where a block of rows begins. In the first table they are
    expected; behind an empty row others take over only if figures below show that they are names.
    """
    names: Row | None = None
    is_start = True
    for row, below in _with_rows_below(rows):
        filled = sum(map(bool, row))
        if not filled:
            is_start = True
            continue
        if is_start and filled > 1:
            is_start = False
            block = [row, *takewhile(any, below)]
            if _may_have_names(block) and (names is None or _has_figures(block)):
                names = row
                continue
        yield from table_lines([row], names)


def _with_rows_below(rows: Iterable[Row]) -> Iterator[tuple[Row, Iterable[Row]]]:
    """Yield each row with some of those below it."""
    iterator = iter(rows)
    window = deque(islice(iterator, _SAMPLE_ROWS))
    while window:
        row = window.popleft()
        window.extend(islice(iterator, 1))
        yield row, window


def _may_have_names(rows: Sequence[Row]) -> bool:
    """Say whether the first row can name the columns of those below: different words or years, in
    about half of the columns or more."""
    if len(rows) < 2:
        return False
    places = [column for column, cell in enumerate(rows[0]) if cell]
    filled = [rows[0][column] for column in places]
    is_different = len({cell.casefold() for cell in filled}) == len(filled)
    is_filled = len(filled) >= 2 and 2 * len(filled) > places[-1] - places[0]
    return is_filled and is_different and all(map(_is_name, filled)) and not _has_years(rows)


def _is_name(cell: str) -> bool:
    if _YEAR.fullmatch(cell):
        return True
    is_word = any(map(str.isalpha, cell)) and not _FIGURE.fullmatch(cell)
    # "Company:" names what is beside it, not below.
    return is_word and len(cell) <= _MAX_NAME_CHARACTERS and not cell.endswith(":")


def _has_years(rows: Sequence[Row]) -> bool:
    """Say whether a year in the first row is but one in a column of years."""
    return any(
        _YEAR.fullmatch(name) and values and all(map(_YEAR.fullmatch, values))
        for name, values in _iter_columns(rows)
    )


def _has_figures(rows: Sequence[Row]) -> bool:
    """Say whether a column with a name consists of figures, at least half of it."""
    return any(
        name and values and 2 * sum(1 for v in values if _FIGURE.fullmatch(v)) >= len(values)
        for name, values in _iter_columns(rows)
    )


def _iter_columns(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    """Yield what stands on top of each column, and what stands below it."""
    for column, name in enumerate(rows[0]):
        yield name, [row[column] for row in rows[1:] if column < len(row) and row[column]]


def _with_names(cells: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    for index, cell in enumerate(cells):
        if cell:
            name = columns[index] if index < len(columns) else ""
            yield f"{name}: {cell}" if name else cell
