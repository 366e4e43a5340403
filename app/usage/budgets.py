"""Monthly budgets: money is held before a call and settled once after it, with its usage event.

All in nano-USD, in Postgres: whatever runs at the same time, held and spent never exceed the limit.
Rows of `budget_periods` are locked in one order everywhere: API keys by id, then the organization.
Each of ALERT_PERCENTS is told once for a budget and month, whatever its limit becomes: by the call
that reaches it, or by the change of the limit that makes it reached.
"""

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database, get_driver
from app.core.errors import AppError, BudgetExceeded, RateLimited
from app.core.periodic import run_periodically
from app.models.usage import NO_KEY, ORGANIZATION_SCOPE
from app.usage.levels import LimitedCaller
from app.usage.prices import nano_to_usd

log = structlog.get_logger(__name__)

# How long a process may be silent before what it holds is settled in its place.
LEASE_S = 90.0
REAP_INTERVAL_S = 15.0
ALERT_PERCENTS = (80, 100)
# The code of a call whose process died.
LOST = "lost"

_RETRY_AFTER_S = 2.0
_MAX_REAPED = 500
_LOCK = text("SELECT pg_try_advisory_xact_lock(7330402117)")

# Others wait for the row until the commit. A reservation that a power cut takes along is gone as a
# whole, and its call with it.
_COMMIT_WITHOUT_DISK = text("SET LOCAL synchronous_commit TO off")
_FIND_ORGANIZATION_LIMIT = "SELECT monthly_limit_nano FROM budgets WHERE org_id = $1"
_FIND_KEY_LIMIT = "SELECT monthly_budget_nano FROM api_keys WHERE org_id = $1 AND id = $2"
# A new row must pass the same check as one that is there.
_HOLD = """
    INSERT INTO budget_periods AS b (org_id, scope, period, limit_nano, held_nano)
    SELECT $1::uuid, $2::text, $3::date, $4::bigint, $5::bigint
    WHERE $5::bigint <= $4::bigint OR EXISTS (SELECT FROM budget_periods
                              WHERE org_id = $1 AND scope = $2 AND period = $3)
    ON CONFLICT (org_id, scope, period) DO UPDATE
        SET held_nano = b.held_nano + excluded.held_nano, limit_nano = excluded.limit_nano
        WHERE b.spent_nano + b.held_nano + excluded.held_nano <= excluded.limit_nano
    RETURNING true
"""
_FIND_PERIOD = """
    SELECT spent_nano, held_nano FROM budget_periods
    WHERE org_id = $1 AND scope = $2 AND period = $3
"""
_RESERVE = """
    INSERT INTO budget_reservations (
        org_id, id, period, scopes, nano, floor_nano, at, user_id, key_id, run_id, kind, provider,
        model, attempt, input_tokens, price_source, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
            now() + make_interval(secs => $17))
"""
_END_RESERVATIONS = """
    UPDATE budget_reservations SET settled_at = now()
    WHERE org_id = $1 AND id = ANY ($2) AND settled_at IS NULL
    RETURNING period, scopes, nano
"""
_RECORD = """
    WITH new AS (
        INSERT INTO usage_events (
            org_id, id, at, user_id, key_id, run_id, kind, provider, model, attempt, input_tokens,
            cached_tokens, output_tokens, is_estimated, cost_nano, price_source, error_code,
            degraded)
        SELECT $1::uuid, id, at, user_id, key_id, run_id, kind, provider, model, attempt,
            input_tokens, cached_tokens, output_tokens, is_estimated, cost_nano, price_source,
            error_code, degraded
        FROM jsonb_to_recordset($2::jsonb) AS given (
            id uuid, at timestamptz, user_id uuid, key_id uuid, run_id uuid, kind text,
            provider text, model text, attempt integer, input_tokens bigint, cached_tokens bigint,
            output_tokens bigint, is_estimated boolean, cost_nano bigint, price_source text,
            error_code text, degraded boolean)
        ON CONFLICT (org_id, id) DO NOTHING
        RETURNING *),
    summed AS (
        INSERT INTO usage_daily AS d (
            org_id, day, user_id, key_id, kind, provider, model, requests, errors, input_tokens,
            cached_tokens, output_tokens, cost_nano, unknown_cost_requests)
        SELECT $1::uuid, (at AT TIME ZONE 'UTC')::date, user_id, coalesce(key_id, $3::uuid), kind,
            provider, model, count(*), count(error_code), sum(input_tokens), sum(cached_tokens),
            sum(output_tokens), coalesce(sum(cost_nano), 0), count(*) - count(cost_nano)
        FROM new GROUP BY 2, 3, 4, 5, 6, 7 ORDER BY 2, 3, 4, 5, 6, 7
        ON CONFLICT (org_id, day, user_id, key_id, kind, provider, model) DO UPDATE SET
            requests = d.requests + excluded.requests,
            errors = d.errors + excluded.errors,
            input_tokens = d.input_tokens + excluded.input_tokens,
            cached_tokens = d.cached_tokens + excluded.cached_tokens,
            output_tokens = d.output_tokens + excluded.output_tokens,
            cost_nano = d.cost_nano + excluded.cost_nano,
            unknown_cost_requests = d.unknown_cost_requests + excluded.unknown_cost_requests)
    SELECT id FROM new
"""
_SETTLE_PERIODS = """
    WITH given AS (
        SELECT * FROM jsonb_to_recordset($2::jsonb) AS g (
            scope text, period date, spent_nano bigint, released_nano bigint))
    INSERT INTO budget_periods AS b (org_id, scope, period, spent_nano)
    SELECT $1::uuid, scope, period, spent_nano FROM given
    ORDER BY scope = $3::text, scope, period
    ON CONFLICT (org_id, scope, period) DO UPDATE
        SET spent_nano = b.spent_nano + excluded.spent_nano,
            held_nano = b.held_nano - (
                SELECT released_nano FROM given g WHERE g.scope = b.scope AND g.period = b.period)
    RETURNING scope, period, spent_nano, alerted_80_at, alerted_100_at,
        least(
            limit_nano,
            (SELECT monthly_limit_nano FROM budgets WHERE org_id = $1 AND b.scope = $3),
            (SELECT monthly_budget_nano FROM api_keys
             WHERE org_id = $1 AND id = CASE WHEN b.scope <> $3 THEN b.scope::uuid END)
        ) AS limit_nano
"""
# A period's own `limit_nano` may be two seconds old: here it is what holds. The periods are locked
# by now, so that a limit that changes at the same time is judged by whoever comes last.
_FIND_LIMITED = """
    SELECT p.scope, p.period, p.spent_nano, p.held_nano, p.alerted_80_at, p.alerted_100_at,
        coalesce(o.monthly_limit_nano, k.monthly_budget_nano) AS limit_nano
    FROM unnest($2::text[], $3::date[]) AS given (scope, period)
        JOIN budget_periods p ON p.org_id = $1 AND p.scope = given.scope
            AND p.period = given.period
        LEFT JOIN budgets o ON o.org_id = $1 AND p.scope = $4
        LEFT JOIN api_keys k ON k.org_id = $1
            AND k.id = CASE WHEN p.scope <> $4 THEN p.scope::uuid END
    WHERE coalesce(o.monthly_limit_nano, k.monthly_budget_nano) IS NOT NULL
    ORDER BY p.scope = $4, p.scope, p.period
"""
_MARK_ALERTED = {
    percent: f"""
        UPDATE budget_periods SET alerted_{percent}_at = now()
        WHERE org_id = $1 AND scope = $2 AND period = $3
    """  # noqa: S608  # a constant
    for percent in ALERT_PERCENTS
}
_RENEW = """
    UPDATE budget_reservations r SET expires_at = now() + make_interval(secs => $3)
    FROM unnest($1::uuid[], $2::uuid[]) AS k (org_id, id)
    WHERE r.org_id = k.org_id AND r.id = k.id AND r.settled_at IS NULL
"""
# Whoever settles one at this moment is no longer away.
_FIND_EXPIRED = """
    SELECT * FROM budget_reservations WHERE settled_at IS NULL AND expires_at < now()
    ORDER BY org_id, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_FORGET_SETTLED = "DELETE FROM budget_reservations WHERE settled_at < now() - interval '1 day'"
_SET_LIMIT = """
    INSERT INTO budgets (org_id, monthly_limit_nano) VALUES ($1, $2)
    ON CONFLICT (org_id) DO UPDATE
        SET monthly_limit_nano = excluded.monthly_limit_nano, updated_at = now()
