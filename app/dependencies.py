"""Annotated aliases for handlers, and the check that every route knows who calls."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import OAuth2PasswordBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute

from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.principal import Principal
from app.chat.pipeline import Answerer
from app.chat.runs import RunEngine
from app.core.errors import InvalidRequest, NotAuthenticated, PermissionDenied
from app.core.sse import StreamTiming, stream_timing
from app.core.stream_tokens import StreamAudience, StreamScope
from app.documents.intake import Intake
from app.documents.resumable import ResumableUploads
from app.documents.uploads import Uploader
from app.resources import Resources
from app.retrieval.pipeline import Retriever
from app.usage.plans import Feature

log = structlog.get_logger(__name__)

# Everything that may be called without a credential. Reviewed; a test keeps a copy of it.
PUBLIC_ROUTES = frozenset(
    {
        # The web app: its page, which shows nothing of anybody, and the page's files.
        ("GET", "/"),
        ("GET", "/sign-in"),
        ("GET", "/chat/{conversation_id}"),
        ("GET", "/documents"),
        ("GET", "/documents/{document_id}"),
        ("GET", "/settings"),
        ("GET", "/settings/{section}"),
        ("GET", "/assets/{name:path}"),
        ("GET", "/pdfjs/{name:path}"),
        ("GET", "/favicon.svg"),
        ("GET", "/health"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        # The API's own description; not there in production.
        ("GET", "/docs"),
        ("GET", "/docs/start.js"),
        ("GET", "/docs/{name}"),
        ("GET", "/openapi.json"),
        ("POST", "/api/v1/auth/register"),
        ("POST", "/api/v1/auth/login"),
        ("POST", "/api/v1/auth/refresh"),
        ("POST", "/api/v1/auth/logout"),
        # By the web app's cookie, or to get it; for its own pages alone.
        ("POST", "/api/v1/session"),
        ("POST", "/api/v1/session/register"),
        ("POST", "/api/v1/session/refresh"),
        ("DELETE", "/api/v1/session"),
    }
)

_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/login", auto_error=False)


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


BearerDoc = Annotated[str | None, Depends(_bearer)]


async def authenticate(
    request: Request, resources: ResourcesDep, _documented: BearerDoc
) -> Principal:
    """Return who calls. Raises NotAuthenticated, or InvalidRequest for two credentials at once."""
    _refuse_several(_credentials_of(request))
    return await resources.principals.resolve(_access_token_of(request))


Caller = Annotated[Principal, Depends(authenticate)]


@dataclass(frozen=True, slots=True)
class StreamCaller:
    """Who reads a stream.

    `confirm` raises NotAuthenticated once the credential has expired or been revoked, and what
    the database raises. `is_recalled`: the database could not be asked just now, but a short while
    ago; so `confirm` it as soon as possible.
    """

    principal: Principal
    confirm: Callable[[], Awaitable[Principal]]
    is_recalled: bool = False


@dataclass(frozen=True, slots=True)
class StreamAuthentication:
    """The dependency of a stream: takes an access token, or in `?token=` a token for this stream.

    `resource` names the path parameter that says which one thing the stream is about. `recalls`:
    where the database is away or busy, who was known a short while ago may read on.
    """

    audience: StreamAudience
    resource: str | None = None
    recalls: bool = False

    async def __call__(
        self,
        request: Request,
        resources: ResourcesDep,
        _documented: BearerDoc,
        token: Annotated[
            str | None, Query(description="Of the `events_url`, for clients without headers.")
        ] = None,
    ) -> StreamCaller | None:
        """Return who reads; None while the database can't say and nothing is known of them.

        Raises NotAuthenticated, or InvalidRequest for two credentials at once.
        """
        _refuse_several([*_credentials_of(request), *request.query_params.getlist("token")])
        resolver = resources.principals
        if token is None:
            confirm = partial(resolver.resolve, _access_token_of(request))
        else:
            confirm = partial(resolver.resolve_for_stream, token, self._scope_of(request))
        try:
            return StreamCaller(await confirm(), confirm)
        except (SQLAlchemyError, OSError) as error:
            caller = self._recall(request, resources, token)
            log.warning(
                "stream_caller_unknown" if caller is None else "stream_caller_recalled",
                error=type(error).__name__,
            )
            return None if caller is None else StreamCaller(caller, confirm, is_recalled=True)

    def _recall(
        self, request: Request, resources: Resources, token: str | None
    ) -> Principal | None:
        if token is None or not self.recalls:
            return None
        return resources.principals.recall_for_stream(token, self._scope_of(request))

    def _scope_of(self, request: Request) -> StreamScope:
        if self.resource is None:
            return StreamScope(self.audience, None)
        try:
            return StreamScope(self.audience, UUID(request.path_params[self.resource]))
        except ValueError as error:
            raise NotAuthenticated("The stream token is for another stream.") from error


async def get_last_event_id(
    last_event_id: Annotated[str | None, Header()] = None,
    after: Annotated[
        int | None, Query(ge=0, lt=2**53, description="As `Last-Event-ID`, which goes first.")
    ] = None,
) -> int | None:
    """Return the id of the last frame that a returning reader has, None for a new one."""
    if last_event_id and last_event_id.isascii() and last_event_id.isdigit():
        return int(last_event_id[:15])
    return after


LastEventId = Annotated[int | None, Depends(get_last_event_id)]


def _credentials_of(request: Request) -> list[str]:
    return request.headers.getlist("authorization") + request.headers.getlist("x-api-key")


def _refuse_several(credentials: Sequence[str]) -> None:
    if len(credentials) > 1:
        raise InvalidRequest("Send one credential, not several.", code="ambiguous_credentials")


def _access_token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("Send an access token: `Authorization: Bearer …`.")
    return token.strip()


@dataclass(frozen=True, slots=True)
class Requires:
    """The dependency of a route: who calls must have the permission.

    What counts as `feature` is limited by the plan of the organization.
    """

    permission: Permission
    feature: Feature | None = None

    async def __call__(self, caller: Caller) -> Principal:
        """Return who calls. Raises PermissionDenied (`forbidden`, `insufficient_scope`)."""
        if self.permission not in ROLE_PERMISSIONS[caller.role]:
            raise PermissionDenied(f"The role {caller.role.value} can't do this.")
        if not caller.may(self.permission):
            raise PermissionDenied(
                f"The scope {caller.scope.value} of this key is not enough.",
                code="insufficient_scope",
            )
        return caller


Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
Searcher = Annotated[Principal, Depends(Requires(Permission.READ, Feature.SEARCH))]
Asker = Annotated[Principal, Depends(Requires(Permission.ASK, Feature.CHAT))]
Writer = Annotated[Principal, Depends(Requires(Permission.WRITE))]
UploadCaller = Annotated[Principal, Depends(Requires(Permission.WRITE, Feature.UPLOAD))]
EmbeddingCaller = Annotated[Principal, Depends(Requires(Permission.ASK, Feature.EMBEDDING))]
OrganizationReader = Annotated[Principal, Depends(Requires(Permission.READ_ORGANIZATION))]
KeyManager = Annotated[Principal, Depends(Requires(Permission.MANAGE_KEYS))]
OrganizationManager = Annotated[Principal, Depends(Requires(Permission.MANAGE_ORGANIZATION))]
OrganizationOwner = Annotated[Principal, Depends(Requires(Permission.OWN_ORGANIZATION))]


async def authorize_operator(caller: Caller) -> Principal:
    """Return who calls. Raises PermissionDenied for who does not operate this deployment."""
    if not caller.is_operator:
        raise PermissionDenied("Only an operator of this deployment may do this.")
    return caller


Operator = Annotated[Principal, Depends(authorize_operator)]


async def get_retriever(resources: ResourcesDep) -> Retriever:
    return resources.retriever


async def get_answerer(resources: ResourcesDep) -> Answerer:
    return Answerer(resources.retriever, resources.models)


AnswererDep = Annotated[Answerer, Depends(get_answerer)]


async def get_runs(resources: ResourcesDep) -> RunEngine:
    return resources.runs


RunsDep = Annotated[RunEngine, Depends(get_runs)]


async def get_stream_timing(resources: ResourcesDep) -> StreamTiming:
    return stream_timing(is_production=resources.settings.is_production)


StreamTimingDep = Annotated[StreamTiming, Depends(get_stream_timing)]


async def get_intake(resources: ResourcesDep) -> Intake:
    return Intake(resources.storage, resources.settings.org_queued_documents)


async def get_uploader(resources: ResourcesDep) -> Uploader:
    settings = resources.settings
    return Uploader(
        resources.storage,
        resources.sealer,
        settings.max_upload_bytes,
        secret=settings.signing_key.encode(),
    )


async def get_resumable_uploads(
    resources: ResourcesDep, intake: Annotated[Intake, Depends(get_intake)]
) -> ResumableUploads:
    return ResumableUploads(
        resources.db,
        resources.storage,
        resources.sealer,
        intake,
        resources.settings.max_upload_bytes,
    )


def check_routes_are_guarded(routes: Sequence[BaseRoute]) -> None:
    """Raise RuntimeError for a route that neither authenticates nor stands in PUBLIC_ROUTES.

    Looks into included routers; a mount or a web socket must be reviewed too.
    """
    for route in iter_route_contexts(routes):
        dependant = getattr(route.original_route, "dependant", None)
        if dependant is not None and _authenticates(dependant):
            continue
        for method in sorted(getattr(route.original_route, "methods", None) or {"ANY"}):
            # HEAD is GET without the body.
            asked = "GET" if method == "HEAD" else method
            if (asked, route.path) not in PUBLIC_ROUTES:
                raise RuntimeError(
                    f"{method} {route.path} has no authentication and is not a public route"
                )


def _authenticates(dependant: Dependant) -> bool:
    is_guard = dependant.call is authenticate or isinstance(dependant.call, StreamAuthentication)
    return is_guard or any(map(_authenticates, dependant.dependencies))
