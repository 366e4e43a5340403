"""Rates, counts, leases and delays on a real Redis, which is wiped and goes away."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from uuid import uuid4

import httpx2
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.config import Settings
from app.core.ids import new_id
from app.core.rates import (
    Check,
    Count,
    Delay,
    Lease,
    LocalRates,
    Rate,
    RateStore,
    Settlement,
    Verdict,
)
from app.core.redis import open_redis
from app.local.redis import Redis
from app.migrations import downgrade, upgrade
from app.resources import Resources
from tests.api_process import running_api
from tests.owner_sql import run_sql
from tests.people import Person


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """One that these tests wipe and stop."""
    with Redis(tmp_path_factory.mktemp("limits-redis")) as server:
        yield server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def key() -> str:
    return f"test:{uuid4().hex}"


def open_store(stack: AsyncExitStack, server: Redis) -> RateStore:
    """As a process has it: with connections of its own."""
    redis = open_redis(server.url, timeout_s=2.0, max_connections=8)
    stack.push_async_callback(redis.aclose, close_connection_pool=True)
    return RateStore(redis)


@pytest.fixture
def store(stack: AsyncExitStack, own_redis: Redis) -> RateStore:
    return open_store(stack, own_redis)


def passed(verdicts: Sequence[Verdict]) -> int:
    return sum(verdict.refused is None for verdict in verdicts)


async def test_of_500_at_once_exactly_100_pass(
    stack: AsyncExitStack, own_redis: Redis, key: str
) -> None:
    stores = [open_store(stack, own_redis) for _ in range(4)]
    rate = Rate(key, 100, step_s=5.0)
    verdicts = await asyncio.gather(*(stores[n % 4].take([rate]) for n in range(500)))
    assert passed(verdicts) == 100
    refused = [verdict for verdict in verdicts if verdict.refused is not None]
    assert all(0 < verdict.wait_s <= 5.0 for verdict in refused)
    assert all(not verdict.is_local for verdict in verdicts)


async def test_who_waits_as_told_passes_and_not_before(store: RateStore, key: str) -> None:
    rate = Rate(key, 2, period_s=1.0)
    assert passed([await store.take([rate]) for _ in range(2)]) == 2
    refused = await store.take([rate])
    assert refused.refused == 0
    assert 0.3 < refused.wait_s <= 0.5
    await asyncio.sleep(refused.wait_s / 2)
    again = await store.take([rate])
    assert again.refused == 0
    await asyncio.sleep(again.wait_s)
    assert passed([await store.take([rate]) for _ in range(2)]) == 1


async def test_time_counts_in_whole_steps_and_the_wait_knows(store: RateStore, key: str) -> None:
    rate = Rate(key, 10, period_s=2.0, step_s=1.0)  # one each 0.2 s, five at a time
    began = time.monotonic()
    assert passed([await store.take([rate]) for _ in range(10)]) == 10
    await asyncio.sleep(0.4)
    refused = await store.take([rate])
    assert refused.refused == 0
    await asyncio.sleep(refused.wait_s)
    assert time.monotonic() - began >= 1.0
    assert passed([await store.take([rate]) for _ in range(6)]) == 5


@pytest.mark.parametrize("limit", [1, 7, 60, 999, 7001])
async def test_a_limit_is_exact_whatever_its_number(store: RateStore, key: str, limit: int) -> None:
    rate = Rate(key, limit, cost=limit - 1 or 1, step_s=5.0)
    first = await store.take([rate])
    assert first.standings[0].left == (1 if limit > 1 else 0)
    one = Rate(key, limit, step_s=5.0)
    assert passed([await store.take([one]) for _ in range(2)]) == (1 if limit > 1 else 0)


async def test_units_that_are_given_back_are_there_again(store: RateStore, key: str) -> None:
    assert passed([await store.take([Rate(key, 3)]) for _ in range(4)]) == 3
    await store.take([Rate(key, 3, cost=-1)])
    assert passed([await store.take([Rate(key, 3)]) for _ in range(2)]) == 1
    for _ in range(5):  # more than there were
        await store.take([Rate(key, 3, cost=-1)])
    assert passed([await store.take([Rate(key, 3)]) for _ in range(5)]) == 3


async def test_all_are_taken_or_none(store: RateStore, key: str) -> None:
    wide, narrow = Rate(f"{key}:wide", 10), Rate(f"{key}:narrow", 1)
    lease, delay = Lease(f"{key}:lease", 5, "one", 60), Delay(f"{key}:delay", 5, 60, 60)
    count = Count(f"{key}:count", 100, 10, int(time.time()) + 60)
    await store.seed(count, 0)
    checks: list[Check] = [wide, count, lease, delay, narrow]
    first = await store.take(checks)
    assert first.refused is None
    assert [standing.left for standing in first.standings] == [9, 90, 4, 4, 0]
    assert (await store.take(checks)).refused == 4
    assert (await store.take([Rate(wide.key, 10, cost=0)])).standings[0].left == 9
    peek = Count(count.key, 100, 0, count.ends_at)
    assert (await store.take([peek])).standings[0].left == 90
    assert (await store.take([delay])).standings[0].left == 3


async def test_the_check_that_holds_longest_is_named(store: RateStore, key: str) -> None:
    soon, late = Rate(f"{key}:soon", 1, period_s=1), Rate(f"{key}:late", 1, period_s=50)
    await store.take([soon, late])
    verdict = await store.take([soon, late])
    assert verdict.refused == 1
    assert verdict.wait_s > 45


async def test_leases_run_out_unless_they_are_renewed(store: RateStore, key: str) -> None:
    leases = [Lease(key, 2, member, 0.6) for member in ("one", "two", "three")]
    assert passed([await store.take([lease]) for lease in leases]) == 2
    await asyncio.sleep(0.4)
    assert passed([await store.take([leases[0]])]) == 1  # renewed, though all places are taken
    await asyncio.sleep(0.4)
    assert await store.count_leases(key) == 1
    assert passed([await store.take([leases[2]])]) == 1
    assert passed([await store.take([leases[1]])]) == 0
    await store.forget(key, members=["one"])
    assert passed([await store.take([leases[1]])]) == 1


async def test_delays_grow_and_lock_nobody_out(store: RateStore, key: str) -> None:
    delay = Delay(key, 3, 60, 60)
    assert passed([await store.take([delay]) for _ in range(3)]) == 3
    waits = []
    for _ in range(20):  # asking does not make it longer
        waits.append((await store.take([delay])).wait_s)
    assert max(waits) <= 1.0
    await asyncio.sleep(waits[-1])
    assert passed([await store.take([delay])]) == 1
    assert 1.0 < (await store.take([delay])).wait_s <= 2.0
    await store.forget(key)
    assert passed([await store.take([delay])]) == 1


def test_a_delay_has_an_end() -> None:
    delay = Delay("", 5, 60.0, 3600.0)
    seconds = [delay.wait_us(tries) // 1_000_000 for tries in range(4, 14)]
    assert seconds == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_count_that_was_wiped_is_begun_with_what_is_known(
    store: RateStore, own_redis: Redis, key: str
) -> None:
    count = Count(key, 100, 30, int(time.time()) + 60)
    assert (await store.take([count])).unseeded == 0
    await store.seed(count, 50)
    await store.seed(count, 0)  # somebody else was faster
    taken = await store.take([count])
    assert taken.standings[0].left == 20
    assert (await store.take([count])).refused == 0
    await own_flush(own_redis)
    assert (await store.take([count])).unseeded == 0
    await store.seed(count, 50)
    # The counter of now knows nothing of the 30 that were held before.
    old = Settlement(key, taken.standings[0].counter, taken=30, actual=5)
    await store.settle([old])
    peek = Count(key, 100, 0, count.ends_at)
    assert (await store.take([peek])).standings[0].left == 45


async def own_flush(server: Redis) -> None:
    redis = open_redis(server.url)
    await redis.flushall()
    await redis.aclose(close_connection_pool=True)


async def test_settling_corrects_the_count(store: RateStore, key: str) -> None:
    count = Count(key, 100, 60, int(time.time()) + 60)
    await store.seed(count, 0)
    taken = await store.take([count])
    assert (await store.take([count])).refused == 0
    await store.settle([Settlement(key, taken.standings[0].counter, taken=60, actual=10)])
    assert (await store.take([count])).standings[0].left == 30
    await store.settle([Settlement(f"{key}:ended", 1, taken=60, actual=10)])
    assert (await store.take([Count(f"{key}:ended", 100, 0, 2**33)])).unseeded == 0


async def test_while_redis_is_away_half_of_each_rate_holds(
    stack: AsyncExitStack, tmp_path: Path, key: str
) -> None:
    def without_redis() -> float:
        return REGISTRY.get_sample_value("footnote_limits_without_redis") or 0.0

    with Redis(tmp_path / "redis") as server:
        store = open_store(stack, server)
        rate = Rate(key, 100, step_s=5.0)
        assert not (await store.take([rate])).is_local
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        verdicts = await asyncio.gather(*(store.take([rate]) for _ in range(200)))
        assert passed(verdicts) == 50
        assert without_redis() == 1.0
        count = Count(f"{key}:count", 10, 4, int(time.time()) + 60)
        assert (await store.take([count])).unseeded == 0
        await store.seed(count, 2)
        assert passed([await store.take([count]) for _ in range(3)]) == 2
        server.spawn()
        await asyncio.to_thread(server.wait_until_ready)
        async with asyncio.timeout(10):
            while (await store.take([rate])).is_local:
                await asyncio.sleep(0.05)
        assert without_redis() == 0.0
        # What was counted here meanwhile is in the database, so Redis is told anew.
        assert (await store.take([count])).unseeded == 0


async def test_a_crowd_waits_once_for_a_redis_that_hangs(
    stack: AsyncExitStack, tmp_path: Path, key: str
) -> None:
    with Redis(tmp_path / "redis") as server:
        redis = open_redis(server.url, timeout_s=2.0, max_connections=1)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        store = RateStore(redis, connections=1)
        assert not (await store.take([Rate(key, 100)])).is_local
        assert server.process is not None
        server.process.send_signal(SIGSTOP)
        try:
            async with asyncio.timeout(30):  # one after the other they would take a minute
                verdicts = await asyncio.gather(*(store.take([Rate(key, 100)]) for _ in range(30)))
        finally:
            server.process.send_signal(SIGCONT)
    assert all(verdict.is_local for verdict in verdicts)


def test_alone_a_process_does_the_same(key: str) -> None:
    now = 1000.0
    rates = LocalRates(lambda: now)
    rate, delay, lease = Rate(key, 7), Delay(f"{key}:d", 2, 60, 600), Lease(f"{key}:l", 1, "a", 60)
    assert passed([rates.take([rate]) for _ in range(9)]) == 3
    now += rates.take([rate]).wait_s
    assert passed([rates.take([rate]) for _ in range(9)]) == 1
    assert passed([rates.take([delay]) for _ in range(9)]) == 2
    assert rates.take([delay]).wait_s == 1.0
    assert passed([rates.take([lease]), rates.take([Lease(lease.key, 1, "b", 60)])]) == 1
    now += 61.0
    assert passed([rates.take([Lease(lease.key, 1, "b", 60)])]) == 1
    assert rates.take([rate, Rate(f"{key}:none", 2, cost=1)]).refused is None


async def test_an_organization_reads_its_plan_and_changes_nothing_of_it(
    person: Person, resources: Resources
) -> None:
    read = text("SELECT count(*) FROM organizations WHERE plan IS NULL AND limits = '{}'")
    async with resources.db.transaction(person) as session:
        assert await session.scalar(read) == 1  # of all there are, its own
    for change in ("plan = 'enterprise'", "limits = '{}'"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with resources.db.transaction(person) as session:
                await session.execute(text(f"UPDATE organizations SET {change}"))


@pytest.mark.parametrize("change", ["plan = 'gold'", "limits = '[]'"])
async def test_the_database_takes_no_plan_that_there_is_not(
    owner: AsyncConnection, person: Person, change: str
) -> None:
    with pytest.raises(DBAPIError, match="ck_organizations_"):
        await owner.execute(
            text(f"UPDATE organizations SET {change} WHERE id = :id"), {"id": person.org_id}
        )


def test_the_migration_goes_there_and_back(database_url: str) -> None:
    other = database_url.replace("/footnote?", "/plans?")
    org = new_id()
    try:
        run_sql(database_url, "CREATE DATABASE plans")
        upgrade(other, "0015")
        run_sql(other, f"INSERT INTO organizations (id, name) VALUES ('{org}', 'o')")
        upgrade(other, "0016")
        rows = run_sql(other, "SELECT plan, limits::text FROM organizations")
        assert [tuple(row) for row in rows] == [(None, "{}")]
        downgrade(other, "0015")
        assert len(run_sql(other, "SELECT name FROM organizations")) == 1
    finally:
        run_sql(database_url, "DROP DATABASE plans")


async def test_of_500_requests_to_two_processes_exactly_100_pass(
    settings: Settings, owner: AsyncConnection, person: Person, tmp_path: Path
) -> None:
    await owner.execute(
        text("UPDATE organizations SET limits = :limits WHERE id = :id"),
        {"limits": '{"search_per_minute": 100}', "id": person.org_id},
    )
    limits = httpx2.Limits(max_connections=100)
    with (
        running_api(settings, tmp_path) as first,
        running_api(settings, tmp_path) as second,
    ):
        async with httpx2.AsyncClient(timeout=60, limits=limits) as client:

            async def search(url: str) -> httpx2.Response:
                # Counted before it is found to ask for nothing: so the crowd is in at once.
                return await client.post(
                    f"{url}/api/v1/search", headers=person.headers, json={"query": ""}
                )

            # Until each has its connections.
            warm = await asyncio.gather(*(search(api.url) for api in (first, second)))
            assert [answer.headers["x-ratelimit-limit-requests"] for answer in warm] == ["100"] * 2
            await own_reset(settings, person)
            urls = [(first, second)[n % 2].url for n in range(500)]
            answers = await asyncio.gather(*map(search, urls))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [422] * 100 + [429] * 400
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(answer.headers["x-ratelimit-remaining-requests"] == "0" for answer in refused)
    assert all(1 <= int(answer.headers["retry-after"]) <= 5 for answer in refused)


async def own_reset(settings: Settings, person: Person) -> None:
    redis = open_redis(settings.redis_url)
    keys = [key async for key in redis.scan_iter(f"footnote:limits:{{{person.org_id}}}*")]
    assert keys
    await redis.delete(*keys)
    await redis.aclose(close_connection_pool=True)
