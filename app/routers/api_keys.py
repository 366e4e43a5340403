"""API keys: what programs call with instead of somebody's sign-in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts import api_keys
from app.accounts.api_keys import LIMITS, MAX_OVERLAP_S, Grant
from app.accounts.permissions import Permission, Scope
from app.accounts.principal import Principal
from app.accounts.users import MAX_NAME_CHARS, clean_name
from app.audit_trail import Noted
from app.core.pagination import Cursor
from app.core.text import AnyText
from app.core.times import FutureTime
from app.dependencies import KeyManager, ResourcesDep, check_permission
from app.models.api_keys import ApiKey, KeyEnvironment
from app.resources import Resources
from app.routers.usage import BudgetAlertOut, show_alerts, show_percent
from app.usage.alerts import tell_webhooks
from app.usage.budgets import note_key_limit, read_key_budgets
from app.usage.metering import utc_now

router = APIRouter(prefix="/api/v1/api-keys", tags=["api keys"])

_MAX_REQUESTS_PER_MINUTE = 1_000_000
_MAX_TOKENS_PER_DAY = 2_000_000_000
_MAX_BUDGET_NANO = 10**15  # a million US dollars, and exact in any client's numbers
_MAX_MODELS = 100
_DEFAULT_OVERLAP_S = 3600


def _to_name(name: str) -> str:
    cleaned = clean_name(name)
    if not cleaned:
        raise ValueError("it is empty")
    return cleaned


KeyName = Annotated[AnyText, Field(max_length=MAX_NAME_CHARS), AfterValidator(_to_name)]
ModelId = Annotated[AnyText, Field(min_length=1, max_length=200)]


class KeyLimits(BaseModel):
    """Of this key alone, besides those of its user and organization; null: none of its own."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: int | None = Field(default=None, ge=1, le=_MAX_REQUESTS_PER_MINUTE)
    tokens_per_day: int | None = Field(
        default=None, ge=1, le=_MAX_TOKENS_PER_DAY, description="Of language models."
    )
    monthly_budget_nano: int | None = Field(
        default=None,
        ge=0,
        le=_MAX_BUDGET_NANO,
        description="In billionths of a US dollar, for a calendar month in UTC.",
    )


class ApiKeyCreate(KeyLimits):
    name: KeyName = Field(examples=["nightly import"])
    scope: Scope = Field(
        description="`read`: documents, search, conversations, usage. `write`: also questions and "
        "changes. `admin`: also keys, members and settings, as far as the role allows."
    )
    environment: KeyEnvironment = KeyEnvironment.LIVE
    allowed_models: list[ModelId] | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_MODELS,
        description="Aliases and `provider/model`; an id without its provider is looked up. null: "
        "all of them.",
    )
    expires_at: FutureTime | None = Field(
        default=None, description="With a time zone; null: never."
    )

    def to_grant(self, allowed_models: frozenset[str] | None) -> Grant:
        return Grant(
            scope=self.scope,
            allowed_models=allowed_models,
            expires_at=self.expires_at,
            requests_per_minute=self.requests_per_minute,
            tokens_per_day=self.tokens_per_day,
            monthly_budget_nano=self.monthly_budget_nano,
        )


class ApiKeyPatch(KeyLimits):
    """What is not named stays as it is."""

    name: KeyName = ""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"name at least one of name, {', '.join(LIMITS)}")
        return self


class RotateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    overlap_s: int = Field(
        default=_DEFAULT_OVERLAP_S,
        ge=0,
        le=MAX_OVERLAP_S,
        description="How many seconds the secret before still works.",
    )


class ApiKeyRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: UUID = Field(description="Who made it, and for whom it acts.")
    made_by_key_id: UUID | None = Field(description="null: made by a sign-in.")
    name: str
    environment: KeyEnvironment
    scope: Scope
    last_chars: str = Field(description="The end of the secret, to tell keys apart.")
    allowed_models: list[str] | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    monthly_budget_nano: int | None
    created_at: datetime
    expires_at: datetime | None
    previous_expires_at: datetime | None = Field(
        description="Until when the secret before the last rotation works."
    )
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None


class ApiKeyOut(ApiKeyRow):
    monthly_spent_nano: int = Field(
        description="This month (UTC), in billionths of a US dollar. A call whose price is unknown "
        "counts as if its tokens cost UNKNOWN_PRICE_CEILING_USD for a million."
    )
    budget_percent: float | None = Field(
        description="Of the monthly budget, what is spent; null: it has none of its own."
    )
    budget_alerts: list[BudgetAlertOut]


class NewApiKey(ApiKeyOut):
    key: str = Field(description="The secret. It is shown only here.")


