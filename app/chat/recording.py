"""What is kept of a run: its beginning, its end, and the frames that can be told again from it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlalchemy.types import Text, Uuid

from app.accounts.principal import Principal
from app.chat.branches import (
    Place,
    analyze_messages,
    chain_messages,
    find_place,
)
from app.chat.document_texts import find_filenames
from app.chat.events import (
    Citation,
    Done,
    Event,
    Failure,
    Snapshot,
    SourceInfo,
    Start,
    Token,
)
from app.chat.stored_answers import citation_of, done_of, failure_of, start_of, to_nano
from app.chat.titles import make_title
from app.core.errors import Conflict, InvalidRequest, NotFound
from app.core.ids import new_id
from app.core.text import storable
from app.llm.base import Message, Role
from app.models.conversations import (
    ConversationMessage,
    Run,
    RunStatus,
    StoredCitation,
)

# How long a process may be silent before its runs count as lost. It renews them every 4 s.
LEASE_S = 12.0
# The id of the first frame that tells of the sources.
START_ID = 1


# One statement: until its transaction has ended, a run that begins holds one of few connections.
_BEGIN_RUN = text("""
    WITH conversation AS (
        INSERT INTO conversations (org_id, id, user_id, title)
        SELECT :org_id, :conversation_id, :user_id, CAST(:title AS text)
        WHERE CAST(:title AS text) IS NOT NULL),
    message AS (
        INSERT INTO messages (org_id, id, conversation_id, parent_id, role, content, terms)
        SELECT :org_id, m.id, :conversation_id, m.parent_id, m.role, m.content,
            CAST(m.terms AS tsvector)
        FROM unnest(:ids, :parent_ids, :roles, :contents, :terms)
            AS m (id, parent_id, role, content, terms))
    INSERT INTO runs (org_id, id, user_id, conversation_id, message_id, model, is_detached,
                      lease_expires_at)
    VALUES (:org_id, :run_id, :user_id, :conversation_id, :message_id, :model, :is_detached,
            now() + make_interval(secs => :lease_s))
    ON CONFLICT (org_id, conversation_id) WHERE status IN ('queued', 'running') DO NOTHING
    RETURNING true
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "parent_ids")),
    *(bindparam(name, type_=ARRAY(Text)) for name in ("roles", "contents", "terms")),
)
# Before the run's own row, as deleting a conversation does it: else the two could deadlock.
_HOLD_CONVERSATION = text("""
    SELECT true FROM conversations
    WHERE org_id = :org_id AND id = (
        SELECT conversation_id FROM runs WHERE org_id = :org_id AND id = :run_id)
    FOR KEY SHARE
""")
_END_RUN = text("""
    WITH run AS (
        UPDATE runs SET status = :status, error_code = :error_code,
            error_message = :error_message, is_retryable = :is_retryable, finished_at = now(),
            last_event_id = :last_event_id, snapshot_id = :snapshot_id, token_ids = :token_ids,
            token_offsets = :token_offsets
        WHERE org_id = :org_id AND id = :run_id AND status IN ('queued', 'running')
        RETURNING message_id)
    UPDATE messages SET content = :content, terms = CAST(CAST(:terms AS text) AS tsvector),
        model = :model, model_version = :model_version, finish_reason = :finish_reason,
        degraded = :degraded, input_tokens = :input_tokens, output_tokens = :output_tokens,
        is_usage_estimated = :is_usage_estimated, cost_nano = :cost_nano,
        answer_sha256 = :answer_sha256, dropped_markers = :dropped_markers,
        provider = :provider, attempts = :attempts, fallbacks = :fallbacks,
        unsupported = :unsupported, sources = CAST(:sources AS jsonb),
        unready_documents = CAST(:unready_documents AS jsonb),
        trace = coalesce(CAST(:trace AS jsonb), trace, '{}')
    FROM run WHERE messages.org_id = :org_id AND messages.id = run.message_id
    RETURNING messages.id
""")
# The lock keeps the purge of a document away until its quotes are there to be redacted.
_INSERT_CITATIONS = text("""
    WITH kept AS MATERIALIZED (
        SELECT id FROM documents
        WHERE org_id = :org_id AND id = ANY(:document_ids) AND deleted_at IS NULL
        ORDER BY id FOR KEY SHARE)
    INSERT INTO citations (
        org_id, message_id, event_id, n, document_id, chunk_id, chunk_index, page_start, page_end,
        page_label, quote, quote_start, quote_end, chunk_start, chunk_end, answer_start, score,
        verified, missing_numbers)
    SELECT :org_id, :message_id, event_id, n, document_id, chunk_id, chunk_index, page_start,
        page_end, page_label, CASE WHEN kept.id IS NOT NULL THEN quote END, quote_start, quote_end,
        chunk_start, chunk_end, answer_start, score, verified, missing_numbers
    FROM jsonb_to_recordset(CAST(:citations AS jsonb)) AS cited (
        event_id integer, n integer, document_id uuid, chunk_id uuid, chunk_index integer,
        page_start integer, page_end integer, page_label text, quote text, quote_start integer,
        quote_end integer, chunk_start integer, chunk_end integer, answer_start integer,
        score float8, verified boolean, missing_numbers text[])
    LEFT JOIN kept ON kept.id = cited.document_id
""")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A question to be answered and kept.

    Without `conversation_id` a conversation begins, with `history` in it. In a conversation the
    history is what precedes `parent_id` and that message (default: the newest message), unless
    `replaces` names a question (this one becomes its sibling) or an answer (its question is asked
    again and `question` is None).
    """

    question: str | None
    model: str
    conversation_id: UUID | None = None
    parent_id: UUID | None = None
    replaces: UUID | None = None
    history: tuple[Message, ...] = ()
    is_detached: bool = False


@dataclass(frozen=True, slots=True)
class BegunRun:
    """`messages` are the history and, at the end, the question; the oldest of many are left out."""

    run_id: UUID
    message_id: UUID
    conversation_id: UUID
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run came to. `tokens` are (frame id, offset in `text`), `citations` (frame id, it).

    `start` is None where it ended before its sources were known. `trace` as it is stored; None
    keeps what was stored while the run went on.
    """

    start: Start | None
    text: str
    tokens: Sequence[tuple[int, int]]
    citations: Sequence[tuple[int, Citation]]
    failure: Failure | None
    done: Done
    last_event_id: int
    snapshot_id: int | None = None
    trace: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its reader sees it; `record` is None while it goes on.

    `text` is the answer as far as it was stored; while the run goes on its process knows more, and
    `finished_at` is None.
    """

    run_id: UUID
    message_id: UUID
    conversation_id: UUID
    status: RunStatus
    model: str
    text: str
    record: RunRecord | None
    finished_at: datetime | None = None


async def begin_run(session: AsyncSession, principal: Principal, request: RunRequest) -> BegunRun:
    """Write question, empty answer and queued run. The lease runs for LEASE_S from now.

    Raises NotFound for a conversation or message that is not the caller's, Conflict (`run_active`)
    while another run of the conversation goes on, InvalidRequest for a `replaces` or `parent_id`
    that does not fit. System messages of the history are for this run alone: they aren't stored.
    """
    place = await _find_place(session, principal, request)
    asked = [Message(Role.USER, request.question)] if request.question is not None else []
    # The history of a conversation that is there is in it already.
    brought = [
        message
        for message in (place.history if place.title is not None else ())
        if message.role is not Role.SYSTEM
    ]
    chain = await chain_messages(place, [*brought, *asked, Message(Role.ASSISTANT, "")])
    run_id, message_id = new_id(), chain[-1].id
    inserted = await session.scalar(
        _BEGIN_RUN,
        {
            "org_id": principal.org_id,
            "run_id": run_id,
            "user_id": principal.user_id,
            "conversation_id": place.conversation_id,
            "title": place.title,
            "ids": [message.id for message in chain],
            "parent_ids": [message.parent_id for message in chain],
            "roles": [message.role for message in chain],
            "contents": [message.content for message in chain],
            "terms": [message.terms for message in chain],
            "message_id": message_id,
            "model": request.model,
            "is_detached": request.is_detached,
            "lease_s": LEASE_S,
        },
    )
    if inserted is None:
        raise Conflict("Another answer of this conversation is being written.", code="run_active")
    return BegunRun(run_id, message_id, place.conversation_id, (*place.history, *asked))


async def _find_place(session: AsyncSession, principal: Principal, request: RunRequest) -> Place:
    if request.conversation_id is not None:
        return await find_place(
            session,
            principal,
            request.conversation_id,
            question=request.question,
            parent_id=request.parent_id,
            replaces=request.replaces,
        )
    if request.parent_id is not None or request.replaces is not None:
        raise InvalidRequest("Name the conversation of that message.", param="conversation_id")
    if request.question is None:
        raise InvalidRequest("There is no question.", param="messages")
    questions = (each.content for each in request.history if each.role is Role.USER)
    title = make_title(next(questions, request.question))
    return Place(new_id(), history=request.history, title=title)


async def load_run(session: AsyncSession, principal: Principal, run_id: UUID) -> RunView:
    """Raises NotFound, also for another user's run. Quotes of deleted documents are left out."""
    rows = await session.execute(
        select(Run, ConversationMessage)
        .join(
            ConversationMessage,
            and_(
                ConversationMessage.org_id == Run.org_id, ConversationMessage.id == Run.message_id
            ),
        )
        .where(Run.org_id == principal.org_id, Run.id == run_id, Run.user_id == principal.user_id)
        .options(defer(ConversationMessage.terms, raiseload=True))
    )
    found = rows.one_or_none()
    if found is None:
        raise NotFound("There is no such run.")
    run, message = found
    record = await _load_record(session, run, message) if run.finished_at is not None else None
    return RunView(
        run_id=run.id,
        message_id=run.message_id,
        conversation_id=run.conversation_id,
        status=RunStatus(run.status),
        model=run.model,
        text=message.content,
        record=record,
        finished_at=run.finished_at,
    )


