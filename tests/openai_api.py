"""The API with a stand-in for OpenAI behind it: its settings, and as a process with a worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from app.config import Settings
from app.ingestion.pipeline import ingest_next
from app.resources import make_ingester, open_resources
from tests.api_process import ApiProcess, running_api
from tests.provider_server import ProviderServer

API_KEY = "sk-test-0123456789"
_PAUSE_S = 0.05


def with_openai(settings: Settings, provider: ProviderServer, **changes: object) -> Settings:
    """Return settings by which the stand-in is OpenAI; `changes` are further settings."""
    openai = {"openai_api_key": SecretStr(API_KEY), "openai_base_url": provider.openai_url}
    return settings.model_copy(update=openai | changes)


@asynccontextmanager
async def running_openai_api(
    settings: Settings, provider: ProviderServer, folder: Path, **changes: str
) -> AsyncIterator[ApiProcess]:
    """A process of its own, on sockets. What is uploaded to it gets ready by itself."""
    configured = {
        "OPENAI_API_KEY": API_KEY,
        "OPENAI_BASE_URL": provider.openai_url,
        "QUERY_REWRITING": "false",
    }
    running = running_api(settings, folder, **configured | changes)
    process = await asyncio.to_thread(running.__enter__)
    working = asyncio.create_task(_work(settings.model_copy(update={"data_dir": folder / "data"})))
    try:
        yield process
    finally:
        working.cancel()
        await asyncio.wait([working])
        await asyncio.to_thread(running.__exit__, None, None, None)


async def _work(settings: Settings) -> None:
    async with open_resources(settings) as resources:
        ingester = make_ingester(resources)
        while True:
            if not await ingest_next(ingester):
                await asyncio.sleep(_PAUSE_S)
