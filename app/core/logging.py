"""Structured logs: one JSON object a line, with the request's id; no secret, prompt or text."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = re.compile(
    r"password|secret|token$|api_?key|authorization|cookie|jwt|dsn|_url$", re.IGNORECASE
)
_SECRET_VALUES = re.compile(
    r"(?P<keep>://[^:/@\s]*:)[^@\s]+(?=@)|(?P<bearer>[Bb]earer )\S+"
    r"|\bsk-[\w-]{8,}|\bAIza[\w-]{20,}|\bfn_(?:live|test)_\w+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\bst_[\w-]+\.[\w-]+"
)


def _redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The second fence: callers log no secrets, and what slips through is masked here."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "[redacted]"
        elif isinstance(value, str):
            event[name] = redact_text(value)
    return event


def redact_text(value: str) -> str:
    """Mask credentials in URLs, bearer tokens, API keys, providers' keys, JWTs, stream tokens."""
    return _SECRET_VALUES.sub(
        lambda match: (match["keep"] or match["bearer"] or "") + "[redacted]", value
    )


def configure_logging(level: str) -> None:
    """Send everything, the standard library's records too, to stdout as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log request URLs, SQL parameters, prompts or answers at INFO or DEBUG.
    for noisy in (
        "httpx2",
        "httpcore2",
        "openai",
        "anthropic",
        "google_genai",
        "sqlalchemy.engine",
        "asyncio",
        "aiohttp",
        "pypdf",
        "sse_starlette",
        "python_multipart",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
