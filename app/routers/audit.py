"""The audit log: an organization's for who manages it, all of it for operators."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.accounts.audit import AuditFilter, AuditLine, read_log
from app.core.text import AnyText
from app.core.times import Moment
from app.dependencies import Operator, OrganizationManager, ResourcesDep

router = APIRouter(prefix="/api/v1", tags=["audit"])


class AuditLineOut(BaseModel):
    """Who did what to which object, from where, and what came of it."""

    id: UUID
    at: datetime
    org_id: UUID | None = Field(description="Null for what concerns no organization.")
    user_id: UUID | None = Field(description="Null for somebody who is not known.")
    email: str | None = Field(description="The user's address today.")
    key_id: UUID | None = Field(description="The API key that it was done with.")
    action: str = Field(description="Such as `document.delete`.")
    object_id: str | None
    address: str = Field(description="Where the request came from, as far as the server knows.")
    client: str = Field(
        description='Untrusted text such as "Chrome on Linux"; `Command line` without an address '
        "where it was done on the server itself."
    )
    result: str = Field(description="`ok`, `denied` (401, 403, 404) or `failed`.")
    status: int = Field(description="The HTTP status of the answer.")
    request_id: str
    details: dict[str, Any]


class AuditLog(BaseModel):
    items: list[AuditLineOut]
    next_cursor: UUID | None


Action = Annotated[AnyText | None, Query(max_length=100)]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/organization/audit-log")
async def read_organization_log(
    caller: OrganizationManager,
    resources: ResourcesDep,
    action: Action = None,
    user_id: UUID | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    cursor: UUID | None = None,
    limit: Limit = 100,
) -> AuditLog:
    """What was done in the organization, newest first."""
    which = AuditFilter(caller.user_id, caller.org_id, action, user_id, since, until)
    return await _read(resources, which, cursor, limit)


@router.get("/admin/audit-log")
async def read_whole_log(
    operator: Operator,
    resources: ResourcesDep,
    org_id: UUID | None = None,
    action: Action = None,
    user_id: UUID | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    cursor: UUID | None = None,
    limit: Limit = 100,
) -> AuditLog:
    """What was done in this deployment, newest first."""
    return await _read(
        resources,
        AuditFilter(operator.user_id, org_id, action, user_id, since, until),
        cursor,
        limit,
    )


async def _read(
    resources: ResourcesDep, which: AuditFilter, cursor: UUID | None, limit: int
) -> AuditLog:
    async with resources.db.system_transaction() as session:
        page = await read_log(session, which, cursor=cursor, limit=limit)
    return AuditLog(items=[_show(line) for line in page.items], next_cursor=page.next_id)


def _show(line: AuditLine) -> AuditLineOut:
    event = line.event
    return AuditLineOut(
        id=event.id,
        at=event.at,
        org_id=event.org_id,
        user_id=event.user_id,
        email=line.email,
        key_id=event.key_id,
        action=event.action,
        object_id=line.object_id,
        address=event.address,
        client=event.client,
        result=_result(event.status),
        status=event.status,
        request_id=event.request_id,
        details=event.details,
    )


def _result(status: int) -> str:
    if status < 400:
        return "ok"
    return "denied" if status in (401, 403, 404) else "failed"
