"""Tables of HTML: which of them hold data, and their cells by columns."""

from collections.abc import Iterator

from lxml import etree

from app.ingestion.parsers.html_visible import is_left_out, read_inline
from app.ingestion.parsers.markup import Element, local_name
from app.ingestion.parsers.tables import Row, split_names, table_lines

# With one of these inside, a table is there for the layout of a page.
_LAYOUT_SIGNS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_LAYOUT_ROLES = frozenset({"presentation", "none"})
_CELLS = frozenset({"td", "th"})
_MAX_COLUMNS = 1000
_MAX_SPAN = 1000
# A longer text over several rows or columns stands in the first of them only: it is no label.
_MAX_REPEATED_CHARACTERS = 200
# What cells of rows above may fill in one table; beyond that they end where they are.
_MAX_FILLED = 1_000_000

# For how many more rows a cell from above fills a column, and with which text.
_Reaching = dict[int, tuple[int, str]]


def is_data_table(table: Element) -> bool:
    """Say whether a table has rows of several cells, and is no means to lay out a page.

    With another table inside it is one for layout, unless it has names (`th`) before that.
    """
    if table.get("role") in _LAYOUT_ROLES:
        return False
    has_columns = has_names = False
    for node in table.iterdescendants():
        name = local_name(node)
        if name in _LAYOUT_SIGNS:
            return False
        if name == "table":
            return has_columns and has_names
        has_names |= name == "th"
        has_columns |= name in _CELLS and node.getprevious() is not None
    return has_columns


def iter_table_lines(table: Element) -> Iterator[str]:
    """Yield a line for each row of a data table."""
    marked, rows = _read_rows(table)
    if marked and rows:
        return table_lines(rows, _join_names(marked))
    names, body = split_names([*marked, *rows])
    return table_lines(body, names)


def _read_rows(table: Element) -> tuple[list[Row], list[Row]]:
    """Return the first rows, if they are marked as names of columns, and the others."""
    marked: list[Row] = []
    rows: list[Row] = []
    reaching: _Reaching = {}
    filled = 0
    for row in _iter_own_rows(table):
        cells = [cell for cell in row if local_name(cell) in _CELLS and not is_left_out(cell)]
        if not cells or is_left_out(row):
            continue
        is_marked = not rows and all(local_name(cell) == "th" for cell in cells)
        # A name over several columns is part of the name of each.
        texts = _place_cells(cells, reaching, repeat=is_marked)
        (marked if is_marked else rows).append(texts)
        filled += max(len(texts) - len(cells), 0)
        if filled > _MAX_FILLED:
            reaching.clear()
    return marked, rows


def _iter_own_rows(table: Element) -> Iterator[Element]:
    """Yield the rows of a table, without those of tables in its cells."""
    walker = etree.iterwalk(table, events=("start",))
    for _, node in walker:
        name = local_name(node)
        if name == "tr":
            yield node
        elif name in _CELLS:
            walker.skip_subtree()


def _place_cells(cells: list[Element], reaching: _Reaching, *, repeat: bool) -> list[str]:
    """Return a text for each column; a cell over several has its text in the first, or in all.

    `reaching` is brought forward by a row: cells of rows above have their text in this one too.
    """
    texts: list[str] = []
    for cell in cells:
        _fill_from_above(texts, reaching)
        columns = min(_read_span(cell, "colspan"), _MAX_COLUMNS - len(texts))
        if columns < 1:
            break
        text = read_inline(cell)
        label = text if len(text) <= _MAX_REPEATED_CHARACTERS else ""
        others = [label if repeat else ""] * (columns - 1)
        rows = _read_span(cell, "rowspan")
        if rows > 1:
            # Counted down by the rows below: this one doesn't come back to these columns.
            below = enumerate([label, *others], start=len(texts))
            reaching.update((column, (rows - 1, repeated)) for column, repeated in below)
        texts += [text, *others]
    _fill_from_above(texts, reaching)
    return texts


def _fill_from_above(texts: list[str], reaching: _Reaching) -> None:
    while (above := reaching.get(len(texts))) and len(texts) < _MAX_COLUMNS:
        rows, text = above
        if rows > 1:
            reaching[len(texts)] = (rows - 1, text)
        else:
            del reaching[len(texts)]
        texts.append(text)


def _read_span(cell: Element, name: str) -> int:
    text = (cell.get(name) or "1").strip()
    is_number = text.isascii() and text.isdecimal() and len(text) <= 4
    return min(max(int(text), 1), _MAX_SPAN) if is_number else 1


def _join_names(rows: list[Row]) -> Row:
    """Make one name of those above each other: "2024 Q1"."""
    width = max(map(len, rows))
    columns = [[row[i] for row in rows if i < len(row) and row[i]] for i in range(width)]
    return [" ".join(dict.fromkeys(column)) for column in columns]
