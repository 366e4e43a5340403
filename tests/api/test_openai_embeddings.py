"""Embeddings and models in OpenAI's shapes, by the unmodified SDK."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from app.config import LOCAL_EMBEDDING_MODEL, Settings
from app.resources import Resources
from tests.api_process import ApiProcess
from tests.openai_api import running_openai_api
from tests.people import Person
from tests.provider_server import DIMENSIONS, ProviderServer

VENDORS = "text-embedding-3-small"
TEXTS = ["The zoo keeps zebras.", "Net sales fell.", "The zoo has zebras."]


@pytest.fixture(scope="module")
async def api(
    settings: Settings, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    async with running_openai_api(settings, provider, tmp_path_factory.mktemp("api")) as process:
        yield process


@pytest.fixture
async def sdk(api: ApiProcess, person: Person) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=person.tokens["access_token"], max_retries=0
    ) as made:
        yield made


async def test_the_local_model_embeds_as_documents_are_embedded(
    sdk: AsyncOpenAI, resources: Resources
) -> None:
    found = await sdk.embeddings.create(model=LOCAL_EMBEDDING_MODEL, input=TEXTS)
    assert (found.object, found.model) == ("list", LOCAL_EMBEDDING_MODEL)
    assert [each.index for each in found.data] == [0, 1, 2]
    assert {each.object for each in found.data} == {"embedding"}
    vectors = np.array([each.embedding for each in found.data])
    provider, _, model = LOCAL_EMBEDDING_MODEL.partition("/")
    expected = await resources.embedders.get(provider, model).embed_documents(TEXTS)
    assert np.allclose(vectors, expected, atol=1e-3)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]
    assert found.usage.prompt_tokens == found.usage.total_tokens > len(TEXTS) * 3


async def test_floats_and_base64_are_the_same_numbers(api: ApiProcess, person: Person) -> None:
    """The SDK asks for base64 by itself, and decodes it: so without it."""
    body = {"model": "all-MiniLM-L6-v2", "input": TEXTS[0]}
    async with httpx2.AsyncClient(base_url=api.url, headers=person.headers) as client:
        plain = (await client.post("/v1/embeddings", json=body)).json()
        body["encoding_format"] = "base64"
        packed = (await client.post("/v1/embeddings", json=body)).json()
    numbers = plain["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    assert len(numbers) == 384
    assert np.array_equal(np.array(numbers, dtype=np.float32), decoded)


async def test_a_vendors_model_can_be_shortened(sdk: AsyncOpenAI, provider: ProviderServer) -> None:
    whole = await sdk.embeddings.create(model=VENDORS, input=TEXTS)
    assert whole.model == f"openai/{VENDORS}"
    # The very first call of a model is followed by one that checks its width.
    assert TEXTS in [call.body.get("input") for call in provider.calls]
    short = await sdk.embeddings.create(model=VENDORS, input=TEXTS, dimensions=383)
    for long, cut in zip(whole.data, short.data, strict=True):
        assert len(cut.embedding) == 383
        assert np.linalg.norm(cut.embedding) == pytest.approx(1, abs=1e-5)
        beginning = np.array(long.embedding[:383])
        assert np.allclose(cut.embedding, beginning / np.linalg.norm(beginning), atol=1e-5)


async def test_more_dimensions_than_there_are_cost_nothing(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    await sdk.embeddings.create(model=VENDORS, input="x")  # tells how many they are
    calls = [call for call in provider.calls if call.path.endswith("/embeddings")]
    for model, dimensions in ((VENDORS, DIMENSIONS + 1), (f"openai/{VENDORS}", 8_192)):
        with pytest.raises(openai.BadRequestError, match=f"{DIMENSIONS}") as caught:
            await sdk.embeddings.create(model=model, input="x", dimensions=dimensions)
        assert caught.value.param == "dimensions"
    assert calls == [call for call in provider.calls if call.path.endswith("/embeddings")]


async def test_the_same_text_is_embedded_anew(sdk: AsyncOpenAI, provider: ProviderServer) -> None:
    calls = len(provider.calls)
    for _ in range(2):
        await sdk.embeddings.create(model=VENDORS, input="Once more.")
    embedded = [call for call in provider.calls[calls:] if call.path.endswith("/embeddings")]
    assert [call.body["input"] for call in embedded] == [["Once more."], ["Once more."]]


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"input": [1, 2, 3]}, openai.BadRequestError, "input"),
        ({"input": [[1, 2], [3]]}, openai.BadRequestError, "input"),
        ({"input": "word " * 600}, openai.BadRequestError, "input"),
        ({"dimensions": 100}, openai.BadRequestError, "dimensions"),
        ({"model": VENDORS, "dimensions": DIMENSIONS + 1}, openai.BadRequestError, "dimensions"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour"),
        ({"input": []}, openai.BadRequestError, "input"),
        ({"input": ""}, openai.BadRequestError, "input.0"),
        ({"input": ["a", " "]}, openai.BadRequestError, "input"),
        ({"input": ["a"] * 2_049}, openai.BadRequestError, "input"),
        ({"encoding_format": "hex"}, openai.BadRequestError, "encoding_format"),
        ({"model": "no-such-model"}, openai.NotFoundError, "model"),
        ({"model": "openai/gpt-4.1-mini"}, openai.NotFoundError, "model"),
    ],
)
async def test_wrong_requests_are_refused_by_name(
    sdk: AsyncOpenAI, options: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    asked: dict[str, Any] = {"model": LOCAL_EMBEDDING_MODEL, "input": "x"}
    with pytest.raises(error) as caught:
        await sdk.embeddings.create(**(asked | options))
    assert caught.value.param == param


async def test_models_to_embed_with_are_listed(sdk: AsyncOpenAI, person: Person) -> None:
    listed = [model async for model in sdk.models.list()]
    embedding = [model.id for model in listed if model.to_dict()["kind"] == "embedding"]
    assert embedding == [LOCAL_EMBEDDING_MODEL, f"openai/{VENDORS}"]
    for id_ in embedding:
        assert (await sdk.embeddings.create(model=id_, input="x")).model == id_
    asked = {"name": "k", "scope": "write", "allowed_models": [LOCAL_EMBEDDING_MODEL]}
    made = (await person.post("/api/v1/api-keys", json=asked)).json()
    narrow = sdk.with_options(api_key=made["key"])
    assert [model.id async for model in narrow.models.list()] == [LOCAL_EMBEDDING_MODEL]


async def test_a_model_says_what_it_is(sdk: AsyncOpenAI) -> None:
    listed = [model async for model in sdk.models.list()]
    assert listed[0].to_dict()["is_default"] is True
    for model in listed:
        found = await sdk.models.retrieve(model.id)
        assert found == model
        said = found.to_dict()
        assert (said["state"], said["provider"]) == ("ok", model.owned_by)
    mini = next(model for model in listed if model.id == "openai/gpt-4.1-mini").to_dict()
    assert mini["context_length"] == 1_047_576
    assert mini["pricing"] == {"prompt": "0.0000004", "completion": "0.0000016"}
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.models.retrieve("openai/none")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
