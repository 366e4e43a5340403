"""Sign-ins: families of refresh tokens. Each is used once; using one twice ends the family."""

import base64
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarResult, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import delete_batch
from app.core.errors import NotFound
from app.core.ids import new_id
from app.core.security import hash_opaque_token, new_opaque_token
from app.models.accounts import Membership, RefreshToken, User

MAX_LISTED = 100
# An access token of an ended sign-in counts as long as nothing says that this ended: up to a day.
_KEPT_EXPIRED = timedelta(days=1)
# How many tokens back one within its grace may be: each costs a query.
_MAX_LATE = 16
_SUCCESSOR_LABEL = b"footnote refresh token 1\0"
# The one token of each family that can still be used.
_IS_LIVE = (
    RefreshToken.used_at.is_(None),
    RefreshToken.revoked_at.is_(None),
    RefreshToken.expires_at > func.now(),
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What using a refresh token gave."""

    user_id: UUID
    org_id: UUID
    family_id: UUID
    token: str


@dataclass(frozen=True, slots=True)
class EndedSignIn:
    """Whose it was, and the organization that it was in when the token was given."""

    user_id: UUID
    org_id: UUID


@dataclass(frozen=True, slots=True)
class ActiveSignIn:
    """A family that has not ended. `client` is untrusted text, empty where it is not known.

    `last_used_at`: when it last gave an access token.
    """

    id: UUID
    client: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


async def start(
    session: AsyncSession, *, org_id: UUID, user_id: UUID, lifetime_days: int, client: str
) -> tuple[UUID, str]:
    """Begin a family. Returns its id and its first token, which is shown only here."""
    family_id = new_id()
    token = new_opaque_token()
    session.add(
        RefreshToken(
            id=new_id(),
            org_id=org_id,
            user_id=user_id,
            family_id=family_id,
            token_hash=hash_opaque_token(token),
            expires_at=_expiry(lifetime_days),
            client=client,
        )
    )
    await session.flush()
    return family_id, token


async def rotate(
    session: AsyncSession,
    token: str,
    *,
    key: str,
    lifetime_days: int,
    grace_s: float = 0,
    org_id: UUID | None = None,
) -> Rotation | None:
    """Use a token up and return its successor; None when it is unknown, expired, used or revoked.

    A used token that comes again was stolen by one of the two: the whole family is revoked, and
    the caller must commit that before it answers. Within `grace_s` of its use it gives the same
    successor once more, as long as nobody used that: the tabs of a browser share one token. So
    there is never a second line of tokens, and a thief's use of one still shows with the next.

    With `org_id` the successor is for that organization, whose member the user must be; the one
    that is given once more may still be for another.
    """
    token_hash = hash_opaque_token(token)
    await _lock_owner(session, token_hash)
    # One conditional UPDATE: of twenty parallel calls with one token exactly one gets the row.
    used = (
        await session.execute(
            update(RefreshToken)
            .where(RefreshToken.token_hash == token_hash, *_IS_LIVE)
            .values(used_at=func.now())
            .returning(RefreshToken)
        )
    ).scalar_one_or_none()
    if used is not None:
        token = _successor_of(token, key)
        return await _succeed(session, used, token, lifetime_days, org_id or used.org_id)
    repeated = await _find_successor(session, token, key=key, grace_s=grace_s)
    if repeated is None:
        is_used = (RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_not(None))
        await _revoke(session, _in_family_of(*is_used))
    return repeated


async def is_of(session: AsyncSession, token: str, user_id: UUID) -> bool:
    """Say whether a refresh token, good or not, is one of this user's."""
    owner = select(RefreshToken.user_id).where(RefreshToken.token_hash == hash_opaque_token(token))
    return await session.scalar(owner) == user_id


async def switch(
    session: AsyncSession, user_id: UUID, family_id: UUID, *, org_id: UUID, lifetime_days: int
) -> Rotation | None:
    """Use the live token of a family up, for one of another organization. None if it has ended.

    The user must be a member there.
    """
    await lock_user(session, user_id)
    used = (
        await session.execute(
            update(RefreshToken)
            .where(RefreshToken.user_id == user_id, RefreshToken.family_id == family_id, *_IS_LIVE)
            .values(used_at=func.now())
            .returning(RefreshToken)
        )
    ).scalar_one_or_none()
    if used is None:
        return None
    return await _succeed(session, used, new_opaque_token(), lifetime_days, org_id)


async def list_active(session: AsyncSession, user_id: UUID) -> list[ActiveSignIn]:
    """Return the 100 of a user that were used last, the newest use first."""
    rows: ScalarResult[RefreshToken] = await session.scalars(
        select(RefreshToken)
        .where(RefreshToken.user_id == user_id, *_IS_LIVE)
        .order_by(RefreshToken.created_at.desc(), RefreshToken.id.desc())
        .limit(MAX_LISTED)
    )
    return [
        ActiveSignIn(
            id=row.family_id,
            client=row.client,
            created_at=row.signed_in_at,
            last_used_at=row.created_at,
            expires_at=row.expires_at,
        )
        for row in rows
    ]


async def end(session: AsyncSession, token: str) -> EndedSignIn | None:
    """Revoke the family of a token. Returns whose it was; an unknown token is fine: None."""
    is_it = RefreshToken.token_hash == hash_opaque_token(token)
    await _lock_owner(session, hash_opaque_token(token))
    whose = select(RefreshToken.user_id, RefreshToken.org_id).where(is_it)
    found = (await session.execute(whose)).one_or_none()
    await _revoke(session, _in_family_of(is_it))
    return None if found is None else EndedSignIn(*found)


async def end_one(session: AsyncSession, user_id: UUID, family_id: UUID) -> None:
    """Revoke one family of a user. Raises NotFound, also for one that has ended."""
    await lock_user(session, user_id)
    family = (RefreshToken.user_id == user_id, RefreshToken.family_id == family_id)
    if not await session.scalar(select(func.count()).where(*family, *_IS_LIVE)):
        raise NotFound("There is no such sign-in.")
    await _revoke(session, *family)


async def end_others(session: AsyncSession, user_id: UUID, family_id: UUID) -> int:
    """Revoke a user's families but this one. Returns how many had not ended."""
    await lock_user(session, user_id)
    others = (RefreshToken.user_id == user_id, RefreshToken.family_id != family_id)
    ended = await session.scalar(select(func.count()).where(*others, *_IS_LIVE))
    await _revoke(session, *others)
    return ended or 0


async def end_all(session: AsyncSession, user_id: UUID) -> None:
    await _revoke(session, RefreshToken.user_id == user_id)


async def end_in_organization(
    session: AsyncSession, org_id: UUID, user_id: UUID | None = None
) -> None:
    """End the sign-ins of a member that are in this organization, or those of all members.

    One that has moved on to another organization stays: only the token that could still be used
    says where a sign-in is. Call it while they are members.
    """
    members = select(Membership.user_id).where(Membership.org_id == org_id)
    if user_id is not None:
        members = members.where(Membership.user_id == user_id)
    # In one order, so that two organizations don't wait for each other.
    await session.execute(
        select(User.id).where(User.id.in_(members)).order_by(User.id).with_for_update()
    )
    await _revoke(
        session,
        RefreshToken.org_id == org_id,
        RefreshToken.user_id.in_(members),
        RefreshToken.used_at.is_(None),
    )


async def delete_expired(session: AsyncSession) -> int:
    """Delete tokens that expired more than a day ago, 10,000 at most. Returns how many.

    Any number of processes may be at it.
    """
    return await delete_batch(
        session, RefreshToken, RefreshToken.expires_at < func.now() - _KEPT_EXPIRED
    )


async def _lock_owner(session: AsyncSession, token_hash: bytes) -> None:
    """Make this user's changes wait for each other.

    Else a family could be revoked while its next token, not visible yet, is being added.
    """
    owner = select(RefreshToken.user_id).where(RefreshToken.token_hash == token_hash)
    await session.execute(
        select(User.id).where(User.id == owner.scalar_subquery()).with_for_update()
    )


async def lock_user(session: AsyncSession, user_id: UUID) -> None:
    """As `_lock_owner`. Nobody removes the user from an organization meanwhile."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())


async def _succeed(
    session: AsyncSession, used: RefreshToken, token: str, lifetime_days: int, org_id: UUID
) -> Rotation:
    session.add(
        RefreshToken(
            id=new_id(),
            org_id=org_id,
            user_id=used.user_id,
            family_id=used.family_id,
            token_hash=hash_opaque_token(token),
            expires_at=_expiry(lifetime_days),
            client=used.client,
            signed_in_at=used.signed_in_at,
        )
    )
    await session.flush()
    return Rotation(used.user_id, org_id, used.family_id, token)


async def _find_successor(
    session: AsyncSession, token: str, *, key: str, grace_s: float
) -> Rotation | None:
    """Return the live token behind one that was used at most `grace_s` ago, None without one.

    Between them there may be others, all used within that time, but not many.
    """
    if not grace_s:
        return None
    used_lately = RefreshToken.used_at > func.now() - timedelta(seconds=grace_s)
    for _ in range(_MAX_LATE):
        row = await session.scalar(
            select(RefreshToken).where(
                RefreshToken.token_hash == hash_opaque_token(token),
                or_(RefreshToken.used_at.is_(None), used_lately),
                RefreshToken.revoked_at.is_(None),
                RefreshToken.expires_at > func.now(),
            )
        )
        if row is None:
            return None
        if row.used_at is None:
            return Rotation(row.user_id, row.org_id, row.family_id, token)
        token = _successor_of(token, key)
    return None


def _successor_of(token: str, key: str) -> str:
    """Return the token that follows: 256 bits that only who has the key can tell beforehand.

    The database holds no token, so this is how the same one can be given twice.
    """
    message = _SUCCESSOR_LABEL + token.encode("utf-8", "surrogatepass")
    digest = hmac.digest(key.encode(), message, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _expiry(lifetime_days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=lifetime_days)


def _in_family_of(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Select all tokens of the families in which one meets the conditions."""
    return RefreshToken.family_id.in_(select(RefreshToken.family_id).where(*conditions))


async def _revoke(session: AsyncSession, *conditions: ColumnElement[bool]) -> None:
    await session.execute(
        update(RefreshToken)
        .where(*conditions, RefreshToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )
