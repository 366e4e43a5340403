"""The members of the caller's organization: list, change, remove, hand it over."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, ConfigDict

from app.accounts import members
from app.accounts.permissions import Permission
from app.audit_trail import Noted
from app.core.pagination import Cursor
from app.dependencies import (
    OrganizationManager,
    OrganizationOwner,
    OrganizationReader,
    ResourcesDep,
    check_permission,
)
from app.documents.deletion import delete_private_documents
from app.models.accounts import MemberRole

router = APIRouter(prefix="/api/v1/organization", tags=["members"])


class MemberOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    user_id: UUID
    email: str
    name: str
    role: MemberRole
    joined_at: datetime
    last_seen_at: datetime | None


class MemberPage(BaseModel):
    items: list[MemberOut]
    next_cursor: str | None


class RolePatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: MemberRole


class TransferRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user_id: UUID


@router.get("/members")
async def list_members(
    caller: OrganizationReader,
    resources: ResourcesDep,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MemberPage:
    """In the order in which they joined."""
    behind = Cursor.decode(cursor) if cursor else None
    async with resources.db.system_transaction() as session:
        page = await members.list_members(session, caller.org_id, cursor=behind, limit=limit)
    items = [MemberOut.model_validate(member) for member in page.items]
    return MemberPage(items=items, next_cursor=page.next_cursor)


@router.patch("/members/{user_id}", status_code=status.HTTP_204_NO_CONTENT)
async def change_member(
    user_id: UUID,
    body: RolePatch,
    caller: OrganizationManager,
    resources: ResourcesDep,
    note: Noted,
) -> None:
    """Give a member another role; it holds within 5 s. Only owners make or change owners."""
    async with resources.db.system_transaction() as session:
        await members.change_role(session, caller, user_id, body.role)
    note.details = {"role": body.role}
    resources.principals.forget(caller.org_id, user_id)


@router.delete("/members/{user_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_member(user_id: UUID, caller: OrganizationReader, resources: ResourcesDep) -> None:
    """Remove a member, or leave. Their tokens, keys and streams here end within 5 s.

    Documents that they share stay; those private to them are deleted, with receipts.
    """
    if user_id != caller.user_id or caller.key_id is not None:
        check_permission(caller, Permission.MANAGE_ORGANIZATION)
    async with resources.db.system_transaction() as session:
        await members.remove_member(session, caller, user_id)
        await delete_private_documents(session, caller.org_id, user_id, requested_by=caller.user_id)
    resources.principals.forget(caller.org_id, user_id)


@router.post("/transfer", status_code=status.HTTP_204_NO_CONTENT)
async def transfer_organization(
    body: TransferRequest, caller: OrganizationOwner, resources: ResourcesDep, note: Noted
) -> None:
    """Make a member an owner, and the caller an admin."""
    async with resources.db.system_transaction() as session:
        await members.transfer_organization(session, caller, body.user_id)
    note.object_id = str(body.user_id)
    for user_id in (body.user_id, caller.user_id):
        resources.principals.forget(caller.org_id, user_id)
