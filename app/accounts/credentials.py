"""From a credential to a Principal: the one resolver, whatever door a request comes through."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import text

from app.accounts.principal import Principal
from app.core.db import Database
from app.core.errors import NotAuthenticated
from app.core.security import verify_access_token
from app.core.stream_tokens import (
    LIFETIME_S,
    StreamClaims,
    StreamScope,
    sign_stream_token,
    verify_stream_token,
)
from app.models.accounts import MemberRole

# How long a revocation may take to be noticed.
_CACHE_TTL_S = 5.0
_CACHE_MAX_ENTRIES = 10_000

# User, organization, session.
SignIn = tuple[UUID, UUID, UUID]

_STANDING = text("""
    SELECT u.token_epoch, u.is_operator, m.role
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
    is_operator: bool
    believed_until: float


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What goes into the URL of an `EventSource`, and until when it opens the stream."""

    token: str
    expires_at: datetime


class PrincipalResolver:
    """Turns tokens into Principals; asks the database at most every 5 s per sign-in.

    Its methods raise what the database raises, but only for tokens that are genuine.
    """

    def __init__(self, db: Database, signing_key: str) -> None:
        self._db = db
        self._signing_key = signing_key
        self._cache: dict[SignIn, _Standing] = {}

    async def resolve(self, token: str) -> Principal:
        """Take an access token. Raises NotAuthenticated if it is forged, expired or revoked."""
        claims = verify_access_token(self._signing_key, token)
        return await self._confirm(
            (UUID(claims.sub), UUID(claims.org), UUID(claims.sid)), claims.epoch
        )

    async def resolve_for_stream(self, token: str, scope: StreamScope) -> Principal:
        """Take a stream token. Raises NotAuthenticated as `resolve`, and for another stream."""
        claims = verify_stream_token(self._signing_key, token, scope)
        return await self._confirm((claims.sub, claims.org, claims.sid), claims.epoch)

    async def issue_stream_token(self, principal: Principal, scope: StreamScope) -> StreamToken:
        """Return a token for one stream, which ends with the sign-in. Raises NotAuthenticated."""
        sign_in = (principal.user_id, principal.org_id, principal.session_id)
        standing = await self._find_standing(sign_in)
        expires_at = int(time.time()) + LIFETIME_S
        claims = StreamClaims(
            aud=scope.audience,
            sub=principal.user_id,
            org=principal.org_id,
            sid=principal.session_id,
            epoch=standing.epoch,
            res=scope.resource_id,
            exp=expires_at,
        )
        token = sign_stream_token(self._signing_key, claims)
        return StreamToken(token, datetime.fromtimestamp(expires_at, UTC))

    async def _confirm(self, sign_in: SignIn, epoch: int) -> Principal:
        standing = await self._find_standing(sign_in)
        if standing.epoch != epoch:
            raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
        user_id, org_id, session_id = sign_in
        return Principal(user_id, org_id, standing.role, session_id, standing.is_operator)

    async def _find_standing(self, sign_in: SignIn) -> _Standing:
        standing = self._cache.get(sign_in)
        if standing is None or standing.believed_until < time.monotonic():
            standing = await self._load(sign_in)
        return standing

    async def _load(self, sign_in: SignIn) -> _Standing:
        user_id, org_id, session_id = sign_in
        async with self._db.system_transaction() as session:
            row = (
                await session.execute(
                    _STANDING, {"user_id": user_id, "org_id": org_id, "session_id": session_id}
                )
            ).one_or_none()
        if row is None:
            self._cache.pop(sign_in, None)
            raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
        if len(self._cache) >= _CACHE_MAX_ENTRIES:
            self._cache.clear()
        standing = _Standing(
            row.token_epoch,
            MemberRole(row.role),
            row.is_operator,
            time.monotonic() + _CACHE_TTL_S,
        )
        self._cache[sign_in] = standing
        return standing
