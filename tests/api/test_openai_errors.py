"""Errors of OpenAI's API by the SDK's classes, and what the SDK does about them by itself."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from app.config import Settings
from tests.api_process import ApiProcess
from tests.openai_api import running_openai_api
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

MODEL = "openai/gpt-4.1-mini"
REQUESTS_A_MINUTE = 60


@pytest.fixture(scope="module")
async def api(
    settings: Settings, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    async with running_openai_api(settings, provider, folder, DEFAULT_PLAN="free") as process:
        yield process


@pytest.fixture
async def nobody(api: ApiProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=api.url) as client:
        yield client


@pytest.fixture
async def somebody(nobody: httpx2.AsyncClient) -> Person:
    return await register(nobody, f"errors-{uuid4().hex}@example.com")


@pytest.fixture
async def sdk(api: ApiProcess, somebody: Person) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=somebody.tokens["access_token"], max_retries=0
    ) as made:
        yield made


async def ask(sdk: AsyncOpenAI, **options: Any) -> str | None:
    asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
    answer = await sdk.chat.completions.create(**(asked | options))
    content: str | None = answer.choices[0].message.content
    return content


async def test_a_key_of_ours_is_an_api_key(sdk: AsyncOpenAI, somebody: Person) -> None:
    made = (await somebody.post("/api/v1/api-keys", json={"name": "k", "scope": "write"})).json()
    key = next(value for value in made.values() if str(value).startswith("fn_"))
    assert await ask(sdk.with_options(api_key=key))
    with pytest.raises(openai.AuthenticationError):
        await ask(sdk.with_options(api_key=key[:-1] + "x"))


async def test_a_key_that_may_only_read_asks_nothing(sdk: AsyncOpenAI, somebody: Person) -> None:
    made = (await somebody.post("/api/v1/api-keys", json={"name": "k", "scope": "read"})).json()
    key = next(value for value in made.values() if str(value).startswith("fn_"))
    reading = sdk.with_options(api_key=key)
    assert (await reading.models.list()).data
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await ask(reading)
    assert caught.value.code == "insufficient_scope"
    with pytest.raises(openai.PermissionDeniedError):
        await reading.vector_stores.create()
    with pytest.raises(openai.PermissionDeniedError):
        await reading.embeddings.create(model="all-MiniLM-L6-v2", input="x")


async def test_a_key_sees_its_models_alone(sdk: AsyncOpenAI, somebody: Person) -> None:
    asked = {"name": "k", "scope": "write", "allowed_models": ["extractive/extractive"]}
    made = (await somebody.post("/api/v1/api-keys", json=asked)).json()
    key = next(value for value in made.values() if str(value).startswith("fn_"))
    limited = sdk.with_options(api_key=key)
    assert [model.id for model in (await limited.models.list()).data] == ["extractive/extractive"]
    for call in (
        ask(limited),
        limited.responses.create(model=MODEL, input="x"),
        limited.models.retrieve(MODEL),
        limited.embeddings.create(model="all-MiniLM-L6-v2", input="x"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await call
        assert caught.value.code == "model_not_found"


async def test_a_key_is_told_what_it_may_not_use(sdk: AsyncOpenAI, somebody: Person) -> None:
    asked = {"name": "k", "scope": "write", "allowed_models": ["gpt-4.1-mini", "all-MiniLM-L6-v2"]}
    made = (await somebody.post("/api/v1/api-keys", json=asked)).json()
    assert made["allowed_models"] == ["local/all-MiniLM-L6-v2", MODEL]
    limited = sdk.with_options(api_key=made["key"])
    for model in (MODEL, "gpt-4.1-mini"):
        assert await ask(limited, model=model)
    assert (await limited.embeddings.create(model="all-MiniLM-L6-v2", input="x")).data
    for call in (
        ask(limited, model="extractive"),
        limited.responses.create(model="gpt-4.1", input="x"),
        limited.embeddings.create(model="text-embedding-3-small", input="x"),
    ):
        with pytest.raises(openai.NotFoundError, match="API key may not use it") as caught:
            await call
        assert caught.value.code == "model_not_found"


async def test_the_limit_of_a_plan_is_waited_for(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    for _ in range(REQUESTS_A_MINUTE + 20):
        try:
            await ask(sdk, model="extractive")
        except openai.RateLimitError as error:
            limited = error
            break
    assert limited.code == "rate_limit_exceeded"
    assert 1 <= int(limited.response.headers["Retry-After"]) <= 60
    assert limited.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert await ask(sdk.with_options(max_retries=3), model="extractive")


def count_asked(provider: ProviderServer) -> int:
    """All calls but those for the list of models, which come whenever that is old."""
    return len([call for call in provider.calls if call.path != "/v1/models"])


async def test_a_vendor_that_comes_back_is_asked_again(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    provider.script(Reply(failure=Failure.STATUS, status=500))
    with pytest.raises(openai.InternalServerError):
        await ask(sdk, model="openai/gpt-away")
    calls = count_asked(provider)
    provider.script(Reply(failure=Failure.STATUS, status=500), Reply(text="Back."))
    assert await ask(sdk.with_options(max_retries=1), model="openai/gpt-back") == "Back."
    assert count_asked(provider) == calls + 2


async def test_money_that_is_spent_is_402_and_not_asked_for_again(
    sdk: AsyncOpenAI, somebody: Person, provider: ProviderServer
) -> None:
    budget = {"monthly_limit_usd": "0"}
    set_ = await somebody.client.put("/api/v1/budget", headers=somebody.headers, json=budget)
    assert set_.status_code == 200, set_.text
    calls = count_asked(provider)
    patient = sdk.with_options(max_retries=2)
    for call in (
        ask(patient),
        patient.responses.create(model=MODEL, input="x"),
        patient.responses.create(model=MODEL, input="x", stream=True),
        patient.embeddings.create(model="text-embedding-3-small", input="x"),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await call
        assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert count_asked(provider) == calls


async def test_errors_are_of_the_sdks_classes(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(sdk, n=2)
    assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as wrong:
        await ask(sdk, temperature=3)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(sdk, model="none/none")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as unsupported:
        await sdk.files.create(file=("x.exe", b"MZ\x90\x00" + bytes(64)), purpose="assistants")
    assert unsupported.value.status_code == 415
