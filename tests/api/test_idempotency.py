"""`Idempotency-Key`: the same upload twice is done once, whatever happens in between."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.idempotency import Answer, answer_once
from app.accounts.principal import Principal
from app.core.errors import NotFound
from app.dependencies import get_intake
from app.documents.intake import Intake
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.people import Person

UPLOAD = "/api/v1/documents/upload"


async def upload(
    person: Person,
    key: str,
    content: bytes,
    *,
    filename: str = "a.txt",
    url: str = UPLOAD,
    method: str = "POST",
    **fields: str,
) -> httpx2.Response:
    return await person.client.request(
        method,
        url,
        headers=person.headers | {"Idempotency-Key": key},
        files={"file": (filename, content)},
        data=fields,
    )


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def sql(resources: Resources, statement: str, **values: Any) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(text(statement), values)


async def test_the_same_request_is_answered_the_same_and_done_once(
    person: Person, resources: Resources
) -> None:
    first = await upload(person, "k1", b"once", password="sesame", expires_at="2099-01-01T00:00Z")
    again = await upload(person, "k1", b"once", password="sesame", expires_at="2099-01-01T00:00Z")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.text == first.text
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    # It is what was answered then, even when the document is no more.
    await person.delete(first.headers["location"])
    later = await upload(person, "k1", b"once", password="sesame", expires_at="2099-01-01T00:00Z")
    assert later.text == first.text
    assert (await person.get("/api/v1/documents")).json()["items"] == []


@pytest.mark.parametrize(
    "other",
    [
        {"content": b"twice"},
        {"filename": "b.txt"},
        {"password": "other"},
        {"expires_at": "2099-01-02T00:00Z"},
    ],
)
async def test_another_body_under_the_same_key_is_422(person: Person, other: Any) -> None:
    assert (await upload(person, "k2", b"once")).status_code == 202
    response = await upload(person, "k2", **({"content": b"once"} | other))
    assert code_of(response) == (422, "idempotency_mismatch")
    assert len((await person.get("/api/v1/documents")).json()["items"]) == 1


async def test_the_same_key_elsewhere_is_another_request(person: Person, stranger: Person) -> None:
    first = await upload(person, "k3", b"once")
    assert (await upload(stranger, "k3", b"something else")).status_code == 202
    url = f"{first.headers['location']}/content"
    other_route = await upload(person, "k3", b"once", url=url, method="PUT")
    assert code_of(other_route) == (422, "idempotency_mismatch")


async def test_a_replacement_is_made_once_too(person: Person) -> None:
    url = f"{(await upload(person, 'k4', b'old')).headers['location']}/content"
    first = await upload(person, "k5", b"new", url=url, method="PUT")
    again = await upload(person, "k5", b"new", url=url, method="PUT")
    assert (first.status_code, first.json()["version"]) == (202, 2)
    assert (again.status_code, again.text) == (202, first.text)
    assert again.headers["idempotency-replayed"] == "true"


async def test_twenty_twins_at_once_are_one_upload(person: Person) -> None:
    responses = await asyncio.gather(*(upload(person, "k6", b"at once") for _ in range(20)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.text for response in responses}) == 1
    assert sum("idempotency-replayed" not in response.headers for response in responses) == 1


async def test_a_twin_that_takes_too_long_is_409(person: Person, resources: Resources) -> None:
    principal = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def act() -> Answer:
        has_begun.set()
        await may_end.wait()
        return Answer(202, {})

    async def hold_the_key() -> None:
        async with resources.db.transaction(principal) as session:
            await answer_once(session, principal, "k7", request_hash=b"", act=act)

    holder = asyncio.create_task(hold_the_key())
    await has_begun.wait()
    try:
        response = await upload(person, "k7", b"twin")
    finally:
        may_end.set()
        await holder
    assert code_of(response) == (409, "idempotency_in_flight")


async def test_a_twin_whose_work_failed_leaves_the_key_free(
    person: Person, resources: Resources
) -> None:
    principal = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())

    async def fail() -> Answer:
        raise NotFound("It was not there.")

    with pytest.raises(NotFound):
        async with resources.db.transaction(principal) as session:
            await answer_once(session, principal, "k8", request_hash=b"", act=fail)
    response = await upload(person, "k8", b"now it works")
    assert response.status_code == 202
    assert "idempotency-replayed" not in response.headers


async def test_an_error_is_not_kept(person: Person) -> None:
    assert code_of(await upload(person, "k9", b"")) == (422, "empty_file")
    assert (await upload(person, "k9", b"full")).status_code == 202


async def test_an_expired_key_is_free_again(person: Person, resources: Resources) -> None:
    first = await upload(person, "k10", b"yesterday")
    await sql(
        resources,
        "UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE org_id = :org",
        org=person.org_id,
    )
    other = await upload(person, "k10", b"today")
    assert other.status_code == 202
    assert other.json()["document_id"] != first.json()["document_id"]
    assert (await upload(person, "k10", b"today")).headers["idempotency-replayed"] == "true"


@pytest.fixture
def queue_of_one(app: FastAPI, resources: Resources) -> Iterator[None]:
    app.dependency_overrides[get_intake] = lambda: Intake(resources.storage, max_queued=1)
    yield
    app.dependency_overrides.clear()


@pytest.mark.usefixtures("queue_of_one")
async def test_a_replay_comes_through_a_full_queue(person: Person) -> None:
    first = await upload(person, "k11", b"the only one")
    assert code_of(await upload(person, "k12", b"one more")) == (429, "ingestion_backlog")
    assert (await upload(person, "k11", b"the only one")).text == first.text


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "ümlaut", "tab\t", "\x7f"])
async def test_a_key_that_is_none_is_400(person: Person, key: str) -> None:
    response = await person.client.post(
        UPLOAD,
        headers=[
            (b"authorization", person.headers["Authorization"].encode()),
            (b"idempotency-key", key.encode("latin-1")),
        ],
        files={"file": ("a.txt", b"words")},
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "Idempotency-Key"


async def test_what_is_kept_tells_neither_key_nor_password(
    person: Person, resources: Resources
) -> None:
    await upload(person, "key-of-hers", b"words", password="pass-of-hers")
    async with resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM idempotency_keys WHERE org_id = :org"), {"org": person.org_id}
        )
        shown = str(rows.one())
    assert "of-hers" not in shown


async def test_the_header_is_in_the_api_description(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for operation in (
        paths[UPLOAD]["post"],
        paths["/api/v1/documents/{document_id}/content"]["put"],
    ):
        assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
