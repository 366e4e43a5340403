"""Open a document with the parser for its media type."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from app.ingestion import parsers
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable, ParsedDocument, Parser


@contextmanager
def open_document(
    path: Path, media_type: str, *, password: str | None = None
) -> Iterator[ParsedDocument]:
    """Open a document to read its pages. Synchronous and slow: run it in a thread.

    Raises DocumentUnreadable, here or later from `pages()`.
    """
    parser = load_parser(media_type)
    with parser(path, password) as document:
        yield document


def load_parser(media_type: str) -> Parser:
    """Import the parser for a media type. Raises DocumentUnreadable (unsupported_type)."""
    place = parsers.PARSERS.get(media_type)
    if place is None:
        raise DocumentUnreadable(IngestErrorCode.UNSUPPORTED_TYPE)
    module, _, name = place.partition(":")
    parser: Parser = getattr(import_module(f"{parsers.__name__}.{module}"), name)
    return parser
