"""The unmodified `openai` npm package does what the Python SDK does."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.config import Settings
from tests.api_process import ApiProcess
from tests.openai_api import running_openai_api
from tests.pdfs import text_pdf
from tests.people import register
from tests.provider_server import ProviderServer, Reply
from tests.web_build import find_node, run_npm

SOURCES = Path(__file__).parents[1] / "npm"
FILES = ("package.json", "package-lock.json", "client.mjs")
MODEL = "openai/gpt-4.1-mini"
ANSWER = "The zoo keeps seven zebras [1]."
PAGES = (
    "The zoo opened in 1901 and lies beside the river.",
    "The zoo keeps seven zebras and twelve giraffes.",
)


@pytest.fixture(scope="module")
def program(pytestconfig: pytest.Config) -> Path:
    """The program beside its one package, which is installed once and kept in pytest's cache."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("openai-npm")
    lock = (SOURCES / "package-lock.json").read_bytes()
    installed = folder / "installed-lock.json"
    is_current = installed.exists() and installed.read_bytes() == lock
    for name in FILES:
        shutil.copyfile(SOURCES / name, folder / name)
    if not is_current:
        installed.unlink(missing_ok=True)
        quick = ("--fetch-retries=1", "--fetch-timeout=30000")
        if run_npm("ci", "--no-audit", "--no-fund", "--ignore-scripts", *quick, folder=folder):
            message = "npm can't install the openai package: there is no registry to get it from"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        installed.write_bytes(lock)
    return folder / "client.mjs"


@pytest.fixture(scope="module")
async def api(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    async with (
        ProviderServer(default=Reply(text=ANSWER)) as provider,
        running_openai_api(settings, provider, tmp_path_factory.mktemp("api")) as process,
    ):
        yield process


@pytest.fixture(scope="module")
async def said(
    program: Path, api: ApiProcess, client: httpx2.AsyncClient, tmp_path_factory: Any
) -> dict[str, Any]:
    """What the program says of everything that it got."""
    person = await register(client, f"npm-{uuid4().hex}@example.com")
    pdf = tmp_path_factory.mktemp("pdf") / "zoo.pdf"
    pdf.write_bytes(text_pdf(PAGES))
    process = await asyncio.create_subprocess_exec(
        *(find_node(), program, f"{api.url}/v1", person.tokens["access_token"], MODEL, pdf),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    read: dict[str, Any] = json.loads(output)
    return read


async def test_it_chats_and_cites(said: dict[str, Any]) -> None:
    assert said["models"][0] == said["model"] == MODEL
    # Plain chat is passed on as it is.
    assert said["plain"] == said["streamed"] == ANSWER
    assert said["annotations"] == ["file_citation"]
    assert said["usage"] is True
    assert said["embeddings"] == [384, 384]


async def test_it_stores_and_searches_files(said: dict[str, Any]) -> None:
    assert (said["stored"], said["batch"]) == ("completed", 1)
    assert set(said["found"]) == {"zoo.pdf"}
    assert said["deleted"] is True


async def test_it_gets_responses_and_their_events(said: dict[str, Any]) -> None:
    assert said["response"] == said["final"] == said["kept"] == ANSWER
    assert said["file"] is True
    assert said["events"] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]


async def test_its_errors_have_their_classes(said: dict[str, Any]) -> None:
    assert [(each["name"], each["status"], each["param"]) for each in said["errors"]] == [
        ("AuthenticationError", 401, None),
        ("NotFoundError", 404, "file_id"),
        ("BadRequestError", 400, "n"),
        ("BadRequestError", 400, "messages"),
    ]
