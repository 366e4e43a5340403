"""The web app's sign-in: the refresh token lies in a cookie that no script can read.

Only this router takes the cookie, and only from a page of the same origin: everything else wants
the access token, which pages keep in memory.
"""

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response, status
from pydantic import BaseModel, ConfigDict

from app.accounts.authentication import Authenticator, SignedIn
from app.accounts.user_agents import find_browser
from app.audit_trail import audit_note
from app.core.errors import NotAuthenticated, PermissionDenied, UnsupportedMediaType
from app.dependencies import Address, AttemptsDep, SignedInCaller
from app.routers.auth import (
    AccessOut,
    AuthenticatorDep,
    Client,
    Credentials,
    PasswordChange,
    PersonName,
    show_organization,
    show_user,
)

router = APIRouter(prefix="/api/v1/session", tags=["web session"])

# `__Host-` makes the browser refuse one that another subdomain, or plain http, wants to plant.
_SECURE_COOKIE = "__Host-footnote"
_PLAIN_COOKIE = "footnote"
# How long ago a cookie may have been replaced that still works: two tabs send the same one, or an
# answer with the next one is lost.
_ROTATION_GRACE_S = 30
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SECONDS_PER_DAY = 86_400


class Registration(Credentials):
    name: PersonName = ""


class SwitchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    organization_id: UUID


class WebSession(AccessOut):
    """A sign-in of the web app; its refresh token is in the cookie."""


async def require_own_page(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(alias="X-Footnote-Web", description="`1`: no form or foreign page can send it."),
    ] = None,
) -> None:
    """Raise PermissionDenied unless a page of this origin sent the request.

    Raises UnsupportedMediaType for a body that is not JSON.
    """
    headers = request.headers
    if headers.getlist("x-footnote-web") != ["1"] or not _is_same_origin(request):
        raise PermissionDenied(
            "Only the web app's own pages may do this, with `X-Footnote-Web: 1`.",
            code="cross_site",
        )
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in ("", "application/json"):
        raise UnsupportedMediaType("Send JSON.")


OwnPage = Annotated[None, Depends(require_own_page)]


@router.post("")
async def start_session(
    _: OwnPage,
    body: Credentials,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
) -> WebSession:
    """Sign in. Unknown user and wrong password look the same."""
    async with attempts.guessing(account=body.email, address=address):
        signed_in = await authenticator.sign_in(
            email=body.email, password=body.password, client=client
        )
    await _end_current(request, authenticator)
    return _give(request, response, authenticator, signed_in)


@router.post("/register", status_code=status.HTTP_201_CREATED)
async def register_session(
    _: OwnPage,
    body: Registration,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
) -> WebSession:
    """Create an account with an organization of its own, and sign in."""
    await attempts.register(account=body.email, address=address)
    signed_in = await authenticator.register(
        email=body.email, password=body.password, name=body.name, client=client
    )
    audit_note(request).tell_operator(signed_in.account)
    await _end_current(request, authenticator)
    return _give(request, response, authenticator, signed_in)


@router.post(
    "/refresh",
    response_model=WebSession,
    responses={status.HTTP_204_NO_CONTENT: {"description": "Nobody is signed in."}},
)
async def refresh_session(
    _: OwnPage,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
    attempts: AttemptsDep,
    address: Address,
) -> WebSession | Response:
    """Give a new access token, and the next cookie. One that was replaced works for 30 s more.

    After that its use ends the sign-in: somebody has stolen it. 204 without a cookie: each first
    visit asks, and a browser shows a refusal to its user as an error.
    """
    token = _find_token(request)
    if token is None:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    await attempts.refresh(address=address)
    # A refusal leaves the cookie alone: by now it may be the one of another tab's new sign-in.
    signed_in = await authenticator.refresh(token, grace_s=_ROTATION_GRACE_S)
    return _give(request, response, authenticator, signed_in)


@router.delete("", status_code=status.HTTP_204_NO_CONTENT)
async def end_session(
    _: OwnPage, request: Request, response: Response, authenticator: AuthenticatorDep
) -> None:
    """End the cookie's sign-in, if there is one; its access tokens end within 5 s."""
    await _end_current(request, authenticator)
    for name in (_SECURE_COOKIE, _PLAIN_COOKIE):
        if name in request.cookies:
            response.delete_cookie(
                name, path="/", secure=name == _SECURE_COOKIE, httponly=True, samesite="strict"
            )


