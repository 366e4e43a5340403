"""PPTX: a slide is a page, headed by its title, with its texts, tables and notes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pptx
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.exc import PythonPptxError

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.parsers.archives import copy_package
from app.ingestion.parsers.base import ParsedDocument, check_page_count, limit_text
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.tables import Row, split_names, table_lines, to_cell
from app.ingestion.parsers.text_builder import TextBuilder

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_POINT = 12_700  # in English metric units
# They say the same on every slide.
_RUNNING = frozenset(
    {PP_PLACEHOLDER.SLIDE_NUMBER, PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.HEADER}
)
# Their paragraphs have bullets unless they say otherwise.
_BULLETED = frozenset({PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.VERTICAL_BODY})


@contextmanager
def open_pptx(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    with damage_means_corrupt(PythonPptxError):
        deck = pptx.Presentation(copy_package(path))
        title = clean_title(deck.core_properties.title)
        page_count = len(deck.slides)
    check_page_count(page_count)
    yield ParsedDocument(
        title=title, page_count=page_count, pages=lambda: limit_text(_read_pages(deck))
    )


def _read_pages(deck: Any) -> Iterator[Page]:
    with damage_means_corrupt(PythonPptxError):
        width, height = _to_points(deck.slide_width), _to_points(deck.slide_height)
        for number, slide in enumerate(deck.slides, 1):
            yield replace(_read_slide(slide, number), width=width, height=height)


def _to_points(units: int | None) -> float | None:
    return None if units is None else units / _POINT


def _read_slide(slide: Any, number: int) -> Page:
    builder = TextBuilder()
    title = slide.shapes.title
    if title is not None:
        builder.add_heading(title.text_frame.text, level=1)
    for shape in _in_reading_order(slide.shapes):
        if title is None or shape.shape_id != title.shape_id:
            _add_shape(builder, shape)
    if slide.has_notes_slide:
        frame = slide.notes_slide.notes_text_frame
        if frame is not None and frame.text.strip():
            builder.add_paragraph(f"Notes: {frame.text}")
    return builder.build(number)


def _in_reading_order(shapes: Iterable[Any]) -> list[Any]:
    """Return shapes from top to bottom, and from left to right where they begin level.

    Those without a place come first, as they stand in the file.
    """
    return sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0))


def _add_shape(builder: TextBuilder, shape: Any) -> None:
    kind = shape.placeholder_format.type if shape.is_placeholder else None
    if kind in _RUNNING or _is_hidden(shape):
        return
    if hasattr(shape, "shapes"):
        for member in _in_reading_order(shape.shapes):
            _add_shape(builder, member)
    elif getattr(shape, "has_table", False):
        _add_table(builder, shape.table)
    elif shape.has_text_frame:
        for paragraph in shape.text_frame.paragraphs:
            _add_paragraph(builder, paragraph, is_bulleted=kind in _BULLETED)


def _is_hidden(shape: Any) -> bool:
    properties = next(shape.element.iter("{*}cNvPr"), None)
    return properties is not None and properties.get("hidden") in {"1", "true"}


def _add_paragraph(builder: TextBuilder, paragraph: Any, *, is_bulleted: bool) -> None:
    text = paragraph.text
    properties = paragraph._p.pPr
    if properties is not None:
        has_bullet = any(
            properties.find(f"{_A}{tag}") is not None for tag in ("buChar", "buAutoNum")
        )
        is_bulleted = has_bullet or (is_bulleted and properties.find(f"{_A}buNone") is None)
    if is_bulleted and text.strip():
        builder.add_line(f"- {text}")
    else:
        builder.add_paragraph(text)


def _add_table(builder: TextBuilder, table: Any) -> None:
    rows: list[Row] = [
        ["" if cell.is_spanned else to_cell(cell.text_frame.text) for cell in row.cells]
        for row in table.rows
    ]
    names, body = split_names(rows)
    for line in table_lines(body, names):
        builder.add_line(line)
