"""Sequences that could leave a document stuck, lost, doubled or behind others for too long."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from PIL import Image
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.documents.cleanup import remove_expired
from app.documents.deletion import purge_next
from app.ingestion import batches, recognition
from app.ingestion.lease import claim_next
from app.ingestion.ocr import OcrEngine
from app.ingestion.pipeline import Ingester, ingest_next
from app.ingestion.recognition import Recognizer, recognize_next
from app.ingestion.sweep import Sweeper
from app.resources import Resources
from tests.conftest import ingest_all
from tests.integration.test_worker import WorkerProcess
from tests.pdfs import encrypted_pdf, long_pdf
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from worker import tasks


@pytest.fixture(autouse=True)
async def quiet(remote: Ingester, provider: ProviderServer) -> None:
    """Nothing is queued, and the provider works."""
    provider.default = Reply()
    await ingest_all(remote)


async def upload(person: Person, content: bytes, filename: str = "a.txt") -> UUID:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return UUID(response.json()["document_id"])


async def get(person: Person, document_id: UUID) -> dict[str, Any]:
    response = await person.get(f"/api/v1/documents/{document_id}")
    body: dict[str, Any] = response.json()
    return body


async def execute(resources: Resources, sql: str, **values: object) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(text(sql), values)


async def lose_leases(resources: Resources, person: Person) -> None:
    """What happens when workers die: leases run out, and a sweep takes the documents back."""
    await execute(
        resources,
        "UPDATE documents SET lease_expires_at = now() - interval '1 s'"
        " WHERE lease_expires_at IS NOT NULL AND org_id = :id",
        id=person.org_id,
    )
    for _ in range(3):  # the API's own sweeper may be at it just now
        await Sweeper(resources.db, resources.storage).sweep()


# Fairness


async def test_one_worker_takes_turns_between_organizations(
    client: httpx2.AsyncClient, remote: Ingester
) -> None:
    busy = await register(client, f"busy-{uuid4().hex}@example.com")
    small = await register(client, f"small-{uuid4().hex}@example.com")
    for n in range(4):
        await upload(busy, f"busy {n}".encode())
    document_id = await upload(small, b"just one")
    for _ in range(2):
        await ingest_next(remote)
    assert (await get(small, document_id))["status"] == "ready"


async def test_a_document_that_gives_way_lets_the_other_organization_in(
    client: httpx2.AsyncClient, resources: Resources, remote: Ingester
) -> None:
    busy = await register(client, f"busy-{uuid4().hex}@example.com")
    small = await register(client, f"small-{uuid4().hex}@example.com")
    long_id = await upload(busy, long_pdf(120), "long.pdf")
    document_id = await upload(small, b"just one")
    await execute(
        resources,
        "UPDATE documents SET updated_at = now() - interval '3 s' WHERE id = :id",
        id=document_id,
    )
    short_slices = replace(remote, slice_s=0.0)
    await ingest_next(short_slices)
    assert (await get(busy, long_id))["status"] == "queued"
    await ingest_next(short_slices)
    assert (await get(small, document_id))["status"] == "ready"


# Uploads


async def test_the_bytes_of_an_expired_document_become_a_document_that_stays(
    person: Person, resources: Resources, remote: Ingester
) -> None:
    first = await upload(person, b"Expired a moment ago.")
    await ingest_all(remote)
    await execute(
        resources,
        "UPDATE documents SET expires_at = now() - interval '1 ms' WHERE id = :id",
        id=first,
    )
    response = await person.upload("a.txt", b"Expired a moment ago.")
    assert response.status_code in (200, 202)
    again = UUID(response.json()["document_id"])
    await ingest_all(remote)
    assert (await get(person, again)).get("status") == "ready"


async def test_a_stray_file_among_the_uploads_does_not_stop_the_housekeeping(
    resources: Resources,
) -> None:
    folder = resources.storage.upload_folder(uuid4()).parent
    stray = folder / ".DS_Store"
    stray.touch()
    os.utime(stray, (time.time() - 7200,) * 2)
    try:
        await remove_expired(resources.db, resources.storage)
    finally:
        stray.unlink(missing_ok=True)


# Retries


async def test_an_encrypted_document_can_be_tried_again_after_an_outage(
    person: Person, remote: Ingester, provider: ProviderServer
) -> None:
    response = await person.post(
        "/api/v1/documents/upload",
        files={"file": ("locked.pdf", encrypted_pdf("Open, sesame.", password="sesame"))},
        data={"password": "sesame"},
    )
    document_id = UUID(response.json()["document_id"])
    provider.default = Reply(failure=Failure.STATUS, status=503)
    await ingest_all(remote)
    document = await get(person, document_id)
    assert (document["error_code"], document["retryable"]) == ("embedding_unavailable", True)
    provider.default = Reply()
    assert (await person.post(f"/api/v1/documents/{document_id}/retry")).status_code == 200
    await ingest_all(remote)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("ready", None)


# Stops


def child_processes() -> set[str]:
    """The processes that any thread of this one has started and that still run."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {pid for children in tasks for pid in children.read_text().split()}


