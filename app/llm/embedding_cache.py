"""Embeddings of queries in Redis, which all processes share: each is kept, and made only once.

A cache that is down, slow or wrong is a miss, no failure. Only queries are kept: Redis is the queue
too and evicts nothing, so that the vectors of every chunk would fill it, and those of a deleted
document must not outlive it.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
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

# KEYS: vectors, each with who makes it. ARGV: the caller, ms to live. Returns for each the vector
# if it is there, 1 to a caller who is to make it, 0 while another does.
_CLAIM = """
local replies = {}
for at = 1, #KEYS, 2 do
    local reply = redis.call('GET', KEYS[at])
    if not reply then
        reply = redis.call('SET', KEYS[at + 1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
    end
    replies[#replies + 1] = reply
end
return replies
"""
# A caller who took too long must not end the turn of the next one.
_RELEASE = """
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""

Vector = NDArray[np.float32]


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


@dataclass(frozen=True, slots=True)
class Turn:
    """Vectors that other processes made, and keys: `mine` are to be made, `others` being made."""

    vectors: dict[str, Vector]
    mine: list[str]
    others: list[str]


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
        self._recent: dict[str, tuple[float, Vector]] = {}
        self._rests_until = 0.0
        self._next_log_at = 0.0
        if self._redis is not None:
            self._claim = self._redis.register_script(_CLAIM)
            self._release = self._redis.register_script(_RELEASE)

    async def find(self, keys: Sequence[str]) -> dict[str, Vector]:
        """Return those that are there, read-only. Takes REDIS_TIMEOUT_S at most."""
        redis = self._redis
        if redis is None:
            return {}
        now = time.monotonic()
        found = {
            key: recent[1]
            for key in keys
            if (recent := self._recent.get(key)) is not None and recent[0] > now
        }
        missing = [key for key in keys if key not in found]
        if missing:
            found |= self._read(missing, await self._ask(lambda: redis.mget(missing)))
        for _ in found:
            self.count("hit")
        return found

    @asynccontextmanager
    async def turn(self, keys: Sequence[str]) -> AsyncIterator[Turn]:
        """Hold back the processes that want the same vectors until the block has stored them.

        Where all are being made elsewhere, waits `flight_s` at most for any; without Redis not at
        all: then a vector may be made twice. Else those that are the caller's to make come first,
        and the others are worth another turn behind it: two processes that each wait for one and
        make another would wait for each other.
        """
        caller = uuid4().hex
        claimed = list(keys)  # until Redis denies it: one that is cancelled may have been made
        try:
            replies = await self._claim_or_wait(keys, caller)
            claimed = [key for key in keys if replies.get(key) == 1]
            vectors = self._read(keys, list(replies.values()))
            others = [key for key in keys if replies.get(key) == 0]
            if len(others) == len(keys):  # waited for in vain
                others = []
            mine = [key for key in keys if key not in vectors and key not in others]
            for _ in vectors:
                self.count("shared")
            for key in mine:
                self.count("miss" if key in replies else "error")
            yield Turn(vectors, mine, others)
        finally:
            if claimed:
                flights = [_flight_key(key) for key in claimed]
                await self._ask(lambda: self._release(keys=flights, args=[caller]))

    async def store(self, vectors: Mapping[str, Vector]) -> dict[str, Vector]:
        """Keep unit vectors for `ttl_s`; drops them when Redis fails.

        Returns the read-only vectors as they will be found, so that a repeated query ranks the
        same.
        """
        if self._redis is None:
            stored = dict(vectors)
        else:
            packed = {key: pack_vector(key, vector) for key, vector in vectors.items()}
            pipeline = self._redis.pipeline(transaction=False)
            for key, value in packed.items():
                pipeline.set(key, value, ex=self._ttl_s)
            await self._ask(pipeline.execute)
            stored = {key: _from_halves(value[_TAG_BYTES:]) for key, value in packed.items()}
            self._remember(stored)
        for vector in stored.values():
            vector.setflags(write=False)  # several callers share it
        return stored

    def count(self, outcome: str) -> None:
        """Count a query by where its vector came from; see EMBEDDING_CACHE. Nothing while off."""
        if self._redis is not None:
            EMBEDDING_CACHE.labels(outcome=outcome).inc()

    def _read(self, keys: Sequence[str], values: object) -> dict[str, Vector]:
        """Return the vectors among values of Redis, in the order of the keys, and remember them."""
        found = {
            key: vector
            for key, value in zip(keys, values if isinstance(values, list) else (), strict=False)
            if (vector := unpack_vector(key, value)) is not None
        }
        self._remember(found)
        return found

    def _remember(self, vectors: Mapping[str, Vector]) -> None:
        if len(self._recent) + len(vectors) > MAX_RECENT:
            self._recent.clear()
        until = time.monotonic() + self._recent_s
        self._recent.update({key: (until, vector) for key, vector in vectors.items()})

    async def _claim_or_wait(self, keys: Sequence[str], caller: str) -> dict[str, object]:
        """Return by key the packed vector, 1 for a turn, 0 for another's; {} without Redis.

        All are 0 only after a wait in vain.
        """
        give_up_at = time.monotonic() + self._flight_s
        nap_s = _FIRST_NAP_S
        milliseconds = max(1, round(1000 * self._flight_s))
        names = [name for key in keys for name in (key, _flight_key(key))]
        while True:
            reply = await self._ask(lambda: self._claim(keys=names, args=[caller, milliseconds]))
            replies = dict(zip(keys, reply if isinstance(reply, list) else (), strict=False))
            is_denied = bool(replies) and all(one == 0 for one in replies.values())
            if not is_denied or time.monotonic() >= give_up_at:
                return replies
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


def pack_vector(key: str, vector: Vector) -> bytes:
    """Return a unit vector as it is kept: a tag, then float16. The search rounds to that anyway."""
    payload = vector.astype("<f2").tobytes()
    return _tag(key, payload) + payload


def unpack_vector(key: str, value: object) -> Vector | None:
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


def _from_halves(payload: bytes) -> Vector:
    vector = np.frombuffer(payload, dtype="<f2").astype(np.float32)
    vector /= np.linalg.norm(vector)  # rounding changed its length a little
    return vector


def _tag(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()
