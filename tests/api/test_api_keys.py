"""API keys: made, shown once, used, changed, rotated and revoked."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.accounts.api_key_secrets import new_secret
from app.accounts.api_key_uses import KeyUses
from app.accounts.api_keys import MAX_LIVE_KEYS
from app.accounts.permissions import Scope
from app.accounts.principal import Principal
from app.core.errors import RateLimited
from app.core.ids import new_id
from app.models.accounts import MemberRole
from app.models.api_keys import KeyEnvironment
from app.resources import Resources
from tests.key_holders import (
    API_KEYS,
    holder_of,
    let_5_s_pass,
    make_key,
    plant_key,
    set_role,
)
from tests.people import PASSWORD, Person, register

DOCUMENTS = "/api/v1/documents"


def error_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def listed(person: Person, **params: Any) -> list[dict[str, Any]]:
    response = await person.get(API_KEYS, params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def patch(person: Person, key_id: str, **fields: Any) -> httpx2.Response:
    return await person.client.patch(f"{API_KEYS}/{key_id}", headers=person.headers, json=fields)


async def rotate(person: Person, key_id: str, **fields: Any) -> httpx2.Response:
    return await person.post(f"{API_KEYS}/{key_id}/rotate", json=fields)


async def join(resources: Resources, person: Person, role: MemberRole) -> Person:
    """Add a colleague to a person's organization. They sign in there."""
    colleague = await register(person.client, f"colleague-{uuid4().hex}@example.com")
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("DELETE FROM memberships WHERE user_id = :id"), {"id": colleague.user_id}
        )
        await session.execute(
            text("INSERT INTO memberships (org_id, user_id, role) VALUES (:org_id, :id, :role)"),
            {"org_id": person.org_id, "id": colleague.user_id, "role": role.value},
        )
    signed_in = await person.client.post(
        "/api/v1/auth/login", data={"username": colleague.email, "password": PASSWORD}
    )
    assert signed_in.status_code == 200, signed_in.text
    joined = Person(person.client, colleague.email, signed_in.json())
    assert joined.org_id == person.org_id
    return joined


async def execute(resources: Resources, statement: str, **values: Any) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(text(statement), values)


# Made and shown


async def test_a_key_is_shown_once_and_never_again(person: Person, resources: Resources) -> None:
    response = await person.post(API_KEYS, json={"name": "nightly", "scope": "read"})
    assert response.status_code == 201
    assert response.headers["cache-control"] == "private, no-store"
    made = response.json()
    secret = made.pop("key")
    assert re.fullmatch(r"fn_live_[0-9A-Za-z]{49}", secret)
    assert made["last_chars"] == secret[-4:]
    assert (made["name"], made["scope"], made["environment"]) == ("nightly", "read", "live")
    assert made["user_id"] == str(person.user_id)
    assert made["last_used_at"] is made["revoked_at"] is made["expires_at"] is None
    assert made["made_by_key_id"] is None
    assert made["allowed_models"] is None
    shown = await person.get(response.headers["location"])
    assert shown.json() == made
    assert await listed(person) == [made]
    async with resources.db.system_transaction() as session:
        row = (
            await session.execute(
                text("SELECT k::text AS row, secret_hash FROM api_keys k WHERE id = :id"),
                {"id": UUID(made["id"])},
            )
        ).one()
    assert len(row.secret_hash) == 32
    for secret_part in (secret, secret[8:-6], secret[8:28]):
        assert secret_part not in row.row
        assert secret_part.encode() not in row.secret_hash


