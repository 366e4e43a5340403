"""Annotated aliases for handlers, and the check that every route knows who calls."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeAlias, cast
from uuid import UUID

import structlog
from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import APIKeyHeader, OAuth2PasswordBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute

from app.accounts.api_key_secrets import invalid_api_key, is_api_key
from app.accounts.attempts import Attempts
from app.accounts.permissions import ROLE_PERMISSIONS, Permission
from app.accounts.principal import Principal
from app.chat.pipeline import Answerer
from app.chat.runs import RunEngine
from app.core.addresses import network_of
from app.core.errors import InvalidRequest, NotAuthenticated, PermissionDenied
from app.core.sse import StreamTiming, stream_timing
from app.core.stream_tokens import StreamAudience, StreamScope
from app.documents.intake import Intake
from app.documents.resumable import ResumableUploads
from app.documents.uploads import Uploader
from app.resources import Resources
from app.retrieval.pipeline import Retriever
from app.usage.limits import LimitReached
from app.usage.plans import Feature, units_of

log = structlog.get_logger(__name__)

Guard: TypeAlias = Callable[..., Any]

# Everything that may be called without a credential. Reviewed; a test keeps a copy of it.
PUBLIC_ROUTES = frozenset(
    {
        # The web app: its page, which shows nothing of anybody, and the page's files.
        ("GET", "/"),
        ("GET", "/sign-in"),
        ("GET", "/join"),
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
        # For who has the link, which nobody can guess, and perhaps no account yet.
        ("POST", "/api/v1/invitations/look-up"),
    }
)

# What a sign-in may do whatever its role, and an API key may not: it is about the person, or about
# the web app's cookie. Reviewed; a test keeps a copy of it.
SIGN_IN_ROUTES = frozenset(
    {
        ("POST", "/api/v1/auth/password"),
        ("GET", "/api/v1/auth/me"),
        ("PATCH", "/api/v1/auth/me"),
        ("GET", "/api/v1/auth/sign-ins"),
        ("DELETE", "/api/v1/auth/sign-ins"),
        ("DELETE", "/api/v1/auth/sign-ins/{sign_in_id}"),
        ("POST", "/api/v1/session/password"),
        ("POST", "/api/v1/session/switch"),
        ("POST", "/api/v1/organizations"),
        ("GET", "/api/v1/organizations"),
        ("POST", "/api/v1/organizations/{organization_id}/switch"),
        ("GET", "/api/v1/organization-deletions/{organization_deletion_id}"),
        ("POST", "/api/v1/invitations/accept"),
    }
)

# For the API's description alone: see `_credential_of`.
_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/login", auto_error=False)
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False)


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


BearerDoc = Annotated[str | None, Depends(_bearer)]
KeyDoc = Annotated[str | None, Depends(_api_key)]


async def authenticate(
    request: Request, resources: ResourcesDep, _bearer: BearerDoc, _key: KeyDoc
) -> Principal:
    """Return who calls. Raises NotAuthenticated, or InvalidRequest for two credentials at once."""
    _refuse_several(_credentials_of(request))
    confirm = partial(resources.principals.resolve, _credential_of(request))
    principal = await confirm()
    request.state.principal = principal  # for the audit log
    request.state.confirm = confirm  # for what takes its time
    return principal


Caller = Annotated[Principal, Depends(authenticate)]


async def require_sign_in(caller: Caller) -> Principal:
    """Return who calls. Raises PermissionDenied (`sign_in_required`) for an API key."""
    if caller.key_id is not None:
        raise PermissionDenied("An API key can't do this: sign in for it.", code="sign_in_required")
    return caller


SignedInCaller = Annotated[Principal, Depends(require_sign_in)]


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
    """The dependency of a stream: takes a credential, or in `?token=` a token for this stream.

    Who reads must have the permission to read, and keep it while the stream is open.
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
        _bearer: BearerDoc,
        _key: KeyDoc,
        token: Annotated[
            str | None, Query(description="Of the `events_url`, for clients without headers.")
        ] = None,
    ) -> StreamCaller | None:
        """Return who reads; None while the database can't say and nothing is known of them.

        Raises NotAuthenticated, PermissionDenied, or InvalidRequest for two credentials at once.
        """
        _refuse_several([*_credentials_of(request), *request.query_params.getlist("token")])
        resolver = resources.principals
        if token is None:
            resolve = partial(resolver.resolve, _credential_of(request))
        else:
            resolve = partial(resolver.resolve_for_stream, token, self._scope_of(request))

        async def confirm() -> Principal:
            return check_permission(await resolve(), Permission.READ)

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
        caller = resources.principals.recall_for_stream(token, self._scope_of(request))
        return None if caller is None else check_permission(caller, Permission.READ)

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


