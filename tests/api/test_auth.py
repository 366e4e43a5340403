"""Accounts: register, sign in, refresh, sign out, change the password."""

import asyncio
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import update

from app.accounts import users
from app.accounts.permissions import Permission
from app.core.errors import NotAuthenticated
from app.models.accounts import User
from app.resources import Resources
from tests.people import PASSWORD, Person, join, register


async def test_register_gives_tokens_and_an_organization(client: httpx2.AsyncClient) -> None:
    person = await register(client, f"Ada.{uuid4().hex}@Example.com")
    me = (await person.get("/api/v1/auth/me")).json()
    assert me["user"]["email"] == person.email.lower()
    assert me["organization"]["role"] == "owner"
    assert me["organization"]["permissions"] == [each.value for each in Permission]


async def test_me_says_what_the_role_may_do(client: httpx2.AsyncClient, person: Person) -> None:
    newcomer = await register(client, f"{uuid4().hex}@example.com")
    viewer = await join(person, newcomer, "viewer")
    me = (await viewer.get("/api/v1/auth/me")).json()
    assert me["organization"]["permissions"] == ["read", "ask", "read_organization"]


async def test_me_says_who_operates_the_deployment(person: Person, resources: Resources) -> None:
    for is_operator in (True, False):
        async with resources.db.system_transaction() as session:
            await session.execute(
                update(User).where(User.id == person.user_id).values(is_operator=is_operator)
            )
        me = (await person.get("/api/v1/auth/me")).json()
        assert me["user"]["is_operator"] is is_operator


async def test_taken_address_is_409_however_it_is_typed(person: Person) -> None:
    response = await person.client.post(
        "/api/v1/auth/register", json={"email": f" {person.email.upper()} ", "password": PASSWORD}
    )
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "email_taken"


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("not-an-address", PASSWORD),
        ("a@b", PASSWORD),
        ("a b@example.com", PASSWORD),
        (f"{'x' * 300}@example.com", PASSWORD),
        ("short@example.com", "seven77"),
        ("long@example.com", "x" * 257),
        ("huge@example.com", "x" * 5000),
        ("nul@example.com", "with\x00nul in it"),
        ("nul\x00@example.com", PASSWORD),
    ],
)
async def test_bad_credentials_are_422(
    client: httpx2.AsyncClient, email: str, password: str
) -> None:
    response = await client.post(
        "/api/v1/auth/register", json={"email": email, "password": password}
    )
    assert response.status_code == 422
    assert response.json()["status"] == "error"
    assert password not in response.text


@pytest.mark.parametrize("length", [8, 72, 73, 256])
async def test_passwords_of_every_allowed_length_work(
    client: httpx2.AsyncClient, length: int
) -> None:
    email, password = f"{uuid4().hex}@example.com", "é" * length
    created = await client.post(
        "/api/v1/auth/register", json={"email": email, "password": password}
    )
    assert created.status_code == 201
    for attempt, status in ((password, 200), (password[:-1] + "x", 401)):
        response = await client.post(
            "/api/v1/auth/login", data={"username": email, "password": attempt}
        )
        assert response.status_code == status


async def test_login_does_not_tell_unknown_users_from_wrong_passwords(person: Person) -> None:
    bodies = []
    for username in (person.email, "nobody@example.com", "no address at all"):
        response = await person.client.post(
            "/api/v1/auth/login", data={"username": username, "password": "wrong password"}
        )
        body = response.json()
        body["metadata"].pop("request_id")
        bodies.append((response.status_code, body, response.headers["www-authenticate"]))
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0][0] == 401


async def test_refresh_rotates_and_reuse_ends_the_sign_in(person: Person) -> None:
    first = person.tokens["refresh_token"]
    rotated = await person.client.post("/api/v1/auth/refresh", json={"refresh_token": first})
    assert rotated.status_code == 200
    second = rotated.json()["refresh_token"]
    assert second != first
    reused = await person.client.post("/api/v1/auth/refresh", json={"refresh_token": first})
    assert reused.status_code == 401
    child = await person.client.post("/api/v1/auth/refresh", json={"refresh_token": second})
    assert child.status_code == 401


