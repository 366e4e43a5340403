"""Measures how much of the right answers the vector search finds, on what is stored.

Any number of processes may try: one measures. Questions are blends of two stored vectors of an
organization, as a question resembles several passages and is none.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg
import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import text

from app.core.db import Database
from app.core.periodic import run_periodically
from app.models.documents import EXACT_SCAN_MAX_CHUNKS
from app.models.embeddings import HAS_HNSW
from app.retrieval.dense import Nearest, Plan, search_dense

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 60.0
K = 10
# The most that retrieval asks for: 30 as a rule, more for a larger `top_k`, which ends at 50.
_LIMIT = 50
_ORGANIZATIONS = 5
_QUERIES_EACH = 10
# Exact search over millions of chunks takes seconds, and nobody waits for this.
_BUDGET_S = 30.0

_LOCK = text("SELECT pg_try_advisory_xact_lock(7330402114)")
# Of the one transaction that lasts as long as it all.
_STAY_OPEN = text("SET LOCAL idle_in_transaction_session_timeout = '1h'")
_SPACES = text(f"""
    SELECT s.id, found.has_hnsw
    FROM embedding_spaces s
    LEFT JOIN index_recall r ON r.space_id = s.id
    CROSS JOIN LATERAL (SELECT {HAS_HNSW} AS has_hnsw) AS found
    WHERE (:all OR r.measured_at IS NULL OR r.measured_at < now() - interval '1 day'
           OR r.has_hnsw <> found.has_hnsw)
      AND EXISTS (SELECT FROM chunk_embeddings e WHERE e.space_id = s.id)
    ORDER BY s.id
""")  # noqa: S608  # constants
# The largest, and others by chance, the more likely the larger (Efraimidis and Spirakis 2006). Each
# as who has the most private documents there.
_ORGANIZATIONS_OF = text("""
    SELECT org_id, user_id FROM (
        SELECT org_id, mode() WITHIN GROUP (ORDER BY private_to) AS user_id,
            sum(chunk_count) AS chunks
        FROM documents
        WHERE generation > 0 AND deleted_at IS NULL AND chunk_count > 0 GROUP BY org_id) AS sizes
    ORDER BY chunks = max(chunks) OVER () DESC, random() ^ (1.0 / chunks) DESC
    LIMIT :limit
""")
_SAMPLE = """
    SELECT e.embedding
    FROM (SELECT id, generation FROM documents
          WHERE org_id = $1 AND generation > 0 AND deleted_at IS NULL
          ORDER BY random() LIMIT $3) AS d
    CROSS JOIN LATERAL (
        SELECT embedding FROM chunk_embeddings
        WHERE space_id = $2 AND org_id = $1 AND document_id = d.id AND generation = d.generation
        ORDER BY random() LIMIT $3) AS e
    ORDER BY random() LIMIT 2 * $3
"""
_STORE = text("""
    INSERT INTO index_recall (space_id, has_hnsw, queries, hnsw_queries, recall, worst_org_id,
                              worst_recall)
    SELECT id, :has_hnsw, :queries, :hnsw_queries, :recall, :worst_org_id, :worst_recall
    FROM embedding_spaces WHERE id = :space_id
    ON CONFLICT (space_id) DO UPDATE SET measured_at = now(), has_hnsw = excluded.has_hnsw,
        queries = excluded.queries, hnsw_queries = excluded.hnsw_queries, recall = excluded.recall,
        worst_org_id = excluded.worst_org_id, worst_recall = excluded.worst_recall
