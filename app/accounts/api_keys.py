"""API keys: make, list, change, rotate, revoke. None may do more than who makes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.api_key_secrets import LAST_CHARS, hash_secret, new_secret
from app.accounts.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Scope
from app.accounts.principal import Principal
from app.core.db import take_turn
from app.core.errors import Conflict, NotAuthenticated, NotFound, PermissionDenied
from app.core.ids import new_id
from app.core.pagination import Cursor, Page
from app.models.api_keys import ApiKey, KeyEnvironment

MAX_LIVE_KEYS = 100
MAX_OVERLAP_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key may do, besides what its creator may not. None: no bound of the key's own.

    `monthly_budget_nano` is in nano-USD.
    """

    scope: Scope
    allowed_models: frozenset[str] | None
    expires_at: datetime | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    monthly_budget_nano: int | None

    def find_excess(self, other: "Grant") -> str | None:
        """Name something in which this one goes beyond another, None where nothing does."""
        if not SCOPE_PERMISSIONS[self.scope] <= SCOPE_PERMISSIONS[other.scope]:
            return "scope"
        if other.allowed_models is not None and (
            self.allowed_models is None or not self.allowed_models <= other.allowed_models
        ):
            return "allowed_models"
        if other.expires_at is not None and (
            self.expires_at is None or self.expires_at > other.expires_at
        ):
            return "expires_at"
        return next((name for name in LIMITS if self._is_above(other, name)), None)

    def find_limit(self) -> str | None:
        """Name a limit of its own, None for one without."""
        return next((name for name in LIMITS if getattr(self, name) is not None), None)

    def _is_above(self, other: "Grant", limit: str) -> bool:
        own: int | None = getattr(self, limit)
        bound: int | None = getattr(other, limit)
        return bound is not None and (own is None or own > bound)


# The columns that may be changed later, besides the name.
LIMITS = ("requests_per_minute", "tokens_per_day", "monthly_budget_nano")


async def create_key(
    session: AsyncSession,
    principal: Principal,
    grant: Grant,
    *,
    name: str,
    environment: KeyEnvironment,
    signing_key: str,
    most_in_organization: int | None = None,
) -> tuple[ApiKey, str]:
    """Add a key of the caller's. Returns it and its secret, which is shown only here.

    Raises PermissionDenied for more than the caller may, or by a key with limits of its own, whose
    keys would each have the whole of them; Conflict (`too_many_api_keys`) beyond
    100 of theirs, or `most_in_organization`, that are neither expired nor revoked; NotAuthenticated
    for who has been removed from the organization just now.
    """
    is_admin = grant.scope is Scope.ADMIN
    if is_admin and Permission.MANAGE_ORGANIZATION not in ROLE_PERMISSIONS[principal.role]:
        raise PermissionDenied(
            f"The role {principal.role.value} can't make keys of the scope admin.", param="scope"
        )
    _check_may_give(grant, await _find_own_grant(session, principal))
    await _check_room(session, principal, most_in_organization)
    secret = new_secret(environment)
    key = ApiKey(
        org_id=principal.org_id,
        id=new_id(),
        user_id=principal.user_id,
        made_by_key_id=principal.key_id,
        name=name,
        environment=environment,
        scope=grant.scope.value,
        secret_hash=hash_secret(secret, signing_key),
        last_chars=secret[-LAST_CHARS:],
        allowed_models=None if grant.allowed_models is None else sorted(grant.allowed_models),
        expires_at=grant.expires_at,
        requests_per_minute=grant.requests_per_minute,
        tokens_per_day=grant.tokens_per_day,
        monthly_budget_nano=grant.monthly_budget_nano,
    )
    session.add(key)
    try:
        await session.flush()
    except IntegrityError as error:  # the membership that it goes with is not there any more
        raise NotAuthenticated(
            "You are no member of the organization any more.", code="token_revoked"
        ) from error
    await session.refresh(key)
    return key, secret


async def list_keys(
    session: AsyncSession,
    principal: Principal,
    *,
    everybodys: bool,
    cursor: Cursor | None,
    limit: int,
) -> Page[ApiKey]:
    """Return keys that are not revoked, the newest first: the caller's, or all."""
    query = (
        select(ApiKey)
        .where(ApiKey.org_id == principal.org_id, ApiKey.revoked_at.is_(None))
        .order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
        .limit(limit + 1)
    )
    if not everybodys:
        query = query.where(ApiKey.user_id == principal.user_id)
    if cursor is not None:
        query = query.where(
            tuple_(ApiKey.created_at, ApiKey.id) < tuple_(cursor.created_at, cursor.id)
        )
    rows = (await session.scalars(query)).all()
    return Page.of(rows, limit, lambda last: Cursor(last.created_at, last.id).encode())


async def get_key(session: AsyncSession, principal: Principal, key_id: UUID) -> ApiKey:
    """Return one of the caller's, or of anybody's for who manages the organization.

    One that is revoked too. Raises NotFound.
    """
    return await _get(session, principal, _is_seen(principal, key_id))


