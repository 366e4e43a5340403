"""The tables that SQLAlchemy knows are those that the migrations make."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

import app.models.conversations  # noqa: F401  # registers its tables
from app.models.base import Base

TABLES = ("conversations", "messages", "runs", "citations")


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


async def test_models_of_conversations_agree_with_the_migrations(owner: AsyncConnection) -> None:
    assert await owner.run_sync(_compare) == []
