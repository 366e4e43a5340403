"""Checks what an embedding vendor sent before it can reach the index."""

from collections.abc import Sequence

import numpy as np

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import FloatMatrix


def unit_rows(rows: Sequence[object], *, count: int, provider: str) -> FloatMatrix:
    """Return the rows at length 1, shape (count, dimensions), float32.

    Raises ProviderError (PROTOCOL) on another count, uneven widths, a value that is not finite, or
    a zero vector: any of them would poison the search silently.
    """
    matrix = _matrix(rows, provider)
    if matrix.ndim != 2 or matrix.shape[0] != count or matrix.shape[1] == 0:
        raise _error(provider, f"sent vectors of shape {matrix.shape} for {count} texts.")
    # In float64, so that the squares of tiny values don't vanish.
    norms = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise _error(provider, "sent a vector that is zero or not finite.")
    rows_of_one: FloatMatrix = (matrix / norms).astype(np.float32)
    return rows_of_one


def _matrix(rows: Sequence[object], provider: str) -> FloatMatrix:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as exc:
        raise _error(provider, "sent vectors of uneven width or of something else.") from exc


def _error(provider: str, fact: str) -> ProviderError:
    return ProviderError(
        f"The model provider {provider} {fact}",
        kind=ProviderErrorKind.PROTOCOL,
        provider=provider,
    )
