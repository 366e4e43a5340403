"""Money under concurrency and failure: held before a call, settled once, never overspent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.db import Database
from app.core.errors import AppError, BudgetExceeded, ProviderError, RateLimited, Unavailable
from app.core.ids import new_id
from app.core.jobs import JobSender
from app.llm.base import ChatRequest, Finish, Message, Role, Usage
from app.llm.metering import CallKind, CallResult, ModelCall
from app.llm.providers.openai import OpenAIProvider
from app.usage.budgets import BudgetAlert, BudgetReaper, Charge, read_budget, set_budget, settle
from app.usage.metering import Ledger, utc_now
from app.usage.prices import PriceBook
from tests.provider_server import DEFAULT_ANSWER, Failure, ProviderServer, Reply

MODEL = "gpt-4.1-mini"
UNPRICED = "gpt-99-unheard-of"
# The stand-in counts words, and each of them costs this much: a million dollars for a million.
OUTPUT_TOKENS = 9
TOKEN_NANO = 1_000_000_000
CALL_NANO = OUTPUT_TOKENS * TOKEN_NANO


@dataclass(frozen=True)
class Payer:
    org_id: UUID = field(default_factory=new_id)
    user_id: UUID = field(default_factory=new_id)
    key_id: UUID | None = None


@pytest.fixture(scope="module")
async def wide_db(database_url: str, redis_url: str) -> AsyncIterator[Database]:
    jobs = JobSender(redis_url)
    database = Database(database_url, jobs, pool_size=6)
    yield database
    await database.close()
    jobs.close()


@pytest.fixture
async def payer(owner: AsyncConnection) -> Payer:
    """Somebody whose organization pays nothing for input, and a dollar for each token of output."""
    payer = Payer()
    await owner.execute(
        text("INSERT INTO organizations (id, name) VALUES (:id, 'Payers')"), {"id": payer.org_id}
    )
    await owner.execute(
        text(
            "INSERT INTO organization_prices (org_id, model, input_usd, output_usd)"
            " VALUES (:org_id, :model, 0, 1000000)"
        ),
        {"org_id": payer.org_id, "model": f"openai/{MODEL}"},
    )
    return payer


@asynccontextmanager
async def opened(db: Database, **options: Any) -> AsyncIterator[Ledger]:
    ledger = Ledger(db, PriceBook(db), ceiling_usd=Decimal(1_000_000), **options)
    try:
        yield ledger
    finally:
        await ledger.aclose()


@pytest.fixture
async def ledger(wide_db: Database) -> AsyncIterator[Ledger]:
    async with opened(wide_db) as ledger:
        yield ledger


@pytest.fixture
async def provider(server: ProviderServer) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(api_key="k", base_url=server.openai_url)
    yield provider
    await provider.aclose()


def a_call(model: str = MODEL, *, input_tokens: int = 0, output_tokens: int = 9) -> ModelCall:
    return ModelCall(CallKind.CHAT, "openai", model, input_tokens, output_tokens)


async def ask(
    ledger: Ledger, payer: Payer, provider: OpenAIProvider, model: str = MODEL
) -> CallResult:
    """Do what whoever calls a model does."""
    request = ChatRequest(model, (Message(Role.USER, "hello"),), 0.0, OUTPUT_TOKENS)
    async with ledger.meter(payer).measure(a_call(model)) as result:
        async for delta in provider.stream(request):
            if isinstance(delta, Finish):
                result.usage = replace(delta.usage, input_tokens=0)
    return result


async def give_budget(db: Database, payer: Payer, nano: int | None) -> None:
    async with db.transaction(payer) as session:
        await set_budget(session, payer.org_id, nano, utc_now())


async def rows(owner: AsyncConnection, query: str, payer: Payer) -> list[Any]:
    found = await owner.execute(text(query), {"org_id": payer.org_id})
    return list(found.all())


async def periods(owner: AsyncConnection, payer: Payer) -> dict[str, tuple[int, int]]:
    found = await rows(
        owner,
        "SELECT scope, spent_nano, held_nano FROM budget_periods WHERE org_id = :org_id",
        payer,
    )
    return {row.scope: (row.spent_nano, row.held_nano) for row in found}


async def events(owner: AsyncConnection, payer: Payer) -> list[Any]:
    return await rows(owner, "SELECT * FROM usage_events WHERE org_id = :org_id ORDER BY id", payer)


async def test_a_hundred_at_once_on_a_budget_for_ten_make_ten_calls(
    wide_db: Database,
    owner: AsyncConnection,
    payer: Payer,
    server: ProviderServer,
    provider: OpenAIProvider,
) -> None:
    await give_budget(wide_db, payer, 10 * CALL_NANO)

    async def insist(ledger: Ledger) -> AppError | None:
        """Try again as long as only calls under way are in between."""
        while True:
            try:
                await ask(ledger, payer, provider)
                return None
            except RateLimited as error:
                assert error.code == "budget_reserved"
                assert error.retry_after_s == 2
                await asyncio.sleep(0)
            except Unavailable:  # a busy machine: it asked for too long, and no call was made
                await asyncio.sleep(0)
            except BudgetExceeded as error:
                return error

    async with opened(wide_db) as one, opened(wide_db) as other:
        ends = await asyncio.gather(*(insist((one, other)[n % 2]) for n in range(100)))
    refusals = [end for end in ends if end is not None]
    assert len(refusals) == 90
    assert refusals[0].details is not None
    assert refusals[0].details["limit_usd"] == refusals[0].details["spent_usd"] == "90"
    assert refusals[0].details["resets_at"].endswith("-01T00:00:00+00:00")
    assert len(server.calls) == 10
    recorded = await events(owner, payer)
    assert [event.cost_nano for event in recorded] == [CALL_NANO] * 10
    assert sum(event.output_tokens for event in recorded) == 10 * len(DEFAULT_ANSWER.split())
    assert await periods(owner, payer) == {"organization": (10 * CALL_NANO, 0)}
    [daily] = await rows(owner, "SELECT * FROM usage_daily WHERE org_id = :org_id", payer)
    assert (daily.requests, daily.cost_nano, daily.errors) == (10, 10 * CALL_NANO, 0)


async def test_only_reservations_in_between_are_429_and_spent_money_is_402(
    wide_db: Database, payer: Payer, ledger: Ledger
) -> None:
    await give_budget(wide_db, payer, CALL_NANO)
    meter = ledger.meter(payer)
    async with meter.measure(a_call()) as first:
        with pytest.raises(RateLimited) as held:
            async with meter.measure(a_call()):
                pytest.fail("the first call holds all of it")
        first.usage = Usage(0, 8)
    assert held.value.details is not None
    assert (held.value.details["spent_usd"], held.value.details["held_usd"]) == ("0", "9")
    await ledger.check(payer, "openai", MODEL)
    with pytest.raises(BudgetExceeded, match="less than this call may cost"):
        async with meter.measure(a_call()):
            pytest.fail("one dollar is left")
    async with meter.measure(a_call(output_tokens=1)) as last:
        last.usage = Usage(0, 1)
    with pytest.raises(BudgetExceeded, match="is spent"):
        await ledger.check(payer, "openai", MODEL)


async def test_a_key_without_money_holds_none_of_the_organizations(
    wide_db: Database, owner: AsyncConnection, payer: Payer, ledger: Ledger
) -> None:
    await give_budget(wide_db, payer, 100 * CALL_NANO)
    of_key = replace(payer, key_id=await _add_key(owner, payer, nano=CALL_NANO))
    async with ledger.meter(of_key).measure(a_call()) as result:
        with pytest.raises(RateLimited):
            async with ledger.meter(of_key).measure(a_call()):
                pytest.fail("the key's budget is held")
        before = await periods(owner, payer)
        result.usage = Usage(0, OUTPUT_TOKENS)
    scope = str(of_key.key_id)
    assert before == {scope: (0, CALL_NANO), "organization": (0, CALL_NANO)}
    with pytest.raises(BudgetExceeded) as refusal:
        await ledger.check(of_key, "openai", MODEL)
    assert refusal.value.details is not None
    assert refusal.value.details["scope"] == scope
    await ledger.check(payer, "openai", MODEL)
    assert await periods(owner, payer) == {
        scope: (CALL_NANO, 0),
        "organization": (CALL_NANO, 0),
    }


async def _add_key(owner: AsyncConnection, payer: Payer, *, nano: int) -> UUID:
    key_id = new_id()
    ids = {"org_id": payer.org_id, "user_id": payer.user_id, "id": key_id}
    await owner.execute(
        text("INSERT INTO users (id, email, password_hash) VALUES (:id, :email, '')"),
        {"id": payer.user_id, "email": f"{payer.user_id}@example.com"},
    )
    await owner.execute(
        text("INSERT INTO memberships (org_id, user_id, role) VALUES (:org_id, :user_id, 'owner')"),
        {"org_id": payer.org_id, "user_id": payer.user_id},
    )
    await owner.execute(
        text(
            "INSERT INTO api_keys (org_id, id, user_id, name, environment, last_chars,"
            " secret_hash, scope, monthly_budget_nano)"
            " VALUES (:org_id, :id, :user_id, 'k', 'test', 'abcd', :hash, 'write', :nano)"
        ),
        {**ids, "hash": key_id.bytes, "nano": nano},
    )
    return key_id


async def test_settling_twice_counts_once(
    wide_db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    await give_budget(wide_db, payer, 10 * CALL_NANO)
    kept: list[tuple[Any, Any]] = []

    class Recorder(Ledger):
        def _write_soon(self, opened: Any, charge: Charge | None) -> Any:
            kept.append((opened, charge))
            return super()._write_soon(opened, charge)

    recorder = Recorder(wide_db, PriceBook(wide_db), ceiling_usd=Decimal(1))
    async with recorder.meter(payer).measure(a_call()) as result:
        result.usage = Usage(0, 5)
    await recorder.aclose()
    [(_, charge)] = kept
    for _ in range(2):
        async with wide_db.transaction(payer) as session:
            await settle(session, payer.org_id, [charge], reserved=[charge.id])
    assert await periods(owner, payer) == {"organization": (5 * TOKEN_NANO, 0)}
    assert len(await events(owner, payer)) == 1


async def test_what_a_killed_process_holds_is_settled_at_its_input(
    wide_db: Database, owner: AsyncConnection, payer: Payer, ledger: Ledger
) -> None:
    await owner.execute(
        text("UPDATE organization_prices SET input_usd = 1000000 WHERE org_id = :org_id"),
        {"org_id": payer.org_id},
    )
    await give_budget(wide_db, payer, 100 * CALL_NANO)
    call = a_call(input_tokens=3)
    opened_call = await ledger.open_call(payer, None, call)
    reaper = BudgetReaper(wide_db)
    await reaper.reap()
    # With the estimate's margin of a fifth.
    assert await periods(owner, payer) == {"organization": (0, 4 * TOKEN_NANO + CALL_NANO)}
    await owner.execute(
        text(
            "UPDATE budget_reservations SET expires_at = now() - interval '1 s'"
            " WHERE org_id = :org_id"
        ),
        {"org_id": payer.org_id},
    )
    assert await reaper.reap() == 1
    [event] = await events(owner, payer)
    assert (event.error_code, event.input_tokens, event.output_tokens) == ("lost", 3, 0)
    assert (event.cost_nano, event.is_estimated) == (3 * TOKEN_NANO, True)
    assert await periods(owner, payer) == {"organization": (3 * TOKEN_NANO, 0)}
    # It was not dead, only slow.
    result = CallResult(Usage(3, 9))
    ledger.close_call(opened_call, call, result)
    await ledger.flush()
    assert await periods(owner, payer) == {"organization": (3 * TOKEN_NANO, 0)}
    assert await reaper.reap() == 0


async def test_a_call_over_the_months_end_is_paid_by_the_month_that_it_began_in(
    wide_db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    moment = [datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)]
    await give_budget(wide_db, payer, CALL_NANO)
    async with (
        opened(wide_db, now=lambda: moment[0]) as ledger,
        ledger.meter(payer).measure(a_call()) as result,
    ):
        moment[0] = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)
        # The new month has its whole budget.
        async with ledger.meter(payer).measure(a_call()) as other:
            other.usage = Usage(0, 1)
        result.usage = Usage(0, OUTPUT_TOKENS)
    found = await rows(
        owner,
        "SELECT period, spent_nano, held_nano FROM budget_periods WHERE org_id = :org_id"
        " AND limit_nano IS NOT NULL ORDER BY period",
        payer,
    )
    by_month = {f"{row.period:%Y-%m}": (row.spent_nano, row.held_nano) for row in found}
    assert by_month == {"2026-11": (CALL_NANO, 0), "2026-12": (TOKEN_NANO, 0)}


async def test_with_the_database_away_no_call_is_made(
    redis_url: str, payer: Payer, server: ProviderServer, provider: OpenAIProvider
) -> None:
    """It takes the connection and says nothing: like a firewall, or a frozen host."""
    gone = asyncio.Event()

    async def say_nothing(_r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    blackhole = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = blackhole.sockets[0].getsockname()[1]
    jobs = JobSender(redis_url)
    away = Database(f"postgresql+asyncpg://footnote@127.0.0.1:{port}/footnote", jobs, pool_size=1)
    async with opened(away, patience_s=0.2) as ledger:
        with pytest.raises(Unavailable) as refusal:
            await ask(ledger, payer, provider)
        with pytest.raises(Unavailable):
            await ledger.check(payer, "openai", MODEL)
    assert (refusal.value.code, refusal.value.status) == ("budget_unavailable", 503)
    assert server.calls == []
    gone.set()
    blackhole.close()
    await away.close()
    jobs.close()


async def test_an_alert_comes_once_for_each_threshold(
    wide_db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    alerts: list[tuple[str, int]] = []

    async def note(_: AsyncSession, alert: BudgetAlert) -> None:
        alerts.append((alert.scope, alert.percent))

    await give_budget(wide_db, payer, 10 * TOKEN_NANO)
    told: list[list[tuple[str, int]]] = []
    async with opened(wide_db, on_alert=note) as ledger:
        for tokens in (7, 1, 1, 1):
            async with ledger.meter(payer).measure(a_call(output_tokens=tokens)) as result:
                result.usage = Usage(0, tokens)
            told.append(list(alerts))
    eighty, hundred = ("organization", 80), ("organization", 100)
    assert told == [[], [eighty], [eighty], [eighty, hundred]]
    async with wide_db.transaction(payer) as session:
        state = await read_budget(session, payer.org_id, utc_now())
    assert state.percent == 100
    assert [percent for percent, _ in state.alerts] == [80, 100]


async def test_an_unknown_price_costs_nobody_knows_what_and_the_budget_its_ceiling(
    wide_db: Database, owner: AsyncConnection, payer: Payer, ledger: Ledger
) -> None:
    await give_budget(wide_db, payer, CALL_NANO)
    async with ledger.meter(payer).measure(a_call(UNPRICED)) as result:
        result.usage = Usage(2, 7)
    [event] = await events(owner, payer)
    assert (event.cost_nano, event.price_source, result.cost_nano) == (None, "unknown", None)
    assert await periods(owner, payer) == {"organization": (CALL_NANO, 0)}
    with pytest.raises(BudgetExceeded):
        async with ledger.meter(payer).measure(a_call(UNPRICED)):
            pytest.fail("it would be free by accident")


async def test_without_a_budget_nothing_is_held_and_all_is_counted(
    owner: AsyncConnection, payer: Payer, ledger: Ledger, provider: OpenAIProvider
) -> None:
    result = await ask(ledger, payer, provider)
    assert result.cost_nano == 8 * TOKEN_NANO or result.cost_nano == CALL_NANO
    query = "SELECT * FROM budget_reservations WHERE org_id = :org_id"
    assert await rows(owner, query, payer) == []
    assert await periods(owner, payer) == {"organization": (result.cost_nano, 0)}


@pytest.mark.parametrize(
    ("reply", "code", "is_billed"),
    [
        (Reply(failure=Failure.STATUS, status=429), "provider_rate_limited", False),
        (Reply(failure=Failure.STATUS, status=401), "provider_auth", False),
        (Reply(failure=Failure.CUT), "provider_truncated", True),
        (Reply(failure=Failure.MALFORMED), "provider_protocol", True),
    ],
    ids=lambda value: getattr(value, "failure", value),
)
async def test_a_failed_call_costs_its_input_once_the_model_worked(
    reply: Reply,
    code: str,
    is_billed: bool,
    owner: AsyncConnection,
    payer: Payer,
    ledger: Ledger,
    server: ProviderServer,
    provider: OpenAIProvider,
) -> None:
    await owner.execute(
        text("UPDATE organization_prices SET input_usd = 1000000 WHERE org_id = :org_id"),
        {"org_id": payer.org_id},
    )
    server.script(reply)
    request = ChatRequest(MODEL, (Message(Role.USER, "hello"),), 0.0, OUTPUT_TOKENS)
    with pytest.raises(ProviderError):
        async with ledger.meter(payer).measure(a_call(input_tokens=5)):
            async for _ in provider.stream(request):
                pass
    [event] = await events(owner, payer)
    assert event.error_code == code
    assert event.cost_nano == (5 * TOKEN_NANO if is_billed else 0)
    [daily] = await rows(owner, "SELECT * FROM usage_daily WHERE org_id = :org_id", payer)
    assert (daily.requests, daily.errors) == (1, 1)


async def test_who_is_cancelled_pays_for_what_was_written(
    owner: AsyncConnection, payer: Payer, ledger: Ledger, wide_db: Database
) -> None:
    await give_budget(wide_db, payer, 100 * CALL_NANO)
    is_under_way = asyncio.Event()

    async def answer() -> None:
        async with ledger.meter(payer).measure(a_call(output_tokens=100)) as result:
            result.usage = Usage(0, 50, is_estimated=True)
            is_under_way.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(answer())
    await is_under_way.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await ledger.flush()
    [event] = await events(owner, payer)
    assert (event.error_code, event.output_tokens) == ("interrupted", 50)
    assert await periods(owner, payer) == {"organization": (50 * TOKEN_NANO, 0)}


async def test_another_organization_sees_nothing_of_it(
    wide_db: Database, owner: AsyncConnection, payer: Payer, ledger: Ledger
) -> None:
    await give_budget(wide_db, payer, CALL_NANO)
    async with ledger.meter(payer).measure(a_call()) as result:
        result.usage = Usage(0, 1)
    tables: tuple[str, ...] = (
        *("usage_events", "usage_daily", "budgets", "budget_periods", "budget_reservations"),
        "organization_prices",
    )
    count: Callable[[str], str] = lambda table: f"SELECT count(*) FROM {table}"  # noqa: E731
    for table in tables:
        async with wide_db.transaction(payer) as session:
            own = await session.scalar(text(count(table)))
        async with wide_db.transaction(Payer()) as session:
            others = await session.scalar(text(count(table)))
        assert (own, others) == (1, 0), table


async def test_events_of_calls_without_a_limit_linger_until_somebody_asks(
    wide_db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    async with opened(wide_db, linger_s=600.0) as ledger:
        for _ in range(2):
            async with ledger.meter(payer).measure(a_call()) as result:
                result.usage = Usage(0, 1)
        assert await events(owner, payer) == []
        await ledger.flush(payer.org_id)
        assert len(await events(owner, payer)) == 2
        async with ledger.meter(payer).measure(a_call()) as result:
            result.usage = Usage(0, 1)
    assert len(await events(owner, payer)) == 3
    assert await periods(owner, payer) == {"organization": (3 * TOKEN_NANO, 0)}


async def test_nothing_lingers_that_a_budget_counts_on(
    wide_db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    await give_budget(wide_db, payer, 2 * CALL_NANO)
    async with opened(wide_db, linger_s=600.0) as ledger:
        async with ledger.meter(payer).measure(a_call()) as result:
            result.usage = Usage(0, 1)
        assert await periods(owner, payer) == {"organization": (TOKEN_NANO, 0)}
        async with ledger.meter(payer, in_background=True).measure(a_call()) as result:
            result.usage = Usage(0, 1)
        assert len(await events(owner, payer)) == 2
