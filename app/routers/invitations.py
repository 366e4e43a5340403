"""Invitations to the caller's organization, and what is done with one by who got it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, ConfigDict, Field

from app.accounts import invitations
from app.accounts.invitations import NewInvitation, OpenInvitation
from app.accounts.mail import MailFailed
from app.audit_trail import Noted
from app.core.pagination import Cursor
from app.dependencies import (
    Address,
    AttemptsDep,
    OrganizationManager,
    ResourcesDep,
    SignedInCaller,
)
from app.models.accounts import MemberRole
from app.resources import Resources
from app.routers.organizations import JoinedOrganizationOut, show_joined_organization

router = APIRouter(prefix="/api/v1", tags=["members"])


class InvitationCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=320, examples=["ada@example.com"])
    role: MemberRole = MemberRole.MEMBER


class TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=256, description="What follows `/join#` in the link.")


class InvitationOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    role: MemberRole
    inviter: str | None = Field(description="The address of who invites.")
    created_at: datetime
    expires_at: datetime


class InvitationPage(BaseModel):
    items: list[InvitationOut]
    next_cursor: str | None


class Delivery(StrEnum):
    SENT = "sent"  # the mail server took it
    FAILED = "failed"  # it did not: invite again
    LINK = "link"  # there is no mail server: pass `link` on


class CreatedInvitation(InvitationOut):
    delivery: Delivery
    link: str | None = Field(
        description="Where no mail is sent: pass it on, and to nobody else. Shown only here."
    )


class OfferOut(BaseModel):
    """What an invitation offers."""

    model_config = ConfigDict(from_attributes=True)

    organization: str
    email: str
    role: MemberRole
    expires_at: datetime


@router.post("/organization/invitations", status_code=status.HTTP_201_CREATED)
async def create_invitation(
    body: InvitationCreate, caller: OrganizationManager, resources: ResourcesDep, note: Noted
) -> CreatedInvitation:
    """Invite somebody by e-mail, for 7 days. Replaces an earlier invitation of the same address."""
    limits = await resources.limiter.limits_of(caller.org_id)
    async with resources.db.system_transaction() as session:
        new = await invitations.invite(
            session, caller, email=body.email, role=body.role, most_members=limits.members
        )
    note.object_id = str(new.invitation.id)
    note.details = {"email": new.invitation.email, "role": new.invitation.role}
    link = f"{resources.settings.link_base}/join#{new.token}"
    delivery = await _deliver(resources, new, link)
    shown = InvitationOut.model_validate(invitations.show(new.invitation, new.inviter))
    return CreatedInvitation(
        **shown.model_dump(), delivery=delivery, link=link if delivery is Delivery.LINK else None
    )


@router.get("/organization/invitations")
async def list_invitations(
    caller: OrganizationManager,
    resources: ResourcesDep,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> InvitationPage:
    """Those that can still be accepted, the newest first."""
    behind = Cursor.decode(cursor) if cursor else None
    async with resources.db.system_transaction() as session:
        page = await invitations.list_invitations(
            session, caller.org_id, cursor=behind, limit=limit
        )
    return InvitationPage(
        items=[_show(found) for found in page.items], next_cursor=page.next_cursor
    )


@router.delete("/organization/invitations/{invitation_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_invitation(
    invitation_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> None:
    """End an invitation: its link stops working."""
    async with resources.db.system_transaction() as session:
        await invitations.revoke_invitation(session, caller, invitation_id)


@router.post("/invitations/look-up")
async def look_up_invitation(
    body: TokenRequest, resources: ResourcesDep, attempts: AttemptsDep, address: Address
) -> OfferOut:
    """Say what an invitation offers, to who has its link: before they sign in or register."""
    await attempts.look_up(address=address)
    async with resources.db.system_transaction() as session:
        offer = await invitations.look_up(session, body.token)
    return OfferOut.model_validate(offer)


@router.post("/invitations/accept")
async def accept_invitation(
    body: TokenRequest, caller: SignedInCaller, resources: ResourcesDep, note: Noted
) -> JoinedOrganizationOut:
    """Join, as who has the address that was invited. The sign-in stays where it is (`switch`)."""
    async with resources.db.system_transaction() as session:
        org_id = await invitations.find_organization(session, body.token)
    limits = await resources.limiter.limits_of(org_id)
    async with resources.db.system_transaction() as session:
        joined = await invitations.accept(
            session, caller.user_id, body.token, most_members=limits.members
        )
    note.org_id, note.details = joined.org_id, {"role": joined.role}
    return show_joined_organization(joined)


async def _deliver(resources: Resources, new: NewInvitation, link: str) -> Delivery:
    try:
        await resources.mail.send(invitations.compose_mail(new, link=link))
    except MailFailed:
        return Delivery.FAILED
    return Delivery.SENT if resources.mail.is_delivering else Delivery.LINK


def _show(invitation: OpenInvitation) -> InvitationOut:
    return InvitationOut.model_validate(invitation)
