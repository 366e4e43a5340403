"""Retrieval on the real database: plans under row-level security, the HNSW index, the cache."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.db import Database
from app.core.ids import new_id
from app.core.tokens import EstimatingTokenizer, Tokenizer
from app.ingestion.hnsw import build_due_indexes
from app.ingestion.indexing import ensure_space
from app.llm.base import FloatMatrix, Purpose
from app.llm.embedder import Embedder
from app.llm.embedding_cache import query_key, space_name
from app.models.embeddings import HNSW_BUILD_LOCK
from app.retrieval import dense
from app.retrieval.base import Candidate
from app.retrieval.dense import USE_HNSW, Plan, scope_of, search_dense
from app.retrieval.filters import EVERYTHING, Filter
from app.retrieval.index_status import IndexState, list_indexes
from tests.stored import store_organization

DIMENSIONS = 48
LARGE, SMALL = 6_000, 200
K = 50

_DOCUMENT = text("""
    INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes, sha256,
                           status, chunk_count, generation, ready_version, ready_filename,
                           ready_media_type)
    VALUES (:org, :document, :user, 'f.txt', 'text/plain', 1, :sha256, 'ready', :count, 1, 1,
            'f.txt', 'text/plain')
""")
# Random, but the same in every run of the database: hashes of the row's number.
_EMBEDDINGS = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space, :org, gen_random_uuid(), :document, 1, l2_normalize(
        (SELECT array_agg(hashfloat8(n * 1000 + d) / 2147483648.0)::halfvec
         FROM generate_series(1, :dimensions) AS d))
    FROM generate_series(1, :count) AS n
""")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Two organizations in one space, a large one and a small one, each with one document."""

    space_id: int
    large: UUID
    small: UUID
    large_document: UUID


@dataclass(frozen=True, slots=True)
class Scope:
    org_id: UUID


@pytest.fixture(scope="module")
async def corpus(db: Database, owner: AsyncConnection) -> AsyncIterator[Corpus]:
    async with db.system_transaction() as session:
        space_id = await ensure_space(
            session, provider="test", model=f"hnsw-{uuid4()}", dimensions=DIMENSIONS
        )
    documents = [
        await _add_tenant(owner, space_id, count=LARGE),
        await _add_tenant(owner, space_id, count=SMALL),
    ]
    await owner.execute(text("ANALYZE documents, chunk_embeddings"))
    (large, large_document), (small, _) = documents
    yield Corpus(space_id, large, small, large_document)
    # Their chunk counts would make every other space of this session look at them.
    for org_id, _ in documents:
        for table in ("chunk_embeddings", "documents"):
            await owner.execute(text(f"DELETE FROM {table} WHERE org_id = :org"), {"org": org_id})


async def _add_tenant(owner: AsyncConnection, space_id: int, *, count: int) -> tuple[UUID, UUID]:
    org_id, document_id, user_id = new_id(), new_id(), new_id()
    await store_organization(owner, org_id, user_id)
    values = {"org": org_id, "document": document_id, "count": count}
    await owner.execute(_DOCUMENT, {**values, "user": user_id, "sha256": uuid4().bytes})
    await owner.execute(_EMBEDDINGS, {**values, "space": space_id, "dimensions": DIMENSIONS})
    return org_id, document_id


def unit_vector(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


async def search(
    db: Database, corpus: Corpus, org_id: UUID, *, seed: int, has_hnsw: bool, **options: Any
) -> list[Candidate]:
    async with db.reading(Scope(org_id)) as driver:
        nearest = await search_dense(
            driver,
            org_id,
            space_id=corpus.space_id,
            has_hnsw=has_hnsw,
            query=unit_vector(seed),
            limit=options.pop("limit", K),
            **options,
        )
    return nearest.candidates


async def explain(driver: asyncpg.Connection, corpus: Corpus, org_id: UUID, statement: str) -> str:
    values = (org_id, corpus.space_id, unit_vector(1), K)
    return "\n".join(row[0] for row in await driver.fetch(f"EXPLAIN {statement}", *values))


async def state_of(db: Database, corpus: Corpus) -> IndexState:
    async with db.system_transaction() as session:
        states = {each.space_id: each.state for each in await list_indexes(session)}
    return states[corpus.space_id]


async def test_the_index_is_built_when_an_organization_is_large_enough(
    db: Database, corpus: Corpus, owner: AsyncConnection, database_url: str
) -> None:
    name = f"chunk_embeddings_{corpus.space_id}_hnsw"
    assert await build_due_indexes(database_url) == []
    assert await build_due_indexes(database_url, threshold=LARGE) == []
    # What a killed build leaves: an index that is not valid.
    await owner.execute(
        text(
            f"CREATE INDEX {name} ON chunk_embeddings_{corpus.space_id}"
            f" USING hnsw ((embedding::halfvec({DIMENSIONS})) halfvec_ip_ops)"
        )
    )
    await owner.execute(
        text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"),
        {"name": name},
    )
    assert await state_of(db, corpus) is IndexState.NONE
    await owner.execute(text(f"SELECT pg_advisory_lock({HNSW_BUILD_LOCK})"))
    assert await state_of(db, corpus) is IndexState.BUILDING
    await owner.execute(text(f"SELECT pg_advisory_unlock({HNSW_BUILD_LOCK})"))
    # Several processes at once: one of them builds.
    built = await asyncio.gather(
        *(build_due_indexes(database_url, threshold=LARGE - 1) for _ in range(4))
    )
    assert [index for indexes in built for index in indexes] == [name]
    assert await build_due_indexes(database_url, threshold=LARGE - 1) == []
    definition = await owner.scalar(
        text(
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indexrelid = to_regclass(:name) AND indisvalid"
        ),
        {"name": name},
    )
    assert "halfvec_ip_ops" in str(definition)  # the operator class of <#>
    assert await state_of(db, corpus) is IndexState.READY


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_the_exact_plan_never_takes_the_index_of_vectors(
    db: Database, corpus: Corpus, mode: str
) -> None:
    async with db.reading(Scope(corpus.small)) as driver:
        await driver.execute(f"SET LOCAL plan_cache_mode = {mode}")
        plan = await explain(
            driver, corpus, corpus.small, scope_of(corpus.small, EVERYTHING).exact()
        )
    assert "hnsw" not in plan, plan
    assert "org_id_document_id_idx" in plan, plan


async def test_the_index_of_vectors_serves_the_other_plan(db: Database, corpus: Corpus) -> None:
    async with db.reading(Scope(corpus.large)) as driver:
        await driver.fetch(USE_HNSW, "100")
        plan = await explain(
            driver, corpus, corpus.large, scope_of(corpus.large, EVERYTHING).hnsw(DIMENSIONS)
        )
        current = await driver.fetchval("SELECT current_user")
    assert current == "footnote_app"
    assert f"chunk_embeddings_{corpus.space_id}_hnsw" in plan, plan


async def test_both_plans_find_the_same_and_enough(db: Database, corpus: Corpus) -> None:
    found = 0
    for seed in range(10):
        exact = await search(db, corpus, corpus.large, seed=seed, has_hnsw=False)
        nearest = await search(
            db, corpus, corpus.large, seed=seed, has_hnsw=True, exact_max_chunks=0
        )
        for candidates in (exact, nearest):
            scores = [candidate.score for candidate in candidates]
            assert len(candidates) == K
            assert scores == sorted(scores, reverse=True)
            assert all(-1 <= score <= 1 for score in scores)
        found += len({c.chunk_id for c in exact} & {c.chunk_id for c in nearest})
    assert found / (10 * K) > 0.9


async def test_a_small_organization_gets_enough_from_the_index_too(
    db: Database, corpus: Corpus
) -> None:
    for limit in (K, SMALL, SMALL + 10):
        candidates = await search(
            db, corpus, corpus.small, seed=3, has_hnsw=True, exact_max_chunks=0, limit=limit
        )
        assert len({candidate.chunk_id for candidate in candidates}) == min(limit, SMALL)


async def test_where_the_index_gives_up_the_exact_scan_goes_on(
    db: Database, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the small one were a far smaller share of the table.
    monkeypatch.setattr(dense, "_MAX_EF_SEARCH", 10)
    async with db.reading(Scope(corpus.small)) as driver:
        await driver.execute("SET LOCAL hnsw.max_scan_tuples = 1")
        nearest = await search_dense(
            driver,
            corpus.small,
            space_id=corpus.space_id,
            has_hnsw=True,
            query=unit_vector(4),
            limit=K,
            exact_max_chunks=0,
        )
    assert len(nearest.candidates) == K
    assert nearest.plan is Plan.EXACT


async def test_no_plan_crosses_organizations_or_documents(db: Database, corpus: Corpus) -> None:
    for has_hnsw in (False, True):
        options: dict[str, Any] = {"has_hnsw": has_hnsw, "exact_max_chunks": 0, "seed": 5}
        small = await search(db, corpus, corpus.small, **options)
        large = await search(db, corpus, corpus.large, **options)
        assert not {c.chunk_id for c in small} & {c.chunk_id for c in large}
        foreign = await search(
            db,
            corpus,
            corpus.small,
            wanted=Filter(document_ids=(corpus.large_document,)),
            **options,
        )
        assert foreign == []


# Embeddings of queries


class CountingEmbedding:
    """An embedding model whose vectors tell which texts it was given."""

    name = "counting"
    endpoint = ""
    max_input_tokens = 512
    max_batch = 8
    tokenizer: Tokenizer = EstimatingTokenizer()

    def __init__(self, model: str = "m") -> None:
        self.model = model
        self.texts: list[str] = []

    async def embed(self, texts: Any, *, purpose: Purpose) -> FloatMatrix:
        self.texts += texts
        return np.eye(len(texts), 8, dtype=np.float32)

    async def aclose(self) -> None: ...


def counting_space(model: str) -> str:
    return space_name("counting", model, endpoint="", dimensions=None)


async def test_a_query_is_cached_for_one_organization_and_one_model(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    first, second = CountingEmbedding("a"), CountingEmbedding("b")
    embedders = [Embedder(each, redis, cache_ttl_s=60) for each in (first, second)]
    mine, yours = uuid4(), uuid4()
    for _ in range(2):
        for embedder in embedders:
            for org_id in (mine, yours):
                await embedder.embed_query(org_id, "the same question")
    # Once for each organization and model, and not again.
    assert len(first.texts) == len(second.texts) == 2
    keys = {
        query_key(org, counting_space(model), "the same question")
        for org in (mine, yours)
        for model in "ab"
    }
    assert len(keys) == 4
    assert [await redis.exists(key) for key in keys] == [1] * 4
    assert all("question" not in key for key in keys)
    # Another query's value under this key is a miss.
    damaged = query_key(mine, counting_space("a"), "x")
    await redis.set(damaged, await redis.get(min(keys)) or b"")
    await embedders[0].embed_query(mine, "x")
    assert first.texts[-1] == "x"
    await redis.aclose()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("m:x", "y"), ("m", "x:y")),
        (("m", "text"), ("m", "text ")),
        (("m", "\ud800"), ("m", "\ud801")),
        (("m", "é"), ("m", "e\u0301")),
    ],
)
def test_keys_do_not_collide(one: tuple[str, str], other: tuple[str, str]) -> None:
    org_id = uuid4()
    assert query_key(org_id, *one) != query_key(org_id, *other)


async def test_what_a_search_found_stays_until_it_is_loaded(
    db: Database, corpus: Corpus, owner: AsyncConnection
) -> None:
    """A purge between two statements of one question must not pull a chunk from under it."""
    org_id, document_id = await _add_tenant(owner, corpus.space_id, count=3)
    async with db.reading(Scope(org_id)) as driver:
        count = "SELECT count(*) FROM chunk_embeddings"
        assert await driver.fetchval(count) == 3
        await owner.execute(
            text("DELETE FROM chunk_embeddings WHERE document_id = :d"), {"d": document_id}
        )
        assert await driver.fetchval(count) == 3
    async with db.reading(Scope(org_id)) as driver:
        assert await driver.fetchval(count) == 0
