"""What a stream of an answer is made of, and how each event looks on the wire."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from app.core.errors import AppError
from app.llm.base import Usage
from app.models.conversations import RunStatus


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A numbered source, as a client sees it before the answer."""

    n: int
    document_id: UUID
    chunk_id: UUID
    filename: str
    page_start: int
    page_end: int
    score: float


@dataclass(frozen=True, slots=True)
class Citation:
    """A marker `[n]` of the answer, bound to a page and the words on it.

    `quote` is the page's text from `quote_start` to `quote_end` and the chunk's from `chunk_start`
    to `chunk_end`; the marker stands at `answer_start` of the answer (code points, ends exclusive).
    `verified` when it supports the sentence that cites it; `missing_numbers` are numbers of that
    sentence that the quote does not hold. Where nothing in the source resembles the sentence, the
    quote is how the source begins. `page_label` is the page's printed name, if it has another.
    """

    n: int
    document_id: UUID
    filename: str
    chunk_id: UUID
    chunk_index: int
    text: str
    page_start: int
    page_end: int
    page_label: str | None
    quote: str
    quote_start: int
    quote_end: int
    chunk_start: int
    chunk_end: int
    answer_start: int
    score: float
    verified: bool
    missing_numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnreadyDocument:
    """A document that was left out because it can't be searched yet, or never will be."""

    document_id: UUID
    filename: str
    status: str


@dataclass(frozen=True, slots=True)
class Start:
    """`conversation_id` is None for an answer that is not kept."""

    run_id: UUID
    message_id: UUID
    conversation_id: UUID | None
    model: str
    sources: tuple[SourceInfo, ...]
    unready_documents: tuple[UnreadyDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer; `offset` counts the code points before it."""

    text: str
    offset: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything so far, in place of what the reader has: some of it may have been lost."""

    start: Start
    text: str
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer ended early, in words for the caller. A Done with status FAILED follows."""

    code: str
    message: str
    is_retryable: bool

    @classmethod
    def of(cls, error: AppError) -> Self:
        return cls(error.code, error.message, error.is_retryable)


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer, whole or not. `model_version` is what the vendor says answered.

    `finish_reason`: stop, length or content_filter; error or cancelled where `status` says so.
    `unsupported` are spans of the answer that no source supports (code points, ends exclusive).
    `provider` is who answered, after `attempts` calls of models; `fallbacks` were passed over, of
    which some may not have been called.
    """

    status: RunStatus
    finish_reason: str
    usage: Usage
    model_version: str
    cost_usd: str | None
    answer_sha256: str
    degraded: bool
    dropped_markers: int
    unsupported: tuple[tuple[int, int], ...] = ()
    provider: str | None = None
    attempts: int = 0
    fallbacks: int = 0


Event = Start | Token | Citation | Snapshot | Failure | Done


def to_frame(event: Event) -> dict[str, Any]:
    """Return the JSON object of one stream frame (DESIGN.md, section 5)."""
    match event:
        case Start():
            return {"type": "start", **_start_fields(event)}
        case Token():
            return {"type": "token", "token": event.text, "offset": event.offset}
        case Citation():
            return {"type": "citation", **_citation_fields(event)}
        case Snapshot():
            return {
                "type": "snapshot",
                **_start_fields(event.start),
                "text": event.text,
                "citations": [_citation_fields(citation) for citation in event.citations],
            }
        case Failure():
            return {
                "type": "error",
                "code": event.code,
                "message": event.message,
                "retryable": event.is_retryable,
            }
        case Done():
            return {
                "type": "done",
                "done": True,
                "status": event.status,
                "finish_reason": event.finish_reason,
                "usage": usage_frame(event.usage),
                "cost_usd": event.cost_usd,
                "model_version": event.model_version,
                "answer_sha256": event.answer_sha256,
                "degraded": event.degraded,
                "dropped_markers": event.dropped_markers,
                "unsupported": spans_frame(event.unsupported),
                "provider": event.provider,
                "attempts": event.attempts,
                "fallbacks": event.fallbacks,
            }


def usage_frame(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "estimated": usage.is_estimated,
    }


def spans_frame(spans: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"start": start, "end": end} for start, end in spans]


def _start_fields(start: Start) -> dict[str, Any]:
    return {
        "run_id": str(start.run_id),
        "message_id": str(start.message_id),
        "conversation_id": None if start.conversation_id is None else str(start.conversation_id),
        "model": start.model,
        "sources": [_source_fields(source) for source in start.sources],
        "unready_documents": [
            {"document_id": str(each.document_id), "filename": each.filename, "status": each.status}
            for each in start.unready_documents
        ],
    }


def _citation_fields(citation: Citation) -> dict[str, Any]:
    return {
        "n": citation.n,
        "document_id": str(citation.document_id),
        "filename": citation.filename,
        "chunk_id": str(citation.chunk_id),
        "chunk_index": citation.chunk_index,
        "page_start": citation.page_start,
        "page_end": citation.page_end,
        "page_label": citation.page_label,
        "quote": citation.quote,
        "quote_start": citation.quote_start,
        "quote_end": citation.quote_end,
        "chunk_start": citation.chunk_start,
        "chunk_end": citation.chunk_end,
        "answer_start": citation.answer_start,
        "score": citation.score,
        "verified": citation.verified,
        "missing_numbers": list(citation.missing_numbers),
    }


def _source_fields(source: SourceInfo) -> dict[str, Any]:
    return {
        "n": source.n,
        "document_id": str(source.document_id),
        "chunk_id": str(source.chunk_id),
        "filename": source.filename,
        "page_start": source.page_start,
        "page_end": source.page_end,
        "score": source.score,
    }
