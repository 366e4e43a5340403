"""Members of an organization: who may change whom, and what ends with a membership."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.accounts import members
from app.documents.housekeeping import Housekeeper
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.people import Person, join, register, sign_in, sign_in_elsewhere
from tests.stored_runs import begin, count_of, principal_of

URL = "/api/v1/organization/members"
ME = "/api/v1/auth/me"


async def change_role(by: Person, of: Person, role: str) -> httpx2.Response:
    return await by.client.patch(f"{URL}/{of.user_id}", json={"role": role}, headers=by.headers)


async def remove(by: Person, of: Person) -> httpx2.Response:
    return await by.delete(f"{URL}/{of.user_id}")


async def roles_of(person: Person) -> dict[str, str]:
    response = await person.get(URL)
    assert response.status_code == 200, response.text
    return {item["email"]: item["role"] for item in response.json()["items"]}


@pytest.fixture
async def colleague(client: httpx2.AsyncClient, person: Person) -> Person:
    """A member of the person's organization, signed in there."""
    return await join(person, await register(client, f"colleague-{uuid4().hex}@example.com"))


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def test_members_are_listed_in_the_order_in_which_they_joined(
    person: Person, client: httpx2.AsyncClient
) -> None:
    others = [await register(client, f"m{n}-{uuid4().hex}@example.com") for n in range(4)]
    for other, role in zip(others, ("admin", "member", "viewer", "owner"), strict=True):
        await join(person, other, role)
    emails = [person.email, *(other.email for other in others)]
    roles = ["owner", "admin", "member", "viewer", "owner"]
    assert list((await roles_of(person)).items()) == list(zip(emails, roles, strict=True))
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await person.get(URL, params=query)).json()
        seen += page["items"]
        cursor, pages = page["next_cursor"], pages + 1
    assert ([item["email"] for item in seen], pages) == (emails, 3)
    assert seen[0].keys() == {"user_id", "email", "name", "role", "joined_at", "last_seen_at"}
    assert all(item["last_seen_at"] is not None for item in seen)
    assert (await person.get(URL, params={"cursor": "x"})).status_code == 400


async def test_everybody_reads_their_own_members_only(person: Person, stranger: Person) -> None:
    assert list(await roles_of(stranger)) == [stranger.email]


# Who changes whom to what: by the table of app/accounts/permissions.py.
CHANGES = [
    ("owner", "viewer", "owner", 204),
    ("owner", "owner", "viewer", 204),
    ("admin", "member", "admin", 204),
    ("admin", "admin", "viewer", 204),
    ("admin", "viewer", "owner", 403),
    ("admin", "owner", "admin", 403),
    ("member", "viewer", "member", 403),
    ("viewer", "member", "viewer", 403),
]


@pytest.mark.parametrize(("by", "of", "to", "status"), CHANGES)
async def test_who_may_change_whom(
    person: Person, client: httpx2.AsyncClient, by: str, of: str, to: str, status: int
) -> None:
    manager = await join(person, await register(client, f"a-{uuid4().hex}@example.com"), by)
    member = await join(person, await register(client, f"b-{uuid4().hex}@example.com"), of)
    changed = await change_role(manager, member, to)
    assert changed.status_code == status, changed.text
    assert (await roles_of(person))[member.email] == (to if status == 204 else of)
    removed = await remove(manager, member)
    may_remove = by in ("owner", "admin") and not (by == "admin" and of == "owner")
    assert removed.status_code == (204 if may_remove else 403), removed.text
    assert (member.email in await roles_of(person)) is not may_remove


async def test_nobody_makes_themselves_an_owner(person: Person, colleague: Person) -> None:
    await change_role(person, colleague, "admin")
    admin = await sign_in_elsewhere(colleague, str(person.org_id))
    assert code_of(await change_role(admin, admin, "owner")) == (403, "forbidden")
    assert (await change_role(admin, admin, "member")).status_code == 204


async def test_a_role_that_was_taken_away_counts_no_more(
    person: Person, colleague: Person, resources: Resources
) -> None:
    """Even where a process believes the role of a moment ago."""
    await change_role(person, colleague, "admin")
    assert (await colleague.get(ME)).json()["organization"]["role"] == "admin"
    async with resources.db.system_transaction() as session:
        owner = principal_of(person.org_id, person.user_id)
        await members.change_role(session, owner, colleague.user_id, MemberRole.MEMBER)
    assert code_of(await remove(colleague, person)) == (403, "forbidden")


async def test_the_last_owner_stays(person: Person, colleague: Person) -> None:
    for response in (await remove(person, person), await change_role(person, person, "admin")):
        assert code_of(response) == (409, "last_owner")
    assert (await change_role(person, person, "owner")).status_code == 204
    assert (await change_role(person, colleague, "owner")).status_code == 204
    assert (await remove(person, person)).status_code == 204
    assert await roles_of(colleague) == {colleague.email: "owner"}
    assert code_of(await remove(colleague, colleague)) == (409, "last_owner")


