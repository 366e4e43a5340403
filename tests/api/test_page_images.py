"""The image of a page and the rectangles of a quote on it: what is shown, kept, refused."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
import structlog
from PIL import Image
from pypdf.constants import PageLabelStyle

from app.core.errors import Unavailable, UnprocessableRequest
from app.core.storage import BlobStore
from app.documents.deletion import purge_next
from app.documents.inspection import PageFile, get_page_file
from app.documents.page_images import PageImages
from app.ingestion.base import QuotePlace
from app.ingestion.pipeline import Ingester
from app.ingestion.sandbox import Limits
from app.resources import Resources
from tests import pdfs
from tests.children import list_children
from tests.conftest import ingest_all
from tests.people import Person
from tests.stored import ChunkRow, PageRow, change_document, make_ready

TEXT = "The harbor counts seven ships."


async def upload_ready(
    person: Person,
    resources: Resources,
    content: bytes,
    *,
    filename: str = "a.pdf",
    page: PageRow | None = None,
) -> str:
    """Return the id of a document that readers see, with one page."""
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    document_id = str(response.json()["document_id"])
    page = page or PageRow(1, TEXT)
    chunks = [ChunkRow(page.text, (1, 0, len(page.text)))]
    await make_ready(resources, person.org_id, document_id, [page], chunks)
    return document_id


async def get_image(person: Person, document_id: str, **params: Any) -> httpx2.Response:
    return await person.get(f"/api/v1/documents/{document_id}/pages/1/image", params=params)


async def get_rectangles(person: Person, document_id: str, start: int, end: int) -> httpx2.Response:
    return await person.get(
        f"/api/v1/documents/{document_id}/pages/1/rectangles", params={"start": start, "end": end}
    )


def image_of(response: httpx2.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    with Image.open(BytesIO(response.content), formats=["PNG"]) as image:
        image.load()
    return image


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def blob(resources: Resources, person: Person, document_id: str, version: int = 1) -> Path:
    return resources.storage.path(person.org_id, UUID(document_id), version)


def kept(resources: Resources, person: Person, document_id: str, version: int = 1) -> list[str]:
    """The names of the files that were made of a version."""
    folder = resources.storage.derived_path(person.org_id, UUID(document_id), version, "x").parent
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def find_page(person: Person, resources: Resources, document_id: str) -> PageFile:
    async with resources.db.reading(person) as driver:
        return await get_page_file(driver, person.org_id, UUID(document_id), number=1)


# Images


async def test_a_page_is_a_png_that_nobody_can_run(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    response = await get_image(person, document_id)
    image = image_of(response)
    assert image.width == 1000
    assert image.height == pytest.approx(1000 * 842 / 595, abs=2)
    assert len(image.convert("L").getcolors() or ()) > 10
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert response.headers["cache-control"] == "private, max-age=5"


@pytest.mark.parametrize(("asked", "drawn"), [(200, 200), (201, 400), (1900, 2000), (2000, 2000)])
async def test_widths_are_rounded_up(
    person: Person, resources: Resources, asked: int, drawn: int
) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    assert image_of(await get_image(person, document_id, width=asked)).width == drawn


@pytest.mark.parametrize("width", [199, 2001, -1, "wide"])
async def test_other_widths_are_422(person: Person, resources: Resources, width: object) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    assert code_of(await get_image(person, document_id, width=width)) == (422, "validation_error")


async def test_an_unchanged_image_is_304(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    etag = (await get_image(person, document_id)).headers["etag"]
    url = f"/api/v1/documents/{document_id}/pages/1/image"

    async def ask(named: str, width: int = 1000) -> httpx2.Response:
        headers = person.headers | {"If-None-Match": named}
        return await person.client.get(url, headers=headers, params={"width": width})

    for named in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        response = await ask(named)
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
        assert response.headers["cache-control"] == "private, max-age=5"
    assert (await ask('"other"')).status_code == 200
    assert (await ask(etag, width=400)).status_code == 200
    blob(resources, person, document_id, 2).write_bytes(pdfs.text_pdf(["Another version."]))
    await change_document(resources, document_id, "version = 2, ready_version = 2")
    assert (await ask(etag)).status_code == 200


async def test_a_second_request_is_served_from_the_cache(
    person: Person, resources: Resources
) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    with structlog.testing.capture_logs() as lines:
        first = await get_image(person, document_id)
        assert (await get_image(person, document_id, width=950)).content == first.content
    assert [line["event"] for line in lines].count("page_drawn") == 1
    assert kept(resources, person, document_id) == ["1-1000.png"]
    # What can't be drawn any more is still there.
    blob(resources, person, document_id).write_bytes(pdfs.garbage_pdf())
    assert (await get_image(person, document_id)).content == first.content
    other_width = await get_image(person, document_id, width=400)
    assert code_of(other_width) == (422, "page_not_drawable")


async def test_many_at_once_are_drawn_once(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    with structlog.testing.capture_logs() as lines:
        responses = await asyncio.gather(*(get_image(person, document_id) for _ in range(20)))
    assert len({response.content for response in responses}) == 1
    assert {response.status_code for response in responses} == {200}
    assert [line["event"] for line in lines].count("page_drawn") == 1


async def test_too_many_different_ones_at_once_are_503(
    person: Person, stranger: Person, resources: Resources
) -> None:
    document_id = await upload_ready(person, resources, pdfs.long_pdf(1))
    other_id = await upload_ready(stranger, resources, pdfs.long_pdf(1))
    widths = range(200, 2001, 200)
    *responses, others = await asyncio.gather(
        *(get_image(person, document_id, width=width) for width in widths),
        get_image(stranger, other_id),
    )
    refused = [response for response in responses if response.status_code != 200]
    assert refused
    assert {code_of(response) for response in refused} == {(503, "busy")}
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
    # One organization leaves room for the others.
    assert others.status_code == 200
    for width in widths:
        assert (await get_image(person, document_id, width=width)).status_code == 200


def _picture(format_: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (500, 250), "teal").save(file, format_)
    return file.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF"])
async def test_pictures_have_images_and_are_not_enlarged(
    person: Person, resources: Resources, format_: str
) -> None:
    content = _picture(format_)
    document_id = await upload_ready(person, resources, content, filename=f"a.{format_.lower()}")
    assert image_of(await get_image(person, document_id, width=400)).size == (400, 200)
    assert image_of(await get_image(person, document_id)).size == (500, 250)


async def test_a_text_has_no_image(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, TEXT.encode(), filename="a.txt")
    assert code_of(await get_image(person, document_id)) == (404, "no_page_image")
    rectangles = await get_rectangles(person, document_id, 0, 10)
    assert rectangles.json() == {
        "page": 1,
        "width": 612.0,
        "height": 792.0,
        "rectangles": [],
        "exact": False,
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pdfs.garbage_pdf, (422, "page_not_drawable")),
        (pdfs.truncated_pdf, (422, "page_not_drawable")),
        (lambda: pdfs.encrypted_pdf(TEXT, password="p"), (409, "encrypted")),
    ],
    ids=["garbage", "truncated", "encrypted"],
)
async def test_what_cannot_be_drawn_says_so(
    person: Person,
    resources: Resources,
    content: Callable[[], bytes],
    expected: tuple[int, str],
) -> None:
    document_id = await upload_ready(person, resources, content())
    assert code_of(await get_image(person, document_id)) == expected
    rectangles = (await get_rectangles(person, document_id, 0, 10)).json()
    assert (rectangles["rectangles"], rectangles["exact"]) == ([], False)
    assert (await person.client.get("/health")).status_code == 200


async def test_a_page_that_takes_its_process_down_takes_nothing_else(
    person: Person, resources: Resources
) -> None:
    bomb = await upload_ready(person, resources, pdfs.bomb_pdf())
    fine = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    hostile, rectangles, *others = await asyncio.gather(
        get_image(person, bomb, width=200),
        get_rectangles(person, bomb, 0, 10),
        get_image(person, fine),
        person.client.get("/health"),
    )
    assert code_of(hostile) == (422, "page_not_drawable")
    assert rectangles.json()["rectangles"] == []
    assert [response.status_code for response in others] == [200, 200]


async def test_a_page_that_takes_too_long_says_so(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    images = PageImages(resources.storage, cache_bytes=0, limits=Limits(silence_s=0.001))
    page = await find_page(person, resources, document_id)
    with pytest.raises(UnprocessableRequest, match="too long") as caught:
        await images.get_image(page, width=200)
    assert caught.value.code == "page_not_drawable"
    assert await images.find_rectangles(page, start=0, end=3) == QuotePlace()
    images.close()


async def test_who_waits_when_the_process_ends_is_told(
    person: Person, resources: Resources
) -> None:
    document_id = await upload_ready(person, resources, pdfs.bomb_pdf())
    images = PageImages(resources.storage, cache_bytes=0)
    page = await find_page(person, resources, document_id)
    waiting = [asyncio.create_task(images.get_image(page, width=w)) for w in (200, 400, 600)]
    while not list_children():
        await asyncio.sleep(0.01)
    images.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3


async def test_the_cache_keeps_to_its_size(
    person: Person, resources: Resources, tmp_path: Path
) -> None:
    storage = BlobStore(tmp_path)
    document_id = await upload_ready(person, resources, content := pdfs.text_pdf([TEXT]))
    page = await find_page(person, resources, document_id)
    path = storage.path(page.org_id, page.document_id)
    path.parent.mkdir()
    path.write_bytes(content)

    async def fill(cache_bytes: int) -> int:
        images = PageImages(storage, cache_bytes=cache_bytes)
        sizes = [len(await images.get_image(page, width=width)) for width in (200, 400, 600)]
        images.close()
        kept_bytes = storage.trim_derived(max_bytes=2**40)
        assert kept_bytes <= cache_bytes
        assert sum(sizes) > 10_000
        return kept_bytes

    assert await fill(0) == 0
    assert await fill(10_000) > 0
    assert await fill(10_000_000) > 10_000


async def test_a_file_that_is_gone_is_404(person: Person, resources: Resources) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    blob(resources, person, document_id).unlink()
    assert code_of(await get_image(person, document_id)) == (404, "file_missing")
    assert code_of(await get_rectangles(person, document_id, 0, 3)) == (404, "file_missing")


# Who sees them, and for how long


async def test_a_stranger_gets_404_also_for_what_is_in_the_cache(
    person: Person, stranger: Person, resources: Resources
) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    etag = (await get_image(person, document_id)).headers["etag"]
    url = f"/api/v1/documents/{document_id}/pages/1"
    for path in ("image", "rectangles?start=0&end=3"):
        headers = stranger.headers | {"If-None-Match": etag}
        response = await stranger.client.get(f"{url}/{path}", headers=headers)
        assert code_of(response) == (404, "not_found")


async def test_a_deleted_document_has_no_images_and_leaves_none(
    person: Person, resources: Resources
) -> None:
    document_id = await upload_ready(person, resources, content := pdfs.text_pdf([TEXT]))
    etag = (await get_image(person, document_id)).headers["etag"]
    started = (await person.delete(f"/api/v1/documents/{document_id}")).json()
    headers = person.headers | {"If-None-Match": etag}
    url = f"/api/v1/documents/{document_id}/pages/1/image"
    assert (await person.client.get(url, headers=headers)).status_code == 404
    assert (await get_rectangles(person, document_id, 0, 3)).status_code == 404
    while await purge_next(resources.db, resources.storage):
        pass
    assert kept(resources, person, document_id) == []
    receipt = (await person.get(started["status_url"])).json()
    assert receipt["status"] == "completed"
    # The images are none of the document's files.
    assert (receipt["files"], receipt["file_bytes"]) == (1, len(content))


async def test_images_of_a_version_go_with_its_file(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    response = await person.upload("a.pdf", pdfs.text_pdf([TEXT]))
    document_id = response.json()["document_id"]
    await ingest_all(ingester)
    before = image_of(await get_image(person, document_id))
    replaced = await person.client.put(
        f"/api/v1/documents/{document_id}/content",
        headers=person.headers,
        files={"file": ("b.pdf", pdfs.text_pdf(["Quite another text.\n" * 9]))},
    )
    assert replaced.status_code == 202, replaced.text
    # Readers see the version before until the new one is ready.
    assert image_of(await get_image(person, document_id)) == before
    await ingest_all(ingester)
    assert kept(resources, person, document_id, 1) == []
    assert image_of(await get_image(person, document_id)) != before
    assert kept(resources, person, document_id, 2) == ["1-1000.png"]


# Rectangles, and names of pages


async def test_a_quote_of_an_ingested_page_is_located(person: Person, ingester: Ingester) -> None:
    response = await person.upload("long.pdf", pdfs.long_pdf(2))
    document_id = response.json()["document_id"]
    await ingest_all(ingester)
    page = (await person.get(f"/api/v1/documents/{document_id}/pages/1")).json()
    quote = "the harbor report counts 7 ships"
    start = page["text"].index(quote)
    found = (await get_rectangles(person, document_id, start, start + len(quote))).json()
    assert (found["page"], found["exact"]) == (1, True)
    assert (found["width"], found["height"]) == (page["width"], page["height"])
    (rectangle,) = found["rectangles"]
    # The seventh line: text begins 72 points from the left and 82 from the top.
    line = 14.4
    top = (found["height"] - 760 + 6 * line - line) / found["height"]
    assert top < rectangle["y"] < rectangle["y"] + rectangle["height"] < top + 2 * line / 842
    assert rectangle["x"] > 72 / found["width"]
    assert rectangle["x"] + rectangle["width"] < 1


async def test_recognized_text_has_no_rectangles(person: Person, resources: Resources) -> None:
    page = PageRow(1, TEXT, "ocr")
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]), page=page)
    found = (await get_rectangles(person, document_id, 0, len(TEXT))).json()
    assert (found["rectangles"], found["exact"]) == ([], False)


@pytest.mark.parametrize(
    ("start", "end", "code"),
    [
        (5, 5, "invalid_range"),
        (9, 3, "invalid_range"),
        (0, len(TEXT) + 1, "invalid_range"),
        (-1, 3, "validation_error"),
        (0, 2**31, "validation_error"),
    ],
)
async def test_what_is_no_part_of_the_page_is_422(
    person: Person, resources: Resources, start: int, end: int, code: str
) -> None:
    document_id = await upload_ready(person, resources, pdfs.text_pdf([TEXT]))
    assert code_of(await get_rectangles(person, document_id, start, end)) == (422, code)


async def test_pages_are_called_as_they_are_printed(person: Person, ingester: Ingester) -> None:
    content = pdfs.labeled_pdf(
        [f"Page {n} of the preface." for n in (4, 5)], style=PageLabelStyle.LOWERCASE_ROMAN, start=4
    )
    document_id = (await person.upload("a.pdf", content)).json()["document_id"]
    await ingest_all(ingester)
    page = (await person.get(f"/api/v1/documents/{document_id}/pages/1")).json()
    assert (page["number"], page["label"]) == (1, "iv")
    report = (await person.get(f"/api/v1/documents/{document_id}/report")).json()
    assert [page["label"] for page in report["pages"]] == ["iv", "v"]
