"""Which models there are to choose from, with real adapters against a real HTTP server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from pydantic import SecretStr

from app.config import LOCAL_EMBEDDING_MODEL, Settings
from tests.conftest import serve
from tests.openai_api import API_KEY, with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

MODELS = "/api/v1/models"
NOWHERE = "http://user:hunter2@127.0.0.1:9"


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[Person]:
    """Somebody who asks an API with other settings."""
    async with serve(settings.model_copy(update=changes)) as (_, client):
        yield await register(client, f"chooser-{uuid4().hex}@example.com")


async def read(person: Person) -> dict[str, Any]:
    response = await person.get(MODELS)
    assert response.status_code == 200, response.text
    for secret in (API_KEY, "hunter2", "://"):
        assert secret not in response.text
    body: dict[str, Any] = response.json()
    return body


def providers_of(body: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {found["name"]: (found["state"], found["hint"]) for found in body["providers"]}


async def test_without_a_key_answers_are_extractive_and_it_says_what_to_set(
    person: Person,
) -> None:
    body = await read(person)
    assert body["answers"] == "extractive"
    (model,) = body["models"]
    assert model["id"] == "extractive/extractive"
    assert model["is_default"] is True
    assert model["state"] == "ok"
    providers = providers_of(body)
    assert providers["openai"] == ("unconfigured", "Set OPENAI_API_KEY and restart.")
    assert providers["ollama"][1] == "Start Ollama, or set OLLAMA_BASE_URL and restart."
    assert providers["gemini"] == ("unconfigured", "Set GEMINI_API_KEY and restart.")
    assert providers.pop("extractive") == ("ok", None)
    assert {state for state, _ in providers.values()} == {"unconfigured"}
    assert all(hint for _, hint in providers.values())
    assert body["embedding_model"]["id"] == LOCAL_EMBEDDING_MODEL
    assert body["embedding_model"]["state"] == "ok"


async def test_models_of_every_provider_the_default_one_first(
    settings: Settings, provider: ProviderServer
) -> None:
    provider.openai_models = (
        *("gpt-5.4", "gpt-4.1-mini", "text-embedding-3-small", "whisper-1", "gpt-image-1"),
        *("gpt-4o-realtime-preview", "tts-1", "omni-moderation-latest", "gpt-3.5-turbo-instruct"),
    )
    provider.openai_fields = {"gpt-5.4": {"context_length": 65_536}}
    configured = with_openai(settings, provider, ollama_base_url=provider.url)
    async with serving(configured) as person:
        body = await read(person)
        calls = len(provider.calls)
        assert await read(person) == body
    assert len(provider.calls) == calls  # what was listed a moment ago is known
    assert body["answers"] == "model"
    found = {model["id"]: model for model in body["models"]}
    assert list(found) == [
        *("openai/gpt-4.1-mini", "extractive/extractive", "ollama/llama3.2:latest"),
        *("ollama/qwen3:8b", "openai/gpt-5.4"),
    ]
    assert [model["id"] for model in body["models"] if model["is_default"]] == [
        "openai/gpt-4.1-mini"
    ]
    assert {model["state"] for model in body["models"]} == {"ok"}
    assert found["openai/gpt-5.4"]["context_window"] == 65_536
    assert found["ollama/qwen3:8b"]["provider"] == "ollama"
    assert found["ollama/qwen3:8b"]["context_window"] > 0
    assert {hint for state, hint in providers_of(body).values() if state == "ok"} == {None}
    # Each can be chosen as it is named.
    assert all(model["id"].startswith(f"{model['provider']}/") for model in body["models"])


async def test_a_provider_that_is_down_is_no_error(settings: Settings) -> None:
    async with serving(
        settings,
        openai_api_key=SecretStr(API_KEY),
        openai_base_url=f"{NOWHERE}/v1",
        ollama_base_url=NOWHERE,
    ) as person:
        body = await read(person)
    default = body["models"][0]
    assert default["id"] == "openai/gpt-4.1-mini"
    assert (default["is_default"], default["state"]) == (True, "unreachable")
    assert default["context_window"] is None
    assert body["answers"] == "model"
    state, hint = providers_of(body)["openai"]
    assert state == "unreachable"
    assert hint is not None
    assert "OPENAI_BASE_URL" in hint


async def test_a_key_that_is_refused_is_to_be_replaced(
    settings: Settings, provider: ProviderServer
) -> None:
    provider.looks = Reply(failure=Failure.STATUS, status=401)
    async with serving(with_openai(settings, provider)) as person:
        state, hint = providers_of(await read(person))["openai"]
    assert (state, hint) == (
        "unconfigured",
        "The key is refused: set another OPENAI_API_KEY and restart.",
    )


async def test_ollama_without_a_model_to_answer_with(
    settings: Settings, provider: ProviderServer
) -> None:
    provider.ollama_models = ("nomic-embed-text:latest",)
    async with serving(settings, ollama_base_url=provider.url) as person:
        body = await read(person)
    assert body["answers"] == "extractive"
    assert providers_of(body)["ollama"] == ("ok", "Pull a model: `ollama pull llama3.2`.")


async def test_a_default_model_that_nobody_has(settings: Settings) -> None:
    async with serving(settings, default_model="no-such-model") as person:
        body = await read(person)
    assert [model["is_default"] for model in body["models"]] == [False]


async def test_it_takes_a_sign_in(client: httpx2.AsyncClient) -> None:
    assert (await client.get(MODELS)).status_code == 401
