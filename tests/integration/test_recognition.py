"""Documents whose pages are pictures: they wait, are read page by page, and become ready."""

import asyncio
import os
from dataclasses import replace
from io import BytesIO
from uuid import UUID

import pytest
import reportlab
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import text

from app.ingestion.lease import requeue_all
from app.ingestion.ocr import OcrEngine
from app.ingestion.pipeline import Ingester
from app.ingestion.recognition import (
    NO_OCR_WARNING,
    PAGES_PER_RANGE,
    Recognizer,
    keep_going,
    recognize_next,
)
from app.resources import Resources
from tests.conftest import ingest_all
from tests.people import Person

_FONT = f"{os.path.dirname(reportlab.__file__)}/fonts/Vera.ttf"  # noqa: PTH120


@pytest.fixture
def recognizer(resources: Resources, engine: OcrEngine) -> Recognizer:
    return Recognizer(resources.db, resources.storage, resources.sealer, engine)


@pytest.fixture
async def with_ocr(ingester: Ingester) -> Ingester:
    """An ingester with text recognition, and nothing left in the queue."""
    await ingest_all(ingester)
    return replace(ingester, has_ocr=True)


@pytest.fixture
async def without_ocr(with_ocr: Ingester) -> Ingester:
    return replace(with_ocr, has_ocr=False)


def picture(sentence: str) -> Image.Image:
    image = Image.new("L", (1240, 400), "white")
    font = ImageFont.truetype(_FONT, 40)
    ImageDraw.Draw(image).text((80, 120), sentence, font=font, fill="black")
    return image


def mixed_pdf(*pages: str | Image.Image) -> bytes:
    """Pages of text and scans."""
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    for page in pages:
        if isinstance(page, str):
            canvas.drawString(72, 700, page)
        else:
            canvas.drawImage(ImageReader(page), 0, 500, width=590, height=190)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


async def upload(person: Person, content: bytes, filename: str = "scan.pdf") -> UUID:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return UUID(response.json()["document_id"])


async def get(person: Person, path: str) -> dict[str, object]:
    body: dict[str, object] = (await person.get(f"/api/v1/documents/{path}")).json()
    return body


async def execute(resources: Resources, sql: str, **values: object) -> list[object]:
    async with resources.db.system_transaction() as session:
        return list(await session.scalars(text(sql), values))


