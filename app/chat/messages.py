"""Messages of a conversation, as their author reads them; what is thought of answers; traces."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from app.accounts.principal import Principal
from app.chat.conversations import get_conversation
from app.chat.document_texts import Filenames, find_filenames
from app.chat.events import Citation, UnreadyDocument
from app.chat.stored_answers import citation_of, unready_documents_of
from app.core.errors import Conflict, InvalidRequest, NotFound
from app.core.pagination import Page
from app.models.conversations import (
    Conversation,
    ConversationMessage,
    MessageRole,
    Run,
    RunStatus,
    StoredCitation,
)

_LIST_PATH = text("""
    WITH RECURSIVE path AS (
        SELECT id, parent_id FROM messages
        WHERE org_id = :org_id AND conversation_id = :conversation_id AND id = :leaf
        UNION ALL
        SELECT m.id, m.parent_id
        FROM path JOIN messages m ON m.org_id = :org_id AND m.id = path.parent_id)
    SELECT id FROM path ORDER BY id
""")


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message. `siblings` are the branches at its place, itself among them, oldest first.

    `run` is None for a question, and for an answer that the caller brought along. A citation
    without file name and quote is of a document that was deleted.
    """

    message: ConversationMessage
    siblings: tuple[UUID, ...]
    run: Run | None
    citations: tuple[Citation, ...]
    unready_documents: tuple[UnreadyDocument, ...]


async def list_messages(
    session: AsyncSession,
    principal: Principal,
    conversation_id: UUID,
    *,
    leaf: UUID | None,
    cursor: UUID | None,
    limit: int,
) -> Page[MessageView]:
    """Return a page of messages, oldest first, behind the one that `cursor` names.

    Of all branches, or of the one that ends with `leaf`. Raises NotFound.
    """
    await get_conversation(session, principal, conversation_id)
    query = _select_messages(principal.org_id, conversation_id)
    if leaf is not None:
        path = await _list_path(session, principal, conversation_id, leaf)
        ahead = path if cursor is None else [each for each in path if each > cursor]
        query = query.where(ConversationMessage.id.in_(ahead[: limit + 1]))
    elif cursor is not None:
        query = query.where(ConversationMessage.id > cursor)
    rows = (await session.execute(query.limit(limit + 1))).all()
    shown = [(message, run) for message, run in rows[:limit]]
    views = await _complete(session, principal.org_id, conversation_id, shown)
    return Page(views, str(shown[-1][0].id) if len(rows) > limit else None)


async def rate_answer(
    session: AsyncSession,
    principal: Principal,
    conversation_id: UUID,
    message_id: UUID,
    *,
    rating: int | None,
    comment: str | None,
) -> ConversationMessage:
    """Replace what the author thinks of an answer: 1 or -1, and a comment; None and None: nothing.

    Raises NotFound, or InvalidRequest (`not_an_answer`) for a question.
    """
    await get_conversation(session, principal, conversation_id)
    where = (
        ConversationMessage.org_id == principal.org_id,
        ConversationMessage.conversation_id == conversation_id,
        ConversationMessage.id == message_id,
    )
    role = await session.scalar(select(ConversationMessage.role).where(*where))
    if role is None:
        raise NotFound("There is no such message in this conversation.")
    if role != MessageRole.ASSISTANT:
        raise InvalidRequest("Only answers can be rated.", code="not_an_answer")
    is_rated = rating is not None or comment is not None
    rated: ConversationMessage | None = await session.scalar(
        update(ConversationMessage)
        .where(*where)
        .values(rating=rating, comment=comment, rated_at=func.now() if is_rated else None)
        .returning(ConversationMessage)
    )
    # With its conversation it may have been deleted just now.
    if rated is None:
        raise NotFound("There is no such message in this conversation.")
    return rated


@dataclass(frozen=True, slots=True)
class AnswerTrace:
    """How an answer came about: `trace` as it was stored, with file names beside document ids."""

    message_id: UUID
    run_id: UUID
    conversation_id: UUID
    status: RunStatus
    trace: dict[str, Any]


async def get_trace(session: AsyncSession, principal: Principal, message_id: UUID) -> AnswerTrace:
    """Return the trace of an answer. The file name of a document that was deleted is null.

    Raises NotFound, with the code `no_trace` for a message that has none, such as a question, and
    Conflict (`run_active`) while the answer is being written.
    """
    found = await session.execute(
        select(ConversationMessage.trace, ConversationMessage.conversation_id, Run.id, Run.status)
        .join(
            Conversation,
            and_(
                Conversation.org_id == ConversationMessage.org_id,
                Conversation.id == ConversationMessage.conversation_id,
            ),
        )
        .outerjoin(Run, _is_run_of_message())
        .where(
            ConversationMessage.org_id == principal.org_id,
            ConversationMessage.id == message_id,
            Conversation.user_id == principal.user_id,
        )
    )
    row = found.one_or_none()
    if row is None:
        raise NotFound("There is no such message.")
    trace, conversation_id, run_id, status = row
    if status is not None and not RunStatus(status).has_ended:
        raise Conflict("This answer is still being written.", code="run_active")
    if trace is None or run_id is None:
        raise NotFound("This message has no trace.", code="no_trace")
    filenames = await find_filenames(session, principal.org_id, _document_ids_in(trace))
    return AnswerTrace(
        message_id, run_id, conversation_id, RunStatus(status), _with_filenames(trace, filenames)
    )


