"""Open a document with the parser for its media type."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers import PARSERS
from app.ingestion.parsers.base import DocumentUnreadable, ParsedDocument


@contextmanager
def open_document(
    path: Path, media_type: str, *, password: str | None = None
) -> Iterator[ParsedDocument]:
    """Open a document to read its pages. Synchronous and slow: run it in a thread.

    Raises DocumentUnreadable, here or later from `pages()`.
    """
    parser = PARSERS.get(media_type)
    if parser is None:
        raise DocumentUnreadable(IngestErrorCode.UNSUPPORTED_TYPE)
    with parser(path, password) as document:
        yield document
