"""What was used, as its payers see it, and the prices that operators set."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.accounts.operators import set_operator
from app.config import Settings
from tests.integration.test_streams import Server, listen
from tests.openai_api import with_openai
from tests.people import Person, join, register
from tests.provider_server import ProviderServer, Reply
from tests.run_streams import begin, cancel, reading

MODEL = "openai/gpt-4.1-mini"
ANSWER = "The zoo keeps seven zebras."
# Dollars for a million tokens, as genai-prices has them.
INPUT_USD, OUTPUT_USD = Decimal("0.4"), Decimal("1.6")
MILLION = 1_000_000
PRICES = "/api/v1/admin/prices"


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text=ANSWER)


@pytest.fixture(scope="module")
def configured(settings: Settings, provider: ProviderServer) -> Settings:
    return with_openai(settings, provider)


@pytest.fixture(scope="module")
async def server(configured: Settings) -> AsyncIterator[Server]:
    async with listen(configured) as server:
        yield server


@pytest.fixture
async def payer(server: Server) -> Person:
    return await register(server.client, f"payer-{uuid4().hex}@example.com")


@pytest.fixture
async def operator(server: Server, database_url: str) -> Person:
    person = await register(server.client, f"operator-{uuid4().hex}@example.com")
    assert await set_operator(database_url, person.email, is_operator=True)
    return person


async def chat(person: Person, model: str = MODEL, **headers: str) -> dict[str, Any]:
    body = {
        "messages": [{"role": "user", "content": "How many zebras?"}],
        "model": model,
        "use_rag": False,
    }
    response = await person.client.post(
        "/api/v1/chat/", json=body, headers=headers or person.headers
    )
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def usage(person: Person, **params: Any) -> dict[str, Any]:
    response = await person.get("/api/v1/usage", params=params)
    assert response.status_code == 200, response.text
    report: dict[str, Any] = response.json()
    return report


async def test_an_answer_is_one_call_at_its_price(payer: Person) -> None:
    answer = await chat(payer)
    report = await usage(payer, group_by="model")
    [row] = report["rows"]
    expected = (row["input_tokens"] * INPUT_USD + row["output_tokens"] * OUTPUT_USD) / MILLION
    assert row["model"] == MODEL
    assert (row["requests"], row["errors"], row["unknown_cost_calls"]) == (1, 0, 0)
    assert row["output_tokens"] == len(ANSWER.split())
    assert Decimal(row["cost_usd"]) == expected > 0
    assert answer["metadata"]["estimated_cost_usd"] == float(expected)
    assert report["totals"] == {name: row[name] for name in report["totals"]}
    today = datetime.now(UTC).date()
    assert report["to"] == today.isoformat()
    assert report["from"] == (today - timedelta(days=29)).isoformat()


async def test_what_costs_nothing_and_what_nobody_knows_are_told_apart(payer: Person) -> None:
    await chat(payer, "extractive")
    unknown = await chat(payer, "openai/gpt-99-unheard-of")
    rows = {row["model"]: row for row in (await usage(payer, group_by="model"))["rows"]}
    free = rows["extractive/extractive"]
    assert (free["cost_usd"], free["unknown_cost_calls"], free["requests"]) == ("0", 0, 1)
    unheard_of = rows["openai/gpt-99-unheard-of"]
    assert (unheard_of["cost_usd"], unheard_of["unknown_cost_calls"]) == (None, 1)
    by_day = await usage(payer)
    assert (by_day["totals"]["cost_usd"], by_day["totals"]["unknown_cost_calls"]) == ("0", 1)
    assert unknown["metadata"]["estimated_cost_usd"] is None


async def test_members_see_their_own_use_and_owners_all_of_it(
    server: Server, payer: Person
) -> None:
    newcomer = await register(server.client, f"member-{uuid4().hex}@example.com")
    member = await join(payer, newcomer)
    stranger = await register(server.client, f"stranger-{uuid4().hex}@example.com")
    await chat(payer)
    await chat(member)
    await chat(member)
    of_owner = (await usage(payer, group_by="user,day"))["rows"]
    of_member = (await usage(member, group_by=["user"]))["rows"]
    by_user = {row["user_id"]: row["requests"] for row in of_owner}
    assert by_user == {str(payer.user_id): 1, str(member.user_id): 2}
    assert [(row["user_id"], row["requests"]) for row in of_member] == [(str(member.user_id), 2)]
    assert (await usage(stranger))["rows"] == []
    assert (await usage(stranger))["totals"]["requests"] == 0


async def test_each_key_is_told_apart(payer: Person) -> None:
    created = await payer.post("/api/v1/api-keys", json={"name": "CI", "scope": "write"})
    assert created.status_code == 201, created.text
    key = created.json()
    secret = key.get("key") or key.get("secret")
    await chat(payer, **{"X-API-Key": secret})
    await chat(payer)
    await chat(payer)
    rows = (await usage(payer, group_by="key"))["rows"]
    assert {row["key_id"]: row["requests"] for row in rows} == {key["id"]: 1, None: 2}


async def test_a_file_for_spreadsheets_has_the_same_rows(payer: Person) -> None:
    await chat(payer)
    odd = "openai/=1+2"
    await chat(payer, odd)
    params = {"group_by": "day,model", "format": "csv"}
    response = await payer.get("/api/v1/usage", params=params)
    assert response.headers["content-type"].startswith("text/csv")
    assert "attachment" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    report = await usage(payer, group_by="day,model")
    assert [(row["day"], row["model"], row["cost_usd"]) for row in rows] == [
        (row["day"], row["model"], row["cost_usd"] or "") for row in report["rows"]
    ]
    costs = {row["model"]: row["cost_usd"] for row in rows}
    assert costs[odd] == ""
    assert costs[MODEL] != ""


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"group_by": "planet"}, "group_by"),
        ({"group_by": "day,model,key"}, "group_by"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ({"from": "1999-01-01", "to": "2026-01-01"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"format": "xml"}, "format"),
    ],
)
async def test_questions_without_sense_are_422(
    params: dict[str, str], param: str, payer: Person
) -> None:
    response = await payer.get("/api/v1/usage", params=params)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param


async def test_thirty_days_may_reach_back_to_the_first_of_all_days(payer: Person) -> None:
    response = await payer.get("/api/v1/usage", params={"to": "0001-01-05"})
    assert response.status_code == 200, response.text
    assert response.json()["from"] == "0001-01-01"


async def test_who_cancels_at_the_fiftieth_chunk_pays_for_what_was_written(
    server: Server, payer: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text="word " * 4000, chunk_delay_s=0.01))
    run = await begin(payer, model=MODEL)
    read = ""
    async with reading(server.client, run) as frames:
        async for frame in frames:
            if frame.data["type"] == "token":
                read += frame.data["token"]
            if read.count("word") >= 50:
                break
    await cancel(payer, run)
    async with reading(server.client, run) as frames:
        told = [frame.data async for frame in frames]
    assert told[-1]["status"] == "cancelled"
    written = sum(frame.get("token", "").count("word") for frame in told)
    assert 50 <= written < 1000
    await server.resources.ledger.flush()
    totals = (await usage(payer))["totals"]
    # What came in while it was being cancelled was not told any more.
    assert written - 1 <= totals["output_tokens"] <= written + 10
    assert Decimal(totals["cost_usd"]) >= written * OUTPUT_USD / MILLION
    assert (totals["requests"], totals["errors"]) == (1, 1)


async def test_operators_set_prices_and_an_organizations_own_goes_first(
    operator: Person, payer: Person
) -> None:
    model = f"openai/ours-{uuid4().hex[:8]}"

    async def put(usd: str, **params: str) -> int:
        body = {"input_usd": "0", "output_usd": usd}
        response = await operator.client.put(
            f"{PRICES}/{model}", json=body, params=params, headers=operator.headers
        )
        return response.status_code

    async def cost() -> float | None:
        price: float | None = (await chat(payer, model))["metadata"]["estimated_cost_usd"]
        return price

    tokens = len(ANSWER.split())
    own = {"organization_id": str(payer.org_id)}
    assert await cost() is None
    assert await put("1000000") == 204
    assert await cost() == tokens
    assert await put("500000", **own) == 204
    assert await cost() == tokens / 2
    listed = (await operator.get(PRICES)).json()["prices"]
    ours = [each for each in listed if each["model"] == model]
    assert [(each["organization_id"], each["output_usd"]) for each in ours] == [
        (None, "1000000"),
        (str(payer.org_id), "500000"),
    ]
    for params in (own, {}):
        path = f"{PRICES}/{model}"
        gone = await operator.delete(path, params=params)
        again = await operator.delete(path, params=params)
        assert (gone.status_code, again.status_code) == (204, 404)
    assert await cost() is None


async def test_prices_of_nobody_and_of_nothing_are_refused(operator: Person, payer: Person) -> None:
    body = {"input_usd": 1, "output_usd": 1}

    async def put(person: Person, model: str, body: object, **params: str) -> httpx2.Response:
        return await person.client.put(
            f"{PRICES}/{model}", json=body, params=params, headers=person.headers
        )

    assert (await put(payer, MODEL, body)).status_code == 403
    assert (await put(operator, "gpt-4.1-mini", body)).status_code == 422
    assert (await put(operator, MODEL, {"input_usd": -1, "output_usd": 1})).status_code == 422
    nobody = await put(operator, MODEL, body, organization_id=str(uuid4()))
    assert nobody.status_code == 404
