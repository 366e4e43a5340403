"""Chunks that have no vector in a space: find them, embed them, store the vectors.

What is embedded for a chunk is the same as when its document was ingested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import get_driver
from app.core.errors import ProviderError, ProviderErrorKind
from app.ingestion.base import Chunk
from app.ingestion.batches import CHUNKS_PER_BATCH
from app.ingestion.embedding import embedding_text
from app.ingestion.lease import Lease
from app.llm.base import FloatMatrix
from app.llm.embedder import Embedder
from app.llm.metering import UNMETERED, CallMeter
from app.models.spans import unflatten_spans

# An organization and the id of a chunk of its: where a look begins or ends.
Place = tuple[UUID, UUID]
FIRST: Place = (UUID(int=0), UUID(int=0))
_LAST: Place = (UUID(int=2**128 - 1), UUID(int=2**128 - 1))

_COLUMNS = """
    c.org_id, c.id, c.document_id, c.generation, c.ordinal, c.text, c.spans, c.heading,
    c.token_count
"""
_VISIBLE = """
    JOIN documents d ON d.org_id = c.org_id AND d.id = c.document_id
        AND d.generation = c.generation AND d.deleted_at IS NULL
"""
_LACKS = """
    NOT EXISTS (SELECT FROM chunk_embeddings e
                WHERE e.space_id = :space_id AND e.org_id = c.org_id AND e.chunk_id = c.id)
