"""What several integration tests share: connections of their own, a model's server, Tesseract."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from app.core.db import Database
from app.core.jobs import JobSender
from app.core.redis import open_redis
from app.ingestion.ocr import OcrEngine, find_ocr_engine
from app.ingestion.pipeline import Ingester
from app.llm.embedder import Embedder, RetryPolicy
from app.llm.providers.openai import OpenAIEmbedding
from app.resources import Resources
from tests.provider_server import ProviderServer
from tests.tools import find_tool

FEW_RETRIES = RetryPolicy(attempts=2, garbage_attempts=2, base_s=0.01, max_wait_s=0.01)


@pytest.fixture(scope="module")
async def db(database_url: str, redis_url: str) -> AsyncIterator[Database]:
    jobs = JobSender(redis_url)
    database = Database(database_url, jobs, pool_size=2)
    yield database
    await database.close()
    jobs.close()


@pytest.fixture(scope="module")
async def owner(database_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = open_redis(redis_url)
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@pytest.fixture(scope="module")
async def remote(resources: Resources, provider: ProviderServer) -> AsyncIterator[Ingester]:
    """An ingester whose embeddings come over HTTP, fast and without a model."""
    embedding = OpenAIEmbedding(api_key="k", base_url=provider.openai_url, model="embed-test")
    embedder = Embedder(embedding, document_retries=FEW_RETRIES)
    yield Ingester(resources.db, resources.storage, resources.sealer, embedder, embedding)
    await embedding.aclose()


@pytest.fixture(scope="session")
def engine() -> OcrEngine:
    find_tool("tesseract", "tesseract-ocr")
    found = find_ocr_engine("eng")
    assert found is not None
    return found
