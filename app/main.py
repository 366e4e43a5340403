"""create_app(): lifespan, middleware, error handlers, routers."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.cors import CORSMiddleware

from app import exception_handlers
from app.audit_trail import AuditTrail
from app.chat.run_sweep import RunSweeper
from app.config import Settings
from app.core.logging import configure_logging
from app.core.static_files import StaticFolder
from app.dependencies import check_routes_are_guarded
from app.documents.housekeeping import Housekeeper
from app.ingestion.hnsw import run_index_builder
from app.ingestion.sweep import Sweeper
from app.middleware import BodyLimit, RequestContext, RequestProfiler
from app.resources import Resources, open_resources
from app.retrieval.recall import run_recall_measurements
from app.routers import ROUTERS, docs, web
from app.routers.mcp import McpEndpoint
from app.usage.alerts import tell_webhooks
from app.usage.budgets import BudgetReaper
from app.usage.limits import RATE_LIMIT_HEADERS
from app.webhooks.courier import Courier
from app.webhooks.sending import WebhookSender

log = structlog.get_logger(__name__)

# What the `openai` package of npm adds to requests from a page.
_OPENAI_CLIENT_HEADERS = (
    *("User-Agent", "X-Stainless-Arch", "X-Stainless-Helper-Method", "X-Stainless-Lang"),
    *("X-Stainless-OS", "X-Stainless-Package-Version", "X-Stainless-Retry-Count"),
    *("X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API. Raises RuntimeError for a route that nobody guards.

    Start-up fails when the database's roles are not bound by row-level security.
    """
    settings = settings or Settings()
    configure_logging(settings.log_level)
    app = FastAPI(
        title=settings.app_name,
        version="0.1.0",
        debug=settings.debug and not settings.is_production,
        lifespan=lambda app: _lifespan(app, settings),
        docs_url=None,  # see routers/docs.py
        redoc_url=None,
        openapi_url=None if settings.is_production else "/openapi.json",
    )
    for router in ROUTERS.values():
        app.include_router(router)
    if not settings.is_production:
        app.include_router(docs.router)
        app.state.swagger_ui = StaticFolder(docs.SWAGGER_UI)
    app.state.web_app = StaticFolder(web.DIST)
    app.state.mcp = McpEndpoint(app, app.version)
    check_routes_are_guarded(app.routes)
    exception_handlers.install(app)
    app.add_middleware(BodyLimit)
    if settings.profile_requests and not settings.is_production:
        app.add_middleware(RequestProfiler)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["*"],
        allow_headers=[
            *("Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "Idempotency-Key"),
            *("Tus-Resumable", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
            "Upload-Checksum",
            *_OPENAI_CLIENT_HEADERS,
        ],
        expose_headers=[
            *("X-Request-ID", "X-Processing-Time-Ms", "Location", "Retry-After", "ETag"),
            *("Accept-Ranges", "Content-Range", "Content-Disposition", "Idempotency-Replayed"),
            *("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"),
            *("Tus-Checksum-Algorithm", "Upload-Offset", "Upload-Length", "Upload-Metadata"),
            *("Upload-Expires", "Document-Id"),
            *("X-Footnote-Provider", "X-Footnote-Model", "X-Footnote-Fallbacks"),
            *RATE_LIMIT_HEADERS,
        ],
    )
    app.add_middleware(AuditTrail)
    app.add_middleware(RequestContext)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    async with open_resources(settings) as resources:
        await resources.db.check_roles()
        app.state.resources = resources
        tasks = [
            asyncio.create_task(Sweeper(resources.db, resources.storage).run()),
            asyncio.create_task(Housekeeper(resources.db, resources.storage).run()),
            asyncio.create_task(RunSweeper(resources.db, resources.redis).run()),
            asyncio.create_task(_make_courier(resources).run()),
            asyncio.create_task(BudgetReaper(resources.db, tell_webhooks).run()),
            asyncio.create_task(run_index_builder(settings.database_url)),
            asyncio.create_task(resources.principals.key_uses.run()),
            asyncio.create_task(run_recall_measurements(resources.db)),
            asyncio.create_task(_warm_up(resources)),
        ]
        try:
            yield
        finally:
            await app.state.mcp.aclose()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


def _make_courier(resources: Resources) -> Courier:
    sender = WebhookSender(allows_private=not resources.settings.is_production)
    return Courier(resources.db, resources.sealer, sender)


async def _warm_up(resources: Resources) -> None:
    """Load the embedding model before the first question needs it, and say which one it is."""
    try:
        embedder = await resources.spaces.check()
    except (SQLAlchemyError, OSError) as error:
        log.warning("live_space_unknown", error=type(error).__name__)
        embedder = None
    await resources.models.warm_up(embedder.provider if embedder else None)
    # What is there now stays; looking through it stops the process for a third of a second. So do a
    # thousand answers in the making, at the usual thresholds every few seconds: reference counts
    # free nearly all of what they leave, and the collector looks at the young mostly.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 1_000)
    log.info("models_ready")
