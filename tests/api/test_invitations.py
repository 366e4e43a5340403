"""Invitations: used once, by who was invited, as long as the inviter may invite."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.accounts import invitations
from app.config import Environment, Settings
from app.documents.housekeeping import Housekeeper
from app.resources import Resources
from tests.conftest import serve
from tests.people import Person, join, register, sign_in_elsewhere
from tests.smtp_server import SmtpServer
from tests.stored_runs import count_of

URL = "/api/v1/organization/invitations"
MEMBERS = "/api/v1/organization/members"
ACCEPT = "/api/v1/invitations/accept"
LOOK_UP = "/api/v1/invitations/look-up"
PUBLIC_URL = "https://footnote.example.com"


def new_address() -> str:
    return f"invited-{uuid4().hex}@example.com"


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def invite(by: Person, email: str, role: str = "member") -> httpx2.Response:
    return await by.post(URL, json={"email": email, "role": role})


async def invited_token(by: Person, email: str, role: str = "member") -> str:
    response = await invite(by, email, role)
    assert response.status_code == 201, response.text
    return token_of(response.json()["link"])


def token_of(link: str) -> str:
    return link.partition("/join#")[2]


async def accept(person: Person, token: str) -> httpx2.Response:
    return await person.post(ACCEPT, json={"token": token})


async def look_up(client: httpx2.AsyncClient, token: str) -> httpx2.Response:
    return await client.post(LOOK_UP, json={"token": token})


async def is_dead(token: str, person: Person) -> None:
    for response in (await look_up(person.client, token), await accept(person, token)):
        assert code_of(response) == (404, "invitation_not_valid")


@pytest.fixture
async def invited(client: httpx2.AsyncClient) -> Person:
    """Somebody with an organization of their own, who is to be invited."""
    return await register(client, new_address())


async def test_somebody_new_joins(person: Person, client: httpx2.AsyncClient) -> None:
    email = new_address()
    created = await invite(person, f" {email.upper()} ", "admin")
    body = created.json()
    assert (created.status_code, body["delivery"]) == (201, "link")
    assert (body["email"], body["role"], body["inviter"]) == (email, "admin", person.email)
    assert body["link"].startswith("http://127.0.0.1:8000/join#")
    token = token_of(body["link"])
    offer = await look_up(client, token)
    assert offer.status_code == 200
    assert offer.json() == {
        "organization": person.tokens["organization"]["name"],
        "email": email,
        "role": "admin",
        "expires_at": body["expires_at"],
    }
    newcomer = await register(client, email)
    joined = await accept(newcomer, token)
    assert joined.status_code == 200, joined.text
    assert (joined.json()["id"], joined.json()["role"]) == (str(person.org_id), "admin")
    there = await sign_in_elsewhere(newcomer, str(person.org_id))
    assert len((await there.get(MEMBERS)).json()["items"]) == 2


async def test_open_invitations_are_listed_without_their_token(
    person: Person, stranger: Person, invited: Person
) -> None:
    created = [(await invite(person, new_address())).json() for _ in range(3)]
    token = await invited_token(person, invited.email)
    listed = await person.get(URL)
    assert token not in listed.text
    assert [item["email"] for item in listed.json()["items"]] == [
        invited.email,
        *(body["email"] for body in reversed(created)),
    ]
    assert listed.json()["items"][0].keys() == {
        *("id", "email", "role", "inviter", "created_at", "expires_at")
    }
    first = (await person.get(URL, params={"limit": 3})).json()
    rest = await person.get(URL, params={"limit": 3, "cursor": first["next_cursor"]})
    assert first["items"] + rest.json()["items"] == listed.json()["items"]
    assert (await stranger.get(URL)).json()["items"] == []
    await accept(invited, token)
    assert (await person.delete(f"{URL}/{created[0]['id']}")).status_code == 204
    assert (await person.delete(f"{URL}/{created[0]['id']}")).status_code == 404
    assert [item["email"] for item in (await person.get(URL)).json()["items"]] == [
        body["email"] for body in reversed(created[1:])
    ]


async def test_it_is_good_for_who_was_invited_alone(
    person: Person, stranger: Person, invited: Person
) -> None:
    token = await invited_token(person, invited.email)
    assert code_of(await accept(stranger, token)) == (403, "invitation_for_another")
    assert (await accept(invited, token)).status_code == 200
    await is_dead(token, invited)
    await is_dead(token, stranger)


async def test_parallel_use_gives_one_membership(
    person: Person, invited: Person, resources: Resources
) -> None:
    token = await invited_token(person, invited.email)
    answers = await asyncio.gather(*(accept(invited, token) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 9
    assert await count_of(resources.db, "memberships", org_id=person.org_id) == 2


async def test_another_invitation_replaces_the_first(person: Person, invited: Person) -> None:
    first = await invited_token(person, invited.email, "admin")
    second = await invited_token(person, invited.email, "viewer")
    await is_dead(first, invited)
    assert len((await person.get(URL)).json()["items"]) == 1
    joined = await accept(invited, second)
    assert joined.json()["role"] == "viewer"
    assert code_of(await invite(person, invited.email)) == (409, "already_member")


async def test_parallel_invitations_leave_one(person: Person, invited: Person) -> None:
    tokens = await asyncio.gather(*(invited_token(person, invited.email) for _ in range(5)))
    offers = await asyncio.gather(*(look_up(invited.client, token) for token in tokens))
    assert sorted(offer.status_code for offer in offers) == [200, 404, 404, 404, 404]


async def test_a_revoked_one_is_dead(person: Person, invited: Person) -> None:
    created = (await invite(person, invited.email)).json()
    assert (await person.delete(f"{URL}/{created['id']}")).status_code == 204
    await is_dead(token_of(created["link"]), invited)


async def test_an_expired_one_is_dead_and_replaced(
    person: Person, invited: Person, resources: Resources
) -> None:
    token = await invited_token(person, invited.email, "owner")
    await expire(resources, person, days=1)
    await is_dead(token, invited)
    assert (await person.get(URL)).json()["items"] == []
    assert (await invite(person, invited.email)).status_code == 201


async def test_what_has_long_expired_is_deleted(person: Person, resources: Resources) -> None:
    await invite(person, new_address())
    for days, left in ((29, 1), (31, 0)):
        await expire(resources, person, days=days)
        await Housekeeper(resources.db, resources.storage).keep_house()
        assert await count_of(resources.db, "invitations", org_id=person.org_id) == left


async def expire(resources: Resources, person: Person, *, days: int) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                UPDATE invitations SET expires_at = now() - make_interval(days => :days)
                WHERE org_id = :org_id
            """),
            {"org_id": person.org_id, "days": days},
        )


