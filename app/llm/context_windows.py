"""How many tokens a model takes, prompt and answer together: from its server, or from a table."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.core.errors import ProviderError

T = TypeVar("T")

# For a model of which nothing is known: what even small ones take.
DEFAULT_CONTEXT_WINDOW = 8_192

# How long a question waits for a server to tell, and how long the server may take for the next one.
WAIT_S = 1.0
LOOK_TIMEOUT_S = 10.0
FRESH_S = 300.0
# A server that did not tell may just have been starting.
RETRY_S = 30.0
# Requests name the models, so that there may be any number of them.
_MAX_KEYS = 256

# As OpenAI published them up to November 2026; the longest prefix counts. Where sources differ, the
# smaller number: too small a window costs some history, too large a one the answer.
_OPENAI_WINDOWS = {
    "gpt-3.5-turbo": 16_385,
    "gpt-4": 8_192,
    "gpt-4-32k": 32_768,
    "gpt-4-0125": 128_000,
    "gpt-4-1106": 128_000,
    "gpt-4-turbo": 128_000,
    "gpt-4o": 128_000,
    "chatgpt-4o": 128_000,
    "gpt-4.1": 1_047_576,
    "gpt-4.5": 128_000,
    "gpt-5": 400_000,
    "gpt-5-chat": 128_000,
    "gpt-5.1-chat": 128_000,
    "gpt-5.2-chat": 128_000,
    "gpt-5.3-chat": 128_000,
    "gpt-5.4": 1_050_000,
    "gpt-5.4-mini": 400_000,
    "gpt-5.4-nano": 400_000,
    "gpt-5.5": 1_050_000,
    "gpt-5.5-mini": 400_000,
    "gpt-5.6": 1_050_000,
    "gpt-5.6-luna": 400_000,
    "gpt-oss": 131_072,
    "o1": 200_000,
    "o1-mini": 128_000,
    "o1-preview": 128_000,
    "o3": 200_000,
    "o4": 200_000,
}

# vLLM, OpenRouter and Together, Groq, Mistral; llama.cpp has its two in `meta`.
_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
# What the server was started with counts before what the model was trained with.
_META_FIELDS = ("n_ctx", "n_ctx_train")


def find_published_window(model: str) -> int | None:
    """Return what OpenAI published for a model, by its name; also for fine-tuned ones."""
    name = model.rpartition("/")[2].removeprefix("ft:")
    prefixes = [prefix for prefix in _OPENAI_WINDOWS if name.startswith(prefix)]
    return _OPENAI_WINDOWS[max(prefixes, key=len)] if prefixes else None


def read_listed_windows(models: object) -> dict[str, int]:
    """Return the windows in the `data` of a `/models` answer, by model id and alias.

    Raises TypeError unless it is a list.
    """
    if not isinstance(models, list):
        raise TypeError("no list of models")
    windows: dict[str, int] = {}
    for model in models:
        if isinstance(model, Mapping) and (window := _listed_window(model)):
            aliases = model.get("aliases")
            for name in (model.get("id"), *(aliases if isinstance(aliases, list) else ())):
                windows[str(name)] = window
    return windows


def _listed_window(model: Mapping[str, Any]) -> int | None:
    meta = model.get("meta")
    found = [model.get(field) for field in _FIELDS]
    if isinstance(meta, Mapping):
        found += [meta.get(field) for field in _META_FIELDS]
    return next(filter(None, map(token_count, found)), None)


def token_count(value: object) -> int | None:
    """Return a positive whole number out of someone's JSON, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None


@dataclass(frozen=True, slots=True)
class _Known(Generic[T]):
    value: T | None
    stale_at: float


class Remembered(Generic[T]):
    """What a server says under a key, asked seldom and never waited for longer than `WAIT_S`.

    An answer is used for `fresh_s`; `ask` may raise ProviderError. Belongs to one event loop.
    """

    def __init__(self, ask: Callable[[str], Awaitable[T]], *, fresh_s: float = FRESH_S) -> None:
        self._ask = ask
        self._fresh_s = fresh_s
        self._known: dict[str, _Known[T]] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    def peek(self, key: str) -> T | None:
        """Return what is remembered, however old."""
        known = self._known.get(key)
        return known.value if known else None

    async def get(self, key: str) -> T | None:
        """Return what the server says; None while it does not. Never raises.

        An old value is returned at once while a new one is fetched behind it.
        """
        known = self._known.get(key)
        now = asyncio.get_running_loop().time()
        if known is None or now >= known.stale_at:
            look = self._looks.get(key)
            if look is None:
                look = self._looks[key] = asyncio.create_task(self._look(key))
                look.add_done_callback(lambda _: self._looks.pop(key, None))
            if known is None or known.value is None:
                # Not cancelled when the time is over: a slow server's answer serves the next one.
                await asyncio.wait({look}, timeout=WAIT_S)
                if not look.done():
                    self._remember(key, None, RETRY_S)
        return self.peek(key)

    async def aclose(self) -> None:
        """End the looks that are under way."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        if looks:
            await asyncio.wait(looks)

    async def _look(self, key: str) -> None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                value = await self._ask(key)
        except (ProviderError, TimeoutError):
            self._remember(key, self.peek(key), RETRY_S)
        else:
            self._remember(key, value, self._fresh_s)

    def _remember(self, key: str, value: T | None, fresh_s: float) -> None:
        self._known.pop(key, None)
        while len(self._known) >= _MAX_KEYS:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(value, asyncio.get_running_loop().time() + fresh_s)
