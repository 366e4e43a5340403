"""The dense stage under filters, and the measurement of its recall."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.db import Database
from app.core.ids import new_id
from app.ingestion.hnsw import build_due_indexes
from app.ingestion.indexing import ensure_space
from app.retrieval import recall
from app.retrieval.dense import Nearest, Plan, ef_search, search_dense, takes_index
from app.retrieval.filters import EVERYTHING, Filter
from app.retrieval.recall import measure_recall
from tests.stored import store_organization

DIMENSIONS = 8
PAGES = 10  # of each document; a chunk of them begins on each page and ends on the next
CHUNKS = 200

_DOCUMENT = text("""
    INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes, sha256,
                           status, page_count, chunk_count, generation, ready_version,
                           ready_filename, ready_media_type)
    VALUES (:org, :document, :user, 'f.txt', 'text/plain', 1, :sha256, 'ready', :pages, :chunks, 1,
            1, 'f.txt', 'text/plain')
""")
_CHUNKS = text("""
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, token_count, tsv)
    SELECT :org, gen_random_uuid(), :document, 1, n, 'x', '{1,0,1}', 1 + n % :pages,
           least(:pages, 2 + n % :pages), 1, ''
    FROM generate_series(0, :chunks - 1) AS n
""")
# Random, but the same in every run: hashes of the chunk's place.
_EMBEDDINGS = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space, org_id, id, document_id, 1, l2_normalize(
        (SELECT array_agg(hashfloat8(ordinal * 1000 + d + :seed) / 2147483648.0)::halfvec
         FROM generate_series(1, :dimensions) AS d))
    FROM chunks WHERE org_id = :org AND document_id = :document
""")


@dataclass(frozen=True, slots=True)
class Tenant:
    org_id: UUID
    documents: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """One space with an index. `large` has four documents, of which two are gone."""

    space_id: int
    large: Tenant
    small: Tenant

    @property
    def expired(self) -> UUID:
        return self.large.documents[2]

    @property
    def deleted(self) -> UUID:
        return self.large.documents[3]


@pytest.fixture(scope="module")
async def corpus(db: Database, owner: AsyncConnection, database_url: str) -> AsyncIterator[Corpus]:
    async with db.system_transaction() as session:
        space_id = await ensure_space(
            session, provider="test", model=f"recall-{uuid4()}", dimensions=DIMENSIONS
        )
    made = Corpus(
        space_id,
        await add_tenant(owner, space_id, documents=4),
        await add_tenant(owner, space_id, documents=1),
    )
    for column, value, document_id in (
        ("expires_at", "now() - interval '1 second'", made.expired),
        ("deleted_at", "now()", made.deleted),
    ):
        await owner.execute(
            text(f"UPDATE documents SET {column} = {value} WHERE org_id = :org AND id = :id"),
            {"org": made.large.org_id, "id": document_id},
        )
    await owner.execute(text("ANALYZE documents, chunks, chunk_embeddings"))
    built = await build_due_indexes(database_url, threshold=2 * CHUNKS - 1)
    assert f"chunk_embeddings_{space_id}_hnsw" in built
    yield made
    for tenant in (made.large, made.small):
        for table in ("chunk_embeddings", "chunks", "documents"):
            await owner.execute(
                text(f"DELETE FROM {table} WHERE org_id = :org"), {"org": tenant.org_id}
            )


async def add_tenant(owner: AsyncConnection, space_id: int, *, documents: int) -> Tenant:
    org_id, user_id = new_id(), new_id()
    await store_organization(owner, org_id, user_id)
    ids = tuple(new_id() for _ in range(documents))
    for number, document_id in enumerate(ids):
        key = {"org": org_id, "document": document_id}
        size = {"pages": PAGES, "chunks": CHUNKS}
        await owner.execute(_DOCUMENT, {**key, **size, "user": user_id, "sha256": uuid4().bytes})
        await owner.execute(_CHUNKS, {**key, **size})
        vectors = {"space": space_id, "dimensions": DIMENSIONS, "seed": 10_000_000 * number}
        await owner.execute(_EMBEDDINGS, {**key, **vectors})
    return Tenant(org_id, ids)


