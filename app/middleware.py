"""Pure ASGI middleware, so that streams pass unbuffered: request id, log, metrics, headers."""

import re
import time
from http import HTTPMethod, HTTPStatus
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.metrics import REQUEST_SECONDS, REQUESTS

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Polled every few seconds by supervisors and scrapers: their successes are not news.
_QUIET_PATHS = frozenset({"/health", "/health/ready", "/metrics"})
_MIB = 1024 * 1024
_MAX_BODY_MIB = 1
# The largest windows of models are of a million tokens, and embeddings come many at a time.
_LARGE_BODY_MIB = 8
_LARGE_BODIES = frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/responses"})
_COUNT_FOR_THEMSELVES = re.compile(
    r"/api/v1/documents/upload|/api/v1/documents/[^/]+/content|/api/v1/uploads/[^/]+|/v1/files"
)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# For all that does not set its own. An answer of the API is data: shown as a page it loads nothing.
_DEFAULT_HEADERS = _SECURITY_HEADERS | {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "private, no-store",
}
# pyinstrument's page is one file.
_PROFILE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:"
)


class RequestContext:
    """Gives each request an id, and records how long it took and how it ended.

    Dependencies leave in the request's state what goes with any answer: `rate_limit_headers`,
    `give_back` for one that was given before, and `at_end`, to be called when it has been sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 500
        state: dict[str, Any] = scope["state"]

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Processing-Time-Ms"] = f"{1000 * (time.perf_counter() - started):.1f}"
                headers.update(state.get("rate_limit_headers", {}))
                for name, value in _DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
                if "Idempotency-Replayed" in headers and (give_back := state.get("give_back")):
                    await give_back()
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            if at_end := state.get("at_end"):
                at_end()
            _record(scope, status, time.perf_counter() - started)


class BodyLimit:
    """Refuses bodies of over 1 MiB with 413, wherever the body is read; 8 MiB where prompts go.

    An upload counts for itself, by MAX_UPLOAD_MB and after the caller is known.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _COUNT_FOR_THEMSELVES.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        max_mib = _LARGE_BODY_MIB if scope["path"] in _LARGE_BODIES else _MAX_BODY_MIB
        left = max_mib * _MIB
        declared = next(
            (value for name, value in scope["headers"] if name == b"content-length"), b""
        )

        async def counted_receive() -> Message:
            nonlocal left
            if declared.isdigit() and int(declared) > max_mib * _MIB:
                raise _too_large(max_mib)
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large(max_mib)
            return message

        await self.app(scope, counted_receive, send)


class RequestProfiler:
    """With `?profile=1` answers with pyinstrument's page instead. Never installed in production."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"profile=1" not in scope["query_string"].split(b"&"):
            await self.app(scope, receive, send)
            return

        # Not at the head of the file: few processes need it.
        from pyinstrument import Profiler  # noqa: PLC0415

        async def discard(_message: Message) -> None:
            """The page replaces the response."""

        with Profiler(async_mode="enabled") as profiler:
            await self.app(scope, receive, discard)
        page = HTMLResponse(
            profiler.output_html(), headers={"Content-Security-Policy": _PROFILE_POLICY}
        )
        await page(scope, receive, send)


def _too_large(max_mib: int) -> HTTPException:
    """Of the framework's own class: where it reads a body, it takes any other for bad JSON."""
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {max_mib} MiB, which is the most that is taken here.",
    )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(sent := value.decode("latin-1")):
            return str(sent)
    return uuid4().hex


def _record(scope: Scope, status: int, elapsed_s: float) -> None:
    # The template, never the path: paths hold ids, and whatever a stranger made up.
    route = getattr(scope.get("route"), "path", "unmatched")
    # Any word can be a method; a label has few values.
    method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "other"
    REQUESTS.labels(method=method, route=route, status=status).inc()
    REQUEST_SECONDS.labels(method=method, route=route).observe(elapsed_s)
    if route in _QUIET_PATHS and status < 400:
        return
    log.info(
        "http_request",
        method=method,
        route=route,
        status=status,
        elapsed_ms=round(1000 * elapsed_s, 1),
    )
