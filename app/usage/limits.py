"""Who may call how often: rates by feature, tokens of a day, streams at once, by the plan.

One call to Redis takes from all levels or from none. Redis holds no truth: the tokens of today are
counted on from what the database knows, with and without it, and rates begin anew.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import cast
from uuid import UUID, uuid4

from prometheus_client import Counter

from app.core.errors import RateLimited
from app.core.rates import Check, Count, Lease, Rate, RateStore, Settlement, Standing, Verdict
from app.usage.levels import Level, LimitedCaller
from app.usage.organization_limits import LimitDirectory
from app.usage.plans import Feature, Limits

REFUSED_REQUESTS = Counter(
    "footnote_limited_requests_total",
    "Requests that were refused by a limit",
    ["limit", "level"],
)

RATE_LIMIT_HEADERS = tuple(
    f"x-ratelimit-{what}-{unit}"
    for unit in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)
STREAM_TTL_S = 60.0
_RENEW_S = 20.0
_RENEWED_AT_ONCE = 100
# How long a place waits for the next stream of its organization here, before others can have it.
_LINGER_S = 0.02
# So long a crowd may take to get in, and exactly as many pass as the limit says.
_STEP_S = 5.0
_SECONDS_PER_DAY = 86_400
_MAX_SEEDS = 4


# What a caller's level has used of the tokens of a day, as far as it was settled. May raise what
# the database raises.
TokensUsed = Callable[[LimitedCaller, Level, date], Awaitable[int]]


class LimitReached(RateLimited):
    """A limit holds. `headers`, as of an Admission, go with the answer."""

    headers: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on. `headers` say what is left; `refund` gives its units back."""

    headers: Mapping[str, str]
    refund: Sequence[Rate] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """`requests`: units of each feature that has a rate, of those that a minute gives back.

    `tokens`: of today, as far as they are settled or held. `streams`: open ones.
    """

    requests: Mapping[Feature, int]
    tokens: int
    streams: int


@dataclass(frozen=True, slots=True)
class TokenReservation:
    """Tokens that were taken of each level's day, before it is known how many it takes."""

    tokens: int
    taken: Sequence[tuple[str, int]] = ()  # key and counter


@dataclass(slots=True, eq=False)
class StreamPlace:
    """One of the streams that an organization may have open. Renewed until it is released."""

    lease: Lease
    limiter: "Limiter"

    def release(self) -> None:
        """Give it to others, in a moment. Twice is fine."""
        self.limiter.release(self)


@dataclass(frozen=True, slots=True)
class _Limited:
    """A check with what to say if it holds."""

    check: Check
    name: str
    level: Level


