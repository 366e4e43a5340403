"""Ingestion on real Postgres: outcomes, fencing, crashes at every step, fairness."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.ingestion.batches import CHUNKS_PER_BATCH
from app.ingestion.lease import Lease, LeaseLost, claim_next, kept_alive
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.ingestion.pipeline import Ingester, ingest_next
from app.ingestion.sweep import Sweeper
from app.llm.base import EmbeddingProvider, FloatMatrix, Purpose
from app.llm.embedder import Embedder
from app.llm.providers.openai import OpenAIEmbedding
from app.models.spans import span_text, unflatten_spans
from app.resources import Resources
from tests.conftest import ingest_all
from tests.integration.conftest import FEW_RETRIES
from tests.pdfs import (
    encrypted_pdf,
    garbage_pdf,
    long_pdf,
    mapped_pdf,
    scanned_pdf,
    text_pdf,
    truncated_pdf,
)
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

LONG = long_pdf(120)


@dataclass
class GatedEmbedding:
    """Another provider behind a gate: before call number `stop_at` (from 1) it waits to go on."""

    inner: EmbeddingProvider
    stop_at: int

    def __post_init__(self) -> None:
        self.name, self.model = self.inner.name, self.inner.model
        self.endpoint = self.inner.endpoint
        self.max_input_tokens, self.max_batch = self.inner.max_input_tokens, self.inner.max_batch
        self.tokenizer = self.inner.tokenizer
        self.calls = 0
        self.has_stopped = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> FloatMatrix:
        self.calls += 1
        if self.calls == self.stop_at:
            self.has_stopped.set()
            await self.may_go_on.wait()
        return await self.inner.embed(texts, purpose=purpose)

    async def aclose(self) -> None: ...


@pytest.fixture(scope="module", autouse=True)
def began_at() -> datetime:
    """When this module's tests began: those of others write documents with SQL."""
    return datetime.now(UTC)


@pytest.fixture(autouse=True)
async def quiet(remote: Ingester, provider: ProviderServer) -> None:
    """Nothing is queued, and the provider has its good manners back."""
    provider.default = Reply()
    await ingest_all(remote)
    provider.calls.clear()


def gated(ingester: Ingester, *, stop_at: int) -> tuple[Ingester, GatedEmbedding]:
    gate = GatedEmbedding(ingester.embedding, stop_at)
    return replace(
        ingester, embedding=gate, embedder=Embedder(gate, document_retries=FEW_RETRIES)
    ), gate


async def upload(person: Person, content: bytes, filename: str = "a.pdf") -> UUID:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return UUID(response.json()["document_id"])


async def get(person: Person, document_id: UUID) -> dict[str, Any]:
    response = await person.get(f"/api/v1/documents/{document_id}")
    body: dict[str, Any] = response.json()
    return body


async def query(resources: Resources, sql: str, **values: object) -> list[Any]:
    async with resources.db.system_transaction() as session:
        return list((await session.execute(text(sql), values)).all())


async def ordinals(resources: Resources, document_id: UUID) -> list[tuple[int, int]]:
    """Generation and ordinal of every stored chunk, in order."""
    sql = "SELECT generation, ordinal FROM chunks WHERE document_id = :id ORDER BY 1, 2"
    return [tuple(row) for row in await query(resources, sql, id=document_id)]


async def lose_lease(resources: Resources, document_id: UUID) -> None:
    """What happens when a worker dies: its lease runs out and a sweep takes the document back."""
    sql = (
        "UPDATE documents SET lease_expires_at = now() - interval '1 second'"
        " WHERE id = :id AND status = 'processing' RETURNING id"
    )
    await query(resources, sql, id=document_id)
    # The API's own sweeper may be at it just now; then this round does nothing.
    async with asyncio.timeout(10):
        while await status_of(resources, document_id) == "processing":
            await Sweeper(resources.db, resources.storage).sweep()


async def org_of(resources: Resources, document_id: UUID) -> UUID:
    rows = await query(resources, "SELECT org_id FROM documents WHERE id = :id", id=document_id)
    return UUID(str(rows[0].org_id))


async def status_of(resources: Resources, document_id: UUID) -> str:
    rows = await query(resources, "SELECT status FROM documents WHERE id = :id", id=document_id)
    return str(rows[0].status)