def unit_vector(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


async def search(
    db: Database, corpus: Corpus, tenant: Tenant, wanted: Filter = EVERYTHING, **options: Any
) -> Nearest:
    values: dict[str, Any] = {"has_hnsw": True, "limit": 50, "seed": 1} | options
    async with db.reading(tenant) as driver:
        return await search_dense(
            driver,
            tenant.org_id,
            space_id=corpus.space_id,
            query=unit_vector(values.pop("seed")),
            wanted=wanted,
            **values,
        )


async def pages_of(owner: AsyncConnection, nearest: Nearest) -> set[tuple[UUID, int, int]]:
    rows = await owner.execute(
        text("SELECT document_id, page_start, page_end FROM chunks WHERE id = ANY (:ids)"),
        {"ids": [candidate.chunk_id for candidate in nearest.candidates]},
    )
    return {(row.document_id, row.page_start, row.page_end) for row in rows}


PLANS = pytest.mark.parametrize(("plan", "exact_max_chunks"), [("exact", 10_000), ("hnsw", 0)])


@PLANS
async def test_a_filter_by_document_leaves_out_the_others_and_gives_enough(
    db: Database, corpus: Corpus, owner: AsyncConnection, plan: str, exact_max_chunks: int
) -> None:
    wanted = Filter(document_ids=(corpus.large.documents[1],))
    for limit in (50, CHUNKS, CHUNKS + 50):
        nearest = await search(
            db, corpus, corpus.large, wanted, limit=limit, exact_max_chunks=exact_max_chunks
        )
        assert len({c.chunk_id for c in nearest.candidates}) == min(limit, CHUNKS)
        found = await pages_of(owner, nearest)
        assert {document_id for document_id, _, _ in found} == set(wanted.document_ids)
        # The index ends before it has found more than there are: only the exact scan can tell.
        assert nearest.plan == (plan if limit <= CHUNKS else "exact")


@PLANS
@pytest.mark.parametrize("pages", [(1, 1), (3, 4), (PAGES, PAGES), (PAGES + 1, PAGES + 9)])
async def test_a_range_of_pages_takes_chunks_that_overlap_it(
    db: Database,
    corpus: Corpus,
    owner: AsyncConnection,
    pages: tuple[int, int],
    plan: str,
    exact_max_chunks: int,
) -> None:
    nearest = await search(
        db,
        corpus,
        corpus.large,
        Filter(pages=pages),
        limit=1_000,
        exact_max_chunks=exact_max_chunks,
    )
    first, last = pages
    expected = await owner.scalar(
        text("""
            SELECT count(*) FROM chunks WHERE document_id = ANY (:ids)
                AND page_start <= :last AND page_end >= :first
        """),
        {"ids": list(corpus.large.documents[:2]), "first": first, "last": last},
    )
    assert len(nearest.candidates) == expected
    found = await pages_of(owner, nearest)
    assert all(start <= last and end >= first for _, start, end in found)


@PLANS
async def test_pages_and_documents_together(
    db: Database, corpus: Corpus, owner: AsyncConnection, plan: str, exact_max_chunks: int
) -> None:
    document_id = corpus.large.documents[0]
    nearest = await search(
        db,
        corpus,
        corpus.large,
        Filter(document_ids=(document_id,), pages=(5, 5)),
        exact_max_chunks=exact_max_chunks,
        limit=10,
    )
    assert len(nearest.candidates) == 10
    assert nearest.plan == plan
    assert await pages_of(owner, nearest) <= {(document_id, 4, 5), (document_id, 5, 6)}


@PLANS
async def test_what_has_expired_or_is_deleted_takes_no_places(
    db: Database, corpus: Corpus, owner: AsyncConnection, plan: str, exact_max_chunks: int
) -> None:
    nearest = await search(
        db, corpus, corpus.large, limit=2 * CHUNKS, exact_max_chunks=exact_max_chunks
    )
    assert len(nearest.candidates) == 2 * CHUNKS
    found = {document_id for document_id, _, _ in await pages_of(owner, nearest)}
    assert found == set(corpus.large.documents[:2])
    gone = Filter(document_ids=(corpus.expired, corpus.deleted))
    nearest = await search(db, corpus, corpus.large, gone, exact_max_chunks=exact_max_chunks)
    assert nearest.candidates == []


async def test_the_plan_follows_from_what_the_filter_covers(db: Database, corpus: Corpus) -> None:
    one = Filter(document_ids=corpus.large.documents[:1])
    bound: dict[str, Any] = {"exact_max_chunks": CHUNKS}
    assert (await search(db, corpus, corpus.large, **bound)).plan is Plan.HNSW
    assert (await search(db, corpus, corpus.large, one, **bound)).plan is Plan.EXACT
    assert (await search(db, corpus, corpus.small, **bound)).plan is Plan.EXACT
    # A tenth of the pages of two documents.
    assert (await search(db, corpus, corpus.large, Filter(pages=(2, 2)), **bound)).plan is (
        Plan.EXACT
    )
    without = await search(db, corpus, corpus.large, has_hnsw=False, exact_max_chunks=0)
    assert without.plan is Plan.EXACT


async def test_the_index_leaves_the_transaction_as_it_was(db: Database, corpus: Corpus) -> None:
    async with db.reading(corpus.large) as driver:
        names = ("enable_sort", "plan_cache_mode")
        before = [await driver.fetchval(f"SHOW {name}") for name in names]
        nearest = await search_dense(
            driver,
            corpus.large.org_id,
            space_id=corpus.space_id,
            has_hnsw=True,
            query=unit_vector(1),
            limit=10,
            exact_max_chunks=0,
        )
        assert nearest.plan is Plan.HNSW
        assert [await driver.fetchval(f"SHOW {name}") for name in names] == before


def test_a_smaller_share_makes_the_index_look_further() -> None:
    everything, half, tiny = (ef_search(chunks, 100_000) for chunks in (100_000, 50_000, 10))
    assert everything < half == 2 * everything < tiny == 1_000
    # A table that was never analyzed.
    assert ef_search(50_000, -1) == ef_search(50_000, None) == everything


def test_the_index_is_taken_where_it_is_faster() -> None:
    bound = {"exact_max_chunks": 40_000}
    assert not takes_index(40_000, 40_000, **bound)
    assert takes_index(40_001, 40_001, **bound)
    # The index has to look at so many others that reading all of the scope is faster.
    assert not takes_index(60_000, 1_000_000, **bound)
    assert takes_index(100_000, 1_000_000, **bound)


# The measurement


@dataclass(frozen=True, slots=True)
class Stored:
    measured_at: object
    has_hnsw: bool
    queries: int
    hnsw_queries: int
    recall: float
    worst_recall: float


async def stored(owner: AsyncConnection, space_id: int) -> Stored | None:
    row = (
        await owner.execute(
            text("""
                SELECT measured_at, has_hnsw, queries, hnsw_queries, recall, worst_recall
                FROM index_recall WHERE space_id = :id
            """),
            {"id": space_id},
        )
    ).one_or_none()
    return Stored(*row) if row else None


async def measure(db: Database, **options: Any) -> None:
    """The API of this session measures too, every minute: one of the two at a time."""
    while not await measure_recall(db, **options):
        pass


async def test_recall_is_measured_with_the_index_and_stored(
    db: Database, corpus: Corpus, owner: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "_ORGANIZATIONS", 1_000)  # the others of this session too
    await measure(db, every_space=True, exact_max_chunks=CHUNKS)
    found = await stored(owner, corpus.space_id)
    assert found is not None
    assert found.has_hnsw
    assert found.queries > found.hnsw_queries > 0
    assert 0.8 < found.worst_recall <= found.recall <= 1
    # Nothing is due.
    await measure(db)
    assert await stored(owner, corpus.space_id) == found
    # A day later, or when the index has come or gone, it is.
    for change in ("measured_at = now() - interval '25 hours'", "has_hnsw = false"):
        await owner.execute(
            text(f"UPDATE index_recall SET {change} WHERE space_id = :id"), {"id": corpus.space_id}
        )
        before = await stored(owner, corpus.space_id)
        await measure(db)
        after = await stored(owner, corpus.space_id)
        assert after is not None
        assert after != before
        assert after.has_hnsw


async def test_one_process_measures(db: Database, corpus: Corpus) -> None:
    async with db.system_transaction() as session:
        while not await session.scalar(recall._LOCK):
            pass
        assert not await measure_recall(db)


async def test_of_a_space_that_was_dropped_meanwhile_nothing_is_stored(
    db: Database, owner: AsyncConnection
) -> None:
    answered = [recall._Answered(new_id(), 1.0, Plan.EXACT)]
    await recall._store(db, -1, False, answered)
    assert await stored(owner, -1) is None


async def test_exact_answers_are_all_right(
    db: Database, corpus: Corpus, owner: AsyncConnection
) -> None:
    await measure(db, every_space=True, exact_max_chunks=10**9)
    found = await stored(owner, corpus.space_id)
    assert found is not None
    assert (found.hnsw_queries, found.recall, found.worst_recall) == (0, 1.0, 1.0)