# The caller goes first: without one it is 401, from wherever.
@router.post("/password")
async def change_session_password(
    caller: SignedInCaller,
    _: OwnPage,
    body: PasswordChange,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
    client: Client,
    attempts: AttemptsDep,
    address: Address,
) -> WebSession:
    """Set a new password. Ends every other sign-in and begins this one anew."""
    async with attempts.guessing(account=str(caller.user_id), address=address):
        signed_in = await authenticator.change_password(
            caller, current=body.current_password, new=body.new_password, client=client
        )
    await _end_current(request, authenticator)
    return _give(request, response, authenticator, signed_in)


@router.post("/switch")
async def switch_session(
    caller: SignedInCaller,
    _: OwnPage,
    body: SwitchRequest,
    request: Request,
    response: Response,
    authenticator: AuthenticatorDep,
) -> WebSession:
    """Go on in another organization, in all tabs: they share the cookie."""
    audit_note(request).object_id = str(body.organization_id)
    token = _find_token(request)
    if token is None:
        raise NotAuthenticated("Nobody is signed in.", code="invalid_refresh_token")
    signed_in = await authenticator.switch(
        caller, body.organization_id, token=token, grace_s=_ROTATION_GRACE_S
    )
    return _give(request, response, authenticator, signed_in)


def _is_same_origin(request: Request) -> bool:
    # No page can set this header, and the browser knows what a proxy hides from us: that TLS ends
    # there, or which host the page asked for. But browsers send it over https and on loopback only.
    if sites := request.headers.getlist("sec-fetch-site"):
        return sites == ["same-origin"]
    return all(_is_own_origin(request, origin) for origin in request.headers.getlist("origin"))


def _is_own_origin(request: Request, origin: str) -> bool:
    scheme, _, authority = origin.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme, "")
    host = request.headers.get("host", "").lower()
    return scheme == request.url.scheme and (
        authority.removesuffix(default_port) == host.removesuffix(default_port)
    )


def _keeps_secure_cookies(request: Request) -> bool:
    """Whether the browser takes a `Secure` cookie from this answer; all but Safari do on loopback.

    See https://bugs.webkit.org/show_bug.cgi?id=281149.
    """
    headers = request.headers
    # Where the page is, which a proxy may hide; by now the request is known to be the page's.
    origin = headers.get("origin") or f"{request.url.scheme}://{headers.get('host', '')}"
    scheme, _, authority = origin.partition("://")
    is_safari = find_browser(headers.get("user-agent", "")) == "Safari"
    return scheme == "https" or (_is_loopback(authority) and not is_safari)


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        name = host.lower().partition(":")[0]
        return name == "localhost" or name.endswith(".localhost")


def _find_token(request: Request) -> str | None:
    token = request.cookies.get(_SECURE_COOKIE)
    if token is None and not _keeps_secure_cookies(request):
        token = request.cookies.get(_PLAIN_COOKIE)
    return token


async def _end_current(request: Request, authenticator: Authenticator) -> None:
    """End the sign-in of the request's cookie, if there is one: the browser will not have it."""
    token = _find_token(request)
    if token is not None:
        audit_note(request).name(await authenticator.end(token))


def _give(
    request: Request, response: Response, authenticator: Authenticator, signed_in: SignedIn
) -> WebSession:
    """Put the refresh token into the cookie, and the rest into the answer."""
    audit_note(request).name(signed_in.account)
    is_secure = _keeps_secure_cookies(request)
    response.set_cookie(
        _SECURE_COOKIE if is_secure else _PLAIN_COOKIE,
        signed_in.refresh_token,
        max_age=authenticator.settings.refresh_token_expire_days * _SECONDS_PER_DAY,
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )
    return WebSession(
        access_token=signed_in.access_token,
        expires_in=signed_in.access_lifetime_s,
        user=show_user(signed_in.account),
        organization=show_organization(signed_in.account),
    )
