"""Lets callers that want the same things at the same time share one piece of work."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    keys: list[str]
    task: asyncio.Task[Mapping[str, T]]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Runs work by key. Belongs to one event loop."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def is_under_way(self, key: str) -> bool:
        """Tell whether who asks now would share work that has begun."""
        return key in self._flights

    async def run(self, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the work under one key; see `run_all`."""

        async def work_alone(_keys: list[str]) -> dict[str, T]:
            return {key: await work()}

        return (await self.run_all([key], work_alone))[key]

    async def run_all(
        self,
        keys: Iterable[str],
        work: Callable[[list[str]], Coroutine[Any, Any, Mapping[str, T]]],
    ) -> dict[str, T]:
        """Return the results by key, or raise the error of the work for any of them.

        `work` is asked once for all keys that nobody is at work on. A caller that is cancelled
        leaves the others alone; the last one takes the work with it.
        """
        wanted = list(dict.fromkeys(keys))
        new = [key for key in wanted if key not in self._flights]
        if new:
            self._start(new, work)
        flights = {key: self._flights[key] for key in wanted}
        joined = set(flights.values())
        for flight in joined:
            flight.waiting += 1
        try:
            # Not `await task`: that would hand this caller's cancellation to everybody.
            return {
                key: (await asyncio.shield(flight.task))[key] for key, flight in flights.items()
            }
        finally:
            for flight in joined:
                self._leave(flight)

    def _start(
        self, keys: list[str], work: Callable[[list[str]], Coroutine[Any, Any, Mapping[str, T]]]
    ) -> None:
        flight = _Flight(keys, asyncio.create_task(work(keys)))
        self._flights.update(dict.fromkeys(keys, flight))
        flight.task.add_done_callback(lambda _: self._land(flight))

    def _leave(self, flight: _Flight[T]) -> None:
        flight.waiting -= 1
        if not flight.waiting and not flight.task.done():
            # Gone at once: who asks next must not join work that is being cancelled.
            self._forget(flight)
            flight.task.cancel()

    def _land(self, flight: _Flight[T]) -> None:
        self._forget(flight)
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as seen when nobody waits any more

    def _forget(self, flight: _Flight[T]) -> None:
        for key in flight.keys:
            if self._flights.get(key) is flight:
                del self._flights[key]
