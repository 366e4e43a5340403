"""Chunks -> vectors: what is embedded for a chunk."""

from pathlib import PurePath

from app.ingestion.base import Chunk

_MAX_TITLE_CHARS = 80
_MAX_HEADING_CHARS = 80


def document_title(filename: str, title: str | None) -> str:
    """Return what to call a document: its own title, or else its file's name as words."""
    name = title or PurePath(filename).stem.replace("_", " ").replace("-", " ")
    return " ".join(name.split())[:_MAX_TITLE_CHARS]


def embedding_text(chunk: Chunk, *, title: str) -> str:
    """Return the text that is embedded: where the passage stands, then the passage."""
    place = [title]
    if chunk.heading:
        place.append(chunk.heading[-_MAX_HEADING_CHARS:])
    return "\n".join([*place, chunk.text])