"""
_REMOVE_LIMIT = "DELETE FROM budgets WHERE org_id = $1"
_SET_PERIOD_LIMIT = """
    INSERT INTO budget_periods (org_id, scope, period, limit_nano) VALUES ($1, $2, $3, $4)
    ON CONFLICT (org_id, scope, period) DO UPDATE SET limit_nano = excluded.limit_nano
"""
_READ_BUDGET = """
    SELECT l.monthly_limit_nano AS limit_nano, coalesce(p.spent_nano, 0) AS spent_nano,
        coalesce(p.held_nano, 0) AS held_nano, p.alerted_80_at, p.alerted_100_at
    FROM (SELECT) one
        LEFT JOIN budgets l ON l.org_id = $1
        LEFT JOIN budget_periods p ON p.org_id = $1 AND p.scope = $2 AND p.period = $3
"""
_READ_KEYS = """
    SELECT k.id, k.monthly_budget_nano AS limit_nano, coalesce(p.spent_nano, 0) AS spent_nano,
        coalesce(p.held_nano, 0) AS held_nano, p.alerted_80_at, p.alerted_100_at
    FROM api_keys k
        LEFT JOIN budget_periods p
            ON p.org_id = $1 AND p.scope = k.id::text AND p.period = $3
    WHERE k.org_id = $1 AND k.id = ANY ($2)
