"""What OpenAI clients meet when several vendors are behind the API, by the unmodified SDK."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from app.config import Settings
from tests.api_process import ApiProcess
from tests.openai_api import running_openai_api
from tests.people import Person
from tests.provider_server import DIMENSIONS, ProviderServer

CLAUDE = "claude-sonnet-5"
THINKING = "openai/gpt-5-mini"


@pytest.fixture(scope="module")
async def api(
    settings: Settings, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    vendors = {
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_BASE_URL": f"{provider.url}/anthropic",
        "GEMINI_API_KEY": "k",
        "GEMINI_BASE_URL": f"{provider.url}/gemini",
        "OLLAMA_BASE_URL": provider.url,
    }
    folder = tmp_path_factory.mktemp("api")
    async with running_openai_api(settings, provider, folder, **vendors) as process:
        yield process


@pytest.fixture
async def sdk(api: ApiProcess, person: Person) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=person.tokens["access_token"], max_retries=0
    ) as made:
        yield made


async def ask(sdk: AsyncOpenAI, **options: Any) -> Any:
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello!"}]}
    return await sdk.chat.completions.create(**(asked | options))


@pytest.mark.parametrize(
    ("model", "answering"),
    [
        (CLAUDE, f"anthropic/{CLAUDE}"),
        ("gemini-3.8-flash", "gemini/gemini-3.8-flash"),
        ("llama3.2", "ollama/llama3.2"),
        ("gpt-4.1-mini", "openai/gpt-4.1-mini"),
    ],
)
async def test_a_bare_id_is_its_vendors(sdk: AsyncOpenAI, model: str, answering: str) -> None:
    assert (await ask(sdk, model=model)).model == answering


@pytest.mark.parametrize("model", [CLAUDE, THINKING])
@pytest.mark.parametrize(("name", "value"), [("temperature", 0.2), ("top_p", 0.5)])
async def test_what_a_model_does_not_take_is_refused_by_name(
    sdk: AsyncOpenAI, model: str, name: str, value: float
) -> None:
    for call in (
        ask(sdk, model=model, **{name: value}),
        ask(sdk, model=model, stream=True, **{name: value}),
        sdk.responses.create(model=model, input="x", **{name: value}),  # type: ignore[call-overload]  # one of two
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await call
        assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("model", [CLAUDE, THINKING])
async def test_a_temperature_that_changes_nothing_is_left_out(
    sdk: AsyncOpenAI, provider: ProviderServer, model: str
) -> None:
    for options in ({"temperature": 1, "top_p": 1}, {}, {"extra_body": {"use_rag": True}}):
        assert (await ask(sdk, model=model, **options)).choices[0].message.content
        assert not {"temperature", "top_p"} & provider.calls[-1].body.keys()


@pytest.mark.parametrize(
    ("model", "embedding"),
    [
        ("gemini/gemini-embedding-001", "gemini/gemini-embedding-001"),
        ("gemini-embedding-001", "gemini/gemini-embedding-001"),
        ("ollama/nomic-embed-text", "ollama/nomic-embed-text"),
        ("nomic-embed-text", "ollama/nomic-embed-text"),
        ("text-embedding-3-small", "openai/text-embedding-3-small"),
    ],
)
async def test_every_vendors_embeddings_are_found(
    sdk: AsyncOpenAI, model: str, embedding: str
) -> None:
    made = await sdk.embeddings.create(model=model, input="zebras")
    assert made.model == embedding
    assert len(made.data[0].embedding) == DIMENSIONS


async def test_a_prompt_of_megabytes_is_for_the_model_to_judge(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    text = "word " * (2 * 1024 * 1024 // 5)
    answer = await ask(sdk, model="gemini-3.8-pro", messages=[{"role": "user", "content": text}])
    assert answer.choices[0].message.content
    assert len(str(provider.calls[-1].body)) > len(text)
    with pytest.raises(openai.APIStatusError, match="8 MiB") as caught:
        await ask(sdk, model="gpt-4.1-mini", messages=[{"role": "user", "content": text * 5}])
    assert (caught.value.status_code, caught.value.code) == (413, "payload_too_large")


async def test_two_thousand_texts_are_one_request(sdk: AsyncOpenAI) -> None:
    texts = [f"{n} " + "zebra " * 100 for n in range(2_048)]
    made = await sdk.embeddings.create(model="text-embedding-3-small", input=texts)
    assert len(made.data) == len(texts)
