"""What the sweeper clears away: orphaned blobs, expired keys and uploads, stray folders."""

import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from app.documents.cleanup import remove_expired, remove_orphans
from app.resources import Resources
from tests.people import Person

TWO_HOURS_S = 7200


async def sql(resources: Resources, statement: str, **values: Any) -> Any:
    async with resources.db.system_transaction() as session:
        return await session.execute(text(statement), values)


def make_old(path: Path) -> None:
    then = time.time() - TWO_HOURS_S
    os.utime(path, (then, then))


def put_blob(resources: Resources, org_id: UUID, document_id: UUID, version: int = 1) -> Path:
    path = resources.storage.path(org_id, document_id, version)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"words")
    make_old(path)
    return path


async def test_blobs_that_no_row_needs_are_removed_and_the_others_stay(
    person: Person, stranger: Person, resources: Resources
) -> None:
    document_id = UUID((await person.upload("a.txt", b"three versions")).json()["document_id"])
    await sql(
        resources,
        "UPDATE documents SET version = 4, ready_version = 2, generation = 1 WHERE id = :id",
        id=document_id,
    )
    versions = [put_blob(resources, person.org_id, document_id, version) for version in range(1, 6)]
    no_row = put_blob(resources, person.org_id, uuid4())
    # The id is right, the organization is not.
    elsewhere = put_blob(resources, stranger.org_id, document_id)
    young = put_blob(resources, person.org_id, uuid4())
    os.utime(young)
    foreign = young.with_name("not-ours")
    foreign.write_bytes(b"")
    make_old(foreign)
    assert await remove_orphans(resources.db, resources.storage) >= 5
    assert [path.exists() for path in versions] == [False, True, False, True, False]
    assert not no_row.exists()
    assert not elsewhere.exists()
    assert young.exists()
    assert foreign.exists()
    assert await remove_orphans(resources.db, resources.storage) == 0
    await person.delete(f"/api/v1/documents/{document_id}")


async def test_a_document_that_is_being_deleted_keeps_its_file_until_its_row_is_gone(
    person: Person, resources: Resources
) -> None:
    uploaded = await person.upload("a.txt", b"deleted soon")
    path = resources.storage.path(person.org_id, UUID(uploaded.json()["document_id"]))
    make_old(path)
    await person.delete(uploaded.headers["location"])
    await remove_orphans(resources.db, resources.storage)
    assert path.exists()


async def test_the_age_of_a_blob_counts_from_when_it_was_stored(
    person: Person, resources: Resources, tmp_path: Path
) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"took two hours to arrive")
    make_old(source)
    document_id = uuid4()
    resources.storage.commit(source, person.org_id, document_id)
    await remove_orphans(resources.db, resources.storage)
    assert resources.storage.path(person.org_id, document_id).exists()


async def test_expired_uploads_and_keys_are_removed(person: Person, resources: Resources) -> None:
    ids = []
    for key in ("old", "young"):
        headers = person.headers | {"Tus-Resumable": "1.0.0", "Upload-Length": "9"}
        created = await person.client.post("/api/v1/uploads", headers=headers)
        ids.append(UUID(created.json()["upload_id"]))
        await person.client.post(
            "/api/v1/documents/upload",
            headers=person.headers | {"Idempotency-Key": key},
            files={"file": ("a.txt", f"the {key} one".encode())},
        )
    expiry = "expires_at = now() - interval '1 second'"
    await sql(resources, f"UPDATE uploads SET {expiry} WHERE id = :id", id=ids[0])
    await sql(
        resources,
        f"UPDATE idempotency_keys SET {expiry} WHERE org_id = :org AND key_hash = sha256('old')",
        org=person.org_id,
    )
    assert await remove_expired(resources.db, resources.storage) >= 2
    folders = [resources.storage.upload_folder(upload_id).exists() for upload_id in ids]
    assert folders == [False, True]
    for table in ("uploads", "idempotency_keys"):
        left = await sql(
            resources, f"SELECT count(*) FROM {table} WHERE org_id = :org", org=person.org_id
        )
        assert left.scalar_one() == 1


async def test_folders_of_uploads_without_a_row_are_removed(
    person: Person, resources: Resources
) -> None:
    stray, young = (resources.storage.upload_folder(uuid4()) for _ in range(2))
    headers = person.headers | {"Tus-Resumable": "1.0.0", "Upload-Length": "9"}
    created = await person.client.post("/api/v1/uploads", headers=headers)
    alive = resources.storage.upload_folder(UUID(created.json()["upload_id"]))
    for folder in (stray, young):
        folder.mkdir()
        (folder / "data").write_bytes(b"words")
    for folder in (stray, alive):
        make_old(folder)
    await remove_expired(resources.db, resources.storage)
    assert [stray.exists(), young.exists(), alive.exists()] == [False, True, True]
