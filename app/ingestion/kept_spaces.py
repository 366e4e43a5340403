"""The spaces that a new document gets vectors in: the live one, and the one that stands beside it.

A document is embedded with the model that was live when it was begun. Before it is published,
what the kept spaces lack is added: the live space may be another one by then.
"""

from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.errors import BudgetExceeded, ProviderError, RateLimited
from app.ingestion.checkpoints import CheckpointStale
from app.ingestion.lease import Lease, hold
from app.ingestion.rollout import Rollout, adopt_space, find_rollout, hold_space
from app.ingestion.vectors import (
    KeptSpace,
    check_dimensions,
    embed_missing,
    find_missing_of,
    insert_vectors,
)
from app.llm.base import EmbeddingProvider, FloatMatrix
from app.llm.embedder import Embedder
from app.llm.embedders import Embedders
from app.llm.metering import UNMETERED, CallMeter

log = structlog.get_logger(__name__)

_HOLD_LIVE_VECTORS = text("SELECT hold_live_vectors(:org_id, :document_id, :generation)")


@dataclass(frozen=True, slots=True)
class KeptSpaces:
    """The deployment's spaces, as the database has them at the moment."""

    db: Database
    embedders: Embedders

    async def get_embedder(self) -> Embedder:
        """Return that of the live model, before the first document that of the configured one.

        Raises ProviderError when it can't be opened here.
        """
        rollout = await self._find_rollout()
        if rollout is None:
            configured = self.embedders.configured
            return self.embedders.get(configured.name, configured.model)
        return self.embedders.get(rollout.live.provider, rollout.live.model)

    async def find_space_of(self, embedding: EmbeddingProvider, vectors: FloatMatrix) -> int | None:
        """Return the kept space that a model's vectors belong to; None if it is kept no longer.

        The first vectors of all make theirs live. Raises ProviderError for another width.
        """
        rollout = await self._find_rollout() or await self._adopt(embedding, vectors)
        for space in (rollout.live, rollout.beside):
            if space and (space.provider, space.model) == (embedding.name, embedding.model):
                check_dimensions(vectors, space)
                return space.id
        return None

    async def complete(self, lease: Lease, *, title: str, meter: CallMeter = UNMETERED) -> None:
        """Add the vectors that the generation in the making lacks in the kept spaces.

        Raises LeaseLost, and ProviderError for the live space. Another model that is away holds up
        no document: the filler adds its vectors later. Raises CheckpointStale where no space is
        live: then the vectors are from before there was such a thing.
        """
        rollout = await self._find_rollout()
        if rollout is None:
            raise CheckpointStale
        await self._complete_in(lease, rollout.live, meter, title=title, is_live=True)
        if rollout.beside is None or not rollout.is_beside_filled:
            return
        try:
            await self._complete_in(lease, rollout.beside, meter, title=title, is_live=False)
        except (ProviderError, BudgetExceeded, RateLimited) as error:
            log.warning("vectors_left_to_filler", space_id=rollout.beside.id, code=error.code)

    async def _complete_in(
        self, lease: Lease, space: KeptSpace, meter: CallMeter, *, title: str, is_live: bool
    ) -> None:
        """Stops early when the space is kept no longer."""
        is_kept = True
        while is_kept:
            async with self.db.transaction(lease) as session:
                missing = await find_missing_of(session, lease, space.id, title=title)
            if not missing:
                return
            get = self.embedders.get if is_live else self.embedders.get_filler
            embedder = get(space.provider, space.model)
            vectors = await embed_missing(missing, space, embedder, meter)
            async with self.db.transaction(lease) as session:
                await hold(session, lease)
                is_kept = await hold_space(session, space.id)
                if is_kept:
                    await insert_vectors(session, space.id, missing, vectors, is_held=True)

    async def _find_rollout(self) -> Rollout | None:
        async with self.db.system_transaction() as session:
            return await find_rollout(session)

    async def _adopt(self, embedding: EmbeddingProvider, vectors: FloatMatrix) -> Rollout:
        async with self.db.system_transaction() as session:
            return await adopt_space(
                session,
                provider=embedding.name,
                model=embedding.model,
                dimensions=vectors.shape[1],
            )


async def hold_live_vectors(session: AsyncSession, lease: Lease) -> bool:
    """Say whether the generation in the making has all its vectors in the live space.

    That space stays live to the transaction's end, so that what is published in it is complete.
    What the space beside it lacks is left to the filler.
    """
    values = {"org_id": lease.org_id, "document_id": lease.document_id}
    return bool(
        await session.scalar(_HOLD_LIVE_VECTORS, {**values, "generation": lease.generation + 1})
    )
