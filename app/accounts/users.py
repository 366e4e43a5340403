"""Users and their organizations: register, look up, change the password."""

import re
import unicodedata
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, NotAuthenticated, NotFound, UnprocessableRequest
from app.core.ids import new_id
from app.models.accounts import MemberRole, Membership, Organization, User

_EMAIL = re.compile(r"[^\s@\x00-\x1f]{1,64}@[^\s@.\x00-\x1f]+(?:\.[^\s@.\x00-\x1f]+)+")
_MAX_EMAIL_CHARS = 254

_FIRST_USER_LOCK = text("SELECT pg_advisory_xact_lock(7330402112)")


@dataclass(frozen=True, slots=True)
class Account:
    """A user together with the organization they act in."""

    user_id: UUID
    email: str
    token_epoch: int
    org_id: UUID
    org_name: str
    role: MemberRole


def normalize_email(email: str) -> str:
    """Return the address case-folded, so that it is found however it is typed.

    Raises UnprocessableRequest for what can't be an address.
    """
    normalized = unicodedata.normalize("NFKC", email).strip().casefold()
    if len(normalized) > _MAX_EMAIL_CHARS or not _EMAIL.fullmatch(normalized):
        raise UnprocessableRequest(
            "This is not an e-mail address.", code="invalid_email", param="email"
        )
    if any("\ud800" <= c <= "\udfff" for c in normalized):
        raise UnprocessableRequest(
            "This is not an e-mail address.", code="invalid_email", param="email"
        )
    return normalized


async def register(
    session: AsyncSession, *, email: str, password_hash: str, first_is_operator: bool = False
) -> Account:
    """Add a user with an organization of their own. Raises Conflict when the address is taken.

    With `first_is_operator` a user who is the only one becomes an operator.
    """
    is_operator = first_is_operator and await _is_first(session)
    user = User(id=new_id(), email=email, password_hash=password_hash, is_operator=is_operator)
    organization = Organization(id=new_id(), name=email.partition("@")[0])
    membership = Membership(org_id=organization.id, user_id=user.id, role=MemberRole.OWNER)
    session.add_all([user, organization])
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict("This e-mail address is already registered.", code="email_taken") from error
    session.add(membership)
    await session.flush()
    return Account(
        user.id, user.email, 0, organization.id, organization.name, MemberRole(membership.role)
    )


async def _is_first(session: AsyncSession) -> bool:
    """Whether there is no user yet. If so, others who register wait for this transaction."""
    anybody = select(select(User.id).exists())
    if await session.scalar(anybody):
        return False
    await session.execute(_FIRST_USER_LOCK)
    return not await session.scalar(anybody)


async def find_credentials(session: AsyncSession, email: str) -> tuple[UUID, str] | None:
    """Return (user id, password hash) of an active user."""
    row = (
        await session.execute(
            select(User.id, User.password_hash).where(User.email == email, User.is_active)
        )
    ).one_or_none()
    return (row.id, row.password_hash) if row else None


async def confirm_credentials(session: AsyncSession, user_id: UUID, password_hash: str) -> None:
    """Raise NotAuthenticated when the password was changed since `find_credentials`.

    Locks the user until the transaction ends, so that it can't be changed before a sign-in counts.
    """
    confirmed = await session.scalar(
        select(User.id)
        .where(User.id == user_id, User.password_hash == password_hash, User.is_active)
        .with_for_update()
    )
    if confirmed is None:
        raise NotAuthenticated("Wrong e-mail address or password.", code="invalid_credentials")


async def get_account(
    session: AsyncSession, user_id: UUID, *, org_id: UUID | None = None
) -> Account:
    """Return the user in `org_id`, or in the organization joined first. Raises NotFound."""
    query = (
        select(User, Organization, Membership.role)
        .join(Membership, Membership.user_id == User.id)
        .join(Organization, Organization.id == Membership.org_id)
        .where(User.id == user_id, User.is_active)
        .order_by(Membership.created_at)
        .limit(1)
    )
    if org_id is not None:
        query = query.where(Organization.id == org_id)
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise NotFound("There is no such user.")
    user, organization, role = row
    return Account(
        user.id,
        user.email,
        user.token_epoch,
        organization.id,
        organization.name,
        MemberRole(role),
    )


async def get_password_hash(session: AsyncSession, user_id: UUID) -> str:
    password_hash = await session.scalar(select(User.password_hash).where(User.id == user_id))
    if password_hash is None:
        raise NotFound("There is no such user.")
    return password_hash


async def set_password(session: AsyncSession, user_id: UUID, password_hash: str) -> None:
    """Store a new hash and end every access token that was issued before."""
    await session.execute(
        update(User)
        .where(User.id == user_id)
        .values(password_hash=password_hash, token_epoch=User.token_epoch + 1)
    )
