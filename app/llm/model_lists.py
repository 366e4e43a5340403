"""What a provider lists, asked seldom and never for long."""

import asyncio

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import LLMProvider

PROBE_TIMEOUT_S = 1.0
# How long the very first look may go on behind those who do not wait for it.
FIRST_LOOK_S = 5.0
FRESH_S = 30.0
# Up to this age an old list is used at once while a new one is fetched behind it.
USABLE_S = 300.0

_NO_ANSWER = frozenset(
    {ProviderErrorKind.UNREACHABLE, ProviderErrorKind.TIMEOUT, ProviderErrorKind.OVERLOADED}
)


class ModelList:
    """The models of one provider, cached, with the state of the last look.

    `state` is "ok", "unconfigured" (no usable key), "unreachable", or "unknown" before the first.
    A server that is there and does not list its models now keeps those that it had.
    """

    def __init__(self, provider: LLMProvider) -> None:
        self.state = "unknown"
        self.was_reachable = False
        self._provider = provider
        self._names: tuple[str, ...] = ()
        self._looked_at = 0.0
        self._has_looked = False
        self._look: asyncio.Task[None] | None = None

    async def names(self) -> tuple[str, ...]:
        """Return the model ids, () if the provider does not answer. Waits 1 s at most."""
        age_s = asyncio.get_running_loop().time() - self._looked_at
        if self.state != "unknown" and age_s < FRESH_S:
            return self._names
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._refresh())
        # A failure is never used past its time: the server may just have been started.
        if self.state != "ok" or age_s > USABLE_S:
            # Others may wait for the same look.
            await asyncio.wait([self._look], timeout=PROBE_TIMEOUT_S)
            if self._look.done():
                self._look.result()
            else:
                self._take((), "unreachable")
        return self._names

    async def first_names(self) -> tuple[str, ...]:
        """Return the model ids. Waits 5 s at most while the provider was never looked at."""
        names = await self.names()
        if not self._has_looked and self._look is not None:
            await asyncio.wait([self._look], timeout=FIRST_LOOK_S)
            return self._names
        return names

    async def aclose(self) -> None:
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    async def _refresh(self) -> None:
        patience_s = PROBE_TIMEOUT_S if self._has_looked else FIRST_LOOK_S
        try:
            async with asyncio.timeout(patience_s):
                names = tuple(await self._provider.list_models())
            state = "ok"
        except TimeoutError:
            names, state = (), "unreachable"
        except ProviderError as error:
            state = _state_of(error.kind)
            names = self._names if state == "ok" else ()
        self._has_looked = True
        self._take(names, state)

    def _take(self, names: tuple[str, ...], state: str) -> None:
        self._names, self.state = names, state
        self.was_reachable = self.was_reachable or state == "ok"
        self._looked_at = asyncio.get_running_loop().time()


def _state_of(kind: ProviderErrorKind) -> str:
    if kind in _NO_ANSWER:
        return "unreachable"
    # Any other answer, such as a 404 from a server that lists no models, shows that it is there.
    return "unconfigured" if kind is ProviderErrorKind.AUTH else "ok"
