"""What a stream of an answer is made of, and how each event looks on the wire."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.llm.base import Usage


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A numbered source, as a client sees it before the answer."""

    n: int
    document_id: UUID
    filename: str
    page_start: int
    page_end: int
    score: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker `[n]` of the answer, bound to a page and the words on it.

    `quote` is the page's text from `quote_start` to `quote_end` (code points, end exclusive).
    `verified` when it supports the sentence that cites it; where nothing in the source resembles
    that sentence, the quote is how the source begins.
    """

    n: int
    document_id: UUID
    filename: str
    chunk_id: UUID
    chunk_index: int
    text: str
    page_start: int
    page_end: int
    quote: str
    quote_start: int
    quote_end: int
    score: float
    verified: bool


@dataclass(frozen=True, slots=True)
class Start:
    run_id: UUID
    message_id: UUID
    model: str
    sources: tuple[SourceInfo, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer; `offset` counts the code points before it."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer. `model_version` is what the vendor says answered."""

    finish_reason: str
    usage: Usage
    model_version: str
    cost_usd: str | None
    answer_sha256: str
    degraded: bool
    dropped_markers: int


Event = Start | Token | Citation | Done


def to_frame(event: Event) -> dict[str, Any]:
    """Return the JSON object of one stream frame (DESIGN.md, section 5)."""
    match event:
        case Start():
            return {
                "type": "start",
                "run_id": str(event.run_id),
                "message_id": str(event.message_id),
                "conversation_id": None,
                "model": event.model,
                "sources": [_source_frame(source) for source in event.sources],
            }
        case Token():
            return {"type": "token", "token": event.text, "offset": event.offset}
        case Citation():
            return {
                "type": "citation",
                "n": event.n,
                "document_id": str(event.document_id),
                "filename": event.filename,
                "chunk_id": str(event.chunk_id),
                "chunk_index": event.chunk_index,
                "page_start": event.page_start,
                "page_end": event.page_end,
                "quote": event.quote,
                "quote_start": event.quote_start,
                "quote_end": event.quote_end,
                "score": event.score,
                "verified": event.verified,
            }
        case Done():
            return {
                "type": "done",
                "done": True,
                "status": "completed",
                "finish_reason": event.finish_reason,
                "usage": usage_frame(event.usage),
                "cost_usd": event.cost_usd,
                "model_version": event.model_version,
                "answer_sha256": event.answer_sha256,
                "degraded": event.degraded,
                "dropped_markers": event.dropped_markers,
            }


def error_frames(code: str, message: str, *, retryable: bool) -> list[dict[str, Any]]:
    """Return the two frames that end a stream that failed."""
    return [
        {"type": "error", "code": code, "message": message, "retryable": retryable},
        {"type": "done", "done": True, "status": "failed", "finish_reason": "error"},
    ]


def usage_frame(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "estimated": usage.is_estimated,
    }


def _source_frame(source: SourceInfo) -> dict[str, Any]:
    return {
        "n": source.n,
        "document_id": str(source.document_id),
        "filename": source.filename,
        "page_start": source.page_start,
        "page_end": source.page_end,
        "score": source.score,
    }
