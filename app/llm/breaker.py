"""A circuit breaker that all processes share: spares a provider that fails, and notices its return.

One hash in Redis per model holds what is known of it; Redis also keeps the time, so that the clocks
of machines don't matter. A Redis that is down or was wiped means a closed breaker.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.redis import REDIS_ERRORS, REDIS_TIMEOUT_S

log = structlog.get_logger()

BREAKER_OPEN = Gauge(
    "footnote_provider_breaker_open",
    "1 while calls to a failing provider are held back",
    ["provider"],
    multiprocess_mode="mostrecent",
)
BREAKER_EVENTS = Counter(
    "footnote_provider_breaker_events_total",
    "Breakers that opened or closed, and questions that Redis left unanswered",
    ["provider", "event"],
)

# The provider is not there or has no room. Garbage, a wrong key or an empty account are answers.
OUTAGES = frozenset(
    {
        ProviderErrorKind.OVERLOADED,
        ProviderErrorKind.RATE_LIMITED,
        ProviderErrorKind.TIMEOUT,
        ProviderErrorKind.TRUNCATED,
        ProviderErrorKind.UNREACHABLE,
    }
)
FAILURES_TO_OPEN = 5
PROBE_INTERVAL_S = 1.0
# A vendor that says "an hour" may have more room earlier: look now and then.
MAX_HOLD_S = 60.0
# Longer than any call takes, so that failures in a row are still known as such.
TTL_S = 600
# After a failure Redis is left alone: one that hangs must not cost each call its timeout.
REST_S = 2.0

# KEYS[1]: a hash of `failures` in a row, the `kind` of the last one and, only while the breaker is
# open, `turn_at`: when the next call may go out, and `held_until`: what the vendor asked for, both
# in ms of Redis's clock.
_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""
# ARGV: ms between calls. Returns {kind, ms to wait}, or an empty list for a caller who may call.
_ADMIT = (
    _NOW
    + """
local turn_at = tonumber(redis.call('HGET', KEYS[1], 'turn_at'))
if not turn_at then return {} end
if turn_at > now then return {redis.call('HGET', KEYS[1], 'kind'), turn_at - now} end
redis.call('HSET', KEYS[1], 'turn_at', now + ARGV[1])
return {}
"""
)
# ARGV: kind, failures that open, ms between calls, ms that the vendor asked to wait, ms to live.
# Returns 1 if this failure opened the breaker.
_FAIL = (
    _NOW
    + """
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local turn_at = tonumber(redis.call('HGET', KEYS[1], 'turn_at'))
local hold = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'kind', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if not turn_at and hold == 0 and failures < tonumber(ARGV[2]) then return 0 end
if hold > 0 then redis.call('HSET', KEYS[1], 'held_until', now + hold) end
local next_at = now + math.max(hold, turn_at and 0 or tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'turn_at', math.max(turn_at or 0, next_at))
return turn_at and 0 or 1
"""
)
# A call that began before the vendor named a time, or a small one, may succeed before it is over.
# Returns 1 if this success closed the breaker.
_SUCCEED = (
    _NOW
    + """
if tonumber(redis.call('HGET', KEYS[1], 'held_until') or 0) > now then return 0 end
local was_open = redis.call('HEXISTS', KEYS[1], 'turn_at')
redis.call('DEL', KEYS[1])
return was_open
"""
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """No call now: what the provider last failed of, and seconds until the next may go out."""

    kind: ProviderErrorKind
    wait_s: float


class CircuitBreaker:
    """Opens after FAILURES_TO_OPEN outages in a row, or at once when a 429 names a time.

    While open, one call every `probe_interval_s` goes out, whichever process asks first; the first
    success after the named time closes it. No method raises; each takes REDIS_TIMEOUT_S at most.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        provider: str,
        model: str,
        probe_interval_s: float = PROBE_INTERVAL_S,
    ) -> None:
        self._key = breaker_key(provider, model)
        self._provider = provider
        self._interval_ms = max(1, round(1000 * probe_interval_s))
        self._admit = redis.register_script(_ADMIT)
        self._fail = redis.register_script(_FAIL)
        self._succeed = redis.register_script(_SUCCEED)
        self._rests_until = 0.0
        self._is_guarded = True

    async def admit(self) -> Refusal | None:
        """Return None to a caller who may call now. An open breaker gives each turn to one."""
        reply = await self._run(self._admit, self._interval_ms)
        match reply:
            case [bytes(kind), int(wait_ms)]:
                BREAKER_OPEN.labels(provider=self._provider).set(1)
                return Refusal(ProviderErrorKind(kind.decode()), wait_ms / 1000)
            case []:
                BREAKER_OPEN.labels(provider=self._provider).set(0)
        return None

    async def report_failure(self, error: ProviderError) -> None:
        """Count an outage; any other error says nothing about the next call."""
        if error.kind not in OUTAGES:
            return
        is_limited = error.kind is ProviderErrorKind.RATE_LIMITED
        hold_s = min(MAX_HOLD_S, error.retry_after_s or 0.0) if is_limited else 0.0
        has_opened = await self._run(
            self._fail,
            error.kind.value,
            FAILURES_TO_OPEN,
            self._interval_ms,
            round(1000 * hold_s),
            1000 * TTL_S,
        )
        if has_opened == 1:
            self._note("opened", is_open=True)
            log.warning("provider_breaker_opened", provider=self._provider, kind=error.kind.value)

    async def report_success(self) -> None:
        """Forget the failures."""
        if await self._run(self._succeed) == 1:
            self._note("closed", is_open=False)
            log.info("provider_breaker_closed", provider=self._provider)

    async def _run(self, script: Any, *args: str | int) -> object:
        """Return the script's reply, None when Redis has none."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                reply: object = await script(keys=[self._key], args=args)
        except REDIS_ERRORS as error:
            self._rests_until = time.monotonic() + REST_S
            self._note("unguarded", is_open=False)
            if self._is_guarded:
                self._is_guarded = False
                log.warning("provider_breaker_unavailable", error=type(error).__name__)
            return None
        if not self._is_guarded:
            self._is_guarded = True
            log.info("provider_breaker_available")
        return reply

    def _note(self, event: str, *, is_open: bool) -> None:
        BREAKER_EVENTS.labels(provider=self._provider, event=event).inc()
        BREAKER_OPEN.labels(provider=self._provider).set(is_open)


def breaker_key(provider: str, model: str) -> str:
    return f"v1:breaker:{provider}/{model}"
