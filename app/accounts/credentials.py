"""From a credential to a Principal: the one resolver, whatever door a request comes through."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

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
# How long ago a sign-in may have been looked at that is believed while the database is busy.
_RECALLED_S = 15.0
_MAX_SIGN_INS = 500

# User, organization, session.
SignIn = tuple[UUID, UUID, UUID]

_STANDINGS = text("""
    SELECT s.user_id, s.org_id, s.session_id, u.token_epoch, u.is_operator, m.role
    FROM unnest(:user_ids, :org_ids, :session_ids) AS s (user_id, org_id, session_id)
    JOIN users u ON u.id = s.user_id
    JOIN memberships m ON m.user_id = s.user_id AND m.org_id = s.org_id
    WHERE u.is_active
      AND NOT EXISTS (SELECT FROM refresh_tokens r
                      WHERE r.family_id = s.session_id AND r.revoked_at IS NOT NULL)
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("user_ids", "org_ids", "session_ids"))
)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the database said of a sign-in, and when it was asked (monotonic seconds)."""

    epoch: int
    role: MemberRole
    is_operator: bool
    asked_at: float

    def is_younger_than(self, seconds: float) -> bool:
        return time.monotonic() - self.asked_at < seconds


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What goes into the URL of an `EventSource`, and until when it opens the stream."""

    token: str
    expires_at: datetime


class PrincipalResolver:
    """Turns tokens into Principals; asks the database at most every 5 s per sign-in.

    One statement at a time: who comes meanwhile is in the next one, with all others. So a thousand
    streams that are confirmed at once take one connection.

    Its methods raise what the database raises, but only for tokens that are genuine.
    """

    def __init__(self, db: Database, signing_key: str) -> None:
        self._db = db
        self._signing_key = signing_key
        self._cache: dict[SignIn, _Standing] = {}
        self._asked: dict[SignIn, asyncio.Future[_Standing]] = {}
        self._waiting: list[SignIn] = []  # of those the ones that no statement has yet
        self._asking: asyncio.Task[None] | None = None

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

    def recall_for_stream(self, token: str, scope: StreamScope) -> Principal | None:
        """Say without the database whose stream token it is: for while that can't be asked.

        None unless the sign-in was found good within the last 15 s. Raises as `resolve_for_stream`.
        """
        claims = verify_stream_token(self._signing_key, token, scope)
        sign_in = (claims.sub, claims.org, claims.sid)
        standing = self._cache.get(sign_in)
        if standing is None or not standing.is_younger_than(_RECALLED_S):
            return None
        return _to_principal(sign_in, standing, claims.epoch)

    async def issue_stream_token(self, principal: Principal, scope: StreamScope) -> StreamToken:
        """Return a token for one stream, which ends with the sign-in. Raises NotAuthenticated."""
        sign_in = (principal.user_id, principal.org_id, principal.session_id)
        # However old it is: who has a Principal was just found good, and a token of an epoch that
        # has passed is refused where it is used.
        standing = self._cache.get(sign_in) or await self._ask(sign_in)
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
        standing = self._cache.get(sign_in)
        if standing is None or not standing.is_younger_than(_CACHE_TTL_S):
            standing = await self._ask(sign_in)
        return _to_principal(sign_in, standing, epoch)

    async def _ask(self, sign_in: SignIn) -> _Standing:
        asked = self._asked.get(sign_in)
        if asked is None:
            asked = self._asked[sign_in] = asyncio.get_running_loop().create_future()
            self._waiting.append(sign_in)
            if self._asking is None:
                # Of no request: its log lines are its own.
                self._asking = asyncio.create_task(self._ask_all(), context=Context())
        return await asyncio.shield(asked)  # others may wait for it too

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                sign_ins = self._waiting[:_MAX_SIGN_INS]
                del self._waiting[:_MAX_SIGN_INS]
                try:
                    found = await self._load(sign_ins)
                except Exception as error:  # noqa: BLE001  # it is theirs who wait
                    self._tell(sign_ins, error)
                else:
                    self._tell(sign_ins, found)
        finally:
            self._asking = None

    def _tell(self, sign_ins: Sequence[SignIn], found: dict[SignIn, _Standing] | Exception) -> None:
        """Answer those who asked, some of whom may have left."""
        for sign_in in sign_ins:
            asked = self._asked.pop(sign_in)
            if isinstance(found, Exception):
                asked.set_exception(found)
            elif sign_in in found:
                asked.set_result(found[sign_in])
            else:
                asked.set_exception(
                    NotAuthenticated("The access token has been revoked.", code="token_revoked")
                )
            asked.exception()  # so that nobody complains if nobody hears it

    async def _load(self, sign_ins: Sequence[SignIn]) -> dict[SignIn, _Standing]:
        """Return the standing of the good ones, and keep it in mind."""
        user_ids, org_ids, session_ids = map(list, zip(*sign_ins, strict=True))
        names = {"user_ids": user_ids, "org_ids": org_ids, "session_ids": session_ids}
        async with self._db.system_transaction() as session:
            now = time.monotonic()
            rows = (await session.execute(_STANDINGS, names)).all()
        found = {
            (row.user_id, row.org_id, row.session_id): _Standing(
                row.token_epoch, MemberRole(row.role), row.is_operator, now
            )
            for row in rows
        }
        for sign_in in sign_ins:
            self._cache.pop(sign_in, None)
        if len(self._cache) >= _CACHE_MAX_ENTRIES:
            self._cache.clear()
        self._cache.update(found)
        return found


def _to_principal(sign_in: SignIn, standing: _Standing, epoch: int) -> Principal:
    """Raises NotAuthenticated (`token_revoked`) for a token of an epoch that has passed."""
    if standing.epoch != epoch:
        raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
    user_id, org_id, session_id = sign_in
    return Principal(user_id, org_id, standing.role, session_id, standing.is_operator)
