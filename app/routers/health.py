"""Is it alive, is it ready, and its metrics."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import ProviderError
from app.core.metrics import render_metrics
from app.core.redis import REDIS_ERRORS, WORKER_HEARTBEAT_KEY
from app.dependencies import Reader, ResourcesDep
from app.llm.provider_health import read_health
from app.resources import Resources

router = APIRouter(tags=["health"])

_CHECK_TIMEOUT_S = 2.0


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`unavailable` (503) when the API cannot serve, `degraded` when something else is down."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


class DeploymentHealthOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    provider: str
    model: str | None = Field(description="Null for a provider of which no model is in use.")
    state: str = Field(
        description="ok, open (calls are held back), half_open (one call tries it), unconfigured "
        "or unreachable."
    )
    last_error: str | None = Field(description="Kind of the last failure that counts.")
    retry_in_s: float | None = Field(description="Until the next call may go out.")
    in_flight: int = Field(description="Calls of the process that answers this.")


class ProvidersHealth(BaseModel):
    providers: list[DeploymentHealthOut]


@router.get("/health")
async def health() -> Health:
    """The process answers."""
    return Health()


@router.get("/health/ready")
async def ready(resources: ResourcesDep, response: Response) -> Readiness:
    """What the API stands on, each `ok` or what is wrong."""
    database, (redis, worker), providers = await asyncio.gather(
        _check_database(resources),
        _check_redis_and_worker(resources),
        resources.models.status(),
    )
    checks = {"database": database, "redis": redis, "worker": worker}
    checks |= {f"provider:{name}": state for name, state in providers.items()}
    if database != "ok":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "5"
        return Readiness(status="unavailable", checks=checks)
    checks["embedding_model"] = await check_embedding_model(resources)
    is_fine = all(state in ("ok", "unconfigured") for state in checks.values())
    return Readiness(status="ready" if is_fine else "degraded", checks=checks)


@router.get("/health/providers")
async def providers(caller: Reader, resources: ResourcesDep) -> ProvidersHealth:
    """The deployments of models that answer here, and how each is doing.

    Operators see all that were asked lately by this process; others the default model and aliases.
    """
    found = await read_health(
        resources.model_router, allowed=caller.allowed_models, shows_all=caller.is_operator
    )
    return ProvidersHealth(providers=[DeploymentHealthOut.model_validate(each) for each in found])


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    body, content_type = await asyncio.to_thread(render_metrics)
    return Response(body, media_type=content_type)


async def _check_database(resources: Resources) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S), resources.db.system_transaction() as session:
            await session.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError):
        return "down"
    return "ok"


async def check_embedding_model(
    resources: Resources,
) -> Literal["ok", "unusable", "unknown"]:
    """Say whether the model that documents are embedded with can be used with these settings."""
    try:
        resources.spaces.get_embedder(await resources.spaces.find_live())
    except ProviderError:
        return "unusable"
    except (SQLAlchemyError, OSError):
        return "unknown"
    return "ok"


async def _check_redis_and_worker(resources: Resources) -> tuple[str, str]:
    try:
        heartbeat = await resources.redis.get(WORKER_HEARTBEAT_KEY)
    except REDIS_ERRORS:
        return "down", "unknown"
    return "ok", "ok" if heartbeat else "down"
