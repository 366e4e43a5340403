"""Where somebody is signed in, and their profile."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.documents.housekeeping import Housekeeper
from app.resources import Resources
from tests.people import PASSWORD, Person

SIGN_INS = "/api/v1/auth/sign-ins"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def sign_in(person: Person, user_agent: str = FIREFOX) -> Person:
    response = await person.client.post(
        "/api/v1/auth/login",
        data={"username": person.email, "password": PASSWORD},
        headers={"User-Agent": user_agent},
    )
    assert response.status_code == 200, response.text
    return Person(person.client, person.email, response.json())


async def listed(person: Person) -> list[dict[str, Any]]:
    response = await person.get(SIGN_INS)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def refresh(person: Person) -> httpx2.Response:
    return await person.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": person.tokens["refresh_token"]}
    )


async def test_sign_ins_are_listed_with_what_they_come_from(person: Person) -> None:
    second = await sign_in(person)
    items = await listed(second)
    assert [(item["client"], item["is_current"]) for item in items] == [
        ("Firefox on Windows", True),
        (items[1]["client"], False),
    ]
    assert items[0].keys() == {
        *("id", "client", "created_at", "last_used_at", "expires_at", "is_current")
    }
    created, expires = (datetime.fromisoformat(items[0][at]) for at in ("created_at", "expires_at"))
    assert timedelta(days=29) < expires - created < timedelta(days=31)


async def test_the_one_used_last_comes_first_and_stays_the_same_sign_in(person: Person) -> None:
    first_id = (await listed(person))[0]["id"]
    await sign_in(person)
    before = {item["id"]: item for item in await listed(person)}
    renewed = Person(person.client, person.email, (await refresh(person)).json())
    items = await listed(renewed)
    assert (items[0]["id"], items[0]["is_current"], len(items)) == (first_id, True, 2)
    assert items[0]["last_used_at"] > before[first_id]["last_used_at"]
    assert items[0]["created_at"] == before[first_id]["created_at"]
    assert items[0]["client"] == before[first_id]["client"]


@pytest.mark.parametrize("user_agent", ["<script>alert(1)</script>", "x" * 5000, "", "日本 ☃"])
async def test_an_unknown_client_shows_nothing_of_what_it_sent(
    person: Person, user_agent: str
) -> None:
    response = await person.client.post(
        "/api/v1/auth/login",
        data={"username": person.email, "password": PASSWORD},
        headers=[(b"User-Agent", user_agent.encode())],
    )
    second = Person(person.client, person.email, response.json())
    assert (await listed(second))[0]["client"] == "Unknown client"


async def test_ending_one_ends_its_tokens_and_no_other(person: Person) -> None:
    second = await sign_in(person)
    # Not listed with the second's own token: what was just asked of it is believed for 5 s.
    second_id = next(item["id"] for item in await listed(person) if not item["is_current"])
    assert (await person.delete(f"{SIGN_INS}/{second_id}")).status_code == 204
    assert (await second.get("/api/v1/auth/me")).status_code == 401
    assert (await refresh(second)).status_code == 401
    assert [item["is_current"] for item in await listed(person)] == [True]
    assert (await person.delete(f"{SIGN_INS}/{second_id}")).status_code == 404
    assert (await refresh(person)).status_code == 200


async def test_a_sign_in_that_was_used_for_long_ends_as_a_whole(person: Person) -> None:
    second = await sign_in(person)
    for _ in range(2):
        second = Person(person.client, person.email, (await refresh(second)).json())
    second_id = next(item["id"] for item in await listed(person) if not item["is_current"])
    assert (await person.delete(f"{SIGN_INS}/{second_id}")).status_code == 204
    assert (await refresh(second)).status_code == 401


async def test_ones_own_sign_in_can_be_ended(person: Person) -> None:
    second = await sign_in(person)
    own_id = next(item["id"] for item in await listed(second) if item["is_current"])
    assert (await second.delete(f"{SIGN_INS}/{own_id}")).status_code == 204
    assert (await refresh(second)).status_code == 401


async def test_ending_the_others_tells_how_many(person: Person, stranger: Person) -> None:
    others = [await sign_in(person) for _ in range(3)]
    ended = await person.delete(SIGN_INS)
    assert (ended.status_code, ended.json()) == (200, {"ended": 3})
    for other in others:
        assert (await refresh(other)).status_code == 401
    assert (await person.delete(SIGN_INS)).json() == {"ended": 0}
    assert (await refresh(person)).status_code == 200
    assert (await refresh(stranger)).status_code == 200


async def test_a_stranger_neither_sees_nor_ends_them(person: Person, stranger: Person) -> None:
    own_id = (await listed(person))[0]["id"]
    assert own_id not in {item["id"] for item in await listed(stranger)}
    for sign_in_id in (own_id, str(uuid4())):
        refused = await stranger.delete(f"{SIGN_INS}/{sign_in_id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert (await stranger.delete(f"{SIGN_INS}/x")).status_code == 422
    assert (await refresh(person)).status_code == 200


async def test_what_has_expired_is_not_listed(person: Person, resources: Resources) -> None:
    await sign_in(person)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE refresh_tokens SET expires_at = now() - interval '1 second'"
                " WHERE user_id = :user_id AND client = 'Firefox on Windows'"
            ),
            {"user_id": person.user_id},
        )
    assert [item["is_current"] for item in await listed(person)] == [True]
    assert (await person.delete(SIGN_INS)).json() == {"ended": 0}


async def test_what_has_long_expired_is_deleted_and_what_still_counts_is_not(
    person: Person, resources: Resources
) -> None:
    for _ in range(2):
        person = Person(person.client, person.email, (await refresh(person)).json())
    ages = {"2 days": 0, "23 hours": 1, "-1 hour": 2}
    async with resources.db.system_transaction() as session:
        for age, place in ages.items():
            await session.execute(
                text("""
                    UPDATE refresh_tokens SET expires_at = now() - CAST(:age AS text)::interval
                    WHERE id = (SELECT id FROM refresh_tokens WHERE user_id = :user_id
                                ORDER BY id OFFSET :place LIMIT 1)
                """),
                {"age": age, "user_id": person.user_id, "place": place},
            )
    await Housekeeper(resources.db, resources.storage).keep_house()
    async with resources.db.system_transaction() as session:
        left = await session.scalar(
            text("SELECT count(*) FROM refresh_tokens WHERE user_id = :user_id"),
            {"user_id": person.user_id},
        )
    assert left == 2
    assert (await refresh(person)).status_code == 200


async def test_the_newest_hundred_are_listed_and_all_are_ended(
    person: Person, resources: Resources
) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                INSERT INTO refresh_tokens
                    (id, org_id, user_id, family_id, token_hash, expires_at, created_at)
                SELECT gen_random_uuid(), :org_id, :user_id, gen_random_uuid(),
                    sha256(gen_random_uuid()::text::bytea), now() + interval '1 day',
                    now() - interval '1 hour'
                FROM generate_series(1, 120)
            """),
            {"org_id": person.org_id, "user_id": person.user_id},
        )
    items = await listed(person)
    assert (len(items), items[0]["is_current"]) == (100, True)
    assert (await person.delete(SIGN_INS)).json() == {"ended": 120}


