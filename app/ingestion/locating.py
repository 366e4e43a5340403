"""Where a quote stands on its page of a PDF: the boxes of its characters, joined line by line.

Runs in a child process that `app.ingestion.sandbox` starts.
"""

import ctypes
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

from app.ingestion.alignment import find_passage
from app.ingestion.base import QuotePlace, Rectangle
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.wire import MAX_RECTANGLES

# A page of a newspaper has 50,000.
_MAX_CHARACTERS = 300_000
# What a page is measured in: pdfium gives whole numbers.
_UNITS = 1_000_000
# Of two boxes on one line, the lower one shares so much of its height with the other one.
_LEAST_SHARED = 0.5
# In heights: a wider gap is one between columns.
_MOST_GAP = 3.0
_SURROGATES = range(0xD800, 0xE000)


@dataclass(slots=True)
class _Line:
    """A stretch of a line of text, in PDF points; along the line, and across it."""

    is_vertical: bool
    start: float
    end: float
    low: float
    high: float

    def takes(self, other: "_Line") -> bool:
        """Say whether another stretch goes on with this line."""
        if self.is_vertical != other.is_vertical:
            return False
        heights = (self.high - self.low, other.high - other.low)
        shared = min(self.high, other.high) - max(self.low, other.low)
        gap = max(other.start - self.end, self.start - other.end)
        return shared >= _LEAST_SHARED * min(heights) and gap <= _MOST_GAP * max(heights)

    def extend(self, other: "_Line") -> None:
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        one, other = (self.start, self.low), (self.end, self.high)
        return (one[::-1], other[::-1]) if self.is_vertical else (one, other)


def find_quote(path: Path, *, number: int, text: str, start: int, end: int) -> QuotePlace:
    """Find `text[start:end]` of the stored `text` of page `number` (1-based) on the page.

    Without rectangles if it is not there, or lies off the page. Raises DocumentUnreadable (corrupt,
    encrypted).
    """
    try:
        with pdfium.PdfDocument(path) as pdf:
            page = pdf.get_page(number - 1)
            text_page = page.get_textpage()
            passage = find_passage(text, start, end, _read_characters(text_page))
            if passage is None:
                return QuotePlace()
            lines = _join(_iter_boxes(text_page, passage))
            rectangles = (_to_rectangle(page, line) for line in lines)
            return QuotePlace(tuple(r for r in rectangles if r is not None)[:MAX_RECTANGLES])
    except pdfium.PdfiumError as error:
        is_locked = error.err_code == pdfium_c.FPDF_ERR_PASSWORD
        code = IngestErrorCode.ENCRYPTED if is_locked else IngestErrorCode.CORRUPT
        raise DocumentUnreadable(code) from error


def _read_characters(text_page: pdfium.PdfTextPage) -> list[str]:
    """Return the page's characters as pdfium counts them; those it can't tell are spaces."""
    count = min(text_page.count_chars(), _MAX_CHARACTERS)
    codes = (pdfium_c.FPDFText_GetUnicode(text_page, index) for index in range(count))
    return [" " if code in _SURROGATES or not 0 < code <= 0x10FFFF else chr(code) for code in codes]


def _iter_boxes(text_page: pdfium.PdfTextPage, indices: Iterable[int]) -> Iterator[_Line]:
    for index in indices:
        if pdfium_c.FPDFText_IsGenerated(text_page, index) == 1:
            continue
        left, bottom, right, top = _find_box(text_page, index)
        if not (right > left and top > bottom):
            continue
        turned = abs(math.sin(pdfium_c.FPDFText_GetCharAngle(text_page, index)))
        if turned > math.sqrt(0.5):
            yield _Line(True, bottom, top, left, right)
        else:
            yield _Line(False, left, right, bottom, top)


def _find_box(text_page: pdfium.PdfTextPage, index: int) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top: as high as the font, or as the glyph if it says nothing.

    Zeros where pdfium knows neither.
    """
    for is_loose in (True, False):
        try:
            left, bottom, right, top = text_page.get_charbox(index, loose=is_loose)
        except pdfium.PdfiumError:
            continue
        if all(map(math.isfinite, (left, bottom, right, top))) and right > left and top > bottom:
            return left, bottom, right, top
    return 0.0, 0.0, 0.0, 0.0


def _join(boxes: Iterable[_Line]) -> list[_Line]:
    lines: list[_Line] = []
    for box in boxes:
        if lines and lines[-1].takes(box):
            lines[-1].extend(box)
        else:
            lines.append(box)
    return lines


def _to_rectangle(page: pdfium.PdfPage, line: _Line) -> Rectangle | None:
    """Return what of a line lies on the page, as it is shown: turned and cropped."""
    places = [_to_fractions(page, *corner) for corner in line.corners]
    left, right = sorted(min(max(x, 0.0), 1.0) for x, _ in places)
    top, bottom = sorted(min(max(y, 0.0), 1.0) for _, y in places)
    if not (right > left and bottom > top):
        return None
    return Rectangle(left, top, right - left, bottom - top)


def _to_fractions(page: pdfium.PdfPage, x: float, y: float) -> tuple[float, float]:
    across, down = ctypes.c_int(), ctypes.c_int()
    pdfium_c.FPDF_PageToDevice(page, 0, 0, _UNITS, _UNITS, 0, x, y, across, down)
    return across.value / _UNITS, down.value / _UNITS
