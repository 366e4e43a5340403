"""Organizations: make, list, change and delete them. What is removed later says `app/documents`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import sign_ins
from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.principal import Principal
from app.core.errors import Conflict, NotFound, PermissionDenied, UnprocessableRequest
from app.core.ids import new_id
from app.models.accounts import MemberRole, Membership, Organization, User
from app.models.api_keys import ApiKey
from app.models.conversations import Run, RunStatus
from app.models.members import Invitation, OrganizationDeletion

MAX_NAME_CHARS = 100
MAX_OWNED = 20
MAX_LISTED = 500

_GOING_ON = Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING])
# What a member takes along is counted before it goes.
_GO_WITH_MEMBERSHIPS = (Membership, ApiKey)


@dataclass(frozen=True, slots=True)
class JoinedOrganization:
    """An organization as one of its members has it."""

    org_id: UUID
    name: str
    role: MemberRole
    joined_at: datetime


async def get_organization(session: AsyncSession, org_id: UUID) -> Organization:
    """Raises NotFound."""
    organization = await session.scalar(select(Organization).where(Organization.id == org_id))
    if organization is None:
        raise NotFound("There is no such organization.")
    return organization


async def change_organization(
    session: AsyncSession,
    org_id: UUID,
    *,
    name: str | None = None,
    system_prompt: str | None = None,
    rejects_injections: bool | None = None,
) -> Organization:
    """Change what is not None; it holds from the next question on. Raises NotFound."""
    organization = await get_organization(session, org_id)
    if name is not None:
        organization.name = name
    if system_prompt is not None:
        organization.system_prompt = system_prompt
    if rejects_injections is not None:
        organization.rejects_injections = rejects_injections
    await session.flush()
    return organization


async def lock_organization(session: AsyncSession, org_id: UUID) -> Organization:
    """Make changes of who is in it, and as what, wait for each other.

    Others may go on adding rows that belong to it. Raises NotFound, also for a deleted one. Needs
    a system transaction.
    """
    organization = await session.scalar(
        select(Organization)
        .where(Organization.id == org_id, Organization.deleted_at.is_(None))
        .with_for_update(key_share=True)
    )
    if organization is None:
        raise NotFound("There is no such organization.")
    return organization


async def confirm_permission(
    session: AsyncSession, principal: Principal, permission: Permission
) -> MemberRole:
    """Return the role that the caller has now: what the Principal says may be 5 s old.

    Raises PermissionDenied. Call it with the organization locked, so that the role stays.
    """
    role = await find_role(session, principal.org_id, principal.user_id)
    if role is None or permission not in ROLE_PERMISSIONS[role]:
        raise PermissionDenied("Your role in this organization can't do this.")
    return role


async def find_role(session: AsyncSession, org_id: UUID, user_id: UUID) -> MemberRole | None:
    """Return what an active user is in the organization, None for who is not in it."""
    role = await session.scalar(
        select(Membership.role)
        .join(User, User.id == Membership.user_id)
        .where(Membership.org_id == org_id, Membership.user_id == user_id, User.is_active)
    )
    return None if role is None else MemberRole(role)


async def create_organization(
    session: AsyncSession, user_id: UUID, *, name: str
) -> JoinedOrganization:
    """Make an organization that the user owns. Needs a system transaction.

    Raises Conflict for who owns 20 already.
    """
    # So that two calls at once don't both count 19.
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())
    owned = await session.scalar(
        select(func.count()).where(
            Membership.user_id == user_id, Membership.role == MemberRole.OWNER
        )
    )
    if (owned or 0) >= MAX_OWNED:
        raise Conflict(
            f"You own {MAX_OWNED} organizations already: delete one, or transfer it.",
            code="too_many_organizations",
        )
    organization = Organization(id=new_id(), name=name)
    session.add(organization)
    await session.flush()
    membership = Membership(org_id=organization.id, user_id=user_id, role=MemberRole.OWNER)
    session.add(membership)
    await session.flush()
    await session.refresh(membership)
    return JoinedOrganization(organization.id, name, MemberRole.OWNER, membership.created_at)


async def list_organizations(session: AsyncSession, user_id: UUID) -> list[JoinedOrganization]:
    """Return what the user is a member of, in the order in which they joined; at most 500.

    Needs a system transaction.
    """
    rows = await session.execute(
        select(Organization.id, Organization.name, Membership.role, Membership.created_at)
        .join(Membership, Membership.org_id == Organization.id)
        .where(Membership.user_id == user_id)
        .order_by(Membership.created_at, Organization.id)
        .limit(MAX_LISTED)
    )
    return [
        JoinedOrganization(org_id, name, MemberRole(role), joined_at)
        for org_id, name, role, joined_at in rows
    ]


async def delete_organization(
    session: AsyncSession, principal: Principal, *, confirm: str
) -> OrganizationDeletion:
    """Shut the organization for everybody at once; what is in it goes later. Returns the receipt.

    Nobody is a member any more, so their tokens, keys and streams end within 5 s. Raises
    PermissionDenied for who is no owner, and UnprocessableRequest unless `confirm` is its name.
    Needs a system transaction.
    """
    org_id = principal.org_id
    organization = await lock_organization(session, org_id)
    await confirm_permission(session, principal, Permission.OWN_ORGANIZATION)
    if confirm != organization.name:
        raise UnprocessableRequest(
            "To delete the organization, send its name.", code="not_confirmed", param="confirm"
        )
    organization.deleted_at = func.now()
    counts: dict[str, Any] = {
        table.__tablename__: await session.scalar(
            select(func.count()).select_from(table).where(table.org_id == org_id)
        )
        for table in _GO_WITH_MEMBERSHIPS
    }
    await sign_ins.end_in_organization(session, org_id)
    await cancel_runs(session, Run.org_id == org_id)
    await session.execute(delete(Membership).where(Membership.org_id == org_id))
    await session.execute(
        update(Invitation)
        .where(
            Invitation.org_id == org_id,
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
    )
    deletion = OrganizationDeletion(
        id=new_id(), org_id=org_id, requested_by=principal.user_id, row_counts=counts
    )
    session.add(deletion)
    await session.flush()
    await session.refresh(deletion)
    return deletion


async def get_organization_deletion(
    session: AsyncSession, user_id: UUID, deletion_id: UUID
) -> OrganizationDeletion:
    """Return the receipt to who asked for the deletion. Raises NotFound, also for anybody else."""
    deletion = await session.scalar(
        select(OrganizationDeletion).where(
            OrganizationDeletion.id == deletion_id, OrganizationDeletion.requested_by == user_id
        )
    )
    if deletion is None:
        raise NotFound("There is no such deletion.")
    return deletion


async def cancel_runs(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    """Ask whoever makes these answers to stop."""
    await session.execute(
        update(Run)
        .where(*conditions, _GOING_ON)
        .values(cancel_requested_at=func.coalesce(Run.cancel_requested_at, text("now()")))
        .execution_options(synchronize_session=False)
    )