async def assert_whole(person: Person, resources: Resources, document_id: UUID) -> None:
    """The document is ready, and each of its ordinals is stored once, with its vector."""
    document = await get(person, document_id)
    assert document["status"] == "ready", document
    stored = await ordinals(resources, document_id)
    assert [ordinal for _, ordinal in stored] == list(range(document["chunk_count"]))
    counts = await query(
        resources,
        "SELECT (SELECT count(*) FROM chunk_embeddings e JOIN chunks c ON c.org_id = e.org_id"
        "          AND c.id = e.chunk_id AND c.generation = e.generation"
        "        WHERE e.document_id = :id) AS joined,"
        " (SELECT count(*) FROM chunk_embeddings WHERE document_id = :id) AS vectors,"
        " (SELECT count(*) FROM pages WHERE document_id = :id) AS pages",
        id=document_id,
    )
    assert tuple(counts[0]) == (len(stored), len(stored), document["page_count"])


# Outcomes


@pytest.mark.parametrize(
    ("content", "filename", "code"),
    [
        (scanned_pdf(), "scan.pdf", IngestErrorCode.NO_TEXT),
        (text_pdf(["", ""]), "blank.pdf", IngestErrorCode.NO_TEXT),
        (b" \n--\n ", "blank.txt", IngestErrorCode.NO_TEXT),
        (b"---\n***\n", "rules.md", IngestErrorCode.NO_TEXT),
        (encrypted_pdf("secret", password="sesame"), "locked.pdf", IngestErrorCode.ENCRYPTED),
        (garbage_pdf(), "garbage.pdf", IngestErrorCode.CORRUPT),
        (truncated_pdf(), "truncated.pdf", IngestErrorCode.CORRUPT),
        (b"%PDF-", "mark.pdf", IngestErrorCode.CORRUPT),
        (b"text " * 2000 + bytes(range(256)), "binary.txt", IngestErrorCode.CORRUPT),
    ],
)
async def test_what_cannot_be_read_fails_with_a_code_and_help(
    person: Person,
    remote: Ingester,
    resources: Resources,
    content: bytes,
    filename: str,
    code: IngestErrorCode,
) -> None:
    document_id = await upload(person, content, filename)
    assert await ingest_next(remote)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", code)
    if filename != "scan.pdf":  # which is told what to install
        assert document["error_message"].endswith(OUTCOMES[code].remedy)
    assert document["stage"] is None
    assert await ordinals(resources, document_id) == []


async def test_a_document_with_an_empty_password_is_readable(
    person: Person, remote: Ingester
) -> None:
    document_id = await upload(person, encrypted_pdf("Readable by all.", password=""))
    await ingest_next(remote)
    assert (await get(person, document_id))["status"] == "ready"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(failure=Failure.STATUS, status=401), IngestErrorCode.EMBEDDING_UNAUTHORIZED),
        (Reply(failure=Failure.STATUS, status=402), IngestErrorCode.EMBEDDING_QUOTA),
        (Reply(failure=Failure.WRONG_DIMENSION), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.SHORT_BATCH), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.UNEVEN), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.NAN), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.ZERO), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.DOUBLE_INDEX), IngestErrorCode.EMBEDDING_INVALID),
        (Reply(failure=Failure.HTML), IngestErrorCode.EMBEDDING_INVALID),
    ],
)
async def test_embeddings_that_fail_for_good_after_the_first_batch_leave_no_chunk(
    person: Person,
    remote: Ingester,
    resources: Resources,
    provider: ProviderServer,
    reply: Reply,
    code: IngestErrorCode,
) -> None:
    document_id = await upload(person, LONG)
    provider.script(Reply())
    provider.default = reply
    await ingest_next(remote)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", code)
    assert document["error_message"] == OUTCOMES[code].remedy
    assert await ordinals(resources, document_id) == []
    # The same bytes again, once the provider works.
    provider.default = Reply()
    assert (await person.upload("a.pdf", LONG)).json()["status"] == "queued"
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)


@pytest.mark.parametrize("failure", [Failure.STATUS, Failure.RESET_EARLY])
async def test_a_retry_after_an_outage_goes_on_from_the_checkpoint(
    person: Person,
    remote: Ingester,
    resources: Resources,
    provider: ProviderServer,
    failure: Failure,
) -> None:
    document_id = await upload(person, LONG)
    provider.script(Reply())
    provider.default = Reply(failure=failure)
    await ingest_next(remote)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", "embedding_unavailable")
    assert len(await ordinals(resources, document_id)) == CHUNKS_PER_BATCH
    provider.default = Reply()
    provider.calls.clear()
    assert (await person.post(f"/api/v1/documents/{document_id}/retry")).status_code == 200
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    inputs = sum(len(call.body["input"]) for call in provider.calls)
    assert inputs == (await get(person, document_id))["chunk_count"] - CHUNKS_PER_BATCH


