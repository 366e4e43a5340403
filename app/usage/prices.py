"""What a call of a model costs: an override, else the list of `genai-prices`, else unknown.

Money is in nano-USD, billionths of a US dollar. Prices are in US dollars for a million tokens.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from importlib.metadata import version
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database, OrganizationScope, get_driver
from app.core.errors import NotFound
from app.core.timed_cache import TimedCache
from app.llm.model_names import (
    CHAT_PROVIDERS,
    EMBEDDING_PROVIDERS,
    EXTRACTIVE,
    GEMINI,
    LOCAL,
    OLLAMA,
)

OVERRIDE = "override"
FREE = "free"
PROVIDER = "provider"
UNKNOWN = "unknown"

# In this process: no price can be set.
_OURS = frozenset({EXTRACTIVE, LOCAL})
# On machines of one's own, unless an operator says otherwise. A compatible server may be anybody's.
_FREE_PROVIDERS = _OURS | {OLLAMA}
PRICED_PROVIDERS = tuple(sorted({*CHAT_PROVIDERS, *EMBEDDING_PROVIDERS} - _OURS))
# In place of a model: all of the provider's that have no price of their own.
_ANY_MODEL = "*"
_LIBRARY = "genai-prices"
# What the library calls our providers, where its name is another.
_LIBRARY_NAMES = {GEMINI: "google"}
# A price may have a date from which it holds, and a name that a request brings may be any.
_LISTED_TTL_S = 600.0
_MAX_LISTED = 1000
# How long a changed override may go unnoticed by other processes.
_OVERRIDES_TTL_S = 2.0
_MAX_ORGANIZATIONS = 10_000
_NANO_PER_MICRO = 1000

_LOAD_OVERRIDES = """
    SELECT model, input_usd, output_usd, cached_input_usd, false AS is_own FROM model_prices
    UNION ALL
    SELECT model, input_usd, output_usd, cached_input_usd, true FROM organization_prices
    WHERE org_id = $1
    ORDER BY is_own
"""
_LIST_OVERRIDES = """
    SELECT model, input_usd, output_usd, cached_input_usd, NULL::uuid AS org_id, updated_at
    FROM model_prices
    UNION ALL
    SELECT model, input_usd, output_usd, cached_input_usd, org_id, updated_at
    FROM organization_prices
    ORDER BY model, org_id NULLS FIRST
"""
_SET_OVERRIDE = """
    INSERT INTO model_prices (model, input_usd, output_usd, cached_input_usd)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (model) DO UPDATE SET input_usd = excluded.input_usd,
        output_usd = excluded.output_usd, cached_input_usd = excluded.cached_input_usd,
        updated_at = now()
"""
_SET_ORGANIZATION_OVERRIDE = """
    INSERT INTO organization_prices (org_id, model, input_usd, output_usd, cached_input_usd)
    SELECT id, $1, $2, $3, $4 FROM organizations WHERE id = $5
    ON CONFLICT (org_id, model) DO UPDATE SET input_usd = excluded.input_usd,
        output_usd = excluded.output_usd, cached_input_usd = excluded.cached_input_usd,
        updated_at = now()
    RETURNING true
