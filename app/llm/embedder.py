"""Embeds documents and queries: batches, retries, a circuit breaker, a cache for queries."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind, RateLimited, Unavailable
from app.core.metrics import PROVIDER_ERRORS
from app.core.tokens import count_tokens
from app.llm.base import EmbeddingProvider, FloatMatrix, Purpose, Usage
from app.llm.breaker import PROBE_INTERVAL_S, CircuitBreaker
from app.llm.dimensions import SteadyEmbedding
from app.llm.embedding_cache import EmbeddingCache, Vector, query_key, space_name
from app.llm.metering import UNMETERED, CallKind, CallMeter, ModelCall
from app.llm.model_names import LOCAL
from app.llm.single_flight import SingleFlight
from app.llm.wire import provider_error

log = structlog.get_logger()

_RANDOM = random.SystemRandom()
# However long an open breaker says to wait: it may close earlier.
_MAX_NAP_S = 2.0
_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try again. Times in seconds.

    Without `attempts` an outage is sat out until the deadline; garbage is asked for again at most
    `garbage_attempts` times in all. Waits are drawn from 0 to `base_s` * 2^n, at most `max_wait_s`,
    never less than Retry-After; one above `max_retry_after_s` is not waited for. Nothing is tried
    again after `deadline_s`.
    """

    attempts: int | None = None
    garbage_attempts: int = 3
    base_s: float = 0.5
    max_wait_s: float = 8.0
    max_retry_after_s: float = 60.0
    deadline_s: float = 420.0

    def wait_s(self, error: ProviderError, *, failed: int, garbage: int) -> float | None:
        """Return the wait before the next attempt, None to give up.

        `failed` counts the attempts so far, `garbage` those among them with an unusable answer.
        """
        least_s = error.retry_after_s or 0.0
        has_tried_enough = failed == self.attempts or garbage == self.garbage_attempts
        if not error.is_retryable or has_tried_enough or least_s > self.max_retry_after_s:
            return None
        most_s = min(self.max_wait_s, self.base_s * 2.0 ** min(failed - 1, _MAX_DOUBLINGS))
        return least_s + _RANDOM.uniform(0.0, most_s)


# A provider that is away for five minutes costs no document.
DOCUMENT_RETRIES = RetryPolicy()
# Somebody waits for the answer.
QUERY_RETRIES = RetryPolicy(
    attempts=3, base_s=0.2, max_wait_s=1.0, max_retry_after_s=2.0, deadline_s=10.0
)