"""


class Payer(LimitedCaller, Protocol):
    """Whose money it is. A Principal is one."""


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """What may be spent in a month; None without a limit."""

    organization_nano: int | None = None
    key_nano: int | None = None

    def in_order(self, key_id: UUID | None) -> list[tuple[str, int]]:
        """Return scopes and their limits, in the order in which their rows are locked."""
        limits = [(ORGANIZATION_SCOPE, self.organization_nano)]
        if key_id is not None:
            limits.insert(0, (str(key_id), self.key_nano))
        return [(scope, limit) for scope, limit in limits if limit is not None]


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call before it is made. `id` becomes that of its usage event."""

    id: UUID
    at: datetime
    user_id: UUID
    key_id: UUID | None
    run_id: UUID | None
    kind: str
    provider: str
    model: str
    attempt: int
    input_tokens: int
    price_source: str

    @property
    def period(self) -> date:
        return month_of(self.at)


@dataclass(frozen=True, slots=True)
class Charge(CallFacts):
    """What a call came to, as its usage event says it, with the input tokens that were billed.

    `charged_nano` is what it takes from the budget: the cost, or the ceiling for an unknown one.
    """

    cached_tokens: int
    output_tokens: int
    is_estimated: bool
    cost_nano: int | None
    error_code: str | None
    degraded: bool
    charged_nano: int

    def to_json(self) -> dict[str, Any]:
        row = {each.name: getattr(self, each.name) for each in fields(self)}
        ids = {name: str(row[name]) for name in ("id", "user_id", "key_id", "run_id") if row[name]}
        return {**row, **ids, "at": self.at.isoformat()}


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One month of a budget. `limit_nano` is None without a limit.

    `alerted_*_at`: when that percentage was told, of the limit that there was then.
    """

    limit_nano: int | None
    spent_nano: int
    held_nano: int
    resets_at: datetime
    alerted_80_at: datetime | None = None
    alerted_100_at: datetime | None = None

    @property
    def percent(self) -> float | None:
        if self.limit_nano is None:
            return None
        return 100.0 * self.spent_nano / self.limit_nano if self.limit_nano else 100.0

    @property
    def alerts(self) -> list[tuple[int, datetime]]:
        """What was told: percentages and when."""
        told = zip(ALERT_PERCENTS, (self.alerted_80_at, self.alerted_100_at), strict=True)
        return [(percent, at) for percent, at in told if at is not None]

    @property
    def due_alerts(self) -> list[int]:
        """The percentages that are reached and were not told."""
        if self.limit_nano is None:
            return []
        told = {percent for percent, _ in self.alerts}
        reached, limit_nano = 100 * self.spent_nano, self.limit_nano
        return [
            percent
            for percent in ALERT_PERCENTS
            if percent not in told and reached >= percent * limit_nano
        ]


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A budget has been used up to `percent`. `scope` is "organization" or an API key's id."""

    org_id: UUID
    scope: str
    percent: int
    state: BudgetState


