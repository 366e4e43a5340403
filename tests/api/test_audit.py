"""The audit log: every change leaves a line, which nobody changes."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.accounts.operators import set_operator
from app.audit_trail import AUDITED, UNAUDITED
from app.resources import Resources
from tests.owner_sql import run_sql
from tests.people import PASSWORD, Person, register

ORGANIZATION = "/api/v1/organization"
_CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
async def operator(client: httpx2.AsyncClient, database_url: str) -> Person:
    person = await register(client, f"operator-{uuid4().hex}@example.com")
    assert await set_operator(database_url, person.email, is_operator=True)
    return person


async def lines_of(operator: Person, org_id: UUID) -> list[dict[str, Any]]:
    response = await operator.get(f"/api/v1/admin/audit-log?org_id={org_id}")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def delete_organization(person: Person) -> httpx2.Response:
    body = {"confirm": person.tokens["organization"]["name"]}
    return await person.client.request("DELETE", ORGANIZATION, json=body, headers=person.headers)


async def log_of(person: Person, query: str = "") -> list[dict[str, Any]]:
    response = await person.get(f"/api/v1/organization/audit-log{query}")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_every_route_that_changes_something_is_audited_or_reviewed(app: FastAPI) -> None:
    routes = {
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        for method in getattr(route.original_route, "methods", None) or ()
        if method in _CHANGES
    }
    assert routes - set(AUDITED) - UNAUDITED == set()
    assert (set(AUDITED) | UNAUDITED) - routes == set()
    assert set(AUDITED) & UNAUDITED == set()


async def test_who_what_object_from_where_and_result(person: Person) -> None:
    uploaded = (await person.upload("a.txt", b"words of a secret kind")).json()
    await person.delete(f"/api/v1/documents/{uploaded['document_id']}")
    await person.delete(f"/api/v1/documents/{person.user_id}")

    missing, deleted, upload, registered = await log_of(person)
    assert registered["action"] == "user.register"
    assert upload["action"] == "document.upload"
    assert deleted["action"] == missing["action"] == "document.delete"
    assert deleted["object_id"] == uploaded["document_id"]
    assert (deleted["result"], deleted["status"]) == ("ok", 202)
    assert (missing["result"], missing["status"]) == ("denied", 404)
    for line in (missing, deleted, upload):
        assert line["user_id"] == str(person.user_id)
        assert line["email"] == person.email
        assert line["address"]
        assert line["request_id"]
        assert line["key_id"] is None
    assert "secret" not in str(await log_of(person))


async def test_a_key_is_named(person: Person) -> None:
    created = (await person.post("/api/v1/api-keys", json={"name": "k", "scope": "write"})).json()
    headers = {"Authorization": f"Bearer {created['key']}"}
    files = {"file": ("b.txt", b"words")}
    await person.client.post("/api/v1/documents/upload", headers=headers, files=files)

    upload, made = (await log_of(person))[:2]
    assert (upload["action"], upload["key_id"]) == ("document.upload", created["id"])
    assert (made["action"], made["object_id"]) == ("api_key.create", created["id"])
    assert created["key"] not in str(await log_of(person))


async def test_sign_ins_are_lines_also_wrong_ones(person: Person, database_url: str) -> None:
    form = {"username": person.email, "password": PASSWORD}
    await person.client.post("/api/v1/auth/login", data=form)
    await person.client.post("/api/v1/auth/login", data=form | {"password": "not this one"})

    [signed_in] = await log_of(person, "?action=user.sign_in")
    assert (signed_in["result"], signed_in["user_id"]) == ("ok", str(person.user_id))
    await set_operator(database_url, person.email, is_operator=True)
    fresh = Person(
        person.client,
        person.email,
        (await person.client.post("/api/v1/auth/login", data=form)).json(),
    )
    everything = (await fresh.get("/api/v1/admin/audit-log?action=user.sign_in")).json()["items"]
    wrong = next(line for line in everything if line["status"] == 401)
    assert (wrong["org_id"], wrong["user_id"], wrong["result"]) == (None, None, "denied")
    assert "not this one" not in str(everything)


async def test_filters_and_pages(person: Person) -> None:
    for number in range(5):
        await person.upload(f"{number}.txt", b"text %d" % number)
    assert len(await log_of(person, "?action=document.upload")) == 5
    assert await log_of(person, "?action=document.delete") == []
    assert await log_of(person, "?since=2999-01-01T00:00:00Z") == []
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/api/v1/organization/audit-log?limit=2{cursor}"
        page = (await person.get(path)).json()
        seen += [line["id"] for line in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 6
    assert seen == sorted(seen, reverse=True)
    assert (await person.get("/api/v1/organization/audit-log?limit=0")).status_code == 422


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_times_behind_the_calendar_are_422(person: Person, moment: str) -> None:
    for name in ("since", "until"):
        path = "/api/v1/organization/audit-log"
        response = await person.get(path, params={name: moment})
        assert response.status_code == 422, name
        assert response.json()["error"]["param"] == name


async def test_an_action_that_no_line_can_have_has_none(person: Person) -> None:
    assert await log_of(person, "?action=%00") == []


async def count_lines(resources: Resources) -> int:
    async with resources.db.system_transaction() as session:
        count: int = await session.scalar(text("SELECT count(*) FROM audit_events"))
    return count


async def test_strangers_write_no_lines(client: httpx2.AsyncClient, resources: Resources) -> None:
    before = await count_lines(resources)
    for method, path, body in (
        ("DELETE", f"/api/v1/documents/{uuid4()}", None),
        ("POST", "/api/v1/webhooks", {}),
        ("POST", "/api/v1/auth/logout", {"refresh_token": "made up"}),
        ("POST", "/api/v1/auth/register", {"email": "nobody"}),
        ("POST", "/api/v1/auth/login", {}),
    ):
        response = await client.request(method, path, json=body)
        assert response.status_code in (204, 401, 422), path
    assert await count_lines(resources) == before


async def test_who_signs_out_is_named(person: Person) -> None:
    form = {"username": person.email, "password": PASSWORD}
    second = (await person.client.post("/api/v1/auth/login", data=form)).json()
    body = {"refresh_token": second["refresh_token"]}
    await person.client.post("/api/v1/auth/logout", json=body)
    [line] = await log_of(person, "?action=user.sign_out")
    assert (line["result"], line["user_id"]) == ("ok", str(person.user_id))


async def test_who_deleted_an_organization_is_known_after_it_is_gone(
    person: Person, resources: Resources
) -> None:
    path, headers = "/api/v1/organization", person.headers
    denied = await person.client.request("DELETE", path, json={"confirm": "?"}, headers=headers)
    assert denied.status_code == 422
    body = {"confirm": person.tokens["organization"]["name"]}
    deleted = await person.client.request("DELETE", path, json=body, headers=headers)
    assert deleted.status_code == 202
    async with resources.db.system_transaction() as session:
        await session.execute(text("SELECT forget_audit_events(:id)"), {"id": person.org_id})
        left = await session.execute(
            text(
                "SELECT org_id, object_id, status, address <> '' AND client <> '' FROM audit_events"
                " WHERE user_id = :id AND action = 'organization.delete' ORDER BY id"
            ),
            {"id": person.user_id},
        )
    gone = (person.org_id, str(person.org_id))
    assert left.all() == [(*gone, 422, True), (*gone, 202, True)]


async def test_of_a_deleted_organization_operators_keep_who_did_what(
    person: Person, operator: Person, resources: Resources
) -> None:
    uploaded = (await person.upload("a.txt", b"words")).json()
    await person.delete(f"/v1/files/{person.email}")
    invited = {"email": f"invited-{uuid4().hex}@example.com", "role": "viewer"}
    assert (await person.post(f"{ORGANIZATION}/invitations", json=invited)).status_code == 201
    before = await lines_of(operator, person.org_id)
    assert invited["email"] in str(before)
    assert all(line["address"] for line in before)

    assert (await delete_organization(person)).status_code == 202
    async with resources.db.system_transaction() as session:
        forget = text("SELECT forget_audit_events(:id)")
        assert await session.scalar(forget, {"id": person.org_id}) == len(before)
        assert await session.scalar(forget, {"id": person.org_id}) == 0

    deleted, *after = await lines_of(operator, person.org_id)
    assert deleted["action"] == "organization.delete"
    assert deleted["address"]
    kept = ("id", "at", "org_id", "user_id", "action", "status", "request_id")
    assert [{name: line[name] for name in kept} for line in after] == [
        {name: line[name] for name in kept} for line in before
    ]
    for line in after:
        assert (line["address"], line["client"], line["details"]) == ("", "", {})
    objects = {line["action"]: line["object_id"] for line in after}
    assert objects["document.upload"] == uploaded["document_id"]
    assert objects["document.delete"] is None  # a path holds whatever was typed


async def test_what_operators_did_stays_whole(operator: Person, resources: Resources) -> None:
    path = f"/api/v1/admin/organizations/{operator.org_id}/limits"
    changed = await operator.client.put(path, json={"plan": "pro"}, headers=operator.headers)
    assert changed.status_code == 200, changed.text
    assert (await delete_organization(operator)).status_code == 202
    async with resources.db.system_transaction() as session:
        await session.execute(text("SELECT forget_audit_events(:id)"), {"id": operator.org_id})
        query = text(
            "SELECT address <> '', details->>'plan' FROM audit_events"
            " WHERE org_id = :id AND action = 'admin.change_limits'"
        )
        assert (await session.execute(query, {"id": operator.org_id})).all() == [(True, "pro")]


async def change(
    person: Person, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Do it, and return the newest line of the log of their organization."""
    response = await person.client.request(method, path, json=body, headers=person.headers)
    assert response.is_success, response.text
    return (await log_of(person))[0]