async def test_a_key_of_the_test_environment_says_so(person: Person) -> None:
    made = await make_key(person, environment="test")
    assert made["key"].startswith("fn_test_")
    assert (await holder_of(person, made["key"]).get(DOCUMENTS)).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", " \u200b "),
        ("name", "x" * 101),
        ("scope", "owner"),
        ("scope", None),
        ("environment", "prod"),
        ("allowed_models", []),
        ("allowed_models", [""]),
        ("allowed_models", ["m" * 201]),
        ("allowed_models", ["m"] * 101),
        ("allowed_models", "openai/x"),
        ("expires_at", "2020-01-01T00:00:00Z"),
        ("expires_at", "2999-01-01T00:00:00"),
        ("expires_at", "9999-12-31T23:59:59-14:00"),
        ("requests_per_minute", 0),
        ("requests_per_minute", 2**40),
        ("tokens_per_day", -1),
        ("tokens_per_day", 2**31),
        ("monthly_budget_nano", -1),
        ("monthly_budget_nano", 2**63),
        ("user_id", str(UUID(int=7))),
        ("org_id", str(UUID(int=7))),
        ("secret_hash", "00"),
        ("last_used_at", "2999-01-01T00:00:00Z"),
    ],
)
async def test_what_is_no_key_is_422(person: Person, field: str, value: Any) -> None:
    body = {"name": "a key", "scope": "read"} | {field: value}
    refused = await person.post(API_KEYS, json=body)
    assert error_of(refused) == (422, "validation_error")
    assert await listed(person) == []


@pytest.mark.parametrize(
    "name", ["nope/x", "no-such-model", "openai/*", "*", "openai/", "local/other"]
)
async def test_a_model_that_no_call_could_match_is_refused(person: Person, name: str) -> None:
    body = {"name": "a key", "scope": "read", "allowed_models": ["extractive", name]}
    refused = await person.post(API_KEYS, json=body)
    assert error_of(refused) == (422, "unknown_model")
    error = refused.json()["error"]
    assert error["param"] == "allowed_models"
    assert name in error["message"]
    assert await listed(person) == []


async def test_models_are_kept_by_their_full_ids(person: Person) -> None:
    names = ["extractive", "all-MiniLM-L6-v2", "local/all-MiniLM-L6-v2", "gemini/of-tomorrow"]
    made = await make_key(person, allowed_models=names)
    assert made["allowed_models"] == [
        "extractive/extractive",
        "gemini/of-tomorrow",
        "local/all-MiniLM-L6-v2",
    ]


async def test_limits_and_name_are_kept_and_changed(person: Person) -> None:
    soon = datetime.now(UTC) + timedelta(days=30)
    made = await make_key(
        person,
        allowed_models=["openai/b", "openai/a", "openai/b"],
        expires_at=soon.isoformat(),
        requests_per_minute=60,
        tokens_per_day=500_000,
        monthly_budget_nano=5 * 10**9,
    )
    assert made["allowed_models"] == ["openai/a", "openai/b"]
    assert datetime.fromisoformat(made["expires_at"]) == soon
    changed = await patch(person, made["id"], name="  two\n words ", tokens_per_day=None)
    assert changed.status_code == 200, changed.text
    shown = changed.json()
    assert (shown["name"], shown["tokens_per_day"]) == ("two words", None)
    assert (shown["requests_per_minute"], shown["monthly_budget_nano"]) == (60, 5 * 10**9)
    assert (await person.get(f"{API_KEYS}/{made['id']}")).json() == shown


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": ""},
        {"name": None},
        {"scope": "admin"},
        {"allowed_models": None},
        {"expires_at": None},
        {"revoked_at": None},
        {"user_id": str(uuid4())},
        {"requests_per_minute": 0},
    ],
)
async def test_what_a_key_may_do_does_not_change(person: Person, fields: dict[str, Any]) -> None:
    made = await make_key(person)
    assert error_of(await patch(person, made["id"], **fields)) == (422, "validation_error")
    made.pop("key")
    assert (await person.get(f"{API_KEYS}/{made['id']}")).json() == made