@pytest.mark.parametrize("what", ["demoted", "removed", "deactivated"])
async def test_the_inviter_must_still_be_allowed_to(
    person: Person, client: httpx2.AsyncClient, resources: Resources, what: str
) -> None:
    admin = await join(person, await register(client, new_address()), "admin")
    invited = await register(client, new_address())
    token = await invited_token(admin, invited.email)
    url = f"{MEMBERS}/{admin.user_id}"
    match what:
        case "demoted":
            role = {"role": "member"}
            assert (await client.patch(url, json=role, headers=person.headers)).status_code == 204
        case "removed":
            assert (await person.delete(url)).status_code == 204
        case _:
            async with resources.db.system_transaction() as session:
                await session.execute(
                    text("UPDATE users SET is_active = false WHERE id = :id"),
                    {"id": admin.user_id},
                )
    await is_dead(token, invited)


async def test_an_owner_who_is_an_admin_now_makes_no_owners(
    person: Person, client: httpx2.AsyncClient, invited: Person
) -> None:
    second = await join(person, await register(client, new_address()), "owner")
    as_owner = await invited_token(second, invited.email, "owner")
    role = {"role": "admin"}
    url = f"{MEMBERS}/{second.user_id}"
    assert (await client.patch(url, json=role, headers=person.headers)).status_code == 204
    await is_dead(as_owner, invited)


@pytest.mark.parametrize(
    ("by", "role", "status"),
    [
        ("admin", "admin", 201),
        ("admin", "owner", 403),
        ("member", "viewer", 403),
        ("viewer", "viewer", 403),
    ],
)
async def test_who_may_invite_as_what(
    person: Person, client: httpx2.AsyncClient, by: str, role: str, status: int
) -> None:
    inviter = await join(person, await register(client, new_address()), by)
    assert (await invite(inviter, new_address(), role)).status_code == status
    assert (await inviter.get(URL)).status_code == (200 if by == "admin" else 403)