def _credential_of(request: Request) -> str:
    """Return an access token or an API key, unchecked. `X-API-Key` takes a key alone."""
    key = request.headers.get("x-api-key")
    if key is not None:
        if not is_api_key(key):
            raise invalid_api_key()
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("Send an access token or an API key: `Authorization: Bearer …`.")
    return token.strip()


def check_permission(caller: Principal, permission: Permission) -> Principal:
    """Return who calls. Raises PermissionDenied (`forbidden`, `insufficient_scope`)."""
    if permission not in ROLE_PERMISSIONS[caller.role]:
        raise PermissionDenied(f"The role {caller.role.value} can't do this.")
    if not caller.may(permission):
        raise PermissionDenied(
            f"The scope {caller.scope.value} of this key is not enough.",
            code="insufficient_scope",
        )
    return caller


@dataclass(frozen=True, slots=True)
class Requires:
    """The dependency of a route: who calls must have the permission.

    What counts as `feature` is limited by the plan of the organization.
    """

    permission: Permission
    feature: Feature | None = None

    async def __call__(
        self, request: Request, resources: ResourcesDep, caller: Caller
    ) -> Principal:
        """Return who calls. Raises PermissionDenied (`forbidden`, `insufficient_scope`).

        Raises RateLimited as `Limiter.admit`; what is left goes with any answer, in its headers.
        """
        check_permission(caller, self.permission)
        if self.feature is not None:
            await _admit(request, resources, caller, self.feature, units=1)
        return caller


async def charge_more(
    request: Request, resources: Resources, caller: Principal, feature: Feature, *, inputs: int
) -> None:
    """Count what a request costs besides the unit that `Requires` has counted.

    Raises RateLimited as `Limiter.admit`.
    """
    if (units := units_of(feature, inputs) - 1) > 0:
        await _admit(request, resources, caller, feature, units=units)


async def take_stream_place(request: Request, caller: Principal) -> None:
    """Count a stream until its answer has been sent. Raises RateLimited (`too_many_streams`)."""
    place = await (await get_resources(request)).limiter.open_stream(caller)
    request.state.at_end = place.release


async def _admit(
    request: Request, resources: Resources, caller: Principal, feature: Feature, *, units: int
) -> None:
    limiter = resources.limiter
    try:
        admission = await limiter.admit(caller, feature, network_of(_host_of(request)), units=units)
    except LimitReached as reached:
        request.state.rate_limit_headers = reached.headers
        raise
    request.state.rate_limit_headers = admission.headers
    request.state.give_back = partial(limiter.give_back, admission)


async def get_address(request: Request) -> str:
    """Return where the request comes from; of proxies that the server trusts, what they say."""
    return _host_of(request)


Address = Annotated[str, Depends(get_address)]


async def get_attempts(resources: ResourcesDep) -> Attempts:
    return resources.attempts


AttemptsDep = Annotated[Attempts, Depends(get_attempts)]


def _host_of(request: Request) -> str:
    return request.client.host if request.client else ""