async def test_what_was_changed_is_said(person: Person) -> None:
    line = await change(person, "PUT", "/api/v1/budget", {"monthly_limit_usd": "12.50"})
    assert (line["action"], line["details"]) == ("budget.change", {"monthly_limit_usd": "12.50"})

    settings = {"name": "Zoo & Sons", "system_prompt": "Whisper.", "reject_prompt_injection": True}
    line = await change(person, "PATCH", "/api/v1/organization", settings)
    assert line["details"] == {
        "name": "Zoo & Sons",
        "reject_prompt_injection": True,
        "system_prompt_chars": 8,
    }

    key = {"name": "k", "scope": "write", "requests_per_minute": 5}
    line = await change(person, "POST", "/api/v1/api-keys", key)
    assert line["details"] == key | {"environment": "live"}
    path = f"/api/v1/api-keys/{line['object_id']}"
    line = await change(person, "PATCH", path, {"tokens_per_day": 9, "requests_per_minute": None})
    assert line["details"] == {"tokens_per_day": 9, "requests_per_minute": None}
    line = await change(person, "POST", f"{path}/rotate", {"overlap_s": 60})
    assert line["details"] == {"overlap_s": 60}

    webhook = {"url": "http://127.0.0.1:9/T0/secret-path?token=s", "events": ["run.failed"]}
    line = await change(person, "POST", "/api/v1/webhooks", webhook)
    assert line["details"] == {"events": ["run.failed"], "host": "127.0.0.1"}
    path = f"/api/v1/webhooks/{line['object_id']}"
    line = await change(person, "PATCH", path, {"is_active": False})
    assert line["details"] == {"is_active": False}
    assert "secret-path" not in str(await log_of(person))

    uploaded = (await person.upload("a.txt", b"words")).json()
    path = f"/api/v1/documents/{uploaded['document_id']}"
    line = await change(person, "PATCH", path, {"tags": ["hush"], "visibility": "private"})
    assert line["details"] == {"changed": ["tags", "visibility"], "visibility": "private"}


