"""retrieve(): a question -> the chunks that answer it, best first."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from app.core.db import Database, TenantScope
from app.llm.base import EmbeddingProvider
from app.llm.embedder import Embedder
from app.models.spans import unflatten_spans
from app.retrieval.base import Candidate, RankedChunk
from app.retrieval.dense import search_dense
from app.retrieval.fulltext import search_fulltext
from app.retrieval.fusion import fuse
from app.retrieval.spaces import SpaceDirectory

CANDIDATES_PER_STAGE = 50
# Chosen by `bench.quality`. More weight for the vectors finds more pages of filings, less of it
# more passages of SQuAD.
WEIGHTS = {"dense": 1.1, "fulltext": 1.0}

# The file name is the one that goes with the chunks. What has expired is left out here, because the
# stages before see no documents' times: until the sweep deletes it, it only takes places.
_LOAD = """
    SELECT c.id, c.document_id, d.ready_filename AS filename, c.ordinal, c.text, c.spans, c.heading,
           -(e.embedding <#> $4::halfvec) AS similarity
    FROM chunks c
    JOIN documents d ON d.org_id = c.org_id AND d.id = c.document_id
        AND (d.expires_at IS NULL OR d.expires_at > now())
    LEFT JOIN chunk_embeddings e
        ON e.space_id = $3 AND e.org_id = c.org_id AND e.chunk_id = c.id
    WHERE c.org_id = $1 AND c.id = ANY ($2)
"""


@dataclass(frozen=True, slots=True)
class Retriever:
    """What retrieval stands on, and `retrieve()`."""

    db: Database
    embedder: Embedder
    embedding: EmbeddingProvider
    spaces: SpaceDirectory

    async def retrieve(
        self,
        scope: TenantScope,
        query: str,
        *,
        top_k: int,
        document_ids: Sequence[UUID] = (),
    ) -> list[RankedChunk]:
        """Return at most `top_k` chunks of the caller's documents, best first.

        No `document_ids` means all documents. No transaction is open while the query is embedded.
        Raises ProviderError when the query can't be embedded.
        """
        vector = await self.embedder.embed_query(scope.org_id, query)
        space = await self.spaces.find(self.embedding.name, self.embedding.model, len(vector))
        async with self.db.reading(scope) as driver:
            rankings: dict[str, list[Candidate]] = {}
            if space is not None:
                rankings["dense"] = await search_dense(
                    driver,
                    scope.org_id,
                    space_id=space.id,
                    has_hnsw=space.has_hnsw,
                    query=vector,
                    document_ids=document_ids or None,
                    limit=CANDIDATES_PER_STAGE,
                )
            rankings["fulltext"] = await search_fulltext(
                driver,
                scope.org_id,
                query=query,
                document_ids=document_ids or None,
                limit=CANDIDATES_PER_STAGE,
            )
            best = fuse(rankings, WEIGHTS)[:top_k]
            space_id = space.id if space else 0
            return await _load(driver, scope.org_id, best, query=vector, space_id=space_id)


async def _load(
    driver: asyncpg.Connection,
    org_id: UUID,
    ranking: Sequence[Candidate],
    *,
    query: NDArray[np.float32],
    space_id: int,
) -> list[RankedChunk]:
    chunk_ids = [candidate.chunk_id for candidate in ranking]
    rows = await driver.fetch(_LOAD, org_id, chunk_ids, space_id, query)
    by_id = {row["id"]: row for row in rows}
    chunks = []
    for candidate in ranking:
        row = by_id.get(candidate.chunk_id)
        if row is None:
            continue
        chunks.append(
            RankedChunk(
                chunk_id=row["id"],
                document_id=row["document_id"],
                filename=row["filename"],
                ordinal=row["ordinal"],
                text=row["text"],
                spans=unflatten_spans(row["spans"]),
                heading=row["heading"],
                score=candidate.score,
                similarity=row["similarity"],
            )
        )
    return chunks
