"""Tables of HTML: which of them hold data, and their cells by columns."""

from collections.abc import Iterator

from app.ingestion.parsers.html_visible import is_left_out, read_inline
from app.ingestion.parsers.markup import Element, local_name
from app.ingestion.parsers.tables import Row, split_names, table_lines

# With one of these inside, a table is there for the layout of a page.
_LAYOUT_SIGNS = frozenset({"table", "h1", "h2", "h3", "h4", "h5", "h6"})
_LAYOUT_ROLES = frozenset({"presentation", "none"})
_CELLS = frozenset({"td", "th"})
_MAX_COLUMNS = 1000
_MAX_SPAN = 1000


def is_data_table(table: Element) -> bool:
    """Say whether a table has rows of several cells, and is no means to lay out a page."""
    if table.get("role") in _LAYOUT_ROLES:
        return False
    has_columns = False
    for node in table.iterdescendants():
        name = local_name(node)
        if name in _LAYOUT_SIGNS:
            return False
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
    reaching: dict[int, int] = {}
    for row in table.iter("{*}tr"):
        cells = [cell for cell in row if local_name(cell) in _CELLS and not is_left_out(cell)]
        if not cells or is_left_out(row):
            continue
        is_marked = not rows and all(local_name(cell) == "th" for cell in cells)
        # A name over several columns is part of the name of each.
        texts = _place_cells(cells, reaching, repeat=is_marked)
        (marked if is_marked else rows).append(texts)
    return marked, rows


def _place_cells(cells: list[Element], reaching: dict[int, int], *, repeat: bool) -> list[str]:
    """Return a text for each column; a cell over several has its text in the first, or in all.

    `reaching` says for how many more rows a cell from above fills a column; it is brought forward.
    """
    texts: list[str] = []
    for cell in cells:
        _leave_room(texts, reaching)
        columns = min(_read_span(cell, "colspan"), _MAX_COLUMNS - len(texts))
        if columns < 1:
            break
        rows = _read_span(cell, "rowspan")
        if rows > 1:
            # Counted down by the rows below: this one doesn't come back to these columns.
            reaching.update(dict.fromkeys(range(len(texts), len(texts) + columns), rows - 1))
        text = read_inline(cell)
        texts += [text] * columns if repeat else [text, *[""] * (columns - 1)]
    _leave_room(texts, reaching)
    return texts


def _leave_room(texts: list[str], reaching: dict[int, int]) -> None:
    while reaching.get(len(texts), 0) > 0 and len(texts) < _MAX_COLUMNS:
        reaching[len(texts)] -= 1
        texts.append("")


def _read_span(cell: Element, name: str) -> int:
    text = (cell.get(name) or "1").strip()
    is_number = text.isascii() and text.isdecimal() and len(text) <= 4
    return min(max(int(text), 1), _MAX_SPAN) if is_number else 1


def _join_names(rows: list[Row]) -> Row:
    """Make one name of those above each other: "2024 Q1"."""
    width = max(map(len, rows))
    columns = [[row[i] for row in rows if i < len(row) and row[i]] for i in range(width)]
    return [" ".join(dict.fromkeys(column)) for column in columns]
