"""Documents from before there were rows for versions get those that they have."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.ids import new_id
from app.migrations import downgrade, upgrade
from app.models.base import Base
from app.models.documents import DocumentVersion
from tests.owner_sql import run_sql

_ORG, _USER = new_id(), new_id()
_TABLE = DocumentVersion.__tablename__


def _insert(
    name: str, *, status: str, version: int, ready_version: int, code: str | None = None
) -> str:
    error = f"'{code}'" if code else "NULL"
    ready = f"'{name}-{ready_version}'" if ready_version else "NULL"
    deleted = "now()" if status == "deleting" else "NULL"
    return f"""
        INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes, sha256,
            status, error_code, version, ready_version, generation, ready_filename,
            ready_media_type, page_count, chunk_count, created_at, queued_at, updated_at,
            deleted_at)
        VALUES ('{_ORG}', gen_random_uuid(), '{_USER}', '{name}-{version}', 'new', 7, '{name}',
            '{status}', {error}, {version}, {ready_version}, {ready_version}, {ready}, 'old', 3, 5,
            '2026-05-01Z', '2026-05-02Z', '2026-05-03Z', {deleted})
    """


def test_existing_documents_get_the_versions_that_they_have(database_url: str) -> None:
    other = database_url.replace("/footnote?", "/versions?")
    try:
        run_sql(database_url, "CREATE DATABASE versions")
        upgrade(other, "0009")
        run_sql(
            other,
            f"INSERT INTO users (id, email, password_hash) VALUES ('{_USER}', 'a@b.example', '')",
            f"INSERT INTO organizations (id, name) VALUES ('{_ORG}', 'o')",
            _insert("waits", status="queued", version=1, ready_version=0),
            _insert("ready", status="ready", version=1, ready_version=1),
            _insert("third", status="ready", version=3, ready_version=3),
            _insert("failed", status="failed", version=4, ready_version=2, code="corrupt"),
            _insert("gone", status="deleting", version=1, ready_version=1),
        )
        upgrade(other)
        found = run_sql(
            other,
            f"""
            SELECT filename, version, media_type, size_bytes, extract(day FROM uploaded_at),
                extract(day FROM ready_at), status, error_code, page_count, chunk_count
            FROM {_TABLE} ORDER BY filename
            """,
        )
        assert found == [
            # What was served before it: its size was overwritten.
            ("failed-2", 2, "old", None, 1, None, "ready", None, 3, 5),
            ("failed-4", 4, "new", 7, 2, None, "failed", "corrupt", None, None),
            ("ready-1", 1, "new", 7, 1, 3, "ready", None, 3, 5),
            ("third-3", 3, "new", 7, 2, 3, "ready", None, 3, 5),
            ("waits-1", 1, "new", 7, 1, None, "queued", None, None, None),
        ]
        downgrade(other, "0009")
        # Nothing is left that would be written into.
        run_sql(other, "UPDATE documents SET status = 'processing' WHERE status = 'queued'")
        upgrade(other)
        statuses = run_sql(other, f"SELECT status FROM {_TABLE} WHERE filename = 'waits-1'")
        assert statuses == [("processing",)]
    finally:
        run_sql(database_url, "DROP DATABASE IF EXISTS versions")


async def test_the_model_of_versions_agrees_with_the_migration(owner: AsyncConnection) -> None:
    assert await owner.run_sync(_compare) == []


def _compare(connection: Connection) -> list[Any]:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "table" or name == _TABLE,
        "include_object": lambda _o, name, kind, _r, _c: kind != "table" or name == _TABLE,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, Base.metadata))
