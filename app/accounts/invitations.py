"""Invitations: a link by mail lets who has the address join once, in the role that was offered."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.mail import Mail
from app.accounts.members import check_may_manage
from app.accounts.organizations import (
    JoinedOrganization,
    confirm_permission,
    find_role,
    lock_organization,
)
from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.principal import Principal
from app.accounts.users import normalize_email
from app.core.db import delete_batch
from app.core.errors import Conflict, NotFound, PermissionDenied, RateLimited
from app.core.ids import new_id
from app.core.pagination import Cursor, Page
from app.core.security import hash_opaque_token, new_opaque_token
from app.models.accounts import MemberRole, Membership, Organization, User
from app.models.members import Invitation

LIFETIME_DAYS = 7
MAX_A_DAY = 200
_DAY_S = 86_400
# Ended ones are there for who asks what became of them.
_KEPT_EXPIRED = timedelta(days=30)
_IS_OPEN: tuple[ColumnElement[bool], ...] = (
    Invitation.accepted_at.is_(None),
    Invitation.revoked_at.is_(None),
    Invitation.expires_at > func.now(),
)


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """`token` is shown only here."""

    invitation: Invitation
    organization: str
    inviter: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """`inviter` is the address of who invites; None for who is no user any more."""

    id: UUID
    email: str
    role: MemberRole
    inviter: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """What an invitation says to who has its token."""

    organization: str
    email: str
    role: MemberRole
    expires_at: datetime


async def invite(
    session: AsyncSession,
    principal: Principal,
    *,
    email: str,
    role: MemberRole,
    most_members: int | None = None,
) -> NewInvitation:
    """Invite somebody, in the place of an earlier invitation of theirs. Needs a system transaction.

    Raises UnprocessableRequest for what can't be an address, PermissionDenied, Conflict
    (`already_member`, `too_many_members`), and RateLimited behind 200 a day.
    """
    address = normalize_email(email)
    org_id = principal.org_id
    organization = await lock_organization(session, org_id)
    own_role = await confirm_permission(session, principal, Permission.MANAGE_ORGANIZATION)
    check_may_manage(own_role, role)
    await _refuse_member(session, org_id, address)
    await _check_room(session, org_id, most_members)
    await _limit(session, org_id)
    await _replace_earlier(session, org_id, address, own_role)
    token = new_opaque_token()
    invitation = Invitation(
        org_id=org_id,
        id=new_id(),
        email=address,
        role=role,
        token_hash=hash_opaque_token(token),
        invited_by=principal.user_id,
        expires_at=datetime.now(UTC) + timedelta(days=LIFETIME_DAYS),
    )
    session.add(invitation)
    await session.flush()
    await session.refresh(invitation)
    inviter = await session.scalar(select(User.email).where(User.id == principal.user_id))
    return NewInvitation(invitation, organization.name, inviter or "", token)


async def list_invitations(
    session: AsyncSession, org_id: UUID, *, cursor: Cursor | None, limit: int
) -> Page[OpenInvitation]:
    """Return a page of those that can still be accepted, the newest first.

    Needs a system transaction.
    """
    query = (
        select(Invitation, User.email)
        .join(User, User.id == Invitation.invited_by)
        .where(Invitation.org_id == org_id, *_IS_OPEN)
        .order_by(Invitation.id.desc())
    )
    if cursor is not None:
        query = query.where(Invitation.id < cursor.id)
    rows = (await session.execute(query.limit(limit + 1))).all()
    items = [show(invitation, inviter) for invitation, inviter in rows]
    return Page.of(items, limit, lambda last: Cursor(last.created_at, last.id).encode())


def show(invitation: Invitation, inviter: str | None) -> OpenInvitation:
    return OpenInvitation(
        invitation.id,
        invitation.email,
        MemberRole(invitation.role),
        inviter,
        invitation.created_at,
        invitation.expires_at,
    )


async def revoke_invitation(
    session: AsyncSession, principal: Principal, invitation_id: UUID
) -> None:
    """End an invitation. Raises NotFound, also for one that has ended, and PermissionDenied.

    Needs a system transaction.
    """
    await lock_organization(session, principal.org_id)
    own_role = await confirm_permission(session, principal, Permission.MANAGE_ORGANIZATION)
    invitation = await session.scalar(
        select(Invitation).where(
            Invitation.org_id == principal.org_id, Invitation.id == invitation_id, *_IS_OPEN
        )
    )
    if invitation is None:
        raise NotFound("There is no such invitation.")
    check_may_manage(own_role, MemberRole(invitation.role))
    invitation.revoked_at = func.now()
    await session.flush()


async def look_up(session: AsyncSession, token: str) -> Offer:
    """Say what an invitation offers. Raises NotFound for one that can't be accepted.

    Needs a system transaction.
    """
    row = (
        await session.execute(
            select(Invitation, Organization.name)
            .join(Organization, Organization.id == Invitation.org_id)
            .where(
                Invitation.token_hash == hash_opaque_token(token),
                *_IS_OPEN,
                Organization.deleted_at.is_(None),
            )
        )
    ).one_or_none()
    if row is None:
        raise _not_valid()
    invitation, organization = row
    await _check_inviter(session, invitation)
    return Offer(organization, invitation.email, MemberRole(invitation.role), invitation.expires_at)


async def find_organization(session: AsyncSession, token: str) -> UUID:
    """Return which organization an invitation is to. Raises NotFound. Needs a system transaction.

    Nothing else has been checked of it.
    """
    of_token = (Invitation.token_hash == hash_opaque_token(token), *_IS_OPEN)
    org_id = await session.scalar(select(Invitation.org_id).where(*of_token))
    if org_id is None:
        raise _not_valid()
    return org_id


async def accept(
    session: AsyncSession, user_id: UUID, token: str, *, most_members: int | None = None
) -> JoinedOrganization:
    """Make the user a member, once. Needs a system transaction.

    Raises NotFound for an invitation that has been used, has ended, or whose inviter may no longer
    invite in that role; PermissionDenied for another's address, and Conflict (`already_member`,
    `too_many_members`).
    """
    of_token = (Invitation.token_hash == hash_opaque_token(token), *_IS_OPEN)
    org_id = await find_organization(session, token)
    organization = await lock_organization(session, org_id)
    # Only now: until then another call may have used it.
    invitation = await session.scalar(select(Invitation).where(*of_token))
    if invitation is None:
        raise _not_valid()
    await _check_inviter(session, invitation)
    email = await session.scalar(select(User.email).where(User.id == user_id, User.is_active))
    if email != invitation.email:
        raise PermissionDenied(
            "The invitation is for another address: sign in with that one.",
            code="invitation_for_another",
        )
    await _check_room(session, org_id, most_members)
    membership = Membership(org_id=org_id, user_id=user_id, role=MemberRole(invitation.role))
    session.add(membership)
    invitation.accepted_at = func.now()
    try:
        await session.flush()
    except IntegrityError as error:
        raise _already_member() from error
    await session.refresh(membership)
    return JoinedOrganization(
        org_id, organization.name, MemberRole(membership.role), membership.created_at
    )


async def delete_expired(session: AsyncSession) -> int:
    """Delete invitations that expired more than 30 days ago, 10,000 at most. Returns how many."""
    return await delete_batch(
        session, Invitation, Invitation.expires_at < func.now() - _KEPT_EXPIRED
    )


def compose_mail(new: NewInvitation, *, link: str) -> Mail:
    """Return what the invited person reads. Names are other people's text, on one line each."""
    role = MemberRole(new.invitation.role)
    return Mail(
        to=new.invitation.email,
        subject=f"Invitation to {new.organization}",
        text=(
            f"{new.inviter} invites you to the organization “{new.organization}” as {role}.\n\n"
            f"To join, open this link and sign in as {new.invitation.email}:\n\n{link}\n\n"
            f"The link works once, until {new.invitation.expires_at:%d %B %Y}. If you don't know"
            " who sent this, you need not do anything.\n"
        ),
        link=link,
    )


