"""SQL as the owner, whom row-level security does not bind, in tests that are not asynchronous."""

import asyncio
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


def run_sql(url: str, *statements: str) -> list[Any]:
    """Run statements, each in a transaction of its own. Returns the rows of the last one."""

    async def execute() -> list[Any]:
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        rows: list[Any] = []
        async with engine.connect() as connection:
            for statement in statements:
                result = await connection.execute(text(statement))
                rows = list(result.all()) if result.returns_rows else []
        await engine.dispose()
        return rows

    return asyncio.run(execute())
