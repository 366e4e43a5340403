"""Which provider answers for which model id, with real adapters against a real HTTP server."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from app.config import Settings
from app.core.errors import NotFound
from app.llm import model_lists
from app.llm.model_names import CHAT_PROVIDERS, ModelsMisconfigured
from app.llm.registry import Models, open_models
from tests import provider_server
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


def vendors(server: ProviderServer, *names: str) -> dict[str, str]:
    """Settings by which the stand-in is all of these."""
    given = {
        "openai": {"openai_api_key": "k", "openai_base_url": server.openai_url},
        "azure": {
            "azure_openai_api_key": "k",
            "azure_openai_endpoint": server.url,
            "azure_openai_deployments": "text-embedding-3-large,gpt-4.1-mini,team-chat",
        },
        "anthropic": {"anthropic_api_key": "k", "anthropic_base_url": f"{server.url}/anthropic"},
        "gemini": {"gemini_api_key": "k", "gemini_base_url": f"{server.url}/gemini"},
        "openrouter": {
            "openrouter_api_key": "k",
            "openrouter_base_url": f"{server.url}/openrouter/v1",
        },
        "compatible": {"compatible_base_url": server.openai_url},
        "ollama": {"ollama_base_url": server.url},
    }
    return {key: value for name in names for key, value in given[name].items()}


@pytest.mark.parametrize(
    ("names", "default"),
    [
        (("openai", "azure", "anthropic", "gemini"), "openai/gpt-4.1-mini"),
        (("azure", "anthropic"), "azure/gpt-4.1-mini"),
        (("anthropic", "gemini", "ollama"), "anthropic/claude-haiku-5"),
        (("gemini", "openrouter"), "gemini/gemini-3.8-flash"),
        (("openrouter", "compatible", "ollama"), "openrouter/openrouter/auto"),
        (("compatible", "ollama"), "compatible/own-model"),
        (("ollama",), "ollama/llama3.2:latest"),
    ],
)
async def test_who_has_one_key_needs_no_default_model(
    names: tuple[str, ...], default: str, tmp_path: Path, server: ProviderServer
) -> None:
    server.openai_models = ("bge-m3", "own-model", "text-embedding-3-small")
    async with open_with(tmp_path, **vendors(server, *names)) as models:
        assert await resolve(models, None) == default


async def test_the_newest_of_a_vendors_quick_models_is_the_default(
    tmp_path: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = ("claude-fable-5-2", "claude-haiku-10-1", "claude-haiku-4-5-20251001")
    monkeypatch.setattr(provider_server, "ANTHROPIC_MODELS", listed)
    async with open_with(tmp_path, **vendors(server, "anthropic")) as models:
        assert await resolve(models, None) == "anthropic/claude-haiku-10-1"


async def test_a_default_stays_while_its_vendor_is_away(
    tmp_path: Path, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_lists, "FRESH_S", 0.0)
    monkeypatch.setattr(model_lists, "USABLE_S", 0.0)
    async with open_with(tmp_path, **vendors(server, "anthropic")) as models:
        before = await resolve(models, None)
        server.looks = Reply(failure=Failure.STATUS, status=500)
        assert await resolve(models, None) == before == "anthropic/claude-haiku-5"


async def test_openrouters_own_router_is_named_with_or_without_its_vendor(
    tmp_path: Path, server: ProviderServer
) -> None:
    async with open_with(tmp_path, **vendors(server, "openrouter")) as models:
        for model_id in ("openrouter/auto", "openrouter/openrouter/auto"):
            assert await resolve(models, model_id) == "openrouter/openrouter/auto"


@pytest.mark.parametrize(
    ("model_id", "resolved"),
    [
        ("claude-sonnet-5", "anthropic/claude-sonnet-5"),
        ("gemini-3.8-pro", "gemini/gemini-3.8-pro"),
        ("team-chat", "azure/team-chat"),
        ("gpt-4.1-mini", "azure/gpt-4.1-mini"),
        ("meta-llama/own", "compatible/meta-llama/own"),
        ("llama3.2", "ollama/llama3.2"),
    ],
)
async def test_a_bare_id_is_looked_up_with_all_providers(
    model_id: str, resolved: str, tmp_path: Path, server: ProviderServer
) -> None:
    server.openai_models = ("gpt-4.1-mini", "meta-llama/own", "llama3.2:latest")
    names = ("azure", "anthropic", "gemini", "compatible", "ollama")
    async with open_with(tmp_path, **vendors(server, *names)) as models:
        assert await resolve(models, model_id) == resolved


async def test_of_several_that_have_a_bare_id_openai_is_first_unless_it_is_not_allowed(
    tmp_path: Path, server: ProviderServer
) -> None:
    async with open_with(tmp_path, **vendors(server, "openai", "azure", "compatible")) as models:
        assert await resolve(models, "gpt-4.1-mini") == "openai/gpt-4.1-mini"
        allowed = frozenset({"compatible/gpt-4.1-mini", "azure/gpt-4.1-mini"})
        provider, model = await models.resolve("gpt-4.1-mini", allowed=allowed)
        assert f"{provider.name}/{model}" == "azure/gpt-4.1-mini"


async def test_the_first_look_is_waited_for(tmp_path: Path, server: ProviderServer) -> None:
    """A vendor that takes longer than a look may later: what it has is no 404 for that."""
    server.openai_models = ("own-model",)
    server.delay_s = 1.5
    async with open_with(tmp_path, **vendors(server, "compatible")) as models:
        assert (await models.status())["compatible"] == "unreachable"
        assert await resolve(models, "own-model") == "compatible/own-model"
        assert (await models.status())["compatible"] == "ok"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("text-embedding-3-small", ["openai/text-embedding-3-small"]),
        ("text-embedding-3-large", ["azure/text-embedding-3-large"]),
        ("gemini-embedding-001", ["gemini/gemini-embedding-001"]),
        ("gemini/gemini-embedding-001", ["gemini/gemini-embedding-001"]),
        ("nomic-embed-text", ["ollama/nomic-embed-text"]),
        ("ollama/nomic-embed-text", ["ollama/nomic-embed-text"]),
        ("ollama/nomic-embed-text:latest", ["ollama/nomic-embed-text:latest"]),
        ("all-MiniLM-L6-v2", ["local/all-MiniLM-L6-v2"]),
        ("gpt-4.1-mini", []),
    ],
)
async def test_embedding_models_are_found_with_and_without_their_provider(
    wanted: str, found: list[str], tmp_path: Path, server: ProviderServer
) -> None:
    names = ("openai", "azure", "gemini", "ollama")
    async with open_with(tmp_path, **vendors(server, *names)) as models:
        assert await models.find_embedding_models(wanted) == found


async def test_of_several_that_embed_with_a_bare_id_openai_is_first(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.openai_models = ("text-embedding-3-large",)
    async with open_with(tmp_path, **vendors(server, "azure", "openai", "compatible")) as models:
        assert await models.find_embedding_models("text-embedding-3-large") == [
            "openai/text-embedding-3-large",
            "azure/text-embedding-3-large",
            "compatible/text-embedding-3-large",
        ]
