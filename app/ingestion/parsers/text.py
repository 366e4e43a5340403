"""Plain text: one page, whatever its length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.base import Heading, Page, TextSource
from app.ingestion.cleaning import clean_plain
from app.ingestion.encodings import decode_text
from app.ingestion.headings import find_plain_headings
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import (
    MAX_CHARACTERS,
    DocumentUnreadable,
    ParsedDocument,
    has_letters,
    limit_text,
    too_large,
)

# A character takes at most 4 bytes in every encoding that is tried: beyond that nothing is read.
_MAX_BYTES = 4 * MAX_CHARACTERS


@contextmanager
def open_text(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    text = read_text(path, clean=clean_plain)
    headings = find_plain_headings(text)
    yield ParsedDocument(title=None, page_count=1, pages=lambda: one_page(text, headings))


def read_text(path: Path, *, clean: Callable[[str], str]) -> str:
    """Read, decode and clean a whole file; its encoding is found by `encodings`.

    Raises DocumentUnreadable: too_large, corrupt.
    """
    text = decode_text(read_bytes(path))
    if text is None:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The file is not text.")
    if len(text) > MAX_CHARACTERS:
        raise too_large()
    return clean(text)


def read_bytes(path: Path) -> bytes:
    """Read a whole file that can't hold too much text. Raises DocumentUnreadable (too_large)."""
    if path.stat().st_size > _MAX_BYTES:
        raise too_large()
    return path.read_bytes()


def one_page(text: str, headings: Sequence[Heading]) -> Iterator[Page]:
    source = TextSource.TEXT_LAYER if has_letters(text) else TextSource.NONE
    page = Page(number=1, text=text, headings=tuple(headings), source=source)
    return limit_text(iter([page]))
