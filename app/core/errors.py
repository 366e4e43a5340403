"""Every error a caller can meet. No framework imports: `app/exception_handlers.py` renders them.

AppError 500
├── InvalidRequest 400
├── NotAuthenticated 401
├── PermissionDenied 403
├── NotFound 404
├── RequestTimeout 408
├── Conflict 409
├── Gone 410
├── PreconditionFailed 412
├── PayloadTooLarge 413
├── UnsupportedMediaType 415
├── RangeNotSatisfiable 416
├── UnprocessableRequest 422
├── Locked 423
├── RateLimited 429 (Retry-After)
├── ChecksumMismatch 460
├── Unavailable 503 (Retry-After)
├── StorageFull 507
└── ProviderError 400, 404, 502, 503 or 504 by kind
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class AppError(Exception):
    """An error with a message that is written for the caller.

    `code` is stable and machine-readable, `type` is OpenAI's class of error, `param` names the
    offending field, `details` says more to programs.
    """

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = retry_after_s
        self.details = details

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may go well later."""
        return self.status == 429 or self.status >= 500


class InvalidRequest(AppError):
    status, code, type = 400, "invalid_request", "invalid_request_error"


class NotAuthenticated(AppError):
    status, code, type = 401, "invalid_token", "authentication_error"


class PermissionDenied(AppError):
    status, code, type = 403, "forbidden", "permission_error"


class BudgetExceeded(AppError):
    """The money is spent: clients must not try again."""

    status, code, type = 402, "budget_exceeded", "invalid_request_error"


class NotFound(AppError):
    """Also for what exists but belongs to another organization: ids must be no oracle."""

    status, code, type = 404, "not_found", "invalid_request_error"


class RequestTimeout(AppError):
    status, code, type = 408, "request_timeout", "invalid_request_error"


class Conflict(AppError):
    status, code, type = 409, "conflict", "invalid_request_error"


class Gone(AppError):
    status, code, type = 410, "gone", "invalid_request_error"


class PreconditionFailed(AppError):
    status, code, type = 412, "precondition_failed", "invalid_request_error"


class PayloadTooLarge(AppError):
    status, code, type = 413, "payload_too_large", "invalid_request_error"


class UnsupportedMediaType(AppError):
    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class RangeNotSatisfiable(AppError):
    """Sent with the size of the file, in `Content-Range`."""

    status, code, type = 416, "range_not_satisfiable", "invalid_request_error"

    def __init__(self, *, size_bytes: int) -> None:
        super().__init__(f"The file has {size_bytes} bytes.", param="Range")
        self.size_bytes = size_bytes


class UnprocessableRequest(AppError):
    status, code, type = 422, "invalid_request", "invalid_request_error"


class Locked(AppError):
    status, code, type = 423, "locked", "invalid_request_error"


class RateLimited(AppError):
    """Too much of it for now; always sent with `Retry-After`."""

    status, code, type = 429, "rate_limited", "rate_limit_error"


class ChecksumMismatch(AppError):
    """The tus protocol's own status."""

    status, code, type = 460, "checksum_mismatch", "invalid_request_error"


class Unavailable(AppError):
    """Try again later; always sent with `Retry-After`."""

    status, code, type = 503, "unavailable", "server_error"


class StorageFull(AppError):
    status, code, type = 507, "storage_full", "server_error"


class ProviderErrorKind(StrEnum):
    """Why a model provider failed; decides status, retry and fallback."""

    AUTH = "auth"  # 401, 403: the installation's key is wrong
    QUOTA = "quota"  # 402, or 429 that says the money is spent
    RATE_LIMITED = "rate_limited"  # 429
    OVERLOADED = "overloaded"  # 5xx
    TIMEOUT = "timeout"  # connect, first content, idle or total
    UNREACHABLE = "unreachable"  # refused, reset, no such host
    TRUNCATED = "truncated"  # the stream ended without its terminal marker
    PROTOCOL = "protocol"  # not what the format promises: bad JSON, HTML, wrong shape
    CONTEXT_LENGTH = "context_length"  # the prompt does not fit
    BAD_REQUEST = "bad_request"  # 400, 422
    MODEL_NOT_FOUND = "model_not_found"  # 404


_STATUS_BY_KIND = {
    # What was asked of the model, not the model: clients try a 5xx again.
    ProviderErrorKind.CONTEXT_LENGTH: 400,
    ProviderErrorKind.BAD_REQUEST: 400,
    ProviderErrorKind.MODEL_NOT_FOUND: 404,
    ProviderErrorKind.TIMEOUT: 504,
    ProviderErrorKind.RATE_LIMITED: 503,
    ProviderErrorKind.OVERLOADED: 503,
    ProviderErrorKind.UNREACHABLE: 503,
}
_RETRYABLE = frozenset(
    {
        ProviderErrorKind.RATE_LIMITED,
        ProviderErrorKind.OVERLOADED,
        ProviderErrorKind.TIMEOUT,
        ProviderErrorKind.UNREACHABLE,
        ProviderErrorKind.TRUNCATED,
        ProviderErrorKind.PROTOCOL,
    }
)


class ProviderError(AppError):
    """A model provider failed. The message never carries the provider's own text.

    `status` is 400 or 404 for what the vendor refuses, 504 for a timeout, 503 (with Retry-After)
    where trying again later makes sense, else 502; `code` is `provider_<kind>`.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: ProviderErrorKind,
        provider: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=f"provider_{kind}", retry_after_s=retry_after_s)
        self.kind = kind
        self.provider = provider
        self.status = _STATUS_BY_KIND.get(kind, 502)
        self.type = "invalid_request_error" if self.status < 500 else "server_error"

    @property
    def is_retryable(self) -> bool:
        return self.kind in _RETRYABLE
