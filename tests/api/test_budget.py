"""The organization's monthly budget: who sets it, what happens when it is spent, and its alerts."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.config import Settings
from tests.conftest import serve
from tests.openai_api import with_openai
from tests.people import Person, join, register
from tests.provider_server import ProviderServer, Reply

BUDGET = "/api/v1/budget"
MODEL = "openai/gpt-4.1-mini"


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text="Seven zebras.")


@pytest.fixture(scope="module")
async def pair(
    settings: Settings, provider: ProviderServer
) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    configured = with_openai(settings, provider)
    async with serve(configured) as pair:
        yield pair


@pytest.fixture
async def payer(pair: tuple[FastAPI, httpx2.AsyncClient]) -> Person:
    return await register(pair[1], f"payer-{uuid4().hex}@example.com")


async def put(person: Person, limit: object) -> httpx2.Response:
    body = {"monthly_limit_usd": limit}
    return await person.client.put(BUDGET, json=body, headers=person.headers)


async def ask(person: Person, path: str = "/api/v1/chat/", **options: Any) -> httpx2.Response:
    body = {
        "messages": [{"role": "user", "content": "How many zebras?"}],
        "model": MODEL,
        "use_rag": False,
        "max_tokens": 100,
    }
    return await person.post(path, json=body | options)


async def test_without_a_budget_only_what_is_spent_is_told(payer: Person) -> None:
    assert (await ask(payer)).status_code == 200
    budget = (await payer.get(BUDGET)).json()
    assert budget["limit_usd"] is None
    assert budget["percent"] is None
    assert float(budget["spent_usd"]) > 0
    assert budget["held_usd"] == "0"
    assert budget["alerts"] == []
    assert budget["resets_at"].endswith("-01T00:00:00Z")


async def test_a_spent_budget_is_402_wherever_one_asks_and_quotes_stay_free(
    payer: Person, provider: ProviderServer
) -> None:
    assert (await put(payer, 0)).json()["limit_usd"] == "0"
    before = len(provider.calls)
    for path in ("/api/v1/chat/", "/api/v1/chat/stream", "/api/v1/chat/runs"):
        refused = await ask(payer, path)
        assert refused.status_code == 402, path
        error = refused.json()["error"]
        assert error["code"] == "budget_exceeded"
        assert error["details"]["scope"] == "organization"
        assert error["details"]["limit_usd"] == "0"
        assert "retry-after" not in refused.headers
    assert len(provider.calls) == before
    assert (await payer.get("/api/v1/conversations")).json()["items"] == []
    assert (await ask(payer, model="extractive")).status_code == 200
    assert (await put(payer, None)).json()["limit_usd"] is None
    assert (await ask(payer)).status_code == 200


async def test_a_budget_that_is_too_small_for_the_call_says_what_it_takes(payer: Person) -> None:
    await put(payer, "0.0001")
    refused = await ask(payer)
    details = refused.json()["error"]["details"]
    assert refused.status_code == 402
    assert details["spent_usd"] == "0"
    assert float(details["needed_usd"]) > 0.0001
    assert (await ask(payer, max_tokens=10)).status_code == 200
    assert (await payer.get(BUDGET)).json()["held_usd"] == "0"


async def test_an_answer_that_is_kept_says_the_same(payer: Person) -> None:
    """Its run fails, and who waits for it gets what it failed with."""
    await put(payer, "0.0001")
    body = {
        "messages": [{"role": "user", "content": "How many zebras?"}],
        "model": MODEL,
        "use_rag": False,
        "max_tokens": 100,
    }
    responses = {"model": MODEL, "input": "How many zebras?", "max_output_tokens": 100}
    for refused in (
        await payer.client.post(
            "/api/v1/chat/", json=body, headers=payer.headers | {"Idempotency-Key": uuid4().hex}
        ),
        await payer.post("/v1/responses", json=responses),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
        assert float(refused.json()["error"]["details"]["needed_usd"]) > 0.0001
        assert "retry-after" not in refused.headers


async def test_alerts_are_shown(payer: Person) -> None:
    await ask(payer)
    spent = float((await payer.get(BUDGET)).json()["spent_usd"])
    # Enough for one call's worst case, and with the next one's cost above 80 %.
    await put(payer, f"{spent * 2 * 1.1 + 0.0002:.9f}")
    while (budget := (await payer.get(BUDGET)).json())["percent"] < 80:
        if (await ask(payer, max_tokens=1)).status_code == 402:
            break
    budget = (await payer.get(BUDGET)).json()
    assert [alert["percent"] for alert in budget["alerts"]] == [80]
    assert budget["percent"] >= 80


async def test_webhooks_are_told_once(payer: Person) -> None:
    hook = {"url": "http://127.0.0.1:9/hook", "events": ["budget.alert"]}
    created = await payer.post("/api/v1/webhooks", json=hook)
    assert created.status_code == 201, created.text
    await put(payer, "0.0002")
    for _ in range(40):
        if (await ask(payer, max_tokens=10)).status_code == 402:
            break
    path = f"/api/v1/webhooks/{created.json()['id']}/deliveries"
    deliveries = (await payer.get(path)).json()["items"]
    assert [delivery["type"] for delivery in deliveries] == ["budget.alert"]
    assert (await payer.get(BUDGET)).json()["alerts"][0]["percent"] == 80


async def test_only_who_manages_the_organization_sets_it(
    pair: tuple[FastAPI, httpx2.AsyncClient], payer: Person
) -> None:
    newcomer = await register(pair[1], f"member-{uuid4().hex}@example.com")
    member = await join(payer, newcomer)
    assert (await put(member, 5)).status_code == 403
    await put(payer, "12.5")
    assert (await member.get(BUDGET)).json()["limit_usd"] == "12.5"
    assert (await put(newcomer, 5)).json()["limit_usd"] == "5"
    assert (await payer.get(BUDGET)).json()["limit_usd"] == "12.5"


@pytest.mark.parametrize(
    "limit",
    [
        *(-1, 10**10, "much", "NaN", "Infinity", "0.0000000001"),
        *("1_0", "\u0661", " 5", "1e2", "", True),
    ],
)
async def test_other_limits_are_422(payer: Person, limit: object) -> None:
    assert (await put(payer, limit)).status_code == 422


@pytest.mark.parametrize(
    ("limit", "shown"), [(5, "5"), (0.5, "0.5"), ("12.50", "12.5"), ("7", "7")]
)
async def test_a_limit_is_a_plain_number(payer: Person, limit: object, shown: str) -> None:
    assert (await put(payer, limit)).json()["limit_usd"] == shown
