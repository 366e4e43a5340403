"""Plain text: one page, whatever its length."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_plain
from app.ingestion.encodings import decode_text
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import (
    MAX_CHARACTERS,
    DocumentUnreadable,
    ParsedDocument,
    limit_text,
    too_large,
)

# A character takes at most 4 bytes in every encoding that is tried: beyond that nothing is read.
_MAX_BYTES = 4 * MAX_CHARACTERS


@contextmanager
def open_text(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    """Open a plain text in UTF-8, UTF-16, UTF-32 or Windows-1252; see `encodings` for the guess."""
    text = read_text(path, clean=clean_plain)
    yield ParsedDocument(title=None, page_count=1, pages=lambda: one_page(text))


def read_text(path: Path, *, clean: Callable[[str], str]) -> str:
    """Read, decode and clean a whole file. Raises DocumentUnreadable: too_large, corrupt."""
    if path.stat().st_size > _MAX_BYTES:
        raise too_large()
    text = decode_text(path.read_bytes())
    if text is None:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT, detail="The file is not text.")
    if len(text) > MAX_CHARACTERS:
        raise too_large()
    return clean(text)


def one_page(text: str) -> Iterator[Page]:
    return limit_text(iter([Page(number=1, text=text)]))