async def test_work_that_is_stopped_while_a_document_is_opened_leaves_no_process(
    person: Person, resources: Resources, remote: Ingester
) -> None:
    await upload(person, long_pdf(1), "one.pdf")
    before = child_processes()
    worker = asyncio.create_task(ingest_next(remote))
    async with asyncio.timeout(10):
        while not child_processes() - before:
            await asyncio.sleep(0.01)
    worker.cancel()
    await asyncio.wait([worker])
    assert child_processes() - before == set()
    await lose_leases(resources, person)


@pytest.mark.usefixtures("undecided")
async def test_a_worker_that_is_told_to_stop_takes_no_further_document(
    person: Person,
    resources: Resources,
    provider: ProviderServer,
    settings: Settings,
    tmp_path: Path,
) -> None:
    worker = WorkerProcess(settings, provider, tmp_path)
    try:
        await asyncio.to_thread(worker.wait_for, "worker_ready")
        provider.calls.clear()
        provider.delay_s = 1.0
        for n in range(40):
            await upload(person, f"Number {n}.".encode())
        await provider.wait_until(lambda: len(provider.calls) >= 1)
        worker.process.terminate()
        assert await asyncio.to_thread(worker.process.wait, 12) == 0
    finally:
        provider.delay_s = 0.0
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait, 30)
    await lose_leases(resources, person)


# Locks


async def test_a_document_whose_row_is_locked_does_not_stop_the_sweep_of_others(
    person: Person, stranger: Person, resources: Resources
) -> None:
    ids = [await upload(owner, b"Claimed.") for owner in (person, stranger)]
    for _ in ids:
        async with resources.db.system_transaction() as session:
            assert await claim_next(session, per_org=100) is not None
    await execute(
        resources,
        "UPDATE documents SET lease_expires_at = now() - interval '1 s' WHERE id = ANY(:ids)",
        ids=ids,
    )
    async with resources.db.transaction(person) as session:
        # Its worker is long at publishing, and its heartbeats can't get past that lock either.
        await session.execute(
            text("SELECT FROM documents WHERE id = :id FOR UPDATE"), {"id": ids[0]}
        )
        async with asyncio.timeout(10):
            while (await get(stranger, ids[1]))["status"] == "processing":
                await Sweeper(resources.db, resources.storage).sweep()
    for document_id, owner in zip(ids, (person, stranger), strict=True):
        await owner.delete(f"/api/v1/documents/{document_id}")


# Scans


async def test_a_scan_that_waits_ends_when_text_recognition_is_turned_off(
    person: Person, resources: Resources, remote: Ingester
) -> None:
    document_id = await upload(person, scans_and_pages([""]), "scan.pdf")
    await ingest_all(replace(remote, has_ocr=True))
    assert (await get(person, document_id))["stage"] == "ocr"
    # The workers start again with OCR_LANGUAGES=none.
    await tasks._recognize_next(replace(resources, ocr=None))
    await lose_leases(resources, person)
    await ingest_all(remote)
    document = await get(person, document_id)
    assert (document["status"], document["error_code"]) == ("failed", "no_text")


async def claim_pages(resources: Resources) -> list[int]:
    async with resources.db.system_transaction() as session:
        return [row.number for row in await session.execute(recognition._CLAIM)]


async def test_pages_are_claimed_once_however_many_ask_for_them(
    person: Person, resources: Resources, remote: Ingester
) -> None:
    document_id = await upload(person, scans_and_pages([""] * 40), "scan.pdf")
    await ingest_all(replace(remote, has_ocr=True))
    for _ in range(100):
        claimed = await asyncio.gather(*(claim_pages(resources) for _ in range(2)))
        numbers = [number for range_ in claimed for number in range_]
        assert len(numbers) == len(set(numbers))
        await execute(
            resources,
            "UPDATE ocr_pages SET lease_expires_at = NULL, attempts = 0 WHERE document_id = :id",
            id=document_id,
        )
    await person.delete(f"/api/v1/documents/{document_id}")