async def test_of_parallel_refreshes_one_wins_and_the_family_ends(person: Person) -> None:
    token = person.tokens["refresh_token"]
    responses = await asyncio.gather(
        *(
            person.client.post("/api/v1/auth/refresh", json={"refresh_token": token})
            for _ in range(20)
        )
    )
    winners = [r for r in responses if r.status_code == 200]
    assert len(winners) == 1
    assert {r.status_code for r in responses} == {200, 401}
    child = await person.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": winners[0].json()["refresh_token"]}
    )
    assert child.status_code == 401


async def test_logout_ends_refresh_and_access_tokens(client: httpx2.AsyncClient) -> None:
    person = await register(client, f"{uuid4().hex}@example.com")
    token = person.tokens["refresh_token"]
    gone = await client.post("/api/v1/auth/logout", json={"refresh_token": token})
    assert gone.status_code == 204
    refreshed = await client.post("/api/v1/auth/refresh", json={"refresh_token": token})
    assert refreshed.status_code == 401
    assert (await person.get("/api/v1/auth/me")).status_code == 401


async def test_changing_the_password_ends_every_other_sign_in(person: Person) -> None:
    login = await person.client.post(
        "/api/v1/auth/login", data={"username": person.email, "password": PASSWORD}
    )
    other = Person(person.client, person.email, login.json())
    refused = await person.post(
        "/api/v1/auth/password",
        json={"current_password": "wrong password", "new_password": "a new password"},
    )
    assert refused.status_code == 401
    changed = await person.post(
        "/api/v1/auth/password",
        json={"current_password": PASSWORD, "new_password": "a new password"},
    )
    assert changed.status_code == 200
    renewed = Person(person.client, person.email, changed.json())
    assert (await renewed.get("/api/v1/auth/me")).status_code == 200
    assert (await other.get("/api/v1/auth/me")).status_code == 401
    old = await person.client.post(
        "/api/v1/auth/login", data={"username": person.email, "password": PASSWORD}
    )
    assert old.status_code == 401


async def test_two_credentials_in_one_request_are_400(person: Person) -> None:
    response = await person.client.get(
        "/api/v1/auth/me", headers={**person.headers, "X-API-Key": "fn_live_x"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "ambiguous_credentials"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b", "Bearer a.b.c.d.e"]
)
async def test_no_usable_credential_is_401(client: httpx2.AsyncClient, header: str) -> None:
    response = await client.get("/api/v1/auth/me", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


async def test_reuse_during_a_rotation_still_ends_the_family(person: Person) -> None:
    """Whichever comes first, no token of the family works afterwards."""

    async def refresh(token: str) -> httpx2.Response:
        return await person.client.post("/api/v1/auth/refresh", json={"refresh_token": token})

    for _ in range(8):
        login = await person.client.post(
            "/api/v1/auth/login", data={"username": person.email, "password": PASSWORD}
        )
        old = login.json()["refresh_token"]
        current = (await refresh(old)).json()["refresh_token"]
        rotated, reused = await asyncio.gather(refresh(current), refresh(old))
        assert reused.status_code == 401
        newest = rotated.json().get("refresh_token", current)
        assert (await refresh(newest)).status_code == 401


async def test_a_login_that_overlaps_a_password_change_does_not_count(
    person: Person, resources: Resources
) -> None:
    async with resources.db.system_transaction() as session:
        found = await users.find_credentials(session, person.email)
    assert found is not None
    async with resources.db.system_transaction() as session:
        await users.set_password(session, person.user_id, "another hash")
    with pytest.raises(NotAuthenticated):
        async with resources.db.system_transaction() as session:
            await users.confirm_credentials(session, *found)
