"""The plan of each organization, and what operators changed of it."""

from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import DATABASE_ERRORS, Database, OrganizationScope
from app.core.errors import NotFound
from app.core.timed_cache import TimedCache
from app.llm.single_flight import SingleFlight
from app.models.accounts import Organization
from app.usage.levels import Level, LimitedCaller
from app.usage.plans import LimitOverrides, Limits, OrganizationPlan, effective_limits

log = structlog.get_logger(__name__)

# How long a change may take to be noticed.
_CACHE_TTL_S = 5.0
_CACHE_MAX_ENTRIES = 10_000

_PLAN = "SELECT plan, limits FROM organizations WHERE id = $1"
_TOKENS_USED = """
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint FROM usage_daily
    WHERE org_id = $1 AND day = $2 AND provider <> 'extractive'
      AND ($3::uuid IS NULL OR user_id = $3)
      AND ($4::uuid IS NULL OR key_id = $4)
"""


@dataclass(frozen=True, slots=True)
class OrganizationLimits:
    """`overrides`: what stands instead of the plan's. `is_default`: the setting's plan."""

    plan: OrganizationPlan
    is_default: bool
    overrides: dict[str, int | None]
    limits: Limits


class LimitDirectory:
    """Asks the database at most every 5 s for each organization, and once for any crowd."""

    def __init__(
        self, db: Database, default_plan: OrganizationPlan, *, ttl_s: float = _CACHE_TTL_S
    ) -> None:
        self._db = db
        self.default_plan = default_plan
        self._known = TimedCache[UUID, OrganizationLimits](ttl_s, max_entries=_CACHE_MAX_ENTRIES)
        self._flights = SingleFlight[OrganizationLimits]()

    async def get(self, org_id: UUID) -> OrganizationLimits:
        """While the database is away, what held last; for who was not there, the default plan."""
        try:
            return await self._known.get(org_id, partial(self._load_once, org_id))
        except DATABASE_ERRORS as error:
            log.warning("limits_unknown", error=type(error).__name__)
            return self._known.recall(org_id) or self.describe(None, {})

    def forget(self, org_id: UUID) -> None:
        """Ask anew: this process has just changed them."""
        self._known.forget(org_id)

    def describe(self, plan: str | None, overrides: dict[str, int | None]) -> OrganizationLimits:
        chosen = OrganizationPlan(plan) if plan else self.default_plan
        return OrganizationLimits(
            chosen, plan is None, overrides, effective_limits(chosen, overrides)
        )

    async def tokens_used(self, caller: LimitedCaller, level: Level, day: date) -> int:
        """As `TokensUsed`: input and output of all models. Raises what the database raises."""
        of_user = caller.user_id if level is Level.USER else None
        of_key = caller.key_id if level is Level.KEY else None
        async with self._db.reading(caller) as driver:
            used: int = await driver.fetchval(_TOKENS_USED, caller.org_id, day, of_user, of_key)
        return used

    async def _load_once(self, org_id: UUID) -> OrganizationLimits:
        # Who asks after a change does not share what began before it.
        flight = f"{org_id} {self._known.changes}"
        return await self._flights.run(flight, partial(self._load, org_id))

    async def _load(self, org_id: UUID) -> OrganizationLimits:
        async with self._db.reading(OrganizationScope(org_id)) as driver:
            row = await driver.fetchrow(_PLAN, org_id)
        return self.describe(row["plan"], row["limits"]) if row else self.describe(None, {})


async def load_limits(
    session: AsyncSession, directory: LimitDirectory, org_id: UUID
) -> OrganizationLimits:
    """Read what holds now, past the cache. Raises NotFound."""
    row = await _get(session, org_id)
    return directory.describe(row.plan, row.limits)


async def set_limits(
    session: AsyncSession,
    directory: LimitDirectory,
    org_id: UUID,
    *,
    plan: OrganizationPlan | None,
    overrides: LimitOverrides,
) -> OrganizationLimits:
    """Give an organization a plan, None for the setting's, and limits of its own instead.

    Noticed within 5 s. Raises NotFound.
    """
    row = await _get(session, org_id)
    row.plan = plan.value if plan else None
    row.limits = overrides.named()
    await session.flush()
    return directory.describe(row.plan, row.limits)


async def _get(session: AsyncSession, org_id: UUID) -> Organization:
    row = await session.scalar(
        select(Organization).where(Organization.id == org_id).with_for_update()
    )
    if row is None:
        raise NotFound("There is no such organization.")
    return row