async def test_there_is_a_limit_of_live_keys(person: Person, resources: Resources) -> None:
    first = await make_key(person)
    await execute(
        resources,
        "INSERT INTO api_keys (org_id, id, user_id, name, environment, scope, secret_hash,"
        " last_chars) SELECT org_id, gen_random_uuid(), user_id, name, environment, scope,"
        " decode(md5(n::text || id::text), 'hex'), last_chars"
        " FROM api_keys, generate_series(1, :count) n WHERE id = :id",
        id=UUID(first["id"]),
        count=MAX_LIVE_KEYS - 4,
    )
    body = {"name": "one of many", "scope": "read"}
    answers = await asyncio.gather(*(person.post(API_KEYS, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} == {
        "too_many_api_keys"
    }
    assert (await person.delete(f"{API_KEYS}/{first['id']}")).status_code == 204
    await make_key(person)


async def test_who_has_just_been_removed_makes_no_key(
    person: Person, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may not know for 3 s."""
    member = await join(resources, person, MemberRole.MEMBER)
    principal = await resources.principals.resolve(member.tokens["access_token"])

    async def resolve(_: str) -> Principal:
        return principal

    await execute(
        resources,
        "DELETE FROM memberships WHERE org_id = :org_id AND user_id = :user_id",
        org_id=principal.org_id,
        user_id=principal.user_id,
    )
    monkeypatch.setattr(resources.principals, "resolve", resolve)
    refused = await member.post(API_KEYS, json={"name": "too late", "scope": "read"})
    assert error_of(refused) == (401, "token_revoked")


async def test_an_organization_has_as_many_keys_as_its_plan(
    person: Person, resources: Resources
) -> None:
    member = await join(resources, person, MemberRole.MEMBER)
    await execute(
        resources,
        "UPDATE organizations SET limits = '{\"api_keys\": 3}' WHERE id = :id",
        id=person.org_id,
    )
    resources.limiter.directory.forget(person.org_id)
    made = [await make_key(each) for each in (person, member, member)]
    body = {"name": "one more", "scope": "read"}
    for each in (person, member):
        assert error_of(await each.post(API_KEYS, json=body)) == (409, "too_many_api_keys")
    assert (await person.delete(f"{API_KEYS}/{made[1]['id']}")).status_code == 204
    await make_key(person)


async def test_a_list_goes_on_where_its_page_ended(person: Person) -> None:
    made = [(await make_key(person, name=f"key {n}"))["id"] for n in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while len(seen) < 10:
        page = (await person.get(API_KEYS, params={"limit": 2} | cursor)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == made[::-1]
    assert error_of(await person.get(API_KEYS, params={"cursor": "x"}))[0] == 400


# Used


@pytest.mark.parametrize("door", ["bearer", "x-api-key"])
async def test_a_key_acts_for_its_creator_through_either_header(person: Person, door: str) -> None:
    await person.upload("mine.txt", b"The zebra crossing is closed.")
    secret = (await make_key(person))["key"]
    headers = {"Authorization": f"Bearer {secret}"} if door == "bearer" else {"X-API-Key": secret}
    response = await person.client.get(DOCUMENTS, headers=headers)
    assert response.status_code == 200
    assert [item["filename"] for item in response.json()["items"]] == ["mine.txt"]
    refused = await person.client.post("/api/v1/conversations", headers=headers)
    assert error_of(refused) == (403, "insufficient_scope")


async def test_a_key_through_another_door_opens_nothing(person: Person) -> None:
    secret = (await make_key(person, "write"))["key"]
    client = person.client
    for options in (
        {"params": {"api_key": secret}},
        {"params": {"key": secret}},
        {"params": {"token": secret}},
        {"headers": {"Cookie": f"api_key={secret}; footnote={secret}"}},
        {"headers": {"Authorization": secret}},
        {"headers": {"Authorization": f"Basic {secret}"}},
        {"headers": {"Api-Key": secret}},
    ):
        for path in (DOCUMENTS, f"{DOCUMENTS}/events"):
            response = await client.get(path, **options)
            assert response.status_code == 401, (options, path)


async def test_two_credentials_are_400_whatever_they_are(person: Person) -> None:
    secret = (await make_key(person))["key"]
    bearer, key = ("Authorization", f"Bearer {secret}"), ("X-API-Key", secret)
    signed_in = ("Authorization", person.headers["Authorization"])
    for headers in ([bearer, key], [key, key], [bearer, bearer], [signed_in, key]):
        refused = await person.client.get(DOCUMENTS, headers=headers)
        assert error_of(refused) == (400, "ambiguous_credentials")
    refused = await person.client.get(f"{DOCUMENTS}/events?token=st_x.y", headers=[key])
    assert error_of(refused) == (400, "ambiguous_credentials")


async def test_a_bad_key_is_401_and_costs_no_statement(
    person: Person, resources: Resources
) -> None:
    secret = (await make_key(person))["key"]
    mistyped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    async with resources.db.system_transaction() as one, resources.db.system_transaction() as two:
        # All connections that could be asked are in use.
        await one.connection(), await two.connection()
        for bad in (mistyped, "fn_", "fn_live_x", secret + "x", "fn_" + secret[3:].swapcase()):
            for headers in ({"Authorization": f"Bearer {bad}"}, {"X-API-Key": bad}):
                refused = await person.client.get(DOCUMENTS, headers=headers)
                assert error_of(refused) == (401, "invalid_api_key")
                assert refused.headers["www-authenticate"] == "Bearer"
        token = person.tokens["access_token"]
        refused = await person.client.get(DOCUMENTS, headers={"X-API-Key": token})
        assert error_of(refused) == (401, "invalid_api_key")
    unknown = new_secret(KeyEnvironment.LIVE)
    refused = await person.client.get(DOCUMENTS, headers={"X-API-Key": unknown})
    assert error_of(refused) == (401, "invalid_api_key")


async def test_an_answer_to_a_bad_request_never_holds_a_key(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await make_key(person, "admin")
    secret = made["key"]
    mistyped = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    holder = holder_of(person, secret)
    answers = [
        await holder_of(person, mistyped).get(DOCUMENTS),
        await holder.get(f"{API_KEYS}/{secret}"),
        await holder.get(f"{DOCUMENTS}?cursor={secret}"),
        await holder.get(f"/{secret}"),
        await holder.post(API_KEYS, json={"name": "x", "scope": secret}),
        await holder.post(API_KEYS, json={"name": "x", "scope": "read", secret: 1}),
        await holder.post(f"{API_KEYS}/{made['id']}/rotate", json={"overlap_s": secret}),
        await holder.get("/api/v1/auth/me"),
        await person.delete(f"{API_KEYS}/{made['id']}"),
    ]
    assert {answer.status_code for answer in answers} == {401, 422, 400, 404, 403, 204}
    written = capsys.readouterr().out
    for hidden in (secret, mistyped, secret[8:40]):
        assert all(hidden not in answer.text for answer in answers)
        assert hidden not in written


async def test_what_needs_a_sign_in_takes_no_key(person: Person, resources: Resources) -> None:
    await execute(
        resources, "UPDATE users SET is_operator = true WHERE id = :id", id=person.user_id
    )
    holder = await plant_key(resources, person, Scope.ADMIN)
    for method, path in (
        ("GET", "/api/v1/auth/me"),
        ("PATCH", "/api/v1/auth/me"),
        ("POST", "/api/v1/auth/password"),
        ("GET", "/api/v1/auth/sign-ins"),
        ("DELETE", "/api/v1/auth/sign-ins"),
        ("DELETE", f"/api/v1/auth/sign-ins/{uuid4()}"),
        ("POST", "/api/v1/session/password"),
        ("GET", "/api/v1/admin/embedding-spaces"),
    ):
        refused = await person.client.request(method, path, headers=holder.headers)
        assert error_of(refused) == (403, "sign_in_required"), path


# What a key may give


async def test_no_key_is_made_that_may_more_than_its_creators_role(
    person: Person, resources: Resources
) -> None:
    member = await join(resources, person, MemberRole.MEMBER)
    refused = await member.post(API_KEYS, json={"name": "x", "scope": "admin"})
    assert error_of(refused) == (403, "forbidden")
    assert refused.json()["error"]["param"] == "scope"
    await make_key(member, "write")
    admin = await join(resources, person, MemberRole.ADMIN)
    await make_key(admin, "admin")
    viewer = await join(resources, person, MemberRole.VIEWER)
    refused = await viewer.post(API_KEYS, json={"name": "x", "scope": "read"})
    assert error_of(refused) == (403, "forbidden")


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_a_key_that_is_not_admin_has_nothing_to_do_with_keys(
    person: Person, scope: str
) -> None:
    made = await make_key(person, scope)
    holder = holder_of(person, made["key"])
    for answer in (
        await holder.post(API_KEYS, json={"name": "x", "scope": "read"}),
        await holder.get(API_KEYS),
        await holder.get(f"{API_KEYS}/{made['id']}"),
        await rotate(holder, made["id"]),
        await patch(holder, made["id"], name="x"),
        await holder.delete(f"{API_KEYS}/{made['id']}"),
    ):
        assert error_of(answer) == (403, "insufficient_scope")
    assert [item["name"] for item in await listed(person)] == ["a key"]


SOON = (datetime.now(UTC) + timedelta(days=10)).isoformat()
LATER = (datetime.now(UTC) + timedelta(days=20)).isoformat()
OWN = {
    "allowed_models": ["openai/a", "openai/b"],
    "expires_at": SOON,
    "requests_per_minute": 60,
    "tokens_per_day": 1000,
    "monthly_budget_nano": 10**9,
}


async def test_a_key_gives_no_more_than_it_has(person: Person) -> None:
    bounds = {"allowed_models": ["openai/a", "openai/b"], "expires_at": SOON}
    own = await make_key(person, "admin", **bounds)
    holder = holder_of(person, own["key"])
    for field, more in (
        ("allowed_models", None),
        ("allowed_models", ["openai/a", "openai/c"]),
        ("expires_at", None),
        ("expires_at", LATER),
    ):
        body = {"name": "x", "scope": "admin"} | bounds | {field: more}
        refused = await holder.post(API_KEYS, json=body)
        assert error_of(refused) == (403, "insufficient_scope"), field
        assert refused.json()["error"]["param"] == field
    for scope in ("read", "write", "admin"):
        less = bounds | {"allowed_models": ["openai/b"], "tokens_per_day": 1}
        assert (await make_key(holder, scope, **less))["made_by_key_id"] == own["id"]


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_day", "monthly_budget_nano"])
async def test_a_limited_key_gives_no_other(person: Person, limit: str) -> None:
    """Each would have the whole limit again."""
    made = await make_key(person, "admin", **{limit: 60})
    other = await make_key(person, "admin", **{limit: 1})
    holder = holder_of(person, made["key"])
    body = {"name": "x", "scope": "read", limit: 1}
    for refused in (await holder.post(API_KEYS, json=body), await rotate(holder, other["id"])):
        assert error_of(refused) == (403, "insufficient_scope")
        assert refused.json()["error"]["param"] == limit
    assert (await rotate(holder, made["id"])).status_code == 200


async def test_a_key_gets_no_more_than_it_has(person: Person) -> None:
    """Neither by changing itself, nor by the secret of another key."""
    made = await make_key(person, "admin", **OWN)
    other = await make_key(person, "admin")
    holder = holder_of(person, made["key"])
    for key_id, fields in (
        (made["id"], {"monthly_budget_nano": None}),
        (made["id"], {"requests_per_minute": 61}),
        (other["id"], {"tokens_per_day": 1}),
    ):
        refused = await patch(holder, key_id, **fields)
        assert error_of(refused) == (403, "insufficient_scope"), fields
    assert (await person.get(f"{API_KEYS}/{made['id']}")).json()["monthly_budget_nano"] == 10**9
    assert error_of(await rotate(holder, other["id"])) == (403, "insufficient_scope")
    # Less, or the same again, is fine.
    assert (await patch(holder, made["id"], tokens_per_day=999)).status_code == 200
    rotated = await rotate(holder, made["id"])
    assert rotated.status_code == 200
    # And a sign-in is not bound by a key.
    assert (await patch(person, made["id"], monthly_budget_nano=None)).status_code == 200


async def test_whose_role_fell_has_keys_that_fell_too(person: Person, resources: Resources) -> None:
    admin = await join(resources, person, MemberRole.ADMIN)
    holder = holder_of(admin, (await make_key(admin, "admin"))["key"])
    settings = "/api/v1/organization"

    async def change() -> httpx2.Response:
        body = {"system_prompt": "Be brief."}
        return await holder.client.patch(settings, headers=holder.headers, json=body)

    assert (await change()).status_code == 200
    await set_role(resources, admin, MemberRole.MEMBER)
    let_5_s_pass(resources.principals)
    assert error_of(await change()) == (403, "forbidden")
    assert (await holder.get(DOCUMENTS)).status_code == 200
    refused = await holder.post(API_KEYS, json={"name": "x", "scope": "admin"})
    assert error_of(refused) == (403, "forbidden")
    await set_role(resources, admin, MemberRole.VIEWER)
    let_5_s_pass(resources.principals)
    assert error_of(await holder.get(API_KEYS)) == (403, "forbidden")
    assert (await holder.get(DOCUMENTS)).status_code == 200


# Whose keys


async def test_members_see_their_own_keys_and_admins_all(
    person: Person, resources: Resources, stranger: Person
) -> None:
    member = await join(resources, person, MemberRole.MEMBER)
    own, theirs = await make_key(person), await make_key(member, "write")
    assert [item["id"] for item in await listed(member)] == [theirs["id"]]
    assert error_of(await member.get(API_KEYS, params={"all": "true"})) == (403, "forbidden")
    path = f"{API_KEYS}/{own['id']}"
    # The stranger owns another organization.
    for each in (member, stranger):
        for answer in (
            await each.get(path),
            await patch(each, own["id"], name="mine"),
            await rotate(each, own["id"]),
            await each.delete(path),
        ):
            assert error_of(answer) == (404, "not_found")
    assert [item["id"] for item in await listed(person)] == [own["id"]]
    everybodys = {item["id"]: item["user_id"] for item in await listed(person, all="true")}
    assert everybodys == {own["id"]: str(person.user_id), theirs["id"]: str(member.user_id)}
    assert await listed(stranger, all="true") == []
    # Who manages them gets nobody's secret.
    assert error_of(await rotate(person, theirs["id"])) == (403, "forbidden")
    assert (await patch(person, theirs["id"], requests_per_minute=5)).status_code == 200
    assert (await person.delete(f"{API_KEYS}/{theirs['id']}")).status_code == 204
    assert (await holder_of(member, theirs["key"]).get(DOCUMENTS)).status_code == 401
    assert (await holder_of(person, own["key"]).get(DOCUMENTS)).status_code == 200


# Their end


async def test_a_revoked_key_ends_and_stays_so(person: Person, resources: Resources) -> None:
    made = await make_key(person)
    holder = holder_of(person, made["key"])
    assert (await holder.get(DOCUMENTS)).status_code == 200
    path = f"{API_KEYS}/{made['id']}"
    assert (await person.delete(path)).status_code == 204
    let_5_s_pass(resources.principals)
    assert error_of(await holder.get(DOCUMENTS)) == (401, "invalid_api_key")
    assert await listed(person) == []
    revoked = (await person.get(path)).json()
    assert revoked["revoked_at"] is not None
    assert (await person.delete(path)).status_code == 204
    assert (await person.get(path)).json() == revoked
    assert error_of(await rotate(person, made["id"])) == (409, "api_key_revoked")
    assert error_of(await patch(person, made["id"], name="x")) == (409, "api_key_revoked")


ENDINGS = {
    "expired": "UPDATE api_keys SET expires_at = now() WHERE user_id = :id",
    "left": "DELETE FROM memberships WHERE user_id = :id",
    "deactivated": "UPDATE users SET is_active = false WHERE id = :id",
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_a_key_ends_with_what_it_rests_on(
    person: Person, resources: Resources, how: str
) -> None:
    member = await join(resources, person, MemberRole.MEMBER)
    holder = holder_of(member, (await make_key(member))["key"])
    assert (await holder.get(DOCUMENTS)).status_code == 200
    await execute(resources, ENDINGS[how], id=member.user_id)
    let_5_s_pass(resources.principals)
    assert error_of(await holder.get(DOCUMENTS)) == (401, "invalid_api_key")


async def test_who_comes_back_begins_without_keys(person: Person, resources: Resources) -> None:
    member = await join(resources, person, MemberRole.MEMBER)
    holder = holder_of(member, (await make_key(member))["key"])
    await execute(resources, ENDINGS["left"], id=member.user_id)
    await execute(
        resources,
        "INSERT INTO memberships (org_id, user_id, role) VALUES (:org_id, :id, 'member')",
        org_id=member.org_id,
        id=member.user_id,
    )
    assert error_of(await holder.get(DOCUMENTS)) == (401, "invalid_api_key")
    assert await listed(member) == []


async def test_a_key_outlives_its_creators_password(person: Person) -> None:
    holder = holder_of(person, (await make_key(person))["key"])
    changed = await person.post(
        "/api/v1/auth/password",
        json={"current_password": PASSWORD, "new_password": "another password"},
    )
    assert changed.status_code == 200
    assert (await holder.get(DOCUMENTS)).status_code == 200


# Rotated


async def test_after_a_rotation_both_secrets_work_for_a_while(
    person: Person, resources: Resources
) -> None:
    made = await make_key(person)
    first = holder_of(person, made["key"])
    before = datetime.now(UTC)
    answer = await rotate(person, made["id"], overlap_s=60)
    assert answer.status_code == 200, answer.text
    rotated = answer.json()
    second = holder_of(person, rotated["key"])
    assert rotated["key"] != made["key"]
    assert rotated["id"] == made["id"]
    assert rotated["last_chars"] == rotated["key"][-4:]
    ends = datetime.fromisoformat(rotated["previous_expires_at"])
    assert timedelta(seconds=59) < ends - before < timedelta(seconds=120)
    for holder in (first, second):
        assert (await holder.get(DOCUMENTS)).status_code == 200
    await execute(
        resources,
        "UPDATE api_keys SET previous_expires_at = now() WHERE id = :id",
        id=UUID(made["id"]),
    )
    let_5_s_pass(resources.principals)
    assert error_of(await first.get(DOCUMENTS)) == (401, "invalid_api_key")
    assert (await second.get(DOCUMENTS)).status_code == 200


async def test_a_rotation_without_overlap_ends_the_secret_before(
    person: Person, resources: Resources
) -> None:
    made = await make_key(person)
    rotated = (await rotate(person, made["id"], overlap_s=0)).json()
    assert rotated["previous_expires_at"] is None
    assert error_of(await holder_of(person, made["key"]).get(DOCUMENTS))[0] == 401
    third = (await rotate(person, made["id"])).json()
    hours = datetime.fromisoformat(third["previous_expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < hours <= timedelta(minutes=60)
    assert (await holder_of(person, rotated["key"]).get(DOCUMENTS)).status_code == 200
    # Only one before the last is kept.
    fourth = (await rotate(person, made["id"])).json()
    let_5_s_pass(resources.principals)
    for secret, status in ((rotated, 401), (third, 200), (fourth, 200)):
        assert (await holder_of(person, secret["key"]).get(DOCUMENTS)).status_code == status
    await person.delete(f"{API_KEYS}/{made['id']}")
    let_5_s_pass(resources.principals)
    for secret in (third, fourth):
        assert (await holder_of(person, secret["key"]).get(DOCUMENTS)).status_code == 401


async def test_keys_rotated_at_once_leave_the_last_two_secrets(
    person: Person, resources: Resources
) -> None:
    made = await make_key(person)
    answers = await asyncio.gather(*(rotate(person, made["id"]) for _ in range(5)))
    secrets = [made["key"], *(answer.json()["key"] for answer in answers)]
    statuses = [(await holder_of(person, each).get(DOCUMENTS)).status_code for each in secrets]
    assert sorted(statuses) == [200, 200, 401, 401, 401, 401]


@pytest.mark.parametrize("overlap_s", [-1, 7 * 86_400 + 1, "soon", None])
async def test_an_overlap_lasts_a_week_at_most(person: Person, overlap_s: Any) -> None:
    made = await make_key(person)
    refused = await rotate(person, made["id"], overlap_s=overlap_s)
    assert error_of(refused) == (422, "validation_error")


async def test_an_expired_key_is_not_rotated(person: Person, resources: Resources) -> None:
    made = await make_key(person)
    await execute(resources, ENDINGS["expired"], id=person.user_id)
    assert error_of(await rotate(person, made["id"])) == (409, "api_key_expired")


# When they were used


async def used_at(person: Person, key_id: str) -> str | None:
    found: str | None = (await person.get(f"{API_KEYS}/{key_id}")).json()["last_used_at"]
    return found


async def test_a_use_is_written_later_and_at_most_once_a_minute(
    person: Person, resources: Resources
) -> None:
    made, unused = await make_key(person), await make_key(person)
    holder = holder_of(person, made["key"])
    before = datetime.now(UTC)
    assert (await holder.get(DOCUMENTS)).status_code == 200
    uses = resources.principals.key_uses
    await uses.write()
    first = await used_at(person, made["id"])
    assert first is not None
    assert before <= datetime.fromisoformat(first) <= datetime.now(UTC)
    assert await used_at(person, unused["id"]) is None
    assert (await holder.get(DOCUMENTS)).status_code == 200
    await uses.write()
    assert await used_at(person, made["id"]) == first
    await execute(
        resources,
        "UPDATE api_keys SET last_used_at = now() - interval '61 s' WHERE id = :id",
        id=UUID(made["id"]),
    )
    assert (await holder.get(DOCUMENTS)).status_code == 200
    await uses.write()
    assert (await used_at(person, made["id"]) or "") >= first


async def test_uses_are_kept_while_the_database_is_busy(
    person: Person, resources: Resources
) -> None:
    made = await make_key(person)
    uses = KeyUses(resources.db)
    caller = Principal(
        person.user_id, person.org_id, MemberRole.OWNER, new_id(), key_id=UUID(made["id"])
    )
    uses.note(caller)
    async with resources.db.system_transaction() as one, resources.db.system_transaction() as two:
        await one.connection(), await two.connection()
        with pytest.raises(Exception, match="QueuePool"):
            await uses.write()
    assert await used_at(person, made["id"]) is None
    task = asyncio.create_task(uses.run())
    await asyncio.sleep(0)
    task.cancel()  # a process that ends writes what it knows
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await used_at(person, made["id"]) is not None


async def test_what_bounds_a_key_reaches_the_principal(
    person: Person, resources: Resources
) -> None:
    made = await make_key(
        person, "write", allowed_models=["openai/a"], requests_per_minute=5, tokens_per_day=7
    )
    principal = await resources.principals.resolve(made["key"])
    assert principal.allowed_models == frozenset({"openai/a"})
    assert (principal.key_id, principal.session_id) == (UUID(made["id"]),) * 2
    assert (principal.scope, principal.is_operator) == (Scope.WRITE, False)
    assert (principal.requests_per_minute, principal.tokens_per_day) == (5, 7)
    assert (await resources.principals.resolve(person.tokens["access_token"])).key_id is None


# Limits of their own


async def test_a_key_has_a_rate_of_its_own(person: Person) -> None:
    slow = await make_key(person, "write", requests_per_minute=3)
    fast = await make_key(person, "write")
    search = {"json": {"query": "zebra"}}

    async def ask(key: dict[str, Any]) -> httpx2.Response:
        return await holder_of(person, key["key"]).post("/api/v1/search", **search)

    answers = [await ask(slow) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["3"] * 4
    assert int(answers[3].headers["retry-after"]) >= 1
    error = answers[3].json()["error"]
    assert (error["code"], error["details"]["level"]) == ("rate_limit_exceeded", "key")
    assert (await ask(fast)).status_code == 200
    assert (await person.post("/api/v1/search", **search)).status_code == 200


async def test_a_key_has_tokens_of_its_own(person: Person, resources: Resources) -> None:
    made = await make_key(person, "write", tokens_per_day=1_000)
    caller = await resources.principals.resolve(made["key"])
    limiter = resources.limiter
    await limiter.settle_tokens(await limiter.reserve_tokens(caller, 900), 900)
    with pytest.raises(RateLimited) as refused:
        await limiter.reserve_tokens(caller, 101)
    assert refused.value.code == "tokens_per_day_exceeded"
    await limiter.reserve_tokens(caller, 100)
    body = {"messages": [{"role": "user", "content": "Where is the zebra?"}]}
    answer = await holder_of(person, made["key"]).post("/api/v1/chat/", json=body)
    assert error_of(answer) == (429, "tokens_per_day_exceeded")
    # Its user has more.
    signed_in = await resources.principals.resolve(person.tokens["access_token"])
    await limiter.reserve_tokens(signed_in, 10_000)
