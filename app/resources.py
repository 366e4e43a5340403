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
from app.ingestion.kept_spaces import KeptSpaces
from app.ingestion.ocr import OcrEngine, find_ocr_engine
from app.ingestion.pipeline import Ingester
from app.llm.embedders import Embedders
from app.llm.registry import Models, open_models
from app.llm.rerankers import Reranker, open_reranker
from app.retrieval.condense import QueryRewriter, make_rewriter
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
    embedders: Embedders
    passwords: PasswordHasher
    principals: PrincipalResolver
    spaces: SpaceDirectory
    rewriter: QueryRewriter
    reranker: Reranker | None
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
        embedders = Embedders(models, redis, cache_ttl_s=settings.query_cache_ttl_s)
        yield Resources(
            settings=settings,
            db=db,
            redis=redis,
            jobs=jobs,
            storage=BlobStore(settings.data_dir / "files"),
            sealer=Sealer(settings.signing_key),
            models=models,
            embedders=embedders,
            passwords=PasswordHasher(),
            principals=PrincipalResolver(db, settings.signing_key),
            spaces=SpaceDirectory(db, embedders),
            rewriter=make_rewriter(settings, models, redis),
            reranker=await stack.enter_async_context(open_reranker(settings, models, redis)),
            progress=progress,
            ocr=find_ocr_engine(settings.ocr_languages),
        )


def make_ingester(resources: Resources) -> Ingester:
    embedding = resources.embedders.configured
    return Ingester(
        resources.db,
        resources.storage,
        resources.sealer,
        resources.embedders.get(embedding.name, embedding.model),
        embedding,
        kept=KeptSpaces(resources.db, resources.embedders),
        has_ocr=resources.ocr is not None,
        per_org=resources.settings.org_documents_in_work,
    )