async def change_key(
    session: AsyncSession, principal: Principal, key_id: UUID, changes: Mapping[str, Any]
) -> ApiKey:
    """Set `name` and LIMITS, as far as they are named.

    Raises NotFound, Conflict for a revoked one, and PermissionDenied where the caller's own key
    would get more than the key of this request has.
    """
    key = await _get(session, principal, _is_seen(principal, key_id), is_locked=True)
    _check_not_revoked(key)
    own = await _find_own_grant(session, principal)  # as it is before
    for name, value in changes.items():
        setattr(key, name, value)
    if key.user_id == principal.user_id and not changes.keys().isdisjoint(LIMITS):
        _check_within(_grant_of(key), own)
    await session.flush()
    return key


async def rotate_key(
    session: AsyncSession,
    principal: Principal,
    key_id: UUID,
    *,
    overlap_s: int,
    signing_key: str,
) -> tuple[ApiKey, str]:
    """Give a key of the caller's a new secret; the one before works for `overlap_s` more.

    Returns the key and the secret. One from before the last ends at once. Raises NotFound, Conflict
    for a key that is expired or revoked, and PermissionDenied for another one than the key of this
    request that may do more, or when that has limits of its own.
    """
    key = await _get(session, principal, _is_seen(principal, key_id), is_locked=True)
    if key.user_id != principal.user_id:
        raise PermissionDenied("Only whose key it is may have its secret.")
    _check_not_revoked(key)
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise Conflict("This key has expired: make another.", code="api_key_expired")
    if key.id != principal.key_id:
        _check_may_give(_grant_of(key), await _find_own_grant(session, principal))
    secret = new_secret(KeyEnvironment(key.environment))
    overlaps = overlap_s > 0
    key.previous_hash = key.secret_hash if overlaps else None
    key.previous_expires_at = datetime.now(UTC) + timedelta(seconds=overlap_s) if overlaps else None
    key.secret_hash = hash_secret(secret, signing_key)
    key.last_chars = secret[-LAST_CHARS:]
    await session.flush()
    return key, secret


async def revoke_key(session: AsyncSession, principal: Principal, key_id: UUID) -> ApiKey:
    """End a key for good; both its secrets stop within 5 s. A second time changes nothing.

    Returns it. Raises NotFound.
    """
    key = await _get(session, principal, _is_seen(principal, key_id), is_locked=True)
    if key.revoked_at is None:
        key.revoked_at = datetime.now(UTC)
    await session.flush()
    return key


async def _get(
    session: AsyncSession,
    principal: Principal,
    condition: ColumnElement[bool],
    *,
    is_locked: bool = False,
) -> ApiKey:
    query = select(ApiKey).where(ApiKey.org_id == principal.org_id, condition)
    key = await session.scalar(query.with_for_update() if is_locked else query)
    if key is None:
        raise NotFound("There is no such API key.")
    return key


def _is_seen(principal: Principal, key_id: UUID) -> ColumnElement[bool]:
    is_it = ApiKey.id == key_id
    if principal.may(Permission.MANAGE_ORGANIZATION):
        return is_it
    return is_it & (ApiKey.user_id == principal.user_id)


def _check_not_revoked(key: ApiKey) -> None:
    if key.revoked_at is not None:
        raise Conflict("This key is revoked: make another.", code="api_key_revoked")


async def _find_own_grant(session: AsyncSession, principal: Principal) -> Grant | None:
    """Return what the key of this request may do, None for a sign-in. Raises NotFound."""
    if principal.key_id is None:
        return None
    return _grant_of(await _get(session, principal, ApiKey.id == principal.key_id))


def _check_may_give(grant: Grant, own: Grant | None) -> None:
    """Raise PermissionDenied where a key would hand out more than it has, in one key or in many."""
    limit = None if own is None else own.find_limit()
    if limit is not None:
        raise PermissionDenied(
            "A key with limits of its own gives no other: each would have the whole of them.",
            code="insufficient_scope",
            param=limit,
        )
    _check_within(grant, own)


def _check_within(grant: Grant, own: Grant | None) -> None:
    """Raise PermissionDenied where a key would give more than it has."""
    excess = None if own is None else grant.find_excess(own)
    if excess is not None:
        raise PermissionDenied(
            f"A key can't give more than it has: {excess}.", code="insufficient_scope", param=excess
        )


def _grant_of(key: ApiKey) -> Grant:
    return Grant(
        scope=Scope(key.scope),
        allowed_models=None if key.allowed_models is None else frozenset(key.allowed_models),
        expires_at=key.expires_at,
        requests_per_minute=key.requests_per_minute,
        tokens_per_day=key.tokens_per_day,
        monthly_budget_nano=key.monthly_budget_nano,
    )


async def _check_room(
    session: AsyncSession, principal: Principal, most_in_organization: int | None
) -> None:
    """Raise Conflict where there are as many live keys as may be.

    From here to the commit the organization makes no other.
    """
    await take_turn(session, f"api keys {principal.org_id}")
    is_own = ApiKey.user_id == principal.user_id
    live, own = (
        await session.execute(
            select(func.count(), func.count().filter(is_own)).where(
                ApiKey.org_id == principal.org_id,
                ApiKey.revoked_at.is_(None),
                or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
            )
        )
    ).one()
    if own >= MAX_LIVE_KEYS:
        raise Conflict(
            f"You have {MAX_LIVE_KEYS} keys: revoke one first.", code="too_many_api_keys"
        )
    if most_in_organization is not None and live >= most_in_organization:
        raise Conflict(
            f"Your organization's plan has {most_in_organization} API keys: revoke one first.",
            code="too_many_api_keys",
        )
