"""How much an organization may keep: what does not fit is refused, with the numbers."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from app.dependencies import get_intake
from app.documents.intake import Intake
from app.resources import Resources
from app.usage.plans import PLANS, Limits, OrganizationPlan
from tests.people import Person

LIMITED = replace(PLANS[OrganizationPlan.ENTERPRISE], documents=3, storage_bytes=1000)


@pytest.fixture(autouse=True)
def limited(app: FastAPI, resources: Resources) -> Iterator[None]:
    async def quota_of(_: UUID) -> Limits:
        return LIMITED

    intake = Intake(resources.storage, max_queued=100, quota_of=quota_of)
    app.dependency_overrides[get_intake] = lambda: intake
    yield
    del app.dependency_overrides[get_intake]


def details_of(response: httpx2.Response) -> dict[str, int]:
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (403, "quota_exceeded")
    details: dict[str, int] = error["details"]
    return details


async def stored(person: Person) -> tuple[int, int]:
    use = (await person.get("/api/v1/organization/storage")).json()
    return use["documents"], use["bytes"]


async def test_one_document_too_many_is_refused_with_the_numbers(person: Person) -> None:
    for n in range(3):
        assert (await person.upload(f"{n}.txt", f"number {n}".encode())).status_code == 202
    details = details_of(await person.upload("3.txt", b"number 3"))
    assert details == {
        "documents": 3,
        "documents_limit": 3,
        "storage_bytes": 24,
        "storage_bytes_limit": 1000,
    }
    assert await stored(person) == (3, 24)


async def test_of_many_at_once_as_many_come_in_as_there_is_room_for(person: Person) -> None:
    uploads = (person.upload(f"{n}.txt", f"number {n}".encode()) for n in range(8))
    responses = await asyncio.gather(*uploads)
    assert sorted(response.status_code for response in responses) == [202] * 3 + [403] * 5
    assert await stored(person) == (3, 24)


async def test_bytes_count_too_and_a_deleted_document_makes_room(person: Person) -> None:
    first = await person.upload("a.txt", b"a" * 600)
    assert details_of(await person.upload("b.txt", b"b" * 600))["storage_bytes"] <= 1200
    assert await stored(person) == (1, 600)
    await person.delete(f"/api/v1/documents/{first.json()['document_id']}")
    assert (await person.upload("b.txt", b"b" * 600)).status_code == 202


async def test_a_new_version_must_fit_in_the_place_of_the_old(person: Person) -> None:
    uploaded = await person.upload("a.txt", b"a" * 600)
    path = f"/api/v1/documents/{uploaded.json()['document_id']}/content"

    async def put(content: bytes) -> httpx2.Response:
        files = {"file": ("a.txt", content)}
        return await person.client.put(path, files=files, headers=person.headers)

    assert (await put(b"c" * 900)).status_code == 202
    details_of(await put(b"d" * 1100))
    assert await stored(person) == (1, 900)


async def test_a_resumable_upload_is_refused_before_its_first_byte(person: Person) -> None:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "1001",
        "Upload-Metadata": "filename YQ==",
    }
    response = await person.client.post("/api/v1/uploads", headers=person.headers | headers)
    assert details_of(response)["storage_bytes"] == 0


async def test_another_organization_has_a_quota_of_its_own(
    person: Person, stranger: Person
) -> None:
    for n in range(3):
        await person.upload(f"{n}.txt", f"number {n}".encode())
    assert (await stranger.upload("a.txt", b"number 1")).status_code == 202
