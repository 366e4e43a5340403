"""Limits while Redis is away: what holds, what is said of it, and what the ledger remembers."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from app.core.errors import RateLimited
from app.core.rates import Count, LocalRates, Rate, RateStore, Settlement
from app.core.redis import open_redis
from app.resources import Resources
from app.usage.levels import Level, LimitedCaller
from app.usage.limits import Limiter
from app.usage.plans import Feature
from tests.api.test_limits import limit
from tests.people import Person

ADDRESS = "192.0.2.1"
# Nothing listens there.
AWAY = "redis://127.0.0.1:9/0"


@dataclass(frozen=True)
class Caller:
    org_id: UUID
    user_id: UUID
    key_id: UUID | None = None


@dataclass
class Books:
    """What the database knows of today's tokens."""

    tokens: int = 0
    asked: int = 0

    async def used(self, _: LimitedCaller, _level: Level, _day: date) -> int:
        self.asked += 1
        return self.tokens


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    redis = open_redis(AWAY, timeout_s=0.2)
    yield redis
    await redis.aclose(close_connection_pool=True)


@dataclass
class Alone:
    """A process whose Redis is away."""

    limiter: Limiter
    caller: Caller
    clock: Clock = field(default_factory=Clock)
    books: Books = field(default_factory=Books)


@pytest.fixture
async def alone(redis: Redis, resources: Resources, person: Person) -> AsyncIterator[Alone]:
    clock, books = Clock(), Books()
    limiter = Limiter(RateStore(redis, clock=clock), resources.limiter.directory, books.used)
    yield Alone(limiter, Caller(person.org_id, person.user_id), clock, books)
    await limiter.aclose()


async def test_the_tokens_of_the_day_go_on_from_what_the_ledger_knows(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, tokens_per_day=1000)
    alone.books.tokens = 900
    with pytest.raises(RateLimited) as refused:
        await alone.limiter.reserve_tokens(alone.caller, 101)
    assert refused.value.code == "tokens_per_day_exceeded"
    held = await alone.limiter.reserve_tokens(alone.caller, 100)
    with pytest.raises(RateLimited):
        await alone.limiter.reserve_tokens(alone.caller, 1)
    await alone.limiter.settle_tokens(held, 40)
    await alone.limiter.reserve_tokens(alone.caller, 60)
    assert alone.books.asked == 1


async def test_what_other_processes_use_is_noticed_in_some_seconds(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, tokens_per_day=1000)
    await alone.limiter.reserve_tokens(alone.caller, 300)  # under way, and not in the ledger
    alone.books.tokens = 650
    alone.clock.now += 10.0
    with pytest.raises(RateLimited):
        await alone.limiter.reserve_tokens(alone.caller, 51)
    await alone.limiter.reserve_tokens(alone.caller, 50)
    assert alone.books.asked == 2


def test_what_was_taken_in_redis_is_not_given_back_here() -> None:
    rates = LocalRates(lambda: 1000.0)
    count = Count("c", 100, 60, int(time.time()) + 60)
    assert rates.take([count]).unseeded == 0
    rates.seed(count, 0)
    here = rates.take([count])
    assert here.standings[0].left == 40
    rates.settle([Settlement("c", counter=1, taken=30, actual=10)])
    peek = Count("c", 100, 0, count.ends_at)
    assert rates.take([peek]).standings[0].left == 30
    rates.settle([Settlement("c", here.standings[0].counter, taken=60, actual=20)])
    assert rates.take([peek]).standings[0].left == 70


async def test_headers_and_refusals_say_what_holds(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, search_per_minute=10)
    admitted = [await alone.limiter.admit(alone.caller, Feature.SEARCH, ADDRESS) for _ in range(5)]
    assert [each.headers["x-ratelimit-limit-requests"] for each in admitted] == ["5"] * 5
    assert [each.headers["x-ratelimit-remaining-requests"] for each in admitted] == list("43210")
    with pytest.raises(RateLimited) as refused:
        await alone.limiter.admit(alone.caller, Feature.SEARCH, ADDRESS)
    assert refused.value.details is not None
    assert refused.value.details["allowed"] == 5
    assert "10" not in refused.value.message
    assert "5 of these requests at once" in refused.value.message


async def test_a_request_above_half_the_limit_passes_when_all_of_it_is_there(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, embedding_per_minute=20)

    async def admit(units: int) -> None:
        await alone.limiter.admit(alone.caller, Feature.EMBEDDING, ADDRESS, units=units)

    await admit(16)
    with pytest.raises(RateLimited) as refused:
        await admit(16)
    wait_s = refused.value.retry_after_s
    assert wait_s is not None
    alone.clock.now += wait_s - 1.0
    with pytest.raises(RateLimited):
        await admit(16)
    alone.clock.now += 1.01
    await admit(16)


def test_what_is_given_back_is_no_more_than_was_taken() -> None:
    rates = LocalRates(lambda: 1000.0)
    assert rates.take([Rate("r", 20, cost=3)]).standings[0].left == 7
    assert rates.take([Rate("r", 20, cost=-2)]).standings[0].left == 9


async def test_what_an_organization_uses_is_what_it_took(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, search_per_minute=10, chat_per_minute=60, tokens_per_day=1000)
    alone.books.tokens = 7
    before = await alone.limiter.use_of(alone.caller)
    assert (dict(before.requests), before.tokens) == ({Feature.CHAT: 0, Feature.SEARCH: 0}, 7)
    for _ in range(2):
        await alone.limiter.admit(alone.caller, Feature.SEARCH, ADDRESS)
    assert (await alone.limiter.use_of(alone.caller)).requests[Feature.SEARCH] == 2


async def test_more_than_the_limit_is_shown_as_what_it_is(
    alone: Alone, resources: Resources, person: Person
) -> None:
    await limit(resources, person, tokens_per_day=40)
    alone.books.tokens = 52
    assert (await alone.limiter.use_of(alone.caller)).tokens == 52
    key, ends_at = f"test:{uuid4().hex}", int(time.time()) + 60
    store = resources.limiter.store
    await store.seed(Count(key, 100, 0, ends_at), 52)
    standing = (await store.take([Count(key, 40, 1, ends_at)])).standings[0]
    assert (standing.left, standing.used, standing.limit) == (0, 52, 40)
