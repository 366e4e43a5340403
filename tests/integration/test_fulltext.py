"""Full-text search on the real database: BM25 in SQL, its statistics, filters and the migration."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.db import Database
from app.core.ids import new_id
from app.core.jobs import JobSender
from app.ingestion import indexing
from app.ingestion.base import Chunk, Page
from app.ingestion.checkpoints import Batch
from app.ingestion.lease import Lease
from app.migrations import downgrade, upgrade
from app.models.spans import Span
from app.retrieval.base import Candidate
from app.retrieval.dense import search_dense
from app.retrieval.filters import EVERYTHING, Filter
from app.retrieval.fulltext import search_fulltext
from app.retrieval.query_terms import analyze_query
from app.retrieval.spaces import NO_VECTOR, QueryVector, Space
from app.retrieval.unfiltered import search_unfiltered
from tests.owner_sql import run_sql
from tests.stored import store_organization


@dataclass(frozen=True, slots=True)
class Tenant:
    org_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class Passage:
    text: str
    page: int = 1
    heading: str | None = None
    tokens: int = 10


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    made = Tenant(new_id(), new_id())
    async with db.system_transaction() as session:
        await store_organization(session, made.org_id, made.user_id)
    return made


async def add_document(
    db: Database, tenant: Tenant, passages: Sequence[Passage], *, title: str = ""
) -> UUID:
    """Through the real COPY path. Each passage is a page of its own, numbered as it says."""
    document_id = new_id()
    async with db.system_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,"
                " sha256, status, lease_token, lease_expires_at) VALUES (:o, :d, :u, 'f.txt',"
                " 'text/plain', 1, :s, 'processing', 1, now() + interval '1 hour')"
            ),
            {"o": tenant.org_id, "d": document_id, "u": tenant.user_id, "s": uuid4().bytes},
        )
        space_id = await indexing.ensure_space(session, provider="test", model="ft", dimensions=2)
    chunks = [
        Chunk(n, p.text, (Span(p.page, 0, len(p.text)),), p.heading, p.tokens)
        for n, p in enumerate(passages)
    ]
    lease = Lease(tenant.org_id, document_id, "f.txt", "text/plain", 1, 0)
    async with db.transaction(tenant) as session:
        await indexing.insert_batch(
            session,
            lease,
            space_id=space_id,
            title=title,
            batch=Batch([Page(1, "x")], chunks),
            vectors=np.ones((len(chunks), 2), dtype=np.float32),
        )
        await indexing.publish(session, lease, page_count=1, chunk_count=len(chunks))
    return document_id


async def search(
    db: Database,
    tenant: Tenant,
    question: str,
    *,
    wanted: Filter = EVERYTHING,
    limit: int = 10,
    also: Sequence[UUID] = (),
) -> list[tuple[str, Candidate]]:
    """Return the texts that were found, with what was made of them."""
    async with db.reading(tenant) as driver:
        hits = await search_fulltext(
            driver,
            tenant.org_id,
            query=analyze_query(question),
            wanted=wanted,
            limit=limit,
            also=also,
        )
    return [(hit.text, Candidate(hit.chunk_id, hit.fulltext)) for hit in hits]


async def texts(db: Database, tenant: Tenant, question: str, **options: Any) -> list[str]:
    return [found for found, _ in await search(db, tenant, question, **options)]


async def test_the_score_is_bm25(db: Database, tenant: Tenant) -> None:
    passages = [
        Passage("gnu", tokens=10),
        Passage("gnu gnu gnu", tokens=30),
        Passage("ox ox", tokens=20),
        Passage("yak", tokens=20),
    ]
    await add_document(db, tenant, passages)
    hits = dict(await search(db, tenant, "gnu ox"))
    idf = {"gnu": math.log(1 + 2.5 / 2.5), "ox": math.log(1 + 3.5 / 1.5)}
    whole = sum(idf.values())
    for passage, tf in ((passages[0], 1), (passages[1], 3)):
        k = 0.9 * (0.25 + 0.75 * passage.tokens / 20)
        # ts_rank() tells the frequency within a tenth.
        expected = idf["gnu"] * tf / (tf + k) / whole
        assert hits[passage.text].score == pytest.approx(expected, rel=0.07)
    assert hits["ox ox"].score > hits["gnu gnu gnu"].score > 0
    assert "yak" not in hits


async def test_title_and_heading_count(db: Database, tenant: Tenant) -> None:
    await add_document(db, tenant, [Passage("okapi", heading="Liquidity"), Passage("okapi bis")])
    await add_document(db, tenant, [Passage("okapi ter")], title="Liquidity 2022")
    await add_document(db, tenant, [Passage("other words")] * 4)
    found = await texts(db, tenant, "liquidity of the okapi")
    assert found == ["okapi ter", "okapi", "okapi bis"]


async def test_a_word_that_stands_nowhere_lowers_the_score(db: Database, tenant: Tenant) -> None:
    await add_document(db, tenant, [Passage("the quagga died")] + [Passage("else")] * 5)
    (_, known), *_ = await search(db, tenant, "quagga")
    (_, with_unknown), *_ = await search(db, tenant, "quagga xylophone")
    assert 0.2 < with_unknown.score / known.score < 0.6
    assert await search(db, tenant, "xylophone") == []
    assert await search(db, tenant, "?") == []


async def test_chunks_of_another_stage_get_the_same_figures(db: Database, tenant: Tenant) -> None:
    await add_document(
        db, tenant, [Passage("tapir and emu"), Passage("tapir"), Passage("nothing else")]
    )
    everything = dict(await search(db, tenant, "tapir emu"))
    async with db.reading(tenant) as driver:
        ids = {r["text"]: r["id"] for r in await driver.fetch("SELECT id, text FROM chunks")}
    also = [ids["tapir"], ids["nothing else"], ids["tapir and emu"], new_id()]
    hits = await search(db, tenant, "tapir emu", limit=1, also=also)
    assert [found for found, _ in hits] == ["tapir and emu", "tapir", "nothing else"]
    for found, hit in hits[:2]:
        assert hit == everything[found]
    assert hits[2][1].score == 0


async def test_filters_are_in_the_same_ranking(db: Database, tenant: Tenant) -> None:
    many = [Passage(f"ibex ibex ibex {n}") for n in range(30)]
    await add_document(db, tenant, many)
    wanted = await add_document(
        db, tenant, [Passage("one ibex", page=3), Passage("an ibex more", page=4)]
    )
    only = Filter(document_ids=(wanted,))
    # Fewer than the limit would stay if the filter came after it.
    assert set(await texts(db, tenant, "ibex", wanted=only, limit=2)) == {
        "one ibex",
        "an ibex more",
    }
    paged = Filter(document_ids=(wanted,), pages=(4, 9))
    assert await texts(db, tenant, "ibex", wanted=paged) == ["an ibex more"]
    assert await texts(db, tenant, "ibex", wanted=Filter(pages=(2, 3))) == ["one ibex"]
    assert await texts(db, tenant, "ibex", wanted=Filter(document_ids=(new_id(),))) == []


async def test_a_common_word_is_found_in_the_documents_asked_for(
    db: Database, tenant: Tenant
) -> None:
    # More chunks than are ranked for one question, and a rare word that is elsewhere.
    for _ in range(3):
        await add_document(db, tenant, [Passage("common")] * 1000)
    await add_document(db, tenant, [Passage("the rare saola")])
    wanted = await add_document(db, tenant, [Passage("a common one")])
    only = Filter(document_ids=(wanted,))
    assert await texts(db, tenant, "common saola", wanted=only) == ["a common one"]
    assert (await texts(db, tenant, "common saola"))[0] == "the rare saola"


async def test_what_readers_may_not_see_takes_no_places(db: Database, tenant: Tenant) -> None:
    best = [Passage("lynx lynx lynx") for _ in range(5)]
    hidden = [await add_document(db, tenant, best) for _ in range(2)]
    await add_document(db, tenant, [Passage("the last lynx")])
    for document_id, change in zip(
        hidden,
        ("expires_at = now() - interval '1 s'", "deleted_at = now(), status = 'deleting'"),
        strict=True,
    ):
        async with db.system_transaction() as session:
            await session.execute(
                text(f"UPDATE documents SET {change} WHERE id = :id"), {"id": document_id}
            )
    assert await texts(db, tenant, "lynx", limit=1) == ["the last lynx"]


async def test_the_faster_function_finds_what_the_first_one_found(
    db: Database, owner: AsyncConnection, tenant: Tenant
) -> None:
    words = ["gnu", "ox", "yak", "emu", "tapir", "okapi", "ibex", "lynx"]
    passages = [
        Passage(
            " ".join(words[n % k] for k in range(1, 9)) + f" {1990 + n % 40}",
            page=1 + n % 7,
            heading=words[n % 5] if n % 3 else None,
            tokens=10 + n % 50,
        )
        for n in range(200)
    ]
    first = await add_document(db, tenant, passages[:100], title="Gnu and ox 2010")
    await add_document(db, tenant, passages[100:])
    before = import_module("app.migrations.versions.0004_fulltext_terms")._SEARCH
    await owner.execute(text(before.replace("search_chunks_fulltext(", "search_before(")))
    await owner.execute(text("GRANT EXECUTE ON FUNCTION search_before TO footnote_app"))
    also = [new_id()]
    for question in ("gnus and oxen in 2010", "tapir 2001", "nothing at all", "yak emu lynx ibex"):
        query = analyze_query(question, ("okapi", "gnu of the year"))
        for documents, pages in ((None, (None, None)), ([first], (None, None)), (None, (3, 4))):
            async with db.reading(tenant) as driver:
                found = [
                    await driver.fetch(
                        f"SELECT * FROM {function}($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                        tenant.org_id,
                        documents,
                        *pages,
                        query.terms,
                        query.weights,
                        query.groups,
                        30,
                        also,
                    )
                    for function in ("search_before", "search_chunks_fulltext")
                ]
            expected, actual = ({row["chunk_id"]: row["score"] for row in rows} for rows in found)
            assert actual == pytest.approx(expected, rel=1e-9)
            assert actual
            also = [row["chunk_id"] for row in found[0][::3]]
    await owner.execute(text("DROP FUNCTION search_before"))


async def test_what_is_found_is_loaded_with_it(db: Database, tenant: Tenant) -> None:
    document_id = await add_document(db, tenant, [Passage("x"), Passage("gnu", 4, "Herds")])
    async with db.reading(tenant) as driver:
        [found] = await search_fulltext(
            driver, tenant.org_id, query=analyze_query("gnu"), wanted=EVERYTHING, limit=5
        )
        space_id = await driver.fetchval("SELECT id FROM embedding_spaces WHERE model = 'ft'")
        space = Space(space_id, "test", "ft", 2, has_hnsw=False)
        embedded = QueryVector(np.array([0.6, 0.8], dtype=np.float32), space)
        [near] = await search_fulltext(
            driver,
            tenant.org_id,
            query=analyze_query("gnu"),
            wanted=EVERYTHING,
            limit=5,
            embedded=embedded,
        )
    assert found.similarity is None
    assert near.similarity == pytest.approx(1.4, abs=1e-3)
    chunk = found.to_chunk(0.5)
    assert (chunk.document_id, chunk.filename, chunk.ordinal) == (document_id, "f.txt", 1)
    assert (chunk.text, chunk.heading, chunk.spans) == ("gnu", "Herds", (Span(4, 0, 3),))
    assert (chunk.score, chunk.page_start, chunk.page_end) == (0.5, 4, 4)


@pytest.mark.parametrize("has_vector", [True, False])
async def test_one_trip_finds_what_the_stages_find_one_after_the_other(
    db: Database, tenant: Tenant, has_vector: bool
) -> None:
    words = ("okapi", "gnu", "tapir", "yak")
    passages = [Passage(f"{words[n % 4]} of {n}", 1 + n % 9, words[n % 3]) for n in range(60)]
    for title in ("Tapirs", "Yaks"):
        await add_document(db, tenant, passages, title=title)
    query, limit = analyze_query("gnus or tapirs of 7 lands"), 12
    embedded = NO_VECTOR
    async with db.reading(tenant) as driver:
        if has_vector:
            space_id = await driver.fetchval("SELECT id FROM embedding_spaces WHERE model = 'ft'")
            space = Space(space_id, "test", "ft", 2, has_hnsw=False)
            embedded = QueryVector(np.array([0.6, 0.8], dtype=np.float32), space)
            dense = await search_dense(
                driver,
                tenant.org_id,
                space_id=space_id,
                has_hnsw=False,
                query=embedded.vector,
                limit=limit,
            )
        nearest = dense.candidates if has_vector else []
        loaded = await search_fulltext(
            driver,
            tenant.org_id,
            query=query,
            wanted=EVERYTHING,
            limit=limit,
            embedded=embedded,
            also=[candidate.chunk_id for candidate in nearest],
        )
    async with db.lone_statements() as driver:
        at_once = await search_unfiltered(
            driver, tenant, query=query, limit=limit, embedded=embedded
        )
    assert at_once.nearest == nearest
    assert at_once.passages == loaded
    assert len(loaded) >= limit


async def test_languages_find_their_inflections(db: Database, tenant: Tenant) -> None:
    await add_document(
        db,
        tenant,
        [
            Passage("Die Häuser der Stadt wurden nach dem Krieg nicht wieder aufgebaut."),
            Passage("Los edificios de la ciudad fueron destruidos durante la guerra."),
            Passage("Здания города были разрушены во время войны."),
            Passage("शहर की इमारतें युद्ध में नष्ट हो गईं।"),
            Passage("战争期间城市的建筑被毁。"),
            Passage("อาคารในเมืองถูกทำลายในสงคราม"),
        ],
    )
    for question, begin in (
        ("Was wurde aus dem Haus in der Stadt?", "Die"),
        ("¿Qué edificio fue destruido en la ciudad?", "Los"),
        ("Какое здание было разрушено?", "Здания"),
        ("शहर की कौन सी इमारत नष्ट हुई?", "शहर"),
        ("哪些建筑在战争中被毁？", "战争"),
        ("อะไรถูกทำลายในสงคราม", "อาคาร"),
    ):
        assert (await texts(db, tenant, question))[0].startswith(begin)


_OLD_CHUNK = """
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, heading, token_count, tsv)
    VALUES ('{org}', gen_random_uuid(), '{document}', {generation}, 0, '{text}', '{{1,0,1}}', 1, 1,
            'Kapitel', 7, to_tsvector('english', '{text}')
            || array_to_tsvector(ARRAY[org_lexeme('{org}')]))
