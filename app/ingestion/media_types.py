"""What kind of file an upload is, by its content; what the client claims is not asked."""

from pathlib import PurePath
from typing import Final

from app.ingestion.encodings import find_encoding

PDF: Final = "application/pdf"
MARKDOWN: Final = "text/markdown"
PLAIN_TEXT: Final = "text/plain"

# How much of a file `find_media_type` wants to see.
HEAD_BYTES = 8192
_PDF_MARK = b"%PDF-"
# Viewers accept the mark anywhere in this many bytes: mail gateways and scanners put headers there.
_PDF_MARK_WITHIN_BYTES = 1024
_MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_PLAIN_SUFFIXES = frozenset({"", ".txt", ".text", ".log", ".csv", ".tsv", ".rst"})
_TEXT_CONTROLS = frozenset("\t\n\v\f\r\x1a\x1b")


def find_media_type(head: bytes, *, filename: str) -> str | None:
    """Return the media type of a file from its first HEAD_BYTES, or None if it can't be read.

    A PDF is known by its mark. Text must decode, hold no control characters and have a name that
    says text or nothing: HTML or RTF would decode too, but their markup is not what people read.
    """
    if _PDF_MARK in head[:_PDF_MARK_WITHIN_BYTES]:
        return PDF
    suffix = PurePath(filename).suffix.lower()
    if suffix not in _MARKDOWN_SUFFIXES | _PLAIN_SUFFIXES or not _is_text(head):
        return None
    return MARKDOWN if suffix in _MARKDOWN_SUFFIXES else PLAIN_TEXT


def _is_text(head: bytes) -> bool:
    encoding = find_encoding(head, is_whole=len(head) < HEAD_BYTES)
    if encoding is None:
        return False
    text = head.decode(encoding, errors="replace")
    return not any(character < " " and character not in _TEXT_CONTROLS for character in text)
