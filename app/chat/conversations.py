"""Conversations of one user: list, name and delete them. Nobody else sees them."""

from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.core.errors import NotFound
from app.core.ids import new_id
from app.core.pagination import Cursor, Page
from app.models.conversations import Conversation


async def create_conversation(
    session: AsyncSession, principal: Principal, *, title: str
) -> Conversation:
    """Begin an empty conversation. Without a title it is named by its first question."""
    conversation = Conversation(
        org_id=principal.org_id, id=new_id(), user_id=principal.user_id, title=title
    )
    session.add(conversation)
    await session.flush()
    await session.refresh(conversation)
    return conversation


async def list_conversations(
    session: AsyncSession, principal: Principal, *, cursor: Cursor | None, limit: int
) -> Page[Conversation]:
    """Return a page of conversations, the one last asked in first."""
    query = _own(principal).order_by(Conversation.updated_at.desc(), Conversation.id.desc())
    if cursor is not None:
        query = query.where(
            tuple_(Conversation.updated_at, Conversation.id) < (cursor.created_at, cursor.id)
        )
    rows = (await session.scalars(query.limit(limit + 1))).all()
    return Page.of(rows, limit, lambda last: Cursor(last.updated_at, last.id).encode())


async def get_conversation(
    session: AsyncSession, principal: Principal, conversation_id: UUID
) -> Conversation:
    """Raises NotFound, also for another user's conversation."""
    conversation = await session.scalar(_own(principal).where(Conversation.id == conversation_id))
    if conversation is None:
        raise NotFound("There is no such conversation.")
    return conversation


async def rename_conversation(
    session: AsyncSession, principal: Principal, conversation_id: UUID, *, title: str
) -> Conversation:
    """Its place in the list stays. Raises NotFound."""
    renamed: Conversation | None = await session.scalar(
        update(Conversation)
        .where(*_is_own(principal), Conversation.id == conversation_id)
        .values(title=title)
        .returning(Conversation)
    )
    if renamed is None:
        raise NotFound("There is no such conversation.")
    return renamed


async def delete_conversation(
    session: AsyncSession, principal: Principal, conversation_id: UUID
) -> None:
    """Delete a conversation with all that is in it. Raises NotFound.

    The process that writes an answer in it finds the run gone, and stops.
    """
    deleted = await session.scalar(
        delete(Conversation)
        .where(*_is_own(principal), Conversation.id == conversation_id)
        .returning(Conversation.id)
    )
    if deleted is None:
        raise NotFound("There is no such conversation.")


def _own(principal: Principal) -> Select[Conversation]:
    return select(Conversation).where(*_is_own(principal))


def _is_own(principal: Principal) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Conversation.org_id == principal.org_id, Conversation.user_id == principal.user_id