"""


def test_what_was_stored_before_is_found_after_the_migration(database_url: str) -> None:
    other = database_url.replace("/footnote?", "/terms?")
    org, user, document = new_id(), new_id(), new_id()
    chunk = {"org": org, "document": document}
    try:
        run_sql(database_url, "CREATE DATABASE terms")
        upgrade(other, "0003")
        run_sql(
            other,
            f"INSERT INTO users (id, email, password_hash) VALUES ('{user}', 'a@example.com', '')",
            f"INSERT INTO organizations (id, name) VALUES ('{org}', 'o')",
            f"""
            INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,
                                   sha256, status, chunk_count, generation, ready_version,
                                   ready_filename, ready_media_type)
            VALUES ('{org}', '{document}', '{user}', 'f', 't', 1, 'x', 'ready', 1, 1, 1, 'f', 't')
            """,
            _OLD_CHUNK.format(text="Die Häuser, die in der Stadt sind", generation=1, **chunk),
            # Of a generation in the making: nobody counts or finds it.
            _OLD_CHUNK.format(text="Neue Häuser", generation=2, **chunk),
            f"SELECT count_lexemes('{org}', '{document}', 1, 1)",
        )
        upgrade(other)
        assert _counts(other, org)["haus"] == _counts(other, org)[""] == 1
        assert "kapitel" in _counts(other, org)
        assert asyncio.run(_found(other, org, "Wo ist das Haus in der Stadt?")) == 1
        downgrade(other, "0003")
        assert "häuser" in _counts(other, org)
        assert "~hause" not in _counts(other, org)
        upgrade(other)
        assert _counts(other, org)["haus"] == 1
    finally:
        run_sql(database_url, "DROP DATABASE terms")


async def _found(url: str, org_id: UUID, question: str) -> int:
    jobs = JobSender("redis://127.0.0.1:9/0")
    database = Database(url, jobs, pool_size=1)
    try:
        return len(await search(database, Tenant(org_id, org_id), question))
    finally:
        await database.close()
        jobs.close()


def _counts(url: str, org_id: UUID) -> dict[str, int]:
    rows = run_sql(url, f"SELECT lexeme, chunk_count FROM lexemes WHERE org_id = '{org_id}'")
    return {row.lexeme: row.chunk_count for row in rows}
