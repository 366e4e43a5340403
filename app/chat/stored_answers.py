"""Rows of answers -> what was sent of them."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from app.chat.document_texts import Filenames
from app.chat.events import Citation, Done, Failure, SourceInfo, Start, UnreadyDocument
from app.llm.base import Usage
from app.models.conversations import ConversationMessage, Run, RunStatus, StoredCitation

_NANO = 9


def start_of(run: Run, message: ConversationMessage, filenames: Filenames) -> Start | None:
    if message.model is None:
        return None
    return Start(
        run_id=run.id,
        message_id=run.message_id,
        conversation_id=run.conversation_id,
        model=message.model,
        sources=tuple(
            SourceInfo(
                n=each["n"],
                document_id=UUID(each["document_id"]),
                chunk_id=UUID(each["chunk_id"]),
                filename=filenames.get(UUID(each["document_id"]), ""),
                page_start=each["page_start"],
                page_end=each["page_end"],
                score=each["score"],
            )
            for each in message.sources
        ),
        unready_documents=unready_documents_of(message, filenames),
    )


def unready_documents_of(
    message: ConversationMessage, filenames: Filenames
) -> tuple[UnreadyDocument, ...]:
    return tuple(
        UnreadyDocument(
            document_id=UUID(each["document_id"]),
            filename=filenames.get(UUID(each["document_id"]), ""),
            status=each["status"],
        )
        for each in message.unready_documents
    )


def citation_of(stored: StoredCitation, filenames: Filenames) -> Citation:
    filename = filenames.get(stored.document_id)
    return Citation(
        n=stored.n,
        document_id=stored.document_id,
        filename=filename or "",
        chunk_id=stored.chunk_id,
        chunk_index=stored.chunk_index,
        text="",
        page_start=stored.page_start,
        page_end=stored.page_end,
        page_label=stored.page_label,
        quote=stored.quote or "" if filename is not None else "",
        quote_start=stored.quote_start,
        quote_end=stored.quote_end,
        chunk_start=stored.chunk_start,
        chunk_end=stored.chunk_end,
        answer_start=stored.answer_start,
        score=stored.score,
        verified=stored.verified,
        missing_numbers=tuple(stored.missing_numbers),
    )


def failure_of(run: Run) -> Failure | None:
    if run.error_code is None:
        return None
    return Failure(run.error_code, run.error_message or "", bool(run.is_retryable))


def done_of(run: Run, message: ConversationMessage) -> Done:
    return Done(
        status=RunStatus(run.status),
        finish_reason=message.finish_reason or "",
        usage=usage_of(message),
        model_version=message.model_version or "",
        cost_usd=to_usd(message.cost_nano),
        answer_sha256=(message.answer_sha256 or b"").hex(),
        degraded=message.degraded,
        dropped_markers=message.dropped_markers,
        unsupported=pair_up(message.unsupported),
        provider=message.provider,
        attempts=message.attempts,
        fallbacks=message.fallbacks,
    )


def usage_of(message: ConversationMessage) -> Usage:
    return Usage(message.input_tokens or 0, message.output_tokens or 0, message.is_usage_estimated)


def to_nano(cost_usd: str | None) -> int | None:
    """Return a price in billionths of a dollar, rounded; None where it is unknown."""
    return None if cost_usd is None else round(Decimal(cost_usd).scaleb(_NANO))


def to_usd(cost_nano: int | None) -> str | None:
    """Return a price in dollars as a decimal string without trailing zeros, such as 0.000784."""
    if cost_nano is None:
        return None
    dollars = f"{Decimal(cost_nano).scaleb(-_NANO):f}"
    return dollars.rstrip("0").rstrip(".") if "." in dollars else dollars


def pair_up(flat: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the spans of a flat row of starts and ends."""
    return tuple(zip(flat[::2], flat[1::2], strict=True))