async def test_admins_leave_invitations_of_owners_alone(
    person: Person, client: httpx2.AsyncClient
) -> None:
    admin = await join(person, await register(client, new_address()), "admin")
    created = (await invite(person, new_address(), "owner")).json()
    assert (await admin.delete(f"{URL}/{created['id']}")).status_code == 403
    assert (await invite(admin, created["email"])).status_code == 403
    assert (await look_up(client, token_of(created["link"]))).status_code == 200


async def test_who_has_joined_meanwhile_stays_as_they_are(
    person: Person, invited: Person, resources: Resources
) -> None:
    token = await invited_token(person, invited.email, "admin")
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("INSERT INTO memberships (org_id, user_id, role) VALUES (:org, :user, 'viewer')"),
            {"org": person.org_id, "user": invited.user_id},
        )
    assert code_of(await accept(invited, token)) == (409, "already_member")


async def test_there_are_so_many_a_day(person: Person, resources: Resources) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                INSERT INTO invitations
                    (org_id, id, email, role, token_hash, invited_by, expires_at)
                SELECT :org_id, gen_random_uuid(), n || '@example.com', 'member',
                    sha256(gen_random_uuid()::text::bytea), :user_id, now() + interval '7 days'
                FROM generate_series(1, :n) AS n
            """),
            {"org_id": person.org_id, "user_id": person.user_id, "n": invitations.MAX_A_DAY - 1},
        )
    assert (await invite(person, new_address())).status_code == 201
    refused = await invite(person, new_address())
    assert code_of(refused) == (429, "too_many_invitations")
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "nobody"},
        {"email": "a@b"},
        {"email": "a@example.com\nBcc: b@example.com"},
        {"email": "a,b@example.com"},
        {"email": "a<b@example.com>"},
        {"email": "a@[example.com"},
        {"email": "a:b@example.com;"},
        {"email": "a@example.com", "role": "king"},
        {"email": "a@example.com", "token": "mine"},
        {"email": None},
    ],
)
async def test_other_invitations_are_422(person: Person, body: dict[str, Any]) -> None:
    assert (await person.post(URL, json=body)).status_code == 422


async def test_an_organization_has_as_many_members_as_its_plan(
    person: Person, resources: Resources, client: httpx2.AsyncClient
) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE organizations SET limits = '{\"members\": 3}' WHERE id = :id"),
            {"id": person.org_id},
        )
    resources.limiter.directory.forget(person.org_id)
    people = [await register(client, new_address()) for _ in range(4)]
    tokens = [await invited_token(person, each.email) for each in people]
    accepted = await asyncio.gather(
        *(accept(each, token) for each, token in zip(people, tokens, strict=True))
    )
    assert sorted(each.status_code for each in accepted) == [200, 200, 409, 409]
    assert {code_of(each) for each in accepted if each.status_code == 409} == {
        (409, "too_many_members")
    }
    assert code_of(await invite(person, new_address())) == (409, "too_many_members")
    joined = next(
        each for each, answer in zip(people, accepted, strict=True) if answer.status_code == 200
    )
    assert (await person.delete(f"{MEMBERS}/{joined.user_id}")).status_code == 204
    assert (await invite(person, new_address())).status_code == 201


async def test_a_mail_goes_to_the_very_address_that_was_invited(settings: Settings) -> None:
    """Readers of headers take this one for another way to write `x@example.com`."""
    email = "=?utf-8?q?x?=@example.com"
    async with SmtpServer() as smtp:
        url = f"smtp://127.0.0.1:{smtp.port}?from=app@example.com&starttls=false"
        async with in_production(settings, smtp_url=url) as (client, _):
            person = await register(client, f"inviter-{uuid4().hex}@example.com")
            assert (await invite(person, email)).json()["delivery"] == "sent"
    assert smtp.recipients == [email]


@pytest.mark.parametrize("token", ["", "x", "x" * 256, "\ud800", "日本"])
async def test_made_up_tokens_are_404(person: Person, token: str) -> None:
    body = json.dumps({"token": token})
    headers = person.headers | {"Content-Type": "application/json"}
    for url in (LOOK_UP, ACCEPT):
        answer = await person.client.post(url, content=body, headers=headers)
        assert answer.status_code in (404, 422), answer.text


@asynccontextmanager
async def in_production(
    settings: Settings, **changes: Any
) -> AsyncIterator[tuple[httpx2.AsyncClient, Resources]]:
    secrets = {"secret_key": settings.signing_key, "environment": Environment.PRODUCTION}
    changed = settings.model_dump() | secrets | {"public_url": PUBLIC_URL} | changes
    handlers = logging.getLogger().handlers[:]
    try:
        async with serve(Settings(_env_file=None, **changed)) as (app, client):
            yield client, app.state.resources
    finally:  # of this app's own, which write to where this test reads
        logging.getLogger().handlers[:] = handlers


def read_log(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what an app that was served here has logged so far."""
    captured = capsys.readouterr()
    assert "http_request" in captured.out
    return captured.out + captured.err


