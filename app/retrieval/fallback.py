"""Why a step that a model helps with took the plain way, as the trace shows it."""

from enum import StrEnum

from app.core.errors import ProviderError, ProviderErrorKind


class FallbackReason(StrEnum):
    TIMEOUT = "timeout"  # slower than the step's budget
    UNAVAILABLE = "unavailable"  # down, refused, or held back by the circuit breaker
    NO_MODEL = "no_model"  # none is configured, or not the one that the request names
    UNUSABLE = "unusable"  # it answered something else than was asked for


_REASONS = {
    ProviderErrorKind.TIMEOUT: FallbackReason.TIMEOUT,
    ProviderErrorKind.MODEL_NOT_FOUND: FallbackReason.NO_MODEL,
    ProviderErrorKind.PROTOCOL: FallbackReason.UNUSABLE,
    ProviderErrorKind.TRUNCATED: FallbackReason.UNUSABLE,
}


def fallback_reason(error: ProviderError) -> FallbackReason:
    return _REASONS.get(error.kind, FallbackReason.UNAVAILABLE)
