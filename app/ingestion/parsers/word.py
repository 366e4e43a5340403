"""DOCX: one page, with the headings that its styles name, its tables, lists and footnotes.

Left out is what a reader of the final version doesn't see: tracked deletions, hidden text, field
codes; and headers and footers, which repeat.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docx
from docx.exceptions import PythonDocxError
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import OpcError
from docx.oxml.parser import parse_xml

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.parsers.archives import copy_package
from app.ingestion.parsers.base import ParsedDocument
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.tables import Row, split_names, table_lines
from app.ingestion.parsers.text_builder import TextBuilder, to_line
from app.ingestion.parsers.word_styles import ParagraphStyles, W, find_child, is_on, read_value

_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"

_TEXTS = frozenset({f"{W}t", f"{_MATH}t"})
_SIGNS = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}
_LEFT_OUT = frozenset(
    {
        *(
            f"{W}{name}"
            for name in ("del", "moveFrom", "instrText", "pPr", "rPr", "sdtPr", "tblPr")
        ),
        # The same text box again, for programs of before 2010.
        f"{_COMPATIBILITY}Fallback",
    }
)
_NOTES = {
    f"{W}footnoteReference": (RELATIONSHIP_TYPE.FOOTNOTES, "Footnote"),
    f"{W}endnoteReference": (RELATIONSHIP_TYPE.ENDNOTES, "Endnote"),
}
_MAX_SPAN = 63  # columns of a table in Word


@contextmanager
def open_docx(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    with damage_means_corrupt(PythonDocxError, OpcError):
        document = docx.Document(copy_package(path))
        title = clean_title(document.core_properties.title)
    yield ParsedDocument(title=title, page_count=1, pages=lambda: _read_pages(document))


def _read_pages(document: Any) -> Iterator[Page]:
    with damage_means_corrupt(PythonDocxError, OpcError):
        reader = _Reader(document)
        reader.add_blocks(document.element.body)
        page = reader.builder.build(1)
    yield page


@dataclass(slots=True)
class _Inline:
    """The text of a paragraph, and what hangs on it: text boxes and notes."""

    parts: list[str] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts)


class _Reader:
    """Goes through a document in its order. Recursion is bounded by lxml: 256 levels of XML."""

    def __init__(self, document: Any) -> None:
        self.builder = TextBuilder()
        self._styles = ParagraphStyles(document.styles.element)
        self._notes = {
            tag: (name, _read_notes(document.part, relationship))
            for tag, (relationship, name) in _NOTES.items()
        }

    def add_blocks(self, container: Any) -> None:
        for block in container:
            if block.tag == f"{W}p":
                self._add_paragraph(block)
            elif block.tag == f"{W}tbl":
                self._add_table(block)
            elif isinstance(block.tag, str) and block.tag not in _LEFT_OUT:
                # Content controls, tracked insertions and the like.
                self.add_blocks(block)

    def _add_paragraph(self, paragraph: Any) -> None:
        inline = self._read(paragraph)
        style = self._styles.find(paragraph)
        if style.level is not None:
            self.builder.add_heading(inline.text, style.level)
        elif style.is_item and inline.text.strip():
            self.builder.add_line(f"- {inline.text}")
        else:
            self.builder.add_paragraph(inline.text)
        for note in inline.notes:
            self.builder.add_paragraph(note)
        for box in inline.boxes:
            self.add_blocks(box)

    def _read(self, element: Any) -> _Inline:
        inline = _Inline()
        self._collect(element, inline)
        return inline

    def _collect(self, element: Any, inline: _Inline) -> None:
        for node in element:
            tag = node.tag
            if not isinstance(tag, str) or tag in _LEFT_OUT or _is_hidden(node):
                continue
            if tag in _TEXTS:
                inline.parts.append(node.text or "")
            elif tag in _SIGNS:
                inline.parts.append(_SIGNS[tag])
            elif tag in self._notes:
                self._collect_note(node, inline)
            elif tag == f"{W}txbxContent":
                inline.boxes.append(node)
            else:
                self._collect(node, inline)

    def _collect_note(self, reference: Any, inline: _Inline) -> None:
        name, elements = self._notes[reference.tag]
        # Once: a note that refers to itself must not go on for ever.
        note = elements.pop(reference.get(f"{W}id"), None)
        if note is not None and (text := self._read_line(note)):
            inline.notes.append(f"{name}: {text}")

    def _read_line(self, container: Any) -> str:
        """Return all paragraphs in an element, also those of nested tables and boxes, as one."""
        texts = [self._read(paragraph) for paragraph in container.iter(f"{W}p")]
        return to_line(" ".join(text for inline in texts for text in (inline.text, *inline.notes)))

    def _add_table(self, table: Any) -> None:
        rows = [row for row in _iter_rows(table) if not is_on(find_child(row, "trPr"), "del")]
        cells = [list(_iter_cells(row)) for row in rows]
        if max(map(len, cells), default=0) <= 1 or self._has_headings(table):
            # A frame around text, or a layout.
            for cell in (cell for row in cells for cell in row):
                self.add_blocks(cell)
            return
        texts: list[Row] = [self._read_row(row) for row in cells]
        is_marked = bool(rows) and is_on(find_child(rows[0], "trPr"), "tblHeader")
        names, body = split_names(texts, is_marked=is_marked)
        for line in table_lines(body, names):
            self.builder.add_line(line)

    def _has_headings(self, table: Any) -> bool:
        paragraphs = table.iter(f"{W}p")
        return any(self._styles.find(paragraph).level is not None for paragraph in paragraphs)

    def _read_row(self, cells: list[Any]) -> list[str]:
        """Return a text for each column. A merged cell has its text in the first of its places."""
        texts: list[str] = []
        for cell in cells:
            properties = find_child(cell, "tcPr")
            merge = find_child(properties, "vMerge")
            is_repeated = merge is not None and merge.get(f"{W}val") != "restart"
            span = read_value(properties, "gridSpan") or "1"
            columns = min(int(span), _MAX_SPAN) if span.isdecimal() else 1
            texts += ["" if is_repeated else self._read_line(cell), *[""] * (columns - 1)]
        return texts


def _iter_rows(table: Any) -> Iterator[Any]:
    return _iter_through_wrappers(table, f"{W}tr")


def _iter_cells(row: Any) -> Iterator[Any]:
    return _iter_through_wrappers(row, f"{W}tc")


def _iter_through_wrappers(element: Any, tag: str) -> Iterator[Any]:
    for node in element:
        if node.tag == tag:
            yield node
        elif node.tag not in _LEFT_OUT:
            yield from _iter_through_wrappers(node, tag)


def _is_hidden(node: Any) -> bool:
    return node.tag == f"{W}r" and is_on(find_child(node, "rPr"), "vanish")


def _read_notes(part: Any, relationship: str) -> dict[str, Any]:
    """Return the notes of a document by their ids."""
    found = next((rel for rel in part.rels.values() if rel.reltype == relationship), None)
    if found is None or found.is_external:
        return {}
    notes = parse_xml(found.target_part.blob)
    # Those with a type are the lines that separate notes from the text.
    return {note.get(f"{W}id"): note for note in notes if note.get(f"{W}type") is None}
