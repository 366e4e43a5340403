"""Delete and expire documents: gone at once, then removed, with a receipt that was checked."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.chat.recording import end_run
from app.documents.deletion import delete_expired, purge_next
from app.ingestion.pipeline import Ingester
from app.resources import Resources
from tests.conftest import ingest_all
from tests.frames import answer_of, parse_frames
from tests.pdfs import text_pdf
from tests.people import Person
from tests.stored import (
    ChunkRow,
    PageRow,
    change_document,
    count_rows,
    make_ready,
    read_document,
    store_generation,
)
from tests.stored_runs import QUOTE, Ended, answer_with, ask, begin, principal_of

TABLES = ("documents", "pages", "ocr_pages", "chunks", "chunk_embeddings")
PAGES = [PageRow(1, "The quokka lives on Rottnest Island."), PageRow(2, "It smiles.")]
CHUNKS = [ChunkRow(PAGES[0].text, (1, 0, 36)), ChunkRow(PAGES[1].text, (2, 0, 10))]
QUESTION = {"query": "Where does the quokka live?"}


async def upload(person: Person, filename: str, content: bytes) -> str:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def ready(person: Person, resources: Resources) -> str:
    document_id = await upload(person, "quokka.txt", uuid4().bytes.hex().encode())
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    return document_id


async def delete(person: Person, document_id: str) -> str:
    """Return the receipt's URL."""
    response = await person.delete(f"/api/v1/documents/{document_id}")
    assert response.status_code == 202, response.text
    return str(response.json()["status_url"])


async def purge(resources: Resources) -> None:
    while await purge_next(resources.db, resources.storage):
        pass


async def sweep(resources: Resources) -> None:
    """What the app under test also does by itself, every few seconds."""
    async with resources.db.system_transaction() as session:
        await delete_expired(session)


async def list_lexemes(resources: Resources, person: Person) -> dict[str, int]:
    """Those that stand in any chunk that readers see."""
    async with resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT lexeme, chunk_count FROM lexemes WHERE org_id = :org"),
            {"org": person.org_id},
        )
        return {row.lexeme: row.chunk_count for row in rows if row.chunk_count != 0}


async def list_names(person: Person, **params: Any) -> list[str]:
    response = await person.get("/api/v1/documents", params=params)
    return [item["filename"] for item in response.json()["items"]]


# Delete


async def test_a_deleted_document_is_gone_at_once_and_then_for_good(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    assert (await person.post("/api/v1/search", json=QUESTION)).json()["results"]
    url = f"/api/v1/documents/{document_id}"
    await delete(person, document_id)
    assert await list_names(person) == []
    assert await list_names(person, status="deleting") == []
    for path in ("", "/content", "/report", "/pages/1", "/chunks"):
        assert (await person.get(url + path)).status_code == 404, path
    for action in ("cancel", "retry"):
        assert (await person.post(f"{url}/{action}")).status_code == 404, action
    assert (await person.post("/api/v1/search", json=QUESTION)).json()["results"] == []
    asked = await person.post("/api/v1/search", json=QUESTION | {"document_ids": [document_id]})
    assert asked.status_code == 404

    await purge(resources)
    for table in TABLES:
        assert await count_rows(resources, table, document_id) == 0
    assert resources.storage.iter_versions(person.org_id, UUID(document_id)) == []
    assert await list_lexemes(resources, person) == {}


async def test_the_receipt_counts_what_was_removed(person: Person, resources: Resources) -> None:
    document_id = await ready(person, resources)
    half_made = [PageRow(1, "New."), PageRow(2, "Half."), PageRow(3, "Made.")]
    await store_generation(
        resources, person.org_id, document_id, half_made, CHUNKS[:1], generation=2
    )
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("INSERT INTO ocr_pages (org_id, document_id, version, number)"
                 " VALUES (:org, :id, 2, 4)"),
            {"org": person.org_id, "id": UUID(document_id)},
        )  # fmt: skip
    resources.storage.path(person.org_id, UUID(document_id), 2).write_bytes(b"x" * 1000)
    response = await person.delete(f"/api/v1/documents/{document_id}")
    started = response.json()
    assert response.headers["location"] == started["status_url"]
    assert started["status_url"] == f"/api/v1/deletions/{started['deletion_id']}"
    pending = (await person.get(started["status_url"])).json()
    assert (pending["status"], pending["completed_at"]) == ("pending", None)
    assert (pending["document_id"], pending["reason"]) == (document_id, "requested")

    await purge(resources)
    receipt = (await person.get(started["status_url"])).json()
    assert receipt["status"] == "completed"
    assert (receipt["pages"], receipt["chunks"], receipt["embeddings"]) == (5, 3, 3)
    assert (receipt["files"], receipt["file_bytes"], receipt["quotes"]) == (2, 1032, 0)
    times = [receipt[f"{event}_at"] for event in ("requested", "completed", "verified")]
    assert times == sorted(times)


