"""Cancel and retry the ingestion of a document."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.core.errors import RateLimited
from app.documents.intake import Intake
from app.documents.lifecycle import retry
from app.resources import Resources
from tests.people import Person
from tests.stored import ChunkRow, PageRow, change_document, count_rows, make_ready, read_document

PAGES = [PageRow(1, "The okapi is shy.")]
CHUNKS = [ChunkRow(PAGES[0].text, (1, 0, 17))]
WORKED_ON = (
    "status = 'processing', stage = 'ocr', lease_token = 7, sealed_password = '\\x00',"
    " lease_expires_at = now() + interval '1 minute', attempts = 2, percent = 40,"
    " checkpoint_chunks = 64, checkpoint_digest = '\\x01'"
)
CODES = ["corrupt", "timed_out", "cancelled", "poison_document", "wrong_password"]


async def upload(person: Person, content: bytes = b"to be cancelled") -> str:
    response = await person.upload("a.txt", content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def act(person: Person, document_id: str, action: str, **options: Any) -> Any:
    return await person.post(f"/api/v1/documents/{document_id}/{action}", **options)


# Cancel


async def test_a_queued_document_is_cancelled_at_once(person: Person) -> None:
    document_id = await upload(person)
    response = await act(person, document_id, "cancel")
    assert response.status_code == 200, response.text
    shown = response.json()
    assert (shown["status"], shown["error_code"]) == ("failed", "cancelled")
    assert (shown["retryable"], shown["queue_position"]) == (True, None)
    assert shown["error_message"]
    assert (await person.get(f"/api/v1/documents/{document_id}")).json() == shown


async def test_a_document_that_is_worked_on_is_taken_from_its_worker(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    await change_document(resources, document_id, WORKED_ON)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("INSERT INTO ocr_pages (org_id, document_id, version, number)"
                 " VALUES (:org, :id, 1, 1)"),
            {"org": person.org_id, "id": UUID(document_id)},
        )  # fmt: skip
    assert (await act(person, document_id, "cancel")).status_code == 200
    row = await read_document(resources, document_id)
    assert (row.status, row.lease_token, row.stage) == ("failed", 8, None)
    assert (row.lease_expires_at, row.sealed_password) == (None, None)
    assert row.checkpoint_chunks == 64
    assert await count_rows(resources, "ocr_pages", document_id) == 0


async def test_cancelling_twice_changes_nothing(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    first = await act(person, document_id, "cancel")
    token = (await read_document(resources, document_id)).lease_token
    again = await act(person, document_id, "cancel")
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await read_document(resources, document_id)).lease_token == token


async def test_what_readers_see_outlives_a_cancelled_replacement(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    await change_document(resources, document_id, "status = 'queued', version = 2")
    shown = (await act(person, document_id, "cancel")).json()
    assert (shown["status"], shown["version"], shown["ready_version"]) == ("failed", 2, 1)
    found = await person.post("/api/v1/search", json={"query": "okapi"})
    assert [hit["document_id"] for hit in found.json()["results"]] == [document_id]


async def test_what_is_not_in_progress_is_409(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await change_document(resources, document_id, "status = 'failed', error_code = 'corrupt'")
    response = await act(person, document_id, "cancel")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "not_in_progress")
    await change_document(resources, document_id, "status = 'queued', error_code = NULL")
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    response = await act(person, document_id, "cancel")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "not_in_progress")


# Retry


@pytest.mark.parametrize("code", CODES)
async def test_a_failed_document_is_queued_behind_the_others(
    person: Person, resources: Resources, code: str
) -> None:
    document_id = await upload(person)
    await upload(person, b"another one")
    await change_document(
        resources,
        document_id,
        "status = 'failed', error_code = :code, error_message = 'm', attempts = 3, percent = 40,"
        " checkpoint_chunks = 64, checkpoint_digest = '\\x01'",
        code=code,
    )
    response = await act(person, document_id, "retry")
    assert response.status_code == 200, response.text
    shown = response.json()
    assert (shown["status"], shown["queue_position"], shown["percent"]) == ("queued", 2, 40)
    assert (shown["error_code"], shown["error_message"], shown["retryable"]) == (None, None, None)
    row = await read_document(resources, document_id)
    assert (row.attempts, row.checkpoint_chunks, row.sealed_password) == (0, 64, None)


async def test_a_password_that_comes_with_a_retry_is_kept_sealed(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    await change_document(resources, document_id, "status = 'failed', error_code = 'encrypted'")
    response = await act(person, document_id, "retry", json={"password": "Öffne dich"})
    assert response.status_code == 200, response.text
    sealed = (await read_document(resources, document_id)).sealed_password
    assert resources.sealer.unseal(sealed) == "Öffne dich"
    assert "Öffne".encode() not in sealed


@pytest.mark.parametrize(
    "body", [{"password": ""}, {"password": "x" * 1025}, {"pass": "word"}, {"password": 7}]
)
async def test_a_made_up_body_is_422_and_not_echoed(person: Person, body: object) -> None:
    document_id = await upload(person)
    response = await act(person, document_id, "retry", json=body)
    assert response.status_code == 422, response.text
    assert "word" not in response.json()["error"]["message"].replace("password", "")
    assert "xxx" not in response.text


async def test_what_is_in_progress_stays_as_it_is(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    for assignments in ("status = 'queued'", WORKED_ON):
        await change_document(resources, document_id, assignments)
        before = await read_document(resources, document_id)
        assert (await act(person, document_id, "retry")).status_code == 200
        assert await read_document(resources, document_id) == before


async def test_a_password_is_kept_before_the_document_is_read_and_refused_while_it_is(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    response = await act(person, document_id, "retry", json={"password": "in time"})
    assert response.status_code == 200
    sealed = (await read_document(resources, document_id)).sealed_password
    assert resources.sealer.unseal(sealed) == "in time"
    await change_document(resources, document_id, WORKED_ON)
    response = await act(person, document_id, "retry", json={"password": "too late"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "in_progress")


@pytest.mark.parametrize("escape", [r"abc\u0000", r"\ud800"])
async def test_a_password_that_no_file_can_have_is_422(person: Person, escape: str) -> None:
    document_id = await upload(person)
    response = await person.client.post(
        f"/api/v1/documents/{document_id}/retry",
        content=f'{{"password": "{escape}"}}',
        headers={**person.headers, "Content-Type": "application/json"},
    )
    assert (response.status_code, response.json()["error"]["param"]) == (422, "password")


async def test_a_ready_document_is_409(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    response = await act(person, document_id, "retry")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "not_failed")


async def test_a_retry_counts_against_the_cap_of_the_queue(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    await change_document(resources, document_id, "status = 'failed', error_code = 'timed_out'")
    await upload(person, b"the one that may wait")
    intake = Intake(resources.storage, max_queued=1)
    with pytest.raises(RateLimited) as caught:
        async with resources.db.transaction(person) as session:
            await retry(
                session, person.org_id, UUID(document_id), intake=intake, sealed_password=None
            )
    assert caught.value.code == "ingestion_backlog"
    assert (await read_document(resources, document_id)).status == "failed"