@dataclass(slots=True)
class Limiter:
    """The limits of one process. `tokens_used` tells what a counter of tokens begins with."""

    store: RateStore
    directory: LimitDirectory
    tokens_used: TokensUsed
    step_s: float = _STEP_S
    _places: set[StreamPlace] = field(default_factory=set)
    _free: dict[str, list[Lease]] = field(default_factory=dict)  # by key
    _renewing: asyncio.Task[None] | None = None
    _dropping: asyncio.Task[None] | None = None

    async def limits_of(self, org_id: UUID) -> Limits:
        """Return what holds for an organization, as of at most 5 s ago."""
        return (await self.directory.get(org_id)).limits

    async def admit(
        self, caller: LimitedCaller, feature: Feature, address: str, *, units: int = 1
    ) -> Admission:
        """Count a request of `units` at all levels.

        Raises LimitReached (`rate_limit_exceeded`, `tokens_per_day_exceeded`) with the limit's
        name and level in its details, and after how long it passes; then nothing is counted.
        """
        limits = await self.limits_of(caller.org_id)
        rates = _rates(caller, limits, feature, address, units=units, step_s=self.step_s)
        asked = rates
        if feature in (Feature.CHAT, Feature.EMBEDDING):
            asked = rates + _token_counts(caller, limits, 0)
        if not asked:
            return Admission({})
        verdict = await self._take(caller, asked)
        headers = _headers(asked, verdict.standings)
        _refuse(asked, verdict, headers)
        refund = [_refund(each.check) for each in rates if isinstance(each.check, Rate)]
        return Admission(headers, refund)

    async def give_back(self, admission: Admission) -> None:
        """Uncount a request that turned out to be none, like the replay of an earlier one."""
        await self.store.take(admission.refund)

    async def reserve_tokens(self, caller: LimitedCaller, tokens: int) -> TokenReservation:
        """Take tokens of today. Raises LimitReached (`tokens_per_day_exceeded`)."""
        asked = _token_counts(caller, await self.limits_of(caller.org_id), tokens)
        if not asked:
            return TokenReservation(tokens)
        verdict = await self._take(caller, asked)
        _refuse(asked, verdict, _headers(asked, verdict.standings))
        counters = (standing.counter for standing in verdict.standings)
        keys = (each.check.key for each in asked)
        return TokenReservation(tokens, tuple(zip(keys, counters, strict=False)))

    async def settle_tokens(self, reservation: TokenReservation, tokens: int) -> None:
        """Count what it really took. Call it once, when the database knows that too."""
        await self.store.settle(
            [
                Settlement(key, counter, reservation.tokens, tokens)
                for key, counter in reservation.taken
            ]
        )

    async def open_stream(self, caller: LimitedCaller) -> StreamPlace:
        """Take a place for a stream. Raises LimitReached (`too_many_streams`)."""
        limits = await self.limits_of(caller.org_id)
        lease = Lease(f"{_prefix(caller)}:streams", limits.streams, uuid4().hex, STREAM_TTL_S)
        free = self._free.get(lease.key)
        if free and free[-1].limit == lease.limit:  # or it was changed since, and is asked anew
            lease = free.pop()
        else:
            await self._take_lease(lease)
        place = StreamPlace(lease, self)
        self._places.add(place)
        if self._renewing is None:
            # Of no request: its log lines are its own.
            self._renewing = asyncio.create_task(self._renew(), context=Context())
        return place

    async def _take_lease(self, lease: Lease) -> None:
        verdict = await self.store.take([lease])
        if verdict.refused is not None:
            # Places that linger are nobody's: once more when those of now are gone.
            await asyncio.sleep(2 * _LINGER_S)
            verdict = await self.store.take([lease])
        _refuse([_Limited(lease, "streams", Level.ORGANIZATION)], verdict, {})

    def release(self, place: StreamPlace) -> None:
        if place in self._places:
            self._places.remove(place)
            self._free.setdefault(place.lease.key, []).append(place.lease)
            if self._dropping is None:
                self._dropping = asyncio.create_task(self._drop_soon(), context=Context())

    async def _drop_soon(self) -> None:
        while self._free:
            await asyncio.sleep(_LINGER_S)
            await self._drop_free()
        self._dropping = None

    async def _drop_free(self) -> None:
        free, self._free = self._free, {}
        for key, leases in free.items():
            if leases:
                await self.store.forget(key, members=[lease.member for lease in leases])

    async def use_of(self, caller: LimitedCaller) -> Use:
        """Return what an organization uses just now. Nothing is taken."""
        limits = await self.limits_of(caller.org_id)
        rates: dict[Feature, Rate] = {}
        for feature in Feature:
            found = _rates(caller, limits, feature, "", units=0, step_s=self.step_s)
            if found and found[0].level is Level.ORGANIZATION:
                rates[feature] = cast(Rate, found[0].check)
        standings = (await self.store.take(list(rates.values()))).standings
        requests = {
            feature: standing.used for feature, standing in zip(rates, standings, strict=False)
        }
        counts = [
            each for each in _token_counts(caller, limits, 0) if each.level is Level.ORGANIZATION
        ]
        if counts:
            standings = (await self._take(caller, counts)).standings
            tokens = standings[0].used if standings else 0
        else:
            tokens = await self._tokens_used(caller, Level.ORGANIZATION)
        await self._drop_free()
        streams = await self.store.count_leases(f"{_prefix(caller)}:streams")
        return Use(requests, tokens, streams)

    async def aclose(self) -> None:
        tasks = [task for task in (self._renewing, self._dropping) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for place in list(self._places):
            self._free.setdefault(place.lease.key, []).append(place.lease)
        self._places.clear()
        await self._drop_free()

    async def _take(self, caller: LimitedCaller, asked: Sequence[_Limited]) -> Verdict:
        """Take all checks; first seed those counts that nobody has begun."""
        checks = [each.check for each in asked]
        verdict = await self.store.take(checks)
        for _ in range(_MAX_SEEDS):
            if verdict.unseeded is None:
                break
            missing = asked[verdict.unseeded]
            assert isinstance(missing.check, Count)  # noqa: S101  # no other kind is seeded
            await self.store.seed(missing.check, await self._tokens_used(caller, missing.level))
            verdict = await self.store.take(checks)
        return verdict

    async def _tokens_used(self, caller: LimitedCaller, level: Level) -> int:
        return await self.tokens_used(caller, level, datetime.now(UTC).date())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_S)
            places = list(self._places)
            for start in range(0, len(places), _RENEWED_AT_ONCE):
                some = places[start : start + _RENEWED_AT_ONCE]
                leases = [place.lease for place in some if place in self._places]
                if (await self.store.take(leases)).refused is not None:
                    # Redis was wiped, and others took the places: each counts as soon as it can.
                    for lease in leases:
                        await self.store.take([lease])


def _prefix(caller: LimitedCaller) -> str:
    # The braces keep an organization's keys on one node of a cluster.
    return f"footnote:limits:{{{caller.org_id}}}"


