"""Keeps what was loaded for some seconds: how long a change may go unnoticed."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TimedCache(Generic[K, V]):
    """Holds a value for `ttl_s` and `max_entries` at most; the one stored first goes first.

    Belongs to one event loop. `now` counts seconds and never goes back.
    """

    def __init__(
        self, ttl_s: float, *, max_entries: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._now = now
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        # How often anything was forgotten: what was being loaded before is of an older time.
        self.changes = 0

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Return the value, loaded now where there is none that is fresh.

        Raises what `load` raises, and keeps what it had. Callers that come at the same time each
        load. What is forgotten meanwhile is returned, and not stored.
        """
        entry = self._entries.get(key)
        if entry is not None and entry[0] > self._now():
            return entry[1]
        changes = self.changes
        value = await load()
        if changes == self.changes:
            self._store(key, value)
        return value

    def recall(self, key: K) -> V | None:
        """Return what was loaded last, however old; None where nothing is kept."""
        entry = self._entries.get(key)
        return None if entry is None else entry[1]

    def forget(self, key: K) -> None:
        """Load anew: it was changed. Call it after the change is committed."""
        self.changes += 1
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Load everything anew."""
        self.changes += 1
        self._entries.clear()

    def _store(self, key: K, value: V) -> None:
        self._entries.pop(key, None)
        if len(self._entries) >= self._max_entries:
            self._entries.popitem(last=False)
        self._entries[key] = (self._now() + self._ttl_s, value)