async def test_what_is_named_in_no_path_is_an_object_too(person: Person) -> None:
    created = await person.post("/api/v1/organizations", json={"name": "Second"})
    started = await person.client.post(
        "/api/v1/uploads",
        headers=person.headers | {"Tus-Resumable": "1.0.0", "Upload-Length": "15"},
    )
    assert started.status_code == 201, started.text
    assert (await log_of(person))[0]["object_id"] == started.json()["upload_id"]

    own_page = {"X-Footnote-Web": "1", "Sec-Fetch-Site": "same-origin"}
    form = {"email": person.email, "password": PASSWORD}
    # A client of its own, for the cookie.
    async with httpx2.AsyncClient(
        transport=person.client._transport, base_url="https://footnote.test", headers=own_page
    ) as browser:
        signed_in = (await browser.post("/api/v1/session", json=form)).json()
        switched = await browser.post(
            "/api/v1/session/switch",
            json={"organization_id": created.json()["id"]},
            headers={"Authorization": f"Bearer {signed_in['access_token']}"},
        )
        assert switched.status_code == 200, switched.text
        there = {"Authorization": f"Bearer {switched.json()['access_token']}"}
        log = (await browser.get(f"{ORGANIZATION}/audit-log", headers=there)).json()["items"]
    assert (log[0]["action"], log[0]["object_id"]) == ("organization.switch", created.json()["id"])


