"""Names that others read: nothing in them reorders what stands around, or can't be seen."""

from uuid import uuid4

import httpx2
import pytest

from app.accounts.operators import set_operator
from tests.people import Person, register

HOSTILE = "pay\u202eroll\u0007 \n a\u200bb\u2066"
CLEAN = "payroll ab"
KEY = {"name": HOSTILE, "scope": "read"}
WEBHOOK = {"url": "http://127.0.0.1:9/", "events": ["run.failed"], "description": HOSTILE}
ALIAS = {"description": HOSTILE, "targets": [{"model": "openai/gpt-4.1-nano"}]}


@pytest.fixture
async def operator(client: httpx2.AsyncClient, database_url: str) -> Person:
    person = await register(client, f"operator-{uuid4().hex}@example.com")
    assert await set_operator(database_url, person.email, is_operator=True)
    return person


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/v1/api-keys", KEY, "name"),
        ("POST", "/api/v1/organizations", {"name": HOSTILE}, "name"),
        ("PATCH", "/api/v1/organization", {"name": HOSTILE}, "name"),
        ("POST", "/api/v1/webhooks", WEBHOOK, "description"),
        ("PUT", f"/api/v1/admin/model-aliases/shown-{uuid4().hex}", ALIAS, "description"),
    ],
)
async def test_a_name_shows_nothing_but_what_it_is(
    operator: Person, method: str, path: str, body: dict[str, object], field: str
) -> None:
    response = await operator.client.request(method, path, json=body, headers=operator.headers)
    assert response.is_success, response.text
    assert response.json()[field] == CLEAN
    if "model-aliases" in path:
        await operator.delete(path)


async def test_joiners_that_words_are_spelled_with_stay(person: Person) -> None:
    name = "می\u200cخواهم"
    created = await person.post("/api/v1/organizations", json={"name": name})
    assert created.json()["name"] == name
