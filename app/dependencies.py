"""Annotated aliases for handlers, and the check that every route knows who calls."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import OAuth2PasswordBearer
from starlette.routing import BaseRoute

from app.accounts.principal import Principal
from app.chat.pipeline import Answerer
from app.core.errors import InvalidRequest, NotAuthenticated
from app.core.sse import StreamTiming
from app.documents.uploads import Uploader
from app.resources import Resources
from app.retrieval.pipeline import Retriever

# Everything that may be called without a credential. Reviewed; a test keeps a copy of it.
PUBLIC_ROUTES = frozenset(
    {
        ("GET", "/"),
        ("GET", "/health"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        # The API's own pages; not there in production.
        ("GET", "/docs"),
        ("GET", "/docs/oauth2-redirect"),
        ("GET", "/openapi.json"),
        ("POST", "/api/v1/auth/register"),
        ("POST", "/api/v1/auth/login"),
        ("POST", "/api/v1/auth/refresh"),
        ("POST", "/api/v1/auth/logout"),
    }
)

_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/login", auto_error=False)


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


async def authenticate(
    request: Request, resources: ResourcesDep, _documented: Annotated[str | None, Depends(_bearer)]
) -> Principal:
    """Return who calls. Raises NotAuthenticated, or InvalidRequest for two credentials at once."""
    credentials = request.headers.getlist("authorization")
    if len(credentials) + len(request.headers.getlist("x-api-key")) > 1:
        raise InvalidRequest("Send one credential, not several.", code="ambiguous_credentials")
    scheme, _, token = (credentials[0] if credentials else "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("Send an access token: `Authorization: Bearer …`.")
    return await resources.principals.resolve(token.strip())


Caller = Annotated[Principal, Depends(authenticate)]


async def get_retriever(resources: ResourcesDep) -> Retriever:
    return Retriever(resources.db, resources.embedder, resources.models.embedding, resources.spaces)


async def get_answerer(
    resources: ResourcesDep, retriever: Annotated[Retriever, Depends(get_retriever)]
) -> Answerer:
    return Answerer(retriever, resources.models)


async def get_stream_timing(resources: ResourcesDep) -> StreamTiming:
    # The server itself waits 25 s in production, 10 s else, before it cuts what is open.
    return StreamTiming(drain_s=22.0) if resources.settings.is_production else StreamTiming()


async def get_uploader(resources: ResourcesDep) -> Uploader:
    return Uploader(resources.db, resources.storage, resources.settings.max_upload_bytes)


def check_routes_are_guarded(routes: Sequence[BaseRoute]) -> None:
    """Raise RuntimeError for a route that neither authenticates nor stands in PUBLIC_ROUTES.

    Looks into included routers; a mount or a web socket must be reviewed too.
    """
    for route in iter_route_contexts(routes):
        dependant = getattr(route.original_route, "dependant", None)
        if dependant is not None and _authenticates(dependant):
            continue
        for method in sorted(getattr(route.original_route, "methods", None) or {"ANY"}):
            if method != "HEAD" and (method, route.path) not in PUBLIC_ROUTES:
                raise RuntimeError(
                    f"{method} {route.path} has no authentication and is not a public route"
                )


def _authenticates(dependant: Dependant) -> bool:
    return dependant.call is authenticate or any(map(_authenticates, dependant.dependencies))