async def test_what_operators_changed_is_said(operator: Person, stranger: Person) -> None:
    limits = {"plan": "pro", "overrides": {"documents": 7, "members": None}}
    path = f"/api/v1/admin/organizations/{stranger.org_id}/limits"
    line = await change(operator, "PUT", path, limits)
    assert (line["object_id"], line["details"]) == (str(stranger.org_id), limits)

    price = {"input_usd": "1.5", "output_usd": "6", "cached_input_usd": None}
    path = f"/api/v1/admin/prices/openai/audited-{uuid4().hex}"
    line = await change(operator, "PUT", path, price)
    assert line["details"] == price | {"organization_id": None}
    theirs = f"{path}?organization_id={stranger.org_id}"
    line = await change(operator, "PUT", theirs, price)
    assert line["details"] == price | {"organization_id": str(stranger.org_id)}
    line = await change(operator, "DELETE", theirs)
    assert line["details"] == {"organization_id": str(stranger.org_id)}
    await change(operator, "DELETE", path)

    alias = {"description": "Quick", "targets": [{"model": "openai/gpt-4.1-nano", "weight": 3}]}
    path = f"/api/v1/admin/model-aliases/audited-{uuid4().hex}"
    line = await change(operator, "PUT", path, alias)
    assert line["details"] == alias | {"allow_extractive": False}
    await change(operator, "DELETE", path)

    # What failed says what was asked for.
    path = f"/api/v1/admin/organizations/{uuid4()}/limits"
    missing = await operator.client.put(path, json={"plan": "free"}, headers=operator.headers)
    assert missing.status_code == 404
    assert (await log_of(operator))[0]["details"] == {"plan": "free", "overrides": {}}


async def test_another_organization_sees_none_of_it(person: Person, stranger: Person) -> None:
    await person.upload("a.txt", b"words")
    mine = {line["id"] for line in await log_of(person)}
    assert not mine & {line["id"] for line in await log_of(stranger)}


@pytest.mark.parametrize(
    "change", ["UPDATE audit_events SET status = 1", "DELETE FROM audit_events"]
)
async def test_no_role_of_the_product_changes_a_line(
    person: Person, resources: Resources, change: str
) -> None:
    principal = await resources.principals.resolve(person.tokens["access_token"])
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with resources.db.system_transaction() as session:
            await session.execute(text(change))
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with resources.db.transaction(principal) as session:
            await session.execute(text(change))


async def test_lines_of_a_living_organization_are_not_forgotten(
    person: Person, resources: Resources, database_url: str
) -> None:
    forget = text("SELECT forget_audit_events(:org)")
    with pytest.raises(Exception, match="not deleted"):
        async with resources.db.system_transaction() as session:
            await session.execute(forget, {"org": person.org_id})
    tombstone = f"UPDATE organizations SET deleted_at = now() WHERE id = '{person.org_id}'"
    await asyncio.to_thread(run_sql, database_url, tombstone)
    async with resources.db.system_transaction() as session:
        assert await session.scalar(forget, {"org": person.org_id}) == 1


async def test_a_line_that_can_not_be_written_stops_nothing(
    client: httpx2.AsyncClient, person: Person, database_url: str
) -> None:
    revoke = "REVOKE INSERT ON audit_events FROM footnote_system"
    await asyncio.to_thread(run_sql, database_url, revoke)
    try:
        response = await person.upload("a.txt", b"words")
    finally:
        grant = "GRANT INSERT ON audit_events TO footnote_system"
        await asyncio.to_thread(run_sql, database_url, grant)
    assert response.status_code == 202
