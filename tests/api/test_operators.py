"""Operators: who becomes one, who is asked, and that it ends when it is taken away."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.__main__ import main
from app.accounts import users
from app.accounts.credentials import PrincipalResolver
from app.accounts.operators import set_operator
from app.config import Settings
from app.core.db import Database
from app.core.errors import PermissionDenied, UnprocessableRequest
from app.core.jobs import JobSender
from app.dependencies import authorize_operator
from app.local.postgres import Postgres
from app.local.running import find_database_url
from app.migrations import upgrade
from app.resources import Resources
from tests.conftest import serve
from tests.people import Person, register


async def resolve(resources: Resources, person: Person) -> bool:
    """Whether they are an operator, as a process sees it that has not met them before."""
    resolver = PrincipalResolver(resources.db, resources.settings.signing_key)
    return (await resolver.resolve(person.tokens["access_token"])).is_operator


@pytest.fixture(scope="module")
def fresh_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a stack that has just been started for the first time."""
    folder = tmp_path_factory.mktemp("fresh")
    with Postgres(folder / "postgres", options={"fsync": "off"}) as postgres:
        upgrade(postgres.url)
        yield folder
    assert find_database_url(folder) is None


async def test_registering_makes_nobody_an_operator_where_somebody_is(
    person: Person, stranger: Person, resources: Resources
) -> None:
    assert not await resolve(resources, stranger)


async def test_only_an_operator_passes(
    person: Person, resources: Resources, database_url: str
) -> None:
    resolver = PrincipalResolver(resources.db, resources.settings.signing_key)
    caller = await resolver.resolve(person.tokens["access_token"])
    with pytest.raises(PermissionDenied):
        await authorize_operator(caller)
    assert await set_operator(database_url, person.email.upper(), is_operator=True)
    fresh = PrincipalResolver(resources.db, resources.settings.signing_key)
    operator = await fresh.resolve(person.tokens["access_token"])
    assert await authorize_operator(operator) is operator
    assert await set_operator(database_url, person.email, is_operator=False)
    assert not await resolve(resources, person)


async def test_a_revocation_is_noticed_when_the_cache_ends(
    person: Person, resources: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_operator(database_url, person.email, is_operator=True)
    resolver = PrincipalResolver(resources.db, resources.settings.signing_key)
    assert (await resolver.resolve(person.tokens["access_token"])).is_operator
    await set_operator(database_url, person.email, is_operator=False)
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 5.1)
    assert not (await resolver.resolve(person.tokens["access_token"])).is_operator


async def test_an_unknown_address_is_told(database_url: str) -> None:
    assert not await set_operator(database_url, "nobody@example.com", is_operator=True)
    with pytest.raises(UnprocessableRequest):
        await set_operator(database_url, "no address", is_operator=True)


async def test_the_first_user_becomes_operator_and_nobody_after(
    fresh_data_dir: Path, redis_url: str
) -> None:
    url = find_database_url(fresh_data_dir)
    assert url is not None
    jobs = JobSender(redis_url)
    db = Database(url, jobs)

    async def add_user(*, first_is_operator: bool) -> None:
        async with db.system_transaction() as session:
            await users.register(
                session,
                email=f"{uuid4().hex}@example.com",
                password_hash="",
                first_is_operator=first_is_operator,
            )

    async def count(condition: str) -> int:
        async with db.system_transaction() as session:
            query = text(f"SELECT count(*) FROM users WHERE {condition}")
            return int(await session.scalar(query) or 0)

    # Two at once, each of whom sees no other.
    await asyncio.gather(*(add_user(first_is_operator=True) for _ in range(2)))
    assert (await count("true"), await count("is_operator")) == (2, 1)
    async with db.system_transaction() as session:
        await session.execute(text("DELETE FROM memberships"))
        await session.execute(text("DELETE FROM users"))
    # In production.
    await add_user(first_is_operator=False)
    assert (await count("true"), await count("is_operator")) == (1, 0)
    await db.close()
    jobs.close()


@pytest.mark.parametrize(("environment", "operators"), [("local", 1), ("production", 0)])
async def test_registering_first_makes_an_operator_in_local_mode_only(
    fresh_data_dir: Path, settings: Settings, environment: str, operators: int
) -> None:
    url = find_database_url(fresh_data_dir)
    own = {"database_url": url, "environment": environment, "secret_key": token_hex(32)}
    async with serve(Settings(**settings.model_dump() | own, _env_file=None)) as (app, client):
        async with app.state.resources.db.system_transaction() as session:
            for table in ("refresh_tokens", "memberships", "users"):
                await session.execute(text(f"DELETE FROM {table}"))
        for _ in range(2):
            await register(client, f"{uuid4().hex}@example.com")
        async with app.state.resources.db.system_transaction() as session:
            found = await session.scalar(text("SELECT count(*) FROM users WHERE is_operator"))
            told = await session.scalar(
                text(
                    "SELECT count(*) FROM audit_events e JOIN users u ON u.id = e.user_id"
                    " WHERE e.action = 'user.register' AND e.details @> '{\"is_operator\": true}'"
                )
            )
    assert found == told == operators


async def test_the_command_line_grants_and_revokes(
    person: Person,
    resources: Resources,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(settings.data_dir)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    for step, is_operator in (("grant", True), ("grant", True), ("revoke", False)):
        assert await asyncio.to_thread(main, ["admin", step, person.email]) == 0
        assert await resolve(resources, person) is is_operator
    assert await lines_about(resources, person) == [
        ("admin.change_user", None, None, "", "Command line", {"is_operator": is_operator})
        for is_operator in (True, True, False)
    ]
    assert await asyncio.to_thread(main, ["admin", "grant", "nobody@example.com"]) == 1
    assert await asyncio.to_thread(main, ["admin", "grant", "nobody"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2


async def test_who_is_switched_off_is_made_no_operator(
    person: Person,
    resources: Resources,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(settings.data_dir)
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": person.user_id}
        )
    assert await asyncio.to_thread(main, ["admin", "grant", person.email]) == 1
    captured = capsys.readouterr()
    assert "switched off" in captured.err
    assert captured.out == ""
    assert await lines_about(resources, person) == []
    # Nothing is in the way of taking it from them.
    assert await asyncio.to_thread(main, ["admin", "revoke", person.email]) == 0
    async with resources.db.system_transaction() as session:
        query = text("SELECT is_operator FROM users WHERE id = :id")
        assert await session.scalar(query, {"id": person.user_id}) is False


async def lines_about(resources: Resources, person: Person) -> list[tuple[object, ...]]:
    """What the audit log says of changes to somebody, the oldest first."""
    query = text(
        "SELECT action, org_id, user_id, address, client, details FROM audit_events"
        " WHERE object_id = :id ORDER BY id"
    )
    async with resources.db.system_transaction() as session:
        return [tuple(row) for row in await session.execute(query, {"id": str(person.user_id)})]


def test_the_command_line_finds_the_stack_that_runs(
    fresh_data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(fresh_data_dir)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATA_DIR", str(fresh_data_dir))
    assert main(["admin", "grant", "nobody@example.com"]) == 1
    assert "register first" in capsys.readouterr().err
    monkeypatch.setenv("DATA_DIR", str(fresh_data_dir / "nothing"))
    assert main(["admin", "grant", "nobody@example.com"]) == 2
    assert "DATABASE_URL" in capsys.readouterr().err
