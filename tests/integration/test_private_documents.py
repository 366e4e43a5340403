"""What the database holds of private documents: models, plans, upgrades, and who reads vectors."""

import ast
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

import app.models.deletions
import app.models.documents
import app.models.uploads  # noqa: F401  # registers its tables
from app.migrations import downgrade, upgrade
from app.models.base import Base
from tests.owner_sql import run_sql

TABLES = ("documents", "private_lexemes", "lexemes", "deletions", "uploads", "document_versions")
APP = Path(__file__).parents[2] / "app"
# Vectors have no policy for private documents. These don't read them for anybody.
READ_VECTORS = {
    "app/documents/deletion.py",  # system: whether all are gone
    "app/ingestion/hnsw.py",  # the owner: which spaces need an index
    "app/ingestion/indexing.py",  # a lease: writes those of its own document
    "app/ingestion/vectors.py",  # system, or a lease for its own document: which chunks lack one
}
SEARCH_VECTORS = {"app/retrieval/dense.py", "app/retrieval/fulltext.py", "app/retrieval/recall.py"}
_VECTORS = re.compile(r"\b(?:FROM|JOIN|INTO) chunk_embeddings\b")


def _is_compared(_object: object, name: str | None, kind: str, _r: bool, _c: object) -> bool:
    return kind != "table" or name in TABLES


def _compare(connection: Connection) -> list[Any]:
    options = {
        "compare_type": True,
        "include_name": lambda name, kind, _parents: kind != "table" or name in TABLES,
        "include_object": _is_compared,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, Base.metadata))


async def test_models_of_documents_agree_with_the_migrations(owner: AsyncConnection) -> None:
    assert await owner.run_sync(_compare) == []


def _read_strings(path: Path) -> list[str]:
    """Return the texts in a module, with nothing for what f-strings fill in."""
    texts: list[str] = []
    pieces: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):  # the whole before its pieces
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            pieces.update(map(id, parts))
            texts.append("".join(str(part.value) for part in parts))
        elif isinstance(node, ast.Constant) and id(node) not in pieces:
            texts.append(str(node.value))
    return texts


def test_every_statement_that_searches_vectors_joins_their_documents() -> None:
    found: dict[str, list[str]] = {}
    for path in APP.rglob("*.py"):
        statements = [text for text in _read_strings(path) if _VECTORS.search(text)]
        if statements and "migrations" not in path.parts:
            found[path.relative_to(APP.parent).as_posix()] = statements
    assert found.keys() == READ_VECTORS | SEARCH_VECTORS
    for name in SEARCH_VECTORS:
        for statement in found[name]:
            # Spaces are nobody's.
            assert re.search(r"\b(documents|embedding_spaces)\b", statement), (name, statement)


async def test_functions_that_run_as_the_owner_are_the_reviewed_ones(
    owner: AsyncConnection,
) -> None:
    """No policy binds them: each asks for the organization, and for the user where it tells of a
    document."""
    names = await owner.scalars(
        text(
            "SELECT proname FROM pg_proc"
            " WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY proname"
        )
    )
    asking = {"search_chunks_fulltext", "hold_live_vectors"}
    assert asking <= set(names)
    for name in asking:
        source = await owner.scalar(
            text("SELECT prosrc FROM pg_proc WHERE proname = :name"), {"name": name}
        )
        assert "private_to" in str(source)
        assert "app.user_id" in str(source)


async def test_what_is_kept_of_documents_shows_only_where_they_show(
    owner: AsyncConnection,
) -> None:
    """A table that names documents has their policy, or stands in the reviewed list."""
    rows = await owner.execute(
        text(
            "SELECT c.relname, pg_get_expr(p.polqual, p.polrelid) AS shown"
            " FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'document_id'"
            " WHERE p.polname = 'tenant'"
        )
    )
    unguarded = set()
    for table, shown in rows:
        if "FROM documents" not in shown and "private_to" not in shown:
            unguarded.add(table)
    assert unguarded == {
        "chunk_embeddings",  # no words; see the test of their readers
        "citations",  # a conversation's, and so a user's
        "uploads",  # a user's
    }


def test_private_documents_keep_the_schema_from_going_back(database_url: str) -> None:
    """Without the column they would be everybody's."""
    url = database_url.replace("/footnote?", "/private_documents?")
    org, user = uuid4(), uuid4()
    try:
        run_sql(database_url, "CREATE DATABASE private_documents")
        upgrade(url, "0014")
        run_sql(
            url,
            f"INSERT INTO organizations (id, name) VALUES ('{org}', 'o')",
            f"INSERT INTO users (id, email, password_hash) VALUES ('{user}', 'u@b.example', '')",
            "INSERT INTO documents (org_id, id, uploaded_by, private_to, filename, media_type,"
            f" size_bytes, sha256, status) VALUES ('{org}', gen_random_uuid(), '{user}', '{user}',"
            " 'f', 'text/plain', 1, '', 'queued')",
        )
        with pytest.raises(DBAPIError, match="share or delete them first"):
            downgrade(url, "0013")
        run_sql(url, "UPDATE documents SET private_to = NULL")
        downgrade(url, "0013")
        upgrade(url, "0014")
        run_sql(url, "UPDATE documents SET private_to = uploaded_by")
    finally:
        run_sql(database_url, "DROP DATABASE IF EXISTS private_documents WITH (FORCE)")
