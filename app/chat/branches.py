"""Where new messages go in a conversation, which is a tree: nothing in it is overwritten."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.chat.titles import make_title
from app.core.analysis import to_tsvector
from app.core.errors import InvalidRequest, NotFound
from app.core.ids import new_id
from app.core.text import storable
from app.llm.base import Message, Role
from app.models.conversations import MessageRole

_ANCESTORS_MAX = 200
# Longer texts are found by their beginning: a tsvector has at most 1 MB.
_INDEXED_CHARS = 50_000
# From here on the analysis takes the event loop's time.
_ANALYZED_INLINE_CHARS = 10_000

_TOUCH_CONVERSATION = text("""
    UPDATE conversations
    SET updated_at = now(), title = CASE WHEN title = '' THEN :title ELSE title END
    WHERE org_id = :org_id AND id = :conversation_id AND user_id = :user_id
    RETURNING true
""")
_NEWEST_MESSAGE = text("""
    SELECT id FROM messages WHERE org_id = :org_id AND conversation_id = :conversation_id
    ORDER BY id DESC LIMIT 1
""")
_FIND_MESSAGE = text("""
    SELECT m.id, m.parent_id, m.role, p.role AS parent_role
    FROM messages m LEFT JOIN messages p ON p.org_id = m.org_id AND p.id = m.parent_id
    WHERE m.org_id = :org_id AND m.conversation_id = :conversation_id AND m.id = :id
""")
_FIND_QUESTION = text("""
    SELECT p.content
    FROM conversations c
    JOIN messages m ON m.org_id = c.org_id AND m.conversation_id = c.id AND m.role = 'assistant'
    JOIN messages p ON p.org_id = m.org_id AND p.id = m.parent_id AND p.role = 'user'
    WHERE c.org_id = :org_id AND c.id = :conversation_id AND c.user_id = :user_id AND m.id = :id
""")
# An answer that failed before its first word would only confuse a model.
_LIST_PATH = text("""
    WITH RECURSIVE path AS (
        SELECT parent_id, role, content, 1 AS depth
        FROM messages WHERE org_id = :org_id AND id = :id
        UNION ALL
        SELECT m.parent_id, m.role, m.content, path.depth + 1
        FROM path JOIN messages m ON m.org_id = :org_id AND m.id = path.parent_id
        WHERE path.depth < :limit)
    SELECT role, content FROM path WHERE content <> '' ORDER BY depth DESC
""")


@dataclass(slots=True)
class Place:
    """Where new messages of a conversation go: below `parent_id`, with ids after `newest_id`.

    `history` is what precedes them. `title`: the conversation itself is to be inserted too.
    """

    conversation_id: UUID
    parent_id: UUID | None = None
    newest_id: UUID | None = None
    history: tuple[Message, ...] = ()
    title: str | None = None

    def next_id(self) -> UUID:
        """Return an id behind all others of the conversation: messages are sorted by it."""
        made = new_id()
        if self.newest_id is not None and made <= self.newest_id:
            made = UUID(int=self.newest_id.int + 1)
        self.newest_id = made
        return made


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be inserted. `terms` is input of the type `tsvector`."""

    id: UUID
    parent_id: UUID | None
    role: str
    content: str
    terms: str


async def find_place(
    session: AsyncSession,
    principal: Principal,
    conversation_id: UUID,
    *,
    question: str | None,
    parent_id: UUID | None,
    replaces: UUID | None,
) -> Place:
    """Hold a conversation and find where the question goes; None asks the replaced answer's again.

    Raises NotFound or InvalidRequest, as `begin_run` does.
    """
    key = {"org_id": principal.org_id, "conversation_id": conversation_id}
    title = make_title(question) if question is not None else ""
    held = await session.scalar(
        _TOUCH_CONVERSATION, {**key, "user_id": principal.user_id, "title": title}
    )
    if held is None:
        raise NotFound("There is no such conversation.", param="conversation_id")
    newest_id = await session.scalar(_NEWEST_MESSAGE, key)
    if replaces is not None:
        if parent_id is not None:
            raise InvalidRequest("Name `replaces` or `parent_id`, not both.", param="parent_id")
        below = _parent_of_replaced(await _get(session, key, replaces, param="replaces"), question)
    elif parent_id is not None:
        below = _check_parent(await _get(session, key, parent_id, param="parent_id"))
    else:
        below = newest_id
    if question is None and replaces is None:
        raise InvalidRequest("There is no question.", param="messages")
    history = await _list_path(session, principal.org_id, below) if below else ()
    return Place(conversation_id, below, newest_id, history)


async def find_question_of(
    session: AsyncSession, principal: Principal, conversation_id: UUID, *, answer_id: UUID
) -> str:
    """Return the question of an answer; "" for what `find_place` will refuse."""
    key = {"org_id": principal.org_id, "conversation_id": conversation_id, "id": answer_id}
    question = await session.scalar(_FIND_QUESTION, {**key, "user_id": principal.user_id})
    return str(question or "")


async def chain_messages(place: Place, messages: Sequence[Message]) -> list[NewMessage]:
    """Return one message or more, each below the one before it."""
    parent_id, chain = place.parent_id, []
    terms = await analyze_messages([message.content for message in messages])
    for message, found_by in zip(messages, terms, strict=True):
        made = NewMessage(place.next_id(), parent_id, message.role.value, message.content, found_by)
        chain.append(made)
        parent_id = made.id
    return chain


async def analyze_messages(texts: Sequence[str]) -> list[str]:
    """Return what each text is found by, as input of the type `tsvector`."""
    beginnings = [storable(each[:_INDEXED_CHARS]) for each in texts]
    if sum(map(len, beginnings)) <= _ANALYZED_INLINE_CHARS:
        return _to_tsvectors(beginnings)
    return await asyncio.to_thread(_to_tsvectors, beginnings)


def _to_tsvectors(texts: Sequence[str]) -> list[str]:
    return [to_tsvector(each, title=None, heading=None) for each in texts]


def _check_parent(parent: Row[Any]) -> UUID:
    if parent.role != MessageRole.ASSISTANT:
        raise InvalidRequest("A question can only follow an answer.", param="parent_id")
    parent_id: UUID = parent.id
    return parent_id


def _parent_of_replaced(replaced: Row[Any], question: str | None) -> UUID | None:
    """Return what a sibling of this message follows."""
    if replaced.role == MessageRole.USER and question is None:
        raise InvalidRequest("Send the question that replaces this one.", param="messages")
    if replaced.role == MessageRole.ASSISTANT:
        if question is not None:
            raise InvalidRequest(
                "An answer is replaced by asking its question again: send none.", param="messages"
            )
        if replaced.parent_role != MessageRole.USER:
            raise InvalidRequest("This message answers no question.", param="replaces")
    parent_id: UUID | None = replaced.parent_id
    return parent_id


async def _get(
    session: AsyncSession, key: dict[str, UUID], message_id: UUID, *, param: str
) -> Row[Any]:
    message = (await session.execute(_FIND_MESSAGE, {**key, "id": message_id})).one_or_none()
    if message is None:
        raise NotFound("There is no such message in this conversation.", param=param)
    return message


async def _list_path(session: AsyncSession, org_id: UUID, message_id: UUID) -> tuple[Message, ...]:
    """Return what leads to a message, and it, the newest 200 of them."""
    key = {"org_id": org_id, "id": message_id, "limit": _ANCESTORS_MAX}
    rows = await session.execute(_LIST_PATH, key)
    return tuple(Message(Role(row.role), row.content) for row in rows)
