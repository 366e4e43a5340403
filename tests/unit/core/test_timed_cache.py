"""A cache by time: what is fresh, what is recalled, what is forgotten while it is loaded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.core.timed_cache import TimedCache


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> TimedCache[str, str | None]:
    return TimedCache(5.0, max_entries=3, now=clock)


class Gate:
    """A load that waits until it is let through."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def load(self) -> str:
        self.has_begun.set()
        await self.may_end.wait()
        return "old"


def loading(value: str | None) -> Callable[[], Awaitable[str | None]]:
    async def load() -> str | None:
        return value

    return load


async def never() -> str:
    raise AssertionError("it was loaded though it is fresh")


async def test_a_value_is_loaded_once_until_its_time_is_over(
    cache: TimedCache[str, str | None], clock: Clock
) -> None:
    assert await cache.get("a", loading("one")) == "one"
    clock.now_s += 4.9
    assert await cache.get("a", never) == "one"
    clock.now_s += 0.1
    assert await cache.get("a", loading("two")) == "two"
    clock.now_s += 4.9
    assert await cache.get("a", never) == "two"


async def test_that_there_is_nothing_is_kept_too(cache: TimedCache[str, str | None]) -> None:
    assert await cache.get("a", loading(None)) is None
    assert await cache.get("a", never) is None


async def test_a_load_that_fails_leaves_what_was_there(
    cache: TimedCache[str, str | None], clock: Clock
) -> None:
    async def fail() -> str:
        raise OSError

    with pytest.raises(OSError):
        await cache.get("a", fail)
    assert cache.recall("a") is None
    await cache.get("a", loading("one"))
    clock.now_s += 60
    with pytest.raises(OSError):
        await cache.get("a", fail)
    assert cache.recall("a") == "one"


async def test_forgetting_one_keeps_the_others(cache: TimedCache[str, str | None]) -> None:
    for key in ("a", "b"):
        await cache.get(key, loading(key))
    cache.forget("a")
    assert cache.recall("a") is None
    assert await cache.get("b", never) == "b"
    assert await cache.get("a", loading("new")) == "new"


async def test_clearing_forgets_all(cache: TimedCache[str, str | None]) -> None:
    for key in ("a", "b"):
        await cache.get(key, loading(key))
    cache.clear()
    assert [cache.recall(key) for key in ("a", "b")] == [None, None]


@pytest.mark.parametrize("how", ["forget", "clear"])
async def test_what_was_being_loaded_before_it_was_forgotten_is_not_stored(
    cache: TimedCache[str, str | None], how: str
) -> None:
    gate = Gate()
    asking = asyncio.create_task(cache.get("a", gate.load))
    await gate.has_begun.wait()
    if how == "forget":
        cache.forget("a")
    else:
        cache.clear()
    gate.may_end.set()
    assert await asking == "old"
    assert cache.recall("a") is None
    assert await cache.get("a", loading("new")) == "new"


async def test_what_was_loaded_after_it_was_forgotten_outlives_an_older_load(
    cache: TimedCache[str, str | None],
) -> None:
    gate = Gate()
    asking = asyncio.create_task(cache.get("a", gate.load))
    await gate.has_begun.wait()
    cache.forget("a")
    await cache.get("a", loading("new"))
    gate.may_end.set()
    await asking
    assert await cache.get("a", never) == "new"


async def test_when_it_is_full_the_one_stored_first_goes(
    cache: TimedCache[str, str | None],
) -> None:
    for key in ("a", "b", "c", "d"):
        await cache.get(key, loading(key))
    assert [cache.recall(key) for key in ("a", "b", "c", "d")] == [None, "b", "c", "d"]


async def test_to_load_one_again_pushes_no_other_out(
    cache: TimedCache[str, str | None], clock: Clock
) -> None:
    for key in ("a", "b", "c"):
        await cache.get(key, loading(key))
    clock.now_s += 5.0
    await cache.get("a", loading("again"))
    assert [cache.recall(key) for key in ("a", "b", "c")] == ["again", "b", "c"]
    await cache.get("d", loading("d"))
    assert [cache.recall(key) for key in ("a", "b", "c", "d")] == ["again", None, "c", "d"]
