"""Prices as operators set them: which models may have one, and what has none."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.accounts.operators import set_operator
from app.resources import Resources
from tests.people import Person

PRICES = "/api/v1/admin/prices"
BODY = {"input_usd": 1, "output_usd": 2}


@pytest.fixture
async def operator(person: Person, database_url: str) -> AsyncIterator[Person]:
    await set_operator(database_url, person.email, is_operator=True)
    login = {"username": person.email, "password": "correct horse battery"}
    tokens = (await person.client.post("/api/v1/auth/login", data=login)).json()
    yield Person(person.client, person.email, tokens)
    await set_operator(database_url, person.email, is_operator=False)


async def put(operator: Person, model: str, body: object = BODY) -> httpx2.Response:
    return await operator.client.put(f"{PRICES}/{model}", json=body, headers=operator.headers)


async def listed(operator: Person) -> list[str]:
    return [each["model"] for each in (await operator.get(PRICES)).json()["prices"]]


@pytest.mark.parametrize("model", ["foo/bar", "OPENAI/x", "local/x", "extractive/x", "bare", "/x"])
async def test_a_model_of_no_provider_with_prices_is_told_the_providers(
    operator: Person, model: str
) -> None:
    answer = await put(operator, model)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert error["param"] == "model"
    for name in ("openai", "azure", "compatible", "openrouter", "anthropic", "gemini", "ollama"):
        assert name in error["message"]
    assert "^" not in error["message"]
    assert model not in await listed(operator)


@pytest.mark.parametrize(
    "model", ["openai/%ED%A0%80", "openai/a%20b", "openai/a%00", "openai/%E2%80%A8", "openai/"]
)
async def test_a_name_that_is_no_plain_text_is_refused(operator: Person, model: str) -> None:
    before = await listed(operator)
    assert (await put(operator, model)).status_code == 422
    assert await listed(operator) == before


@pytest.mark.parametrize("usd", ["1_0", "١", "1e3", " 1", "0x1", True])
async def test_a_price_is_written_in_plain_digits(operator: Person, usd: object) -> None:
    refused = await put(operator, f"openai/{uuid4().hex}", {"input_usd": usd, "output_usd": 1})
    assert refused.status_code == 422, refused.text


async def test_a_compatible_server_costs_nobody_knows_what_until_an_operator_says_so(
    operator: Person, resources: Resources
) -> None:
    model = uuid4().hex
    assert await resources.prices.price_of("compatible", model) is None
    for provider in ("ollama", "local", "extractive"):
        price = await resources.prices.price_of(provider, model)
        assert price is not None
        assert price.is_free
    free: dict[str, Any] = {"input_usd": 0, "output_usd": 0}
    assert (await put(operator, "compatible/*", free)).status_code == 204
    try:
        price = await resources.prices.price_of("compatible", model)
        assert price is not None
        assert (price.is_free, price.source) == (True, "override")
        assert await resources.prices.price_of("openai", model) is None
        # One that is named goes before all of them.
        assert (await put(operator, f"compatible/{model}")).status_code == 204
        price = await resources.prices.price_of("compatible", model)
        assert price is not None
        assert price.rates.output_usd == 2
    finally:
        for name in ("*", model):
            await operator.delete(f"{PRICES}/compatible/{name}")
    assert await resources.prices.price_of("compatible", model) is None
