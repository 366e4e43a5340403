"""List, get and download documents, and who may change them."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.core.pagination import Cursor
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.pipeline import Ingester
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.conftest import ingest_all
from tests.key_holders import set_role
from tests.pdfs import text_pdf
from tests.people import Person, sign_in
from tests.stored import ChunkRow, PageRow, change_document, make_ready


async def upload(person: Person, filename: str, content: bytes) -> str:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def list_names(person: Person, **params: Any) -> list[str]:
    response = await person.get("/api/v1/documents", params=params)
    assert response.status_code == 200, response.text
    return [item["filename"] for item in response.json()["items"]]


# List


async def test_a_new_organization_has_no_documents(person: Person) -> None:
    response = await person.get("/api/v1/documents")
    assert response.json() == {"items": [], "next_cursor": None, "total": 0}


async def test_pages_walk_over_all_documents_newest_first(person: Person) -> None:
    ids = [await upload(person, f"{n}.txt", f"text {n}".encode()) for n in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await person.get("/api/v1/documents", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
        # What comes in meanwhile does not shift the pages.
        await upload(person, "late.txt", uuid4().bytes.hex().encode())
    assert seen == ids[::-1]


async def test_a_page_that_is_just_full_is_the_last(person: Person) -> None:
    for n in range(2):
        await upload(person, f"{n}.txt", f"text {n}".encode())
    page = (await person.get("/api/v1/documents", params={"limit": 2})).json()
    assert len(page["items"]) == 2
    assert (page["next_cursor"], page["total"]) == (None, 2)


async def test_documents_of_one_instant_are_not_lost_between_pages(
    person: Person, resources: Resources
) -> None:
    ids = {await upload(person, f"{n}.txt", f"text {n}".encode()) for n in range(4)}
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE documents SET created_at = now() WHERE org_id = :org"),
            {"org": person.org_id},
        )
    first = (await person.get("/api/v1/documents", params={"limit": 2})).json()
    rest = await person.get("/api/v1/documents", params={"cursor": first["next_cursor"]})
    assert {item["id"] for item in [*first["items"], *rest.json()["items"]]} == ids


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "ä",
        "!!!!",
        "e30",
        "bnVsbA",
        "W1sxXSwyXQ",
        "A" * 500,
        Cursor(datetime(2026, 11, 20, tzinfo=UTC), UUID(int=7)).encode()[:-6],
    ],
)
async def test_a_made_up_cursor_is_400(person: Person, cursor: str) -> None:
    response = await person.get("/api/v1/documents", params={"cursor": cursor})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "cursor"


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1e9"])
async def test_a_limit_out_of_range_is_422(person: Person, limit: str) -> None:
    response = await person.get("/api/v1/documents", params={"limit": limit})
    assert response.status_code == 422


async def test_names_are_searched_by_any_part_of_them_literally(person: Person) -> None:
    names = ["100% sure.txt", "snake_case.txt", "Straße.txt", "Café.txt", "slash⁄.txt", "plain.txt"]
    for name in names:
        await upload(person, name, name.encode())
    assert await list_names(person, name="%") == ["100% sure.txt"]
    assert await list_names(person, name="_") == ["snake_case.txt"]
    assert await list_names(person, name="\\") == []
    assert await list_names(person, name="/") == []
    assert await list_names(person, name="PLAIN") == ["plain.txt"]
    assert await list_names(person, name="straße") == ["Straße.txt"]
    assert await list_names(person, name="cafe\u0301") == ["Café.txt"]
    assert await list_names(person, name="plain\0") == []
    assert await list_names(person, name="'; DROP TABLE documents; --") == []
    assert len(await list_names(person, name="")) == len(names)
    response = await person.get("/api/v1/documents", params={"name": "x" * 256})
    assert response.status_code == 422


async def test_documents_are_filtered_by_status(person: Person, ingester: Ingester) -> None:
    await upload(person, "good.txt", b"A sentence about otters.")
    await upload(person, "blank.txt", b"  \n --- \n")
    await ingest_all(ingester)
    await upload(person, "new.txt", b"Another sentence.")
    assert await list_names(person, status="ready") == ["good.txt"]
    assert await list_names(person, status="failed") == ["blank.txt"]
    assert await list_names(person, status="queued") == ["new.txt"]
    assert await list_names(person, status="processing") == []
    assert await list_names(person, status=["failed", "ready"]) == ["blank.txt", "good.txt"]
    response = await person.get("/api/v1/documents", params={"status": "gone"})
    assert response.status_code == 422


async def test_another_organization_sees_none_of_them(person: Person, stranger: Person) -> None:
    await upload(person, "mine.txt", b"mine alone")
    assert await list_names(stranger) == []


# Get


async def test_a_document_says_how_far_it_is(person: Person, ingester: Ingester) -> None:
    document_id = await upload(
        person, "otters.pdf", text_pdf(["Otters hold hands."], title="Otter")
    )
    url = f"/api/v1/documents/{document_id}"
    queued = (await person.get(url)).json()
    assert (queued["status"], queued["percent"], queued["chunk_count"]) == ("queued", 0, 0)
    await ingest_all(ingester)
    ready = (await person.get(url)).json()
    assert ready["id"] == document_id
    assert (ready["status"], ready["percent"], ready["stage"]) == ("ready", 100, None)
    assert (ready["title"], ready["page_count"], ready["chunk_count"]) == ("Otter", 1, 1)
    assert (ready["error_code"], ready["error_message"]) == (None, None)
    assert (ready["version"], ready["ready_version"]) == (1, 1)
    assert (ready["pages_done"], ready["pages_total"], ready["warning_count"]) == (1, 1, 0)


async def test_a_failed_document_says_whether_a_retry_makes_sense(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person, "failing.txt", b"it fails")
    url = f"/api/v1/documents/{document_id}"
    assert (await person.get(url)).json()["retryable"] is None
    for code, is_retryable in (("corrupt", False), ("timed_out", True)):
        await change_document(
            resources, document_id, "status = 'failed', error_code = :code", code=code
        )
        failed = (await person.get(url)).json()
        assert (failed["error_code"], failed["retryable"]) == (code, is_retryable)


async def test_queued_documents_know_their_place(
    person: Person, stranger: Person, resources: Resources
) -> None:
    await upload(stranger, "other.txt", b"another queue")
    ids = [await upload(person, f"{n}.txt", f"text {n}".encode()) for n in range(4)]
    items = (await person.get("/api/v1/documents")).json()["items"]
    assert [(d["id"], d["queue_position"]) for d in items] == [
        (ids[3], 4),
        (ids[2], 3),
        (ids[1], 2),
        (ids[0], 1),
    ]
    await change_document(resources, ids[1], "status = 'processing'")
    # Its turn comes by when it was queued, not by when it was uploaded.
    await change_document(resources, ids[3], "queued_at = queued_at - interval '1 hour'")
    last = (await person.get("/api/v1/documents", params={"limit": 2})).json()["items"]
    assert [d["queue_position"] for d in last] == [1, 3]
    places = [(await person.get(f"/api/v1/documents/{i}")).json()["queue_position"] for i in ids]
    assert places == [2, None, 3, 1]


async def test_the_documented_error_codes_are_those_there_are(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert set(schemas["IngestErrorCode"]["enum"]) == set(IngestErrorCode)
    reference = {"$ref": "#/components/schemas/IngestErrorCode"}
    for model in ("DocumentOut", "ReportOut"):
        assert reference in schemas[model]["properties"]["error_code"]["anyOf"]


async def test_an_id_that_is_none_is_422_and_an_unknown_one_404(person: Person) -> None:
    assert (await person.get("/api/v1/documents/not-an-id")).status_code == 422
    assert (await person.get(f"/api/v1/documents/{uuid4()}")).status_code == 404


# Content


async def test_the_original_comes_back_byte_by_byte(person: Person) -> None:
    content = text_pdf(["The original."])
    document_id = await upload(person, "a.pdf", content)
    response = await person.get(f"/api/v1/documents/{document_id}/content")
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["content-type"] == "application/pdf"
    assert response.headers["content-disposition"] == 'attachment; filename="a.pdf"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert response.headers["cache-control"] == "private, no-store"


async def test_ranges_are_served(person: Person) -> None:
    content = b"0123456789 are the digits"
    document_id = await upload(person, "a.txt", content)
    url = f"/api/v1/documents/{document_id}/content"

    async def get(value: str) -> tuple[int, bytes]:
        response = await person.client.get(url, headers=person.headers | {"Range": value})
        return response.status_code, response.content

    assert await get("bytes=0-3") == (206, b"0123")
    assert await get("bytes=5-") == (206, content[5:])
    assert await get("bytes=-6") == (206, b"digits")
    status, body = await get("bytes=0-1,4-5")
    assert status == 206
    assert b"01" in body
    assert b"45" in body
    for nonsense in ("garbage", "bytes=5-1", "bytes=a-b", "bytes=", "bytes=" + "0-," * 5_000):
        assert await get(nonsense) == (200, content)
    behind = person.headers | {"Range": f"bytes={len(content)}-"}
    response = await person.client.get(url, headers=behind)
    assert response.status_code == 416
    assert response.json()["error"]["code"] == "range_not_satisfiable"
    assert response.headers["content-range"] == f"bytes */{len(content)}"


async def test_head_tells_of_a_file_what_get_would(person: Person) -> None:
    document_id = await upload(person, "a.txt", b"some bytes")
    url = f"/api/v1/documents/{document_id}/content"
    head = await person.client.head(url, headers=person.headers)
    get = await person.get(url)
    assert (head.status_code, head.content) == (200, b"")
    told = ("content-length", "content-type", "etag", "accept-ranges", "content-disposition")
    assert [head.headers[name] for name in told] == [get.headers[name] for name in told]
    assert (await person.client.head(url)).status_code == 401


async def test_readers_keep_the_ready_version_while_the_next_is_made(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person, "old.txt", b"The old walrus.")
    pages, chunks = [PageRow(1, "The old walrus.")], [ChunkRow("The old walrus.", (1, 0, 15))]
    await make_ready(resources, person.org_id, document_id, pages, chunks)
    path = resources.storage.path(person.org_id, UUID(document_id), 2)
    path.write_bytes(b"%PDF-new")
    await change_document(
        resources,
        document_id,
        "version = 2, status = 'queued', filename = 'new.pdf', media_type = 'application/pdf'",
    )
    url = f"/api/v1/documents/{document_id}"

    async def download() -> tuple[bytes, str, str]:
        response = await person.get(f"{url}/content")
        headers = response.headers
        return response.content, headers["content-type"], headers["content-disposition"]

    text_type = "text/plain; charset=utf-8"
    assert await download() == (b"The old walrus.", text_type, 'attachment; filename="old.txt"')
    shown = (await person.get(url)).json()
    assert (shown["filename"], shown["version"], shown["ready_version"]) == ("new.pdf", 2, 1)
    found = await person.post("/api/v1/search", json={"query": "walrus"})
    assert [hit["filename"] for hit in found.json()["results"]] == ["old.txt"]
    await change_document(
        resources,
        document_id,
        "ready_version = 2, ready_filename = filename, ready_media_type = media_type,"
        " status = 'ready'",
    )
    assert await download() == (b"%PDF-new", "application/pdf", 'attachment; filename="new.pdf"')


@pytest.mark.parametrize(
    "name",
    [
        'quote".txt',
        "semi;colon.txt",
        "über 報告.txt",
        "per%22cent.txt",
        "back`tick'.txt",
        "<script>alert(1)<.txt",
        "x" * 300 + ".txt",
        "😀.md",
    ],
)
async def test_hostile_names_stay_inside_the_download_header(person: Person, name: str) -> None:
    plain = await upload(person, "plain.txt", b"plain")
    boundary = uuid4().hex
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{escaped}"\r\n\r\n'
        f"content of {name}\r\n--{boundary}--\r\n"
    )
    response = await person.client.post(
        "/api/v1/documents/upload",
        content=body.encode(),
        headers=person.headers | {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    assert response.status_code == 202, response.text
    stored = response.json()["filename"]
    got = await person.get(f"/api/v1/documents/{response.json()['document_id']}/content")
    reference = await person.get(f"/api/v1/documents/{plain}/content")
    assert sorted(got.headers) == sorted(reference.headers)
    disposition = got.headers["content-disposition"]
    assert disposition.isascii()
    assert disposition.startswith("attachment; filename")
    _, _, shown = disposition.partition("''")
    assert unquote(shown) == stored or disposition == f'attachment; filename="{stored}"'
    assert stored in {name, "x" * 251 + ".txt"}


async def test_text_is_never_served_as_a_page(person: Person) -> None:
    document_id = await upload(person, "page.txt", b"<html><script>alert(1)</script></html>")
    response = await person.get(f"/api/v1/documents/{document_id}/content")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-disposition"].startswith("attachment")


async def test_a_lost_file_is_404_until_it_is_uploaded_again(
    person: Person, resources: Resources
) -> None:
    document_id = await upload(person, "lost.txt", b"soon lost")
    resources.storage.delete(person.org_id, UUID(document_id))
    response = await person.get(f"/api/v1/documents/{document_id}/content")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "file_missing"
    again = await person.upload("found.txt", b"soon lost")
    assert (again.status_code, again.json()["document_id"]) == (200, document_id)
    response = await person.get(f"/api/v1/documents/{document_id}/content")
    assert response.content == b"soon lost"


# Roles


async def test_viewers_read_and_do_not_write(person: Person, resources: Resources) -> None:
    document_id = await upload(person, "read.txt", b"for reading")
    await set_role(resources, person, MemberRole.VIEWER)
    viewer = await sign_in(person.client, person.email)
    assert (await viewer.get(f"/api/v1/documents/{document_id}/content")).status_code == 200
    for path in ("report", "pages/1", "chunks"):
        response = await viewer.get(f"/api/v1/documents/{document_id}/{path}")
        assert response.status_code in {200, 404}, path
    assert (await viewer.get("/api/v1/deletions")).status_code == 200
    assert (await viewer.delete(f"/api/v1/documents/{document_id}")).status_code == 403
    for action in ("cancel", "retry"):
        response = await viewer.post(f"/api/v1/documents/{document_id}/{action}")
        assert response.status_code == 403, action
    response = await viewer.client.patch(
        f"/api/v1/documents/{document_id}", json={"expires_at": None}, headers=viewer.headers
    )
    assert response.status_code == 403
    assert (await viewer.upload("write.txt", b"for writing")).status_code == 403
