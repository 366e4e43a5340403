"""Which embedding space answers questions. What the database says is live, not a setting.

A question's vector and the space that it is compared in always belong together.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import Database, TenantScope
from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.embedder import Embedder
from app.llm.embedders import Embedders
from app.llm.metering import UNMETERED, CallMeter
from app.models.embeddings import HAS_HNSW

log = structlog.get_logger(__name__)

_LIVE = text(f"""
    SELECT s.id, s.provider, s.model, s.dimensions, {HAS_HNSW} AS has_hnsw
    FROM embedding_rollout r JOIN embedding_spaces s ON s.id = r.live_id
""")  # noqa: S608  # constants
# After a switch a process asks the space that was live before for so long. It is complete, and
# kept for longer than this.
_TTL_S = 2.0
# And for so long where it can't be looked up. A switched-off space is kept for 60 s at least
# (`rollout.SETTLE_S`), of which embedding a question may take 30.
_TRUST_S = 20.0
# How long a question waits for the look-up when it could do with what is known.
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Space:
    """The live space. Vectors of other models or widths are no part of it."""

    id: int
    provider: str
    model: str
    dimensions: int
    has_hnsw: bool

    @property
    def model_id(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class QueryVector:
    """A question's unit vector, and the space that it belongs to: None while that is empty."""

    vector: NDArray[np.float32]
    space: Space | None


# Of a question that could not be embedded: no space is searched for it.
NO_VECTOR = QueryVector(np.zeros(1, dtype=np.float32), None)


class SpaceDirectory:
    """Knows the live space, and embeds questions with its model. Belongs to one event loop."""

    def __init__(
        self,
        db: Database,
        embedders: Embedders,
        *,
        ttl_s: float = _TTL_S,
        trust_s: float = _TRUST_S,
    ) -> None:
        self._db = db
        self._embedders = embedders
        self._ttl_s = ttl_s
        self._trust_s = trust_s
        self._looking = asyncio.Lock()
        self._live: Space | None = None
        self._fresh_until = 0.0
        self._trusted_until = 0.0

    async def embed_queries(
        self, scope: TenantScope, queries: Sequence[str], meter: CallMeter = UNMETERED
    ) -> list[QueryVector]:
        """Embed queries in the live space, in order. Holds no connection meanwhile.

        Raises ProviderError, also when the live model can't be opened with these settings (AUTH)
        and when it gives vectors that are not as wide as those of its space (PROTOCOL).
        """
        space = await self.find_live()
        vectors = await self.get_embedder(space).embed_queries(scope.org_id, queries, meter)
        for vector in vectors:
            if space is not None and len(vector) != space.dimensions:
                raise ProviderError(
                    f"The embedding model {space.model_id} sent {len(vector)} dimensions, "
                    f"and its space has {space.dimensions}.",
                    kind=ProviderErrorKind.PROTOCOL,
                    provider=space.provider,
                )
        return [QueryVector(vector, space) for vector in vectors]

    async def find_live(self) -> Space | None:
        """Return the live space, None before the first document. Asks every 2 s.

        While the database does not answer, what it said in the last 20 s; then raises its error.
        """
        if self._is_fresh() or (self._looking.locked() and self._is_trusted()):
            return self._live
        async with self._looking:
            if not self._is_fresh():
                await self._refresh()
        return self._live

    def get_embedder(self, space: Space | None) -> Embedder:
        """Return that of a space's model; for None that of the configured one.

        Raises ProviderError when it can't be opened with these settings.
        """
        if space is None:
            configured = self._embedders.configured
            return self._embedders.get(configured.name, configured.model)
        return self._embedders.get(space.provider, space.model)

    async def check(self) -> Embedder | None:
        """Compare the live model with EMBEDDING_MODEL, for the log. None when it can't be opened.

        Raises what the database raises.
        """
        space = await self.find_live()
        configured = f"{self._embedders.configured.name}/{self._embedders.configured.model}"
        if space is not None and space.model_id != configured:
            log.warning(
                "embedding_model_differs",
                live=space.model_id,
                configured=configured,
                remedy=describe_difference(space.model_id, configured),
            )
        try:
            return self.get_embedder(space)
        except ProviderError as error:
            log.error("live_embedding_model_unusable", reason=error.message)
            return None

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._fresh_until

    def _is_trusted(self) -> bool:
        return self._live is not None and time.monotonic() < self._trusted_until

    async def _refresh(self) -> None:
        asked_at = time.monotonic()
        is_trusted = self._is_trusted()
        try:
            async with asyncio.timeout(_PATIENCE_S if is_trusted else None):
                self._live = await self._look_up()
        except (SQLAlchemyError, OSError) as error:  # a TimeoutError is an OSError
            if not is_trusted:
                raise
            log.warning("live_space_not_looked_up", error=type(error).__name__)
        else:
            self._trusted_until = asked_at + self._trust_s
        # Where nothing is yet, the first document must be found as soon as it is ready.
        self._fresh_until = time.monotonic() + (self._ttl_s if self._live else 0.0)

    async def _look_up(self) -> Space | None:
        async with self._db.system_transaction() as session:
            row = (await session.execute(_LIVE)).one_or_none()
        if row is None:
            return None
        return Space(row.id, row.provider, row.model, row.dimensions, row.has_hnsw)


def describe_difference(live: str, configured: str) -> str:
    """Return what to do about an EMBEDDING_MODEL that is not the live one."""
    return (
        f"documents are embedded with {live}, which stays in use: to change over without a pause "
        f"run `python -m app reembed start {configured}`, else set EMBEDDING_MODEL={live}"
    )