async def test_a_provider_that_is_down_is_unavailable(person: Person, remote: Ingester) -> None:
    embedding = OpenAIEmbedding(api_key="k", base_url="http://127.0.0.1:9/v1", model="embed-test")
    embedder = Embedder(embedding, document_retries=FEW_RETRIES)
    document_id = await upload(person, b"Nobody is listening.", "a.txt")
    await ingest_next(replace(remote, embedding=embedding, embedder=embedder))
    assert (await get(person, document_id))["error_code"] == "embedding_unavailable"
    await embedding.aclose()


async def test_a_hiccup_of_the_provider_is_retried(
    person: Person, remote: Ingester, resources: Resources, provider: ProviderServer
) -> None:
    document_id = await upload(person, b"One sentence that is embedded twice.", "a.txt")
    provider.script(Reply(failure=Failure.STATUS, status=503))
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    assert len(provider.calls) == 2


# What is stored


async def test_chunks_are_slices_of_the_stored_pages(
    person: Person, remote: Ingester, resources: Resources, provider: ProviderServer
) -> None:
    markdown = "".join(
        f"# Part {n}\n\n" + f"Sentence {n} about tides and ünïcödé 🌊. " * 60 + "\n\n"
        for n in range(30)
    ).encode()
    for content, filename in ((LONG, "long.pdf"), (markdown, "long.md")):
        document_id = await upload(person, content, filename)
        await ingest_next(remote)
        await assert_whole(person, resources, document_id)
        pages = await query(
            resources, "SELECT number, text FROM pages WHERE document_id = :id", id=document_id
        )
        page_texts = {page.number: page.text for page in pages}
        chunks = await query(
            resources,
            "SELECT text, spans, page_start, page_end FROM chunks WHERE document_id = :id",
            id=document_id,
        )
        assert len(chunks) > 2
        for chunk in chunks:
            spans = unflatten_spans(chunk.spans)
            assert span_text(spans, page_texts) == chunk.text
            assert (spans[0].page, spans[-1].page) == (chunk.page_start, chunk.page_end)


async def test_batches_hold_at_most_a_hundred_inputs(
    person: Person, remote: Ingester, resources: Resources, provider: ProviderServer
) -> None:
    document_id = await upload(person, LONG)
    await ingest_next(remote)
    sizes = [len(call.body["input"]) for call in provider.calls]
    assert sum(sizes) == (await get(person, document_id))["chunk_count"]
    assert len(sizes) >= 2
    assert max(sizes) <= CHUNKS_PER_BATCH


async def test_text_that_postgres_refuses_is_repaired(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, mapped_pdf([0xFFFE, 0x0000, 0xD800, 0xDFFF, 0xE9]))
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    rows = await query(resources, "SELECT text FROM pages WHERE document_id = :id", id=document_id)
    assert "readable" in rows[0].text
    assert "é" in rows[0].text
    assert not set(rows[0].text) & {"\ufffe", "\x00"}


async def test_a_title_that_postgres_refuses_is_repaired(person: Person, remote: Ingester) -> None:
    document_id = await upload(person, text_pdf(["Text."], title="A\x00 title\ufffe"))
    await ingest_next(remote)
    document = await get(person, document_id)
    assert document["status"] == "ready"
    assert document["title"] == "A title"


async def test_pages_without_text_at_the_end_are_stored_too(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, text_pdf(["", "Only here.", "", ""]))
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    assert (await get(person, document_id))["page_count"] == 4


async def test_no_ready_document_is_without_chunks(
    resources: Resources, began_at: datetime
) -> None:
    """Over everything that the tests before this one made."""
    rows = await query(
        resources,
        "SELECT d.id FROM documents d WHERE d.status = 'ready' AND d.created_at >= :began_at"
        " AND d.chunk_count <> (SELECT count(*) FROM chunks c WHERE c.org_id = d.org_id"
        "  AND c.document_id = d.id AND c.generation = d.generation)",
        began_at=began_at,
    )
    assert rows == []


# Workers that die or freeze


@pytest.mark.parametrize("stop_at", [1, 2, 3])
async def test_a_worker_killed_between_batches_costs_no_chunk_and_doubles_none(
    person: Person,
    remote: Ingester,
    resources: Resources,
    provider: ProviderServer,
    stop_at: int,
) -> None:
    document_id = await upload(person, LONG)
    slow, gate = gated(remote, stop_at=stop_at)
    worker = asyncio.create_task(ingest_next(slow))
    await gate.has_stopped.wait()
    worker.cancel()  # like SIGKILL, it writes nothing more
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert await status_of(resources, document_id) == "processing"
    assert len(await ordinals(resources, document_id)) == CHUNKS_PER_BATCH * (stop_at - 1)
    assert not await ingest_next(remote)  # nobody else takes it while the lease holds
    await lose_lease(resources, document_id)
    done = len(await ordinals(resources, document_id))
    provider.calls.clear()
    assert await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    # What was committed is neither embedded nor stored again.
    inputs = sum(len(call.body["input"]) for call in provider.calls)
    assert inputs == (await get(person, document_id))["chunk_count"] - done


