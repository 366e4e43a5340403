"""What operators see and change of users and organizations."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.__main__ import main
from app.accounts.operators import change_user, list_operators, set_operator
from app.core.errors import Conflict
from app.resources import Resources
from tests.people import PASSWORD, Person, register


@pytest.fixture
async def operator(client: httpx2.AsyncClient, database_url: str) -> Person:
    person = await register(client, f"operator-{uuid4().hex}@example.com")
    assert await set_operator(database_url, person.email, is_operator=True)
    return person


async def patch(operator: Person, user: Person, body: dict[str, object]) -> httpx2.Response:
    path = f"/api/v1/admin/users/{user.user_id}"
    return await operator.client.patch(path, headers=operator.headers, json=body)


async def test_users_are_found_by_any_part_of_their_address(
    operator: Person, person: Person
) -> None:
    response = await operator.get(f"/api/v1/admin/users?query={person.email[:20].upper()}")
    [found] = response.json()["items"]
    assert found["email"] == person.email
    assert found["organizations"] == [
        {"org_id": str(person.org_id), "name": person.email.partition("@")[0], "role": "owner"}
    ]
    assert "password" not in response.text
    nothing = await operator.get("/api/v1/admin/users?query=%25_%25")
    assert nothing.json()["items"] == []


async def test_pages_of_users_and_organizations_hold_each_once(
    operator: Person, person: Person, stranger: Person
) -> None:
    for kind in ("users", "organizations"):
        first = (await operator.get(f"/api/v1/admin/{kind}?limit=2")).json()
        cursor = first["next_cursor"]
        second = (await operator.get(f"/api/v1/admin/{kind}?limit=2&cursor={cursor}")).json()
        ids = [item["id"] for page in (first, second) for item in page["items"]]
        assert len(ids) == 2 + len(second["items"])
        assert len(set(ids)) == len(ids)
        assert ids == sorted(ids, reverse=True)


async def test_organizations_show_how_large_they_are(operator: Person, person: Person) -> None:
    await person.upload("a.txt", b"A file of 25 bytes, or so")
    name = person.email.partition("@")[0]
    [found] = (await operator.get(f"/api/v1/admin/organizations?query={name}")).json()["items"]
    assert found["id"] == str(person.org_id)
    assert (found["members"], found["documents"], found["document_bytes"]) == (1, 1, 25)
    assert found["plan"] == "enterprise"


async def test_who_is_switched_off_is_out_within_seconds(operator: Person, person: Person) -> None:
    assert (await person.get("/api/v1/auth/me")).status_code == 200
    changed = await patch(operator, person, {"is_active": False})
    assert (changed.status_code, changed.json()["is_active"]) == (200, False)
    async with asyncio.timeout(8):
        while (await person.get("/api/v1/auth/me")).status_code != 401:
            await asyncio.sleep(0.2)
    form = {"username": person.email, "password": PASSWORD}
    assert (await person.client.post("/api/v1/auth/login", data=form)).status_code == 401
    refresh = {"refresh_token": person.tokens["refresh_token"]}
    assert (await person.client.post("/api/v1/auth/refresh", json=refresh)).status_code == 401

    await patch(operator, person, {"is_active": True})
    assert (await person.client.post("/api/v1/auth/login", data=form)).status_code == 200
    assert (await person.get("/api/v1/documents")).status_code == 401  # a token of before


async def test_operators_make_operators_and_never_none(
    operator: Person, person: Person, resources: Resources
) -> None:
    assert (await patch(operator, person, {"is_operator": True})).json()["is_operator"]
    assert not (await patch(operator, person, {"is_operator": False})).json()["is_operator"]
    with pytest.raises(Conflict, match="Nobody else"):
        async with resources.db.system_transaction() as session:
            others = text("UPDATE users SET is_operator = false WHERE id <> :id")
            await session.execute(others, {"id": operator.user_id})
            await change_user(session, operator.user_id, is_operator=False)


async def test_bad_input(operator: Person, person: Person) -> None:
    for body in ({}, {"is_active": None}, {"email": "x"}, {"is_active": "perhaps"}):
        assert (await patch(operator, person, dict(body))).status_code == 422, body
    unknown = await operator.client.patch(
        f"/api/v1/admin/users/{uuid4()}", headers=operator.headers, json={"is_active": True}
    )
    assert unknown.status_code == 404
    assert (await operator.get("/api/v1/admin/users?cursor=x")).status_code == 422


@pytest.mark.parametrize("path", ["users", "organizations"])
async def test_words_that_no_name_can_hold_are_found_nowhere(operator: Person, path: str) -> None:
    response = await operator.get(f"/api/v1/admin/{path}?query={operator.email[:20]}%00")
    assert (response.status_code, response.json()["items"]) == (200, [])


async def test_nobody_else_sees_any_of_it(person: Person) -> None:
    for path in ("users", "organizations", "audit-log"):
        assert (await person.get(f"/api/v1/admin/{path}")).status_code == 403
    assert (await patch(person, person, {"is_operator": True})).status_code == 403


def test_the_command_grants_revokes_and_lists(
    database_url: str,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert main(["admin", "grant", person.email]) == 0
    assert main(["admin", "list"]) == 0
    assert person.email in capsys.readouterr().out.splitlines()
    assert main(["admin", "revoke", person.email]) == 0
    assert person.email not in asyncio.run(list_operators(database_url))
    assert main(["admin", "grant"]) == 2
    assert main(["admin", "list", person.email]) == 2
