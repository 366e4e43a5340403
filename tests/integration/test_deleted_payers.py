"""What calls used whose organization is gone when they end, and what only looks like that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from structlog.testing import capture_logs

from app.core.db import Database
from app.core.ids import new_id
from app.llm.base import Usage
from app.llm.metering import CallKind, ModelCall
from app.usage.budgets import BudgetAlert, BudgetAlertHook, set_budget
from app.usage.metering import Ledger, utc_now
from app.usage.prices import PriceBook

CALL = ModelCall(CallKind.CHAT, "openai", "gpt-4.1-mini", 100, 100)


@dataclass(frozen=True)
class Payer:
    org_id: UUID = field(default_factory=new_id)
    user_id: UUID = field(default_factory=new_id)
    key_id: UUID | None = None


@pytest.fixture
async def payer(owner: AsyncConnection) -> Payer:
    payer = Payer()
    await owner.execute(
        text("INSERT INTO organizations (id, name) VALUES (:id, 'Payers')"), {"id": payer.org_id}
    )
    return payer


def dropped() -> float:
    return REGISTRY.get_sample_value("footnote_usage_of_deleted_organizations_total") or 0.0


@asynccontextmanager
async def opened(db: Database, on_alert: BudgetAlertHook | None = None) -> AsyncIterator[Ledger]:
    ledger = Ledger(db, PriceBook(db), ceiling_usd=Decimal(1), on_alert=on_alert)
    yield ledger
    await ledger.aclose()


@pytest.mark.parametrize("nano", [None, 10**12], ids=["nothing held", "money held"])
async def test_what_a_deleted_organization_used_is_dropped_without_an_error(
    db: Database, owner: AsyncConnection, payer: Payer, nano: int | None
) -> None:
    async with db.transaction(payer) as session:
        await set_budget(session, payer.org_id, nano, utc_now())
    before = dropped()
    async with opened(db) as ledger:
        with capture_logs() as lines:
            async with ledger.meter(payer).measure(CALL) as result:
                result.usage = Usage(100, 100)
                await owner.execute(
                    text("DELETE FROM organizations WHERE id = :id"), {"id": payer.org_id}
                )
            await ledger.flush()
    assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
    assert dropped() == before + 1
    found = await owner.execute(
        text("SELECT count(*) FROM usage_events WHERE org_id = :id"), {"id": payer.org_id}
    )
    assert found.scalar_one() == 0


async def test_another_row_that_went_meanwhile_loses_no_usage(
    db: Database, owner: AsyncConnection, payer: Payer
) -> None:
    """Like a webhook that is deleted while it is to be told."""
    alerts: list[int] = []

    async def tell(session: AsyncSession, alert: BudgetAlert) -> None:
        alerts.append(alert.percent)
        if len(alerts) == 1:
            await session.execute(text("DO $$ BEGIN RAISE foreign_key_violation; END $$"))

    async with db.transaction(payer) as session:
        await set_budget(session, payer.org_id, 210_000, utc_now())
    before = dropped()
    async with opened(db, tell) as ledger:
        async with ledger.meter(payer).measure(CALL) as result:
            result.usage = Usage(100, 120)
        await ledger.flush()
    assert alerts == [80, 80, 100]
    assert dropped() == before
    found = await owner.execute(
        text("SELECT count(*) FROM usage_events WHERE org_id = :id"), {"id": payer.org_id}
    )
    assert found.scalar_one() == 1
