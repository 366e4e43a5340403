"""From a credential to a Principal: the one resolver, whatever door a request comes through."""

import time
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.accounts.principal import Principal
from app.core.db import Database
from app.core.errors import NotAuthenticated
from app.core.security import verify_access_token
from app.models.accounts import MemberRole

# How long a revocation may take to be noticed.
_CACHE_TTL_S = 5.0
_CACHE_MAX_ENTRIES = 10_000

_STANDING = text("""
    SELECT u.token_epoch, m.role
    FROM users u JOIN memberships m ON m.user_id = u.id AND m.org_id = :org_id
    WHERE u.id = :user_id AND u.is_active
      AND NOT EXISTS (SELECT FROM refresh_tokens r
                      WHERE r.family_id = :session_id AND r.revoked_at IS NOT NULL)
""")


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the database said of a sign-in, and until when (monotonic seconds) that is believed."""

    epoch: int
    role: MemberRole
    believed_until: float


class PrincipalResolver:
    """Turns access tokens into Principals; asks the database at most every 5 s per sign-in."""

    def __init__(self, db: Database, signing_key: str) -> None:
        self._db = db
        self._signing_key = signing_key
        self._cache: dict[tuple[UUID, UUID, UUID], _Standing] = {}

    async def resolve(self, token: str) -> Principal:
        """Raises NotAuthenticated for a token that is forged, expired or revoked."""
        claims = verify_access_token(self._signing_key, token)
        key = (UUID(claims.sub), UUID(claims.org), UUID(claims.sid))
        standing = self._cache.get(key)
        if standing is None or standing.believed_until < time.monotonic():
            standing = await self._load(key)
        if standing.epoch != claims.epoch:
            raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
        user_id, org_id, session_id = key
        return Principal(user_id, org_id, standing.role, session_id)

    async def _load(self, key: tuple[UUID, UUID, UUID]) -> _Standing:
        user_id, org_id, session_id = key
        async with self._db.system_transaction() as session:
            row = (
                await session.execute(
                    _STANDING, {"user_id": user_id, "org_id": org_id, "session_id": session_id}
                )
            ).one_or_none()
        if row is None:
            self._cache.pop(key, None)
            raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
        if len(self._cache) >= _CACHE_MAX_ENTRIES:
            self._cache.clear()
        standing = _Standing(row.token_epoch, MemberRole(row.role), time.monotonic() + _CACHE_TTL_S)
        self._cache[key] = standing
        return standing
