"""Every error in the one body of the HTTP contract: the only place that knows errors and HTTP."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from app.core.errors import AppError, NotAuthenticated, ProviderError, Unavailable
from app.core.metrics import PROVIDER_ERRORS

log = structlog.get_logger(__name__)

_DEFAULT_RETRY_AFTER_S = 5
# SQLSTATE classes that mean "not now": connection, resources, operator intervention, lock timeout.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "55P03", "40")


def install(app: FastAPI) -> None:
    """Register the handlers. Unknown exceptions become a bare 500 and one logged traceback."""
    app.add_exception_handler(AppError, _handle_app_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(DBAPIError, _handle_database_error)
    app.add_exception_handler(PoolTimeout, _handle_database_error)
    app.add_exception_handler(OSError, _handle_os_error)
    app.add_exception_handler(Exception, _handle_unknown)


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
        PROVIDER_ERRORS.labels(provider=error.provider, kind=error.kind).inc()
        log.warning("provider_error", provider=error.provider, kind=str(error.kind))
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s or _DEFAULT_RETRY_AFTER_S)))
    return _respond(
        request, error.status, error.code, error.message, error.type, error.param, headers
    )


async def _handle_validation_error(request: Request, error: Exception) -> JSONResponse:
    """Name the field and what is wrong with it; never echo what was sent."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(place) or None
    message = f"{param}: {first['msg']}." if param else f"{first['msg']}."
    return _respond(request, 422, "validation_error", message, "invalid_request_error", param, {})


async def _handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    return _respond(
        request,
        error.status_code,
        code,
        f"{HTTPStatus(error.status_code).phrase}.",
        "invalid_request_error" if error.status_code < 500 else "server_error",
        None,
        error.headers or {},
    )


async def _handle_database_error(request: Request, error: Exception) -> JSONResponse:
    sqlstate = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "08")
    if not sqlstate.startswith(_TRANSIENT_SQLSTATES):
        return await _handle_unknown(request, error)
    log.warning("database_unavailable", sqlstate=sqlstate, error=type(error).__name__)
    return await _handle_app_error(
        request, Unavailable("The database is not available.", code="database_unavailable")
    )


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
) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id", "")
    body = error_body(code=code, message=message, type_=type_, param=param, request_id=request_id)
    return JSONResponse(body, status, headers=dict(headers))
