"""Who is in an organization, and as what: list, change, remove, transfer.

Admins manage everybody but owners, and make none; owners do. There is always an owner: changes of
one organization wait for each other.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import sign_ins
from app.accounts.organizations import cancel_runs, confirm_permission, lock_organization
from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.principal import Principal
from app.core.errors import Conflict, NotFound, PermissionDenied, UnprocessableRequest
from app.core.pagination import Cursor, Page
from app.models.accounts import MemberRole, Membership, RefreshToken, User
from app.models.conversations import Run


@dataclass(frozen=True, slots=True)
class Member:
    """`last_seen_at`: when a sign-in of theirs last got an access token; None before the first."""

    user_id: UUID
    email: str
    name: str
    role: MemberRole
    joined_at: datetime
    last_seen_at: datetime | None


async def list_members(
    session: AsyncSession, org_id: UUID, *, cursor: Cursor | None, limit: int
) -> Page[Member]:
    """Return a page of members in the order in which they joined. Needs a system transaction."""
    last_seen = (
        select(func.max(RefreshToken.created_at))
        .where(RefreshToken.org_id == org_id, RefreshToken.user_id == Membership.user_id)
        .correlate(Membership)
        .scalar_subquery()
    )
    query = (
        select(User.id, User.email, User.name, Membership.role, Membership.created_at, last_seen)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.org_id == org_id)
        .order_by(Membership.created_at, Membership.user_id)
    )
    if cursor is not None:
        query = query.where(
            tuple_(Membership.created_at, Membership.user_id) > (cursor.created_at, cursor.id)
        )
    rows = (await session.execute(query.limit(limit + 1))).all()
    items = [
        Member(user_id, email, name, MemberRole(role), joined_at, last_seen_at)
        for user_id, email, name, role, joined_at, last_seen_at in rows
    ]
    return Page.of(items, limit, lambda last: Cursor(last.joined_at, last.user_id).encode())


async def change_role(
    session: AsyncSession, principal: Principal, user_id: UUID, role: MemberRole
) -> None:
    """Give a member another role; noticed within 5 s.

    Raises NotFound, PermissionDenied, and Conflict (`last_owner`). Needs a system transaction.
    """
    await lock_organization(session, principal.org_id)
    own_role = await confirm_permission(session, principal, Permission.MANAGE_ORGANIZATION)
    before = await _get_role(session, principal.org_id, user_id)
    check_may_manage(own_role, before)
    check_may_manage(own_role, role)
    if before is MemberRole.OWNER and role is not MemberRole.OWNER:
        await _refuse_for_last_owner(session, principal.org_id, user_id)
    await _set_role(session, principal.org_id, user_id, role)


async def remove_member(session: AsyncSession, principal: Principal, user_id: UUID) -> None:
    """Remove a member, or oneself: sign-ins, keys, streams and answers in the making end with it.

    Raises NotFound, PermissionDenied, and Conflict (`last_owner`). Needs a system transaction.
    """
    org_id = principal.org_id
    await lock_organization(session, org_id)
    role = await _get_role(session, org_id, user_id)
    if user_id != principal.user_id:
        own_role = await confirm_permission(session, principal, Permission.MANAGE_ORGANIZATION)
        check_may_manage(own_role, role)
    if role is MemberRole.OWNER:
        await _refuse_for_last_owner(session, org_id, user_id)
    await sign_ins.end_in_organization(session, org_id, user_id)
    await cancel_runs(session, Run.org_id == org_id, Run.user_id == user_id)
    # API keys go with the membership.
    await session.execute(
        delete(Membership).where(Membership.org_id == org_id, Membership.user_id == user_id)
    )


async def transfer_organization(session: AsyncSession, principal: Principal, user_id: UUID) -> None:
    """Make a member an owner, and the caller, who is one, an admin.

    Raises NotFound, PermissionDenied, and UnprocessableRequest for a transfer to oneself. Needs a
    system transaction.
    """
    if user_id == principal.user_id:
        raise UnprocessableRequest("You own the organization already.", param="user_id")
    await lock_organization(session, principal.org_id)
    await confirm_permission(session, principal, Permission.OWN_ORGANIZATION)
    await _get_role(session, principal.org_id, user_id)
    await _set_role(session, principal.org_id, user_id, MemberRole.OWNER)
    await _set_role(session, principal.org_id, principal.user_id, MemberRole.ADMIN)


def check_may_manage(own_role: MemberRole, role: MemberRole) -> None:
    """Raise PermissionDenied unless somebody in `own_role` may make and change who is in `role`."""
    needed = (
        Permission.OWN_ORGANIZATION if role is MemberRole.OWNER else Permission.MANAGE_ORGANIZATION
    )
    if needed not in ROLE_PERMISSIONS[own_role]:
        raise PermissionDenied("Only an owner of the organization can do this.")


async def _get_role(session: AsyncSession, org_id: UUID, user_id: UUID) -> MemberRole:
    role = await session.scalar(
        select(Membership.role).where(Membership.org_id == org_id, Membership.user_id == user_id)
    )
    if role is None:
        raise NotFound("There is no such member.")
    return MemberRole(role)


async def _set_role(session: AsyncSession, org_id: UUID, user_id: UUID, role: MemberRole) -> None:
    await session.execute(
        update(Membership)
        .where(Membership.org_id == org_id, Membership.user_id == user_id)
        .values(role=role)
    )


async def _refuse_for_last_owner(session: AsyncSession, org_id: UUID, user_id: UUID) -> None:
    """Raise Conflict when there is no owner but this one. Needs the organization locked."""
    others = await session.scalar(
        select(func.count())
        .select_from(Membership)
        .join(User, User.id == Membership.user_id)
        .where(
            Membership.org_id == org_id,
            Membership.role == MemberRole.OWNER,
            Membership.user_id != user_id,
            User.is_active,
        )
    )
    if not others:
        raise Conflict(
            "An organization needs an owner: make somebody else one first.", code="last_owner"
        )