async def test_a_checkpoint_of_another_content_is_not_gone_on_from(
    person: Person, remote: Ingester, resources: Resources, provider: ProviderServer
) -> None:
    document_id = await upload(person, LONG)
    slow, gate = gated(remote, stop_at=2)
    worker = asyncio.create_task(ingest_next(slow))
    await gate.has_stopped.wait()
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    await lose_lease(resources, document_id)
    # A later program reads the same file in another way.
    blob = resources.storage.path(await org_of(resources, document_id), document_id)
    blob.write_bytes(long_pdf(120, topic="airport"))
    assert await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    texts = await query(
        resources, "SELECT text FROM chunks WHERE document_id = :id", id=document_id
    )
    assert all("airport" in row.text and "harbor" not in row.text for row in texts)


async def test_attempts_that_get_further_are_never_too_many(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, LONG)
    chunk_total = 0
    for _ in range(5):
        slow, gate = gated(remote, stop_at=2)
        worker = asyncio.create_task(ingest_next(slow))
        stopped = asyncio.create_task(gate.has_stopped.wait())
        await asyncio.wait([worker, stopped], return_when=asyncio.FIRST_COMPLETED)
        if worker.done():
            break
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker
        stored = len(await ordinals(resources, document_id))
        assert stored == chunk_total + CHUNKS_PER_BATCH
        chunk_total = stored
        await lose_lease(resources, document_id)
        assert await status_of(resources, document_id) == "queued"
    assert chunk_total >= 2 * CHUNKS_PER_BATCH
    await ingest_all(remote)
    await assert_whole(person, resources, document_id)


async def test_a_worker_killed_right_after_the_claim_loses_nothing(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, b"Claimed and abandoned.", "a.txt")
    async with resources.db.system_transaction() as session:
        lease = await claim_next(session, per_org=100)
    assert lease is not None
    assert lease.document_id == document_id
    await lose_lease(resources, document_id)
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)


@pytest.mark.parametrize("stop_at", [1, 2])
async def test_a_frozen_worker_that_wakes_up_changes_nothing(
    person: Person, remote: Ingester, resources: Resources, stop_at: int
) -> None:
    document_id = await upload(person, LONG)
    slow, gate = gated(remote, stop_at=stop_at)
    frozen = asyncio.create_task(ingest_next(slow))
    await gate.has_stopped.wait()
    await lose_lease(resources, document_id)
    assert await ingest_next(remote)
    await assert_whole(person, resources, document_id)
    before = await query(resources, "SELECT id FROM chunks WHERE document_id = :id", id=document_id)
    row = await query(resources, "SELECT * FROM documents WHERE id = :id", id=document_id)
    gate.may_go_on.set()
    assert await frozen
    assert before == await query(
        resources, "SELECT id FROM chunks WHERE document_id = :id", id=document_id
    )
    assert row == await query(resources, "SELECT * FROM documents WHERE id = :id", id=document_id)


async def test_a_frozen_worker_cannot_fail_a_document_that_is_ready(
    person: Person, remote: Ingester, resources: Resources, provider: ProviderServer
) -> None:
    document_id = await upload(person, LONG)
    slow, gate = gated(remote, stop_at=2)
    frozen = asyncio.create_task(ingest_next(slow))
    await gate.has_stopped.wait()
    await lose_lease(resources, document_id)
    await ingest_next(remote)
    provider.default = Reply(failure=Failure.WRONG_DIMENSION)
    gate.may_go_on.set()
    await frozen
    await assert_whole(person, resources, document_id)


async def test_a_document_deleted_while_it_is_ingested_stays_deleted(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, LONG)
    slow, gate = gated(remote, stop_at=2)
    worker = asyncio.create_task(ingest_next(slow))
    await gate.has_stopped.wait()
    before = len(await ordinals(resources, document_id))
    assert (await person.delete(f"/api/v1/documents/{document_id}")).status_code == 202
    gate.may_go_on.set()
    assert await worker
    assert await status_of(resources, document_id) == "deleting"
    assert len(await ordinals(resources, document_id)) == before
    assert not await ingest_next(remote)


