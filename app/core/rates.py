"""Rates, counts, leases and growing delays, several in one call: all are taken, or none is.

One Lua script in Redis, by Redis's clock. While Redis is away each process counts for itself: it
gives half of each rate, and asks again and again what a count has come to elsewhere.
"""

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Gauge
from redis.asyncio import Redis

from app.core.redis import REDIS_ERRORS

log = structlog.get_logger(__name__)

LIMITS_WITHOUT_REDIS = Gauge(
    "footnote_limits_without_redis",
    "Processes that count their callers for themselves, because Redis is away",
    multiprocess_mode="livesum",
)
# After a failure Redis is left alone: one that hangs must not cost each call its timeout.
_REST_S = 1.0
_MAX_KEYS = 100_000
# While Redis is away, how long a count may not know what other processes took.
_SEED_TTL_S = 5.0
_MICROS = 1_000_000
_AWAY = object()
# What a caller is told to wait for whom only others' leases stop: nobody knows when they end.
_LEASE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` units at once, and `limit` more in each `period_s` after that: GCRA.

    Of a negative `cost` units are given back. Time counts in whole steps since all units were
    there: so within `step_s` exactly `limit` pass, however long the crowd takes to get in.
    """

    key: str
    limit: int
    period_s: float = 60.0
    cost: int = 1
    step_s: float = 0.0

    @property
    def each_us(self) -> int:
        """Microseconds for one unit; whole ones, so that sums are exact."""
        return max(1, int(self.period_s * _MICROS) // self.limit)

    def arguments(self) -> tuple[str | int, ...]:
        return "rate", self.limit, self.each_us, self.cost, int(self.step_s * _MICROS)


@dataclass(frozen=True, slots=True)
class Count:
    """`amount` of what there is until `ends_at` (Unix seconds); of 0, whether anything is left.

    Somebody must have begun it, with `RateStore.seed`.
    """

    key: str
    limit: int
    amount: int
    ends_at: int

    def arguments(self) -> tuple[str | int, ...]:
        return "count", self.limit, self.amount, self.ends_at, 0


@dataclass(frozen=True, slots=True)
class Lease:
    """One of `limit` places at once, for `ttl_s`; taking it again renews it."""

    key: str
    limit: int
    member: str
    ttl_s: float

    def arguments(self) -> tuple[str | int, ...]:
        return "lease", self.limit, self.member, int(self.ttl_s * _MICROS), 0


@dataclass(frozen=True, slots=True)
class Delay:
    """`free` tries without waiting; then 1, 2, 4 … `max_s` seconds before the next.

    Forgotten after `ttl_s` without a try.
    """

    key: str
    free: int
    max_s: float
    ttl_s: float

    def arguments(self) -> tuple[str | int, ...]:
        return "delay", self.free, _MICROS, int(self.max_s * _MICROS), int(self.ttl_s * 1000)

    def wait_us(self, tries: int) -> int:
        """How long after so many tries the next must wait."""
        if tries < self.free:
            return 0
        doubled: int = 2 ** min(tries - self.free, 32)
        return min(int(self.max_s), doubled) * _MICROS


Check = Rate | Count | Lease | Delay


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a check stands now, of the `limit` that holds: of a rate half while Redis is away.

    `used` is more than that where the limit was lowered. `reset_s`: until all of it is there
    again. `counter`: which seed a count has.
    """

    limit: int
    used: int
    reset_s: float
    counter: int = 0

    @property
    def left(self) -> int:
        """What may still be taken at once."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refused`: the index of the check that holds longest, None if all were taken.

    After `wait_s` all of them pass, if nobody else takes of them meanwhile. `unseeded`: the index
    of a count that nobody has begun; then nothing was taken.
    """

    standings: Sequence[Standing]
    refused: int | None = None
    wait_s: float = 0.0
    unseeded: int | None = None
    is_local: bool = False


# ARGV: five for each key. Returns the check that holds longest (0: none, negative: a count that is
# not seeded), microseconds to wait, and for each key what is left (negative where more than there
# is was taken) and microseconds until all is.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local told, writes, refused, wait = {0, 0}, {}, 0, -1
for i, key in ipairs(KEYS) do
  local at = 5 * (i - 1)
  local kind, limit = ARGV[at + 1], tonumber(ARGV[at + 2])
  local left, reset, hold = 0, 0, nil
  if kind == 'rate' then
    local each, cost, step = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local due, since = now, now
    local stored = redis.call('GET', key)
    if stored then
      local a, b = string.match(stored, '^(%d+) (%d+)$')
      if tonumber(a) > now then due, since = tonumber(a), tonumber(b) end
    end
    local counted = now
    if step > 0 then counted = since + math.floor((now - since) / step) * step end
    local next_due = math.max(now, due + each * cost)
    local passes_at = next_due - limit * each
    if cost > 0 and passes_at > counted then
      if step > 0 then passes_at = since + math.ceil((passes_at - since) / step) * step end
      hold = passes_at - now
    else
      due = next_due
      if due > now then
        local value = string.format('%.0f %.0f', due, since)
        writes[#writes + 1] = {'SET', key, value, 'PX', math.ceil((due - now) / 1000)}
      else
        writes[#writes + 1] = {'DEL', key}
      end
    end
    left = math.max(0, math.floor((counted + limit * each - due) / each))
    reset = due - now
  elseif kind == 'count' then
    local amount, ends = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]) * 1000000
    local stored = redis.call('HMGET', key, 'n', 'counter')
    if not stored[1] then return {-i} end
    local used = tonumber(stored[1])
    if used >= limit or used + amount > limit then
      hold = math.max(1000000, ends - now)
    else
      used = used + amount
      writes[#writes + 1] = {'HINCRBY', key, 'n', amount}
    end
    left, reset = limit - used, tonumber(stored[2])
  elseif kind == 'lease' then
    local member, ttl = ARGV[at + 3], tonumber(ARGV[at + 4])
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
    local used = redis.call('ZCARD', key)
    local is_held = redis.call('ZSCORE', key, member)
    if not is_held and used >= limit then
      hold = 1000000
    else
      if not is_held then used = used + 1 end
      writes[#writes + 1] = {'ZADD', key, string.format('%.0f', now + ttl), member}
      writes[#writes + 1] = {'PEXPIRE', key, math.ceil(ttl / 1000)}
    end
    left = limit - used
  else
    local base, most = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local stored = redis.call('HMGET', key, 'n', 'at')
    local tries, opens = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
    if opens > now then
      hold = opens - now
    else
      tries = tries + 1
      opens = now
      if tries >= limit then
        opens = now + math.min(most, base * 2 ^ math.min(tries - limit, 32))
      end
      writes[#writes + 1] = {'HSET', key, 'n', tries, 'at', string.format('%.0f', opens)}
      writes[#writes + 1] = {'PEXPIRE', key, ARGV[at + 5]}
    end
    left, reset = limit - tries, math.max(0, opens - now)
  end
  if hold and hold > wait then refused, wait = i, hold end
  told[2 * i + 1], told[2 * i + 2] = left, reset
end
if refused == 0 then
  for _, write in ipairs(writes) do redis.call(unpack(write)) end
end
told[1], told[2] = refused, math.max(0, wait)
return told
"""
# ARGV: what was counted until now, an id of this counter, when it ends (Unix seconds).
_SEED = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'n', ARGV[1], 'counter', ARGV[2])
  redis.call('EXPIREAT', KEYS[1], ARGV[3])