async def _load_record(session: AsyncSession, run: Run, message: ConversationMessage) -> RunRecord:
    stored = (
        await session.scalars(
            select(StoredCitation)
            .where(StoredCitation.org_id == run.org_id, StoredCitation.message_id == run.message_id)
            .order_by(StoredCitation.event_id)
        )
    ).all()
    referred = [
        UUID(each["document_id"]) for each in (*message.sources, *message.unready_documents)
    ]
    filenames = await find_filenames(
        session, run.org_id, [*referred, *(citation.document_id for citation in stored)]
    )
    return RunRecord(
        start=start_of(run, message, filenames),
        text=message.content,
        tokens=tuple(zip(run.token_ids, run.token_offsets, strict=True)),
        citations=tuple((each.event_id, citation_of(each, filenames)) for each in stored),
        failure=failure_of(run),
        done=done_of(run, message),
        last_event_id=run.last_event_id,
        snapshot_id=run.snapshot_id,
        trace=message.trace,
    )


async def end_run(session: AsyncSession, org_id: UUID, run_id: UUID, record: RunRecord) -> bool:
    """Store what the run came to, with its status. False, and nothing is written, if it had ended.

    A run whose conversation was deleted meanwhile has ended too. A citation of a document that was
    deleted meanwhile is stored without its quote. Works in a system transaction too.
    """
    key = {"org_id": org_id, "run_id": run_id}
    if await session.scalar(_HOLD_CONVERSATION, key) is None:
        return False
    (terms,) = await analyze_messages([record.text])
    facts = {**_run_facts(record), **_message_facts(record), "terms": terms}
    message_id = await session.scalar(_END_RUN, {**key, **facts})
    if message_id is None:
        return False
    if record.citations:
        await session.execute(
            _INSERT_CITATIONS,
            {
                "org_id": org_id,
                "message_id": message_id,
                "document_ids": list({citation.document_id for _, citation in record.citations}),
                "citations": to_json(
                    [_citation_facts(event_id, each) for event_id, each in record.citations]
                ),
            },
        )
    return True


