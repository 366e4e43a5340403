"""What the API writes to stdout: JSON lines with a request id, and nothing that is secret."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.config import Settings
from app.core.logging import redact_text
from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all
from tests.integration.test_streams import api_process
from tests.key_holders import holder_of, make_key
from tests.openai_api import API_KEY, with_openai
from tests.people import PASSWORD, Person, register
from tests.provider_server import Failure, ProviderServer, Reply


@dataclass(frozen=True, slots=True)
class Written:
    """A session of real use at LOG_LEVEL=DEBUG: what was written, and what must not be in it."""

    output: str
    secrets: dict[str, str]
    request_id: str

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]


@pytest.fixture(scope="module")
async def written(
    settings: Settings, ingester: Ingester, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    log = tmp_path_factory.mktemp("logs") / "api.out"
    words = {
        name: f"{name}{uuid4().hex}"
        for name in ("document", "question", "answer", "query", "filename", "unknown")
    }
    async with ProviderServer() as provider:
        secrets: dict[str, str] = {}
        async with _api(settings, provider, log) as client:
            person = await register(client, f"{uuid4().hex}@example.com")
            await _use(person, words, provider, ingester)
            api_key = await _use_key(person)
            request_id = f"trace-{uuid4().hex}"
            await client.get(
                f"/api/v1/documents?name={words['query']}",
                headers=person.headers | {"X-Request-ID": request_id},
            )
            secrets |= {
                **words,
                "password": PASSWORD,
                "email": person.email,
                "access token": person.tokens["access_token"],
                "refresh token": person.tokens["refresh_token"],
                "API key": api_key,
                "random part of the API key": api_key[8:-6],
                "signing key": settings.signing_key,
                "provider's key": API_KEY,
                "provider's words": "sk-secret",
                "database": settings.database_url,
            }
    return Written(log.read_text(), secrets, request_id)


@asynccontextmanager
async def _api(
    settings: Settings, provider: ProviderServer, log: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    """`python -m app api` at LOG_LEVEL=DEBUG, and a client of it. Stopped, not killed."""
    configured = with_openai(settings, provider, ollama_base_url=provider.url)
    running = api_process(configured, log, SECRET_KEY=settings.signing_key, LOG_LEVEL="DEBUG")
    async with running as (url, process):
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            await client.get("/health/ready")  # has looked for models when it returns
            yield client
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _use(
    person: Person, words: dict[str, str], provider: ProviderServer, ingester: Ingester
) -> None:
    """Everything that handles secrets and texts, with success and without."""
    client = person.client
    await client.post(
        "/api/v1/auth/login", data={"username": person.email, "password": PASSWORD + "x"}
    )
    await client.post("/api/v1/auth/register", json={"email": person.email, "password": PASSWORD})
    await client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {words['unknown']}"})
    await client.get(f"/{words['unknown']}/path?access_token={words['query']}")
    await client.post("/api/v1/search", content=words["query"], headers=person.headers)
    text = f"The zoo keeps seven zebras, says {words['document']}."
    await person.upload(f"{words['filename']}.txt", text.encode())
    await ingest_all(ingester)
    await person.post("/api/v1/search", json={"query": f"{words['query']} zebras"})
    asked = {"messages": [{"content": f"How many zebras has the zoo, {words['question']}?"}]}
    answer = Reply(text=f"Seven zebras, {words['answer']} [1].")
    for model in ("openai/gpt-4.1-mini", "ollama/llama3.2", "extractive"):
        for path in ("/api/v1/chat/", "/api/v1/chat/stream"):
            provider.default = answer
            body = asked | {"model": model}
            response = await person.post(path, json=body)
            assert response.status_code == 200, response.text
            for failure in (Failure.STATUS, Failure.MALFORMED, Failure.INLINE_ERROR):
                provider.default = replace(answer, failure=failure)
                await person.post(path, json=body)


async def _use_key(person: Person) -> str:
    """Make an API key, and use it where it is good and where it is not."""
    secret: str = (await make_key(person, "write", tokens_per_day=1))["key"]
    holder = holder_of(person, secret)
    asked = {"messages": [{"role": "user", "content": "How many zebras?"}]}
    for response in (
        await holder.get(f"/api/v1/documents/{secret}"),
        await holder.get(f"/api/v1/documents?cursor={secret}"),
        await holder.get("/api/v1/auth/me"),
        await holder.post("/api/v1/chat/", json=asked),
        await holder.post("/api/v1/search", json={"query": "", "filters": secret}),
        await holder_of(person, secret + "x").get("/api/v1/documents"),
        await person.client.get(f"/api/v1/documents/events?token={secret}"),
    ):
        assert response.status_code >= 400, response.text
        assert secret not in response.text
    assert (await holder.get("/api/v1/documents")).status_code == 200
    return secret


def test_every_line_is_json_with_a_level_and_a_time(written: Written) -> None:
    lines = written.lines()
    assert len(lines) > 20
    for line in lines:
        assert {"event", "level", "timestamp"} <= set(line)


def test_every_request_is_one_line_with_its_id_and_duration(written: Written) -> None:
    requests = [line for line in written.lines() if line["event"] == "http_request"]
    assert len({line["request_id"] for line in requests}) == len(requests) >= 25
    for line in requests:
        assert {"method", "route", "status", "elapsed_ms"} <= set(line)
    traced = [line for line in requests if line["request_id"] == written.request_id]
    assert [(line["method"], line["route"], line["status"]) for line in traced] == [
        ("GET", "/api/v1/documents", 200)
    ]
    assert {"unmatched", "/api/v1/chat/stream"} <= {line["route"] for line in requests}


def test_failures_of_a_provider_are_told_with_the_requests_id(written: Written) -> None:
    failures = [
        line for line in written.lines() if line["event"] in ("provider_error", "stream_failed")
    ]
    assert len(failures) >= 12
    assert all(line["request_id"] for line in failures)


def test_nothing_secret_is_written(written: Written) -> None:
    found = [name for name, secret in written.secrets.items() if secret in written.output]
    assert found == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql://user:hunter2hunter2@host/db", "postgresql://user:[redacted]@host/db"),
        ("redis://:hunter2hunter2@host", "redis://:[redacted]@host"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer [redacted]"),
        ("key sk-hunter2hunter2 failed", "key [redacted] failed"),
        ("eyJhunter2.hunter2.hunter2", "[redacted]"),
        ("the key fn_live_hunter2hunter2 failed", "the key [redacted] failed"),
        ("http://host:8000/path", "http://host:8000/path"),
    ],
)
def test_credentials_that_slip_into_a_message_are_masked(text: str, kept: str) -> None:
    assert redact_text(text) == kept
