"""Markdown: one page, titled by its first heading of level 1.

Its text is kept as it is but for tables, whose rows are written out as in the other formats.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.cleaning import clean_markup, clean_title
from app.ingestion.headings import find_markdown_headings
from app.ingestion.parsers.base import MAX_CHARACTERS, ParsedDocument, too_large
from app.ingestion.parsers.tables import Row, table_lines, to_cell
from app.ingestion.parsers.text import one_page, read_text

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
# Source code, headings, quotes and items of lists: none of them is a row, whatever pipes it has.
_OTHER_BLOCK = re.compile(r" {4}| {0,3}(?:\t|`{3}|~{3}|>|(?:#{1,6}|[-+*])[ \t])")
_PIPE = re.compile(r"(?<!\\)\|")
_DELIMITERS = re.compile(r"[|:\- \t]+")
_DELIMITER = re.compile(r":?-+:?")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*")


@contextmanager
def open_markdown(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    text = "\n".join(_write_out_tables(read_text(path, clean=clean_markup).split("\n")))
    headings = find_markdown_headings(text)
    title = next((heading.title for heading in headings if heading.level == 1), None)
    yield ParsedDocument(
        title=clean_title(title),
        page_count=1,
        pages=lambda: one_page(text, headings),
    )


def _write_out_tables(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines with a line for each row of a table, which says what its columns are called.

    Raises DocumentUnreadable (too_large).
    """
    fence = ""
    index = characters = 0
    while index < len(lines):
        line = lines[index]
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark.group(1)
            elif mark.group(1).startswith(fence):
                fence = ""
        rows = [] if fence else _read_table(lines, index)
        index += len(rows) + 1
        if not rows:
            yield line
            continue
        for row in _write_rows(rows[0], rows[1:]):
            # Many short rows below long names can be far more text than the file has.
            characters += len(row)
            if characters > MAX_CHARACTERS:
                raise too_large()
            yield row
        if index < len(lines) and _UNDERLINE.fullmatch(lines[index]):
            # A rule below a table; right below a line of text it would make that a heading.
            yield ""


def _read_table(lines: Sequence[str], start: int) -> list[Row]:
    """Return the names of the columns and the rows of a table that begins at a line.

    Empty if none begins there, or one of a single column or without a row below its names.
    """
    if start + 2 >= len(lines) or not _DELIMITERS.fullmatch(lines[start + 1]):
        return []
    names, delimiters = _split_row(lines[start]), _split_row(lines[start + 1])
    is_table = len(names) == len(delimiters) > 1 and all(map(_DELIMITER.fullmatch, delimiters))
    rows: list[Row] = [names]
    for index in range(start + 2, len(lines) if is_table else 0):
        row = _split_row(lines[index])
        if not row:
            break
        rows.append(row)
    return rows if any(map(any, rows[1:])) else []


def _split_row(line: str) -> list[str]:
    """Return the cells of a line; none if no pipe divides it or it is something else."""
    if "|" not in line or _OTHER_BLOCK.match(line):
        return []
    cells = [to_cell(cell.replace("\\|", "|")) for cell in _PIPE.split(line.strip())]
    if len(cells) == 1:
        return []
    # The pipes around a row are optional.
    return cells[not cells[0] and line.lstrip().startswith("|") : len(cells) - (not cells[-1])]


def _write_rows(names: Row, rows: Iterable[Row]) -> Iterator[str]:
    for line in table_lines(rows, names):
        # A column called "# of parts" doesn't make headings of its cells.
        yield f"| {line}" if _OTHER_BLOCK.match(line) else line