def _run_facts(record: RunRecord) -> dict[str, Any]:
    failure = record.failure
    return {
        "status": record.done.status.value,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "is_retryable": failure.is_retryable if failure else None,
        "last_event_id": record.last_event_id,
        "snapshot_id": record.snapshot_id,
        "token_ids": [event_id for event_id, _ in record.tokens],
        "token_offsets": [offset for _, offset in record.tokens],
    }


def _message_facts(record: RunRecord) -> dict[str, Any]:
    start, done = record.start, record.done
    return {
        "content": storable(record.text),
        "model": start.model if start else None,
        "model_version": storable(done.model_version),
        "finish_reason": done.finish_reason,
        "degraded": done.degraded,
        "input_tokens": done.usage.input_tokens,
        "output_tokens": done.usage.output_tokens,
        "is_usage_estimated": done.usage.is_estimated,
        "cost_nano": to_nano(done.cost_usd),
        "answer_sha256": bytes.fromhex(done.answer_sha256),
        "dropped_markers": done.dropped_markers,
        "provider": done.provider,
        "attempts": done.attempts,
        "fallbacks": done.fallbacks,
        "unsupported": [offset for span in done.unsupported for offset in span],
        "sources": to_json([_source_facts(each) for each in start.sources] if start else []),
        "unready_documents": to_json(
            [
                {"document_id": str(each.document_id), "status": each.status}
                for each in start.unready_documents
            ]
            if start
            else []
        ),
        "trace": None if record.trace is None else to_json(record.trace),
    }


