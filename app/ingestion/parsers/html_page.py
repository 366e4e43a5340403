"""HTML: one page, with headings, lists, tables and preformatted text. Never rendered or run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.parsers.base import ParsedDocument, limit_text
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.html_tables import is_data_table, iter_table_lines
from app.ingestion.parsers.html_visible import (
    collapse,
    is_block,
    is_left_out,
    read_alt,
    read_inline,
)
from app.ingestion.parsers.markup import MAX_DEPTH, Element, local_name, parse_markup
from app.ingestion.parsers.text import read_bytes
from app.ingestion.parsers.text_builder import TextBuilder

_TOO_DEEP = "The end of the page is nested too deeply and could not be read."
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LISTS = frozenset({"ul", "ol", "menu"})


@contextmanager
def open_html(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    with damage_means_corrupt(etree.LxmlError):
        root = parse_markup(read_bytes(path))
        title = clean_title(find_title(root))
    yield ParsedDocument(
        title=title, page_count=1, pages=lambda: limit_text(iter([_read_page(root)]))
    )


def find_title(root: Element | None) -> str | None:
    """Return what a web page says that it is called; the head comes before pictures with titles."""
    nodes = () if root is None else root.iter()
    title = next((node for node in nodes if local_name(node) == "title"), None)
    return None if title is None else "".join(title.itertext())


def _read_page(root: Element | None) -> Page:
    with damage_means_corrupt(etree.LxmlError):
        builder = TextBuilder()
        warnings = add_markup(builder, root)
        return builder.build(1, warnings=warnings)


def add_markup(builder: TextBuilder, root: Element | None) -> tuple[str, ...]:
    """Add what a reader of a web page sees. Returns warnings for the page."""
    if root is None:
        return ()
    walk = _Walk(builder)
    deepest = depth = 0
    events = etree.iterwalk(root, events=("start", "end"))
    for event, node in events:
        if event == "end":
            depth -= 1
            walk.leave(node)
            if node is not root:
                walk.write(node.tail)
        else:
            depth += 1
            deepest = max(deepest, depth)
            if not walk.enter(node):
                events.skip_subtree()
    walk.flush()
    return (_TOO_DEEP,) if deepest >= MAX_DEPTH else ()


class _Walk:
    """Where in a page the walk is, and the text since the last edge of a block."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._text: list[str] = []
        self._levels: list[int] = []
        self._preformatted = 0
        # The number of the next item, None in a list without numbers.
        self._lists: list[int | None] = []
        self._marker = ""

    def write(self, text: str | None) -> None:
        if text:
            self._text.append(text if self._preformatted else collapse(text))

    def enter(self, node: Element) -> bool:
        """Begin an element. Returns whether the walk goes into it."""
        name = local_name(node)
        if is_left_out(node):
            return False
        if is_block(name):
            self.flush()
        if name == "table" and is_data_table(node):
            self._add_table(node)
            return False
        if name == "br":
            self._text.append("\n")
        elif name == "img":
            self.write(read_alt(node))
        elif name == "pre":
            self._preformatted += 1
        elif name == "li":
            self._marker = self._next_marker()
        elif name in _LISTS:
            self._lists.append(_first_number(node) if name == "ol" else None)
        elif name in _HEADINGS:
            self._levels.append(_HEADINGS[name])
        self.write(node.text)
        return True

    def leave(self, node: Element) -> None:
        name = local_name(node)
        if is_block(name) and not is_left_out(node):
            self.flush()
            if name == "pre":
                self._preformatted -= 1
            elif name == "li":
                self._marker = ""
            elif name in _LISTS:
                self._lists.pop()
            elif name in _HEADINGS:
                self._levels.pop()

    def flush(self) -> None:
        text = "".join(self._text)
        self._text.clear()
        if not text.strip():
            return
        if self._levels:
            self._builder.add_heading(text, self._levels[-1])
        elif self._preformatted:
            self._builder.add_preformatted(text)
        elif self._marker:
            self._builder.add_line(self._marker + text)
            self._marker = ""
        else:
            self._builder.add_paragraph(text)

    def _next_marker(self) -> str:
        if not self._lists or self._lists[-1] is None:
            return "- "
        number = self._lists[-1]
        self._lists[-1] = number + 1
        return f"{number}. "

    def _add_table(self, table: Element) -> None:
        for caption in table.iterchildren("{*}caption"):
            self._builder.add_paragraph(read_inline(caption))
        for line in iter_table_lines(table):
            self._builder.add_line(line)


def _first_number(items: Element) -> int:
    text = items.get("start") or "1"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 1