""")


@dataclass(frozen=True, slots=True)
class _Tenant:
    org_id: UUID
    user_id: UUID | None


_NOBODY = _Tenant(UUID(int=0), None)


@dataclass(frozen=True, slots=True)
class _Answered:
    """One question: which share of the first K of exact search was found, in 0..1, and how."""

    org_id: UUID
    recall: float
    plan: Plan


async def run_recall_measurements(db: Database) -> None:
    """Measure each space once a day, and when its index came or went; until cancelled."""
    await run_periodically("recall_measurement", partial(measure_recall, db), CHECK_INTERVAL_S)


async def measure_recall(
    db: Database, *, every_space: bool = False, exact_max_chunks: int = EXACT_SCAN_MAX_CHUNKS
) -> bool:
    """Measure the spaces that are due, or all that hold vectors, and store what was found.

    Takes seconds. Returns False, with nothing done, while another process measures.
    """
    # No table is read in this transaction: whoever makes or drops a partition would wait for its
    # end, and all readers for them. In the larger pool, for it lasts.
    async with db.transaction(_NOBODY) as holder:
        if not await holder.scalar(_LOCK):
            return False
        await holder.execute(_STAY_OPEN)
        async with db.system_transaction() as session:
            spaces = (await session.execute(_SPACES, {"all": every_space})).all()
        for space in spaces:
            await _measure(db, space.id, space.has_hnsw, exact_max_chunks)
    return True


async def _measure(db: Database, space_id: int, has_hnsw: bool, exact_max_chunks: int) -> None:
    deadline = time.monotonic() + _BUDGET_S
    async with db.system_transaction() as session:
        rows = (await session.execute(_ORGANIZATIONS_OF, {"limit": _ORGANIZATIONS})).all()
    answered: list[_Answered] = []
    for org_id, user_id in rows:
        tenant = _Tenant(org_id, user_id)
        async with db.reading(tenant) as driver:
            questions = await _make_questions(driver, org_id, space_id)
        for question in questions:
            if time.monotonic() > deadline:
                break
            # One for each question, so that none of them is open for long.
            async with db.reading(tenant) as driver:
                search = partial(
                    search_dense,
                    driver,
                    org_id,
                    space_id=space_id,
                    query=question,
                    limit=_LIMIT,
                    exact_max_chunks=exact_max_chunks,
                )
                nearest = await search(has_hnsw=has_hnsw)
                exact = nearest if nearest.plan is Plan.EXACT else await search(has_hnsw=False)
            answered.append(_Answered(org_id, recall_of(nearest, exact), nearest.plan))
    if answered:
        await _store(db, space_id, has_hnsw, answered)


async def _make_questions(
    driver: asyncpg.Connection, org_id: UUID, space_id: int
) -> list[NDArray[np.float32]]:
    rows = await driver.fetch(_SAMPLE, org_id, space_id, _QUERIES_EACH)
    vectors = [row["embedding"].to_numpy().astype(np.float32) for row in rows]
    half = (len(vectors) + 1) // 2
    # The last of an odd number is blended with the first.
    blends = [
        one + 0.5 * other
        for one, other in zip(vectors[:half], [*vectors[half:], *vectors[:1]], strict=False)
    ]
    return [blend / np.linalg.norm(blend) for blend in blends]


def recall_of(nearest: Nearest, exact: Nearest) -> float:
    """Return which share of the first K of exact search is among the first K of the other."""
    right = {candidate.chunk_id for candidate in exact.candidates[:K]}
    found = {candidate.chunk_id for candidate in nearest.candidates[:K]}
    return len(right & found) / len(right) if right else 1.0


async def _store(
    db: Database, space_id: int, has_hnsw: bool, answered: Sequence[_Answered]
) -> None:
    """Store what was found; nothing for a space that has been dropped meanwhile."""
    by_org: dict[UUID, list[float]] = {}
    for each in answered:
        by_org.setdefault(each.org_id, []).append(each.recall)
    means = {org_id: float(np.mean(recalls)) for org_id, recalls in by_org.items()}
    worst_org_id = min(means, key=lambda org_id: means[org_id])
    recall = float(np.mean([each.recall for each in answered]))
    hnsw_queries = sum(each.plan is Plan.HNSW for each in answered)
    values = {
        "space_id": space_id,
        "has_hnsw": has_hnsw,
        "queries": len(answered),
        "hnsw_queries": hnsw_queries,
        "recall": recall,
        "worst_org_id": worst_org_id,
        "worst_recall": means[worst_org_id],
    }
    async with db.system_transaction() as session:
        await session.execute(_STORE, values)
    log.info(
        "recall_measured",
        space_id=space_id,
        recall=round(recall, 4),
        worst=round(means[worst_org_id], 4),
        queries=len(answered),
        hnsw_queries=hnsw_queries,
    )