async def test_two_owners_who_demote_each_other_leave_one(
    person: Person, colleague: Person, resources: Resources
) -> None:
    for how in (change_role, remove_as):
        for _ in range(10):
            await change_role(person, colleague, "owner")
            statuses = sorted(
                response.status_code
                for response in await asyncio.gather(
                    how(person, colleague, "admin"), how(colleague, person, "admin")
                )
            )
            owners = await count_of(resources.db, "memberships", org_id=person.org_id, role="owner")
            # The second one is no owner any more, or no member.
            assert (statuses[0], owners) == (204, 1), statuses
            assert statuses[1] in (401, 403, 409), statuses
            person, colleague = await make_both_owners(person, colleague, resources)


async def remove_as(by: Person, of: Person, _role: str) -> httpx2.Response:
    return await remove(by, of)


async def make_both_owners(
    person: Person, colleague: Person, resources: Resources
) -> tuple[Person, Person]:
    async with resources.db.system_transaction() as session:
        for who in (person, colleague):
            await session.execute(
                text("""
                    INSERT INTO memberships (org_id, user_id, role) VALUES (:org, :user, 'owner')
                    ON CONFLICT (org_id, user_id) DO UPDATE SET role = 'owner'
                """),
                {"org": person.org_id, "user": who.user_id},
            )
    resources.principals.forget(person.org_id)
    return (
        await sign_in_elsewhere(person, str(person.org_id)),
        await sign_in_elsewhere(colleague, str(person.org_id)),
    )


async def test_two_owners_who_leave_at_once_leave_one(
    person: Person, colleague: Person, resources: Resources
) -> None:
    await change_role(person, colleague, "owner")
    left = await asyncio.gather(remove(person, person), remove(colleague, colleague))
    assert sorted(response.status_code for response in left) == [204, 409]
    assert await count_of(resources.db, "memberships", org_id=person.org_id, role="owner") == 1


async def test_a_removed_member_is_out_at_once(person: Person, colleague: Person) -> None:
    key = await colleague.post("/api/v1/api-keys", json={"name": "k", "scope": "write"})
    by_key = {"Authorization": f"Bearer {key.json()['key']}"}
    search = {"query": "What is there?"}
    answer = await colleague.client.post("/api/v1/search", json=search, headers=by_key)
    assert answer.status_code == 200, answer.text
    assert (await remove(person, colleague)).status_code == 204
    assert code_of(await colleague.get(ME)) == (401, "token_revoked")
    answer = await colleague.client.post("/api/v1/search", json=search, headers=by_key)
    assert answer.status_code == 401
    refreshed = await colleague.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": colleague.tokens["refresh_token"]}
    )
    assert refreshed.status_code == 401
    assert code_of(await remove(person, colleague)) == (404, "not_found")
    # They are still somebody, in what is their own.
    again = await sign_in(colleague.client, colleague.email)
    assert again.org_id != person.org_id
    # And who comes back does so without what they had.
    assert (await join(person, again)).org_id == person.org_id
    assert (await colleague.client.get("/api/v1/documents", headers=by_key)).status_code == 401
    refreshed = await colleague.client.post(
        "/api/v1/auth/refresh", json={"refresh_token": colleague.tokens["refresh_token"]}
    )
    assert refreshed.status_code == 401


async def test_other_sign_ins_of_a_removed_member_go_on(
    person: Person, client: httpx2.AsyncClient
) -> None:
    """Also one that was in the organization before, and has moved on."""
    at_home = await register(client, f"guest-{uuid4().hex}@example.com")
    guest = await join(person, at_home)
    moved = await guest.post(f"/api/v1/organizations/{at_home.org_id}/switch")
    back_home = Person(client, guest.email, moved.json())
    assert (await remove(person, guest)).status_code == 204
    for signed_in in (at_home, back_home):
        assert (await signed_in.get(ME)).status_code == 200
        refreshed = await client.post(
            "/api/v1/auth/refresh", json={"refresh_token": signed_in.tokens["refresh_token"]}
        )
        assert refreshed.status_code == 200


async def test_who_loses_the_only_organization_gets_one_at_the_next_sign_in(
    person: Person, colleague: Person
) -> None:
    own = await sign_in(colleague.client, colleague.email)
    deleted = await own.client.request(
        "DELETE",
        "/api/v1/organization",
        json={"confirm": own.tokens["organization"]["name"]},
        headers=own.headers,
    )
    assert deleted.status_code == 202, deleted.text
    assert (await sign_in(colleague.client, colleague.email)).org_id == person.org_id
    assert (await remove(person, colleague)).status_code == 204
    alone = await sign_in(colleague.client, colleague.email)
    assert alone.org_id not in (person.org_id, own.org_id)
    assert alone.tokens["organization"]["role"] == "owner"
    assert alone.tokens["organization"]["name"] == colleague.email.partition("@")[0]
    assert (await sign_in(colleague.client, colleague.email)).org_id == alone.org_id


