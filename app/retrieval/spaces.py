"""Embedding spaces: which vectors may be compared, and which of them have an index."""

import time
from dataclasses import dataclass

from sqlalchemy import text

from app.core.db import Database

_FIND = text("""
    SELECT s.id, EXISTS (
        SELECT FROM pg_index i
        WHERE i.indexrelid = to_regclass(format('chunk_embeddings_%s_hnsw', s.id))
          AND i.indisvalid) AS has_hnsw
    FROM embedding_spaces s
    WHERE s.provider = :provider AND s.model = :model AND s.dimensions = :dimensions
""")
_TTL_S = 60.0


@dataclass(frozen=True, slots=True)
class Space:
    id: int
    has_hnsw: bool


class SpaceDirectory:
    """Looks spaces up, and believes what it found for a minute."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._cache: dict[tuple[str, str, int], tuple[float, Space]] = {}

    async def find(self, provider: str, model: str, dimensions: int) -> Space | None:
        """Return the space, or None while nothing has been embedded in it."""
        key = (provider, model, dimensions)
        cached = self._cache.get(key)
        if cached and cached[0] > time.monotonic():
            return cached[1]
        async with self._db.system_transaction() as session:
            row = (
                await session.execute(
                    _FIND, {"provider": provider, "model": model, "dimensions": dimensions}
                )
            ).one_or_none()
        if row is None:
            return None
        space = Space(row.id, row.has_hnsw)
        self._cache[key] = (time.monotonic() + _TTL_S, space)
        return space