def _rates(
    caller: LimitedCaller,
    limits: Limits,
    feature: Feature,
    address: str,
    *,
    units: int,
    step_s: float,
) -> list[_Limited]:
    rates = []
    limit = limits.per_minute(feature)
    if limit is not None:
        for level, share in _levels(caller, limits):
            allowed = max(1, limit * share // 100)
            rate = Rate(
                # With the limit in its name: one that is changed begins anew.
                f"{_prefix(caller)}:{feature.value}:{allowed}:{_subject(caller, level)}",
                allowed,
                cost=min(units, allowed),
                step_s=step_s,
            )
            rates.append(_Limited(rate, f"{feature.value}_requests_per_minute", level))
    own = _limit_of_key(caller, "requests_per_minute")
    if own is not None:
        name = f"{_prefix(caller)}:requests:{own}:{_subject(caller, Level.KEY)}"
        rate = Rate(name, own, cost=min(units, own), step_s=step_s)
        rates.append(_Limited(rate, "requests_per_minute", Level.KEY))
    if limits.address_per_minute is not None:
        allowed = limits.address_per_minute
        rate = Rate(f"footnote:limits:address:{allowed}:{address}", allowed, step_s=step_s)
        rates.append(_Limited(rate, "requests_per_minute", Level.ADDRESS))
    return rates


def _token_counts(caller: LimitedCaller, limits: Limits, tokens: int) -> list[_Limited]:
    allowed = {}
    if limits.tokens_per_day is not None:
        for level, share in _levels(caller, limits):
            allowed[level] = limits.tokens_per_day * share // 100
    own = _limit_of_key(caller, "tokens_per_day")
    if own is not None:
        allowed[Level.KEY] = min(own, allowed.get(Level.KEY, own))
    return [
        _Limited(
            Count(_tokens_key(caller, level), limit, tokens, _end_of_day()),
            "tokens_per_day",
            level,
        )
        for level, limit in allowed.items()
    ]


def _limit_of_key(caller: LimitedCaller, name: str) -> int | None:
    """Return what the caller's key has besides its share; None for whoever has no such thing."""
    limit: int | None = getattr(caller, name, None)
    return limit


def _levels(caller: LimitedCaller, limits: Limits) -> list[tuple[Level, int]]:
    """Return each level with its share in percent. One with all of it is held by the whole."""
    levels = [(Level.ORGANIZATION, 100)]
    if limits.user_share_percent < 100:
        levels.append((Level.USER, limits.user_share_percent))
    if limits.key_share_percent < 100 and caller.key_id is not None:
        levels.append((Level.KEY, limits.key_share_percent))
    return levels


def _subject(caller: LimitedCaller, level: Level) -> str:
    match level:
        case Level.USER:
            return f"user:{caller.user_id}"
        case Level.KEY:
            return f"key:{caller.key_id}"
        case _:
            return level.value


def _tokens_key(caller: LimitedCaller, level: Level) -> str:
    return f"{_prefix(caller)}:tokens:{datetime.now(UTC):%Y%m%d}:{_subject(caller, level)}"


def _end_of_day() -> int:
    """Return the Unix seconds of the next midnight, UTC."""
    return (int(time.time()) // _SECONDS_PER_DAY + 1) * _SECONDS_PER_DAY


def _refund(rate: Rate) -> Rate:
    return replace(rate, cost=-rate.cost)


def _refuse(asked: Sequence[_Limited], verdict: Verdict, headers: Mapping[str, str]) -> None:
    """Raise RateLimited if a check holds."""
    if verdict.refused is None:
        return
    held, allowed = asked[verdict.refused], verdict.standings[verdict.refused].limit
    REFUSED_REQUESTS.labels(limit=held.name, level=held.level.value).inc()
    code, message = _REASONS.get(held.name, ("rate_limit_exceeded", _TOO_FAST))
    reached = LimitReached(
        message.format(limit=allowed, level=held.level.value),
        code=code,
        retry_after_s=verdict.wait_s,
        details={
            "limit": held.name,
            "level": held.level.value,
            "allowed": allowed,
            "retry_after_ms": round(1000 * verdict.wait_s),
        },
    )
    reached.headers = headers
    raise reached


_TOO_FAST = (
    "At most {limit} of these requests at once, and after that {limit} a minute, evenly:"
    " a limit of the {level}."
)
_REASONS = {
    "tokens_per_day": (
        "tokens_per_day_exceeded",
        "The {limit} model tokens of today (UTC) are used up, or what is left is not enough:"
        " a limit of the {level}.",
    ),
    "streams": (
        "too_many_streams",
        "At most {limit} streams may be open at once: a limit of the {level}.",
    ),
}


def _headers(asked: Sequence[_Limited], standings: Sequence[Standing]) -> dict[str, str]:
    """Say what is left of the requests and of the tokens, at the level where it is least."""
    headers: dict[str, str] = {}
    pairs = list(zip(asked, standings, strict=False))
    for unit, kind in (("requests", Rate), ("tokens", Count)):
        found = [pair for pair in pairs if isinstance(pair[0].check, kind)]
        if found:
            _, standing = min(found, key=lambda pair: pair[1].left)
            headers |= {
                f"x-ratelimit-limit-{unit}": str(standing.limit),
                f"x-ratelimit-remaining-{unit}": str(standing.left),
                f"x-ratelimit-reset-{unit}": format_duration(standing.reset_s),
            }
    return headers


def format_duration(seconds: float) -> str:
    """Return it as OpenAI's headers do: `12ms`, `1s`, `6m0s`, `23h59m1s`."""
    if seconds < 1:
        return f"{round(1000 * seconds)}ms" if seconds > 0.0005 else "0s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
