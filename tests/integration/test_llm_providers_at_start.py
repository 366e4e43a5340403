"""Which providers a process opens, what it imports for them, and what it says of missing parts."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from app.config import Settings
from app.core.errors import NotFound
from app.llm.base import ChatOption
from app.llm.catalog import hint_for
from app.llm.model_names import ModelsMisconfigured, find_missing_package
from app.llm.registry import EMBEDDINGS, PROVIDERS, Models, open_models

NOWHERE = "http://127.0.0.1:9"
CONFIGURED = {
    "openai": {"openai_api_key": "k", "openai_base_url": f"{NOWHERE}/v1"},
    "azure": {
        "azure_openai_endpoint": NOWHERE,
        "azure_openai_api_key": "k",
        "azure_openai_deployments": "gpt-4.1-mini, o3-prod",
    },
    "compatible": {"compatible_base_url": f"{NOWHERE}/v1"},
    "openrouter": {"openrouter_api_key": "k", "openrouter_base_url": f"{NOWHERE}/v1"},
    "anthropic": {"anthropic_api_key": "k", "anthropic_base_url": NOWHERE},
    "gemini": {"gemini_api_key": "k", "gemini_base_url": NOWHERE},
    "ollama": {"ollama_base_url": NOWHERE},
}
SDKS = {"anthropic": "anthropic", "gemini": "google.genai"}


def settings_of(tmp_path: Path, **values: str) -> Settings:
    given = {"openai_api_key": "", "ollama_base_url": ""} | values
    return Settings(_env_file=None, data_dir=tmp_path, **given)  # type: ignore[arg-type]  # pydantic converts


@asynccontextmanager
async def opened(tmp_path: Path, **values: str) -> AsyncIterator[Models]:
    async with open_models(settings_of(tmp_path, **values)) as models:
        yield models


@pytest.mark.parametrize("name", CONFIGURED)
async def test_provider_is_there_when_its_settings_are(name: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as models:
        with pytest.raises(NotFound):
            await models.resolve(f"{name}/v/m")
    async with opened(tmp_path, **CONFIGURED[name]) as models:
        provider, model = await models.resolve(f"{name}/v/m")

        assert (provider.name, model) == (name, "v/m")
        assert provider.supports(model) <= set(ChatOption)


def test_every_provider_is_tried_here() -> None:
    assert set(CONFIGURED) == set(PROVIDERS) - {"extractive"}


async def test_deployments_are_listed_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path, **CONFIGURED["azure"]) as models:
        assert await models.list_models() == [
            "azure/gpt-4.1-mini",
            "azure/o3-prod",
            "extractive/extractive",
        ]


@pytest.mark.parametrize("name", sorted(set(EMBEDDINGS) - {"local"}))
async def test_embedding_takes_its_providers_settings(name: str, tmp_path: Path) -> None:
    model = {"embedding_model": f"{name}/m"}
    with pytest.raises(ModelsMisconfigured, match=r"[A-Z_]+ is empty"):
        async with opened(tmp_path, **model):
            pass

    async with opened(tmp_path, **CONFIGURED[name], **model) as models:
        assert (models.embedding.name, models.embedding.model) == (name, "m")
        assert models.embedding.endpoint.startswith(NOWHERE)


def imported(tmp_path: Path, **values: str) -> set[str]:
    """Return which optional SDKs a fresh process has imported once its providers are open."""
    program = f"""
import asyncio, sys
import app.main
from tests.integration.test_llm_providers_at_start import opened
from pathlib import Path

async def main():
    async with opened(Path({str(tmp_path)!r}), **{values!r}):
        print(*({{"anthropic", "google.genai", "genai_prices", "mcp"}} & sys.modules.keys()))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return set(done.stdout.splitlines()[-1].split())


def test_nothing_is_imported_for_what_is_not_configured(tmp_path: Path) -> None:
    """Each costs tens of megabytes; the last two belong to those who use them."""
    assert imported(tmp_path, **CONFIGURED["openai"]) == set()


@pytest.mark.parametrize("name", SDKS)
def test_sdk_is_imported_at_start_and_not_in_the_first_request(name: str, tmp_path: Path) -> None:
    assert imported(tmp_path, **CONFIGURED[name]) == {SDKS[name]}


@pytest.mark.parametrize(
    ("name", "package"), [("anthropic", "anthropic"), ("gemini", "google-genai")]
)
async def test_missing_package_is_a_warning_with_its_remedy(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, SDKS[name], None)  # as if it were not installed
    # The module's own may be bound to what an app of another test has configured.
    monkeypatch.setattr("app.llm.registry.log", structlog.get_logger())
    with capture_logs() as logs:
        async with opened(tmp_path, **CONFIGURED[name]) as models:
            with pytest.raises(NotFound):
                await models.resolve(f"{name}/v/m")
            states = await models.status()

    remedy = f"pip install {package}"
    warned = [log for log in logs if log["event"] == "provider_package_missing"]
    assert warned == [
        {
            "event": "provider_package_missing",
            "log_level": "warning",
            "provider": name,
            "remedy": remedy,
        }
    ]
    assert states[name] == "unconfigured"
    assert remedy in str(hint_for(name, "unconfigured"))


async def test_embedding_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.genai", None)
    values = CONFIGURED["gemini"] | {"embedding_model": "gemini/gemini-embedding-001"}

    with pytest.raises(ModelsMisconfigured, match="pip install google-genai"):
        async with opened(tmp_path, **values):
            pass


@pytest.mark.parametrize("name", CONFIGURED)
def test_each_unconfigured_provider_has_a_hint(name: str) -> None:
    assert find_missing_package(name) is None
    assert "restart" in str(hint_for(name, "unconfigured"))
