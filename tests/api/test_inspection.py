"""What became of a document's text: the report, one page's text, the chunks."""

from typing import Any
from uuid import uuid4

import pytest

from app.ingestion.pipeline import Ingester
from app.models.spans import Span, span_text
from app.resources import Resources
from tests.conftest import ingest_all
from tests.pdfs import long_pdf
from tests.people import Person
from tests.stored import ChunkRow, PageRow, change_document, make_ready, store_generation

PAGES = [
    PageRow(1, "Räume\nfor rent 🏠."),
    PageRow(2, "", "none", ["This page shows nothing that could be read."]),
    PageRow(3, "Read from a picture.", "ocr", label="iii"),
    PageRow(4, "Name: Ada", "form_fields", ["A field is empty.", "Another one too."]),
]
CHUNKS = [
    # Runs on over the empty page, and takes two stretches of the page behind it.
    ChunkRow("Räume\nRead\nfrom", (1, 0, 5, 3, 0, 4, 3, 5, 9)),
    ChunkRow("picture.\nName: Ada", (3, 12, 20, 4, 0, 9)),
]


async def upload(person: Person, filename: str = "a.txt", content: bytes = b"some text") -> str:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def fetch(person: Person, document_id: str, path: str, **params: Any) -> Any:
    response = await person.get(f"/api/v1/documents/{document_id}/{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


# Report


async def test_the_report_tells_of_each_page(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    report = await fetch(person, document_id, "report")
    assert [page["number"] for page in report["pages"]] == [1, 2, 3, 4]
    assert [page["characters"] for page in report["pages"]] == [17, 0, 20, 9]
    assert [page["chunks"] for page in report["pages"]] == [1, 0, 2, 1]
    assert [page["label"] for page in report["pages"]] == [None, None, "iii", None]
    assert [page["source"] for page in report["pages"]] == [page.source for page in PAGES]
    assert [page["warnings"] for page in report["pages"]] == [list(p.warnings) for p in PAGES]
    assert (report["page_count"], report["chunk_count"], report["characters"]) == (4, 2, 46)
    assert report["sources"] == {"text_layer": 1, "form_fields": 1, "ocr": 1, "none": 1}
    assert report["warning_count"] == 2
    assert (report["document_id"], report["filename"]) == (document_id, "a.txt")
    assert (report["status"], report["version"], report["retryable"]) == ("ready", 1, None)
    assert report["next_after"] is None


async def test_a_long_report_comes_in_parts(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    seen: list[Any] = []
    after: int | None = 0
    while after is not None:
        part = await fetch(person, document_id, "report", after=after, limit=3)
        assert part["page_count"] == 4
        seen += part["pages"]
        after = part["next_after"]
    assert seen == (await fetch(person, document_id, "report"))["pages"]
    assert (await fetch(person, document_id, "report", after=4))["pages"] == []


async def test_the_report_of_a_failed_document_has_the_pages_that_were_read(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    empty = await fetch(person, document_id, "report")
    assert (empty["status"], empty["pages"], empty["page_count"]) == ("queued", [], 0)
    assert empty["sources"] == {"text_layer": 0, "form_fields": 0, "ocr": 0, "none": 0}
    await store_generation(resources, person.org_id, document_id, [PAGES[1]], [])
    await change_document(
        resources, document_id, "status = 'failed', error_code = 'no_text', error_message = 'Scan.'"
    )
    report = await fetch(person, document_id, "report")
    assert (report["status"], report["error_code"]) == ("failed", "no_text")
    assert (report["error_message"], report["retryable"]) == ("Scan.", False)
    assert [page["source"] for page in report["pages"]] == ["none"]
    assert (report["sources"]["none"], report["warning_count"]) == (1, 1)


async def test_the_version_in_the_making_is_not_mixed_into_what_readers_see(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    new = [PageRow(n, "new") for n in range(1, 9)]
    half = [ChunkRow("new", (1, 0, 3))]
    await store_generation(resources, person.org_id, document_id, new, half, generation=2)
    await change_document(
        resources, document_id, "status = 'processing', version = 2, filename = 'b.txt'"
    )
    report = await fetch(person, document_id, "report")
    assert (report["page_count"], report["chunk_count"]) == (4, 2)
    assert (report["version"], report["filename"], report["status"]) == (1, "a.txt", "processing")
    chunks = await fetch(person, document_id, "chunks")
    assert (len(chunks["items"]), chunks["version"]) == (2, 1)
    assert (await fetch(person, document_id, "pages/1"))["text"] == PAGES[0].text


# Pages


async def test_a_page_comes_with_its_text_and_size(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    assert await fetch(person, document_id, "pages/3") == {
        "number": 3,
        "label": "iii",
        "text": "Read from a picture.",
        "width": 612,
        "height": 792,
        "source": "ocr",
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("number", "status"), [("5", 404), ("2147483647", 404), ("0", 422), ("2147483648", 422)]
)
async def test_a_page_that_is_not_there_is_404(
    person: Person, resources: Resources, number: str, status: int
) -> None:
    document_id = await upload(person)
    await make_ready(resources, person.org_id, document_id, PAGES, CHUNKS)
    response = await person.get(f"/api/v1/documents/{document_id}/pages/{number}")
    assert response.status_code == status, response.text


# Chunks


async def test_chunks_come_in_order_and_in_parts(person: Person, resources: Resources) -> None:
    document_id = await upload(person)
    assert (await fetch(person, document_id, "chunks"))["items"] == []
    texts = [f"passage {n}" for n in range(7)]
    pages = [PageRow(1, "\n".join(texts))]
    chunks = [ChunkRow(t, (1, 10 * n, 10 * n + 9)) for n, t in enumerate(texts)]
    await make_ready(resources, person.org_id, document_id, pages, chunks)
    seen: list[Any] = []
    after: int | None = -1
    while after is not None:
        part = await fetch(person, document_id, "chunks", after=after, limit=3)
        seen += part["items"]
        after = part["next_after"]
    assert [chunk["ordinal"] for chunk in seen] == list(range(7))
    assert [chunk["text"] for chunk in seen] == texts
    assert (seen[2]["heading"], seen[2]["token_count"]) == ("Part", 7)
    assert seen[2]["spans"] == [{"page": 1, "start": 20, "end": 29}]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("report", {"limit": 1001}),
        ("report", {"after": 2**31}),
        ("chunks", {"limit": 201}),
        ("chunks", {"after": -2}),
    ],
)
async def test_a_part_out_of_range_is_422(
    person: Person, path: str, params: dict[str, int]
) -> None:
    document_id = await upload(person)
    response = await person.get(f"/api/v1/documents/{document_id}/{path}", params=params)
    assert response.status_code == 422


@pytest.mark.parametrize(
    "path",
    ["report", "pages/1", "pages/1/image", "pages/1/rectangles?start=0&end=1", "chunks"],
)
async def test_an_unknown_document_is_404(person: Person, path: str) -> None:
    assert (await person.get(f"/api/v1/documents/{uuid4()}/{path}")).status_code == 404


async def test_the_spans_of_ingested_chunks_are_cut_out_of_the_pages(
    person: Person, ingester: Ingester
) -> None:
    document_id = await upload(person, "long.pdf", long_pdf(6))
    await ingest_all(ingester)
    report = await fetch(person, document_id, "report")
    assert report["page_count"] == 6
    numbers = [page["number"] for page in report["pages"]]
    texts = {n: (await fetch(person, document_id, f"pages/{n}"))["text"] for n in numbers}
    assert [page["characters"] for page in report["pages"]] == [len(texts[n]) for n in numbers]
    chunks = (await fetch(person, document_id, "chunks"))["items"]
    assert len(chunks) == report["chunk_count"] > 0
    for chunk in chunks:
        spans = [Span(**span) for span in chunk["spans"]]
        assert span_text(spans, texts) == chunk["text"]
    for page in report["pages"]:
        touching = [c for c in chunks if any(s["page"] == page["number"] for s in c["spans"])]
        assert page["chunks"] == len(touching)
