"""Settings of an organization: everybody in it reads them, owners and admins change them."""

from typing import Any

import httpx2
import pytest

from app.models.accounts import MemberRole
from app.resources import Resources
from tests.key_holders import set_role
from tests.people import Person, sign_in

URL = "/api/v1/organization"


async def patch(person: Person, body: object) -> httpx2.Response:
    return await person.client.patch(URL, json=body, headers=person.headers)


async def sign_in_as(person: Person, role: MemberRole, resources: Resources) -> Person:
    await set_role(resources, person, role)
    return await sign_in(person.client, person.email)


async def test_it_begins_without_settings(person: Person) -> None:
    response = await person.get(URL)
    assert response.status_code == 200, response.text
    assert response.json() == {
        "id": str(person.org_id),
        "name": person.tokens["organization"]["name"],
        "system_prompt": "",
        "reject_prompt_injection": False,
    }


async def test_what_is_not_named_stays_as_it_is(person: Person, stranger: Person) -> None:
    assert (await patch(person, {"system_prompt": "Say please.\x00"})).status_code == 200
    changed = await patch(person, {"reject_prompt_injection": True})
    shown = (await person.get(URL)).json()
    assert shown == changed.json()
    assert (shown["system_prompt"], shown["reject_prompt_injection"]) == ("Say please.�", True)
    await patch(person, {"system_prompt": "", "reject_prompt_injection": False})
    shown = (await person.get(URL)).json()
    assert (shown["system_prompt"], shown["reject_prompt_injection"]) == ("", False)
    assert (await stranger.get(URL)).json()["id"] == str(stranger.org_id)


async def test_settings_are_of_one_organization(person: Person, stranger: Person) -> None:
    await patch(person, {"system_prompt": "Ours alone."})
    shown = (await stranger.get(URL)).json()
    assert (shown["id"], shown["system_prompt"]) == (str(stranger.org_id), "")


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (MemberRole.OWNER, 200),
        (MemberRole.ADMIN, 200),
        (MemberRole.MEMBER, 403),
        (MemberRole.VIEWER, 403),
    ],
)
async def test_only_owners_and_admins_change_it(
    person: Person, resources: Resources, role: MemberRole, status: int
) -> None:
    member = await sign_in_as(person, role, resources)
    response = await patch(member, {"system_prompt": "Changed."})
    assert response.status_code == status, response.text
    expected = "Changed." if status == 200 else ""
    assert (await member.get(URL)).json()["system_prompt"] == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"system_prompt": "x" * 4_001},
        {"system_prompt": None},
        {"reject_prompt_injection": "perhaps"},
        {"name": ""},
        {"plan": "enterprise"},
    ],
)
async def test_a_made_up_setting_is_422(person: Person, body: Any) -> None:
    response = await patch(person, body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"
    assert (await patch(person, {"system_prompt": "x" * 4_000})).status_code == 200