end
"""
# ARGV for each key: the counter that something was taken from, how much, what it came to. One that
# was begun anew meanwhile does not know of the first.
_SETTLE = """
for i, key in ipairs(KEYS) do
  local counter = redis.call('HGET', key, 'counter')
  local taken, actual = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  if counter then
    redis.call('HINCRBY', key, 'n', counter == ARGV[3 * i - 2] and actual - taken or actual)
  end
end
"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Of a count: what was taken from which counter, and what it came to in the end."""

    key: str
    counter: int
    taken: int
    actual: int


class RateStore:
    """Takes checks together. No method raises; Redis is given up for a second after each failure.

    A crowd waits for its turn, for as long as it takes: to be counted elsewhere would let too many
    in. `connections`: how many calls the client's pool has room for.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        connections: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._turns = asyncio.Semaphore(connections)
        self._take = redis.register_script(_TAKE)
        self._seed = redis.register_script(_SEED)
        self._settle = redis.register_script(_SETTLE)
        self._clock = clock
        self._rests_until = 0.0
        self._failures = 0
        self._local = LocalRates(clock)
        # Counts that were made here while Redis was away: theirs in Redis is behind.
        self._behind: set[str] = set()
        self._is_away = False

    async def take(self, checks: Sequence[Check]) -> Verdict:
        """Take all checks, or none."""
        if not checks:
            return Verdict([])
        arguments = [argument for check in checks for argument in check.arguments()]
        told = await self._call(self._take, [check.key for check in checks], arguments)
        if told is None:
            self._behind.update(check.key for check in checks if isinstance(check, Count))
            return self._local.take(checks)
        if told[0] < 0:
            return Verdict([], unseeded=-told[0] - 1)
        return _read(checks, told)

    async def seed(self, check: Count, used: int) -> None:
        """Begin a count with what was used already, unless somebody else just has."""
        counter = secrets.randbelow(2**40)
        if await self._call(self._seed, [check.key], [used, counter, check.ends_at]) is None:
            self._behind.add(check.key)
            self._local.seed(check, used)

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Correct counts by what was really used. A count that has ended stays as it is."""
        if not settlements:
            return
        keys = [each.key for each in settlements]
        arguments = [
            part for each in settlements for part in (each.counter, each.taken, each.actual)
        ]
        if await self._call(self._settle, keys, arguments) is None:
            self._behind.update(keys)
            self._local.settle(settlements)

    async def forget(self, key: str, *, members: Sequence[str] | None = None) -> None:
        """Drop all that is known under a key, or some leases of it."""
        self._local.forget(key, members)
        if members is None:
            await self._ask(lambda: self._redis.delete(key))
        else:
            await self._ask(lambda: self._redis.zrem(key, *members))

    async def count_leases(self, key: str) -> int:
        """Return how many there are; while Redis is away, of this process."""
        now = f"({time.time_ns() // 1000}"
        told = await self._ask(lambda: self._redis.zcount(key, now, "+inf"))
        return self._local.count_leases(key) if told is _AWAY else int(told)

    async def has(self, key: str) -> bool:
        """Whether a mark was made within its time; False while Redis is away."""
        told = await self._ask(lambda: self._redis.exists(key))
        return told is not _AWAY and bool(told)

    async def mark(self, key: str, *, ttl_s: int) -> None:
        await self._ask(lambda: self._redis.set(key, 1, ex=ttl_s))

    async def _call(
        self, script: Any, keys: Sequence[str], arguments: Sequence[str | int]
    ) -> Any | None:
        """Return what the script says, an empty list for nothing, None while Redis is away."""
        if self._clock() < self._rests_until:
            return None
        if self._is_away:
            # One tries; the others go on without until it has found out.
            self._rests_until = self._clock() + _REST_S
        told = await self._ask(lambda: script(keys=keys, args=arguments))
        if told is _AWAY:
            return None
        if self._is_away:
            await self._return()
        return [] if told is None else told

    async def _return(self) -> None:
        """Redis is back. Counts that were made here are begun anew, with what is stored."""
        self._is_away = False
        self._rests_until = 0.0
        self._local.clear_counts()
        LIMITS_WITHOUT_REDIS.set(0)
        log.info("limits_with_redis_again")

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return what Redis answers, _AWAY if it does not."""
        failures = self._failures
        async with self._turns:
            if failures != self._failures:
                return _AWAY  # it went while this one waited: each would wait for the time-out
            try:
                if self._behind:
                    await self._redis.delete(*self._behind)  # they are seeded anew
                    self._behind.clear()
                return await call()
            except REDIS_ERRORS as error:
                self._rest(error)
                return _AWAY

    def _rest(self, error: Exception) -> None:
        self._failures += 1
        self._rests_until = self._clock() + _REST_S
        if not self._is_away:
            self._is_away = True
            LIMITS_WITHOUT_REDIS.set(1)
            log.warning("limits_without_redis", error=type(error).__name__)


def _read(checks: Sequence[Check], told: Sequence[int]) -> Verdict:
    standings = []
    for number, check in enumerate(checks, start=1):
        left, reset = told[2 * number : 2 * number + 2]
        limit = check.free if isinstance(check, Delay) else check.limit
        if isinstance(check, Count):
            reset_s = max(0.0, check.ends_at - time.time())
            standings.append(Standing(limit, limit - left, reset_s, counter=reset))
        else:
            standings.append(Standing(limit, limit - left, reset / _MICROS))
    return Verdict(standings, told[0] - 1 if told[0] else None, told[1] / _MICROS)


@dataclass(slots=True)
class _LocalCount:
    """`known`: by whoever seeded it, and settled since. `held`: taken here, and not settled."""

    counter: int
    known: int
    held: int
    fresh_until: float


class LocalRates:
    """The same in this process alone, with half of each rate.

    A count wants to be seeded anew every 5 s, for what others took; what is held here stays.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._counts: dict[str, _LocalCount] = {}
        self._leases: dict[str, dict[str, float]] = {}
        self._tries: dict[str, tuple[int, float, float]] = {}  # tries, opens, forgotten

    def clear_counts(self) -> None:
        self._counts.clear()

    def take(self, checks: Sequence[Check]) -> Verdict:
        now = self._clock()
        self._make_room(now)
        for index, check in enumerate(checks):
            if isinstance(check, Count) and self._wants_seed(check.key, now):
                return Verdict([], unseeded=index, is_local=True)
        found = [self._look(check, now) for check in checks]
        holds = [hold for _, hold, _ in found]
        refused = max(range(len(holds)), key=holds.__getitem__)
        if holds[refused] > 0:
            # What is left before: nothing was taken.
            standings = [standing for standing, _, _ in found]
            return Verdict(standings, refused, holds[refused], is_local=True)
        for _, _, write in found:
            write()
        return Verdict([standing for standing, _, _ in found], is_local=True)

    def seed(self, check: Count, used: int) -> None:
        fresh_until = self._clock() + _SEED_TTL_S
        count = self._counts.get(check.key)
        if count is None:
            counter = secrets.randbelow(2**40)
            self._counts[check.key] = _LocalCount(counter, used, 0, fresh_until)
        else:
            count.known, count.fresh_until = used, fresh_until

    def settle(self, settlements: Sequence[Settlement]) -> None:
        for each in settlements:
            count = self._counts.get(each.key)
            if count is None:
                continue  # whoever begins it knows of this too
            count.known += each.actual
            if count.counter == each.counter:
                count.held -= each.taken

    def count_leases(self, key: str) -> int:
        now = self._clock()
        return sum(ends > now for ends in self._leases.get(key, {}).values())

    def forget(self, key: str, members: Sequence[str] | None = None) -> None:
        if members is not None:
            leases = self._leases.get(key, {})
            for member in members:
                leases.pop(member, None)
            return
        for each in (self._due, self._counts, self._leases, self._tries):
            each.pop(key, None)

    def _wants_seed(self, key: str, now: float) -> bool:
        count = self._counts.get(key)
        if count is None:
            return True
        if count.fresh_until > now:
            return False
        # One asks; the others go on with what is known until it has been told.
        count.fresh_until = now + _SEED_TTL_S
        return True

    def _look(self, check: Check, now: float) -> tuple[Standing, float, Callable[[], None]]:
        """Return where it stands, seconds that it holds (0: passes), and what taking it does."""
        match check:
            case Rate():
                return self._look_at_rate(check, now)
            case Count():
                return self._look_at_count(check)
            case Lease():
                return self._look_at_lease(check, now)
            case Delay():
                return self._look_at_delay(check, now)

    def _look_at_rate(self, check: Rate, now: float) -> tuple[Standing, float, Callable[[], None]]:
        limit = max(1, check.limit // 2)
        # What costs more than half passes when all of that is there, or it would never.
        cost = max(-limit, min(limit, check.cost))
        each = check.period_s / limit
        due = max(now, self._due.get(check.key, now))
        next_due = max(now, due + each * cost)
        hold = next_due - limit * each - now if cost > 0 else 0.0
        # A thousandth of a unit for the sums of floats.
        passes = hold <= each / 1000
        shown = next_due if passes else due
        left = max(0, math.floor((now + limit * each - shown) / each + 0.001))

        def write() -> None:
            self._due[check.key] = next_due

        return Standing(limit, limit - left, shown - now), 0.0 if passes else hold, write

    def _look_at_count(self, check: Count) -> tuple[Standing, float, Callable[[], None]]:
        count = self._counts[check.key]
        used = count.known + count.held
        reset_s = max(1.0, check.ends_at - time.time())
        passes = used < check.limit and used + check.amount <= check.limit

        def write() -> None:
            count.held += check.amount

        standing = Standing(
            check.limit, used + check.amount if passes else used, reset_s, count.counter
        )
        return standing, 0.0 if passes else reset_s, write

    def _look_at_lease(
        self, check: Lease, now: float
    ) -> tuple[Standing, float, Callable[[], None]]:
        leases = self._leases.setdefault(check.key, {})
        for member in [member for member, ends in leases.items() if ends <= now]:
            del leases[member]
        is_held = check.member in leases
        passes = is_held or len(leases) < check.limit

        def write() -> None:
            leases[check.member] = now + check.ttl_s

        used = len(leases) + (passes and not is_held)
        return Standing(check.limit, used, 0.0), 0.0 if passes else _LEASE_WAIT_S, write

    def _look_at_delay(
        self, check: Delay, now: float
    ) -> tuple[Standing, float, Callable[[], None]]:
        tries, opens, forgotten = self._tries.get(check.key, (0, 0.0, 0.0))
        if now >= forgotten:
            tries, opens = 0, 0.0
        hold = max(0.0, opens - now)
        wait_s = check.wait_us(tries + 1) / _MICROS

        def write() -> None:
            self._tries[check.key] = (tries + 1, now + wait_s, now + check.ttl_s)

        used = tries if hold else tries + 1
        return Standing(check.free, used, hold or wait_s), hold, write

    def _make_room(self, now: float) -> None:
        if len(self._due) > _MAX_KEYS:
            self._due = {key: due for key, due in self._due.items() if due > now}
        if len(self._tries) > _MAX_KEYS:
            self._tries = {key: kept for key, kept in self._tries.items() if kept[2] > now}
        # Whoever has this many is an attack, and the memory is everybody's.
        for each in (self._due, self._tries, self._counts, self._leases):
            if len(each) > _MAX_KEYS:
                each.clear()
