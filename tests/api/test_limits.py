"""Limits as callers meet them: headers, refusals, plans, and what operators give."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.accounts.operators import set_operator
from app.config import Settings
from app.core.errors import RateLimited
from app.core.rates import RateStore
from app.core.redis import open_redis
from app.resources import Resources
from app.usage.limits import Limiter, format_duration
from app.usage.plans import (
    PLANS,
    Feature,
    LimitOverrides,
    OrganizationPlan,
    effective_limits,
    units_of,
)
from tests.conftest import serve
from tests.people import Person, register

SEARCH = {"json": {"query": "zebra"}}
QUESTION = {"messages": [{"role": "user", "content": "Where is the zebra?"}]}
HEADERS = re.compile(r"x-ratelimit-(limit|remaining|reset)-(requests|tokens)")


@dataclass(frozen=True, slots=True)
class Payer:
    org_id: UUID
    user_id: UUID
    key_id: UUID | None = None


async def limit(resources: Resources, person: Person, plan: str | None = None, **own: Any) -> None:
    """As an operator does, at once in this process."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE organizations SET plan = :plan, limits = :limits WHERE id = :org_id"),
            {"plan": plan, "limits": _json(own), "org_id": person.org_id},
        )
    resources.limiter.directory.forget(person.org_id)


def _json(own: dict[str, Any]) -> str:
    return LimitOverrides.model_validate(own).model_dump_json(exclude_unset=True)


def payer_of(person: Person) -> Payer:
    return Payer(person.org_id, person.user_id)


async def use_tokens(resources: Resources, person: Person, tokens: int) -> None:
    """As the ledger stores it when a call has ended."""
    async with resources.db.transaction(payer_of(person)) as session:
        await session.execute(
            text("""
                INSERT INTO usage_daily (org_id, day, user_id, key_id, kind, provider, model,
                    requests, errors, input_tokens, cached_tokens, output_tokens, cost_nano,
                    unknown_cost_requests)
                VALUES (:org_id, :day, :user_id, :no_key, 'chat', 'openai', :model, 1, 0, :tokens,
                    0, 0, 0, 0)
            """),
            {
                "org_id": person.org_id,
                "day": datetime.now(UTC).date(),
                "user_id": person.user_id,
                "no_key": UUID(int=0),
                "model": uuid4().hex,
                "tokens": tokens,
            },
        )


async def wipe(resources: Resources, person: Person) -> None:
    """As FLUSHALL does to what is known of one organization."""
    redis: Redis = resources.redis
    keys = [key async for key in redis.scan_iter(f"footnote:limits:{{{person.org_id}}}*")]
    assert keys
    await redis.delete(*keys)


def shown(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if HEADERS.fullmatch(name)}


async def test_the_defaults_are_those_of_the_free_plan() -> None:
    free, pro = PLANS[OrganizationPlan.FREE], PLANS[OrganizationPlan.PRO]
    assert Settings.model_fields["default_plan"].default == OrganizationPlan.FREE
    assert (free.chat_per_minute, free.tokens_per_day) == (60, 500_000)
    for name in ("tokens_per_day", "streams", *(f"{feature}_per_minute" for feature in Feature)):
        assert getattr(pro, name) == 10 * getattr(free, name), name
    assert all(
        PLANS[OrganizationPlan.ENTERPRISE].per_minute(feature) is None for feature in Feature
    )


