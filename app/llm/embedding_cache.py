"""Embeddings of queries in Redis, which all processes share: each is kept, and made only once.

A cache that is down, slow or wrong is a miss, no failure. Only queries are kept: Redis is the queue
too and evicts nothing, so that the vectors of every chunk would fill it, and those of a deleted
document must not outlive it.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.asyncio import Redis

from app.core.metrics import EMBEDDING_CACHE
from app.core.redis import REDIS_ERRORS, REDIS_TIMEOUT_S

log = structlog.get_logger()

# After a failure the cache rests: a Redis that hangs must not cost each query its timeout.
REST_S = 2.0
# A question that comes again comes soon: its vector stays at hand, which spares the round trip.
RECENT_S = 60.0
MAX_RECENT = 1000
LOG_INTERVAL_S = 60.0
# How long a call keeps the same calls of other processes waiting: one that died costs them this.
FLIGHT_S = 5.0
_FIRST_NAP_S, _LONGEST_NAP_S = 0.01, 0.1
_TAG_BYTES = hashlib.sha256().digest_size

# KEYS: a vector, and who makes it. ARGV: the caller, ms to live. Returns the vector if it is there,
# 1 to a caller who is to make it, 0 while another does.
_CLAIM = """
local vector = redis.call('GET', KEYS[1])
if vector then return vector end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""
# A caller who took too long must not end the turn of the next one.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


def space_name(provider: str, model: str, *, endpoint: str, dimensions: int | None) -> str:
    """Return the name of the vectors that may be compared. `dimensions` None: not known yet.

    The endpoint goes in as a hash: it may hold a password.
    """
    server = hashlib.sha256(endpoint.encode()).hexdigest()[:16]
    return f"{provider}/{model}:{dimensions or 'any'}:{server}"


def query_key(org_id: UUID, space: str, text: str) -> str:
    """Return the key of a query: per organization, so that none can probe another's questions."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"v2:qe:{org_id}:{space}:{digest}"


class EmbeddingCache:
    """Unit vectors by key, in float16. With `redis` None or a `ttl_s` of 0 it is off.

    What a process found or stored in the last minute it does not ask Redis for again.
    """

    def __init__(self, redis: Redis | None, *, ttl_s: int, flight_s: float = FLIGHT_S) -> None:
        self._redis = redis if ttl_s > 0 else None
        self._ttl_s = ttl_s
        self._flight_s = flight_s
        self._recent_s = min(RECENT_S, ttl_s)
        # With the time until which each is believed (monotonic seconds).
        self._recent: dict[str, tuple[float, NDArray[np.float32]]] = {}
        self._rests_until = 0.0
        self._next_log_at = 0.0
        if self._redis is not None:
            self._claim = self._redis.register_script(_CLAIM)
            self._release = self._redis.register_script(_RELEASE)

    async def find(self, key: str) -> NDArray[np.float32] | None:
        """Return the read-only vector, or None. Takes REDIS_TIMEOUT_S at most."""
        redis = self._redis
        if redis is None:
            return None
        recent = self._recent.get(key)
        if recent and recent[0] > time.monotonic():
            self.count("hit")
            return recent[1]
        vector = unpack_vector(key, await self._ask(lambda: redis.get(key)))
        if vector is not None:
            self._remember(key, vector)
            self.count("hit")
        return vector

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[NDArray[np.float32] | None]:
        """Hold back the processes that want the same vector until the block has stored it.

        Gives the vector if another process made it meanwhile, else None. Waits for the others
        `flight_s` at most, and not at all without Redis: then a vector may be made twice.
        """
        caller = uuid4().hex
        is_claimed = True  # until Redis denies it: one that is cancelled may have been made
        try:
            reply = await self._claim_or_wait(key, caller)
            is_claimed = reply == 1
            vector = unpack_vector(key, reply)
            if vector is not None:
                self._remember(key, vector)
                self.count("shared")
            else:
                self.count("error" if reply is None else "miss")
            yield vector
        finally:
            if is_claimed:
                await self._ask(lambda: self._release(keys=[_flight_key(key)], args=[caller]))

    async def store(self, key: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep a unit vector for `ttl_s`; drops it when Redis fails.

        Returns the read-only vector as it will be found, so that a repeated query ranks the same.
        """
        redis = self._redis
        if redis is not None:
            value = pack_vector(key, vector)
            await self._ask(lambda: redis.set(key, value, ex=self._ttl_s))
            vector = _from_halves(value[_TAG_BYTES:])
            self._remember(key, vector)
        vector.setflags(write=False)  # several callers share it
        return vector

    def count(self, outcome: str) -> None:
        """Count a query by where its vector came from; see EMBEDDING_CACHE. Nothing while off."""
        if self._redis is not None:
            EMBEDDING_CACHE.labels(outcome=outcome).inc()

    def _remember(self, key: str, vector: NDArray[np.float32]) -> None:
        if len(self._recent) >= MAX_RECENT:
            self._recent.clear()
        self._recent[key] = (time.monotonic() + self._recent_s, vector)

    async def _claim_or_wait(self, key: str, caller: str) -> object:
        """Return the packed vector, 1 for a turn, 0 for a wait in vain, None without Redis."""
        give_up_at = time.monotonic() + self._flight_s
        nap_s = _FIRST_NAP_S
        milliseconds = max(1, round(1000 * self._flight_s))
        while True:
            reply = await self._ask(
                lambda: self._claim(keys=[key, _flight_key(key)], args=[caller, milliseconds])
            )
            if reply != 0 or time.monotonic() >= give_up_at:
                return reply
            await asyncio.sleep(nap_s)
            nap_s = min(_LONGEST_NAP_S, 1.5 * nap_s)

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> object:
        """Return Redis's reply; None without one, and at once while the cache is off or rests."""
        if self._redis is None or time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                reply: object = await command()
        except REDIS_ERRORS as error:
            self._rest(error)
            return None
        return reply

    def _rest(self, error: BaseException) -> None:
        now = time.monotonic()
        self._rests_until = now + REST_S
        if now >= self._next_log_at:
            self._next_log_at = now + LOG_INTERVAL_S
            log.warning("embedding_cache_unavailable", error=type(error).__name__)


def _flight_key(key: str) -> str:
    return f"{key}:flight"


def pack_vector(key: str, vector: NDArray[np.float32]) -> bytes:
    """Return a unit vector as it is kept: a tag, then float16. The search rounds to that anyway."""
    payload = vector.astype("<f2").tobytes()
    return _tag(key, payload) + payload


def unpack_vector(key: str, value: object) -> NDArray[np.float32] | None:
    """Return the unit vector, read-only, if it was packed under this very key, else None.

    A connection that lost its place in the protocol may answer with another query's value.
    """
    if not isinstance(value, bytes):
        return None
    tag, payload = value[:_TAG_BYTES], value[_TAG_BYTES:]
    if not payload or len(payload) % 2 or tag != _tag(key, payload):
        return None
    vector = _from_halves(payload)
    vector.setflags(write=False)
    return vector


def _from_halves(payload: bytes) -> NDArray[np.float32]:
    vector = np.frombuffer(payload, dtype="<f2").astype(np.float32)
    vector /= np.linalg.norm(vector)  # rounding changed its length a little
    return vector


def _tag(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()