Reader = Annotated[Principal, Depends(Requires(Permission.READ))]
Searcher = Annotated[Principal, Depends(Requires(Permission.READ, Feature.SEARCH))]
Asker = Annotated[Principal, Depends(Requires(Permission.ASK, Feature.CHAT))]
# What asks no model: naming, rating and deleting conversations, ending an answer.
ConversationWriter = Annotated[Principal, Depends(Requires(Permission.ASK))]
Writer = Annotated[Principal, Depends(Requires(Permission.WRITE))]
UploadCaller = Annotated[Principal, Depends(Requires(Permission.WRITE, Feature.UPLOAD))]
EmbeddingCaller = Annotated[Principal, Depends(Requires(Permission.ASK, Feature.EMBEDDING))]
OrganizationReader = Annotated[Principal, Depends(Requires(Permission.READ_ORGANIZATION))]
KeyManager = Annotated[Principal, Depends(Requires(Permission.MANAGE_KEYS))]
OrganizationManager = Annotated[Principal, Depends(Requires(Permission.MANAGE_ORGANIZATION))]
OrganizationOwner = Annotated[Principal, Depends(Requires(Permission.OWN_ORGANIZATION))]


async def authorize_operator(caller: SignedInCaller) -> Principal:
    """Return who calls. Raises PermissionDenied for who does not operate this deployment."""
    if not caller.is_operator:
        raise PermissionDenied("Only an operator of this deployment may do this.")
    return caller


Operator = Annotated[Principal, Depends(authorize_operator)]


async def get_retriever(resources: ResourcesDep) -> Retriever:
    return resources.retriever


async def get_answerer(resources: ResourcesDep) -> Answerer:
    return resources.answerer


AnswererDep = Annotated[Answerer, Depends(get_answerer)]


async def get_runs(resources: ResourcesDep) -> RunEngine:
    return resources.runs


RunsDep = Annotated[RunEngine, Depends(get_runs)]


async def get_stream_timing(resources: ResourcesDep) -> StreamTiming:
    return stream_timing(is_production=resources.settings.is_production)


StreamTimingDep = Annotated[StreamTiming, Depends(get_stream_timing)]


async def get_intake(resources: ResourcesDep) -> Intake:
    return Intake(
        resources.storage,
        resources.settings.org_queued_documents,
        quota_of=resources.limiter.limits_of,
    )


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
    """Raise RuntimeError for a route that asks for no permission and stands on no reviewed list.

    PUBLIC_ROUTES need no credential; SIGN_IN_ROUTES need a sign-in, whatever it may do. Looks into
    included routers; a mount or a web socket must be reviewed too.
    """
    for route in iter_route_contexts(routes):
        guards = set(guards_of(route.original_route))
        if any(map(_asks_for_permission, guards)):
            continue
        for method in sorted(getattr(route.original_route, "methods", None) or {"ANY"}):
            # HEAD is GET without the body.
            asked = ("GET" if method == "HEAD" else method, route.path)
            if authenticate not in guards:
                if asked not in PUBLIC_ROUTES:
                    raise RuntimeError(
                        f"{method} {route.path} has no authentication and is not a public route"
                    )
            elif require_sign_in not in guards or asked not in SIGN_IN_ROUTES:
                raise RuntimeError(f"{method} {route.path} asks for no permission")


def guards_of(route: object) -> Iterator[Guard]:
    """Yield every dependency of a route that says who may call it."""
    dependant = getattr(route, "dependant", None)
    return iter(()) if dependant is None else _guards_in(dependant)


def _guards_in(dependant: Dependant) -> Iterator[Guard]:
    call = dependant.call
    if call in (authenticate, require_sign_in) or _asks_for_permission(call):
        yield cast(Guard, call)
    for inner in dependant.dependencies:
        yield from _guards_in(inner)


def _asks_for_permission(call: object) -> bool:
    return call is authorize_operator or isinstance(call, Requires | StreamAuthentication)
