"""Vector stores whose files are not ready, not everybody's, or that were not used for long."""

import asyncio
from typing import Any
from uuid import uuid4

from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all
from tests.owner_sql import run_sql
from tests.people import Person, join


async def upload(person: Person, text: str, **fields: str) -> str:
    response = await person.post(
        "/v1/files",
        files={"file": ("a.txt", text.encode())},
        data={"purpose": "assistants", **fields},
    )
    assert response.status_code == 200, response.text
    file_id: str = response.json()["id"]
    return file_id


async def create_store(person: Person, **body: Any) -> str:
    store_id: str = (await person.post("/v1/vector_stores", json=body)).json()["id"]
    return store_id


async def search(person: Person, store_id: str, query: str) -> list[dict[str, Any]]:
    response = await person.post(f"/v1/vector_stores/{store_id}/search", json={"query": query})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def test_what_is_cancelled_gets_ready_and_is_not_searched(
    person: Person, ingester: Ingester
) -> None:
    file_id = await upload(person, f"The otter {uuid4().hex} swims.")
    store_id = await create_store(person)
    path = f"/v1/vector_stores/{store_id}"
    batch = (await person.post(f"{path}/file_batches", json={"file_ids": [file_id]})).json()
    assert (batch["status"], batch["file_counts"]["in_progress"]) == ("in_progress", 1)
    assert (await person.get(path)).json()["status"] == "in_progress"
    ended = (await person.post(f"{path}/file_batches/{batch['id']}/cancel")).json()
    assert (ended["status"], ended["file_counts"]["cancelled"]) == ("cancelled", 1)
    await ingest_all(ingester)
    assert (await person.get(f"/v1/files/{file_id}")).json()["status"] == "processed"
    assert (await person.get(f"{path}/files/{file_id}")).json()["status"] == "cancelled"
    assert await search(person, store_id, "otter") == []
    listed = (await person.get(f"{path}/files?filter=cancelled")).json()["data"]
    assert [each["id"] for each in listed] == [file_id]
    again = await person.post(f"{path}/files", json={"file_id": file_id})
    assert again.json()["status"] == "completed"
    assert len(await search(person, store_id, "otter")) == 1


async def test_a_store_that_was_not_used_for_long_has_expired(
    person: Person, database_url: str
) -> None:
    expiry = {"anchor": "last_active_at", "days": 1}
    file_id = await upload(person, f"The badger {uuid4().hex} digs.")
    store_id = await create_store(person, file_ids=[file_id], expires_after=expiry)
    await asyncio.to_thread(
        run_sql,
        database_url,
        f"UPDATE vector_stores SET last_active_at = now() - interval '2 days'"
        f" WHERE org_id = '{person.org_id}'",
    )
    path = f"/v1/vector_stores/{store_id}"
    assert (await person.get(path)).json()["status"] == "expired"
    tool = {"type": "file_search", "vector_store_ids": [store_id]}
    for refused in (
        await person.post(f"{path}/search", json={"query": "badger"}),
        await person.post(f"{path}/files", json={"file_id": file_id}),
        await person.post("/v1/responses", json={"input": "x", "tools": [tool]}),
    ):
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            400,
            "vector_store_expired",
        )
    changed = await person.post(path, json={"expires_after": None})
    assert changed.json()["status"] == "in_progress"


async def test_a_private_file_is_in_a_shared_store_for_its_owner_alone(
    person: Person, stranger: Person, ingester: Ingester
) -> None:
    member = await join(person, stranger)
    shared = await upload(person, f"The shared lynx {uuid4().hex} climbs.")
    private = await upload(person, f"The private lynx {uuid4().hex} hides.", visibility="private")
    await ingest_all(ingester)
    store_id = await create_store(person, file_ids=[shared, private])
    path = f"/v1/vector_stores/{store_id}"
    for who, seen in ((person, {shared, private}), (member, {shared})):
        assert {each["file_id"] for each in await search(who, store_id, "lynx")} == seen
        assert {each["id"] for each in (await who.get(f"{path}/files")).json()["data"]} == seen
        assert (await who.get(path)).json()["file_counts"]["total"] == len(seen)
    assert (await member.get(f"/v1/files/{private}")).status_code == 404
    attached = await member.post(f"{path}/files", json={"file_id": private})
    assert attached.status_code == 404