def _select_messages(org_id: UUID, conversation_id: UUID) -> Select[ConversationMessage, Run]:
    """Messages with their runs, without what is large and not shown."""
    return (
        select(ConversationMessage, Run)
        .outerjoin(Run, _is_run_of_message())
        .where(
            ConversationMessage.org_id == org_id,
            ConversationMessage.conversation_id == conversation_id,
        )
        .options(
            defer(ConversationMessage.terms, raiseload=True),
            defer(ConversationMessage.trace, raiseload=True),
            defer(Run.token_ids, raiseload=True),
            defer(Run.token_offsets, raiseload=True),
        )
        .order_by(ConversationMessage.id)
    )


async def _list_path(
    session: AsyncSession, principal: Principal, conversation_id: UUID, leaf: UUID
) -> Sequence[UUID]:
    """Return what leads to a message, and it, oldest first. Raises NotFound."""
    key = {"org_id": principal.org_id, "conversation_id": conversation_id, "leaf": leaf}
    path = (await session.scalars(_LIST_PATH, key)).all()
    if not path:
        raise NotFound("There is no such message in this conversation.", param="leaf")
    return path


async def _complete(
    session: AsyncSession,
    org_id: UUID,
    conversation_id: UUID,
    shown: Sequence[tuple[ConversationMessage, Run | None]],
) -> list[MessageView]:
    """Add what belongs to the messages of a page, each kind by one statement."""
    messages = [message for message, _ in shown]
    siblings = await _list_siblings(session, org_id, conversation_id, messages)
    citations = await _list_citations(session, org_id, messages)
    filenames = await find_filenames(
        session,
        org_id,
        [
            *(each.document_id for cited in citations.values() for each in cited),
            *(UUID(each["document_id"]) for m in messages for each in m.unready_documents),
        ],
    )
    return [
        MessageView(
            message,
            tuple(siblings[message.parent_id]),
            run,
            tuple(citation_of(each, filenames) for each in citations[message.id]),
            unready_documents_of(message, filenames),
        )
        for message, run in shown
    ]


async def _list_siblings(
    session: AsyncSession,
    org_id: UUID,
    conversation_id: UUID,
    messages: Sequence[ConversationMessage],
) -> defaultdict[UUID | None, list[UUID]]:
    """Return the children of each parent, oldest first; None is the parent of first questions."""
    parents = {message.parent_id for message in messages}
    found: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
    if not parents:
        return found
    below: ColumnElement[bool] = ConversationMessage.parent_id.in_(parents - {None})
    if None in parents:
        below = or_(below, ConversationMessage.parent_id.is_(None))
    rows = await session.execute(
        select(ConversationMessage.parent_id, ConversationMessage.id)
        .where(
            ConversationMessage.org_id == org_id,
            ConversationMessage.conversation_id == conversation_id,
            below,
        )
        .order_by(ConversationMessage.id)
    )
    for parent_id, message_id in rows:
        found[parent_id].append(message_id)
    return found


async def _list_citations(
    session: AsyncSession, org_id: UUID, messages: Sequence[ConversationMessage]
) -> defaultdict[UUID, list[StoredCitation]]:
    answers = [message.id for message in messages if message.role == MessageRole.ASSISTANT]
    found: defaultdict[UUID, list[StoredCitation]] = defaultdict(list)
    if answers:
        rows = await session.scalars(
            select(StoredCitation)
            .where(StoredCitation.org_id == org_id, StoredCitation.message_id.in_(answers))
            .order_by(StoredCitation.message_id, StoredCitation.event_id)
        )
        for citation in rows:
            found[citation.message_id].append(citation)
    return found


def _is_run_of_message() -> ColumnElement[bool]:
    return and_(Run.org_id == ConversationMessage.org_id, Run.message_id == ConversationMessage.id)


def _document_ids_in(value: Any) -> Iterator[UUID]:
    """Yield what stands as `document_id` anywhere in a trace."""
    if isinstance(value, dict):
        if isinstance(document_id := value.get("document_id"), str):
            yield UUID(document_id)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _document_ids_in(each)


def _with_filenames(value: Any, filenames: Filenames) -> Any:
    """Put a `filename` beside each `document_id`."""
    if isinstance(value, list):
        return [_with_filenames(each, filenames) for each in value]
    if not isinstance(value, dict):
        return value
    named = {name: _with_filenames(each, filenames) for name, each in value.items()}
    if isinstance(document_id := value.get("document_id"), str):
        named["filename"] = filenames.get(UUID(document_id))
    return named
