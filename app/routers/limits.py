"""Plans and limits: what an organization may do, and what operators give it instead."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from app.audit_trail import Noted
from app.dependencies import Operator, OrganizationReader, ResourcesDep
from app.usage.organization_limits import OrganizationLimits, load_limits, set_limits
from app.usage.plans import Feature, LimitOverrides, OrganizationPlan

router = APIRouter(tags=["limits"])


class LimitsOut(BaseModel):
    """Null is without limit. A user and an API key may take their share of the rates and tokens."""

    model_config = ConfigDict(from_attributes=True)

    chat_per_minute: int | None
    search_per_minute: int | None
    upload_per_minute: int | None
    embedding_per_minute: int | None = Field(description="A unit is 100 inputs of one request.")
    address_per_minute: int | None = Field(description="From one network address.")
    tokens_per_day: int | None = Field(description="Of all models, input and output; UTC days.")
    streams: int = Field(description="Open at once.")
    storage_bytes: int | None
    documents: int | None
    members: int | None
    api_keys: int | None
    user_share_percent: int
    key_share_percent: int


class LimitsUsedOut(BaseModel):
    """As of just now."""

    requests: dict[Feature, int] = Field(
        description="Units of each feature with a rate that time has not given back yet."
    )
    tokens_today: int = Field(description="Settled ones, and those that calls under way hold.")
    streams: int


class OrganizationLimitsOut(BaseModel):
    plan: OrganizationPlan
    limits: LimitsOut
    used: LimitsUsedOut


class PlanChange(BaseModel):
    """All of it: what is not named goes back to the plan's."""

    model_config = ConfigDict(extra="forbid")

    plan: OrganizationPlan | None = Field(
        default=None, description="Null: that of the setting DEFAULT_PLAN."
    )
    overrides: LimitOverrides = LimitOverrides()


class OrganizationPlanOut(BaseModel):
    org_id: UUID
    plan: OrganizationPlan
    is_default: bool = Field(description="Whether it has no plan of its own.")
    overrides: dict[str, int | None]
    limits: LimitsOut


@router.get("/api/v1/organization/limits")
async def read_limits(caller: OrganizationReader, resources: ResourcesDep) -> OrganizationLimitsOut:
    """What the caller's organization may do, and how much of it is used."""
    await resources.ledger.flush(caller.org_id)
    found = await resources.limiter.directory.get(caller.org_id)
    used = await resources.limiter.use_of(caller)
    return OrganizationLimitsOut(
        plan=found.plan,
        limits=LimitsOut.model_validate(found.limits),
        used=LimitsUsedOut(
            requests=dict(used.requests), tokens_today=used.tokens, streams=used.streams
        ),
    )


@router.get("/api/v1/admin/organizations/{org_id}/limits")
async def read_plan(org_id: UUID, _: Operator, resources: ResourcesDep) -> OrganizationPlanOut:
    """The plan of an organization, and what stands instead of its limits."""
    async with resources.db.system_transaction() as session:
        found = await load_limits(session, resources.limiter.directory, org_id)
    return _plan_out(org_id, found)


@router.put("/api/v1/admin/organizations/{org_id}/limits")
async def change_plan(
    org_id: UUID,
    body: Annotated[PlanChange, Body()],
    _: Operator,
    resources: ResourcesDep,
    note: Noted,
) -> OrganizationPlanOut:
    """Give an organization a plan, and limits of its own instead. It holds within 5 s."""
    note.details = {"plan": body.plan, "overrides": body.overrides.named()}
    directory = resources.limiter.directory
    async with resources.db.system_transaction() as session:
        changed = await set_limits(
            session, directory, org_id, plan=body.plan, overrides=body.overrides
        )
    directory.forget(org_id)
    return _plan_out(org_id, changed)


def _plan_out(org_id: UUID, found: OrganizationLimits) -> OrganizationPlanOut:
    return OrganizationPlanOut(
        org_id=org_id,
        plan=found.plan,
        is_default=found.is_default,
        overrides=found.overrides,
        limits=LimitsOut.model_validate(found.limits),
    )
