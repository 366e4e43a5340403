"""Responses of OpenAI's API that are kept: runs in conversations, and what else was asked with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, delete, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.principal import Principal
from app.chat.conversations import delete_conversation
from app.core.errors import NotFound
from app.models.conversations import Run
from app.models.documents import StoredChunk
from app.models.vector_stores import OpenAIResponse

_INPUT = text("""
    WITH RECURSIVE above (id, parent_id, depth) AS (
        SELECT id, parent_id, 0 FROM messages WHERE org_id = :org_id AND id = :message_id
        UNION ALL
        SELECT m.id, m.parent_id, above.depth + 1
        FROM messages m JOIN above ON m.org_id = :org_id AND m.id = above.parent_id)
    SELECT m.id, m.role, m.content
    FROM above JOIN messages m ON m.org_id = :org_id AND m.id = above.id
    WHERE above.depth > 0 ORDER BY above.depth DESC
""")


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """`run` is the making of its answer; `request` what the response repeats of what was sent."""

    run_id: UUID
    conversation_id: UUID
    message_id: UUID
    previous_run_id: UUID | None
    request: Mapping[str, Any]
    created_at_s: int


def keep_response(
    session: AsyncSession,
    principal: Principal,
    run_id: UUID,
    *,
    previous_run_id: UUID | None,
    request: Mapping[str, Any],
    created_at: datetime,
) -> None:
    """Have the answer of a run found as a response, from the commit on."""
    session.add(
        OpenAIResponse(
            org_id=principal.org_id,
            run_id=run_id,
            previous_run_id=previous_run_id,
            request=dict(request),
            created_at=created_at,
        )
    )


async def get_response(
    session: AsyncSession, principal: Principal, run_id: UUID, *, param: str = "response_id"
) -> KeptResponse:
    """Raises NotFound, also for another user's response."""
    row = (
        await session.execute(
            select(OpenAIResponse, Run.conversation_id, Run.message_id)
            .join(Run, and_(Run.org_id == OpenAIResponse.org_id, Run.id == OpenAIResponse.run_id))
            .where(
                OpenAIResponse.org_id == principal.org_id,
                OpenAIResponse.run_id == run_id,
                Run.user_id == principal.user_id,
            )
        )
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such response.", param=param)
    kept, conversation_id, message_id = row
    return KeptResponse(
        kept.run_id,
        conversation_id,
        message_id,
        kept.previous_run_id,
        kept.request,
        int(kept.created_at.timestamp()),
    )


async def find_end(session: AsyncSession, principal: Principal, run_id: UUID) -> datetime | None:
    """Return when the making of a response ended; None while it goes on, or when it is gone."""
    finished_at: datetime | None = await session.scalar(
        select(Run.finished_at).where(
            Run.org_id == principal.org_id, Run.id == run_id, Run.user_id == principal.user_id
        )
    )
    return finished_at


@dataclass(frozen=True, slots=True)
class InputItem:
    """A message that a response was made from. `role` is user or assistant."""

    id: UUID
    role: str
    text: str


async def find_input(
    session: AsyncSession, principal: Principal, kept: KeptResponse
) -> list[InputItem]:
    """Return the messages above an answer, the question last.

    What a system message said is for one response alone: it is not stored.
    """
    rows = await session.execute(
        _INPUT, {"org_id": principal.org_id, "message_id": kept.message_id}
    )
    return [InputItem(row.id, row.role, row.content) for row in rows]


async def delete_response(session: AsyncSession, principal: Principal, run_id: UUID) -> None:
    """Have it found no more. With the last one of a conversation that goes too. Raises NotFound.

    Until then its words stay: they are what the next ones were asked after.
    """
    kept = await get_response(session, principal, run_id)
    await session.execute(
        delete(OpenAIResponse).where(
            OpenAIResponse.org_id == principal.org_id, OpenAIResponse.run_id == run_id
        )
    )
    others = exists().where(
        Run.org_id == principal.org_id,
        Run.conversation_id == kept.conversation_id,
        OpenAIResponse.org_id == Run.org_id,
        OpenAIResponse.run_id == Run.id,
    )
    if not await session.scalar(select(others)):
        await delete_conversation(session, principal, kept.conversation_id)


async def find_passages(
    session: AsyncSession, org_id: UUID, chunk_ids: Iterable[UUID]
) -> dict[UUID, str]:
    """Return the texts of chunks by id; one that was replaced or deleted since has none."""
    rows = await session.execute(
        select(StoredChunk.id, StoredChunk.text).where(
            StoredChunk.org_id == org_id, StoredChunk.id.in_(set(chunk_ids))
        )
    )
    return {row.id: row.text for row in rows}
