"""The audit log: append a line, read a page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.core.pagination import Page
from app.core.text import storable
from app.models.accounts import User
from app.models.audit import AuditEvent
from app.models.documents import Document

# What names itself as the client where there was no request, and so no user and no address.
COMMAND_LINE = "Command line"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to which object, from where, and the status of the answer.

    `client` and `object_id` are untrusted text. `details` name what changed, and hold no secret and
    no words of documents or questions.
    """

    action: str
    status: int
    address: str
    client: str
    request_id: str
    org_id: UUID | None = None
    user_id: UUID | None = None
    key_id: UUID | None = None
    object_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines: each that is None lets all through. `org_id` None reads every organization.

    `reader` is who reads: of somebody else's private document not even the id is shown.
    """

    reader: UUID

    org_id: UUID | None = None
    action: str | None = None
    user_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """`email` is the actor's address today, None where there is no such user any more."""

    event: AuditEvent
    email: str | None
    object_id: str | None


async def append(session: AsyncSession, entry: AuditEntry) -> None:
    """Needs a system transaction, or the owner: a line may be about nobody's organization."""
    await session.execute(
        insert(AuditEvent).values(
            id=new_id(),
            org_id=entry.org_id,
            user_id=entry.user_id,
            key_id=entry.key_id,
            action=entry.action,
            object_id=None if entry.object_id is None else storable(entry.object_id),
            address=storable(entry.address),
            client=storable(entry.client),
            status=entry.status,
            request_id=entry.request_id,
            details=entry.details,
        )
    )


async def read_log(
    session: AsyncSession, which: AuditFilter, *, cursor: UUID | None, limit: int
) -> Page[AuditLine]:
    """Return a page, newest first. Needs a system transaction: names of users are in no policy."""
    query = (
        select(AuditEvent, User.email)
        .outerjoin(User, User.id == AuditEvent.user_id)
        .order_by(AuditEvent.id.desc())
        .limit(limit + 1)
    )
    if which.org_id is not None:
        query = query.where(AuditEvent.org_id == which.org_id)
    if which.action is not None:
        query = query.where(AuditEvent.action == which.action)
    if which.user_id is not None:
        query = query.where(AuditEvent.user_id == which.user_id)
    if which.since is not None:
        query = query.where(AuditEvent.at >= which.since)
    if which.until is not None:
        query = query.where(AuditEvent.at < which.until)
    if cursor is not None:
        query = query.where(AuditEvent.id < cursor)
    rows = (await session.execute(query)).all()
    hidden = await _find_hidden(session, [event.object_id for event, _ in rows], which.reader)
    lines = [
        AuditLine(event, email, None if event.object_id in hidden else event.object_id)
        for event, email in rows
    ]
    return Page.of(lines, limit, lambda last: str(last.event.id))


async def _find_hidden(
    session: AsyncSession, object_ids: Sequence[str | None], reader: UUID
) -> set[str]:
    """Return those that are private documents of others."""
    ids = {UUID(each) for each in object_ids if each and _UUID.fullmatch(each)}
    found = await session.scalars(
        select(Document.id).where(
            Document.id.in_(ids), Document.private_to.is_not(None), Document.private_to != reader
        )
    )
    return {str(each) for each in found}
