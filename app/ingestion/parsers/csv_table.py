"""CSV and TSV: one page, each row a line with the names of its columns."""

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_markup
from app.ingestion.parsers.base import MAX_CHARACTERS, ParsedDocument
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.tables import sheet_lines, to_cell
from app.ingestion.parsers.text import read_text
from app.ingestion.parsers.text_builder import TextBuilder

_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_CHARACTERS = 65_536
_SAMPLE_ROWS = 50
# Excel writes this before the delimiter, on a line of its own.
_DECLARATION = "sep="
# Cleaning leaves no such character in a text.
_END = "\x1f"


@contextmanager
def open_csv(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    """Open a table whose delimiter has to be found: comma, semicolon, tab or bar."""
    text = read_text(path, clean=clean_markup)
    first, _, rest = text.partition("\n")
    declared = first.removeprefix(_DECLARATION)
    if first.startswith(_DECLARATION) and declared in _DELIMITERS:
        yield _one_table(rest, declared)
    else:
        yield _one_table(text, _find_delimiter(text))


@contextmanager
def open_tsv(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    yield _one_table(read_text(path, clean=clean_markup), "\t")


def _one_table(text: str, delimiter: str) -> ParsedDocument:
    # The default is 131,072. It holds for the process.
    csv.field_size_limit(MAX_CHARACTERS)
    return ParsedDocument(
        title=None, page_count=1, pages=lambda: iter([_read_page(text, delimiter)])
    )


def _read_page(text: str, delimiter: str) -> Page:
    builder = TextBuilder()
    with damage_means_corrupt(csv.Error):
        reader = _open_rows(text, delimiter)
        for line in sheet_lines([to_cell(cell) for cell in row] for row in reader):
            builder.add_line(line)
    return builder.build(1)


def _open_rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Read rows. Where a quote is never closed, quotes are taken as they stand: else it would
    swallow all that follows."""
    if _closes_quotes(text, delimiter):
        return csv.reader(io.StringIO(text), delimiter=delimiter)
    return csv.reader(io.StringIO(text), delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _closes_quotes(text: str, delimiter: str) -> bool:
    rows = csv.reader(io.StringIO(f"{text}\n{_END}"), delimiter=delimiter)
    return deque(rows, maxlen=1).pop() == [_END]


def _find_delimiter(text: str) -> str:
    """Return the delimiter that gives most rows the same length; if several do, the most cells."""
    sample = text[:_SAMPLE_CHARACTERS]

    def rate(delimiter: str) -> tuple[int, int]:
        rows = islice(csv.reader(io.StringIO(sample), delimiter=delimiter), _SAMPLE_ROWS)
        widths = Counter(len(row) for row in rows if len(row) > 1)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(0, 0))
        return count, width

    return max(_DELIMITERS, key=rate)
