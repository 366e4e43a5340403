"""Holds a model to one width of vectors, over processes and restarts."""

import asyncio
import time
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.redis import REDIS_ERRORS, REDIS_TIMEOUT_S
from app.llm.base import EmbeddingProvider, FloatMatrix, Purpose

log = structlog.get_logger()

TTL_S = 24 * 3600
# How often to ask Redis while the width is not known.
LOOK_INTERVAL_S = 10.0
# So many in a row, and the model itself may have changed: the next two that agree are believed.
MISMATCHES_TO_FORGET = 3


class SteadyEmbedding:
    """Calls a provider, and refuses vectors that are not as wide as this model's always are.

    A width is believed when two answers agree, and then shared through Redis. Believing the first
    would be enough to store a bad batch and to refuse the right ones for the life of the process.
    With `redis` None there is nothing to share, and the first is believed.
    """

    def __init__(self, provider: EmbeddingProvider, redis: Redis | None) -> None:
        self._provider = provider
        self._redis = redis
        self._key = dimensions_key(provider.name, provider.model)
        self._dimensions: int | None = None
        self._mismatches = 0
        self._next_look_at = 0.0
        self._looking = asyncio.Lock()

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        """See EmbeddingProvider.

        Embeds the first text a second time as long as the width of documents is not known.
        """
        matrix = await self._provider.embed(texts, purpose=purpose)
        dimensions = matrix.shape[1]
        known = await self.find_dimensions()
        if known is None and purpose is Purpose.DOCUMENT:
            await self._settle(texts[0], dimensions)
        elif known is not None:
            await self._compare(dimensions, known)
        return matrix

    async def find_dimensions(self) -> int | None:
        """Return the width of the model's vectors, or None while no process knows it."""
        if self._dimensions is None:
            # Who comes while another looks must not go on as if nothing were known.
            async with self._looking:
                return self._dimensions or await self._look_up()
        return self._dimensions

    async def _settle(self, text: str, dimensions: int) -> None:
        if self._redis is not None:
            again = await self._provider.embed([text], purpose=Purpose.DOCUMENT)
            if again.shape[1] != dimensions:
                raise self._error(again.shape[1], dimensions)
            await self._share(dimensions)
        self._dimensions = dimensions

    async def _compare(self, dimensions: int, known: int) -> None:
        if dimensions == known:
            self._mismatches = 0
            return
        self._mismatches += 1
        if self._mismatches >= MISMATCHES_TO_FORGET:
            self._dimensions, self._mismatches = None, 0
            await self._share(None)
        raise self._error(dimensions, known)

    async def _look_up(self) -> int | None:
        if self._redis is None or time.monotonic() < self._next_look_at:
            return None
        self._next_look_at = time.monotonic() + LOOK_INTERVAL_S
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                value = await self._redis.get(self._key)
            self._dimensions = int(value) if value else None
        except (*REDIS_ERRORS, ValueError) as error:
            log.warning("dimensions_not_looked_up", error=type(error).__name__)
        return self._dimensions

    async def _share(self, dimensions: int | None) -> None:
        """Tell the other processes the width, or to forget it."""
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(REDIS_TIMEOUT_S):
                if dimensions is None:
                    await self._redis.delete(self._key)
                else:
                    await self._redis.set(self._key, dimensions, ex=TTL_S)
        except REDIS_ERRORS as error:
            log.warning("dimensions_not_shared", error=type(error).__name__)

    def _error(self, dimensions: int, expected: int) -> ProviderError:
        name = self._provider.name
        return ProviderError(
            f"The model provider {name} sent vectors of {dimensions} dimensions, not {expected}.",
            kind=ProviderErrorKind.PROTOCOL,
            provider=name,
        )


def dimensions_key(provider: str, model: str) -> str:
    return f"v1:dimensions:{provider}/{model}"