async def test_answers_of_a_removed_member_are_cancelled(
    person: Person, colleague: Person, resources: Resources
) -> None:
    runs = [
        await begin(resources.db, principal_of(person.org_id, who.user_id), "Where?")
        for who in (colleague, person)
    ]
    await remove(person, colleague)
    cancelled = [await count_of_cancelled(resources, run.run_id) for run in runs]
    assert cancelled == [1, 0]


async def count_of_cancelled(resources: Resources, run_id: object) -> int:
    async with resources.db.system_transaction() as session:
        statement = text(
            "SELECT count(*) FROM runs WHERE id = :id AND cancel_requested_at IS NOT NULL"
        )
        return int(await session.scalar(statement, {"id": run_id}) or 0)


async def test_shared_documents_stay_and_private_ones_go(person: Person, colleague: Person) -> None:
    shared = await colleague.upload("shared.txt", b"Everybody may read this.")
    private = await colleague.post(
        "/api/v1/documents/upload",
        files={"file": ("private.txt", b"Nobody else may read this.")},
        data={"visibility": "private"},
    )
    assert (shared.status_code, private.status_code) == (202, 202), private.text
    assert (await remove(person, colleague)).status_code == 204
    found = await person.get(f"/api/v1/documents/{shared.json()['document_id']}")
    assert found.status_code == 200
    again = await join(person, await sign_in(colleague.client, colleague.email))
    gone = await again.get(f"/api/v1/documents/{private.json()['document_id']}")
    assert gone.status_code == 404
    receipts = (await again.get("/api/v1/deletions")).json()["items"]
    assert [item["document_id"] for item in receipts] == [private.json()["document_id"]]


async def test_private_documents_that_come_late_go_too(
    person: Person, colleague: Person, resources: Resources
) -> None:
    """An upload that was on its way when its user was removed."""
    response = await colleague.post(
        "/api/v1/documents/upload",
        files={"file": ("late.txt", f"Late. {uuid4()}".encode())},
        data={"visibility": "private"},
    )
    document_id = response.json()["document_id"]
    housekeeper = Housekeeper(resources.db, resources.storage)
    await housekeeper.keep_house()
    found = await colleague.get(f"/api/v1/documents/{document_id}")
    assert found.status_code == 200
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("DELETE FROM memberships WHERE org_id = :org_id AND user_id = :user_id"),
            {"org_id": person.org_id, "user_id": colleague.user_id},
        )
    await Housekeeper(resources.db, resources.storage).keep_house()
    assert await count_of(resources.db, "deletions", document_id=UUID(document_id)) == 1


async def test_an_api_key_manages_as_far_as_its_scope_goes(
    person: Person, colleague: Person
) -> None:
    async def call(scope: str, method: str, url: str, **options: Any) -> int:
        key = await person.post("/api/v1/api-keys", json={"name": "k", "scope": scope})
        headers = {"Authorization": f"Bearer {key.json()['key']}"}
        response = await person.client.request(method, url, headers=headers, **options)
        return response.status_code

    patch: dict[str, Any] = {"json": {"role": "viewer"}}
    assert await call("read", "GET", URL) == 200
    assert await call("write", "PATCH", f"{URL}/{colleague.user_id}", **patch) == 403
    assert await call("write", "DELETE", f"{URL}/{person.user_id}") == 403
    assert await call("admin", "PATCH", f"{URL}/{colleague.user_id}", **patch) == 204
    assert await call("admin", "DELETE", f"{URL}/{colleague.user_id}") == 204


async def test_an_owner_hands_the_organization_over(person: Person, colleague: Person) -> None:
    url = "/api/v1/organization/transfer"
    refused = await colleague.post(url, json={"user_id": str(colleague.user_id)})
    assert code_of(refused) == (403, "forbidden")
    assert (await person.post(url, json={"user_id": str(person.user_id)})).status_code == 422
    assert (await person.post(url, json={"user_id": str(uuid4())})).status_code == 404
    done = await person.post(url, json={"user_id": str(colleague.user_id)})
    assert done.status_code == 204, done.text
    assert await roles_of(person) == {person.email: "admin", colleague.email: "owner"}
    again = await person.post(url, json={"user_id": str(colleague.user_id)})
    assert code_of(again) == (403, "forbidden")


@pytest.mark.parametrize("body", [{}, {"role": "king"}, {"role": None}, {"role": "admin", "x": 1}])
async def test_other_roles_are_422(person: Person, body: dict[str, Any]) -> None:
    response = await person.client.patch(
        f"{URL}/{person.user_id}", json=body, headers=person.headers
    )
    assert code_of(response) == (422, "validation_error")