async def test_deleting_again_gives_the_same_receipt(person: Person, resources: Resources) -> None:
    document_id = await ready(person, resources)
    receipt = await delete(person, document_id)
    assert await delete(person, document_id) == receipt
    await purge(resources)
    assert await delete(person, document_id) == receipt
    assert (await person.get(receipt)).json()["pages"] == 2
    assert (await person.delete(f"/api/v1/documents/{uuid4()}")).status_code == 404


async def test_receipts_are_listed_newest_first(person: Person, stranger: Person) -> None:
    receipts = [
        await delete(person, await upload(person, f"{n}.txt", f"text {n}".encode()))
        for n in range(5)
    ]
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = (await person.get("/api/v1/deletions", params=params)).json()
        seen += [f"/api/v1/deletions/{item['id']}" for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == receipts[::-1]
    assert (await stranger.get("/api/v1/deletions")).json()["items"] == []
    response = await person.get("/api/v1/deletions", params={"cursor": "made up"})
    assert response.status_code == 422


async def test_the_same_bytes_can_come_back_after_a_deletion(person: Person) -> None:
    first = await upload(person, "again.txt", b"here, gone, here again")
    await delete(person, first)
    second = await upload(person, "again.txt", b"here, gone, here again")
    assert second != first
    assert await list_names(person) == ["again.txt"]


async def test_a_stranger_deletes_nothing(person: Person, stranger: Person) -> None:
    document_id = await upload(person, "mine.txt", b"hands off")
    url = f"/api/v1/documents/{document_id}"
    assert (await stranger.delete(url)).status_code == 404
    assert await list_names(person) == ["mine.txt"]
    receipt = await delete(person, document_id)
    assert (await stranger.delete(url)).status_code == 404
    assert (await stranger.get(receipt)).status_code == 404


async def test_a_deletion_takes_the_document_from_its_worker(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person, "busy.txt", b"nobody will read this")
    await change_document(
        resources,
        document_id,
        "status = 'processing', stage = 'parsing', lease_token = 7, sealed_password = '\\x00',"
        " lease_expires_at = now() + interval '1 minute'",
    )
    await delete(person, document_id)
    row = await read_document(resources, document_id)
    assert (row.status, row.lease_token, row.stage) == ("deleting", 8, None)
    assert (row.lease_expires_at, row.sealed_password) == (None, None)


# Purge


async def test_one_that_cannot_be_removed_does_not_hold_up_the_others(
    person: Person, resources: Resources
) -> None:
    stuck = await ready(person, resources)
    free = await ready(person, resources)
    obstacle = resources.storage.path(person.org_id, UUID(stuck), 2)
    obstacle.mkdir()  # a folder can't be unlinked
    receipts = [await delete(person, document_id) for document_id in (stuck, free)]
    for _ in range(3):
        try:
            await purge(resources)
        except OSError:
            continue
    assert await count_rows(resources, "documents", free) == 0
    assert await count_rows(resources, "documents", stuck) == 1
    statuses = [(await person.get(receipt)).json()["status"] for receipt in receipts]
    assert statuses == ["pending", "completed"]
    obstacle.rmdir()
    await purge(resources)
    assert await count_rows(resources, "documents", stuck) == 0
    receipt = (await person.get(receipts[0])).json()
    # What the first attempt removed is counted once, and not lost.
    assert (receipt["pages"], receipt["chunks"], receipt["files"]) == (2, 2, 2)
    assert receipt["verified_at"] is not None
    assert await list_lexemes(resources, person) == {}


async def test_a_document_without_a_receipt_is_removed_too(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    receipt = await delete(person, document_id)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("DELETE FROM deletions WHERE document_id = :id"), {"id": UUID(document_id)}
        )
    assert (await person.get(receipt)).status_code == 404
    assert (await person.delete(f"/api/v1/documents/{document_id}")).status_code == 404
    await purge(resources)
    for table in TABLES:
        assert await count_rows(resources, table, document_id) == 0


async def test_one_that_another_worker_removes_is_left_to_it(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    await purge(resources)
    await delete(person, document_id)
    async with resources.db.system_transaction() as other:
        await other.execute(
            text("SELECT FROM documents WHERE id = :id FOR UPDATE"), {"id": UUID(document_id)}
        )
        assert not await purge_next(resources.db, resources.storage)
    assert await count_rows(resources, "chunks", document_id) == 2
    assert await purge_next(resources.db, resources.storage)
    assert await list_lexemes(resources, person) == {}


async def test_two_workers_at_once_count_words_and_rows_once(
    person: Person, resources: Resources
) -> None:
    await purge(resources)
    receipt = await delete(person, await ready(person, resources))
    workers: list[asyncio.Task[bool]] = []
    async with resources.db.transaction(person) as other:
        # Each worker would wait here, in the middle of its removal.
        await other.execute(text("SELECT FROM lexemes FOR UPDATE"))
        for _ in range(2):
            workers.append(asyncio.create_task(purge_next(resources.db, resources.storage)))
            while not workers[-1].done() and await count_waiting(other) < len(workers):
                await asyncio.sleep(0.01)
    await asyncio.gather(*workers)
    assert await list_lexemes(resources, person) == {}
    shown = (await person.get(receipt)).json()
    assert (shown["status"], shown["pages"], shown["chunks"]) == ("completed", 2, 2)
    assert (shown["files"], shown["file_bytes"]) == (1, 32)


async def count_waiting(session: AsyncSession) -> int:
    """How many transactions wait for somebody's lock."""
    count: int = await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    return count


async def test_a_receipt_is_verified_by_a_later_purge(person: Person, resources: Resources) -> None:
    document_id = await ready(person, resources)
    receipt = await delete(person, document_id)
    await purge(resources)
    # As if the worker had died before it looked again, and an upload had lost against it.
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE deletions SET verified_at = NULL WHERE document_id = :id"),
            {"id": UUID(document_id)},
        )
    left = resources.storage.path(person.org_id, UUID(document_id), 2)
    left.mkdir()
    await purge(resources)
    assert (await person.get(receipt)).json()["verified_at"] is None
    left.rmdir()
    left.write_bytes(b"left behind")
    await purge(resources)
    assert (await person.get(receipt)).json()["verified_at"] is not None
    assert not left.exists()


# Quotes in stored answers


async def read_quotes(resources: Resources, ended: Ended) -> list[str | None]:
    async with resources.db.system_transaction() as session:
        quotes = await session.scalars(
            text("SELECT quote FROM citations WHERE message_id = :id"),
            {"id": ended.begun.message_id},
        )
        return list(quotes)


async def test_quotes_are_hidden_at_once_and_then_removed_and_counted(
    person: Person, resources: Resources
) -> None:
    document_id, kept_id = await ready(person, resources), await ready(person, resources)
    who = principal_of(person.org_id, person.user_id)
    cited = [await ask(resources.db, who, f"{n}?", document_id=UUID(document_id)) for n in range(2)]
    kept = await ask(resources.db, who, "And the other?", document_id=UUID(kept_id))
    receipt = await delete(person, document_id)
    begun = cited[0].begun
    url = f"/api/v1/conversations/{begun.conversation_id}"
    for path in (
        f"{url}/messages",
        f"{url}/export",
        f"{url}/export?format=json",
        f"/api/v1/messages/{begun.message_id}/trace",
    ):
        shown = (await person.get(path)).text
        assert "quokka.txt" not in shown, path
        # The answer itself says so too, once.
        assert shown.count(QUOTE[:-1]) == (0 if path.endswith("trace") else 1), path
    answer = (await person.get(f"{url}/messages")).json()["items"][1]
    (citation,) = answer["citations"]
    assert (citation["source_deleted"], citation["quote"], citation["filename"]) == (True, "", "")
    assert await read_quotes(resources, cited[0]) == [QUOTE]

    await purge(resources)
    assert [await read_quotes(resources, each) for each in cited] == [[None], [None]]
    assert await read_quotes(resources, kept) == [QUOTE]
    shown_receipt = (await person.get(receipt)).json()
    assert shown_receipt["quotes"] == 2
    assert shown_receipt["verified_at"] is not None


async def test_an_answer_without_a_model_goes_with_the_document_that_it_quotes(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    uploaded = await person.upload("moon.pdf", text_pdf(["The moon base stores 4711 barrels."]))
    await ingest_all(ingester)
    asked = {"messages": [{"content": "How many barrels does the moon base store?"}]}
    begun = (await person.post("/api/v1/chat/runs", json=asked)).json()
    events = f"/api/v1/chat/runs/{begun['run_id']}/events"
    assert "4711" in answer_of(parse_frames((await person.get(events)).text))
    receipt = await delete(person, uploaded.json()["document_id"])
    await purge(resources)
    conversation = f"/api/v1/conversations/{begun['conversation_id']}"
    for path in (
        *(f"{conversation}/messages", f"{conversation}/export", events),
        *(f"/api/v1/chat/runs/{begun['run_id']}", "/api/v1/conversations/search?q=4711"),
    ):
        response = await person.get(path)
        assert response.status_code == 200
        assert "4711" not in response.text, path
    frames = parse_frames((await person.get(events)).text)
    assert answer_of(frames) == "This answer quoted a document that was deleted."
    digest = hashlib.sha256(answer_of(frames).encode()).hexdigest()
    assert frames[-1].data["answer_sha256"] == digest
    shown = (await person.get(receipt)).json()
    assert shown["quotes"] >= 1
    assert shown["verified_at"] is not None


async def test_a_quote_that_is_left_keeps_the_receipt_unverified(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    who = principal_of(person.org_id, person.user_id)
    ended = await ask(resources.db, who, "Where?", document_id=UUID(document_id))
    receipt = await delete(person, document_id)
    await purge(resources)

    async def write(quote: str | None) -> None:
        async with resources.db.system_transaction() as session:
            await session.execute(
                text("UPDATE citations SET quote = :quote WHERE message_id = :id"),
                {"quote": quote, "id": ended.begun.message_id},
            )
            await session.execute(
                text("UPDATE deletions SET verified_at = NULL WHERE document_id = :id"),
                {"id": UUID(document_id)},
            )

    await write("left behind")
    await purge(resources)
    assert (await person.get(receipt)).json()["verified_at"] is None
    await write(None)
    await purge(resources)
    assert (await person.get(receipt)).json()["verified_at"] is not None


async def test_an_answer_that_is_stored_while_its_document_goes_leaves_no_quote(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    await purge(resources)
    who = principal_of(person.org_id, person.user_id)
    ended = answer_with(await begin(resources.db, who, "Where?"), UUID(document_id))
    async with resources.db.transaction(who) as session:
        await end_run(session, who.org_id, ended.begun.run_id, ended.record)
        # The answer is written, but nobody sees it yet.
        await delete(person, document_id)
        assert not await purge_next(resources.db, resources.storage)
        assert await count_rows(resources, "chunks", document_id) == 2
    assert await read_quotes(resources, ended) == [QUOTE]
    await purge(resources)
    assert await read_quotes(resources, ended) == [None]
    assert await count_rows(resources, "documents", document_id) == 0


# Retention


async def patch(person: Person, document_id: str, body: object) -> Any:
    return await person.client.patch(
        f"/api/v1/documents/{document_id}", json=body, headers=person.headers
    )


async def test_an_expiry_is_set_and_cleared(person: Person) -> None:
    document_id = await upload(person, "soon.txt", b"soon gone")
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    in_delhi = moment.astimezone().isoformat()
    response = await patch(person, document_id, {"expires_at": in_delhi})
    assert response.status_code == 200, response.text
    assert datetime.fromisoformat(response.json()["expires_at"]) == moment
    cleared = await patch(person, document_id, {"expires_at": None})
    assert cleared.json()["expires_at"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"expires_at": "9999-12-31T23:59:59-14:00"},
        {"expires_at": "soon"},
        {"expires_at": "2999-01-01T00:00:00Z", "filename": "x.txt"},
        [],
    ],
)
async def test_a_made_up_expiry_is_422(person: Person, body: object) -> None:
    document_id = await upload(person, "stays.txt", b"stays")
    response = await patch(person, document_id, body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"
    assert (await person.get(f"/api/v1/documents/{document_id}")).json()["expires_at"] is None


async def test_an_expired_document_is_gone_before_it_is_swept(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    await change_document(resources, document_id, "expires_at = now()")
    url = f"/api/v1/documents/{document_id}"
    assert await list_names(person) == []
    for path in ("", "/content", "/report", "/pages/1", "/chunks"):
        assert (await person.get(url + path)).status_code == 404, path
    assert (await person.post(f"{url}/cancel")).status_code == 404
    assert (await patch(person, document_id, {"expires_at": None})).status_code == 404
    assert (await person.post("/api/v1/search", json=QUESTION)).json()["results"] == []
    asked = await person.post("/api/v1/search", json=QUESTION | {"document_ids": [document_id]})
    assert asked.status_code == 404


async def test_what_has_expired_is_deleted_with_a_receipt(
    person: Person, resources: Resources
) -> None:
    expired = await ready(person, resources)
    kept = await ready(person, resources)
    await change_document(resources, expired, "expires_at = now()")
    await change_document(resources, kept, "expires_at = now() + interval '1 hour'")
    await sweep(resources)
    assert (await read_document(resources, expired)).status == "deleting"
    await sweep(resources)
    await purge(resources)
    assert await count_rows(resources, "chunks", expired) == 0
    assert await count_rows(resources, "chunks", kept) == 2
    (receipt,) = (await person.get("/api/v1/deletions")).json()["items"]
    assert (receipt["document_id"], receipt["reason"]) == (expired, "expired")
    assert (receipt["status"], receipt["chunks"]) == ("completed", 2)
    assert receipt["verified_at"] is not None


async def test_a_document_that_is_locked_expires_a_moment_later(
    person: Person, resources: Resources
) -> None:
    document_id = await ready(person, resources)
    await change_document(resources, document_id, "expires_at = now()")
    async with resources.db.system_transaction() as other:
        await other.execute(
            text("SELECT FROM documents WHERE id = :id FOR UPDATE"), {"id": UUID(document_id)}
        )
        await sweep(resources)
        assert (await person.get("/api/v1/deletions")).json()["items"] == []
    await sweep(resources)
    assert (await read_document(resources, document_id)).status == "deleting"
