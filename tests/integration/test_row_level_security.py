"""Row-level security with the real roles, before any feature stands on it."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from app.core.db import Database, get_driver
from app.core.ids import new_id
from app.core.jobs import JobSender
from app.ingestion import indexing
from app.ingestion.base import Chunk, Page
from app.ingestion.checkpoints import Batch
from app.ingestion.lease import Lease, LeaseLost, claim_next
from app.migrations import downgrade, upgrade
from app.models.spans import Span
from tests.stored import store_organization
from tests.stored_runs import ask, principal_of

TENANT_TABLES = (
    *("memberships", "documents", "pages", "chunks", "chunk_embeddings"),
    *("conversations", "messages", "runs", "citations"),
    "api_keys",
)


# One organization with 20,000 chunks, of which 20 hold a rare word.
_MANY_CHUNKS = text("""
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, token_count, tsv)
    SELECT :org, gen_random_uuid(), :document, 1, n, 'x', '{1,0,1}', 1, 1, 1,
        to_tsvector('english', CASE WHEN n % 1000 = 0 THEN 'quagga' ELSE 'common words' END)
        || array_to_tsvector(ARRAY[org_lexeme(:org)])
    FROM generate_series(1, 20000) AS n
""")


@dataclass(frozen=True, slots=True)
class Tenant:
    org_id: UUID
    user_id: UUID
    document_id: UUID


@pytest.fixture
async def db(database_url: str, redis_url: str) -> AsyncIterator[Database]:
    """One connection per role, so that two transactions share it."""
    jobs = JobSender(redis_url)
    database = Database(database_url, jobs, pool_size=1)
    yield database
    await database.close()
    jobs.close()


async def make_tenant(db: Database) -> Tenant:
    tenant = Tenant(new_id(), new_id(), new_id())
    async with db.system_transaction() as session:
        await store_organization(session, tenant.org_id, tenant.user_id)
        await session.execute(
            text("INSERT INTO memberships (org_id, user_id, role) VALUES (:o, :u, 'owner')"),
            {"o": tenant.org_id, "u": tenant.user_id},
        )
        await session.execute(
            text(
                "INSERT INTO api_keys (org_id, id, user_id, name, environment, scope, secret_hash,"
                " last_chars) VALUES (:o, :k, :u, 'k', 'live', 'read', :hash, 'abcd')"
            ),
            {"o": tenant.org_id, "k": new_id(), "u": tenant.user_id, "hash": uuid4().bytes},
        )
        await insert_document(session, tenant, status="processing")
    await index_one_chunk(db, tenant, f"zebra {tenant.org_id}")
    who = principal_of(tenant.org_id, tenant.user_id)
    await ask(db, who, "Where is the zebra?", document_id=tenant.document_id)
    await make_vector_store(db, tenant)
    return tenant


async def make_vector_store(db: Database, tenant: Tenant) -> None:
    key = {"o": tenant.org_id, "d": tenant.document_id, "id": new_id()}
    async with db.transaction(tenant) as session:
        for statement in (
            "INSERT INTO openai_files (org_id, document_id, purpose) VALUES (:o, :d, 'user_data')",
            "INSERT INTO vector_stores (org_id, id) VALUES (:o, :id)",
            "INSERT INTO vector_store_files (org_id, vector_store_id, document_id)"
            " VALUES (:o, :id, :d)",
            "INSERT INTO vector_store_batches (org_id, id, vector_store_id, document_ids)"
            " VALUES (:o, :id, :id, ARRAY[CAST(:d AS uuid)])",
            "INSERT INTO openai_responses (org_id, run_id, request)"
            " SELECT :o, id, '{}' FROM runs WHERE org_id = :o",
        ):
            await session.execute(text(statement), key)


async def insert_document(session: AsyncSession, tenant: Tenant, *, status: str) -> None:
    await session.execute(
        text(
            "INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,"
            " sha256, status, lease_token, lease_expires_at) VALUES (:o, :d, :u, 'f.txt',"
            " 'text/plain', 1, :s, :status, 1, now() + interval '1 hour')"
        ),
        {
            "o": tenant.org_id,
            "d": tenant.document_id,
            "u": tenant.user_id,
            "s": uuid4().bytes,
            "status": status,
        },
    )


def lease_of(tenant: Tenant, *, token: int = 1) -> Lease:
    return Lease(tenant.org_id, tenant.document_id, "f.txt", "text/plain", token, 0)


async def index_one_chunk(db: Database, tenant: Tenant, words: str, *, token: int = 1) -> None:
    """Through the real COPY path."""
    async with db.system_transaction() as session:
        space_id = await indexing.ensure_space(session, provider="test", model="rls", dimensions=8)
    chunk = Chunk(0, words, (Span(1, 0, len(words)),), None, 2)
    lease = lease_of(tenant, token=token)
    async with db.transaction(tenant) as session:
        await indexing.insert_batch(
            session,
            lease,
            space_id=space_id,
            title="",
            batch=Batch([Page(1, words)], [chunk]),
            vectors=np.eye(1, 8, dtype=np.float32),
        )
        await indexing.publish(session, lease, page_count=1, chunk_count=1)


async def count(session: AsyncSession, table: str) -> int:
    return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


async def test_each_tenant_sees_its_own_rows_only(db: Database) -> None:
    a, b = await make_tenant(db), await make_tenant(db)
    for tenant in (a, b):
        async with db.transaction(tenant) as session:
            for table in TENANT_TABLES:
                orgs = set(await session.scalars(text(f"SELECT org_id FROM {table}")))
                assert orgs == {tenant.org_id}, table
            assert set(await session.scalars(text("SELECT id FROM organizations"))) == {
                tenant.org_id
            }


async def test_a_pooled_connection_forgets_its_tenant(db: Database) -> None:
    a = await make_tenant(db)
    async with db.transaction(a) as session:
        first = await session.scalar(text("SELECT pg_backend_pid()"))
        assert await count(session, "documents") == 1
    # The same connection, with nobody named: the setting is '' now, not absent.
    async with db._app.connect() as connection:
        assert await connection.scalar(text("SELECT pg_backend_pid()")) == first
        assert await connection.scalar(text("SELECT current_setting('app.org_id', true)")) == ""
        for table in (*TENANT_TABLES, "organizations"):
            assert await connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table
    b = await make_tenant(db)
    async with db.transaction(b) as session:
        assert set(await session.scalars(text("SELECT org_id FROM documents"))) == {b.org_id}


async def test_a_transaction_without_a_statement_leaves_no_tenant_behind(db: Database) -> None:
    mine, yours = await make_tenant(db), await make_tenant(db)
    orgs = "SELECT array_agg(DISTINCT org_id) FROM documents"
    connections = set()
    for scope in (mine, yours):
        async with db.transaction(mine) as session:
            await session.connection()
        async with db.reading(scope) as driver:
            connections.add(driver)
            assert await driver.fetchval(orgs) == [scope.org_id]
        async with db.transaction(mine) as session:
            await session.connection()
        async with db._app.connect() as connection:
            assert await connection.scalar(text(orgs)) is None
    assert len(connections) == 1


async def test_the_drivers_own_first_statement_is_in_the_transaction(db: Database) -> None:
    tenant = await make_tenant(db)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction(tenant) as session:
            driver = await get_driver(session)
            assert await driver.execute("UPDATE documents SET filename = 'new.txt'") == "UPDATE 1"
            raise ZeroDivisionError
    async with db.transaction(tenant) as session:
        assert await session.scalar(text("SELECT filename FROM documents")) == "f.txt"


async def test_a_transaction_that_does_not_begin_takes_its_connection_with_it(
    db: Database,
) -> None:
    tenant = await make_tenant(db)
    async with db._app.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        driver.scope = tenant
        with pytest.raises(asyncpg.DivisionByZeroError):
            await driver.execute("BEGIN; SELECT 1 / 0;")
        assert driver.is_closed()
        await connection.invalidate()
    async with db.transaction(tenant) as session:
        assert await count(session, "documents") == 1


async def test_a_reading_sees_one_tenant_and_writes_nothing(db: Database) -> None:
    mine, yours = await make_tenant(db), await make_tenant(db)
    count = "SELECT count(*) FROM documents WHERE id = ANY ($1)"
    both = [mine.document_id, yours.document_id]

    for _ in range(2):  # the second on the same connection
        async with db.reading(mine) as driver:
            assert await driver.fetchval(count, both) == 1
            assert await driver.fetchval("SHOW transaction_isolation") == "repeatable read"
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with db.reading(mine) as driver:
            await driver.execute("DELETE FROM documents")
    with pytest.raises(asyncpg.UndefinedTableError):
        async with db.reading(mine) as driver:
            await driver.fetchval("SELECT 1 FROM nowhere")
    # Whatever happened in it, the connection is out of the transaction and has no tenant left.
    async with db.reading(yours) as driver:
        assert await driver.fetchval(count, both) == 1
    async with db._app.connect() as connection:
        bare = (await connection.get_raw_connection()).driver_connection
        assert bare is not None
        assert not bare.is_in_transaction()
        assert await bare.fetchval(count, both) == 0


async def test_a_reading_that_is_cancelled_or_loses_its_connection_leaves_a_usable_pool(
    db: Database,
) -> None:
    tenant = await make_tenant(db)
    count = "SELECT count(*) FROM documents"

    is_reading = asyncio.Event()

    async def read(seconds: float) -> int:
        async with db.reading(tenant) as driver:
            is_reading.set()
            await driver.fetchval("SELECT pg_sleep($1)", seconds)
            return int(await driver.fetchval(count))

    reading = asyncio.create_task(read(30))
    await is_reading.wait()  # it goes on until it has sent its query
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await read(0) == 1

    async with db.reading(tenant) as driver:
        driver.terminate()
    assert await read(0) == 1


async def test_a_search_in_one_trip_sees_the_tenant_that_it_names(db: Database) -> None:
    mine, yours = await make_tenant(db), await make_tenant(db)
    search = """
        SELECT document_id FROM search_everything($1,
            (SELECT id FROM embedding_spaces WHERE model = 'rls'), $2, '{zebra}', '{1}', '{1}', 10,
            $3)
    """
    vector = np.eye(1, 8, dtype=np.float32)[0]
    for tenant in (mine, yours, mine):
        async with db.lone_statements() as driver:
            rows = await driver.fetch(search, tenant.org_id, vector, tenant.user_id)
            assert [row["document_id"] for row in rows] == [tenant.document_id]
            # It named the organization and the user for its own statement, and for no other.
            assert await driver.fetchval("SELECT current_setting('app.org_id', true)") == ""
            assert await driver.fetchval("SELECT current_setting('app.user_id', true)") == ""
            assert await driver.fetchval("SELECT count(*) FROM documents") == 0
    async with db.reading(mine) as driver:
        assert len(await driver.fetch(search, mine.org_id, vector, mine.user_id)) == 1
        for org_id, user_id in (
            (yours.org_id, yours.user_id),
            (yours.org_id, mine.user_id),
            (mine.org_id, yours.user_id),
        ):
            assert await driver.fetch(search, org_id, vector, user_id) == []
        assert await driver.fetchval("SELECT array_agg(org_id) FROM documents") == [mine.org_id]


async def test_a_search_that_is_cancelled_or_loses_its_connection_leaves_a_usable_pool(
    db: Database,
) -> None:
    is_asking = asyncio.Event()

    async def ask_for(seconds: float) -> str:
        async with db.lone_statements() as driver:
            is_asking.set()
            await driver.fetchval("SELECT pg_sleep($1)", seconds)
            return str(await driver.fetchval("SELECT current_user"))

    asking = asyncio.create_task(ask_for(30))
    await is_asking.wait()  # it goes on until it has sent its query
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await ask_for(0) == "footnote_app"

    async with db.lone_statements() as driver:
        driver.terminate()
    assert await ask_for(0) == "footnote_app"


async def test_a_tenant_cannot_write_for_another(db: Database) -> None:
    a, b = await make_tenant(db), await make_tenant(db)
    statements = [
        ("INSERT INTO pages VALUES (:o, :d, 9, 9, 'x')", {"o": b.org_id, "d": b.document_id}),
        ("UPDATE documents SET org_id = :o", {"o": b.org_id}),
    ]
    for statement, values in statements:
        with pytest.raises(DBAPIError, match="row-level security"):
            async with db.transaction(a) as session:
                await session.execute(text(statement), values)
    async with db.transaction(a) as session:
        await session.execute(text("UPDATE documents SET title = 'mine'"))
        await session.execute(text("DELETE FROM pages"))
    async with db.transaction(b) as session:
        assert await session.scalar(text("SELECT title FROM documents")) is None
        assert await count(session, "pages") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM users",
        "SELECT * FROM refresh_tokens",
        "DELETE FROM documents",
        "INSERT INTO memberships SELECT * FROM memberships",
        "SELECT ensure_embedding_space('x', 'y', 1)",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE documents DISABLE ROW LEVEL SECURITY",
    ],
)
async def test_the_app_role_may_not(db: Database, statement: str) -> None:
    a = await make_tenant(db)
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
        async with db.transaction(a) as session:
            await session.execute(text(statement))


async def test_copy_goes_through_a_temporary_table(db: Database) -> None:
    a = await make_tenant(db)
    with pytest.raises(Exception, match="COPY FROM not supported with row-level security"):
        async with db.transaction(a) as session:
            connection = await get_driver(session)
            await connection.copy_records_to_table("pages", records=[])
    async with db.transaction(a) as session:
        row = (await session.execute(text("SELECT text, spans, page_start FROM chunks"))).one()
    assert row.text == f"zebra {a.org_id}"
    assert row.spans == [1, 0, len(row.text)]


async def test_claim_and_login_see_across_organizations(db: Database) -> None:
    a, b = await make_tenant(db), await make_tenant(db)
    async with db.system_transaction() as session:
        emails = set(await session.scalars(text("SELECT email FROM users")))
        assert {f"{a.user_id}@example.com", f"{b.user_id}@example.com"} <= emails
        # Whatever other tests left queued is not this test's business.
        await session.execute(
            text("UPDATE documents SET status = 'ready', chunk_count = 1 WHERE status = 'queued'")
        )
        await session.execute(
            text("UPDATE documents SET status = 'queued' WHERE id = ANY (:ids)"),
            {"ids": [a.document_id, b.document_id]},
        )
    claimed = set()
    for _ in range(2):
        async with db.system_transaction() as session:
            lease = await claim_next(session, per_org=100)
        assert lease is not None
        claimed.add(lease.org_id)
    assert claimed == {a.org_id, b.org_id}
    async with db.system_transaction() as session:
        assert await claim_next(session, per_org=100) is None


async def test_a_stale_fencing_token_writes_nothing(db: Database) -> None:
    a = await make_tenant(db)
    async with db.system_transaction() as session:
        await session.execute(
            text("UPDATE documents SET status = 'processing', lease_token = 5 WHERE id = :id"),
            {"id": a.document_id},
        )
    with pytest.raises(LeaseLost):
        await index_one_chunk(db, a, "late", token=4)
    async with db.transaction(a) as session:
        assert await session.scalar(text("SELECT text FROM chunks")) == f"zebra {a.org_id}"


async def test_full_text_search_uses_its_index_and_stays_in_its_organization(
    db: Database, database_url: str
) -> None:
    a, b = await make_tenant(db), await make_tenant(db)
    search = text(
        "SELECT chunk_id FROM search_chunks_fulltext("
        ":org, NULL, NULL, NULL, '{zebra}', '{1}', '{1}', 10, :extra)"
    )
    async with db.transaction(b) as session:
        foreign = list(await session.scalars(text("SELECT id FROM chunks")))
    async with db.transaction(a) as session:
        mine = (await session.execute(search, {"org": a.org_id, "extra": foreign})).all()
        assert len(mine) == 1
        # The function runs as the owner, and still refuses another organization.
        for extra in ([], foreign):
            assert (await session.execute(search, {"org": b.org_id, "extra": extra})).all() == []

    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        await connection.execute(_MANY_CHUNKS, {"org": a.org_id, "document": a.document_id})
        await connection.execute(text("ANALYZE chunks"))
        source = await connection.scalar(
            text("SELECT prosrc FROM pg_proc WHERE proname = 'search_chunks_fulltext'")
        )
        body = re.sub(r"--.*", "", str(source))
        query = body.partition("RETURN QUERY")[2].partition(";")[0]
        for name, value in {
            "here": f"'org{a.org_id.hex}'::tsquery",
            "rare_words": "ARRAY['quagga']::tsquery[]",
            "rare_weights": "ARRAY[1.0]::double precision[]",
            "words": "ARRAY['quagga']::tsquery[]",
            "weights": "ARRAY[1.0]::double precision[]",
            "average": "1.0",
            "whole": "1.0",
            "p_documents": "NULL::uuid[]",
            "p_extra": "'{}'::uuid[]",
            "p_page_first": "NULL::integer",
            "p_page_last": "NULL::integer",
            "p_org": f"'{a.org_id}'::uuid",
            "reader": f"'{a.user_id}'::uuid",
            "p_limit": "10",
        }.items():
            query = re.sub(rf"\b{name}\b", value, query)
        await connection.execute(text("SET enable_seqscan = off"))
        await connection.execute(text("SET enable_indexscan = off"))
        # Rolled back with the connection: other tests count on few rows.
        plan = "\n".join((await connection.scalars(text(f"EXPLAIN {query}"))).all())
    await engine.dispose()
    assert "Bitmap Index Scan on ix_chunks_tsv" in plan, plan
    assert "on pk_chunks" in plan, plan


async def test_a_new_space_is_a_partition_that_nobody_reaches_directly(db: Database) -> None:
    a = await make_tenant(db)
    async with db.system_transaction() as session:
        first = await indexing.ensure_space(
            session, provider="test", model=uuid4().hex, dimensions=4
        )
    async with db.system_transaction() as session:
        name = f"chunk_embeddings_{first}"
        assert await session.scalar(text("SELECT to_regclass(:name)::text"), {"name": name}) == name
    for opened in (db.transaction(a), db.system_transaction()):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with opened as session:
                await session.execute(text(f"SELECT * FROM chunk_embeddings_{first}"))


async def test_a_data_migration_of_the_owner_sees_every_row(
    db: Database, database_url: str
) -> None:
    tenants = [await make_tenant(db), await make_tenant(db)]
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE documents SET title = 'migrated' WHERE id = ANY (:ids)"),
            {"ids": [t.document_id for t in tenants]},
        )
    await engine.dispose()
    for tenant in tenants:
        async with db.transaction(tenant) as session:
            assert await session.scalar(text("SELECT title FROM documents")) == "migrated"


async def test_every_table_with_an_organization_has_policies(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        tables = await connection.execute(
            text(
                "SELECT c.relname, c.relrowsecurity,"
                " (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies"
                " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                " WHERE a.attname = 'org_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
                " AND c.relnamespace = 'public'::regnamespace"
            )
        )
        found = {row.relname: (row.relrowsecurity, row.policies) for row in tables}
    await engine.dispose()
    assert set(TENANT_TABLES) < set(found)
    for table, (is_enabled, policies) in found.items():
        assert is_enabled, table
        assert policies >= (2 if table in TENANT_TABLES else 1), table


async def test_start_up_refuses_roles_that_see_everything(
    db: Database, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.check_roles()
    monkeypatch.setattr("app.core.db.APP_ROLE", "footnote")
    jobs = JobSender(redis_url)
    unbound = Database(database_url, jobs)
    with pytest.raises(RuntimeError, match="not bound by row-level security"):
        await unbound.check_roles()
    await unbound.close()
    jobs.close()


def test_migrations_go_down_and_up_again(database_url: str) -> None:
    other = database_url.replace("/footnote?", "/migrated?")
    _run(database_url, "CREATE DATABASE migrated")
    upgrade(other)
    downgrade(other, "base")
    upgrade(other)
    upgrade(other)
    _run(database_url, "DROP DATABASE migrated")


def _run(database_url: str, statement: str) -> None:
    import asyncio

    async def execute() -> None:
        engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text(statement))
        await engine.dispose()

    asyncio.run(execute())
