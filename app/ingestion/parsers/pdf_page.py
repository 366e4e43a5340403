"""One page of a PDF as pdfium reads it: its text, how that is set, and what it can't tell."""

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium
from pypdfium2 import raw as pdfium_c

from app.ingestion.base import MAX_LABEL_CHARACTERS
from app.ingestion.cleaning import clean_extracted
from app.ingestion.parsers.base import has_letters
from app.ingestion.parsers.pdf_forms import read_form_lines
from app.ingestion.parsers.pdf_lines import is_scattered, rebuild_lines
from app.ingestion.parsers.pdf_styles import StyledLine, read_styles

UNREADABLE = "The page could not be read."
BROKEN_BOX = "The page's size is damaged: text beyond its edges may be among what was read."
OUTSIDE = "Text beyond the page's edges was left out."
UNDECODABLE = "Some of the page's characters could not be told: its fonts don't say what they are."

# Fewer letters over a picture of the whole page are a stamp or a page number on a scan.
_FEW_LETTERS = 20
_PICTURE_SHARE = 0.5
_MAX_OBJECTS = 1_000
# What is left out or can't be told is worth a warning from so many characters on.
_WORTH_WARNING = 20
_UNDECODABLE_SHARE = 0.1
_UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff]")
# A rule or a frame is thinner, in points.
_THIN = 3.0


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page before cleaning. `styles` are empty where pdfium did not read the text.

    `form_lines` say what its form was filled with; the rest is as in Page.
    """

    text: str
    width: float | None = None
    height: float | None = None
    styles: tuple[StyledLine, ...] = ()
    form_lines: tuple[str, ...] = ()
    needs_ocr: bool = False
    warnings: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    styles: tuple[StyledLine, ...] = ()
    warnings: tuple[str, ...] = ()


def read_page(pdf: pdfium.PdfDocument, index: int) -> RawPage:
    """Read a page (0-based). One that fails is empty, with a warning."""
    label = read_label(pdf, index)
    try:
        page = pdf.get_page(index)
    except pdfium.PdfiumError:
        return RawPage("", warnings=(UNREADABLE,), label=label)
    try:
        width, height = page.get_size()
        content = _read_text(page)
        form_lines = read_form_lines(pdf, page, content.text)
        return RawPage(
            content.text,
            width,
            height,
            content.styles,
            tuple(form_lines),
            needs_ocr=_is_picture(page, "\n".join([content.text, *form_lines])),
            warnings=content.warnings,
            label=label,
        )
    finally:
        page.close()


def read_label(pdf: pdfium.PdfDocument, index: int) -> str | None:
    """Return the name that is printed on a page (0-based), None if it has none but its number."""
    try:
        raw: str = pdf.get_page_label(index)
    except (pdfium.PdfiumError, UnicodeDecodeError):
        return None
    label = " ".join(clean_extracted(raw).split())[:MAX_LABEL_CHARACTERS].rstrip()
    return None if label in ("", str(index + 1)) else label


def _read_text(page: pdfium.PdfPage) -> _Text:
    """Read what lies within the page's box, in the order in which the page draws it.

    By box rather than by range: it keeps superscripts on their line and leaves out what lies off
    the page. A page with a broken box has nothing inside it, so the range is the fallback.
    """
    try:
        text_page = page.get_textpage()
    except pdfium.PdfiumError:
        return _Text("", warnings=(UNREADABLE,))
    try:
        by_range: str = text_page.get_text_range()
        rebuilt = rebuild_lines(text_page) if is_scattered(by_range) else by_range
        # Hardly fewer lines: the letters really stand apart, as on a map or a chess board.
        if rebuilt.count("\n") < by_range.count("\n") / 2:
            return _Text(rebuilt, warnings=_warn_of(rebuilt))
        by_box: str = text_page.get_text_bounded()
        styles = tuple(read_styles(text_page, by_range))
    except pdfium.PdfiumError:
        return _Text("", warnings=(UNREADABLE,))
    finally:
        text_page.close()
    if not has_letters(by_box) and has_letters(by_range):
        return _Text(by_range, styles, (BROKEN_BOX, *_warn_of(by_range)))
    left_out = _count_visible(by_range) - _count_visible(by_box)
    outside = (OUTSIDE,) if left_out >= _WORTH_WARNING else ()
    return _Text(by_box, styles, (*outside, *_warn_of(by_box)))


def _warn_of(text: str) -> tuple[str, ...]:
    unknown = 0 if text.isascii() else len(_UNKNOWN.findall(text))
    is_much = unknown >= max(_WORTH_WARNING, _UNDECODABLE_SHARE * len(text))
    return (UNDECODABLE,) if is_much else ()


def _count_visible(text: str) -> int:
    return sum(map(len, text.split()))


def _is_picture(page: pdfium.PdfPage, text: str) -> bool:
    """Say whether a page shows something that its text doesn't tell.

    Without a letter that is any object but rules; with a few, images over more than half of it.
    """
    letters = 0
    for character in text:
        letters += character.isalnum()
        if letters >= _FEW_LETTERS:
            return False
    left, bottom, right, top = page.get_bbox()
    page_area: float = (right - left) * (top - bottom)
    image_area = 0.0
    for item in _iter_objects(page):
        x0, y0, x1, y1 = _read_bounds(item)
        width, height = min(x1, right) - max(x0, left), min(y1, top) - max(y0, bottom)
        is_rule = _is_path(item) and min(width, height) <= _THIN
        if not letters and not is_rule:
            return True
        if _holds_image(item):
            image_area += max(width, 0.0) * max(height, 0.0)
    return image_area > _PICTURE_SHARE * page_area


def _iter_objects(page: pdfium.PdfPage) -> Iterator["pdfium_c.FPDF_PAGEOBJECT"]:
    count = pdfium_c.FPDFPage_CountObjects(page)
    for index in range(min(count, _MAX_OBJECTS)):
        yield pdfium_c.FPDFPage_GetObject(page, index)


def _read_bounds(item: "pdfium_c.FPDF_PAGEOBJECT") -> tuple[float, float, float, float]:
    """Return left, bottom, right and top in points; zeros where pdfium doesn't know."""
    x0, y0, x1, y1 = (ctypes.c_float() for _ in range(4))
    pdfium_c.FPDFPageObj_GetBounds(item, x0, y0, x1, y1)
    return x0.value, y0.value, x1.value, y1.value


def _is_path(item: "pdfium_c.FPDF_PAGEOBJECT") -> bool:
    is_path: bool = pdfium_c.FPDFPageObj_GetType(item) == pdfium_c.FPDF_PAGEOBJ_PATH
    return is_path


def _holds_image(item: "pdfium_c.FPDF_PAGEOBJECT") -> bool:
    """Say whether an object is an image, or a group with an image in it."""
    kind = pdfium_c.FPDFPageObj_GetType(item)
    if kind != pdfium_c.FPDF_PAGEOBJ_FORM:
        is_image: bool = kind == pdfium_c.FPDF_PAGEOBJ_IMAGE
        return is_image
    count = pdfium_c.FPDFFormObj_CountObjects(item)
    return any(
        pdfium_c.FPDFPageObj_GetType(pdfium_c.FPDFFormObj_GetObject(item, index))
        == pdfium_c.FPDF_PAGEOBJ_IMAGE
        for index in range(min(count, _MAX_OBJECTS))
    )
