"""Users and their organizations: register, look up, change the name and the password."""

import re
import unicodedata
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import Conflict, NotAuthenticated, NotFound, UnprocessableRequest
from app.core.ids import new_id
from app.core.text import clean_line
from app.models.accounts import MemberRole, Membership, Organization, User

# Without what mail headers give a meaning to: `a,b@example.com` are two addresses.
_NO_PART = r"\s@\x00-\x1f\ud800-\udfff\"(),:;<>\[\\\]"
_EMAIL = re.compile(rf"[^{_NO_PART}]{{1,64}}@[^{_NO_PART}.]+(?:\.[^{_NO_PART}.]+)+")
_MAX_EMAIL_CHARS = 254
# Four of them are one character in NFKC at most; and a megabyte is not brought into that form.
_MAX_TYPED_CHARS = 4 * _MAX_EMAIL_CHARS
MAX_NAME_CHARS = 100

_FIRST_USER_LOCK = text("SELECT pg_advisory_xact_lock(7330402112)")


@dataclass(frozen=True, slots=True)
class Account:
    """A user together with the organization they act in."""

    user_id: UUID
    email: str
    name: str
    token_epoch: int
    org_id: UUID
    org_name: str
    role: MemberRole
    is_operator: bool


def normalize_email(email: str) -> str:
    """Return the address case-folded, so that it is found however it is typed.

    Raises UnprocessableRequest for what can't be an address.
    """
    if len(email) <= _MAX_TYPED_CHARS:
        normalized = unicodedata.normalize("NFKC", email).strip().casefold()
        if len(normalized) <= _MAX_EMAIL_CHARS and _EMAIL.fullmatch(normalized):
            return normalized
    raise UnprocessableRequest(
        "This is not an e-mail address.", code="invalid_email", param="email"
    )


def clean_name(name: str) -> str:
    """Return a person's name on one line, in NFC, without invisible characters; perhaps empty.

    Raises ValueError when it is too long.
    """
    cleaned = clean_line(name)
    if len(cleaned) > MAX_NAME_CHARS:
        raise ValueError(f"it is longer than {MAX_NAME_CHARS} characters")
    return cleaned


async def register(
    session: AsyncSession,
    *,
    email: str,
    password_hash: str,
    name: str = "",
    first_is_operator: bool = False,
) -> Account:
    """Add a user with an organization of their own. Raises Conflict when the address is taken.

    With `first_is_operator` a user who is the only one becomes an operator.
    """
    is_operator = first_is_operator and await _is_first(session)
    user = User(
        id=new_id(), email=email, name=name, password_hash=password_hash, is_operator=is_operator
    )
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        raise Conflict("This e-mail address is already registered.", code="email_taken") from error
    return await _give_own_organization(session, user)


async def get_or_give_account(session: AsyncSession, user_id: UUID) -> Account:
    """As `get_account`; who is in no organization any more gets a new one of their own.

    Call it with the user locked.
    """
    account = await find_account(session, user_id)
    if account is not None:
        return account
    user = await session.scalar(select(User).where(User.id == user_id, User.is_active))
    if user is None:
        raise NotFound("There is no such user.")
    return await _give_own_organization(session, user)


async def _give_own_organization(session: AsyncSession, user: User) -> Account:
    organization = Organization(id=new_id(), name=user.email.partition("@")[0])
    session.add(organization)
    await session.flush()
    membership = Membership(org_id=organization.id, user_id=user.id, role=MemberRole.OWNER)
    session.add(membership)
    await session.flush()
    return _to_account(user, organization, membership.role)


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
    """As `find_account`. Raises NotFound."""
    account = await find_account(session, user_id, org_id=org_id)
    if account is None:
        raise NotFound("There is no such user.")
    return account


async def find_account(
    session: AsyncSession, user_id: UUID, *, org_id: UUID | None = None
) -> Account | None:
    """Return the user in `org_id`, or in the organization joined first; None for one who left."""
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
    return None if row is None else _to_account(*row)


def _to_account(user: User, organization: Organization, role: str) -> Account:
    return Account(
        user_id=user.id,
        email=user.email,
        name=user.name,
        token_epoch=user.token_epoch,
        org_id=organization.id,
        org_name=organization.name,
        role=MemberRole(role),
        is_operator=user.is_operator,
    )


async def set_name(session: AsyncSession, user_id: UUID, name: str) -> None:
    await session.execute(update(User).where(User.id == user_id).values(name=name))


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
