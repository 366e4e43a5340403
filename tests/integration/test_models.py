"""The tables that SQLAlchemy knows are those that the migrations make."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

import app.models.vector_stores  # noqa: F401  # registers its tables
from app.models.base import Base

TABLES = (
    *("invitations", "organization_deletions", "refresh_tokens", "api_keys"),
    *("conversations", "messages", "runs", "citations"),
    *("usage_events", "usage_daily", "budgets", "budget_periods", "budget_reservations"),
    *("model_prices", "organization_prices"),
    *("openai_files", "vector_stores", "vector_store_files", "vector_store_batches"),
    "openai_responses",
)


def _is_read(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in TABLES


def _is_compared(_object: object, name: str | None, kind: str, _r: bool, _c: object) -> bool:
    return kind != "table" or name in TABLES


def _compare(connection: Connection) -> list[Any]:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": _is_read,
        "include_object": _is_compared,
    }
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, Base.metadata))


async def test_what_a_row_takes_along_is_found_by_an_index(owner: AsyncConnection) -> None:
    """Else deleting one row reads all rows of its organization."""
    unindexed = text("""
        SELECT conname FROM pg_constraint f
        WHERE contype = 'f' AND confdeltype = 'c' AND conrelid = ANY (CAST(:tables AS regclass[]))
          AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = f.conrelid AND i.indpred IS NULL
              AND (i.indkey::int2[])[0 : cardinality(f.conkey) - 1] = f.conkey)
    """)
    assert (await owner.scalars(unindexed, {"tables": list(TABLES)})).all() == []


async def test_models_of_conversations_agree_with_the_migrations(owner: AsyncConnection) -> None:
    assert await owner.run_sync(_compare) == []
