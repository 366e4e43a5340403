"""Checks what an embedding vendor sent before it can reach the index."""

from collections.abc import Sequence

import numpy as np

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import FloatMatrix


class VectorGate:
    """Lets through rows of one width for the life of a provider; remembers it from the first."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._dimensions: int | None = None

    def unit_rows(self, rows: Sequence[object], *, count: int) -> FloatMatrix:
        """Return the rows at length 1, shape (count, dimensions), float32.

        Raises ProviderError (PROTOCOL) on another count, uneven widths, a width that changed, a
        value that is not finite, or a zero vector: any of them would poison the search silently.
        """
        matrix = self._matrix(rows)
        if matrix.ndim != 2 or matrix.shape[0] != count or matrix.shape[1] == 0:
            raise self._error(f"sent vectors of shape {matrix.shape} for {count} texts.")
        if matrix.shape[1] != (self._dimensions or matrix.shape[1]):
            raise self._error(
                f"sent vectors of {matrix.shape[1]} dimensions instead of {self._dimensions}."
            )
        # In float64, so that the squares of tiny values don't vanish.
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise self._error("sent a vector that is zero or not finite.")
        self._dimensions = matrix.shape[1]
        rows_of_one: FloatMatrix = (matrix / norms).astype(np.float32)
        return rows_of_one

    def _matrix(self, rows: Sequence[object]) -> FloatMatrix:
        try:
            with np.errstate(over="ignore"):
                return np.asarray(rows, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as exc:
            raise self._error("sent vectors of uneven width or of something else.") from exc

    def _error(self, fact: str) -> ProviderError:
        return ProviderError(
            f"The model provider {self._provider} {fact}",
            kind=ProviderErrorKind.PROTOCOL,
            provider=self._provider,
        )