# Called in the transaction that saw it, so that what it writes is as certain as the alert's mark.
BudgetAlertHook = Callable[[AsyncSession, BudgetAlert], Awaitable[None]]


def month_of(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


def end_of(period: date) -> datetime:
    year, month = divmod(period.year * 12 + period.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)


async def find_limits(driver: asyncpg.Connection, payer: Payer) -> BudgetLimits:
    organization = await driver.fetchval(_FIND_ORGANIZATION_LIMIT, payer.org_id)
    key = None
    if payer.key_id is not None:
        key = await driver.fetchval(_FIND_KEY_LIMIT, payer.org_id, payer.key_id)
    return BudgetLimits(organization, key)


async def reserve(
    session: AsyncSession,
    org_id: UUID,
    call: CallFacts,
    limits: BudgetLimits,
    *,
    nano: int,
    floor_nano: int,
) -> None:
    """Hold `nano` in every limited budget, or in none: the transaction must be rolled back then.

    Raises BudgetExceeded where what is spent leaves too little, RateLimited (`budget_reserved`)
    where only calls under way are in between. `floor_nano` is what counts if nobody settles it.
    """
    await session.execute(_COMMIT_WITHOUT_DISK)
    driver = await get_driver(session)
    scopes = limits.in_order(call.key_id)
    for scope, limit_nano in scopes:
        place = (org_id, scope, call.period)
        if not await driver.fetchval(_HOLD, *place, limit_nano, nano):
            row = await driver.fetchrow(_FIND_PERIOD, *place)
            state = BudgetState(
                limit_nano,
                row["spent_nano"] if row else 0,
                row["held_nano"] if row else 0,
                end_of(call.period),
            )
            raise _refusal(scope, state, nano)
    await driver.execute(
        _RESERVE,
        org_id,
        call.id,
        call.period,
        [scope for scope, _ in scopes],
        nano,
        floor_nano,
        call.at,
        call.user_id,
        call.key_id,
        call.run_id,
        call.kind,
        call.provider,
        call.model,
        call.attempt,
        call.input_tokens,
        call.price_source,
        LEASE_S,
    )


async def refuse_spent(
    driver: asyncpg.Connection, payer: Payer, limits: BudgetLimits, at: datetime
) -> None:
    """Raise BudgetExceeded where nothing is left of a budget, whatever a call costs."""
    period = month_of(at)
    for scope, limit_nano in limits.in_order(payer.key_id):
        row = await driver.fetchrow(_FIND_PERIOD, payer.org_id, scope, period)
        spent_nano, held_nano = (row["spent_nano"], row["held_nano"]) if row else (0, 0)
        if spent_nano >= limit_nano:
            state = BudgetState(limit_nano, spent_nano, held_nano, end_of(period))
            raise _refusal(scope, state, 0)


def _refusal(scope: str, state: BudgetState, nano: int) -> AppError:
    assert state.limit_nano is not None  # noqa: S101  # only a limit refuses
    whose = "organization" if scope == ORGANIZATION_SCOPE else "API key"
    details = {
        "scope": scope,
        "limit_usd": nano_to_usd(state.limit_nano),
        "spent_usd": nano_to_usd(state.spent_nano),
        "held_usd": nano_to_usd(state.held_nano),
        "needed_usd": nano_to_usd(nano),
        "resets_at": state.resets_at.isoformat(),
    }
    if state.spent_nano < state.limit_nano and state.spent_nano + nano <= state.limit_nano:
        return RateLimited(
            f"What is left of the monthly budget of this {whose} is held by calls under way.",
            code="budget_reserved",
            retry_after_s=_RETRY_AFTER_S,
            details=details,
        )
    if state.spent_nano < state.limit_nano:
        return BudgetExceeded(
            f"What is left of the monthly budget of this {whose} is less than this call may cost:"
            " a smaller max_tokens, a shorter prompt or another model costs less.",
            details=details,
        )
    return BudgetExceeded(f"The monthly budget of this {whose} is spent.", details=details)


async def settle(
    session: AsyncSession,
    org_id: UUID,
    charges: Sequence[Charge],
    *,
    reserved: Sequence[UUID] = (),
    on_alert: BudgetAlertHook | None = None,
) -> None:
    """Record usage events, count them, and end reservations; what was done before is left alone.

    `reserved` are the ids of reservations: of the charges, or of calls that were never made. A
    charge whose event is there counts no second time.
    """
    driver = await get_driver(session)
    changes: dict[tuple[str, date], list[int]] = defaultdict(lambda: [0, 0])
    if reserved:
        for row in await driver.fetch(_END_RESERVATIONS, org_id, list(reserved)):
            for scope in row["scopes"]:
                changes[scope, row["period"]][1] += row["nano"]
    if charges:
        rows = json.dumps([charge.to_json() for charge in charges])
        new = {row["id"] for row in await driver.fetch(_RECORD, org_id, rows, NO_KEY)}
        for charge in charges:
            if charge.id in new:
                for scope in _scopes_of(charge):
                    changes[scope, charge.period][0] += charge.charged_nano
    if changes:
        await _settle_periods(session, driver, org_id, changes, on_alert)


def _scopes_of(charge: Charge) -> Iterable[str]:
    if charge.key_id is not None:
        yield str(charge.key_id)
    yield ORGANIZATION_SCOPE


async def _settle_periods(
    session: AsyncSession,
    driver: asyncpg.Connection,
    org_id: UUID,
    changes: dict[tuple[str, date], list[int]],
    on_alert: BudgetAlertHook | None,
) -> None:
    given = [
        {
            "scope": scope,
            "period": period.isoformat(),
            "spent_nano": spent_nano,
            "released_nano": released_nano,
        }
        for (scope, period), (spent_nano, released_nano) in changes.items()
    ]
    rows = await driver.fetch(_SETTLE_PERIODS, org_id, json.dumps(given), ORGANIZATION_SCOPE)
    places = []
    for row in rows:
        values = dict(row)
        scope, period = values.pop("scope"), values.pop("period")
        # By the lowest limit that anybody knows of: only then it is worth another look.
        if BudgetState(**values, held_nano=0, resets_at=end_of(period)).due_alerts:
            places.append((scope, period))
    await _tell_alerts(session, org_id, places, on_alert)


async def _tell_alerts(
    session: AsyncSession,
    org_id: UUID,
    places: Sequence[tuple[str, date]],
    on_alert: BudgetAlertHook | None,
) -> None:
    """Tell what is reached of budgets (scope, month) and was not told. Their rows are locked."""
    if not places:
        return
    driver = await get_driver(session)
    scopes, periods = zip(*places, strict=True)
    for row in await driver.fetch(_FIND_LIMITED, org_id, scopes, periods, ORGANIZATION_SCOPE):
        values = dict(row)
        place = (values.pop("scope"), values.pop("period"))
        state = BudgetState(**values, resets_at=end_of(place[1]))
        for percent in state.due_alerts:
            await driver.execute(_MARK_ALERTED[percent], org_id, *place)
            log.info("budget_alert", org_id=str(org_id), scope=place[0], percent=percent)
            if on_alert is not None:
                await on_alert(session, BudgetAlert(org_id, place[0], percent, state))


async def renew(session: AsyncSession, reservations: Sequence[tuple[UUID, UUID]]) -> None:
    """Say that these calls (organization, id) go on. Needs a system transaction."""
    driver = await get_driver(session)
    org_ids, ids = [org_id for org_id, _ in reservations], [id_ for _, id_ in reservations]
    await driver.execute(_RENEW, org_ids, ids, LEASE_S)


@dataclass(frozen=True, slots=True)
class BudgetReaper:
    """The periodic task of every API process, one at a time: settles what dead ones hold."""

    db: Database
    on_alert: BudgetAlertHook | None = None

    async def run(self) -> None:
        """Reap until cancelled. A database that is away is waited for."""
        await run_periodically("budget_reaping", self.reap, REAP_INTERVAL_S)

    async def reap(self) -> int:
        """Settle expired reservations at their floor. Returns how many.

        Does nothing while another process does.
        """
        async with self.db.system_transaction() as session:
            if not await session.scalar(_LOCK):
                return 0
            driver = await get_driver(session)
            expired = await driver.fetch(_FIND_EXPIRED, _MAX_REAPED)
            for org_id, rows in groupby(expired, key=lambda row: row["org_id"]):
                charges = [_lost(row) for row in rows]
                ids = [charge.id for charge in charges]
                await settle(session, org_id, charges, reserved=ids, on_alert=self.on_alert)
            await driver.execute(_FORGET_SETTLED)
        if expired:
            log.warning("budget_reservations_reaped", count=len(expired))
        return len(expired)


def _lost(row: asyncpg.Record) -> Charge:
    """Return what is taken for granted of a call: that its input was read."""
    is_unknown = row["price_source"] == "unknown"
    return Charge(
        **{each.name: row[each.name] for each in fields(CallFacts)},
        cached_tokens=0,
        output_tokens=0,
        is_estimated=True,
        cost_nano=None if is_unknown else row["floor_nano"],
        error_code=LOST,
        degraded=False,
        charged_nano=row["floor_nano"],
    )


async def read_budget(session: AsyncSession, org_id: UUID, at: datetime) -> BudgetState:
    """Return the organization's budget in the month of `at`."""
    driver = await get_driver(session)
    period = month_of(at)
    row = await driver.fetchrow(_READ_BUDGET, org_id, ORGANIZATION_SCOPE, period)
    assert row is not None  # noqa: S101  # of outer joins on one row
    return BudgetState(**dict(row), resets_at=end_of(period))


async def read_key_budgets(
    session: AsyncSession, org_id: UUID, key_ids: Sequence[UUID], at: datetime
) -> dict[UUID, BudgetState]:
    """Return the budget of each API key in the month of `at`, in one query."""
    driver = await get_driver(session)
    period = month_of(at)
    states = {}
    for row in await driver.fetch(_READ_KEYS, org_id, list(key_ids), period):
        values = dict(row)
        key_id = values.pop("id")
        states[key_id] = BudgetState(**values, resets_at=end_of(period))
    return states


async def set_budget(
    session: AsyncSession,
    org_id: UUID,
    limit_nano: int | None,
    at: datetime,
    *,
    on_alert: BudgetAlertHook | None = None,
) -> None:
    """Set what the organization may spend in a month, from now on; None for no limit.

    Tells what is reached with that.
    """
    driver = await get_driver(session)
    if limit_nano is None:
        await driver.execute(_REMOVE_LIMIT, org_id)
    else:
        await driver.execute(_SET_LIMIT, org_id, limit_nano)
    await _change_limit(session, org_id, ORGANIZATION_SCOPE, limit_nano, at, on_alert)


async def note_key_limit(
    session: AsyncSession,
    org_id: UUID,
    key_id: UUID,
    limit_nano: int | None,
    at: datetime,
    *,
    on_alert: BudgetAlertHook | None = None,
) -> None:
    """Tell what is reached with the limit that an API key's row has been given just now."""
    await _change_limit(session, org_id, str(key_id), limit_nano, at, on_alert)


async def _change_limit(
    session: AsyncSession,
    org_id: UUID,
    scope: str,
    limit_nano: int | None,
    at: datetime,
    on_alert: BudgetAlertHook | None,
) -> None:
    driver = await get_driver(session)
    period = month_of(at)
    await driver.execute(_SET_PERIOD_LIMIT, org_id, scope, period, limit_nano)
    await _tell_alerts(session, org_id, [(scope, period)], on_alert)
