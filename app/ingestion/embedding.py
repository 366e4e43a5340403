"""Chunks -> vectors: what is embedded for a chunk."""

import re
from pathlib import PurePath

from app.ingestion.base import Chunk

_SEPARATORS = re.compile(r"[_\-.+]+")
# What title and heading may take of a model's input, special tokens included.
PREFIX_TOKENS = 40
_MAX_TITLE_CHARS = 80
_MAX_HEADING_CHARS = 80


def document_title(filename: str, title: str | None) -> str:
    """Return what to call a document: its file's name as words, or else its own title.

    The name first: people choose it, and on the filings of `bench.quality` it finds more than the
    title in the metadata does.
    """
    words = _SEPARATORS.sub(" ", PurePath(filename).stem).split()
    if title and len(words) < 2:
        words = title.split()
    return " ".join(words)[:_MAX_TITLE_CHARS]


def embedding_text(chunk: Chunk, *, title: str) -> str:
    """Return the text that is embedded: where the passage stands, then the passage."""
    place = [title]
    if chunk.heading:
        place.append(chunk.heading[-_MAX_HEADING_CHARS:])
    return "\n".join([*place, chunk.text])
