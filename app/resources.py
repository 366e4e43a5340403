"""The composition root: opens everything that a process needs, once, and closes it in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from app.accounts.attempts import Attempts
from app.accounts.credentials import PrincipalResolver
from app.accounts.mail import MailSender, make_mail_sender
from app.chat.admission import Policies
from app.chat.pipeline import Answerer
from app.chat.runs import RunEngine
from app.config import Settings
from app.core.db import Database
from app.core.jobs import JobSender
from app.core.rates import RateStore
from app.core.redis import open_redis
from app.core.sealing import Sealer
from app.core.security import PasswordHasher
from app.core.sse import stream_timing
from app.core.storage import BlobStore
from app.documents.feed import ProgressFeed
from app.documents.page_images import PageImages
from app.ingestion.kept_spaces import KeptSpaces
from app.ingestion.ocr import OcrEngine, find_ocr_engine
from app.ingestion.pipeline import Ingester
from app.llm.embedders import Embedders
from app.llm.model_aliases import AliasDirectory
from app.llm.registry import Models, open_models
from app.llm.rerankers import Reranker, open_reranker
from app.llm.routing import Deployments, ModelRouter
from app.retrieval.condense import QueryRewriter, make_rewriter
from app.retrieval.pipeline import Retriever
from app.retrieval.spaces import SpaceDirectory
from app.usage.alerts import tell_webhooks
from app.usage.limits import Limiter
from app.usage.metering import USAGE_LINGER_S, Ledger
from app.usage.organization_limits import LimitDirectory
from app.usage.plans import OrganizationPlan
from app.usage.prices import PriceBook

# A call takes a fraction of a millisecond, and a crowd waits for its turn.
_LIMITS_CONNECTIONS = 2


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
    model_router: ModelRouter
    embedders: Embedders
    passwords: PasswordHasher
    principals: PrincipalResolver
    attempts: Attempts
    limiter: Limiter
    prices: PriceBook
    ledger: Ledger
    spaces: SpaceDirectory
    rewriter: QueryRewriter
    reranker: Reranker | None
    retriever: Retriever
    policies: Policies
    answerer: Answerer
    runs: RunEngine
    progress: ProgressFeed
    page_images: PageImages
    ocr: OcrEngine | None
    mail: MailSender


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open what `settings` names. Connects lazily: a server that is down is no error here."""
    async with AsyncExitStack() as stack:
        jobs = JobSender(settings.redis_url)
        stack.callback(jobs.close)
        db = Database(settings.database_url, jobs, pool_size=settings.database_pool_size)
        stack.push_async_callback(db.close)
        progress = ProgressFeed(db)
        stack.push_async_callback(progress.close)
        storage = BlobStore(settings.data_dir / "files")
        page_images = PageImages(storage, cache_bytes=settings.page_cache_bytes)
        stack.callback(page_images.close)
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        models = await stack.enter_async_context(open_models(settings))
        model_router = ModelRouter(
            models,
            AliasDirectory(db),
            Deployments(settings, redis),
            total_s=settings.model_total_timeout_s,
        )
        embedders = Embedders(models, redis, cache_ttl_s=settings.query_cache_ttl_s)
        spaces = SpaceDirectory(db, embedders)
        rewriter = make_rewriter(settings, models, redis)
        reranker = await stack.enter_async_context(open_reranker(settings, models, redis))
        retriever = Retriever(db, spaces, rewriter, reranker)
        # Patient: to be counted elsewhere would let too many in.
        limits_redis = open_redis(
            settings.redis_url, timeout_s=3.0, max_connections=_LIMITS_CONNECTIONS
        )
        stack.push_async_callback(limits_redis.aclose)
        rates = RateStore(limits_redis, connections=_LIMITS_CONNECTIONS)
        directory = LimitDirectory(db, OrganizationPlan(settings.default_plan))
        limiter = Limiter(rates, directory, directory.tokens_used)
        stack.push_async_callback(limiter.aclose)
        prices = PriceBook(db)
        ledger = Ledger(
            db,
            prices,
            limiter,
            ceiling_usd=settings.unknown_price_ceiling_usd,
            on_alert=tell_webhooks,
            linger_s=USAGE_LINGER_S,
        )
        stack.push_async_callback(ledger.aclose)
        # A pool of their own: nobody waits for it, and under load an answer may take its time.
        runs_redis = open_redis(settings.redis_url, timeout_s=1.0, max_connections=4)
        stack.push_async_callback(runs_redis.aclose)
        policies = Policies(db)
        answerer = Answerer(retriever, model_router, policies, ledger.meter, ledger.check)
        runs = RunEngine(
            db,
            runs_redis,
            answerer,
            unread_s=settings.run_unread_s,
            drain_s=stream_timing(is_production=settings.is_production).drain_s,
        )
        stack.push_async_callback(runs.aclose)
        yield Resources(
            settings=settings,
            db=db,
            redis=redis,
            jobs=jobs,
            storage=storage,
            sealer=Sealer(settings.signing_key),
            models=models,
            model_router=model_router,
            embedders=embedders,
            passwords=PasswordHasher(),
            principals=PrincipalResolver(db, settings.signing_key),
            attempts=Attempts(rates, spares_loopback=not settings.is_production),
            limiter=limiter,
            prices=prices,
            ledger=ledger,
            spaces=spaces,
            rewriter=rewriter,
            reranker=reranker,
            retriever=retriever,
            policies=policies,
            answerer=answerer,
            runs=runs,
            progress=progress,
            page_images=page_images,
            ocr=find_ocr_engine(settings.ocr_languages),
            mail=make_mail_sender(settings),
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
        ledger=resources.ledger,
    )
