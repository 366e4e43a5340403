"""The caller's organizations: make one, list them, go on in another, receipts of deleted ones."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict

from app.accounts import organizations
from app.accounts.organizations import JoinedOrganization
from app.audit_trail import Noted
from app.dependencies import ResourcesDep, SignedInCaller
from app.models.accounts import MemberRole
from app.routers.auth import AuthenticatorDep, Tokens, show_tokens
from app.routers.organization import (
    OrganizationDeletionOut,
    OrganizationName,
    show_organization_deletion,
)

router = APIRouter(prefix="/api/v1", tags=["organizations"])


class OrganizationCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: OrganizationName


class JoinedOrganizationOut(BaseModel):
    id: UUID
    name: str
    role: MemberRole
    joined_at: datetime


class JoinedOrganizations(BaseModel):
    items: list[JoinedOrganizationOut]


@router.post("/organizations", status_code=status.HTTP_201_CREATED)
async def create_organization(
    body: OrganizationCreate, caller: SignedInCaller, resources: ResourcesDep, note: Noted
) -> JoinedOrganizationOut:
    """Make an organization, which the caller owns. The sign-in stays where it is: see `switch`."""
    async with resources.db.system_transaction() as session:
        created = await organizations.create_organization(session, caller.user_id, name=body.name)
    note.org_id, note.object_id = created.org_id, str(created.org_id)
    note.details = {"name": created.name}
    return show_joined_organization(created)


@router.get("/organizations")
async def list_organizations(
    caller: SignedInCaller, resources: ResourcesDep
) -> JoinedOrganizations:
    """List what the caller is a member of, the one joined first at the top; at most 500."""
    async with resources.db.system_transaction() as session:
        joined = await organizations.list_organizations(session, caller.user_id)
    return JoinedOrganizations(items=[show_joined_organization(found) for found in joined])


@router.post("/organizations/{organization_id}/switch")
async def switch_organization(
    organization_id: UUID, caller: SignedInCaller, authenticator: AuthenticatorDep
) -> Tokens:
    """Go on in another organization, with new tokens. The sign-in's refresh token is used up."""
    return show_tokens(await authenticator.switch(caller, organization_id))


@router.get("/organization-deletions/{organization_deletion_id}")
async def get_organization_deletion(
    organization_deletion_id: UUID, caller: SignedInCaller, resources: ResourcesDep
) -> OrganizationDeletionOut:
    """The receipt of a deletion that the caller asked for."""
    async with resources.db.system_transaction() as session:
        found = await organizations.get_organization_deletion(
            session, caller.user_id, organization_deletion_id
        )
    return show_organization_deletion(found)


def show_joined_organization(joined: JoinedOrganization) -> JoinedOrganizationOut:
    return JoinedOrganizationOut(
        id=joined.org_id, name=joined.name, role=joined.role, joined_at=joined.joined_at
    )
