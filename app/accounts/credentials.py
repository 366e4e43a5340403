"""From a credential to a Principal: the one resolver, whatever door a request comes through."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import LargeBinary, Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from app.accounts.api_key_secrets import check_secret, hash_secret, invalid_api_key, is_api_key
from app.accounts.api_key_uses import KeyUses
from app.accounts.permissions import Scope
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

# How long a revocation may take to be noticed; a stream asks every 2 s, so 5 s in all.
_CACHE_TTL_S = 3.0
_CACHE_MAX_ENTRIES = 10_000
# How long ago a credential may have been looked at that is believed while the database is busy.
_RECALLED_S = 15.0
_MAX_ASKED = 500


class SignIn(NamedTuple):
    """What an access token stands for."""

    user_id: UUID
    org_id: UUID
    session_id: UUID


class KeySecret(NamedTuple):
    """An API key, by the hash of its secret."""

    secret_hash: bytes


class KeyId(NamedTuple):
    """An API key that a stream was opened with."""

    org_id: UUID
    key_id: UUID


Credential: TypeAlias = SignIn | KeySecret | KeyId

# One row for each good one. A key is no better than its creator: both must be good.
_STANDINGS = text("""
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(:user_ids, :org_ids, :ids, :secret_hashes)
            WITH ORDINALITY AS asked (user_id, org_id, id, secret_hash, place)),
    sign_ins AS (
        SELECT place, user_id, org_id, id, false AS is_key, 'admin' AS scope,
            NULL::text[] AS allowed_models, NULL::integer AS requests_per_minute,
            NULL::integer AS tokens_per_day
        FROM asked
        WHERE user_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM refresh_tokens r
                          WHERE r.family_id = asked.id AND r.revoked_at IS NOT NULL)),
    keys AS (
        SELECT place, k.* FROM asked JOIN api_keys k ON k.secret_hash = asked.secret_hash
        UNION ALL
        SELECT place, k.* FROM asked JOIN api_keys k ON k.previous_hash = asked.secret_hash
        WHERE k.previous_expires_at > now()
        UNION ALL
        SELECT place, k.* FROM asked JOIN api_keys k ON k.org_id = asked.org_id AND k.id = asked.id
        WHERE asked.user_id IS NULL),
    standing AS (
        SELECT * FROM sign_ins
        UNION ALL
        SELECT place, user_id, org_id, id, true, scope, allowed_models, requests_per_minute,
            tokens_per_day
        FROM keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
    SELECT s.*, u.token_epoch, u.is_operator, m.role
    FROM standing s
    JOIN users u ON u.id = s.user_id
    JOIN memberships m ON m.user_id = s.user_id AND m.org_id = s.org_id
    WHERE u.is_active
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("user_ids", "org_ids", "ids")),
    bindparam("secret_hashes", type_=ARRAY(LargeBinary)),
)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the database said of a credential, and when it was asked (monotonic seconds).

    `epoch` is that of the user's access tokens, whatever the credential.
    """

    principal: Principal
    epoch: int
    asked_at: float

    def is_younger_than(self, seconds: float) -> bool:
        return time.monotonic() - self.asked_at < seconds


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What goes into the URL of an `EventSource`, and until when it opens the stream."""

    token: str
    expires_at: datetime


