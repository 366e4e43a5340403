"""Sign-ins: families of refresh tokens. Each is used once; using one twice ends the family."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.core.security import hash_opaque_token, new_opaque_token
from app.models.accounts import RefreshToken, User


@dataclass(frozen=True, slots=True)
class Rotation:
    """What using a refresh token gave."""

    user_id: UUID
    org_id: UUID
    family_id: UUID
    token: str


async def start(
    session: AsyncSession, *, org_id: UUID, user_id: UUID, lifetime_days: int
) -> tuple[UUID, str]:
    """Begin a family. Returns its id and its first token, which is shown only here."""
    family_id = new_id()
    token = _add(session, org_id, user_id, family_id, lifetime_days)
    await session.flush()
    return family_id, token


async def rotate(session: AsyncSession, token: str, *, lifetime_days: int) -> Rotation | None:
    """Use a token up and return its successor; None when it is unknown, expired, used or revoked.

    A used token that comes again was stolen by one of the two: the whole family is revoked, and
    the caller must commit that before it answers.
    """
    token_hash = hash_opaque_token(token)
    await _lock_owner(session, token_hash)
    # One conditional UPDATE: of twenty parallel calls with one token exactly one gets the row.
    used = (
        await session.execute(
            update(RefreshToken)
            .where(
                RefreshToken.token_hash == token_hash,
                RefreshToken.used_at.is_(None),
                RefreshToken.revoked_at.is_(None),
                RefreshToken.expires_at > func.now(),
            )
            .values(used_at=func.now())
            .returning(RefreshToken.user_id, RefreshToken.org_id, RefreshToken.family_id)
        )
    ).one_or_none()
    if used is not None:
        successor = _add(session, used.org_id, used.user_id, used.family_id, lifetime_days)
        await session.flush()
        return Rotation(used.user_id, used.org_id, used.family_id, successor)
    await _revoke_family_of(session, token_hash, only_if_used=True)
    return None


async def end(session: AsyncSession, token: str) -> None:
    """Revoke the family of a token; an unknown token is fine."""
    token_hash = hash_opaque_token(token)
    await _lock_owner(session, token_hash)
    await _revoke_family_of(session, token_hash, only_if_used=False)


async def end_all(session: AsyncSession, user_id: UUID) -> None:
    await session.execute(
        update(RefreshToken)
        .where(RefreshToken.user_id == user_id, RefreshToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def _lock_owner(session: AsyncSession, token_hash: bytes) -> None:
    """Make this user's changes wait for each other.

    Else a family could be revoked while its next token, not visible yet, is being added.
    """
    owner = select(RefreshToken.user_id).where(RefreshToken.token_hash == token_hash)
    await session.execute(
        select(User.id).where(User.id == owner.scalar_subquery()).with_for_update()
    )


def _add(
    session: AsyncSession, org_id: UUID, user_id: UUID, family_id: UUID, lifetime_days: int
) -> str:
    token = new_opaque_token()
    session.add(
        RefreshToken(
            id=new_id(),
            org_id=org_id,
            user_id=user_id,
            family_id=family_id,
            token_hash=hash_opaque_token(token),
            expires_at=datetime.now(UTC) + timedelta(days=lifetime_days),
        )
    )
    return token


async def _revoke_family_of(
    session: AsyncSession, token_hash: bytes, *, only_if_used: bool
) -> None:
    families = select(RefreshToken.family_id).where(RefreshToken.token_hash == token_hash)
    if only_if_used:
        families = families.where(RefreshToken.used_at.is_not(None))
    await session.execute(
        update(RefreshToken)
        .where(RefreshToken.family_id.in_(families), RefreshToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )
