"""The composition root: opens everything that a process needs, once, and closes it in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from app.accounts.credentials import PrincipalResolver
from app.config import Settings
from app.core.db import Database
from app.core.jobs import JobSender
from app.core.redis import open_redis
from app.core.sealing import Sealer
from app.core.security import PasswordHasher
from app.core.storage import BlobStore
from app.documents.feed import ProgressFeed
from app.ingestion.ocr import OcrEngine, find_ocr_engine
from app.ingestion.pipeline import Ingester
from app.llm.embedder import Embedder
from app.llm.registry import Models, open_models
from app.retrieval.spaces import SpaceDirectory


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds open. Made after any fork: connections belong to their event loop."""

    settings: Settings
    db: Database
    redis: Redis
    jobs: JobSender
    storage: BlobStore
    sealer: Sealer
    models: Models
    embedder: Embedder
    passwords: PasswordHasher
    principals: PrincipalResolver
    spaces: SpaceDirectory
    progress: ProgressFeed
    ocr: OcrEngine | None


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open what `settings` names. Connects lazily: a server that is down is no error here."""
    async with AsyncExitStack() as stack:
        jobs = JobSender(settings.redis_url)
        stack.callback(jobs.close)
        db = Database(settings.database_url, jobs)
        stack.push_async_callback(db.close)
        progress = ProgressFeed(db)
        stack.push_async_callback(progress.close)
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        models = await stack.enter_async_context(open_models(settings))
        yield Resources(
            settings=settings,
            db=db,
            redis=redis,
            jobs=jobs,
            storage=BlobStore(settings.data_dir / "files"),
            sealer=Sealer(settings.signing_key),
            models=models,
            embedder=Embedder(models.embedding, redis, cache_ttl_s=settings.query_cache_ttl_s),
            passwords=PasswordHasher(),
            principals=PrincipalResolver(db, settings.signing_key),
            spaces=SpaceDirectory(db),
            progress=progress,
            ocr=find_ocr_engine(settings.ocr_languages),
        )


def make_ingester(resources: Resources) -> Ingester:
    return Ingester(
        resources.db,
        resources.storage,
        resources.sealer,
        resources.embedder,
        resources.models.embedding,
        has_ocr=resources.ocr is not None,
        per_org=resources.settings.org_documents_in_work,
    )