"""
_DELETE_OVERRIDE = "DELETE FROM model_prices WHERE model = $1 RETURNING true"
_DELETE_ORGANIZATION_OVERRIDE = """
    DELETE FROM organization_prices WHERE model = $1 AND org_id = $2 RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars for a million tokens. Cached input costs what other input costs, if None."""

    input_usd: Decimal
    output_usd: Decimal
    cached_input_usd: Decimal | None = None

    def cost_nano(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        cached_usd = self.input_usd if self.cached_input_usd is None else self.cached_input_usd
        cached_tokens = min(cached_tokens, input_tokens)
        micro_usd = (
            (input_tokens - cached_tokens) * self.input_usd
            + cached_tokens * cached_usd
            + output_tokens * self.output_usd
        )
        return round_nano(micro_usd * _NANO_PER_MICRO)


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model. `tiers` are (tokens, rates): a longer prompt pays those for all of its call.

    `source` says where it is from: `override`, `free`, or `genai-prices` with its version.
    """

    rates: Rates
    source: str
    tiers: tuple[tuple[int, Rates], ...] = ()

    @property
    def is_free(self) -> bool:
        return not (self.rates.input_usd or self.rates.output_usd or self.tiers)

    def cost_nano(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        rates = self.rates
        for above_tokens, dearer in self.tiers:
            if input_tokens > above_tokens:
                rates = dearer
        return rates.cost_nano(input_tokens, output_tokens, cached_tokens)


FREE_PRICE = Price(Rates(Decimal(0), Decimal(0)), FREE)

Overrides = Mapping[str, Price]


class PriceBook:
    """Prices by provider and model, with the overrides of the deployment and of organizations."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._overrides = TimedCache[UUID, Overrides](
            _OVERRIDES_TTL_S, max_entries=_MAX_ORGANIZATIONS
        )
        self._listed = TimedCache[tuple[str, str], Price | None](
            _LISTED_TTL_S, max_entries=_MAX_LISTED
        )

    async def price_of(self, provider: str, model: str, org_id: UUID | None = None) -> Price | None:
        """Return what an organization pays for a model; None where no price is known.

        Without `org_id`, what the deployment says. Raises what the database raises.
        """
        if provider in _OURS:
            return FREE_PRICE
        org_id = org_id or UUID(int=0)
        overrides = await self._overrides.get(org_id, partial(self._load_overrides, org_id))
        for name in (model, _ANY_MODEL):
            if override := overrides.get(f"{provider}/{name}"):
                return override
        if provider in _FREE_PROVIDERS:
            return FREE_PRICE
        # The import takes 0.2 s and 5 MB, and a model that is not listed is looked for everywhere.
        look_up = partial(asyncio.to_thread, find_listed_price, provider, model)
        return await self._listed.get((provider, model), look_up)

    def forget(self) -> None:
        """Look overrides up anew: they were changed in this process."""
        self._overrides.clear()

    async def _load_overrides(self, org_id: UUID) -> Overrides:
        async with self._db.reading(OrganizationScope(org_id)) as driver:
            rows = await driver.fetch(_LOAD_OVERRIDES, org_id)
        # An organization's own come last, and so they hold.
        return {
            row["model"]: Price(
                Rates(row["input_usd"], row["output_usd"], row["cached_input_usd"]), OVERRIDE
            )
            for row in rows
        }


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """`org_id` None: for all organizations that have none of their own."""

    model: str
    rates: Rates
    org_id: UUID | None
    updated_at: datetime


async def list_overrides(session: AsyncSession) -> list[PriceOverride]:
    """Return all of the deployment and of organizations, by model. Needs a system transaction."""
    driver = await get_driver(session)
    return [
        PriceOverride(
            row["model"],
            Rates(row["input_usd"], row["output_usd"], row["cached_input_usd"]),
            row["org_id"],
            row["updated_at"],
        )
        for row in await driver.fetch(_LIST_OVERRIDES)
    ]


async def set_override(
    session: AsyncSession, model: str, rates: Rates, org_id: UUID | None
) -> None:
    """Set what `provider/model` costs, or each of the provider's models (`provider/*`).

    Raises NotFound. Needs a system transaction.
    """
    driver = await get_driver(session)
    values = (model, rates.input_usd, rates.output_usd, rates.cached_input_usd)
    if org_id is None:
        await driver.execute(_SET_OVERRIDE, *values)
    elif not await driver.fetchval(_SET_ORGANIZATION_OVERRIDE, *values, org_id):
        raise NotFound("There is no such organization.")


async def delete_override(session: AsyncSession, model: str, org_id: UUID | None) -> None:
    """Raises NotFound where there is none. Needs a system transaction."""
    driver = await get_driver(session)
    if org_id is None:
        found = await driver.fetchval(_DELETE_OVERRIDE, model)
    else:
        found = await driver.fetchval(_DELETE_ORGANIZATION_OVERRIDE, model, org_id)
    if not found:
        raise NotFound("This model has no price of its own here.")


def find_listed_price(provider: str, model: str) -> Price | None:
    """Return today's price of a model as `genai-prices` has it, None where it has none.

    Sends nothing: the list lies in the package.
    """
    # Not at the head of the file: a process that calls no priced model does without.
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        _, listed = get_snapshot().find_provider_model(
            model, None, _LIBRARY_NAMES.get(provider, provider), None
        )
    except LookupError:
        return None
    prices = listed.get_prices(datetime.now(UTC))
    parts = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok)
    if parts[0] is None and parts[1] is None:
        return None
    starts = sorted({tier.start for part in parts for tier in getattr(part, "tiers", ())})
    by_start = [_rates_above(start, parts) for start in (0, *starts)]
    if any(rates.input_usd < 0 or rates.output_usd < 0 for rates in by_start):
        return None  # "it depends", as OpenRouter's automatic choice has it
    tiers = tuple(zip(starts, by_start[1:], strict=True))
    return Price(by_start[0], f"{_LIBRARY} {version(_LIBRARY)}", tiers)


def _rates_above(start: int, parts: tuple[Any, Any, Any]) -> Rates:
    input_usd, output_usd, cached_usd = (_usd_above(start, part) for part in parts)
    return Rates(input_usd or Decimal(0), output_usd or Decimal(0), cached_usd)


def _usd_above(start: int, part: Any) -> Decimal | None:
    """Return one price for prompts of more than `start` tokens."""
    if not hasattr(part, "tiers"):
        return None if part is None else Decimal(part)
    usd: Decimal = part.base
    for tier in part.tiers:
        if tier.start <= start and start > 0:
            usd = tier.price
    return usd


def usd_to_nano(usd: Decimal) -> int:
    return round_nano(usd.scaleb(9))


def nano_to_usd(nano: int) -> str:
    """Return dollars as a decimal number, without needless zeros."""
    dollars = f"{Decimal(nano).scaleb(-9):f}"
    return dollars.rstrip("0").rstrip(".") if "." in dollars else dollars


def round_nano(nano: Decimal) -> int:
    return int(nano.to_integral_value(ROUND_HALF_UP))
