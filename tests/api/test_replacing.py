"""`PUT /documents/{id}/content`: a new version, and what of the old one stays."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.principal import Principal
from app.core.errors import StorageFull
from app.core.storage import BlobStore
from app.dependencies import get_intake
from app.documents.intake import IncomingFile, Intake
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.people import Person


@pytest.fixture(autouse=True)
def nothing_is_left_behind(data_dir: Path) -> Iterator[None]:
    yield
    assert list((data_dir / "files" / "incoming").iterdir()) == []


async def put(
    person: Person, url: str, content: bytes, filename: str = "new.md", **fields: str
) -> httpx2.Response:
    return await person.client.put(
        f"{url}/content", headers=person.headers, files={"file": (filename, content)}, data=fields
    )


async def row_of(resources: Resources, url: str) -> Any:
    async with resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM documents WHERE id = :id"), {"id": url.rpartition("/")[2]}
        )
        return rows.one()


async def set_columns(resources: Resources, url: str, assignments: str) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE documents SET {assignments} WHERE id = :id"),
            {"id": url.rpartition("/")[2]},
        )


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def blobs_of(resources: Resources, person: Person) -> dict[str, bytes]:
    folder = resources.storage.path(person.org_id, uuid4()).parent
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_new_content_is_the_next_version_and_queued(
    person: Person, resources: Resources
) -> None:
    url = (await person.upload("old.txt", b"old words")).headers["location"]
    document_id = url.rpartition("/")[2]
    await set_columns(
        resources,
        url,
        "status = 'processing', stage = 'embedding', percent = 60, pages_done = 6,"
        " pages_total = 9, attempts = 2, lease_token = 7, lease_expires_at = now(),"
        " checkpoint_chunks = 64, checkpoint_digest = 'x', sealed_password = 'old'",
    )
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("INSERT INTO ocr_pages (org_id, document_id, version, number) VALUES (:o,:d,1,1)"),
            {"o": person.org_id, "d": document_id},
        )
    response = await put(person, url, b"# New words")
    assert response.status_code == 202
    assert response.headers["location"] == url
    assert response.json() == {
        "document_id": document_id,
        "version": 2,
        "filename": "new.md",
        "status": "processing",
        "message": "The new content is being processed.",
        "tags": [],
        "metadata": {},
    }
    row = await row_of(resources, url)
    assert (row.version, row.media_type, row.size_bytes) == (2, "text/markdown", 11)
    assert (row.status, row.stage, row.percent, row.attempts) == ("queued", None, 0, 0)
    assert (row.pages_done, row.pages_total, row.lease_token) == (0, None, 8)
    assert (row.lease_expires_at, row.checkpoint_chunks, row.checkpoint_digest) == (None, 0, None)
    assert row.sealed_password is None
    assert blobs_of(resources, person) == {
        document_id: b"old words",
        f"{document_id}.2": b"# New words",
    }
    async with resources.db.system_transaction() as session:
        left = await session.scalar(
            text("SELECT count(*) FROM ocr_pages WHERE document_id = :id"), {"id": document_id}
        )
    assert left == 0


async def test_what_readers_see_stays_until_the_new_version_is_published(
    person: Person, resources: Resources
) -> None:
    url = (await person.upload("old.txt", b"seen words")).headers["location"]
    await set_columns(
        resources,
        url,
        "status = 'ready', generation = 3, ready_version = 1, ready_filename = 'old.txt',"
        " ready_media_type = 'text/plain', chunk_count = 1",
    )
    await put(person, url, b"unseen words", password="sesame", expires_at="2099-01-01T00:00Z")
    row = await row_of(resources, url)
    assert (row.generation, row.ready_version, row.ready_filename) == (3, 1, "old.txt")
    assert resources.sealer.unseal(row.sealed_password) == "sesame"
    assert row.expires_at is not None


async def test_the_same_bytes_change_nothing(person: Person, resources: Resources) -> None:
    url = (await person.upload("a.txt", b"the same words")).headers["location"]
    before = await row_of(resources, url)
    response = await put(person, url, b"the same words", "other-name.txt")
    assert (response.status_code, response.json()["version"]) == (200, 1)
    assert response.json()["status"] == "queued"
    assert await row_of(resources, url) == before


async def test_the_same_bytes_try_a_failed_document_again(
    person: Person, resources: Resources
) -> None:
    url = (await person.upload("a.txt", b"failed words")).headers["location"]
    await set_columns(resources, url, "status = 'failed', error_code = 'corrupt'")
    response = await put(person, url, b"failed words")
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert (await row_of(resources, url)).error_code is None


async def test_another_documents_bytes_are_409_and_name_it(
    person: Person, stranger: Person
) -> None:
    url = (await person.upload("a.txt", b"mine")).headers["location"]
    twin = await person.upload("b.txt", b"mine too")
    await stranger.upload("c.txt", b"a stranger's")
    response = await put(person, url, b"mine too")
    assert code_of(response) == (409, "duplicate_content")
    assert twin.json()["document_id"] in response.json()["error"]["message"]
    assert (await put(person, url, b"a stranger's")).status_code == 202


async def test_a_deleted_a_foreign_and_an_unknown_document_are_404_before_the_body(
    person: Person, stranger: Person
) -> None:
    pieces_read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal pieces_read
        pieces_read += 1
        yield b"x"

    deleted = (await person.upload("a.txt", b"gone")).headers["location"]
    await person.delete(deleted)
    foreign = (await stranger.upload("a.txt", b"theirs")).headers["location"]
    for url in (deleted, foreign, f"/api/v1/documents/{uuid4()}"):
        response = await person.client.put(
            f"{url}/content",
            content=body(),
            headers=person.headers | {"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert code_of(response) == (404, "not_found")
    assert pieces_read == 0


async def test_bad_content_leaves_the_document_as_it_was(
    person: Person, resources: Resources
) -> None:
    url = (await person.upload("a.txt", b"good words")).headers["location"]
    before = await row_of(resources, url)
    assert code_of(await put(person, url, b"")) == (422, "empty_file")
    assert code_of(await put(person, url, bytes(range(256)))) == (415, "unsupported_type")
    assert code_of(await put(person, url, b"x" * 5 * 1024 * 1024))[0] == 413
    assert await row_of(resources, url) == before


async def test_ten_replacements_at_once_are_ten_versions(
    person: Person, resources: Resources
) -> None:
    url = (await person.upload("a.txt", b"number 0")).headers["location"]
    responses = await asyncio.gather(*(put(person, url, f"number {n}".encode()) for n in range(10)))
    row = await row_of(resources, url)
    made = sorted(r.json()["version"] for r in responses if r.status_code == 202)
    assert made == list(range(2, row.version + 1))
    # The first of them may have brought the bytes that were there.
    assert len(made) in {9, 10}
    newest = resources.storage.path(person.org_id, row.id, row.version)
    assert sha256(newest.read_bytes()).digest() == row.sha256


async def test_two_replacements_that_bring_the_same_bytes_make_one_twin_only(
    person: Person, resources: Resources
) -> None:
    urls = [
        (await person.upload("a.txt", f"first {n}".encode())).headers["location"] for n in range(4)
    ]
    responses = await asyncio.gather(*(put(person, url, b"wanted by all") for url in urls))
    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409]


async def test_a_replacement_that_failed_after_the_move_is_overwritten_by_the_next(
    person: Person, resources: Resources, tmp_path: Path
) -> None:
    url = (await person.upload("a.txt", b"first words")).headers["location"]
    document_id = UUID(url.rpartition("/")[2])
    principal = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())
    source = tmp_path / "file"
    source.write_bytes(b"never committed")
    file = IncomingFile(source, "a.txt", "text/plain", 15, b"digest")
    with pytest.raises(RuntimeError, match="power"):
        async with resources.db.transaction(principal) as session:
            await Intake(resources.storage, 10).replace(
                session, principal, file, document_id=document_id
            )
            raise RuntimeError("power failure")
    assert (await row_of(resources, url)).version == 1
    assert resources.storage.path(person.org_id, document_id, 2).is_file()
    assert (await put(person, url, b"second words")).json()["version"] == 2
    assert resources.storage.path(person.org_id, document_id, 2).read_bytes() == b"second words"


async def test_a_disk_that_takes_nothing_changes_nothing(
    person: Person, resources: Resources, tmp_path: Path
) -> None:
    url = (await person.upload("a.txt", b"kept words")).headers["location"]
    before = await row_of(resources, url)
    principal = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())
    missing = IncomingFile(tmp_path / "missing", "a.txt", "text/plain", 5, b"other digest")
    with pytest.raises(StorageFull):
        async with resources.db.transaction(principal) as session:
            await Intake(BlobStore(tmp_path), 10).replace(
                session, principal, missing, document_id=before.id
            )
    assert await row_of(resources, url) == before


async def test_a_full_queue_is_429_for_new_content_too(
    person: Person, app: FastAPI, resources: Resources
) -> None:
    url = (await person.upload("a.txt", b"ready words")).headers["location"]
    await set_columns(
        resources, url, "status = 'ready', generation = 1, ready_version = 1, chunk_count = 1"
    )
    await person.upload("b.txt", b"waiting words")
    app.dependency_overrides[get_intake] = lambda: Intake(resources.storage, max_queued=1)
    try:
        response = await put(person, url, b"more words")
    finally:
        app.dependency_overrides.clear()
    assert code_of(response) == (429, "ingestion_backlog")
    assert (await row_of(resources, url)).version == 1