def _source_facts(source: SourceInfo) -> dict[str, Any]:
    """Without the file name: it goes with the document."""
    return {
        "n": source.n,
        "document_id": str(source.document_id),
        "chunk_id": str(source.chunk_id),
        "page_start": source.page_start,
        "page_end": source.page_end,
        "score": source.score,
    }


def _citation_facts(event_id: int, citation: Citation) -> dict[str, Any]:
    left_out = {"filename", "text"}
    facts = {
        each.name: getattr(citation, each.name)
        for each in fields(citation)
        if each.name not in left_out
    }
    return {
        **facts,
        "event_id": event_id,
        "document_id": str(citation.document_id),
        "chunk_id": str(citation.chunk_id),
        "missing_numbers": list(citation.missing_numbers),
    }


def events_of(view: RunView) -> list[tuple[int, Event]]:
    """Return the events of a run that has ended, with their ids: the same that were sent live.

    Where the run was closed in the place of a dead process, a Snapshot precedes the last ones.
    Nothing for a run that goes on. File names and quotes of deleted documents are empty.
    """
    record = view.record
    if record is None:
        return []
    events: list[tuple[int, Event]] = []
    if record.start is not None:
        events.append((_start_id_of(record), record.start))
    pieces: list[tuple[int, Event]] = [*_tokens_of(record), *record.citations]
    events += sorted(pieces, key=lambda piece: piece[0])
    if record.snapshot_id is not None:
        start = record.start or Start(
            view.run_id, view.message_id, view.conversation_id, view.model, ()
        )
        cited = tuple(citation for _, citation in record.citations)
        events.append((record.snapshot_id, Snapshot(start, record.text, cited)))
    if record.failure is not None:
        events.append((record.last_event_id - 1, record.failure))
    events.append((record.last_event_id, record.done))
    return events


def _start_id_of(record: RunRecord) -> int:
    """Return the id of the last Start: there are several where another model took over."""
    if record.snapshot_id is not None:
        return START_ID
    ids = [event_id for event_id, _ in (*record.tokens, *record.citations)]
    end_id = record.last_event_id - (0 if record.failure is None else 1)
    return max(START_ID, min([*ids, end_id]) - 1)


def _tokens_of(record: RunRecord) -> Iterator[tuple[int, Token]]:
    ends = [offset for _, offset in record.tokens[1:]] + [len(record.text)]
    for (event_id, offset), end in zip(record.tokens, ends, strict=False):
        yield event_id, Token(record.text[offset:end], offset)


def to_json(value: Any) -> str:
    """Return JSON that Postgres takes."""
    return json.dumps(_storable(value), separators=(",", ":"), ensure_ascii=False)


def _storable(value: Any) -> Any:
    """Return JSON that Postgres takes: a NUL in it, even escaped, would be refused."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each) for each in value]
    return value