class ApiKeyPage(BaseModel):
    items: list[ApiKeyOut]
    next_cursor: str | None


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_api_key(
    body: ApiKeyCreate,
    caller: KeyManager,
    response: Response,
    resources: ResourcesDep,
    note: Noted,
) -> NewApiKey:
    """Make a key that acts for the caller, within their role. At most 100 of them work at a time,
    and as many of the organization as its plan has.

    With an API key this takes the scope admin, and gives no more than that key has.
    """
    note.details = body.model_dump(mode="json", exclude_none=True)
    allowed_models = await _find_models(body.allowed_models, caller, resources)
    limits = await resources.limiter.limits_of(caller.org_id)
    async with resources.db.transaction(caller) as session:
        key, secret = await api_keys.create_key(
            session,
            caller,
            body.to_grant(allowed_models),
            name=body.name,
            environment=body.environment,
            signing_key=resources.settings.signing_key,
            most_in_organization=limits.api_keys,
        )
        [shown] = await _show(session, [key])
    response.headers["Location"] = f"{router.prefix}/{key.id}"
    note.object_id = str(key.id)
    return NewApiKey(**shown.model_dump(), key=secret)


@router.get("")
async def list_api_keys(
    caller: KeyManager,
    resources: ResourcesDep,
    everybodys: Annotated[
        bool, Query(alias="all", description="Of all members: for owners and admins.")
    ] = False,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> ApiKeyPage:
    """List keys that are not revoked, the newest first."""
    if everybodys:
        check_permission(caller, Permission.MANAGE_ORGANIZATION)
    await resources.ledger.flush(caller.org_id)
    async with resources.db.transaction(caller) as session:
        page = await api_keys.list_keys(
            session,
            caller,
            everybodys=everybodys,
            cursor=Cursor.decode(cursor) if cursor else None,
            limit=limit,
        )
        return ApiKeyPage(items=await _show(session, page.items), next_cursor=page.next_cursor)


@router.get("/{key_id}")
async def get_api_key(key_id: UUID, caller: KeyManager, resources: ResourcesDep) -> ApiKeyOut:
    """One key, revoked or not. Owners and admins see those of all members."""
    await resources.ledger.flush(caller.org_id)
    async with resources.db.transaction(caller) as session:
        [shown] = await _show(session, [await api_keys.get_key(session, caller, key_id)])
    return shown


@router.patch("/{key_id}")
async def patch_api_key(
    key_id: UUID, body: ApiKeyPatch, caller: KeyManager, resources: ResourcesDep, note: Noted
) -> ApiKeyOut:
    """Change a key's name and limits. They hold everywhere within 5 s."""
    note.details = body.model_dump(mode="json", exclude_unset=True)
    changes = body.model_dump(include=body.model_fields_set)
    await resources.ledger.flush(caller.org_id)  # what was spent without a budget counts in it
    async with resources.db.transaction(caller) as session:
        key = await api_keys.change_key(session, caller, key_id, changes)
        if "monthly_budget_nano" in changes:
            limit_nano, now = key.monthly_budget_nano, utc_now()
            await note_key_limit(
                session, caller.org_id, key.id, limit_nano, now, on_alert=tell_webhooks
            )
        [shown] = await _show(session, [key])
    resources.ledger.forget_limits()
    return shown


@router.post("/{key_id}/rotate")
async def rotate_api_key(
    key_id: UUID,
    caller: KeyManager,
    resources: ResourcesDep,
    note: Noted,
    body: RotateRequest | None = None,
) -> NewApiKey:
    """Give one of the caller's keys a new secret. The one before works for `overlap_s` more."""
    body = body or RotateRequest()
    note.details = body.model_dump()
    async with resources.db.transaction(caller) as session:
        key, secret = await api_keys.rotate_key(
            session,
            caller,
            key_id,
            overlap_s=body.overlap_s,
            signing_key=resources.settings.signing_key,
        )
        [shown] = await _show(session, [key])
    resources.principals.forget(caller.org_id, caller.user_id)
    return NewApiKey(**shown.model_dump(), key=secret)


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_api_key(key_id: UUID, caller: KeyManager, resources: ResourcesDep) -> None:
    """End a key for good, within 5 s; its streams end too."""
    async with resources.db.transaction(caller) as session:
        key = await api_keys.revoke_key(session, caller, key_id)
    resources.principals.forget(caller.org_id, key.user_id)


async def _find_models(
    names: Sequence[str] | None, caller: Principal, resources: Resources
) -> frozenset[str] | None:
    """Return the models by their full ids. Raises UnprocessableRequest (`unknown_model`)."""
    if names is None:
        return None
    name_in_full, allowed = resources.model_router.name_in_full, caller.allowed_models
    return frozenset([await name_in_full(name, allowed=allowed) for name in names])


async def _show(session: AsyncSession, keys: Sequence[ApiKey]) -> list[ApiKeyOut]:
    """Return keys of one organization with what they have spent."""
    if not keys:
        return []
    budgets = await read_key_budgets(session, keys[0].org_id, [key.id for key in keys], utc_now())
    return [
        ApiKeyOut(
            **ApiKeyRow.model_validate(key).model_dump(),
            monthly_spent_nano=budgets[key.id].spent_nano,
            budget_percent=show_percent(budgets[key.id]),
            budget_alerts=show_alerts(budgets[key.id]),
        )
        for key in keys
    ]
