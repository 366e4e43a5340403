"""Somebody's organizations: making them, their names, and going on in another."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.accounts.organizations import MAX_OWNED
from app.resources import Resources
from tests.people import PASSWORD, Person, join, register, sign_in_elsewhere

URL = "/api/v1/organizations"
ME = "/api/v1/auth/me"
# As pages of the web app send it.
WEB = {"X-Footnote-Web": "1", "Sec-Fetch-Site": "same-origin", "Origin": "https://test"}


async def create(person: Person, name: str = "Second") -> dict[str, Any]:
    response = await person.post(URL, json={"name": name})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def listed(person: Person) -> list[tuple[str, str]]:
    response = await person.get(URL)
    assert response.status_code == 200, response.text
    return [(item["name"], item["role"]) for item in response.json()["items"]]


async def refresh(client: httpx2.AsyncClient, tokens: dict[str, Any]) -> httpx2.Response:
    return await client.post(
        "/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}
    )


async def test_somebody_makes_one_and_is_its_owner(person: Person, stranger: Person) -> None:
    created = await create(person, "  Lovelace\t& Babbage\u202e ")
    assert (created["name"], created["role"]) == ("Lovelace & Babbage", "owner")
    own = person.tokens["organization"]["name"]
    assert await listed(person) == [(own, "owner"), ("Lovelace & Babbage", "owner")]
    await join(stranger, person, "viewer")
    assert (await listed(person))[2:] == [(stranger.tokens["organization"]["name"], "viewer")]
    assert len(await listed(stranger)) == 1


@pytest.mark.parametrize("name", ["", " ", "\u200b", "x" * 101, None, 7])
async def test_other_names_are_422(person: Person, name: Any) -> None:
    assert (await person.post(URL, json={"name": name})).status_code == 422
    renamed = await person.client.patch(
        "/api/v1/organization", json={"name": name}, headers=person.headers
    )
    assert renamed.status_code == 422


async def test_an_organization_gets_another_name(person: Person) -> None:
    renamed = await person.client.patch(
        "/api/v1/organization", json={"name": " Renamed\n"}, headers=person.headers
    )
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Renamed")
    assert await listed(person) == [("Renamed", "owner")]
    assert (await person.get(ME)).json()["organization"]["name"] == "Renamed"


async def test_nobody_owns_more_than_twenty(person: Person, resources: Resources) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                WITH made AS (
                    INSERT INTO organizations (id, name)
                    SELECT gen_random_uuid(), 'o' FROM generate_series(1, :n) RETURNING id)
                INSERT INTO memberships (org_id, user_id, role)
                SELECT id, :user_id, 'owner' FROM made
            """),
            {"n": MAX_OWNED - 2, "user_id": person.user_id},
        )
    answers = await asyncio.gather(*(person.post(URL, json={"name": "o"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    refused = await person.post(URL, json={"name": "o"})
    assert refused.json()["error"]["code"] == "too_many_organizations"


async def test_a_sign_in_goes_on_in_another(person: Person, client: httpx2.AsyncClient) -> None:
    created = await create(person)
    switched = (await person.post(f"{URL}/{created['id']}/switch")).json()
    there = switched["organization"]
    assert (there["id"], there["name"], there["role"]) == (created["id"], "Second", "owner")
    there = Person(client, person.email, switched)
    assert (await there.get(ME)).json()["organization"]["id"] == created["id"]
    # What is asked with the old token is still asked of the old one.
    assert (await person.get(ME)).json()["organization"]["id"] == str(person.org_id)
    sign_ins = (await there.get("/api/v1/auth/sign-ins")).json()["items"]
    assert [item["is_current"] for item in sign_ins] == [True]
    renewed = (await refresh(client, switched)).json()
    assert renewed["organization"]["id"] == created["id"]
    back = (await there.post(f"{URL}/{person.org_id}/switch")).json()
    assert back["organization"]["id"] == str(person.org_id)


async def test_the_token_of_before_is_used_up(person: Person, client: httpx2.AsyncClient) -> None:
    created = await create(person)
    switched = (await person.post(f"{URL}/{created['id']}/switch")).json()
    assert (await refresh(client, person.tokens)).status_code == 401
    # Which was a theft, for all that one knows.
    assert (await refresh(client, switched)).status_code == 401


async def test_documents_are_of_one_organization(person: Person) -> None:
    uploaded = (await person.upload("here.txt", f"Here {uuid4()}.".encode())).json()
    there = await sign_in_elsewhere(person, (await create(person))["id"])
    found = await there.get(f"/api/v1/documents/{uploaded['document_id']}")
    assert found.status_code == 404


async def test_nobody_goes_where_they_are_no_member(person: Person, stranger: Person) -> None:
    for org_id in (stranger.org_id, uuid4()):
        refused = await person.post(f"{URL}/{org_id}/switch")
        assert refused.status_code == 404
    assert (await refresh(person.client, person.tokens)).status_code == 200


async def test_a_sign_in_that_has_ended_goes_nowhere(person: Person, resources: Resources) -> None:
    created = await create(person)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE refresh_tokens SET expires_at = now() WHERE user_id = :user_id"),
            {"user_id": person.user_id},
        )
    refused = await person.post(f"{URL}/{created['id']}/switch")
    assert refused.status_code == 401


async def test_an_api_key_stays_in_its_organization(person: Person) -> None:
    key = await person.post("/api/v1/api-keys", json={"name": "k", "scope": "admin"})
    headers = {"Authorization": f"Bearer {key.json()['key']}"}
    for method, url in (
        ("GET", URL),
        ("POST", f"{URL}/{person.org_id}/switch"),
        ("POST", "/api/v1/invitations/accept"),
    ):
        body = {"token": "x"} if url.endswith("accept") else None
        refused = await person.client.request(method, url, headers=headers, json=body)
        assert refused.status_code == 403, url
        assert refused.json()["error"]["code"] == "sign_in_required"


# The web app


@pytest.fixture
async def page(app: Any) -> Any:
    """A browser with cookies of its own."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="https://test", headers=WEB
    ) as browser:
        yield browser


async def begin(page: httpx2.AsyncClient, person: Person) -> dict[str, str]:
    started = await page.post("/api/v1/session", json={"email": person.email, "password": PASSWORD})
    assert started.status_code == 200, started.text
    return {"Authorization": f"Bearer {started.json()['access_token']}"}


async def switch(page: httpx2.AsyncClient, headers: dict[str, str], org_id: str) -> httpx2.Response:
    return await page.post(
        "/api/v1/session/switch", json={"organization_id": org_id}, headers=headers
    )


async def test_the_web_app_goes_on_in_another(page: httpx2.AsyncClient, person: Person) -> None:
    created = await create(person)
    headers = await begin(page, person)
    before = dict(page.cookies)
    switched = await switch(page, headers, created["id"])
    assert switched.status_code == 200, switched.text
    assert switched.json()["organization"]["id"] == created["id"]
    assert "refresh_token" not in switched.json()
    assert dict(page.cookies) != before
    renewed = await page.post("/api/v1/session/refresh")
    assert renewed.json()["organization"]["id"] == created["id"]


async def test_tabs_that_were_open_go_along(page: httpx2.AsyncClient, person: Person) -> None:
    """They share the cookie, and one of them may just have sent the one before."""
    created = await create(person)
    headers = await begin(page, person)
    ((name, old),) = page.cookies.items()
    # Another tab has renewed it, and this one does not know yet.
    await page.post("/api/v1/session/refresh")
    stale = {"Cookie": f"{name}={old}"}
    page.cookies.clear()
    switched = await switch(page, headers | stale, created["id"])
    assert switched.status_code == 200, switched.text
    page.cookies.clear()
    late = await page.post("/api/v1/session/refresh", headers=stale)
    assert late.status_code == 200, late.text
    assert late.json()["organization"]["id"] == created["id"]


async def test_a_page_switches_its_own_sign_in_only(
    page: httpx2.AsyncClient, person: Person, stranger: Person
) -> None:
    created = await create(person)
    refused = await switch(page, person.headers, created["id"])
    assert refused.status_code == 401  # without a cookie
    await begin(page, stranger)
    refused = await switch(page, person.headers, created["id"])
    assert refused.status_code == 401  # with another's
    renewed = await page.post("/api/v1/session/refresh")
    assert renewed.json()["user"]["email"] == stranger.email
    foreign = await page.post(
        "/api/v1/session/switch",
        json={"organization_id": created["id"]},
        headers=person.headers | {"Sec-Fetch-Site": "cross-site"},
    )
    assert foreign.status_code == 403


async def test_a_name_of_before_is_no_secret_of_another(client: httpx2.AsyncClient) -> None:
    """Two organizations may have one name."""
    one, two = [await register(client, f"same-{uuid4().hex}@example.com") for _ in range(2)]
    assert [(await create(who, "Same"))["name"] for who in (one, two)] == ["Same", "Same"]