async def test_three_lost_attempts_make_a_poison_document(
    person: Person, remote: Ingester, resources: Resources
) -> None:
    document_id = await upload(person, b"It kills every worker.", "poison.txt")
    for attempt in range(1, 4):
        assert await status_of(resources, document_id) == "queued"
        async with resources.db.system_transaction() as session:
            lease = await claim_next(session, per_org=100)
        assert lease is not None
        assert (lease.document_id, lease.token) == (document_id, attempt)
        await lose_lease(resources, document_id)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", "poison_document")
    assert document["error_message"] == OUTCOMES[IngestErrorCode.POISON_DOCUMENT].remedy
    assert not await ingest_next(remote)
    # Its owner may try again, with three attempts more.
    assert (await person.upload("poison.txt", b"It kills every worker.")).status_code == 200
    await ingest_next(remote)
    await assert_whole(person, resources, document_id)


# Leases


async def claim(resources: Resources) -> Lease | None:
    async with resources.db.system_transaction() as session:
        return await claim_next(session, per_org=100)


async def test_claims_at_once_never_give_the_same_document(
    person: Person, resources: Resources, remote: Ingester
) -> None:
    ids = {await upload(person, f"number {n}".encode(), f"{n}.txt") for n in range(6)}
    leases = await asyncio.gather(*(claim(resources) for _ in range(7)))
    claimed = [lease.document_id for lease in leases if lease is not None]
    assert len(claimed) == len(set(claimed))
    # One that met a row just being claimed may have come away with nothing.
    while (lease := await claim(resources)) is not None:
        claimed.append(lease.document_id)
    assert len(claimed) == 6
    assert set(claimed) == ids
    for document_id in ids:
        await person.delete(f"/api/v1/documents/{document_id}")


async def test_an_organization_with_many_files_does_not_hold_up_another(
    client: httpx2.AsyncClient, resources: Resources
) -> None:
    busy = await register(client, f"busy-{uuid4().hex}@example.com")
    small = await register(client, f"small-{uuid4().hex}@example.com")
    for n in range(5):
        await upload(busy, f"busy {n}".encode(), f"{n}.txt")
    await upload(small, b"just one", "one.txt")
    order = [lease.org_id for _ in range(3) if (lease := await claim(resources))]
    assert order == [busy.org_id, small.org_id, busy.org_id]
    for person in (busy, small):
        for item in (await person.get("/api/v1/documents")).json()["items"]:
            await person.delete(f"/api/v1/documents/{item['id']}")


async def expiry_of(resources: Resources, lease: Lease) -> Any:
    sql = "SELECT lease_expires_at FROM documents WHERE id = :id"
    return (await query(resources, sql, id=lease.document_id))[0].lease_expires_at


async def test_the_heartbeat_renews_the_lease(person: Person, resources: Resources) -> None:
    await upload(person, b"Kept alive.", "a.txt")
    lease = await claim(resources)
    assert lease is not None
    before = await expiry_of(resources, lease)
    async with kept_alive(resources.db, lease, heartbeat_s=0.05), asyncio.timeout(10):
        while await expiry_of(resources, lease) <= before:
            await asyncio.sleep(0.02)
    await person.delete(f"/api/v1/documents/{lease.document_id}")


async def test_a_lost_lease_cancels_the_work(person: Person, resources: Resources) -> None:
    await upload(person, b"Taken away.", "a.txt")
    lease = await claim(resources)
    assert lease is not None
    task = asyncio.current_task()
    assert task is not None
    has_begun = False
    with pytest.raises(LeaseLost):
        async with kept_alive(resources.db, lease, heartbeat_s=0.05):
            has_begun = True
            await person.delete(f"/api/v1/documents/{lease.document_id}")
            await asyncio.sleep(30)
    assert has_begun
    assert task.cancelling() == 0  # the cancellation was the lease's own, and is over


async def test_a_cancellation_from_outside_is_not_taken_for_a_lost_lease(
    person: Person, resources: Resources
) -> None:
    await upload(person, b"Stopped.", "a.txt")
    lease = await claim(resources)
    assert lease is not None
    begun = asyncio.Event()

    async def work() -> None:
        async with kept_alive(resources.db, lease, heartbeat_s=0.05):
            begun.set()
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await person.delete(f"/api/v1/documents/{lease.document_id}")


async def test_a_lost_file_is_said_and_comes_back_with_an_upload(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    content = b"It was there a moment ago."
    document_id = await upload(person, content, "lost.txt")
    resources.storage.delete(person.org_id, document_id)
    await ingest_all(ingester)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", "corrupt")
    assert "gone" in document["error_message"]
    again = await person.upload("lost.txt", content)
    assert (again.status_code, again.json()["document_id"]) == (200, str(document_id))
    await ingest_all(ingester)
    assert (await get(person, document_id))["status"] == "ready"
