"""The command line: what can't work ends at once, with one line that says why."""

import json
from pathlib import Path

import pytest

from app.__main__ import main
from app.config import Settings
from app.llm.model_names import CHAT_PROVIDERS, EMBEDDING_PROVIDERS
from app.llm.registry import EMBEDDINGS, PROVIDERS

NOWHERE = {
    "DATABASE_URL": "postgresql://127.0.0.1:9/footnote",
    "REDIS_URL": "redis://127.0.0.1:9",
    "OLLAMA_BASE_URL": "http://127.0.0.1:9",
}
BAD_MODELS = [
    {"EMBEDDING_MODEL": "cohere/embed"},
    {"EMBEDDING_MODEL": "openai/text-embedding-3-small"},
    {"DEFAULT_MODEL": "cohere/command"},
]


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting from the environment or a file."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("missing", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_missing_server_is_named(
    command: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_all(monkeypatch, NOWHERE | {missing: ""})
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Setting {missing}: not set.")


@pytest.mark.parametrize("settings", BAD_MODELS)
@pytest.mark.parametrize("command", ["run", "api", "worker"])
def test_a_model_that_cannot_work_is_named(
    command: str,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_all(monkeypatch, NOWHERE | settings)
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Setting {next(iter(settings))} is ")


@pytest.mark.parametrize("settings", BAD_MODELS)
def test_the_doctor_finds_a_model_that_cannot_work(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, {"OLLAMA_BASE_URL": NOWHERE["OLLAMA_BASE_URL"]} | settings)
    assert main(["doctor"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fail")]
    assert f"{next(iter(settings))} is " in line


def test_the_openapi_document_is_the_same_wherever_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["openapi"]) == 0
    printed = capsys.readouterr().out
    set_all(monkeypatch, NOWHERE | {"APP_NAME": "Ours", "LOG_LEVEL": "ERROR", "PORT": "9000"})
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == printed
    document = json.loads(printed)
    assert document["info"]["title"] == "Footnote"
    assert "/api/v1/chat/runs" in document["paths"]


def test_each_provider_that_can_be_named_is_there() -> None:
    assert set(PROVIDERS) == set(CHAT_PROVIDERS)
    assert set(EMBEDDINGS) == set(EMBEDDING_PROVIDERS)
