"""Real servers for every test: one embedded Postgres and Redis a session, in temporary folders."""

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from redis import Redis as SyncRedis
from sqlalchemy import text

from app.config import Settings
from app.ingestion.pipeline import Ingester, ingest_next
from app.local.postgres import Postgres
from app.local.redis import Redis
from app.main import create_app
from app.migrations import upgrade
from app.resources import Resources, make_ingester
from tests.people import Person, register
from tests.provider_server import ProviderServer, Reply

# Nothing here has to survive a power cut.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# A shell lets what it starts in the background ignore SIGINT, and so would the servers of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Postgres(tmp_path_factory.mktemp("postgres"), options=_FAST) as postgres:
        upgrade(postgres.url)
        yield postgres.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis.url


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def settings(database_url: str, redis_url: str, data_dir: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        redis_url=redis_url,
        data_dir=data_dir,
        # Nothing listens there: without a key and without Ollama, answers are extractive.
        ollama_base_url="http://127.0.0.1:9",
        max_upload_mb=4,
        default_plan="enterprise",  # it has no rates: tests are not limited unless they want it
    )


@pytest.fixture(autouse=True)
def closed_breakers(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the providers of one test failed of is no news for the next one."""
    yield
    if "redis_url" in request.fixturenames:
        with SyncRedis.from_url(request.getfixturevalue("redis_url")) as redis:
            keys = list(redis.scan_iter("v1:breaker:*"))
            if keys:
                redis.delete(*keys)


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    """The app with its lifespan, and a client that calls it without a socket."""
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield app, client


@pytest.fixture(scope="session")
async def served(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    async with serve(settings) as pair:
        yield pair


@pytest.fixture(scope="session")
def app(served: tuple[FastAPI, httpx2.AsyncClient]) -> FastAPI:
    return served[0]


@pytest.fixture(scope="session")
def client(served: tuple[FastAPI, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return served[1]


@pytest.fixture(scope="session")
def resources(app: FastAPI) -> Resources:
    opened: Resources = app.state.resources
    return opened


@pytest.fixture(scope="session")
def ingester(resources: Resources) -> Ingester:
    return make_ingester(resources)


@pytest.fixture
async def person(client: httpx2.AsyncClient) -> Person:
    """Somebody with an account and an organization of their own."""
    return await register(client, f"person-{uuid4().hex}@example.com")


@pytest.fixture
async def stranger(client: httpx2.AsyncClient) -> Person:
    """Somebody else, in another organization."""
    return await register(client, f"stranger-{uuid4().hex}@example.com")


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    """What the vendors of models answer by default; modules have answers of their own."""
    return Reply()


@pytest.fixture(scope="module")
async def provider(default_reply: Reply) -> AsyncIterator[ProviderServer]:
    """The vendors of models."""
    async with ProviderServer(default=default_reply) as server:
        yield server


@pytest.fixture
async def undecided(resources: Resources) -> AsyncIterator[None]:
    """No embedding space is live, before and after: a worker with a model of its own decides."""

    async def forget() -> None:
        async with resources.db.system_transaction() as session:
            await session.execute(text("DELETE FROM embedding_rollout"))

    await forget()
    yield
    await forget()


async def ingest_all(ingester: Ingester) -> None:
    """Do what a worker does when it is woken: ingest until nothing is queued."""
    while await ingest_next(ingester):
        pass
