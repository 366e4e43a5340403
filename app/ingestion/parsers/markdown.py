"""Markdown: one page, its text kept as it is, titled by its first heading of level 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.cleaning import clean_markup, clean_title
from app.ingestion.headings import find_markdown_headings
from app.ingestion.parsers.base import ParsedDocument
from app.ingestion.parsers.text import one_page, read_text


@contextmanager
def open_markdown(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    text = read_text(path, clean=clean_markup)
    headings = find_markdown_headings(text)
    title = next((heading.title for heading in headings if heading.level == 1), None)
    yield ParsedDocument(
        title=clean_title(title),
        page_count=1,
        pages=lambda: one_page(text, headings),
    )
