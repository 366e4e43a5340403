"""Health, readiness with parts of the installation down, and metrics after real use."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.core.redis import WORKER_HEARTBEAT_KEY
from app.ingestion.pipeline import Ingester
from app.local.postgres import Postgres
from app.local.redis import Redis
from app.migrations import upgrade
from app.resources import Resources
from tests.conftest import ingest_all, serve
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply


@dataclass(frozen=True, slots=True)
class Installation:
    """An app with a Postgres and a Redis of its own, that tests may stop."""

    client: httpx2.AsyncClient
    postgres: Postgres
    redis: Redis

    async def ready(self) -> tuple[int, dict[str, Any]]:
        response = await self.client.get("/health/ready")
        return response.status_code, response.json()


@pytest.fixture(scope="module")
async def installation(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    with Postgres(folder / "postgres", options={"fsync": "off"}) as postgres:
        await asyncio.to_thread(upgrade, postgres.url)
        with Redis(folder / "redis") as redis:
            own = settings.model_copy(update={"database_url": postgres.url, "redis_url": redis.url})
            async with serve(own) as (app, client):
                resources: Resources = app.state.resources
                await resources.redis.set(WORKER_HEARTBEAT_KEY, "1")
                yield Installation(client, postgres, redis)


async def test_alive(client: httpx2.AsyncClient) -> None:
    response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_readiness_with_everything_up_and_with_parts_down(
    installation: Installation,
) -> None:
    status, body = await installation.ready()
    assert (status, body["status"]) == (200, "ready"), body
    assert body["checks"]["database"] == body["checks"]["redis"] == body["checks"]["worker"] == "ok"
    assert body["checks"]["provider:extractive"] == "ok"

    await asyncio.to_thread(installation.redis.stop)
    status, body = await installation.ready()
    assert (status, body["status"], body["checks"]["redis"]) == (200, "degraded", "down")
    person = await register(installation.client, "without-redis@example.com")
    found = await person.post("/api/v1/search", json={"query": "anything"})
    assert found.status_code == 200, found.text

    await asyncio.to_thread(installation.postgres.stop)
    status, body = await installation.ready()
    assert (status, body["status"], body["checks"]["database"]) == (503, "unavailable", "down")
    assert (await installation.client.get("/health")).status_code == 200
    failed = await person.post("/api/v1/search", json={"query": "anything"})
    assert failed.status_code == 503, failed.text
    assert int(failed.headers["Retry-After"]) >= 1


async def test_without_a_worker_it_is_degraded(app: FastAPI, client: httpx2.AsyncClient) -> None:
    resources: Resources = app.state.resources
    await resources.redis.delete(WORKER_HEARTBEAT_KEY)
    response = await client.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"]["worker"] == "down"


async def test_a_provider_that_is_down_is_degraded(settings: Settings) -> None:
    configured = settings.model_copy(update={"default_model": "ollama/llama3.2"})
    async with serve(configured) as (_, client):
        response = await client.get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"]["provider:ollama"] == "unreachable"


async def test_readiness_shows_no_secret_and_no_address(installation: Installation) -> None:
    text = (await installation.client.get("/health/ready")).text
    assert "postgres" not in text.replace("postgresql", "")
    assert "://" not in text


def values(exposition: str, name: str) -> dict[str, float]:
    """The samples of one metric by their labels."""
    samples = {}
    for line in exposition.splitlines():
        if line.startswith((f"{name}{{", f"{name} ")):
            labels, _, value = line.removeprefix(name).rpartition(" ")
            samples[labels] = float(value)
    return samples


async def test_metrics_after_real_use(
    settings: Settings, person: Person, ingester: Ingester
) -> None:
    await person.upload("zoo.txt", b"The zoo keeps seven zebras and one lion in its park.")
    await ingest_all(ingester)
    async with ProviderServer() as provider:
        configured = with_openai(settings, provider)
        async with serve(configured) as (_, client):
            await client.get("/health/ready")  # has looked for models when it returns
            before = (await client.get("/metrics")).text
            # Named, for behind the default model there would be quotes.
            ask = {
                "model": "openai/gpt-4.1-mini",
                "messages": [{"content": "How many zebras are in the zoo?"}],
            }
            provider.script(Reply(failure=Failure.STATUS, status=500))
            failed = await client.post("/api/v1/chat/", json=ask, headers=person.headers)
            assert failed.status_code == 503
            provider.script(Reply(text="one two three", failure=Failure.CUT))
            await client.post("/api/v1/chat/stream", json=ask, headers=person.headers)
            done = await client.post("/api/v1/chat/", json=ask, headers=person.headers)
            assert done.status_code == 200, done.text
            await client.request("BREW", "/nothing-7c2f")
            response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    after = response.text

    def grown(name: str, labels: str) -> float:
        return values(after, name).get(labels, 0) - values(before, name).get(labels, 0)

    chat = 'method="POST",route="/api/v1/chat/"'
    assert grown("footnote_http_requests_total", f'{{{chat},status="200"}}') == 1
    assert grown("footnote_http_requests_total", f'{{{chat},status="503"}}') == 1
    assert grown("footnote_http_request_seconds_count", f"{{{chat}}}") == 2
    assert grown("footnote_chat_first_token_seconds_count", '{provider="openai"}') == 2
    # Each failure once, wherever it showed.
    errors = "footnote_provider_errors_total"
    assert grown(errors, '{kind="overloaded",provider="openai"}') == 1
    assert grown(errors, '{kind="truncated",provider="openai"}') == 1
    assert grown("footnote_embedding_cache_total", '{outcome="miss"}') == 1
    assert grown("footnote_embedding_cache_total", '{outcome="hit"}') == 2
    assert values(after, "footnote_ingestion_outcomes_total")['{outcome="ready"}'] >= 1
    assert values(after, "footnote_ingestion_stage_seconds_count")
    # Nothing that a client makes up becomes a label.
    for made_up in ("BREW", "nothing-7c2f", str(person.org_id)):
        assert made_up not in after


async def test_a_database_that_refuses_connections_is_down(
    settings: Settings, tmp_path: Path
) -> None:
    """Not a refused socket but a server that says no, as when it starts or is full."""
    folder = tmp_path / "postgres"
    with Postgres(folder, options={"fsync": "off"}) as postgres:
        await asyncio.to_thread(upgrade, postgres.url)
        own = settings.model_copy(update={"database_url": postgres.url})
        async with serve(own) as (app, client):
            resources: Resources = app.state.resources
            await resources.db.close()  # the pools open new connections
            await _refuse_connections(postgres.url)
            response = await client.get("/health/ready")
    assert response.status_code == 503, response.text
    assert response.json()["checks"]["database"] == "down"


async def _refuse_connections(url: str) -> None:
    target = urlsplit(url.replace("+asyncpg", ""))
    name = target.path.removeprefix("/")
    connection = await asyncpg.connect(urlunsplit(target._replace(path="/template1")))
    await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await connection.close()
