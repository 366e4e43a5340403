"""Every error in the one body of the HTTP contract: the only place that knows errors and HTTP."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.connection import ClientGone
from app.core.db import sqlstate_of
from app.core.errors import (
    AppError,
    NotAuthenticated,
    PayloadTooLarge,
    ProviderError,
    RangeNotSatisfiable,
    Unavailable,
)
from app.core.text import show_name

log = structlog.get_logger(__name__)

_DEFAULT_RETRY_AFTER_S = 5
_CLIENT_GONE_STATUS = 499
# SQLSTATE classes that mean "not now": connection, resources, operator intervention, lock timeout.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "55P03", "40")
_CONNECTION_CLASS = "08"
_FOREIGN_KEY_VIOLATION = "23503"
# As pydantic writes it: `function-after[…]`, `list[…]`. The name of a query may end in `[]`.
_UNION_MEMBER = re.compile(r"\[.+\]$", re.DOTALL)
_WRONG_LENGTHS = {"too_long": ("most", "max_length"), "too_short": ("least", "min_length")}
_OPENAI_PATH = "/v1/"
# The first that fits: the others are ValueErrors, too.
_UNREADABLE: Mapping[type[Exception], str] = {
    UnicodeDecodeError: "The body is not JSON: it is no UTF-8.",
    RecursionError: "The body is nested too deeply.",
    ValueError: "The body is not JSON that can be read: it may have a number of too many digits.",
}
# A model as a whole says so itself which of its fields is wrong.
_NAMED = re.compile(r"([a-z][a-z0-9_]*): ")


def install(app: FastAPI) -> None:
    """Register the handlers. Unknown exceptions become a bare 500 and one logged traceback.

    Call it before any other middleware is added.
    """
    app.add_exception_handler(AppError, _handle_app_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(DBAPIError, _handle_database_error)
    app.add_exception_handler(PoolTimeout, _handle_database_error)
    app.add_exception_handler(asyncpg.PostgresError, _handle_database_error)
    app.add_exception_handler(asyncpg.InterfaceError, _handle_database_error)
    app.add_exception_handler(OSError, _handle_os_error)
    app.add_exception_handler(ClientGone, _handle_client_gone)
    app.add_middleware(UnknownErrors)


class UnknownErrors:
    """Answers 500 for what no handler knows.

    The innermost middleware. Starlette would call a handler of `Exception` outside of all others,
    and its response would lack their headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watched_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:
            # Half a response can only be cut; the server does that, and logs it.
            if has_started or scope["type"] != "http":
                raise
            response = await _handle_unknown(Request(scope), error)
            await response(scope, receive, send)


def error_body(
    *, code: str, message: str, type_: str, param: str | None, request_id: str
) -> dict[str, Any]:
    return {
        "status": "error",
        "error": {"code": code, "message": message, "type": type_, "param": param},
        "metadata": {"request_id": request_id},
    }


async def _handle_app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)  # noqa: S101  # registered for this class
    if isinstance(error, ProviderError):
        log.warning("provider_error", provider=error.provider, kind=str(error.kind))
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size_bytes}"
    if error.status in (429, 503) or error.retry_after_s:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s or _DEFAULT_RETRY_AFTER_S)))
    return _respond(
        request,
        _status_for(request, error.status),
        error.code,
        error.message,
        error.type,
        error.param,
        headers,
        error.details,
    )


async def _handle_validation_error(request: Request, error: Exception) -> JSONResponse:
    """Name the field and what is wrong with it; never echo a value that was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _refuse_json(request, "The body is not JSON.")
    param, message = _describe(first)
    message = f"{param}: {message}." if param else f"{message}."
    status = _status_for(request, 422)
    return _respond(
        request, status, "validation_error", message, "invalid_request_error", param, {}
    )


def _describe(error: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return which field one of pydantic's errors is about, if one, and what is wrong with it."""
    # Behind "body", "query", "path" or "header". Members of a union have labels in between.
    place = [part for part in map(str, error["loc"][1:]) if not _UNION_MEMBER.search(part)]
    message = error["msg"].removeprefix("Value error, ")
    sent = error.get("input")
    if error["type"] == "extra_forbidden":
        # Its name is the client's own text.
        name = show_name(str(error["loc"][-1]))
        place = [*place[:-1], name] if name else place[:-1]
        message = "there is no such field" if name else "There is a field that is not known"
    elif not place and isinstance(sent, bytes):
        message = "Send JSON, with the header Content-Type: application/json"
    elif error["type"] in _WRONG_LENGTHS and isinstance(sent, str):
        # Pydantic counts the characters of a text that passed a function as items.
        bound, name = _WRONG_LENGTHS[error["type"]]
        count = error["ctx"][name]
        message = f"String should have at {bound} {count} character{'s' * (count != 1)}"
    if not place and (named := _NAMED.match(message)):
        place, message = [named[1]], message[named.end() :]
    return ".".join(place) or None, message


