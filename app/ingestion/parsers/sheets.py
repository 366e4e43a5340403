"""XLSX: a sheet is a page, headed by its name; each row is a line with the names of its columns.

Cells hold what was last computed; formulas and number formats such as "5 %" are not seen.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

from app.ingestion.base import Page
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.archives import copy_package
from app.ingestion.parsers.base import (
    DocumentUnreadable,
    ParsedDocument,
    check_page_count,
    limit_text,
)
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.tables import sheet_lines, to_cell
from app.ingestion.parsers.text_builder import TextBuilder

# calamine keeps a sheet as a full rectangle, at some 50 bytes a cell, however few are filled; and
# where memory ends it takes the process with it.
_MAX_CELLS = 8_000_000
_SHEET_NAME = re.compile(r"/?xl/worksheets/[^/]+\.xml", re.IGNORECASE)
# A cell with something in it. One without only carries a format.
_CELL = re.compile(
    rb"<(?:\w{1,20}:)?c\b[^<>]{0,300}?\br=[\"']([A-Z]{1,3})(\d{1,7})[\"'][^<>]{0,300}+(?<!/)>"
)
_DAMAGED = "The sheet could not be read."

Value = int | float | str | bool | time | date | datetime | timedelta


@contextmanager
def open_xlsx(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    package = copy_package(path)
    with damage_means_corrupt(CalamineError):
        _check_areas(package)
        workbook = CalamineWorkbook.from_filelike(package)
        sheets = [s.name for s in workbook.sheets_metadata if s.typ == SheetTypeEnum.WorkSheet]
    check_page_count(len(sheets))
    with workbook:
        yield ParsedDocument(
            title=None,
            page_count=len(sheets),
            pages=lambda: limit_text(_read_pages(workbook, sheets)),
        )


def _check_areas(package: BytesIO) -> None:
    with ZipFile(package) as archive:
        for name in archive.namelist():
            if _SHEET_NAME.fullmatch(name) and _count_cells(archive.read(name)) > _MAX_CELLS:
                detail = "The cells of a sheet are spread too widely."
                raise DocumentUnreadable(IngestErrorCode.TOO_LARGE, detail=detail)
    package.seek(0)


def _count_cells(sheet: bytes) -> int:
    """Return how many cells the smallest rectangle around all that is filled has."""
    columns, rows = set[bytes](), set[bytes]()
    for match in _CELL.finditer(sheet):
        columns.add(match[1])
        rows.add(match[2])
    if not rows:
        return 0
    numbers = [_column_number(column) for column in columns]
    lines = [int(row) for row in rows]
    return (max(numbers) - min(numbers) + 1) * (max(lines) - min(lines) + 1)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number


def _read_pages(workbook: CalamineWorkbook, sheets: list[str]) -> Iterator[Page]:
    failures = 0
    for number, name in enumerate(sheets, 1):
        builder = TextBuilder()
        builder.add_heading(name, level=1)
        try:
            sheet = workbook.get_sheet_by_name(name)
            for line in sheet_lines([_show(v) for v in row] for row in sheet.iter_rows()):
                builder.add_line(line)
        except CalamineError as error:
            failures += 1
            if failures == len(sheets):
                raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error
            yield builder.build(number, warnings=(_DAMAGED,))
            continue
        yield builder.build(number)


def _show(value: Value) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        # What a sheet shows: 15 digits, and no sign that a whole number is a float.
        return f"{value:.15g}"
    if isinstance(value, datetime):
        return value.isoformat(" ", timespec="minutes" if not value.second else "seconds")
    return to_cell(str(value))