async def test_a_name_is_empty_until_it_is_given(person: Person) -> None:
    assert person.tokens["user"]["name"] == ""
    changed = await patch(person, {"name": "  Ada\t King \u202eLovelace\x00 "})
    assert changed.status_code == 200
    assert changed.json()["user"] == {
        "id": str(person.user_id),
        "email": person.email,
        "name": "Ada King Lovelace\ufffd",
        "is_operator": person.tokens["user"]["is_operator"],
    }
    assert (await person.get("/api/v1/auth/me")).json() == changed.json()
    assert (await refresh(person)).json()["user"]["name"] == "Ada King Lovelace\ufffd"
    assert (await patch(person, {})).json() == changed.json()
    assert (await patch(person, {"name": "   "})).json()["user"]["name"] == ""


@pytest.mark.parametrize("name", ["علی\u200cرضا", "x" * 100, "🦉 O'Brien-Müller", "<b>Ada</b>"])
async def test_names_of_all_kinds_stay_as_they_are(person: Person, name: str) -> None:
    assert (await patch(person, {"name": name})).json()["user"]["name"] == name


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x" * 101},
        {"name": "\ufb2c" * 100},  # each is three characters in NFC
        {"name": None},
        {"name": 7},
        {"email": "else@example.com"},
        {"name": "Ada", "is_operator": True},
        [],
    ],
)
async def test_other_profiles_are_422(person: Person, body: object) -> None:
    refused = await patch(person, body)
    assert refused.status_code == 422
    assert refused.json()["status"] == "error"
    assert (await person.get("/api/v1/auth/me")).json()["user"]["name"] == ""


async def patch(person: Person, body: object) -> httpx2.Response:
    return await person.client.patch("/api/v1/auth/me", json=body, headers=person.headers)
