"""Embeddings of queries in Redis. A cache that is down, slow or wrong is a miss, no failure."""

import asyncio
import hashlib
import time
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from app.core.metrics import EMBEDDING_CACHE
from app.core.redis import REDIS_ERRORS, REDIS_TIMEOUT_S

log = structlog.get_logger()

# After a failure the cache rests: a Redis that hangs must not cost each query its timeout.
REST_S = 2.0
LOG_INTERVAL_S = 60.0
_TAG_BYTES = hashlib.sha256().digest_size


def query_key(org_id: UUID, model_id: str, text: str) -> str:
    """Return the key of a query: per organization, so that none can probe another's questions."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"v1:qe:{org_id}:{model_id}:{digest}"


class QueryCache:
    """Vectors by key. With `redis` None or a `ttl_s` of 0 it is off and counts nothing."""

    def __init__(self, redis: Redis | None, *, ttl_s: int) -> None:
        self._redis = redis if ttl_s > 0 else None
        self._ttl_s = ttl_s
        self._rests_until = 0.0
        self._next_log_at = 0.0

    async def find(self, key: str) -> NDArray[np.float32] | None:
        """Return the read-only vector, or None. Takes REDIS_TIMEOUT_S at most."""
        if self._redis is None:
            return None
        if self._rests():
            EMBEDDING_CACHE.labels(outcome="error").inc()
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                value = await self._redis.get(key)
        except REDIS_ERRORS as error:
            self._rest(error)
            return None
        vector = _unpack(key, value)
        EMBEDDING_CACHE.labels(outcome="miss" if vector is None else "hit").inc()
        return vector

    async def store(self, key: str, vector: NDArray[np.float32]) -> None:
        """Keep a vector for `ttl_s`; drops it when Redis fails."""
        if self._redis is None or self._rests():
            return
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                await self._redis.set(key, _pack(key, vector), ex=self._ttl_s)
        except REDIS_ERRORS as error:
            self._rest(error)

    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def _rest(self, error: BaseException) -> None:
        EMBEDDING_CACHE.labels(outcome="error").inc()
        now = time.monotonic()
        self._rests_until = now + REST_S
        if now >= self._next_log_at:
            self._next_log_at = now + LOG_INTERVAL_S
            log.warning("query_cache_unavailable", error=type(error).__name__)


def _pack(key: str, vector: NDArray[np.float32]) -> bytes:
    payload = vector.astype("<f4").tobytes()
    return _tag(key, payload) + payload


def _unpack(key: str, value: object) -> NDArray[np.float32] | None:
    """Return the vector only if it was packed under this very key.

    A connection that lost its place in the protocol may answer with another query's value.
    """
    if not isinstance(value, bytes):
        return None
    tag, payload = value[:_TAG_BYTES], value[_TAG_BYTES:]
    if not payload or len(payload) % 4 or tag != _tag(key, payload):
        return None
    return np.frombuffer(payload, dtype="<f4")


def _tag(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()
