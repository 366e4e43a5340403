"""Alerts of budgets: at 80 and 100 percent, each once a month, also where the limit changes."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.db import Database
from app.core.ids import new_id
from app.llm.base import Usage
from app.llm.metering import CallKind, ModelCall
from app.resources import Resources
from app.usage.budgets import BudgetAlert, note_key_limit, set_budget
from app.usage.metering import Ledger, utc_now
from app.usage.prices import PriceBook
from tests.people import Person

MODEL = "gpt-4.1-mini"
DOLLAR = 1_000_000_000  # nano; what a token of output costs here


@dataclass(frozen=True)
class Payer:
    org_id: UUID
    user_id: UUID
    key_id: UUID | None = None


@dataclass
class Told:
    """What was told, as (scope, percent, dollars of the limit)."""

    alerts: list[tuple[str, int, int]] = field(default_factory=list)

    async def note(self, _: AsyncSession, alert: BudgetAlert) -> None:
        assert alert.state.limit_nano is not None
        self.alerts.append((alert.scope, alert.percent, alert.state.limit_nano // DOLLAR))

    def take(self) -> list[tuple[str, int, int]]:
        taken, self.alerts = self.alerts, []
        return taken


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def db(resources: Resources) -> Database:
    return resources.db


@pytest.fixture
async def payer(person: Person, owner: AsyncConnection) -> Payer:
    await owner.execute(
        text(
            "INSERT INTO organization_prices (org_id, model, input_usd, output_usd)"
            " VALUES (:org_id, :model, 0, 1000000)"
        ),
        {"org_id": person.org_id, "model": f"openai/{MODEL}"},
    )
    return Payer(person.org_id, person.user_id)


@pytest.fixture
async def ledger(db: Database, told: Told) -> AsyncIterator[Ledger]:
    ledger = Ledger(db, PriceBook(db), ceiling_usd=Decimal(1), on_alert=told.note)
    yield ledger
    await ledger.aclose()


async def spend(ledger: Ledger, payer: Payer, dollars: int) -> None:
    call = ModelCall(CallKind.CHAT, "openai", MODEL, 0, dollars)
    async with ledger.meter(payer).measure(call) as result:
        result.usage = Usage(0, dollars)


async def limit_organization(
    db: Database, ledger: Ledger, payer: Payer, told: Told, dollars: int | None
) -> None:
    nano = None if dollars is None else dollars * DOLLAR
    async with db.transaction(payer) as session:
        await set_budget(session, payer.org_id, nano, utc_now(), on_alert=told.note)
    ledger.forget_limits()


@pytest.fixture
async def key_payer(payer: Payer, owner: AsyncConnection) -> Payer:
    key_id = new_id()
    await owner.execute(
        text(
            "INSERT INTO api_keys (org_id, id, user_id, name, environment, last_chars,"
            " secret_hash, scope) VALUES (:org_id, :id, :user_id, 'k', 'test', 'abcd', :hash,"
            " 'write')"
        ),
        {"org_id": payer.org_id, "user_id": payer.user_id, "id": key_id, "hash": key_id.bytes},
    )
    return replace(payer, key_id=key_id)


async def limit_key(
    db: Database, ledger: Ledger, payer: Payer, told: Told, dollars: int | None
) -> None:
    assert payer.key_id is not None
    nano = None if dollars is None else dollars * DOLLAR
    async with db.transaction(payer) as session:
        await session.execute(
            text(
                "UPDATE api_keys SET monthly_budget_nano = :nano WHERE org_id = :org AND id = :id"
            ),
            {"nano": nano, "org": payer.org_id, "id": payer.key_id},
        )
        await note_key_limit(
            session, payer.org_id, payer.key_id, nano, utc_now(), on_alert=told.note
        )
    ledger.forget_limits()


async def test_a_limit_that_is_lowered_under_what_is_spent_tells_at_once(
    db: Database, payer: Payer, ledger: Ledger, told: Told
) -> None:
    await limit_organization(db, ledger, payer, told, 100)
    await spend(ledger, payer, 50)
    assert told.take() == []
    await limit_organization(db, ledger, payer, told, 60)
    assert told.take() == [("organization", 80, 60)]
    await limit_organization(db, ledger, payer, told, 50)
    assert told.take() == [("organization", 100, 50)]


async def test_the_first_limit_of_a_month_counts_what_was_spent_before_it(
    db: Database, payer: Payer, ledger: Ledger, told: Told
) -> None:
    await spend(ledger, payer, 9)
    await limit_organization(db, ledger, payer, told, 10)
    assert told.take() == [("organization", 80, 10)]


async def test_each_percentage_is_told_once_a_month_whatever_the_limit_becomes(
    db: Database, payer: Payer, ledger: Ledger, told: Told
) -> None:
    await limit_organization(db, ledger, payer, told, 10)
    await spend(ledger, payer, 10)
    assert told.take() == [("organization", 80, 10), ("organization", 100, 10)]
    for dollars in (100, None, 20):
        await limit_organization(db, ledger, payer, told, dollars)
    await spend(ledger, payer, 10)
    await limit_organization(db, ledger, payer, told, 5)
    assert told.take() == []


async def test_what_the_limit_before_had_not_reached_is_told_of_the_next(
    db: Database, payer: Payer, ledger: Ledger, told: Told
) -> None:
    await limit_organization(db, ledger, payer, told, 10)
    await spend(ledger, payer, 8)
    await limit_organization(db, ledger, payer, told, 20)
    assert told.take() == [("organization", 80, 10)]
    await spend(ledger, payer, 10)
    assert told.take() == []
    await spend(ledger, payer, 2)
    assert told.take() == [("organization", 100, 20)]


async def test_the_limit_of_a_key_tells_by_the_same_rule(
    db: Database, key_payer: Payer, ledger: Ledger, told: Told
) -> None:
    scope = str(key_payer.key_id)
    await limit_key(db, ledger, key_payer, told, 100)
    await spend(ledger, key_payer, 50)
    assert told.take() == []
    await limit_key(db, ledger, key_payer, told, 60)
    assert told.take() == [(scope, 80, 60)]
    await limit_key(db, ledger, key_payer, told, 200)
    await spend(ledger, key_payer, 150)
    assert told.take() == [(scope, 100, 200)]
    await limit_key(db, ledger, key_payer, told, 1000)
    await spend(ledger, key_payer, 800)
    assert told.take() == []


async def test_what_a_process_knows_too_late_tells_nothing_that_is_not_so(
    db: Database, payer: Payer, ledger: Ledger, told: Told
) -> None:
    """Its limits may be two seconds old: a call is still held against the one before."""
    await limit_organization(db, ledger, payer, told, 10)
    await spend(ledger, payer, 1)
    other = Ledger(db, PriceBook(db), ceiling_usd=Decimal(1), on_alert=told.note)
    await limit_organization(db, other, payer, told, None)
    await spend(ledger, payer, 8)
    assert told.take() == []
    await limit_organization(db, other, payer, told, 100)
    await spend(ledger, payer, 1)
    assert told.take() == []
    await limit_organization(db, ledger, payer, told, 11)
    assert told.take() == [("organization", 80, 11)]
    await other.aclose()


async def test_webhooks_hear_of_a_key_whose_limit_was_lowered(
    person: Person, payer: Payer, resources: Resources
) -> None:
    hook = {"url": "http://127.0.0.1:9/hook", "events": ["budget.alert"]}
    created = (await person.post("/api/v1/webhooks", json=hook)).json()
    made = await person.post(
        "/api/v1/api-keys",
        json={"name": f"k {uuid4()}", "scope": "write", "monthly_budget_nano": 100 * DOLLAR},
    )
    key_id = made.json()["id"]
    await spend(resources.ledger, replace(payer, key_id=UUID(key_id)), 10)
    changed = await person.client.patch(
        f"/api/v1/api-keys/{key_id}",
        json={"monthly_budget_nano": 12 * DOLLAR},
        headers=person.headers,
    )
    assert changed.status_code == 200, changed.text
    path = f"/api/v1/webhooks/{created['id']}/deliveries"
    [delivery] = (await person.get(path)).json()["items"]
    assert delivery["type"] == "budget.alert"
    shown = (await person.get(f"{path}/{delivery['id']}")).json()
    assert json.dumps(shown).count(key_id) >= 1


async def test_keys_show_what_they_have_spent_and_what_was_told(
    person: Person, payer: Payer, resources: Resources
) -> None:
    async def make(**options: object) -> str:
        body = {"name": "k", "scope": "write"} | options
        made = await person.post("/api/v1/api-keys", json=body)
        assert made.status_code == 201, made.text
        assert (made.json()["monthly_spent_nano"], made.json()["budget_alerts"]) == (0, [])
        return str(made.json()["id"])

    limited, unlimited = await make(monthly_budget_nano=10 * DOLLAR), await make()
    for key_id, dollars in ((limited, 9), (unlimited, 3)):
        await spend(resources.ledger, replace(payer, key_id=UUID(key_id)), dollars)
    listed = {each["id"]: each for each in (await person.get("/api/v1/api-keys")).json()["items"]}
    one, other = listed[limited], listed[unlimited]
    assert (one["monthly_spent_nano"], one["budget_percent"]) == (9 * DOLLAR, 90.0)
    assert [alert["percent"] for alert in one["budget_alerts"]] == [80]
    assert (other["monthly_spent_nano"], other["budget_percent"]) == (3 * DOLLAR, None)
    assert other["budget_alerts"] == []
    for key_id, shown in listed.items():
        assert (await person.get(f"/api/v1/api-keys/{key_id}")).json() == shown