"""
# In the order of the primary key: with statistics from before the space was filled, the planner
# would rather join whole tables for every batch.
_IN_ORDER = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)
""")
# One look reads so many chunks at most, however few of them lack a vector.
_WINDOW = 5_000
_WINDOW_END = text("""
    SELECT c.org_id, c.id FROM chunks c
    WHERE (c.org_id, c.id) > (:after_org_id, :after_chunk_id)
    ORDER BY c.org_id, c.id OFFSET :window - 1 LIMIT 1
""")
_FIND_VISIBLE = text(f"""
    SELECT {_COLUMNS}, coalesce(d.title, '') AS title FROM chunks c {_VISIBLE}
    WHERE (c.org_id, c.id) > (:after_org_id, :after_chunk_id)
      AND (c.org_id, c.id) <= (:end_org_id, :end_chunk_id) AND {_LACKS}
    ORDER BY c.org_id, c.id LIMIT :limit
""")  # noqa: S608  # constants
_FIND_OF_DOCUMENT = text(f"""
    SELECT {_COLUMNS}, :title AS title FROM chunks c
    WHERE c.org_id = :org_id AND c.document_id = :document_id AND c.generation = :generation
      AND {_LACKS}
    ORDER BY c.ordinal LIMIT :limit
""")  # noqa: S608  # constants
_COUNT = text(f"""
    SELECT count(*) AS visible, count(*) FILTER (WHERE {_LACKS}) AS missing
    FROM chunks c {_VISIBLE}
""")  # noqa: S608  # constants
_COUNT_MISSING = text(f"""
    SELECT count(*) FROM chunks c {_VISIBLE} WHERE {_LACKS}
""")  # noqa: S608  # constants
_STAGING = text("""
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_vectors
        (org_id uuid, chunk_id uuid, document_id uuid, generation integer, embedding halfvec)
        ON COMMIT DELETE ROWS
""")
# A document whose row is locked is being published or deleted: the next look finds what became of
# it. The lock keeps what is found visible, so that no vector is left behind by a deletion.
_INSERT_VISIBLE = text("""
    WITH shown AS MATERIALIZED (
        SELECT d.org_id, d.id FROM documents d
        JOIN (SELECT DISTINCT org_id, document_id, generation FROM staged_vectors) s
            ON d.org_id = s.org_id AND d.id = s.document_id AND d.generation = s.generation
        WHERE d.deleted_at IS NULL
        FOR SHARE OF d SKIP LOCKED)
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space_id, s.org_id, s.chunk_id, s.document_id, s.generation, s.embedding
    FROM staged_vectors s JOIN shown ON shown.org_id = s.org_id AND shown.id = s.document_id
    ON CONFLICT DO NOTHING
""")
_INSERT_HELD = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space_id, org_id, chunk_id, document_id, generation, embedding FROM staged_vectors
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class KeptSpace:
    """A space that documents get vectors in."""

    id: int
    provider: str
    model: str
    dimensions: int

    @property
    def model_id(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many chunks readers see, and how many of them have a vector in a space."""

    visible: int
    embedded: int


Missing = Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class Look:
    """Chunks without a vector, and where to look on: None when there are no more chunks."""

    missing: Missing
    after: Place | None


async def find_missing(
    session: AsyncSession, space_id: int, *, after: Place, window: int = _WINDOW
) -> Look:
    """Return the next visible chunks without a vector in a space, one batch at most.

    Needs a system transaction, whose further plans it spoils.
    """
    await session.execute(_IN_ORDER)
    values = {"after_org_id": after[0], "after_chunk_id": after[1]}
    end = (await session.execute(_WINDOW_END, {**values, "window": window})).one_or_none()
    end_org_id, end_chunk_id = end or _LAST
    limits = {"end_org_id": end_org_id, "end_chunk_id": end_chunk_id, "limit": CHUNKS_PER_BATCH}
    missing = (
        await session.execute(_FIND_VISIBLE, {**values, **limits, "space_id": space_id})
    ).all()
    if len(missing) == CHUNKS_PER_BATCH:
        return Look(missing, (missing[-1].org_id, missing[-1].id))
    return Look(missing, (end.org_id, end.id) if end else None)


async def find_missing_of(
    session: AsyncSession, lease: Lease, space_id: int, *, title: str
) -> Missing:
    """Return the next chunks without a vector in the generation that is in the making."""
    found = await session.execute(
        _FIND_OF_DOCUMENT,
        {
            "org_id": lease.org_id,
            "document_id": lease.document_id,
            "generation": lease.generation + 1,
            "space_id": space_id,
            "title": title,
            "limit": CHUNKS_PER_BATCH,
        },
    )
    return found.all()


async def measure_progress(session: AsyncSession, space_id: int) -> Progress:
    """Count exactly; about 1 s for a million chunks. Needs a system transaction."""
    row = (await session.execute(_COUNT, {"space_id": space_id})).one()
    return Progress(row.visible, row.visible - row.missing)


async def count_missing(session: AsyncSession, space_id: int) -> int:
    """Return how many visible chunks have no vector in a space. Needs a system transaction."""
    count: int = await session.scalar(_COUNT_MISSING, {"space_id": space_id})
    return count


async def embed_missing(
    missing: Missing, space: KeptSpace, embedder: Embedder, meter: CallMeter = UNMETERED
) -> FloatMatrix:
    """Return a vector for each. Raises ProviderError, also for vectors of another width.

    Without a `meter` it is the deployment's own doing, for several organizations at once.
    """
    texts = [embedding_text(_chunk(row), title=row.title) for row in missing]
    vectors = await embedder.embed_documents(texts, meter)
    check_dimensions(vectors, space)
    return vectors


def check_dimensions(vectors: FloatMatrix, space: KeptSpace) -> None:
    """Raise ProviderError (PROTOCOL) when vectors are not as wide as those of the space."""
    if vectors.shape[-1] != space.dimensions:
        raise ProviderError(
            f"The model {space.model_id} sent vectors of {vectors.shape[-1]} dimensions, "
            f"and its space has {space.dimensions}.",
            kind=ProviderErrorKind.PROTOCOL,
            provider=space.provider,
        )


async def insert_vectors(
    session: AsyncSession, space_id: int, missing: Missing, vectors: FloatMatrix, *, is_held: bool
) -> int:
    """Store vectors of chunks. Returns how many are new.

    `is_held`: the caller holds the lease on their one document. Otherwise only what readers see at
    the moment is stored.
    """
    # On the session: the transaction begins with its first statement, and not with a COPY.
    await session.execute(_STAGING)
    connection = await get_driver(session)
    records = [
        (row.org_id, row.id, row.document_id, row.generation, vector)
        for row, vector in zip(missing, vectors, strict=True)
    ]
    await connection.copy_records_to_table("staged_vectors", records=records)
    inserted = await session.execute(
        _INSERT_HELD if is_held else _INSERT_VISIBLE, {"space_id": space_id}
    )
    count: int = inserted.rowcount  # type: ignore[attr-defined]  # an INSERT has a rowcount
    return count


def _chunk(row: Row[Any]) -> Chunk:
    return Chunk(row.ordinal, row.text, unflatten_spans(row.spans), row.heading, row.token_count)
