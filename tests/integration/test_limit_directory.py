"""The limits of an organization while they are changed, and while nobody can look them up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
from sqlalchemy import text

from app.core.db import Database, TenantScope
from app.core.ids import new_id
from app.usage.organization_limits import LimitDirectory
from app.usage.plans import OrganizationPlan


class Held(Database):
    """Reads from the database, and answers when it may."""

    def __init__(self, db: Database) -> None:
        self._inner = db
        self.reads = 0
        self.has_read = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    @asynccontextmanager
    async def reading(self, scope: TenantScope) -> AsyncIterator[asyncpg.Connection]:
        self.reads += 1
        if self.error is not None:
            raise self.error
        async with self._inner.reading(scope) as driver:
            yield driver
            self.has_read.set()
            await self.may_answer.wait()


async def organization(db: Database) -> UUID:
    org_id = new_id()
    async with db.system_transaction() as session:
        await session.execute(
            text("INSERT INTO organizations (id, name, plan) VALUES (:id, 'zoo', 'free')"),
            {"id": org_id},
        )
    return org_id


async def set_plan(db: Database, org_id: UUID, plan: str) -> None:
    async with db.system_transaction() as session:
        await session.execute(
            text("UPDATE organizations SET plan = :plan WHERE id = :id"),
            {"id": org_id, "plan": plan},
        )


async def test_who_asks_after_a_change_does_not_get_what_was_read_before_it(db: Database) -> None:
    org_id = await organization(db)
    held = Held(db)
    directory = LimitDirectory(held, OrganizationPlan.FREE)
    before = asyncio.create_task(directory.get(org_id))
    await held.has_read.wait()
    await set_plan(db, org_id, "pro")
    directory.forget(org_id)
    after = asyncio.create_task(directory.get(org_id))
    held.may_answer.set()
    assert (await before).plan is OrganizationPlan.FREE
    assert (await after).plan is OrganizationPlan.PRO
    assert (await directory.get(org_id)).plan is OrganizationPlan.PRO


async def test_a_crowd_asks_once(db: Database) -> None:
    org_id = await organization(db)
    held = Held(db)
    held.may_answer.set()
    directory = LimitDirectory(held, OrganizationPlan.ENTERPRISE)
    found = await asyncio.gather(*(directory.get(org_id) for _ in range(20)))
    assert {limits.plan for limits in found} == {OrganizationPlan.FREE}
    assert held.reads == 1


async def test_while_the_database_is_away_what_held_last_holds(db: Database) -> None:
    org_id = await organization(db)
    held = Held(db)
    held.may_answer.set()
    directory = LimitDirectory(held, OrganizationPlan.ENTERPRISE, ttl_s=0)
    await directory.get(org_id)
    held.error = ConnectionRefusedError()
    assert (await directory.get(org_id)).plan is OrganizationPlan.FREE
    assert held.reads == 2
    unknown = await directory.get(new_id())
    assert (unknown.plan, unknown.is_default) == (OrganizationPlan.ENTERPRISE, True)