@pytest.mark.parametrize(("inputs", "units"), [(0, 1), (1, 1), (100, 1), (101, 2), (2048, 21)])
async def test_an_embedding_costs_by_its_inputs(inputs: int, units: int) -> None:
    assert units_of(Feature.EMBEDDING, inputs) == units
    assert units_of(Feature.CHAT, inputs) == 1


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((0, "0s"), (0.012, "12ms"), (1, "1s"), (59.4, "59s"), (60, "1m0s"), (360, "6m0s")),
        (86_341, "23h59m1s"),
    ],
)
async def test_durations_are_written_as_openai_does(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


async def test_without_rates_nothing_is_said(person: Person) -> None:
    response = await person.post("/api/v1/search", **SEARCH)
    assert response.status_code == 200
    assert shown(response) == {}


async def test_the_request_after_the_last_is_refused_and_says_what_held(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, search_per_minute=3)
    left = []
    for _ in range(3):
        response = await person.post("/api/v1/search", **SEARCH)
        assert response.status_code == 200, response.text
        assert response.headers["x-ratelimit-limit-requests"] == "3"
        left.append(int(response.headers["x-ratelimit-remaining-requests"]))
    assert left == [2, 1, 0]
    refused = await person.post("/api/v1/search", **SEARCH)
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    details = error["details"]
    assert details["limit"] == "search_requests_per_minute"
    assert (details["level"], details["allowed"]) == ("organization", 3)
    # Never before the time is come: seconds are rounded up.
    assert 0 < details["retry_after_ms"] <= 1000 * int(refused.headers["retry-after"])
    assert shown(refused)["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"(1m0s|59s)", shown(refused)["x-ratelimit-reset-requests"])


async def test_features_are_counted_apart(
    person: Person, stranger: Person, resources: Resources
) -> None:
    await limit(resources, person, search_per_minute=1, upload_per_minute=1, chat_per_minute=1)
    for _ in range(2):
        await person.post("/api/v1/search", **SEARCH)
    assert (await person.post("/api/v1/search", **SEARCH)).status_code == 429
    assert (await person.upload("a.txt", b"A zebra.")).status_code == 202
    assert (await person.upload("b.txt", b"A gnu.")).status_code == 429
    assert (await person.get("/api/v1/documents")).status_code == 200  # of no feature
    assert (await stranger.post("/api/v1/search", **SEARCH)).status_code == 200


async def test_streams_and_refused_requests_have_the_headers_too(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, chat_per_minute=3, tokens_per_day=100_000)
    wanted = {
        f"x-ratelimit-{what}-{unit}"
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    }
    streamed = await person.post("/api/v1/chat/stream", json=QUESTION)
    assert streamed.status_code == 200
    assert set(shown(streamed)) == wanted
    assert shown(streamed)["x-ratelimit-limit-tokens"] == "100000"
    invalid = await person.post("/api/v1/chat/", json={"messages": []})
    assert invalid.status_code == 422
    assert set(shown(invalid)) == wanted
    compatible = await person.post(
        "/v1/chat/completions", json=QUESTION | {"model": "extractive", "stream": True}
    )
    assert compatible.status_code == 200, compatible.text
    assert shown(compatible)["x-ratelimit-remaining-requests"] == "0"


async def test_pages_of_other_origins_may_read_the_headers(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health", headers={"Origin": "http://localhost:5173"})
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"x-ratelimit-reset-tokens", "Retry-After"} <= set(exposed)


async def test_a_replayed_answer_costs_nothing(person: Person, resources: Resources) -> None:
    await limit(resources, person, upload_per_minute=2)
    headers = person.headers | {"Idempotency-Key": uuid4().hex}
    for number in range(6):
        response = await person.client.post(
            "/api/v1/documents/upload", headers=headers, files={"file": ("a.txt", b"A zebra.")}
        )
        assert response.status_code == 202, (number, response.text)
    assert (await person.upload("b.txt", b"A gnu.")).status_code == 202
    assert (await person.upload("c.txt", b"A cow.")).status_code == 429


async def test_a_share_holds_one_member_and_leaves_the_others_the_rest(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, search_per_minute=4, user_share_percent=50)
    limiter = resources.limiter
    payers = [payer_of(person), Payer(person.org_id, uuid4())]
    passed = []
    for payer in payers:
        passed.append(0)
        for _ in range(3):
            try:
                await limiter.admit(payer, Feature.SEARCH, "203.0.113.1")
            except RateLimited as error:
                assert error.details is not None
                assert error.details["level"] in ("user", "organization")
            else:
                passed[-1] += 1
    assert passed == [2, 2]


async def test_a_key_has_its_share(person: Person, resources: Resources) -> None:
    await limit(resources, person, search_per_minute=10, key_share_percent=10)
    keyed = Payer(person.org_id, person.user_id, key_id=uuid4())
    await resources.limiter.admit(keyed, Feature.SEARCH, "203.0.113.1")
    with pytest.raises(RateLimited) as refused:
        await resources.limiter.admit(keyed, Feature.SEARCH, "203.0.113.1")
    assert refused.value.details is not None
    assert refused.value.details["level"] == "key"
    await resources.limiter.admit(payer_of(person), Feature.SEARCH, "203.0.113.1")


async def test_an_address_is_held_over_all_organizations(
    person: Person, stranger: Person, resources: Resources
) -> None:
    for each in (person, stranger):
        await limit(resources, each, address_per_minute=2)
    address, elsewhere = f"203.0.113.{uuid4().hex}", f"198.51.100.{uuid4().hex}"
    limiter = resources.limiter
    await limiter.admit(payer_of(person), Feature.SEARCH, address)
    await limiter.admit(payer_of(stranger), Feature.UPLOAD, address)
    with pytest.raises(RateLimited) as refused:
        await limiter.admit(payer_of(person), Feature.SEARCH, address)
    assert refused.value.details is not None
    assert refused.value.details["level"] == "address"
    await limiter.admit(payer_of(person), Feature.SEARCH, elsewhere)


async def test_tokens_of_the_day_outlive_a_wiped_redis(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, tokens_per_day=1000)
    limiter, payer = resources.limiter, payer_of(person)
    held = await limiter.reserve_tokens(payer, 900)
    with pytest.raises(RateLimited) as refused:
        await limiter.reserve_tokens(payer, 200)
    assert refused.value.code == "tokens_per_day_exceeded"
    midnight = (int(time.time()) // 86_400 + 1) * 86_400
    assert refused.value.retry_after_s == pytest.approx(midnight - time.time(), abs=2)
    await use_tokens(resources, person, 400)
    await limiter.settle_tokens(held, 400)
    await limiter.settle_tokens(await limiter.reserve_tokens(payer, 600), 0)
    await wipe(resources, person)
    with pytest.raises(RateLimited):
        await limiter.reserve_tokens(payer, 601)
    rest = await limiter.reserve_tokens(payer, 600)
    await limiter.settle_tokens(rest, 600)
    asked = await person.post("/api/v1/chat/", json=QUESTION)
    assert asked.status_code == 429, asked.text
    assert asked.json()["error"]["code"] == "tokens_per_day_exceeded"
    assert asked.headers["x-ratelimit-remaining-tokens"] == "0"
    assert (await person.post("/api/v1/search", **SEARCH)).status_code == 200


async def test_reserving_in_parallel_never_exceeds_the_day(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, tokens_per_day=1000)
    await use_tokens(resources, person, 300)
    answers = await asyncio.gather(
        *(resources.limiter.reserve_tokens(payer_of(person), 100) for _ in range(50)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(answers) - len(refused) == 7
    assert all(isinstance(error, RateLimited) for error in refused)


async def test_only_so_many_streams_are_open_at_once(person: Person, resources: Resources) -> None:
    await limit(resources, person, streams=1)
    place = await resources.limiter.open_stream(payer_of(person))
    for path in ("/api/v1/chat/stream", "/api/v1/chat/runs"):
        refused = await person.post(path, json=QUESTION)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_streams"
        assert refused.headers["retry-after"] == "1"
    assert (await person.get("/api/v1/conversations")).json()["items"] == []
    unread = await person.post("/api/v1/chat/runs", json=QUESTION | {"detached": True})
    assert unread.status_code == 201
    place.release()
    place.release()
    for _ in range(3):  # each gives its place back
        assert (await person.post("/api/v1/chat/stream", json=QUESTION)).status_code == 200


async def test_a_place_that_was_given_back_is_there_once(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, streams=2)
    limiter, payer = resources.limiter, payer_of(person)
    first = await limiter.open_stream(payer)
    first.release()
    second = await limiter.open_stream(payer)
    first.release()
    third = await limiter.open_stream(payer)
    with pytest.raises(RateLimited):
        await limiter.open_stream(payer)
    second.release()
    third.release()


async def test_a_lowered_limit_holds_though_streams_follow_each_other(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, streams=2)
    limiter, payer = resources.limiter, payer_of(person)
    places = [await limiter.open_stream(payer) for _ in range(2)]
    await limit(resources, person, streams=1)
    places[0].release()
    with pytest.raises(RateLimited):
        await limiter.open_stream(payer)
    places[1].release()
    (await limiter.open_stream(payer)).release()


async def test_a_place_that_nobody_follows_in_is_for_other_processes(
    settings: Settings, person: Person, resources: Resources
) -> None:
    await limit(resources, person, streams=1)
    here, payer = resources.limiter, payer_of(person)
    redis = open_redis(settings.redis_url, timeout_s=2.0, max_connections=1)
    elsewhere = Limiter(RateStore(redis), here.directory, here.tokens_used)
    try:
        held = await here.open_stream(payer)
        with pytest.raises(RateLimited):
            await elsewhere.open_stream(payer)
        held.release()
        place = None
        async with asyncio.timeout(5):
            while place is None:
                with suppress(RateLimited):
                    place = await elsewhere.open_stream(payer)
        with pytest.raises(RateLimited):
            await here.open_stream(payer)
    finally:
        await elsewhere.aclose()
        await redis.aclose(close_connection_pool=True)
    (await here.open_stream(payer)).release()  # a process that stops gives back what it has


@asynccontextmanager
async def operating(resources: Resources, person: Person) -> AsyncIterator[Person]:
    """The same person, signed in anew as an operator."""
    await set_operator(resources.settings.database_url, person.email, is_operator=True)
    login = {"username": person.email, "password": "correct horse battery"}
    tokens = (await person.client.post("/api/v1/auth/login", data=login)).json()
    yield Person(person.client, person.email, tokens)
    await set_operator(resources.settings.database_url, person.email, is_operator=False)


async def test_an_operators_override_takes_effect(
    settings: Settings, resources: Resources, person: Person, stranger: Person
) -> None:
    url = f"/api/v1/admin/organizations/{stranger.org_id}/limits"
    async with operating(resources, person) as operator, serve(settings) as (_, elsewhere):
        there = Person(elsewhere, stranger.email, stranger.tokens)
        assert (await there.post("/api/v1/search", **SEARCH)).status_code == 200
        before = (await operator.get(url)).json()
        assert (before["plan"], before["is_default"]) == ("enterprise", True)
        assert before["limits"]["search_per_minute"] is None
        body = {"plan": "free", "overrides": {"search_per_minute": 1, "tokens_per_day": None}}
        changed = await operator.client.put(url, headers=operator.headers, json=body)
        assert changed.status_code == 200, changed.text
        assert changed.json()["overrides"] == body["overrides"]
        assert changed.json()["limits"]["tokens_per_day"] is None
        assert changed.json()["limits"]["chat_per_minute"] == 60
        assert (await stranger.post("/api/v1/search", **SEARCH)).status_code == 200
        assert (await stranger.post("/api/v1/search", **SEARCH)).status_code == 429
        # Another process knows within 5 s.
        async with asyncio.timeout(6):
            while (await there.post("/api/v1/search", **SEARCH)).status_code != 429:
                await asyncio.sleep(0.1)
        back = await operator.client.put(url, headers=operator.headers, json={})
        assert back.json()["is_default"] is True
        assert (await stranger.post("/api/v1/search", **SEARCH)).status_code == 200
        unknown = f"/api/v1/admin/organizations/{uuid4()}/limits"
        assert (await operator.get(unknown)).status_code == 404
        assert (
            await operator.client.put(unknown, headers=operator.headers, json={})
        ).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"plan": "gold"},
        {"overrides": {"chat_per_minute": 0}},
        {"overrides": {"chat_per_minute": -1}},
        {"overrides": {"chat_per_minute": "60"}},
        {"overrides": {"chat_per_minute": 1.5}},
        {"overrides": {"chat_per_hour": 1}},
        {"overrides": {"streams": None}},
        {"overrides": {"tokens_per_day": 2**63}},
        {"overrides": {"user_share_percent": 101}},
        {"limits": {}},
    ],
)
async def test_a_limit_that_can_be_none_is_refused(
    resources: Resources, person: Person, body: dict[str, Any]
) -> None:
    async with operating(resources, person) as operator:
        url = f"/api/v1/admin/organizations/{person.org_id}/limits"
        response = await operator.client.put(url, headers=operator.headers, json=body)
    assert response.status_code == 422, response.text


async def test_overrides_of_another_version_leave_all_to_the_plan() -> None:
    assert (
        effective_limits(OrganizationPlan.FREE, {"chat_per_year": 1})
        == PLANS[OrganizationPlan.FREE]
    )
    assert (
        effective_limits(OrganizationPlan.FREE, {"chat_per_minute": None}).chat_per_minute is None
    )


async def test_an_organization_sees_its_limits_and_what_it_uses(
    person: Person, resources: Resources
) -> None:
    await limit(resources, person, plan="pro", search_per_minute=10)
    for _ in range(3):
        assert (await person.post("/api/v1/search", **SEARCH)).status_code == 200
    place = await resources.limiter.open_stream(payer_of(person))
    held = await resources.limiter.reserve_tokens(payer_of(person), 50)
    seen = (await person.get("/api/v1/organization/limits")).json()
    place.release()
    await resources.limiter.settle_tokens(held, 0)
    assert seen["plan"] == "pro"
    assert seen["limits"]["search_per_minute"] == 10
    assert seen["limits"]["tokens_per_day"] == 5_000_000
    assert seen["used"] == {
        "requests": {"chat": 0, "search": 3, "upload": 0, "embedding": 0},
        "tokens_today": 50,
        "streams": 1,
    }
    await limit(resources, person)
    await use_tokens(resources, person, 7)
    seen = (await person.get("/api/v1/organization/limits")).json()
    assert seen["used"] == {"requests": {}, "tokens_today": 7, "streams": 0}


async def test_who_registers_has_the_default_plan(settings: Settings) -> None:
    free = settings.model_copy(update={"default_plan": "free"})
    async with serve(free) as (_, client):
        person = await register(client, f"free-{uuid4().hex}@example.com")
        response = await person.post("/api/v1/search", **SEARCH)
        assert response.headers["x-ratelimit-limit-requests"] == "300"
        asked = await person.post("/api/v1/chat/", json=QUESTION)
        assert asked.headers["x-ratelimit-limit-requests"] == "60"
        assert asked.headers["x-ratelimit-limit-tokens"] == "500000"
