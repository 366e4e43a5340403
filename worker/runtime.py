"""Per worker process: one event loop and one Resources, made after the fork."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from app.config import Settings
from app.resources import Resources, open_resources

T = TypeVar("T")


class Runtime:
    """Connections belong to the loop that made them: all tasks of a process run on one loop."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.resources: Resources = self.run(
            self._stack.enter_async_context(open_resources(settings))
        )

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


_process: list[Runtime] = []


def open_runtime(settings: Settings) -> None:
    _process.append(Runtime(settings))


def get_runtime() -> Runtime:
    """Return this process's runtime. Raises IndexError outside a worker process."""
    return _process[0]


def close_runtime() -> None:
    while _process:
        _process.pop().close()