async def _refuse_member(session: AsyncSession, org_id: UUID, email: str) -> None:
    is_member = (
        select(Membership.user_id)
        .join(User, User.id == Membership.user_id)
        .where(Membership.org_id == org_id, User.email == email)
    )
    if await session.scalar(is_member) is not None:
        raise _already_member()


async def _check_room(session: AsyncSession, org_id: UUID, most_members: int | None) -> None:
    """Raise Conflict where there are as many members as may be. Needs the organization locked."""
    if most_members is None:
        return
    members = await session.scalar(select(func.count()).where(Membership.org_id == org_id))
    if (members or 0) >= most_members:
        raise Conflict(
            f"The organization's plan has {most_members} members: it takes another plan.",
            code="too_many_members",
        )


async def _limit(session: AsyncSession, org_id: UUID) -> None:
    """Each of them is a mail to somebody who may not want it."""
    sent = await session.scalar(
        select(func.count()).where(
            Invitation.org_id == org_id, Invitation.created_at > func.now() - timedelta(days=1)
        )
    )
    if (sent or 0) >= MAX_A_DAY:
        raise RateLimited(
            f"An organization can send {MAX_A_DAY} invitations a day.",
            code="too_many_invitations",
            retry_after_s=_DAY_S / MAX_A_DAY,
        )


async def _replace_earlier(
    session: AsyncSession, org_id: UUID, email: str, own_role: MemberRole
) -> None:
    earlier = await session.execute(
        update(Invitation)
        .where(
            Invitation.org_id == org_id,
            Invitation.email == email,
            # Those that have expired, too: there can be one.
            Invitation.accepted_at.is_(None),
            Invitation.revoked_at.is_(None),
        )
        .values(revoked_at=func.now())
        .returning(Invitation.role, Invitation.expires_at > func.now())
    )
    for role, is_open in earlier:
        if is_open:
            check_may_manage(own_role, MemberRole(role))


async def _check_inviter(session: AsyncSession, invitation: Invitation) -> None:
    """Raise NotFound unless the inviter could still invite in this role."""
    inviter_role = await find_role(session, invitation.org_id, invitation.invited_by)
    if inviter_role is None or Permission.MANAGE_ORGANIZATION not in ROLE_PERMISSIONS[inviter_role]:
        raise _not_valid()
    try:
        check_may_manage(inviter_role, MemberRole(invitation.role))
    except PermissionDenied as error:
        raise _not_valid() from error


def _not_valid() -> NotFound:
    return NotFound(
        "The invitation is not valid any more: ask for a new one.", code="invitation_not_valid"
    )


def _already_member() -> Conflict:
    return Conflict("This person is a member already.", code="already_member")