class PrincipalResolver:
    """Turns credentials into Principals; asks the database at most every 3 s for each.

    One statement at a time: who comes meanwhile is in the next one, with all others. So a thousand
    streams that are confirmed at once take one connection.

    Its methods raise what the database raises, but only for what looks genuine.
    """

    def __init__(self, db: Database, signing_key: str) -> None:
        self.key_uses = KeyUses(db)
        self._db = db
        self._signing_key = signing_key
        self._cache: dict[Credential, _Standing] = {}
        self._asked: dict[Credential, asyncio.Future[_Standing]] = {}
        self._waiting: list[Credential] = []  # of those the ones that no statement has yet
        self._asking: asyncio.Task[None] | None = None
        self._changes = 0

    async def resolve(self, credential: str) -> Principal:
        """Take an access token or an API key.

        Raises NotAuthenticated if it is forged, expired or revoked.
        """
        if is_api_key(credential):
            return await self._resolve_key(credential)
        claims = verify_access_token(self._signing_key, credential)
        sign_in = SignIn(UUID(claims.sub), UUID(claims.org), UUID(claims.sid))
        return _of_epoch(await self._confirm(sign_in), claims.epoch)

    async def resolve_for_stream(self, token: str, scope: StreamScope) -> Principal:
        """Take a stream token. Raises NotAuthenticated as `resolve`, and for another stream."""
        claims = verify_stream_token(self._signing_key, token, scope)
        return _of_claims(await self._confirm(_credential_of(claims)), claims)

    def recall_for_stream(self, token: str, scope: StreamScope) -> Principal | None:
        """Say without the database whose stream token it is: for while that can't be asked.

        None unless it was found good within the last 15 s. Raises as `resolve_for_stream`.
        """
        claims = verify_stream_token(self._signing_key, token, scope)
        standing = self._cache.get(_credential_of(claims))
        if standing is None or not standing.is_younger_than(_RECALLED_S):
            return None
        return _of_claims(standing, claims)

    def forget(self, org_id: UUID, user_id: UUID | None = None) -> None:
        """Ask anew, in this process at once, what somebody may do in an organization, or anybody.

        Call it after the change is committed.
        """
        self._changes += 1
        stale = [
            credential
            for credential, standing in self._cache.items()
            if standing.principal.org_id == org_id and user_id in (None, standing.principal.user_id)
        ]
        for credential in stale:
            del self._cache[credential]

    async def issue_stream_token(self, principal: Principal, scope: StreamScope) -> StreamToken:
        """Return a token for one stream, which ends with the sign-in or the API key.

        Raises NotAuthenticated.
        """
        expires_at = int(time.time()) + LIFETIME_S
        claims = StreamClaims(
            aud=scope.audience,
            sub=principal.user_id,
            org=principal.org_id,
            sid=principal.session_id,
            epoch=await self._epoch_of(principal),
            res=scope.resource_id,
            exp=expires_at,
            key=principal.key_id is not None,
        )
        token = sign_stream_token(self._signing_key, claims)
        return StreamToken(token, datetime.fromtimestamp(expires_at, UTC))

    async def _epoch_of(self, principal: Principal) -> int:
        if principal.key_id is not None:
            return 0  # keys outlive a change of the password
        sign_in = SignIn(principal.user_id, principal.org_id, principal.session_id)
        # However old it is: who has a Principal was just found good, and a token of an epoch that
        # has passed is refused where it is used.
        return (self._cache.get(sign_in) or await self._ask(sign_in)).epoch

    async def _resolve_key(self, secret: str) -> Principal:
        check_secret(secret)
        standing = await self._confirm(KeySecret(hash_secret(secret, self._signing_key)))
        self.key_uses.note(standing.principal)
        return standing.principal

    async def _confirm(self, credential: Credential) -> _Standing:
        standing = self._cache.get(credential)
        if standing is None or not standing.is_younger_than(_CACHE_TTL_S):
            standing = await self._ask(credential)
        return standing

    async def _ask(self, credential: Credential) -> _Standing:
        asked = self._asked.get(credential)
        if asked is None:
            asked = self._asked[credential] = asyncio.get_running_loop().create_future()
            self._waiting.append(credential)
            if self._asking is None:
                # Of no request: its log lines are its own.
                self._asking = asyncio.create_task(self._ask_all(), context=Context())
        return await asyncio.shield(asked)  # others may wait for it too

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                credentials = self._waiting[:_MAX_ASKED]
                del self._waiting[:_MAX_ASKED]
                try:
                    found = await self._load(credentials)
                except Exception as error:  # noqa: BLE001  # it is theirs who wait
                    self._tell(credentials, error)
                else:
                    self._tell(credentials, found)
        finally:
            self._asking = None

    def _tell(
        self, credentials: Sequence[Credential], found: dict[Credential, _Standing] | Exception
    ) -> None:
        """Answer those who asked, some of whom may have left."""
        for credential in credentials:
            asked = self._asked.pop(credential)
            if isinstance(found, Exception):
                asked.set_exception(found)
            elif credential in found:
                asked.set_result(found[credential])
            else:
                asked.set_exception(_refusal_of(credential))
            asked.exception()  # so that nobody complains if nobody hears it

    async def _load(self, credentials: Sequence[Credential]) -> dict[Credential, _Standing]:
        """Return the standing of the good ones, and keep it in mind."""
        columns = map(list, zip(*map(_to_row, credentials), strict=True))
        names = dict(zip(("user_ids", "org_ids", "ids", "secret_hashes"), columns, strict=True))
        changes = None
        while changes != self._changes:  # what was read before a change holds no more
            changes, now = self._changes, time.monotonic()
            async with self._db.system_transaction() as session:
                rows = (await session.execute(_STANDINGS, names)).all()
        found: dict[Credential, _Standing] = {}
        for row in rows:
            standing = _Standing(_to_principal(row), row.token_epoch, now)
            found[credentials[row.place - 1]] = standing
            if row.is_key:  # for its streams
                found[KeyId(row.org_id, row.id)] = standing
        for credential in credentials:
            self._cache.pop(credential, None)
        if len(self._cache) >= _CACHE_MAX_ENTRIES:
            self._cache.clear()
        self._cache.update(found)
        return found


def _credential_of(claims: StreamClaims) -> Credential:
    if claims.key:
        return KeyId(claims.org, claims.sid)
    return SignIn(claims.sub, claims.org, claims.sid)


def _of_claims(standing: _Standing, claims: StreamClaims) -> Principal:
    return standing.principal if claims.key else _of_epoch(standing, claims.epoch)


def _of_epoch(standing: _Standing, epoch: int) -> Principal:
    """Raises NotAuthenticated (`token_revoked`) for a token of an epoch that has passed."""
    if standing.epoch != epoch:
        raise NotAuthenticated("The access token has been revoked.", code="token_revoked")
    return standing.principal


def _refusal_of(credential: Credential) -> NotAuthenticated:
    match credential:
        case SignIn():
            return NotAuthenticated("The access token has been revoked.", code="token_revoked")
        case KeySecret() | KeyId():
            return invalid_api_key()


def _to_row(credential: Credential) -> tuple[UUID | None, UUID | None, UUID | None, bytes | None]:
    """User, organization, session or key, hash of a secret."""
    match credential:
        case SignIn(user_id, org_id, session_id):
            return user_id, org_id, session_id, None
        case KeyId(org_id, key_id):
            return None, org_id, key_id, None
        case KeySecret(secret_hash):
            return None, None, None, secret_hash


def _to_principal(row: Row[Any]) -> Principal:
    return Principal(
        user_id=row.user_id,
        org_id=row.org_id,
        role=MemberRole(row.role),
        session_id=row.id,
        # What is for operators takes a sign-in.
        is_operator=row.is_operator and not row.is_key,
        key_id=row.id if row.is_key else None,
        scope=Scope(row.scope),
        allowed_models=None if row.allowed_models is None else frozenset(row.allowed_models),
        requests_per_minute=row.requests_per_minute,
        tokens_per_day=row.tokens_per_day,
    )
