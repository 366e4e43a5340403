"""How often somebody may try: passwords, registrations, refresh tokens, links of invitations.

A wrong password makes the next try from the same network wait longer, and locks nobody out: from
elsewhere the account's owner signs in at once. What can be guessed is counted before it is looked
at, so that a crowd of guesses is no way around.
"""

import hashlib
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app.core.addresses import is_loopback, network_of
from app.core.errors import NotAuthenticated, RateLimited
from app.core.rates import Check, Delay, Rate, RateStore, Verdict

_PREFIX = "footnote:attempts"
_V4_PREFIX = 24
FREE_GUESSES = 5
_MAX_WAIT_S = 60.0
_GUESSES_KEPT_S = 3600.0
GUESSES_OF_ADDRESS, _ADDRESS_PERIOD_S = 30, 600.0
GUESSES_OF_ACCOUNT, _ACCOUNT_PERIOD_S = 100, 3600.0
REGISTRATIONS_OF_ADDRESS, REGISTRATIONS_OF_ACCOUNT = 20, 5
_REGISTRATION_PERIOD_S = 3600.0
REFRESHES_OF_ADDRESS, LOOK_UPS_OF_ADDRESS = 300, 60
# How long a network is known from which an account has signed in.
_KNOWN_S = 30 * 86_400
# So long a crowd may take to get in, and exactly as many pass.
_STEP_S = 5.0
_MAX_SECONDS_IN_WORDS = 90


@dataclass(frozen=True, slots=True)
class Attempts:
    """Counts by account (in any form that names one) and by address; Redis gets neither.

    `spares_loopback`: what comes from this machine is not limited by its address, so that a local
    installation and its tests register as many as they like. All methods raise RateLimited.
    """

    store: RateStore
    spares_loopback: bool

    @asynccontextmanager
    async def guessing(self, *, account: str, address: str) -> AsyncIterator[None]:
        """Around the check of a password: NotAuthenticated counts as a wrong one.

        Nothing else does, and a right one is forgiven those before it.
        """
        account, network = _hash(account.strip().casefold()), _network(address)
        pair = f"{_PREFIX}:{account}:{network}"
        of_pair = Delay(f"{pair}:wrong", FREE_GUESSES, _MAX_WAIT_S, _GUESSES_KEPT_S)
        rates = self._of_address("wrong", address, GUESSES_OF_ADDRESS, _ADDRESS_PERIOD_S)
        of_account = _rate(f"{_PREFIX}:{account}:wrong", GUESSES_OF_ACCOUNT, _ACCOUNT_PERIOD_S)
        verdict = await self.store.take([of_pair, *rates, of_account])
        if verdict.refused is None:
            rates.append(of_account)
        elif verdict.refused <= len(rates) or not await self.store.has(f"{pair}:known"):
            raise _refusal(verdict)
        else:
            # Who has signed in from there before is not kept out by others' guesses from elsewhere.
            await self._take([of_pair, *rates])
        try:
            yield
        except NotAuthenticated:
            raise
        except BaseException:
            # Nothing was learned. The delay stays: it is taken back by a right password alone.
            await self._give_back(rates)
            raise
        await self._give_back(rates)
        await self.store.forget(of_pair.key)
        await self.store.mark(f"{pair}:known", ttl_s=_KNOWN_S)

    async def register(self, *, account: str, address: str) -> None:
        """Count somebody who wants an account."""
        key = f"{_PREFIX}:{_hash(account.strip().casefold())}:registers"
        await self._take(
            [
                _rate(key, REGISTRATIONS_OF_ACCOUNT, _REGISTRATION_PERIOD_S),
                *self._of_address(
                    "registers", address, REGISTRATIONS_OF_ADDRESS, _REGISTRATION_PERIOD_S
                ),
            ]
        )

    async def refresh(self, *, address: str) -> None:
        """Count the use of a refresh token."""
        await self._take(self._of_address("refreshes", address, REFRESHES_OF_ADDRESS, 60))

    async def look_up(self, *, address: str) -> None:
        """Count somebody who opens a link that holds a secret."""
        await self._take(self._of_address("looks", address, LOOK_UPS_OF_ADDRESS, 60))

    def _of_address(self, what: str, address: str, limit: int, period_s: float) -> list[Rate]:
        if self.spares_loopback and is_loopback(address):
            return []
        return [_rate(f"{_PREFIX}:{_network(address)}:{what}", limit, period_s)]

    async def _take(self, checks: Sequence[Check]) -> None:
        verdict = await self.store.take(checks)
        if verdict.refused is not None:
            raise _refusal(verdict)

    async def _give_back(self, rates: Sequence[Rate]) -> None:
        await self.store.take([replace(each, cost=-each.cost) for each in rates])


def _rate(key: str, limit: int, period_s: float) -> Rate:
    return Rate(key, limit, period_s, step_s=_STEP_S)


def _refusal(verdict: Verdict) -> RateLimited:
    return RateLimited(
        f"Too many attempts: try again in {in_words(verdict.wait_s)}.",
        retry_after_s=verdict.wait_s,
    )


def in_words(wait_s: float) -> str:
    """Return whole seconds, as `Retry-After` has them, or minutes; never less than the wait."""
    seconds = max(1, math.ceil(wait_s))
    if seconds > _MAX_SECONDS_IN_WORDS:
        return f"{math.ceil(seconds / 60)} minutes"
    return "1 second" if seconds == 1 else f"{seconds} seconds"


def _network(address: str) -> str:
    return _hash(network_of(address, v4_prefix=_V4_PREFIX))


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
