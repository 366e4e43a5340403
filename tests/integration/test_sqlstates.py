"""What the database, or its driver alone, says was wrong, whichever way it was asked."""

import asyncpg
import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import BigInteger

from app.core.db import Database, OrganizationScope, sqlstate_of
from app.core.ids import new_id

UNIQUE_VIOLATION = "23505"
INSERT = "INSERT INTO organizations (id, name) VALUES ('{id}', 'zoo')"
TOO_LARGE = 2**80


async def test_what_a_constraint_refuses_has_its_code(db: Database) -> None:
    insert = INSERT.format(id=new_id())
    with pytest.raises(DBAPIError) as refused:
        async with db.system_transaction() as session:
            await session.execute(text(insert))
            await session.execute(text(insert))
    assert sqlstate_of(refused.value) == UNIQUE_VIOLATION


async def test_a_value_that_the_driver_refuses_is_a_data_exception_from_it(db: Database) -> None:
    async with db.reading(OrganizationScope(new_id())) as driver:
        with pytest.raises(asyncpg.DataError) as refused:
            await driver.fetchval("SELECT $1::bigint", TOO_LARGE)
    assert sqlstate_of(refused.value).startswith("22")


async def test_a_value_that_the_driver_refuses_is_a_data_exception_through_sqlalchemy(
    db: Database,
) -> None:
    select = text("SELECT :value").bindparams(bindparam("value", type_=BigInteger()))
    with pytest.raises(DBAPIError) as refused:
        async with db.transaction(OrganizationScope(new_id())) as session:
            await session.execute(select, {"value": TOO_LARGE})
    assert sqlstate_of(refused.value).startswith("22")


@pytest.mark.parametrize("error", [ConnectionRefusedError(), asyncpg.InterfaceError("closed")])
def test_a_connection_that_fails_has_no_code(error: Exception) -> None:
    assert sqlstate_of(error) == ""