# Everything at once

_SAY = """#!/bin/sh
cat > /dev/null
i=0
for word in recognized words of this picture; do
    i=$((i + 1))
    printf '5\\t1\\t1\\t1\\t1\\t%d\\t%d\\t10\\t90\\t20\\t95\\t%s\\n' $i $((i * 100)) $word
done
"""


@pytest.fixture
def recognizer(resources: Resources, tmp_path: Path) -> Recognizer:
    """With a program in the place of Tesseract that sees the same words everywhere, at once."""
    program = tmp_path / "tesseract"
    program.write_text(_SAY)
    program.chmod(0o755)
    engine = OcrEngine("eng", program=str(program))
    return Recognizer(resources.db, resources.storage, resources.sealer, engine)


class Chaos:
    """Workers that die or freeze at any moment, and people who do all that can be done."""

    def __init__(
        self,
        people: list[Person],
        resources: Resources,
        ingester: Ingester,
        recognizer: Recognizer,
        seed: int,
    ) -> None:
        self.people = people
        self.resources = resources
        self.ingester = ingester
        self.recognizer = recognizer
        self.random = Random(seed)
        self.documents: list[tuple[Person, UUID]] = []
        self.unexpected: list[str] = []

    def content(self) -> tuple[str, bytes]:
        lines = [f"Sentence {self.random.random()} of them all.\n\n" * 60 for _ in range(8)]
        if self.random.random() < 0.5:
            return "a.txt", "".join(lines).encode()
        pages = [self.random.choice([line, ""]) for line in lines[:4]]
        return "a.pdf", scans_and_pages(["First page.", *pages])

    async def work(self) -> None:
        while True:
            is_reading = self.random.random() < 0.33
            task = asyncio.create_task(
                recognize_next(self.recognizer) if is_reading else ingest_next(self.ingester)
            )
            await asyncio.wait([task], timeout=self.random.choice([0.1, 1.0, 2.0, 4.0]))
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                self.unexpected.append(repr(error))
            await asyncio.sleep(0.01)

    async def act(self) -> None:
        if len(self.documents) < 6:
            person = self.random.choice(self.people)
            name, content = self.content()
            self.documents.append((person, await upload(person, content, name)))
            return
        index = self.random.randrange(len(self.documents))
        person, document_id = self.documents[index]
        url = f"/api/v1/documents/{document_id}"
        match self.random.choice(
            ["put", "put", "put", "cancel", "retry", "retry", "freeze", "delete"]
        ):
            case "put":
                name, content = self.content()
                response = await person.client.put(
                    f"{url}/content", headers=person.headers, files={"file": (name, content)}
                )
            case "cancel":
                response = await person.post(f"{url}/cancel")
            case "retry":
                response = await person.post(f"{url}/retry")
            case "freeze":
                await self.take_over()
                return
            case _:
                response = await person.delete(url)
                del self.documents[index]
        if response.status_code not in (200, 202, 409):
            self.unexpected.append(f"{response.status_code} {response.text}")

    async def take_over(self) -> None:
        for table in ("documents", "ocr_pages"):
            await execute(
                self.resources,
                f"UPDATE {table} SET lease_expires_at = now() - interval '1 s'"
                " WHERE lease_expires_at IS NOT NULL AND org_id = ANY(:orgs)",
                orgs=[person.org_id for person in self.people],
            )
        with suppress(SQLAlchemyError):
            await Sweeper(self.resources.db, self.resources.storage).sweep()

    async def rage(self, seconds: float) -> None:
        workers = [asyncio.create_task(self.work()) for _ in range(3)]
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            await self.act()
            await asyncio.sleep(self.random.uniform(0.0, 0.4))
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)

    async def settle(self) -> None:
        """Let workers that neither die nor freeze do what there is to do."""
        async with asyncio.timeout(120):
            while await self.count_unfinished():
                await self.take_over()
                while await ingest_next(self.ingester) or await recognize_next(self.recognizer):
                    pass

    async def count_unfinished(self) -> int:
        return len(
            await self.rows(
                "SELECT id FROM documents WHERE org_id = ANY(:orgs)"
                " AND status IN ('queued', 'processing')"
            )
        )

    async def rows(self, sql: str) -> list[Any]:
        async with self.resources.db.system_transaction() as session:
            orgs = [person.org_id for person in self.people]
            return list((await session.execute(text(sql), {"orgs": orgs})).all())