def _status_for(request: Request, status: int) -> int:
    """Return 400 for 422 where clients of OpenAI's API ask: it has no 422."""
    is_openai = request.scope["path"].startswith(_OPENAI_PATH)
    return 400 if status == 422 and is_openai else status


def _refuse_json(request: Request, message: str) -> JSONResponse:
    return _respond(request, 400, "invalid_json", message, "invalid_request_error", None, {})


async def _handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    status = error.status_code
    for kind, message in _UNREADABLE.items():  # what the framework met in reading the body
        if status == HTTPStatus.BAD_REQUEST and isinstance(error.__cause__, kind):
            return _refuse_json(request, message)
    phrase = HTTPStatus(status).phrase
    code, message = phrase.lower().replace(" ", "_").replace("-", "_"), f"{phrase}."
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        code, message = PayloadTooLarge.code, error.detail
    return _respond(
        request,
        status,
        code,
        message,
        "invalid_request_error" if status < 500 else "server_error",
        None,
        error.headers or {},
    )


async def _handle_client_gone(_request: Request, _error: Exception) -> Response:
    """Nobody reads it; nginx's status for it tells the log and the metrics."""
    return Response(status_code=_CLIENT_GONE_STATUS)


async def _handle_database_error(request: Request, error: Exception) -> JSONResponse:
    """From SQLAlchemy, or from the bare driver; without a state it is about the connection."""
    sqlstate = sqlstate_of(error) or _CONNECTION_CLASS
    if sqlstate == _FOREIGN_KEY_VIOLATION and _is_about_organization(error):
        # It was deleted while the request was on its way.
        return await _handle_app_error(
            request, NotAuthenticated("The organization is gone.", code="token_revoked")
        )
    if not sqlstate.startswith(_TRANSIENT_SQLSTATES):
        return await _handle_unknown(request, error)
    log.warning("database_unavailable", sqlstate=sqlstate, error=type(error).__name__)
    return await _handle_app_error(
        request, Unavailable("The database is not available.", code="database_unavailable")
    )


def _is_about_organization(error: Exception) -> bool:
    """Whether a row was to belong to an organization that is not there."""
    driver_error = getattr(error, "orig", None) or error
    original = getattr(driver_error, "__cause__", None) or driver_error
    return str(getattr(original, "constraint_name", "")).endswith("_org_id")


async def _handle_os_error(request: Request, error: Exception) -> JSONResponse:
    """A socket that refuses is a server that is down; asyncpg raises OSError for it."""
    if not isinstance(error, ConnectionError | TimeoutError | FileNotFoundError):
        return await _handle_unknown(request, error)
    log.warning("dependency_unavailable", error=type(error).__name__)
    return await _handle_app_error(
        request, Unavailable("A service that is needed is not available.")
    )


async def _handle_unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("unhandled_exception", exc_info=error)
    return _respond(
        request,
        500,
        "internal_error",
        "Something went wrong on our side.",
        "server_error",
        None,
        {},
    )


def _respond(
    request: Request,
    status: int,
    code: str,
    message: str,
    type_: str,
    param: str | None,
    headers: Mapping[str, str],
    details: Mapping[str, Any] | None = None,
) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id", "")
    body = error_body(code=code, message=message, type_=type_, param=param, request_id=request_id)
    if details is not None:
        body["error"]["details"] = details
    return JSONResponse(body, status, headers=dict(headers))
