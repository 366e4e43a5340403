"""The ledger: each call of a model is one usage event, and no call begins that nobody can pay.

Events are written by a task for each organization that has any: what several calls end with goes
into one transaction, and a caller that is cancelled need not wait for it. Those of calls that no
limit holds anything for may linger, so that more go into one: what a process that is killed takes
along of them is USAGE_LINGER_S at most. Who asks for the usage has them written first (`flush`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import structlog
from prometheus_client import Counter

from app.core.db import DATABASE_ERRORS, Database, OrganizationScope, sqlstate_of
from app.core.errors import AppError, ProviderErrorKind, Unavailable
from app.core.ids import new_id
from app.core.text import storable
from app.core.timed_cache import TimedCache
from app.core.tokens import with_margin
from app.llm.base import Usage
from app.llm.metering import CallMeter, CallResult, ModelCall
from app.llm.model_names import EXTRACTIVE, LOCAL
from app.usage.budgets import (
    LEASE_S,
    BudgetAlertHook,
    BudgetLimits,
    CallFacts,
    Charge,
    Payer,
    find_limits,
    refuse_spent,
    renew,
    reserve,
    settle,
)
from app.usage.limits import Limiter, TokenReservation
from app.usage.prices import FREE, PROVIDER, UNKNOWN, Price, PriceBook, Rates, usd_to_nano

log = structlog.get_logger(__name__)

USAGE_OF_DELETED_ORGANIZATIONS = Counter(
    "footnote_usage_of_deleted_organizations_total",
    "Calls whose organization was deleted before they ended: nobody is left to count them for",
)
INTERRUPTED = "interrupted"
USAGE_LINGER_S = 0.3

# How long a change of a limit may go unnoticed, and how long a call waits for the database.
_LIMITS_TTL_S = 2.0
_PATIENCE_S = 5.0
_MAX_KNOWN = 10_000
_RENEW_S = LEASE_S / 4
# Who has the answer waits for its event no longer; it is written all the same.
_WAIT_S = 2.0
_MAX_BATCH = 200
_SLOTS = 3
_RETRY_MAX_S = 5.0
_LAST_WORDS_S = 5.0
# SQLSTATE classes of what no second try mends.
_HOPELESS_SQLSTATES = ("22", "23", "42")
# Of a row that went meanwhile: the organization, or a webhook, which a second try does not find.
_FOREIGN_KEY_VIOLATION = "23503"
_IS_THERE = "SELECT EXISTS (SELECT FROM organizations WHERE id = $1)"
# In this process: no price, no limit of tokens.
_OURS = frozenset({EXTRACTIVE, LOCAL})
# The vendor has refused, and asks no money for that.
_REFUSALS = frozenset(
    f"provider_{kind.value}"
    for kind in (
        ProviderErrorKind.AUTH,
        ProviderErrorKind.QUOTA,
        ProviderErrorKind.RATE_LIMITED,
        ProviderErrorKind.OVERLOADED,
        ProviderErrorKind.UNREACHABLE,
        ProviderErrorKind.MODEL_NOT_FOUND,
        ProviderErrorKind.BAD_REQUEST,
        ProviderErrorKind.CONTEXT_LENGTH,
    )
)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, eq=False)
class _Open:
    """A call under way. `reservation` is None where nothing is held for it."""

    org_id: UUID
    facts: CallFacts
    price: Price | None
    holds_money: bool
    tokens: TokenReservation | None
    in_background: bool

    @property
    def may_linger(self) -> bool:
        """Whether nobody counts on its event. Where nobody waits, nobody keeps the loop going."""
        holds_tokens = self.tokens is not None and bool(self.tokens.taken)
        return not (self.holds_money or holds_tokens or self.in_background)


@dataclass(slots=True, eq=False)
class _Entry:
    """What is to be written. Without `charge` the call was never made."""

    facts: CallFacts
    charge: Charge | None
    holds_money: bool
    tokens: TokenReservation | None
    lingers: bool
    written: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Queue:
    """What is to be written of an organization, the oldest first."""

    entries: list[_Entry] = field(default_factory=list)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Meter:
    ledger: "Ledger"
    payer: Payer
    run_id: UUID | None
    in_background: bool

    @asynccontextmanager
    async def measure(self, call: ModelCall) -> AsyncIterator[CallResult]:
        """See CallMeter."""
        opened = await self.ledger.open_call(
            self.payer, self.run_id, call, in_background=self.in_background
        )
        result = CallResult()
        may_wait = True
        try:
            yield result
        except AppError as error:
            result.error_code = result.error_code or error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            result.error_code = result.error_code or INTERRUPTED
            may_wait = False
            raise
        except BaseException:
            result.error_code = result.error_code or AppError.code
            raise
        finally:
            entry = self.ledger.close_call(opened, call, result)
            if may_wait and not entry.lingers:
                await wait_until_written(entry)


class Ledger:
    """Keeps the accounts of all calls of one process. Belongs to one event loop.

    A call whose price is unknown is admitted, and counts in budgets, as if each of its tokens cost
    `ceiling_usd` for a million. Events may linger for `linger_s`.
    """

    def __init__(
        self,
        db: Database,
        prices: PriceBook,
        limiter: Limiter | None = None,
        *,
        ceiling_usd: Decimal,
        on_alert: BudgetAlertHook | None = None,
        now: Callable[[], datetime] = utc_now,
        patience_s: float = _PATIENCE_S,
        linger_s: float = 0.0,
    ) -> None:
        self._db = db
        self._prices = prices
        self._limiter = limiter
        self._ceiling = Rates(ceiling_usd, ceiling_usd)
        self._on_alert = on_alert
        self._now = now
        self._patience_s = patience_s
        self._linger_s = linger_s
        self._limits = TimedCache[tuple[UUID, UUID | None], BudgetLimits](
            _LIMITS_TTL_S, max_entries=_MAX_KNOWN
        )
        self._held: set[tuple[UUID, UUID]] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._queues: dict[UUID, _Queue] = {}
        self._writers: dict[UUID, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_SLOTS)
        self._give_up_at: float | None = None

    def meter(
        self, payer: Payer, run_id: UUID | None = None, *, in_background: bool = False
    ) -> CallMeter:
        """Return what measures the calls of one payer.

        What nobody waits for (`in_background`) takes none of the tokens of a day.
        """
        return _Meter(self, payer, run_id, in_background)

    async def check(self, payer: Payer, provider: str, model: str) -> None:
        """Raise BudgetExceeded before anything is begun: where nothing is left, and it costs.

        Unavailable (`budget_unavailable`) while nobody can say.
        """
        async with _asking_database(self._patience_s):
            price = await self._prices.price_of(provider, model, payer.org_id)
            if price is not None and price.is_free:
                return
            limits = await self._find_limits(payer)
            if limits.in_order(payer.key_id):
                async with self._db.reading(payer) as driver:
                    await refuse_spent(driver, payer, limits, self._now())

    def forget_limits(self) -> None:
        """Look limits up anew: one was changed in this process."""
        self._limits.clear()

    async def open_call(
        self, payer: Payer, run_id: UUID | None, call: ModelCall, *, in_background: bool = False
    ) -> _Open:
        """Reserve what a call may cost. Raises as `CallMeter.measure` says."""
        is_ours = call.provider in _OURS
        price, limits = None, BudgetLimits()
        async with _asking_database(self._patience_s):
            price = await self._prices.price_of(call.provider, call.model, payer.org_id)
            if not is_ours:
                limits = await self._find_limits(payer)
        facts = CallFacts(
            id=new_id(),
            at=self._now(),
            user_id=payer.user_id,
            key_id=payer.key_id,
            run_id=run_id,
            kind=call.kind.value,
            provider=call.provider,
            model=storable(call.model),
            attempt=call.attempt,
            input_tokens=call.input_tokens,
            price_source=price.source if price else UNKNOWN,
        )
        tokens = None
        if self._limiter is not None and not is_ours and not in_background:
            most = call.input_tokens + call.max_output_tokens
            tokens = await self._limiter.reserve_tokens(payer, most)
        opened = _Open(payer.org_id, facts, price, False, tokens, in_background)
        if limits.in_order(payer.key_id):
            await self._reserve(payer, opened, call, limits)
        return opened

    def close_call(self, opened: _Open, call: ModelCall, result: CallResult) -> _Entry:
        """Settle a call: fill in `result.cost_nano` and have the event written."""
        charge = self._charge(opened, call, result)
        result.cost_nano = charge.cost_nano
        return self._write_soon(opened, charge)

    async def flush(self, org_id: UUID | None = None) -> None:
        """Wait until all events of calls that have ended are written.

        Of one organization: those of now, and 2 s at most where the database is away.
        """
        if org_id is not None:
            if (queue := self._queues.get(org_id)) and queue.entries:
                queue.hurry.set()
                await wait_until_written(queue.entries[-1])
            return
        while self._writers:
            for queue in self._queues.values():
                queue.hurry.set()
            await asyncio.wait(list(self._writers.values()))

    async def aclose(self) -> None:
        """Write what is left, for 5 s at most where the database is away."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        self._give_up_at = time.monotonic() + _LAST_WORDS_S
        await self.flush()

    async def _find_limits(self, payer: Payer) -> BudgetLimits:
        return await self._limits.get(
            (payer.org_id, payer.key_id), partial(self._load_limits, payer)
        )

    async def _load_limits(self, payer: Payer) -> BudgetLimits:
        async with self._db.reading(payer) as driver:
            return await find_limits(driver, payer)

    async def _reserve(
        self, payer: Payer, opened: _Open, call: ModelCall, limits: BudgetLimits
    ) -> None:
        nano = self._worth(opened.price, with_margin(call.input_tokens), call.max_output_tokens)
        if not nano:
            return
        floor_nano = self._worth(opened.price, call.input_tokens, 0)
        try:
            async with _asking_database(self._patience_s), self._db.transaction(payer) as session:
                await reserve(
                    session, payer.org_id, opened.facts, limits, nano=nano, floor_nano=floor_nano
                )
        except BaseException as error:
            # Perhaps it was committed, and only the answer was lost.
            opened.holds_money = not isinstance(error, AppError) or isinstance(error, Unavailable)
            self._write_soon(opened, None)
            raise
        opened.holds_money = True
        self._held.add((opened.org_id, opened.facts.id))
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), context=Context())

    def _worth(self, price: Price | None, input_tokens: int, output_tokens: int) -> int:
        return (price or self._ceiling).cost_nano(input_tokens, output_tokens)

    def _charge(self, opened: _Open, call: ModelCall, result: CallResult) -> Charge:
        usage, price, source = _usage_of(call, result), opened.price, opened.facts.price_source
        counts = (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
        cost_nano: int | None
        if result.cost_usd is not None and result.cost_usd.is_finite() and result.cost_usd >= 0:
            cost_nano, source = usd_to_nano(result.cost_usd), PROVIDER
        elif not usage.input_tokens and not usage.output_tokens:
            cost_nano, source = 0, FREE
        else:
            cost_nano = price.cost_nano(*counts) if price else None
        facts = opened.facts
        return Charge(
            id=facts.id,
            at=facts.at,
            user_id=facts.user_id,
            key_id=facts.key_id,
            run_id=facts.run_id,
            kind=facts.kind,
            provider=facts.provider,
            model=facts.model,
            attempt=facts.attempt,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
            is_estimated=usage.is_estimated,
            cost_nano=cost_nano,
            price_source=source,
            error_code=result.error_code,
            degraded=facts.provider == EXTRACTIVE,
            charged_nano=self._ceiling.cost_nano(*counts) if cost_nano is None else cost_nano,
        )

    # Writing

    def _write_soon(self, opened: _Open, charge: Charge | None) -> _Entry:
        self._held.discard((opened.org_id, opened.facts.id))
        lingers = self._linger_s > 0 and opened.may_linger
        entry = _Entry(opened.facts, charge, opened.holds_money, opened.tokens, lingers)
        org_id = opened.org_id
        queue = self._queues.setdefault(org_id, _Queue())
        queue.entries.append(entry)
        if not lingers or len(queue.entries) >= _MAX_BATCH:
            queue.hurry.set()
        if org_id not in self._writers:
            # Of no request: it goes on when that is over.
            self._writers[org_id] = asyncio.create_task(self._write(org_id), context=Context())
        return entry

    async def _write(self, org_id: UUID) -> None:
        """Write what an organization's calls end with until nothing is left."""
        queue = self._queues[org_id]
        try:
            while queue.entries:
                await self._linger(queue)
                batch = queue.entries[:_MAX_BATCH]
                await self._write_batch(org_id, batch)
                del queue.entries[: len(batch)]
                for entry in batch:
                    entry.written.set()
        finally:
            del self._writers[org_id], self._queues[org_id]

    async def _linger(self, queue: _Queue) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                await queue.hurry.wait()
        if len(queue.entries) <= _MAX_BATCH:  # the others may not wait again
            queue.hurry.clear()

    async def _write_batch(self, org_id: UUID, batch: Sequence[_Entry]) -> None:
        """Try until it is done. What can't be written at all is logged and left out."""
        wait_s = 0.1
        while True:
            try:
                await self._settle(org_id, batch)
                return
            except DATABASE_ERRORS as error:
                is_last = self._give_up_at is not None and time.monotonic() >= self._give_up_at
                lacks_row = sqlstate_of(error) == _FOREIGN_KEY_VIOLATION
                if lacks_row and await self._is_deleted(org_id):
                    USAGE_OF_DELETED_ORGANIZATIONS.inc(len(batch))
                    log.info("usage_of_deleted_organization", events=len(batch))
                    return
                if is_last or (_is_hopeless(error) and not lacks_row):
                    log.error("usage_lost", events=len(batch), error=type(error).__name__)
                    return
                log.warning("usage_not_written", events=len(batch), error=type(error).__name__)
            except Exception:  # the events behind them may go well
                log.exception("usage_lost", events=len(batch))
                return
            await asyncio.sleep(wait_s)
            wait_s = min(_RETRY_MAX_S, 2 * wait_s)

    async def _is_deleted(self, org_id: UUID) -> bool:
        try:
            async with self._db.reading(OrganizationScope(org_id)) as driver:
                return not await driver.fetchval(_IS_THERE, org_id)
        except DATABASE_ERRORS:
            return False  # nobody knows: it is tried again

    async def _settle(self, org_id: UUID, batch: Sequence[_Entry]) -> None:
        charges = [entry.charge for entry in batch if entry.charge is not None]
        reserved = [entry.facts.id for entry in batch if entry.holds_money]
        if charges or reserved:
            async with self._slots, self._db.transaction(OrganizationScope(org_id)) as session:
                await settle(session, org_id, charges, reserved=reserved, on_alert=self._on_alert)
        if self._limiter is None:
            return
        for entry in batch:
            if entry.tokens is not None:
                taken = entry.charge
                tokens = taken.input_tokens + taken.output_tokens if taken else 0
                await self._limiter.settle_tokens(entry.tokens, tokens)
                entry.tokens = None

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            if not self._held:
                continue
            try:
                async with self._db.system_transaction() as session:
                    await renew(session, list(self._held))
            except DATABASE_ERRORS as error:
                log.warning("reservations_not_renewed", error=type(error).__name__)


async def wait_until_written(entry: _Entry) -> None:
    """Wait for an event, so that who asks for the usage finds it; not for long."""
    try:
        async with asyncio.timeout(_WAIT_S):
            await entry.written.wait()
    except TimeoutError:
        log.warning("usage_is_late")


@asynccontextmanager
async def _asking_database(patience_s: float) -> AsyncIterator[None]:
    """Turn a database that is away into Unavailable: without it nobody knows what is left."""
    try:
        async with asyncio.timeout(patience_s):
            yield
    except DATABASE_ERRORS as error:
        if _is_hopeless(error):
            raise
        log.warning("budget_unavailable", error=type(error).__name__)
        raise Unavailable(
            "What is left of the budget can't be looked up.",
            code="budget_unavailable",
            retry_after_s=2.0,
        ) from error


def _usage_of(call: ModelCall, result: CallResult) -> Usage:
    """Return what counts: without a word from the caller, that the input was read."""
    if result.usage is not None:
        has_output = result.usage.output_tokens > 0
        return Usage(0, 0) if result.error_code in _REFUSALS and not has_output else result.usage
    if result.error_code in _REFUSALS:
        return Usage(0, 0)
    return Usage(call.input_tokens, 0, is_estimated=True)


def _is_hopeless(error: Exception) -> bool:
    return sqlstate_of(error).startswith(_HOPELESS_SQLSTATES)
