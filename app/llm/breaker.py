"""A circuit breaker that all processes share: spares a provider that fails, and notices its return.

One hash in Redis per model holds what is known of it; Redis also keeps the time, so that the clocks
of machines don't matter. A Redis that is down or was wiped means a closed breaker.
"""

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
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
# in ms of Redis's clock; `interval`, where it has grown, in ms; `probing` while a turn is taken.
_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""
# ARGV: ms between calls, ms that a probe may take. Returns {kind, ms to wait}, or to a caller who
# may call: nothing where no failure is known, else {1} if this is a probe and {0} if it is none.
_ADMIT = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local turn_at = tonumber(redis.call('HGET', KEYS[1], 'turn_at'))
if not turn_at then return {0} end
if turn_at > now then return {redis.call('HGET', KEYS[1], 'kind'), turn_at - now} end
local interval = tonumber(redis.call('HGET', KEYS[1], 'interval') or ARGV[1])
redis.call('HSET', KEYS[1], 'turn_at', now + math.max(interval, tonumber(ARGV[2])), 'probing', 1)
return {1}
"""
)
# Returns {kind or '', ms to wait, 1 while a probe is out}; {} where no failure is known.
_LOOK = (
    _NOW
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local turn_at = tonumber(redis.call('HGET', KEYS[1], 'turn_at') or -1)
local wait = turn_at < 0 and -1 or math.max(0, turn_at - now)
return {redis.call('HGET', KEYS[1], 'kind') or '', wait, redis.call('HEXISTS', KEYS[1], 'probing')}
"""
)
# ARGV: kind, failures that open, ms between calls, ms to hold calls back, ms to live, the longest
# ms between calls, 1 where the vendor named the hold. Returns 1 if this failure opened the breaker.
_FAIL = (
    _NOW
    + """
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local turn_at = tonumber(redis.call('HGET', KEYS[1], 'turn_at'))
local hold = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'kind', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if not turn_at and hold == 0 and failures < tonumber(ARGV[2]) then return 0 end
if hold > 0 and ARGV[7] == '1' then redis.call('HSET', KEYS[1], 'held_until', now + hold) end
local interval = tonumber(redis.call('HGET', KEYS[1], 'interval') or ARGV[3])
local longest = tonumber(ARGV[6])
if turn_at and longest > tonumber(ARGV[3]) and redis.call('HDEL', KEYS[1], 'probing') == 1 then
    interval = math.min(longest, 2 * interval)
    redis.call('HSET', KEYS[1], 'interval', interval, 'turn_at', now + math.max(hold, interval))
    return 0
end
local next_at = now + math.max(hold, turn_at and 0 or interval)
redis.call('HSET', KEYS[1], 'turn_at', math.max(turn_at or 0, next_at))
return turn_at and 0 or 1
"""
)
# The turn of a call that was never made, or left: the next one may have it.
_RELEASE = (
    _NOW
    + """
if redis.call('HDEL', KEYS[1], 'probing') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'turn_at', now)
return 1
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


@dataclass(frozen=True, slots=True)
class Admission:
    """`is_clean`: no failure is known, so a success is no news. `is_probe`: all others wait."""

    refusal: Refusal | None = None
    is_clean: bool = True
    is_probe: bool = False


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """What is known of a breaker: the `kind` of the last failure, seconds to the next turn."""

    state: BreakerState = BreakerState.CLOSED
    kind: ProviderErrorKind | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """What opens a breaker. Times in seconds.

    `counted` failures in a row open it; a `held` one does so at once, for `hold_s`. The time
    between probes doubles with each that fails, up to `longest_interval_s`; None keeps it the same.
    While a probe is out, for up to `probe_s`, no other goes.
    """

    counted: frozenset[ProviderErrorKind] = OUTAGES
    held: frozenset[ProviderErrorKind] = frozenset()
    hold_s: float = 0.0
    longest_interval_s: float | None = None
    probe_s: float = 0.0


OUTAGES_ALONE = BreakerPolicy()


class CircuitBreaker:
    """Opens after FAILURES_TO_OPEN outages in a row, or at once when a 429 names a time.

    While open, one call every `probe_interval_s` goes out, whichever process asks first; the first
    success after the named time closes it. `policy` says more; `scope` keeps apart what has the
    same name. No method raises; each takes REDIS_TIMEOUT_S at most.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        provider: str,
        model: str,
        probe_interval_s: float = PROBE_INTERVAL_S,
        policy: BreakerPolicy = OUTAGES_ALONE,
        scope: str = "",
    ) -> None:
        self._key = breaker_key(provider, model, scope)
        self._provider = provider
        self._policy = policy
        self._interval_ms = max(1, round(1000 * probe_interval_s))
        longest_s = policy.longest_interval_s or 0.0
        self._longest_ms = max(self._interval_ms, round(1000 * longest_s))
        self._probe_ms = round(1000 * policy.probe_s)
        self._admit = redis.register_script(_ADMIT)
        self._look = redis.register_script(_LOOK)
        self._fail = redis.register_script(_FAIL)
        self._succeed = redis.register_script(_SUCCEED)
        self._release = redis.register_script(_RELEASE)
        self._rests_until = 0.0
        self._is_guarded = True

    async def admit(self) -> Refusal | None:
        """Return None to a caller who may call now. An open breaker gives each turn to one."""
        return (await self.ask()).refusal

    async def ask(self) -> Admission:
        """As `admit`, and say what hangs on the call."""
        reply = await self._run(self._admit, self._interval_ms, self._probe_ms)
        match reply:
            case [bytes(kind), int(wait_ms)]:
                BREAKER_OPEN.labels(provider=self._provider).set(1)
                refusal = Refusal(ProviderErrorKind(kind.decode()), wait_ms / 1000)
                return Admission(refusal, is_clean=False)
            case []:
                BREAKER_OPEN.labels(provider=self._provider).set(0)
            case [int(is_probe)]:
                BREAKER_OPEN.labels(provider=self._provider).set(is_probe)
                return Admission(is_clean=False, is_probe=is_probe == 1)
        return Admission()

    async def look(self) -> BreakerReport:
        """Return what is known, without taking a turn."""
        match await self._run(self._look):
            case [bytes(kind), int(wait_ms), int(is_probing)]:
                known = ProviderErrorKind(kind.decode()) if kind else None
                if wait_ms < 0:
                    return BreakerReport(kind=known)
                is_half_open = bool(is_probing) or wait_ms == 0
                state = BreakerState.HALF_OPEN if is_half_open else BreakerState.OPEN
                return BreakerReport(state, known, wait_ms / 1000)
        return BreakerReport()

    async def report_failure(self, error: ProviderError) -> None:
        """Count a failure that the policy names; any other says nothing about the next call."""
        policy = self._policy
        is_held = error.kind in policy.held
        if error.kind not in policy.counted and not is_held:
            return
        is_limited = error.kind is ProviderErrorKind.RATE_LIMITED
        hold_s = min(MAX_HOLD_S, error.retry_after_s or 0.0) if is_limited else 0.0
        if is_held:
            hold_s = policy.hold_s
        has_opened = await self._run(
            self._fail,
            error.kind.value,
            FAILURES_TO_OPEN,
            self._interval_ms,
            round(1000 * hold_s),
            1000 * TTL_S,
            self._longest_ms,
            int(is_limited),
        )
        if has_opened == 1:
            self._note("opened", is_open=True)
            log.warning("provider_breaker_opened", provider=self._provider, kind=error.kind.value)

    async def report_success(self) -> None:
        """Forget the failures."""
        if await self._run(self._succeed) == 1:
            self._note("closed", is_open=False)
            log.info("provider_breaker_closed", provider=self._provider)

    async def release(self) -> None:
        """Give back the turn of a probe that tells nothing: it was not made, or nobody waited."""
        await self._run(self._release)

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


def breaker_key(provider: str, model: str, scope: str = "") -> str:
    return f"v1:breaker:{provider}/{model}" + (f"#{scope}" if scope else "")
