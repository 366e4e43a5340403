"""Embeds documents and queries: batches, retries, a cache for queries."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.metrics import PROVIDER_ERRORS
from app.llm.base import EmbeddingProvider, FloatMatrix, Purpose
from app.llm.query_cache import QueryCache, query_key

T = TypeVar("T")

log = structlog.get_logger()

_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try again. Times in seconds.

    Waits are drawn from 0 to `base_s` * 2^n, at most `max_wait_s`, never less than Retry-After; one
    above `max_retry_after_s` is not waited for. Nothing is tried again after `deadline_s`.
    """

    attempts: int = 5
    base_s: float = 0.5
    max_wait_s: float = 8.0
    max_retry_after_s: float = 30.0
    deadline_s: float = 300.0

    def wait_s(self, failed_attempts: int, retry_after_s: float | None) -> float | None:
        """Return the wait before the next attempt, None to give up."""
        least_s = retry_after_s or 0.0
        if failed_attempts >= self.attempts or least_s > self.max_retry_after_s:
            return None
        most_s = min(self.max_wait_s, self.base_s * 2.0 ** (failed_attempts - 1))
        return least_s + _RANDOM.uniform(0.0, most_s)


DOCUMENT_RETRIES = RetryPolicy()
# Somebody waits for the answer.
QUERY_RETRIES = RetryPolicy(
    attempts=3, base_s=0.2, max_wait_s=1.0, max_retry_after_s=2.0, deadline_s=10.0
)


class Embedder:
    """One embedding model with everything around a call. `cache_ttl_s` 0 turns the cache off."""

    def __init__(
        self,
        provider: EmbeddingProvider,
        redis: Redis | None = None,
        *,
        cache_ttl_s: int = 0,
        document_retries: RetryPolicy = DOCUMENT_RETRIES,
        query_retries: RetryPolicy = QUERY_RETRIES,
    ) -> None:
        self.provider = provider
        self._cache = QueryCache(redis, ttl_s=cache_ttl_s)
        self._document_retries = document_retries
        self._query_retries = query_retries
        self._flights = SingleFlight[NDArray[np.float32]]()

    async def embed_documents(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed any number of texts in order, batch after batch.

        Returns unit vectors, shape (len(texts), dimensions), float32. Raises ProviderError after
        the last attempt, ValueError on no texts.
        """
        size = self.provider.max_batch
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        return np.concatenate([await self._embed_batch(batch) for batch in batches])

    async def embed_query(self, org_id: UUID, text: str) -> NDArray[np.float32]:
        """Return the unit vector of a query, shape (dimensions,), read-only.

        From the cache if it is there; the same query, asked at once by several, is one call.
        Raises ProviderError after the last attempt.
        """
        key = query_key(org_id, f"{self.provider.name}/{self.provider.model}", text)
        return await self._flights.run(key, lambda: self._find_or_embed(key, text))

    async def _find_or_embed(self, key: str, text: str) -> NDArray[np.float32]:
        cached = await self._cache.find(key)
        if cached is not None:
            return cached
        matrix = await self._embed_with_retries([text], Purpose.QUERY, self._query_retries)
        vector: NDArray[np.float32] = matrix[0]
        vector.setflags(write=False)  # several callers share it
        await self._cache.store(key, vector)
        return vector

    async def _embed_batch(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed one batch; halve it as long as the vendor finds it too large."""
        try:
            return await self._embed_with_retries(texts, Purpose.DOCUMENT, self._document_retries)
        except ProviderError as error:
            if error.kind is not ProviderErrorKind.CONTEXT_LENGTH or len(texts) == 1:
                raise
        middle = len(texts) // 2
        halves = [await self._embed_batch(half) for half in (texts[:middle], texts[middle:])]
        return np.concatenate(halves)

    async def _embed_with_retries(
        self, texts: Sequence[str], purpose: Purpose, retries: RetryPolicy
    ) -> FloatMatrix:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + retries.deadline_s
        attempt = 1
        while True:
            try:
                return await self.provider.embed(texts, purpose=purpose)
            except ProviderError as error:
                PROVIDER_ERRORS.labels(provider=error.provider, kind=error.kind.value).inc()
                wait_s = retries.wait_s(attempt, error.retry_after_s)
                if not error.is_retryable or wait_s is None or loop.time() + wait_s > give_up_at:
                    raise
                log.warning("embedding_retried", kind=error.kind.value, attempt=attempt)
            await asyncio.sleep(wait_s)
            attempt += 1


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Lets callers that want the same thing at the same time share one piece of work."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result, or raise the error, of the work that runs under `key`.

        A caller that is cancelled leaves the others alone; the last one takes the work with it.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(work()))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.waiting += 1
        try:
            # Not `await task`: that would hand this caller's cancellation to everybody.
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Gone at once: who asks next must not join work that is being cancelled.
                self._forget(key, flight)
                flight.task.cancel()

    def _land(self, key: str, flight: _Flight[T]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as seen when nobody waits any more

    def _forget(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