async def test_a_mail_is_sent_and_nobody_but_its_reader_has_the_token(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    email = new_address()
    async with SmtpServer() as smtp:
        url = f"smtp://app:p%40ss@127.0.0.1:{smtp.port}?from=app@example.com&starttls=false"
        async with in_production(settings, smtp_url=url) as (client, _):
            person = await register(client, f"inviter-{uuid4().hex}@example.com")
            name = {"name": "Böse & Söhne"}
            await client.patch("/api/v1/organization", json=name, headers=person.headers)
            created = await invite(person, email)
            assert (created.json()["delivery"], created.json()["link"]) == ("sent", None)
            (mail,) = smtp.mails
            body = mail.get_content()
            token = body.partition(f"{PUBLIC_URL}/join#")[2].split()[0]
            assert (await look_up(client, token)).json()["email"] == email
            assert (await accept(await register(client, email), token)).status_code == 200
            listed = await person.get(URL)
    log = read_log(capsys)
    assert (mail["to"], mail["from"], smtp.recipients) == (email, "app@example.com", [email])
    assert mail["subject"] == "Invitation to Böse & Söhne"
    assert "Böse & Söhne" in body
    assert person.email in body
    credentials = base64.b64encode(b"\0app\0p@ss").decode()
    assert f"AUTH PLAIN {credentials}" in smtp.commands
    for seen in (created.text, listed.text, log):
        assert token not in seen
    assert email not in log
    assert "p@ss" not in log


async def test_a_mail_that_the_server_refuses_is_told(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with SmtpServer(refuses=True) as smtp:
        url = f"smtp://127.0.0.1:{smtp.port}?from=app@example.com&starttls=false"
        async with in_production(settings, smtp_url=url) as (client, _):
            person = await register(client, f"inviter-{uuid4().hex}@example.com")
            created = await invite(person, new_address())
            assert created.status_code == 201
            assert (created.json()["delivery"], created.json()["link"]) == ("failed", None)
    log = read_log(capsys)
    assert "mail_not_sent" in log
    assert created.json()["email"] not in log


@pytest.mark.parametrize("has_starttls", [True, False])
async def test_no_password_goes_over_a_connection_that_is_not_encrypted(
    settings: Settings, has_starttls: bool
) -> None:
    async with SmtpServer(has_starttls=has_starttls) as smtp:
        url = f"smtp://app:secret@127.0.0.1:{smtp.port}?from=app@example.com"
        async with in_production(settings, smtp_url=url) as (client, _):
            person = await register(client, f"inviter-{uuid4().hex}@example.com")
            created = await invite(person, new_address())
            assert created.json()["delivery"] == "failed"
    assert not any(command.startswith(("AUTH", "MAIL")) for command in smtp.commands)


async def test_without_a_mail_server_the_inviter_has_the_link_and_the_log_has_not(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with in_production(settings) as (client, _):
        person = await register(client, f"inviter-{uuid4().hex}@example.com")
        created = (await invite(person, new_address())).json()
    assert created["delivery"] == "link"
    assert created["link"].startswith(f"{PUBLIC_URL}/join#")
    assert token_of(created["link"]) not in read_log(capsys)


async def test_on_a_laptop_the_link_is_in_the_log(
    person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    created = (await invite(person, new_address())).json()
    (line,) = [record for record in caplog.records if "mail_link" in record.getMessage()]
    assert created["link"] in line.getMessage()
    assert created["email"] not in line.getMessage()
