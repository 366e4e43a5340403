"""The versions of a document: one for each content, and how each of them ended."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.documents.deletion import purge_next
from app.ingestion.lease import claim_next, take_over_expired
from app.ingestion.pipeline import Ingester
from app.resources import Resources
from tests.conftest import ingest_all
from tests.pdfs import text_pdf
from tests.people import Person
from tests.stored import change_document, count_rows, read_document

_BLANK = b"  \n --- \n"


async def upload(person: Person, filename: str, content: bytes) -> str:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def replace(person: Person, document_id: str, filename: str, content: bytes) -> None:
    response = await person.client.put(
        f"/api/v1/documents/{document_id}/content",
        headers=person.headers,
        files={"file": (filename, content)},
    )
    assert response.status_code == 202, response.text


async def list_versions(person: Person, document_id: str) -> list[dict[str, Any]]:
    response = await person.get(f"/api/v1/documents/{document_id}/versions")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_a_first_version_is_there_from_the_upload_on(
    person: Person, ingester: Ingester
) -> None:
    content = text_pdf(["Otters hold hands.", "They swim."])
    document_id = await upload(person, "otters.pdf", content)
    document = (await person.get(f"/api/v1/documents/{document_id}")).json()
    assert await list_versions(person, document_id) == [
        {
            "version": 1,
            "filename": "otters.pdf",
            "media_type": "application/pdf",
            "size_bytes": len(content),
            "uploaded_at": document["created_at"],
            "ready_at": None,
            "status": "queued",
            "error_code": None,
            "page_count": None,
            "chunk_count": None,
            "is_served": False,
        }
    ]
    await ingest_all(ingester)
    (ready,) = await list_versions(person, document_id)
    assert (ready["status"], ready["is_served"]) == ("ready", True)
    assert (ready["page_count"], ready["chunk_count"]) == (2, 2)
    assert ready["ready_at"] > ready["uploaded_at"] == document["created_at"]


async def test_each_replacement_adds_one_and_says_how_the_others_ended(
    person: Person, ingester: Ingester
) -> None:
    document_id = await upload(person, "one.txt", b"The first content.")
    await ingest_all(ingester)
    (first,) = await list_versions(person, document_id)
    await replace(person, document_id, "two.txt", b"The second content.")
    await replace(person, document_id, "three.md", b"The third content is in Markdown.")
    third, second, unchanged = await list_versions(person, document_id)
    assert unchanged == first
    assert (second["status"], second["error_code"]) == ("failed", "superseded")
    assert (second["filename"], second["ready_at"], second["is_served"]) == ("two.txt", None, False)
    assert (third["status"], third["filename"], third["is_served"]) == ("queued", "three.md", False)
    assert third["media_type"] != first["media_type"]
    await ingest_all(ingester)
    views = await list_versions(person, document_id)
    assert [view["is_served"] for view in views] == [True, False, False]
    assert [view["status"] for view in views] == ["ready", "failed", "ready"]
    assert views[2] == first | {"is_served": False}


async def test_the_same_bytes_are_no_new_version(person: Person, ingester: Ingester) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")
    await ingest_all(ingester)
    before = await list_versions(person, document_id)
    for again in (
        await person.upload("other.txt", b"The only content."),
        await person.client.put(
            f"/api/v1/documents/{document_id}/content",
            headers=person.headers,
            files={"file": ("other.txt", b"The only content.")},
        ),
    ):
        assert again.status_code == 200, again.text
    assert await list_versions(person, document_id) == before


async def test_a_version_that_failed_says_so_and_the_one_before_is_served(
    person: Person, ingester: Ingester
) -> None:
    document_id = await upload(person, "one.txt", b"The first content.")
    await ingest_all(ingester)
    await replace(person, document_id, "two.txt", _BLANK)
    await ingest_all(ingester)
    second, first = await list_versions(person, document_id)
    document = (await person.get(f"/api/v1/documents/{document_id}")).json()
    assert (second["status"], second["error_code"]) == ("failed", document["error_code"])
    assert (second["page_count"], second["chunk_count"]) == (None, None)
    assert (first["is_served"], second["is_served"]) == (True, False)
    response = await person.get(f"/api/v1/documents/{document_id}/content")
    assert response.content == b"The first content."


async def test_a_cancelled_version_is_tried_again_as_the_same_one(
    person: Person, ingester: Ingester
) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")
    await person.post(f"/api/v1/documents/{document_id}/cancel")
    (cancelled,) = await list_versions(person, document_id)
    assert (cancelled["status"], cancelled["error_code"]) == ("failed", "cancelled")
    await person.post(f"/api/v1/documents/{document_id}/retry")
    (queued,) = await list_versions(person, document_id)
    assert (queued["status"], queued["error_code"]) == ("queued", None)
    await ingest_all(ingester)
    (ready,) = await list_versions(person, document_id)
    assert (ready["status"], ready["uploaded_at"]) == ("ready", queued["uploaded_at"])


async def test_a_version_whose_worker_died_goes_back_and_in_the_end_fails(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")
    statuses = []
    for _ in range(3):
        async with resources.db.system_transaction() as session:
            lease = await claim_next(session, per_org=1)
            assert lease is not None
            assert str(lease.document_id) == document_id
        statuses += [view["status"] for view in await list_versions(person, document_id)]
        await change_document(resources, document_id, "lease_expires_at = now() - interval '1 s'")
        async with resources.db.system_transaction() as session:
            await take_over_expired(session)
        statuses += [view["status"] for view in await list_versions(person, document_id)]
    assert statuses == ["processing", "queued", "processing", "queued", "processing", "failed"]
    (failed,) = await list_versions(person, document_id)
    assert failed["error_code"] == "poison_document"


async def test_nothing_of_a_version_stays_when_its_transaction_does_not(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")
    before = await list_versions(person, document_id)
    with pytest.raises(ZeroDivisionError):
        async with resources.db.transaction(person) as session:
            await session.execute(
                text("UPDATE documents SET version = 2, filename = 'two' WHERE id = :id"),
                {"id": UUID(document_id)},
            )
            assert await session.scalar(text("SELECT count(*) FROM document_versions")) == 2
            raise ZeroDivisionError
    assert await list_versions(person, document_id) == before


async def test_progress_writes_no_version(person: Person, resources: Resources) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")

    async def read_place() -> Any:
        async with resources.db.system_transaction() as session:
            return await session.scalar(
                text("SELECT ctid::text || xmin FROM document_versions WHERE document_id = :id"),
                {"id": UUID(document_id)},
            )

    await change_document(resources, document_id, "status = 'processing'")
    before = await read_place()
    await change_document(resources, document_id, "percent = 50, pages_done = 3, stage = 'parsing'")
    assert await read_place() == before
    await change_document(resources, document_id, "status = 'queued'")
    assert await read_place() != before


async def test_versions_go_with_their_document(
    person: Person, stranger: Person, resources: Resources, ingester: Ingester
) -> None:
    kept = await upload(stranger, "kept.txt", b"Kept.")
    document_id = await upload(person, "one.txt", b"The first content.")
    await ingest_all(ingester)
    await replace(person, document_id, "two.txt", b"The second content.")
    assert await count_rows(resources, "document_versions", document_id) == 2
    await person.delete(f"/api/v1/documents/{document_id}")
    assert (await person.get(f"/api/v1/documents/{document_id}/versions")).status_code == 404
    # The tombstone is no version.
    assert await count_rows(resources, "document_versions", document_id) == 2
    while await purge_next(resources.db, resources.storage):
        pass
    assert await read_document(resources, document_id) is None
    assert await count_rows(resources, "document_versions", document_id) == 0
    assert await count_rows(resources, "document_versions", kept) == 1


async def test_versions_are_their_organizations_alone(
    person: Person, stranger: Person, resources: Resources
) -> None:
    document_id = await upload(person, "one.txt", b"The only content.")
    assert (await stranger.get(f"/api/v1/documents/{document_id}/versions")).status_code == 404
    assert (await person.get(f"/api/v1/documents/{uuid4()}/versions")).status_code == 404
    async with resources.db.transaction(stranger) as session:
        assert await session.scalar(text("SELECT count(*) FROM document_versions")) == 0
    with pytest.raises(DBAPIError, match="row-level security"):
        async with resources.db.transaction(stranger) as session:
            await session.execute(
                text("""
                    INSERT INTO document_versions (org_id, document_id, version, filename,
                        media_type, status) VALUES (:org, :id, 9, 'x', 'x', 'queued')
                """),
                {"org": person.org_id, "id": UUID(document_id)},
            )