class Embedder:
    """One embedding model with everything around a call. `cache_ttl_s` 0 turns the cache off.

    With `redis` all embedders of a remote model, in whichever process, share a circuit breaker and
    the width of its vectors.
    """

    def __init__(
        self,
        provider: EmbeddingProvider,
        redis: Redis | None = None,
        *,
        cache_ttl_s: int = 0,
        document_retries: RetryPolicy = DOCUMENT_RETRIES,
        query_retries: RetryPolicy = QUERY_RETRIES,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        self.provider = provider
        # A model in this process has no outages and one width.
        shared = None if provider.name == LOCAL else redis
        self._embedding = SteadyEmbedding(provider, shared)
        self._breaker: CircuitBreaker | None = None
        if shared is not None:
            self._breaker = CircuitBreaker(
                shared,
                provider=provider.name,
                model=provider.model,
                probe_interval_s=probe_interval_s,
            )
        self._cache = EmbeddingCache(redis, ttl_s=cache_ttl_s)
        self._document_retries = document_retries
        self._query_retries = query_retries
        self._flights = SingleFlight[Vector]()

    async def find_dimensions(self) -> int | None:
        """Return the width of the model's vectors, or None while no process knows it."""
        return await self._embedding.find_dimensions()

    async def embed_documents(
        self, texts: Sequence[str], meter: CallMeter = UNMETERED
    ) -> FloatMatrix:
        """Embed any number of texts in order, batch after batch.

        Returns unit vectors, shape (len(texts), dimensions), float32. Waits for its turn while the
        breaker is open. Raises ProviderError after the last attempt, ValueError on no texts, and
        what the meter raises.
        """
        batches = [await self._embed_batch(batch, meter) for batch in self._batches(texts)]
        return np.concatenate(batches)

    async def embed_query(self, org_id: UUID, text: str, meter: CallMeter = UNMETERED) -> Vector:
        """Return the unit vector of one query; see `embed_queries`."""
        [vector] = await self.embed_queries(org_id, [text], meter)
        return vector

    async def embed_queries(
        self, org_id: UUID, texts: Sequence[str], meter: CallMeter = UNMETERED
    ) -> list[Vector]:
        """Return the unit vectors of queries in order, each of shape (dimensions,), read-only.

        From the cache if they are there, the others by one call of the model; the same query, asked
        at once by several in whichever processes, is embedded once. Raises ProviderError after the
        last attempt, and at once while the provider is known to be away; and what the meter raises.
        Whoever asks first pays for all who ask the same.
        """
        space = await self._space()
        keys = [query_key(org_id, space, text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        vectors = await self._cache.find(list(wanted))
        missing = [key for key in wanted if key not in vectors]
        if missing:
            for key in missing:
                if self._flights.is_under_way(key):
                    self._cache.count("shared")
            vectors |= await self._flights.run_all(
                missing, lambda new: self._embed_in_turn({key: wanted[key] for key in new}, meter)
            )
        return [vectors[key] for key in keys]

    async def _space(self) -> str:
        provider = self.provider
        return space_name(
            provider.name,
            provider.model,
            endpoint=provider.endpoint,
            dimensions=await self._embedding.find_dimensions(),
        )

    async def _embed_in_turn(self, texts: Mapping[str, str], meter: CallMeter) -> dict[str, Vector]:
        """Embed texts by key, but for those that another process embeds meanwhile."""
        vectors: dict[str, Vector] = {}
        left = list(texts)
        while left:
            async with self._cache.turn(left) as turn:
                vectors |= turn.vectors
                for keys in self._batches(turn.mine):
                    queries = [texts[key] for key in keys]
                    matrix = await self._embed_with_retries(
                        queries, Purpose.QUERY, self._query_retries, meter
                    )
                    vectors |= await self._cache.store(dict(zip(keys, matrix, strict=True)))
            left = turn.others
        return vectors

    def _batches(self, items: Sequence[str]) -> list[Sequence[str]]:
        size = self.provider.max_batch
        return [items[start : start + size] for start in range(0, len(items), size)]

    async def _embed_batch(self, texts: Sequence[str], meter: CallMeter) -> FloatMatrix:
        """Embed one batch; halve it as long as the vendor finds it too large."""
        try:
            return await self._embed_with_retries(
                texts, Purpose.DOCUMENT, self._document_retries, meter
            )
        except ProviderError as error:
            if error.kind is not ProviderErrorKind.CONTEXT_LENGTH or len(texts) == 1:
                raise
        middle = len(texts) // 2
        halves = [await self._embed_batch(half, meter) for half in (texts[:middle], texts[middle:])]
        return np.concatenate(halves)

    async def _embed_with_retries(
        self, texts: Sequence[str], purpose: Purpose, retries: RetryPolicy, meter: CallMeter
    ) -> FloatMatrix:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + retries.deadline_s
        failed = garbage = 0
        while True:
            await self._wait_for_turn(purpose, give_up_at)
            try:
                return await self._embed_once(texts, purpose, meter, attempt=failed + 1)
            except ProviderError as error:
                failed += 1
                garbage += error.kind is ProviderErrorKind.PROTOCOL
                wait_s = retries.wait_s(error, failed=failed, garbage=garbage)
                if wait_s is None or loop.time() + wait_s > give_up_at:
                    raise
                log.warning("embedding_retried", kind=error.kind.value, attempt=failed)
            except (RateLimited, Unavailable) as refusal:  # the meter's: no call was made
                wait_s = refusal.retry_after_s or _MAX_NAP_S
                if purpose is Purpose.QUERY or loop.time() + wait_s > give_up_at:
                    raise
            await asyncio.sleep(wait_s)

    async def _embed_once(
        self, texts: Sequence[str], purpose: Purpose, meter: CallMeter, *, attempt: int
    ) -> FloatMatrix:
        """Call the provider, measured, and tell the breaker how it went."""
        provider = self.provider
        if provider.name == LOCAL:  # free
            return await self._embed_unmeasured(texts, purpose)
        tokens = await asyncio.to_thread(self._count_tokens, texts)
        call = ModelCall(CallKind.EMBEDDING, provider.name, provider.model, tokens, attempt=attempt)
        async with meter.measure(call) as result:
            matrix = await self._embed_unmeasured(texts, purpose)
            result.usage = Usage(tokens, 0, is_estimated=True)
        return matrix

    def _count_tokens(self, texts: Sequence[str]) -> int:
        return sum(count_tokens(text, self.provider.tokenizer) for text in texts)

    async def _embed_unmeasured(self, texts: Sequence[str], purpose: Purpose) -> FloatMatrix:
        try:
            matrix = await self._embedding.embed(texts, purpose=purpose)
        except ProviderError as error:
            PROVIDER_ERRORS.labels(provider=error.provider, kind=error.kind.value).inc()
            if self._breaker:
                await self._breaker.report_failure(error)
            raise
        if self._breaker:
            await self._breaker.report_success()
        return matrix

    async def _wait_for_turn(self, purpose: Purpose, give_up_at: float) -> None:
        """Return when the breaker lets a call through.

        Raises the ProviderError that it stands for: after the deadline, and for a query at once.
        A limit holds back documents only: they used it up, and one query more may well fit.
        """
        loop = asyncio.get_running_loop()
        while self._breaker and (refusal := await self._breaker.admit()):
            if purpose is Purpose.QUERY and refusal.kind is ProviderErrorKind.RATE_LIMITED:
                return
            left_s = give_up_at - loop.time()
            if purpose is Purpose.QUERY or left_s <= 0:
                raise provider_error(refusal.kind, self.provider.name, retry_after_s=refusal.wait_s)
            nap_s = min(_MAX_NAP_S, refusal.wait_s)
            await asyncio.sleep(min(left_s, nap_s + _RANDOM.uniform(0.0, nap_s)))