def scans_and_pages(pages: list[str]) -> bytes:
    """A PDF with a page for each text, and a picture for each empty one."""
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    image = ImageReader(Image.effect_noise((60, 60), 90.0))
    for page in pages:
        if page:
            lines = canvas.beginText(72, 760)
            lines.textLines(page[:1500])
            canvas.drawText(lines)
        else:
            canvas.drawImage(image, 0, 200, width=590, height=590)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


_NOT_WHOLE = """
    SELECT d.id, d.filename, d.chunk_count, c.chunks, e.vectors, p.pages, o.waiting
    FROM documents d,
        LATERAL (SELECT count(*) AS chunks, count(DISTINCT ordinal) AS ordinals,
            max(ordinal) AS last, count(*) FILTER (WHERE generation <> d.generation) AS others
            FROM chunks WHERE org_id = d.org_id AND document_id = d.id) c,
        LATERAL (SELECT count(*) AS vectors FROM chunk_embeddings e JOIN chunks k
            ON k.org_id = e.org_id AND k.id = e.chunk_id AND k.generation = e.generation
            WHERE e.org_id = d.org_id AND e.document_id = d.id) e,
        LATERAL (SELECT count(*) AS pages, max(number) AS last FROM pages
            WHERE org_id = d.org_id AND document_id = d.id) p,
        LATERAL (SELECT count(*) AS waiting FROM ocr_pages
            WHERE org_id = d.org_id AND document_id = d.id) o
    WHERE d.org_id = ANY(:orgs) AND d.status = 'ready' AND NOT (
        c.chunks = d.chunk_count AND c.ordinals = c.chunks AND c.last = c.chunks - 1
        AND c.others = 0 AND e.vectors = c.chunks AND p.pages = d.page_count
        AND p.last = p.pages AND o.waiting = 0 AND d.ready_version = d.version
        AND d.percent = 100 AND d.sealed_password IS NULL)
"""
_MISCOUNTED = """
    WITH counted AS (
        SELECT c.org_id, lexeme, count(*) AS chunk_count
        FROM chunks c JOIN documents d ON d.org_id = c.org_id AND d.id = c.document_id
            AND d.generation = c.generation,
            unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
        WHERE lexeme <> org_lexeme(c.org_id) GROUP BY 1, 2)
    SELECT * FROM (SELECT * FROM counted WHERE org_id = ANY(:orgs)) a
    FULL JOIN (SELECT * FROM lexemes WHERE org_id = ANY(:orgs) AND chunk_count <> 0) b
        USING (org_id, lexeme)
    WHERE a.chunk_count IS DISTINCT FROM b.chunk_count
"""


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_dies_and_whatever_people_do_every_document_ends_whole(
    person: Person,
    stranger: Person,
    resources: Resources,
    remote: Ingester,
    recognizer: Recognizer,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 2)
    ingester = replace(remote, has_ocr=True, slice_s=0.0)
    chaos = Chaos([person, stranger], resources, ingester, recognizer, seed)
    while len(chaos.documents) < 6:
        await chaos.act()
    await chaos.settle()
    await chaos.rage(12.0)
    await chaos.settle()
    for owner, document_id in chaos.documents:
        if (await get(owner, document_id))["status"] == "failed":
            response = await owner.post(f"/api/v1/documents/{document_id}/retry")
            assert response.status_code == 200
    await chaos.settle()
    assert chaos.unexpected == []
    failed = await chaos.rows(
        "SELECT id, error_code FROM documents WHERE org_id = ANY(:orgs) AND status = 'failed'"
    )
    assert failed == []
    assert await chaos.rows(_NOT_WHOLE) == []
    while await purge_next(resources.db, resources.storage):
        pass
    assert await chaos.rows(_MISCOUNTED) == []
    for owner, document_id in chaos.documents:
        files = resources.storage.iter_versions(owner.org_id, document_id)
        version = (await get(owner, document_id))["version"]
        assert files == [resources.storage.path(owner.org_id, document_id, version)]
