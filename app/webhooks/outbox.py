"""Tells webhooks what triggers do not see."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.webhooks import WebhookEventType

_EMIT = text("SELECT emit_webhook_event(:org_id, :type, :data)").bindparams(
    bindparam("data", type_=JSONB)
)


async def emit(
    session: AsyncSession, org_id: UUID, type_: WebhookEventType, data: Mapping[str, Any]
) -> None:
    """Queue an event for every webhook that wants it; it is sent after the commit.

    Nothing where the transaction is of another organization. Documents and runs have triggers.
    """
    values = {"org_id": org_id, "type": type_.value, "data": dict(data)}
    await session.execute(_EMIT, values)