async def test_scanned_pages_are_read_and_the_others_are_not(
    person: Person, resources: Resources, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    document_id = await upload(
        person,
        mixed_pdf(
            "The harbor opens early in summer.",
            picture("Seventeen vessels left before sunrise"),
            "",
            picture("and four came back in the evening"),
        ),
    )
    await ingest_all(with_ocr)
    waiting = await get(person, str(document_id))
    assert (waiting["status"], waiting["stage"]) == ("processing", "ocr")
    assert await recognize_next(recognizer)
    assert not await recognize_next(recognizer)
    assert (await get(person, str(document_id)))["status"] == "queued"
    await ingest_all(with_ocr)
    assert (await get(person, str(document_id)))["status"] == "ready"
    report = await get(person, f"{document_id}/report")
    sources = [page["source"] for page in report["pages"]]  # type: ignore[attr-defined]
    assert sources == ["text_layer", "ocr", "none", "ocr"]
    page = await get(person, f"{document_id}/pages/2")
    assert "Seventeen vessels left before sunrise" in str(page["text"])
    assert not await execute(
        resources, "SELECT number FROM ocr_pages WHERE document_id = :id", id=document_id
    )


async def test_a_picture_is_a_document(
    person: Person, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    buffer = BytesIO()
    picture("A lighthouse keeper writes letters").save(buffer, "PNG", dpi=(150, 150))
    document_id = await upload(person, buffer.getvalue(), "letter.png")
    await ingest_all(with_ocr)
    assert await recognize_next(recognizer)
    await ingest_all(with_ocr)
    page = await get(person, f"{document_id}/pages/1")
    assert "lighthouse keeper" in str(page["text"])


async def test_without_text_recognition_a_scan_says_what_is_missing(
    person: Person, without_ocr: Ingester
) -> None:
    document_id = await upload(person, mixed_pdf(picture("Nobody reads this")))
    await ingest_all(without_ocr)
    document = await get(person, str(document_id))
    assert (document["status"], document["error_code"]) == ("failed", "no_text")
    assert "install" in str(document["error_message"])
    report = await get(person, f"{document_id}/report")
    assert report["pages"][0]["warnings"] == [NO_OCR_WARNING]  # type: ignore[index]


async def test_without_text_recognition_a_mixed_document_is_ready_with_a_warning(
    person: Person, without_ocr: Ingester
) -> None:
    document_id = await upload(person, mixed_pdf("Some words.", picture("Nobody reads this")))
    await ingest_all(without_ocr)
    document = await get(person, str(document_id))
    assert (document["status"], document["warning_count"]) == ("ready", 1)


async def test_a_range_that_a_killed_worker_left_is_read_by_another(
    person: Person, resources: Resources, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    scans = [picture(f"Vessel number {n} of the fleet") for n in range(3)]
    document_id = await upload(person, mixed_pdf(*scans))
    await ingest_all(with_ocr)
    worker = asyncio.create_task(recognize_next(recognizer))
    async with asyncio.timeout(60):
        while not await execute(
            resources,
            "SELECT number FROM ocr_pages WHERE document_id = :id AND text IS NOT NULL",
            id=document_id,
        ):
            await asyncio.sleep(0.05)
    worker.cancel()
    await asyncio.wait([worker])
    assert not await recognize_next(recognizer)  # its lease still holds
    await execute(
        resources,
        "UPDATE ocr_pages SET lease_expires_at = now() - interval '1 s' WHERE document_id = :id"
        " AND lease_expires_at IS NOT NULL RETURNING number",
        id=document_id,
    )
    while await recognize_next(recognizer):
        pass
    await ingest_all(with_ocr)
    document = await get(person, str(document_id))
    assert (document["status"], document["warning_count"]) == ("ready", 0)


async def test_a_page_that_kills_its_workers_is_given_up_alone(
    person: Person, resources: Resources, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    document_id = await upload(
        person, mixed_pdf(picture("This one kills"), picture("This one is harmless"))
    )
    await ingest_all(with_ocr)
    await execute(
        resources,
        "UPDATE ocr_pages SET attempts = 3, lease_expires_at = now() - interval '1 s'"
        " WHERE document_id = :id AND number = 1 RETURNING number",
        id=document_id,
    )
    while await recognize_next(recognizer):
        pass
    async with resources.db.system_transaction() as session:
        await keep_going(session)
    await ingest_all(with_ocr)
    report = await get(person, f"{document_id}/report")
    pages = report["pages"]
    assert [page["source"] for page in pages] == ["none", "ocr"]  # type: ignore[attr-defined]
    assert pages[0]["warnings"] == ["Text recognition failed on this page."]  # type: ignore[index]


async def test_a_scan_whose_recognition_takes_too_long_can_be_tried_again(
    person: Person, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    document_id = await upload(person, mixed_pdf(picture("It takes longer than there is")))
    await ingest_all(with_ocr)
    hasty = replace(recognizer, engine=replace(recognizer.engine, page_timeout_s=0.01))
    assert await recognize_next(hasty)
    await ingest_all(with_ocr)
    document = await get(person, str(document_id))
    assert (document["error_code"], document["retryable"]) == ("timed_out", True)
    assert (await person.post(f"/api/v1/documents/{document_id}/retry")).status_code == 200
    await ingest_all(with_ocr)
    assert await recognize_next(recognizer)
    await ingest_all(with_ocr)
    assert (await get(person, str(document_id)))["status"] == "ready"


async def test_a_cancelled_document_is_not_read_on(
    person: Person, resources: Resources, with_ocr: Ingester, recognizer: Recognizer
) -> None:
    scans = [picture(f"Vessel number {n} of the fleet") for n in range(PAGES_PER_RANGE + 1)]
    document_id = await upload(person, mixed_pdf(*scans))
    await ingest_all(with_ocr)
    assert (await person.post(f"/api/v1/documents/{document_id}/cancel")).status_code == 200
    assert not await recognize_next(recognizer)
    document = await get(person, str(document_id))
    assert (document["status"], document["error_code"]) == ("failed", "cancelled")


async def test_a_restart_of_everything_goes_on_with_what_was_read(
    person: Person,
    resources: Resources,
    with_ocr: Ingester,
    recognizer: Recognizer,
    database_url: str,
) -> None:
    document_id = await upload(person, mixed_pdf(picture("Read before the restart")))
    await ingest_all(with_ocr)
    await requeue_all(database_url)
    await ingest_all(with_ocr)
    assert (await get(person, str(document_id)))["stage"] == "ocr"
    assert await recognize_next(recognizer)
    await ingest_all(with_ocr)
    assert (await get(person, str(document_id)))["status"] == "ready"
