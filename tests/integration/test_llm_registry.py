"""Which provider answers for which model id, with real adapters against a real HTTP server."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from app.config import Settings
from app.core.errors import NotFound
from app.llm import model_lists
from app.llm.model_names import CHAT_PROVIDERS, ModelsMisconfigured
from app.llm.registry import Models, open_models
from tests.provider_server import Failure, ProviderServer, Reply

NOWHERE = "http://127.0.0.1:9"


def open_with(tmp_path: Path, **values: str) -> AbstractAsyncContextManager[Models]:
    given = {"ollama_base_url": NOWHERE, "openai_api_key": ""} | values
    settings = Settings(_env_file=None, data_dir=tmp_path, **given)  # type: ignore[arg-type]  # pydantic converts
    return open_models(settings)


async def resolve(models: Models, model_id: str | None) -> str:
    provider, model = await models.resolve(model_id)
    return f"{provider.name}/{model}"


async def test_openai_is_the_default_when_it_has_a_key(
    tmp_path: Path, server: ProviderServer
) -> None:
    async with open_with(tmp_path, openai_api_key="k", openai_base_url=server.openai_url) as models:
        assert await resolve(models, None) == "openai/gpt-4.1-mini"


async def test_reachable_ollama_is_the_next_default(tmp_path: Path, server: ProviderServer) -> None:
    async with open_with(tmp_path, ollama_base_url=server.url) as models:
        assert await resolve(models, None) == "ollama/llama3.2:latest"
        await resolve(models, None)
    assert len(server.calls) == 1


async def test_any_pulled_chat_model_will_do(tmp_path: Path, server: ProviderServer) -> None:
    server.ollama_models = ("nomic-embed-text:latest", "qwen3:8b")
    async with open_with(tmp_path, ollama_base_url=server.url) as models:
        assert await resolve(models, None) == "ollama/qwen3:8b"


async def test_embedding_models_can_not_answer(tmp_path: Path, server: ProviderServer) -> None:
    server.ollama_models = ("nomic-embed-text:latest", "bge-m3:latest")
    async with open_with(tmp_path, ollama_base_url=server.url) as models:
        assert await resolve(models, None) == "extractive/extractive"
        assert await models.list_models() == ["extractive/extractive"]


async def test_a_vendor_that_lists_no_models_just_now_keeps_those_it_had(
    tmp_path: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_lists, "FRESH_S", 0.0)
    monkeypatch.setattr(model_lists, "USABLE_S", 0.0)
    server.openai_models = ("own-model", "text-embedding-3-small")
    async with open_with(tmp_path, openai_api_key="k", openai_base_url=server.openai_url) as models:
        before = await models.list_models()
        server.looks = Reply(failure=Failure.STATUS, status=429)
        assert await models.list_models() == before
        assert await resolve(models, "own-model") == "openai/own-model"
        assert (await models.status())["openai"] == "ok"
        server.looks = Reply(failure=Failure.STATUS, status=500)
        assert await models.list_models() == ["extractive/extractive"]


async def test_extractive_is_the_default_without_any_model(tmp_path: Path) -> None:
    async with open_with(tmp_path) as models:
        assert await resolve(models, None) == "extractive/extractive"


async def test_default_model_decides(tmp_path: Path) -> None:
    async with open_with(tmp_path, default_model="ollama/qwen3:8b") as models:
        assert await resolve(models, None) == "ollama/qwen3:8b"
        assert await resolve(models, "extractive") == "extractive/extractive"


@pytest.mark.parametrize(
    ("model_id", "resolved"),
    [
        ("openai/anything", "openai/anything"),
        ("gpt-4o", "openai/gpt-4o"),
        ("o3-mini", "openai/o3-mini"),
        ("text-embedding-3-small", "openai/text-embedding-3-small"),
        ("meta-llama/llama-3-70b", "openai/meta-llama/llama-3-70b"),
        ("llama3.2", "ollama/llama3.2"),
        ("qwen3:8b", "ollama/qwen3:8b"),
        ("ollama/hf.co/x/y", "ollama/hf.co/x/y"),
        ("extractive", "extractive/extractive"),
        ("extractive/extractive", "extractive/extractive"),
    ],
)
async def test_model_ids_find_their_provider(
    model_id: str, resolved: str, tmp_path: Path, server: ProviderServer
) -> None:
    server.openai_models = (*server.openai_models, "meta-llama/llama-3-70b")
    async with open_with(
        tmp_path,
        openai_api_key="k",
        openai_base_url=server.openai_url,
        ollama_base_url=server.url,
    ) as models:
        assert await resolve(models, model_id) == resolved


@pytest.mark.parametrize("model_id", ["gpt-4o", "openai/gpt-4o", "nonsense", "a/b", "openai/", "/"])
async def test_unknown_model_is_not_found(model_id: str, tmp_path: Path) -> None:
    async with open_with(tmp_path) as models:
        with pytest.raises(NotFound) as caught:
            await models.resolve(model_id)

    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


async def test_status_tells_configured_from_reachable(
    tmp_path: Path, server: ProviderServer
) -> None:
    async with open_with(tmp_path) as models:
        bare = await models.status()
    async with open_with(tmp_path, default_model="ollama/llama3.2") as models:
        needed = await models.status()
    async with open_with(
        tmp_path,
        openai_api_key="k",
        openai_base_url=f"{NOWHERE}/v1",
        ollama_base_url=server.url,
    ) as models:
        half = await models.status()

    assert set(bare) == set(CHAT_PROVIDERS)
    assert {name for name, state in bare.items() if state != "unconfigured"} == {"extractive"}
    assert needed["ollama"] == "unreachable"
    assert {name: half[name] for name in half if half[name] != "unconfigured"} == {
        "openai": "unreachable",
        "ollama": "ok",
        "extractive": "ok",
    }


@pytest.mark.parametrize(
    "embedding_model",
    ["openai/text-embedding-3-small", "local/other", "nonsense", "cohere/embed", "openai/"],
)
async def test_unusable_embedding_model_stops_the_start(
    embedding_model: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelsMisconfigured, match="EMBEDDING_MODEL"):
        async with open_with(tmp_path, embedding_model=embedding_model):
            pass


@pytest.mark.parametrize(
    ("embedding_model", "name", "model"),
    [
        ("local/all-MiniLM-L6-v2", "local", "all-MiniLM-L6-v2"),
        ("ollama/nomic-embed-text", "ollama", "nomic-embed-text"),
        ("openai/text-embedding-3-small", "openai", "text-embedding-3-small"),
    ],
)
async def test_embedding_model_names_its_provider(
    embedding_model: str, name: str, model: str, tmp_path: Path
) -> None:
    async with open_with(
        tmp_path,
        openai_api_key="k",
        openai_base_url=f"{NOWHERE}/v1",
        embedding_model=embedding_model,
    ) as models:
        assert (models.embedding.name, models.embedding.model) == (name, model)
