"""Uploads: streamed to disk, refused early, and hostile bodies that leave nothing behind."""

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.accounts.principal import Principal
from app.config import Settings
from app.core.errors import RequestTimeout
from app.dependencies import authenticate, get_intake, get_resources
from app.documents.intake import Intake
from app.documents.receiving import Patience
from app.documents.uploads import Uploader
from app.ingestion.pipeline import Ingester
from app.models.accounts import MemberRole
from app.resources import Resources, open_resources
from tests.api_process import ApiProcess, running_api
from tests.conftest import ingest_all
from tests.pdfs import text_pdf
from tests.people import Person
from tests.stack_process import wait_until

UPLOAD = "/api/v1/documents/upload"
BOUNDARY = "frontier"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    "Content-Type: text/plain\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
MEGABYTE = 1024 * 1024


@pytest.fixture
def incoming(data_dir: Path) -> Path:
    return data_dir / "files" / "incoming"


@pytest.fixture(autouse=True)
def nothing_is_left_behind(incoming: Path) -> Iterator[None]:
    yield
    assert list(incoming.iterdir()) == []


async def send(
    person: Person, body: bytes | AsyncIterator[bytes], *, content_type: str = MULTIPART
) -> httpx2.Response:
    headers = person.headers | ({"Content-Type": content_type} if content_type else {})
    return await person.client.post(UPLOAD, content=body, headers=headers)


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def count_documents(resources: Resources, person: Person) -> int:
    async with resources.db.system_transaction() as session:
        count: int = await session.scalar(
            text("SELECT count(*) FROM documents WHERE org_id = :org"), {"org": person.org_id}
        )
    return count


# What is answered


@pytest.mark.parametrize(
    ("filename", "content", "media_type"),
    [
        ("report.pdf", text_pdf(["A report."]), "application/pdf"),
        ("no-suffix", text_pdf(["Another report."]), "application/pdf"),
        ("notes.txt", "Grüße\n".encode(), "text/plain"),
        ("latin.txt", "Grüße an alle\n".encode("cp1252"), "text/plain"),
        ("readme.md", b"# Title\n\nText.\n", "text/markdown"),
    ],
)
async def test_an_upload_is_accepted_and_kept_byte_by_byte(
    person: Person, resources: Resources, filename: str, content: bytes, media_type: str
) -> None:
    response = await person.upload(filename, content)
    body = response.json()
    assert response.status_code == 202
    assert body == {
        "document_id": body["document_id"],
        "filename": filename,
        "status": "processing",
        "message": "The document is being processed.",
        "media_type": media_type,
        "size_bytes": len(content),
        "deduplicated": False,
        "visibility": "shared",
        "tags": [],
        "metadata": {},
    }
    assert response.headers["location"] == f"/api/v1/documents/{body['document_id']}"
    assert (await person.get(response.headers["location"])).status_code == 200
    path = resources.storage.path(person.org_id, UUID(body["document_id"]))
    assert path.read_bytes() == content
    async with resources.db.system_transaction() as session:
        sha256 = await session.scalar(
            text("SELECT sha256 FROM documents WHERE id = :id"), {"id": body["document_id"]}
        )
    assert sha256 == hashlib.sha256(content).digest()


async def test_the_name_on_disk_is_the_servers_own(person: Person, data_dir: Path) -> None:
    outside = sorted(path for path in data_dir.rglob("*") if "blobs" not in path.parts)
    for name in ("../../../escape.txt", "/etc/cron.d/x.txt", "..\\..\\x.txt", "a\0b.txt", "CON"):
        response = await person.upload(name, f"named {name}".encode())
        assert response.status_code == 202, name
        assert "/" not in response.json()["filename"]
    assert outside == sorted(path for path in data_dir.rglob("*") if "blobs" not in path.parts)


async def test_other_fields_around_the_file_are_ignored(person: Person) -> None:
    response = await person.post(
        UPLOAD,
        data={"purpose": "test", "note": "x" * 1000},
        files={"file": ("a.txt", b"fields around it")},
    )
    assert response.status_code == 202
    assert response.json()["size_bytes"] == len(b"fields around it")


@pytest.mark.parametrize("step", [1, 7, 64])
async def test_a_body_may_come_in_any_pieces(person: Person, step: int) -> None:
    whole = HEAD + f"--{BOUNDARY}x\r\n--front\r\n{step}".encode() + TAIL

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), step):
            yield whole[start : start + step]

    response = await send(person, pieces())
    assert response.status_code == 202, response.text
    assert response.json()["size_bytes"] == len(whole) - len(HEAD) - len(TAIL)


# Who may


async def test_the_body_of_a_stranger_is_not_read(client: httpx2.AsyncClient) -> None:
    pieces_read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal pieces_read
        for _ in range(3):
            pieces_read += 1
            yield HEAD

    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        response = await client.post(
            UPLOAD, content=pieces(), headers={"Content-Type": MULTIPART} | headers
        )
        assert response.status_code == 401
    assert pieces_read == 0


# Too large


async def endless(head: bytes, counter: list[int]) -> AsyncIterator[bytes]:
    yield head
    while True:
        counter[0] += 1
        yield b"x" * MEGABYTE


async def test_more_than_the_limit_is_413_without_reading_on(
    person: Person, settings: Settings
) -> None:
    megabytes = [0]
    response = await send(person, endless(HEAD, megabytes))
    assert code_of(response) == (413, "payload_too_large")
    assert megabytes[0] <= settings.max_upload_mb + 1
    # The same for what is no file at all.
    for head in (b"", f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=x\r\n\r\n".encode()):
        megabytes = [0]
        response = await send(person, endless(head, megabytes))
        assert response.status_code in {400, 413}
        assert megabytes[0] <= settings.max_upload_mb + 1


async def test_a_declared_length_over_the_limit_is_413_before_the_body(person: Person) -> None:
    megabytes = [0]
    for length in (5 * MEGABYTE, 10**18):
        headers = {"Content-Type": MULTIPART, "Content-Length": str(length)}
        response = await person.client.post(
            UPLOAD, content=endless(HEAD, megabytes), headers=person.headers | headers
        )
        assert code_of(response) in {(413, "payload_too_large"), (507, "storage_full")}
    assert megabytes[0] == 0


async def test_a_file_of_just_the_limit_is_taken(person: Person, settings: Settings) -> None:
    content = b"y" * (settings.max_upload_bytes - 32) + uuid4().hex.encode()
    response = await person.upload("limit.txt", content)
    assert response.status_code == 202
    assert (await person.upload("over.txt", content + b"y")).status_code == 413
    await person.delete(response.headers["location"])  # or a later test would have to ingest it


# The same bytes again


async def test_the_same_bytes_give_the_same_document(person: Person, ingester: Ingester) -> None:
    first = await person.upload("a.txt", b"Once and for all.")
    again = await person.upload("another name.txt", b"Once and for all.")
    assert again.status_code == 200
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["document_id"] == first.json()["document_id"]
    assert (again.json()["deduplicated"], again.json()["status"]) == (True, "queued")
    assert again.json()["filename"] == "a.txt"
    await ingest_all(ingester)
    assert (await person.upload("a.txt", b"Once and for all.")).json()["status"] == "ready"


async def test_the_same_bytes_elsewhere_are_another_document(
    person: Person, stranger: Person, resources: Resources
) -> None:
    mine = await person.upload("a.txt", b"shared by chance")
    theirs = await stranger.upload("a.txt", b"shared by chance")
    assert theirs.status_code == 202
    assert theirs.json()["document_id"] != mine.json()["document_id"]
    assert theirs.json()["deduplicated"] is False
    await stranger.delete(theirs.headers["location"])
    assert resources.storage.path(person.org_id, UUID(mine.json()["document_id"])).is_file()


async def test_a_failed_document_is_tried_again(person: Person, ingester: Ingester) -> None:
    url = (await person.upload("blank.txt", b" \n\n ")).headers["location"]
    await ingest_all(ingester)
    assert (await person.get(url)).json()["status"] == "failed"
    again = await person.upload("blank.txt", b" \n\n ")
    assert (again.status_code, again.json()["status"]) == (200, "queued")
    document = (await person.get(url)).json()
    assert (document["status"], document["error_code"]) == ("queued", None)
    await ingest_all(ingester)
    assert (await person.get(url)).json()["error_code"] == "no_text"


async def test_thirty_identical_uploads_at_once_are_one_document(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    content = b"Everybody uploads this at the same time."
    responses = await asyncio.gather(*(person.upload("a.txt", content) for _ in range(30)))
    assert {response.status_code for response in responses} == {200, 202}
    assert sum(response.status_code == 202 for response in responses) == 1
    assert len({response.json()["document_id"] for response in responses}) == 1
    assert await count_documents(resources, person) == 1
    folder = resources.storage.path(person.org_id, uuid4()).parent
    assert len(list(folder.iterdir())) == 1
    await ingest_all(ingester)
    async with resources.db.system_transaction() as session:
        claims = await session.scalar(
            text("SELECT lease_token FROM documents WHERE org_id = :org"), {"org": person.org_id}
        )
    assert claims == 1


async def test_uploads_against_deletions_of_the_same_bytes_are_never_an_error(
    person: Person,
) -> None:
    async def delete_what_is_there() -> None:
        listed = await person.get("/api/v1/documents")
        for item in listed.json()["items"]:
            deleted = await person.delete(f"/api/v1/documents/{item['id']}")
            assert deleted.status_code in {202, 404}

    for _ in range(6):
        *responses, _ = await asyncio.gather(
            *(person.upload("a.txt", b"now you see me") for _ in range(4)),
            delete_what_is_there(),
        )
        assert {r.status_code for r in responses if r} <= {200, 202}


async def test_fifty_files_of_one_name_stay_fifty(person: Person, resources: Resources) -> None:
    responses = await asyncio.gather(
        *(person.upload("report.txt", f"number {n}".encode()) for n in range(50))
    )
    kept = {
        resources.storage.path(person.org_id, UUID(r.json()["document_id"])).read_bytes()
        for r in responses
    }
    assert kept == {f"number {n}".encode() for n in range(50)}
    await asyncio.gather(*(person.delete(r.headers["location"]) for r in responses))


# What is no document


def zip_bytes(folder: Path) -> bytes:
    with ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    return (folder / "a.zip").read_bytes()


@pytest.mark.parametrize("filename", ["a.pdf", "a.docx", "a"])
async def test_other_kinds_of_files_are_415(person: Person, tmp_path: Path, filename: str) -> None:
    contents = [
        zip_bytes(tmp_path),
        b"\x7fELF" + bytes(100),
        b"PK\x03\x04",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000),
        bytes(range(256)),
    ]
    if filename != "a":
        contents += [b"<svg onload='alert(1)'/>", b"plain words"]
    for content in contents:
        response = await person.upload(filename, content)
        assert code_of(response) == (415, "unsupported_type"), content[:20]


async def test_what_the_client_says_about_the_type_is_not_asked(person: Person) -> None:
    claimed = ("a.bin", bytes(range(256)), "application/pdf")
    assert (await person.post(UPLOAD, files={"file": claimed})).status_code == 415
    claimed = ("a", text_pdf(["Not what it says."]), "text/html")
    response = await person.post(UPLOAD, files={"file": claimed})
    assert response.json()["media_type"] == "application/pdf"


# Bad bodies

BAD_BODIES: dict[str, tuple[str, bytes, int]] = {
    "no content type": ("", b"hello", 415),
    "json": ("application/json", b'{"file": "x"}', 415),
    "a form": ("application/x-www-form-urlencoded", b"file=x", 415),
    "no boundary": ("multipart/form-data", HEAD + b"x" + TAIL, 415),
    "an empty boundary": ("multipart/form-data; boundary=", HEAD + b"x" + TAIL, 415),
    "a boundary of 1,000": (f"multipart/form-data; boundary={'b' * 1000}", HEAD + TAIL, 400),
    "an odd boundary": ('multipart/form-data; boundary="\xff\\""', HEAD + TAIL, 400),
    "another boundary": ("multipart/form-data; boundary=other", HEAD + b"x" + TAIL, 400),
    "empty body": (MULTIPART, b"", 422),
    "only the end": (MULTIPART, f"--{BOUNDARY}--\r\n".encode(), 422),
    "another field": (MULTIPART, HEAD.replace(b'"file"', b'"data"') + b"x" + TAIL, 422),
    "a field, no file": (MULTIPART, HEAD.replace(b'; filename="a.txt"', b"") + b"x" + TAIL, 422),
    "two files": (MULTIPART, HEAD + b"x\r\n" + HEAD + b"y" + TAIL, 422),
    "an empty file": (MULTIPART, HEAD + TAIL, 422),
    "cut in the headers": (MULTIPART, HEAD[:40], 422),
    "cut in the file": (MULTIPART, HEAD + b"half a sent", 400),
    "cut in the last boundary": (MULTIPART, HEAD + b"text" + TAIL[:-4], 400),
    "garbage": (MULTIPART, bytes(range(256)) * 20, 400),
    "no disposition": (MULTIPART, f"--{BOUNDARY}\r\nA: b\r\n\r\nx".encode() + TAIL, 422),
    "a header of 1 MB": (MULTIPART, HEAD.replace(b"a.txt", b"a" * MEGABYTE) + b"x" + TAIL, 400),
    "100,000 headers": (
        MULTIPART,
        HEAD.removesuffix(b"\r\n") + b"A: b\r\n" * 100_000 + b"\r\nx" + TAIL,
        400,
    ),
    "1 MB of semicolons": (
        MULTIPART,
        HEAD.replace(b"form-data;", b"form-data;" + b"a;" * 500_000) + b"x" + TAIL,
        400,
    ),
    "a long content type": (MULTIPART + ";a=b" * 10_000, HEAD + TAIL, 422),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_the_clients_error(
    person: Person, resources: Resources, case: str
) -> None:
    content_type, body, status = BAD_BODIES[case]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    headers = person.headers | ({"Content-Type": content_type} if content_type else {})
    response = await person.client.post(
        UPLOAD,
        content=pieces(),
        headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    )
    assert response.status_code == status, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert await count_documents(resources, person) == 0


async def test_a_hundred_thousand_parts_are_read_and_refused(person: Person) -> None:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'.encode()
    count = 4 * MEGABYTE // len(part)
    response = await send(person, part * count + f"--{BOUNDARY}--\r\n".encode())
    assert response.status_code == 422


# Clients that stop


async def stalling() -> AsyncIterator[bytes]:
    yield HEAD + b"the first words"
    await asyncio.Event().wait()


async def dripping() -> AsyncIterator[bytes]:
    yield HEAD
    while True:
        await asyncio.sleep(0)
        yield b"x"


@pytest.mark.parametrize(
    ("body", "patience"),
    [
        (stalling, Patience(silence_s=0.1)),
        (dripping, Patience(silence_s=10.0, total_s=0.2)),
    ],
)
async def test_a_client_that_stalls_or_drips_is_given_up(
    resources: Resources, body: Callable[[], AsyncIterator[bytes]], patience: Patience
) -> None:
    uploader = Uploader(
        resources.storage, resources.sealer, 4 * MEGABYTE, secret=b"", patience=patience
    )
    form = uploader.receive(body(), content_type=MULTIPART, content_length=None)
    with pytest.raises(RequestTimeout):
        async with form:
            pass


async def test_a_database_that_is_away_is_not_a_full_disk(
    person: Person, app: FastAPI, settings: Settings
) -> None:
    elsewhere = settings.model_copy(
        update={"database_url": "postgresql+asyncpg://footnote@127.0.0.1:9/footnote"}
    )
    async with open_resources(elsewhere) as resources:
        authenticated = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())
        app.dependency_overrides[get_resources] = lambda: resources
        app.dependency_overrides[authenticate] = lambda: authenticated
        try:
            response = await send(person, HEAD + b"words" + TAIL)
        finally:
            app.dependency_overrides.clear()
    assert code_of(response) == (503, "unavailable")


# What may be said about the file


def form_with(fields: dict[str, str], *, is_file_first: bool = False) -> bytes:
    file = HEAD + b"words " + uuid4().hex.encode() + b"\r\n"
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    return b"".join([file, *parts] if is_file_first else [*parts, file]) + TAIL[2:]


async def row_of(resources: Resources, response: httpx2.Response) -> Any:
    async with resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM documents WHERE id = :id"), {"id": response.json()["document_id"]}
        )
        return rows.one()


@pytest.mark.parametrize("is_file_first", [False, True])
async def test_a_password_is_sealed_and_an_expiry_is_kept(
    person: Person,
    resources: Resources,
    is_file_first: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {"password": "pässword-4711", "expires_at": "2099-01-31T12:00:00+01:00"}
    response = await send(person, form_with(fields, is_file_first=is_file_first))
    assert response.status_code == 202, response.text
    row = await row_of(resources, response)
    assert b"4711" not in row.sealed_password
    assert resources.sealer.unseal(row.sealed_password) == "pässword-4711"
    assert row.expires_at == datetime(2099, 1, 31, 11, tzinfo=UTC)
    shown = await person.get(response.headers["location"])
    assert "4711" not in response.text + shown.text + capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "x" * 1025),
        ("password", "x" * 20_000),
        ("expires_at", "tomorrow"),
        ("expires_at", "2099-01-31T12:00:00"),
        ("expires_at", "2019-01-31T12:00:00Z"),
        ("expires_at", "9999-12-31T23:59:59-23:00"),
        ("expires_at", "0001-01-01T00:00:00+23:00"),
    ],
)
async def test_options_that_cannot_be_are_422(person: Person, name: str, value: str) -> None:
    for is_file_first in (False, True):
        response = await send(person, form_with({name: value}, is_file_first=is_file_first))
        assert code_of(response) == (422, "invalid_request")
        assert response.json()["error"]["param"] == name
        assert value not in response.text


async def test_an_option_twice_or_in_no_utf_8_is_422(person: Person) -> None:
    body = form_with({"password": "one"})
    field = body[: body.index(HEAD)]
    twice = await send(person, field + body)
    assert (twice.status_code, twice.json()["error"]["param"]) == (422, "password")
    odd = await send(person, body.replace(b"one", b"\xff"))
    assert (odd.status_code, odd.json()["error"]["param"]) == (422, "password")


async def test_an_empty_option_is_none(person: Person, resources: Resources) -> None:
    response = await send(person, form_with({"password": "", "expires_at": ""}))
    row = await row_of(resources, response)
    assert (row.sealed_password, row.expires_at) == (None, None)


async def test_a_failed_document_is_tried_again_with_the_password_that_comes(
    person: Person, resources: Resources
) -> None:
    first = await send(person, body := form_with({}))
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE documents SET status = 'failed', error_code = 'encrypted', percent = 40,"
                " pages_done = 4, pages_total = 10, attempts = 3 WHERE id = :id"
            ),
            {"id": first.json()["document_id"]},
        )
    body = form_with({"password": "sesame"}).split(HEAD)[0] + body
    again = await send(person, body)
    assert (again.status_code, again.json()["status"]) == (200, "queued")
    row = await row_of(resources, first)
    assert resources.sealer.unseal(row.sealed_password) == "sesame"
    assert (row.percent, row.pages_done, row.pages_total, row.attempts) == (0, 0, None, 0)


async def test_known_bytes_with_an_expiry_are_kept_longer_and_never_shorter(
    person: Person, resources: Resources
) -> None:
    def expiring(year: int) -> bytes:
        return form_with({"expires_at": f"{year}-01-01T00:00:00Z"}).split(HEAD)[0]

    first = await send(person, expiring(2090) + (body := form_with({})))
    for head, year in ((expiring(2099), 2099), (b"", 2099), (expiring(2080), 2099)):
        assert (await send(person, head + body)).status_code == 200
        assert (await row_of(resources, first)).expires_at == datetime(year, 1, 1, tzinfo=UTC)

    for_good = await send(person, body := form_with({}))
    assert (await send(person, expiring(2099) + body)).status_code == 200
    assert (await row_of(resources, for_good)).expires_at is None


# Too many at once


@pytest.fixture
def queue_of_three(app: FastAPI, resources: Resources) -> Iterator[None]:
    app.dependency_overrides[get_intake] = lambda: Intake(resources.storage, max_queued=3)
    yield
    app.dependency_overrides.clear()


@pytest.mark.usefixtures("queue_of_three")
async def test_a_full_queue_is_429_without_reading_the_body(
    person: Person, stranger: Person, resources: Resources
) -> None:
    for number in range(3):
        assert (await person.upload("a.txt", f"file {number}".encode())).status_code == 202
    megabytes = [0]
    response = await send(person, endless(HEAD, megabytes))
    assert code_of(response) == (429, "ingestion_backlog")
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert int(response.headers["retry-after"]) >= 1
    assert megabytes == [0]
    assert (await stranger.upload("a.txt", b"file 4")).status_code == 202
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE documents SET status = 'failed', error_code = 'no_text' WHERE org_id = :org"
            ),
            {"org": person.org_id},
        )
    assert (await person.upload("a.txt", b"file 4")).status_code == 202


@pytest.mark.usefixtures("queue_of_three")
async def test_no_more_than_the_cap_get_in_at_the_same_time(
    person: Person, resources: Resources
) -> None:
    responses = await asyncio.gather(
        *(person.upload("a.txt", f"at once {number}".encode()) for number in range(12))
    )
    statuses = [response.status_code for response in responses]
    assert sorted(statuses) == [202] * 3 + [429] * 9
    assert await count_documents(resources, person) == 3
    assert len(list(resources.storage.path(person.org_id, uuid4()).parent.iterdir())) == 3


# A real server process


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running_api(settings, tmp_path_factory.mktemp("api")) as server:
        yield server


def connect(api: ApiProcess, person: Person, *headers: str) -> socket.socket:
    return api.connect(person, f"POST {UPLOAD}", f"Content-Type: {MULTIPART}", *headers)


def answer_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read one response to its end."""
    received = b""
    while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
        piece = connection.recv(65_536)
        if not piece:
            break
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_two_hundred_megabytes_pass_through_without_staying_in_memory(
    api: ApiProcess, person: Person
) -> None:
    block = os.urandom(MEGABYTE)

    async def pieces(megabytes: int) -> AsyncIterator[bytes]:
        yield HEAD.replace(b"a.txt", b"a.pdf") + b"%PDF-1.7 "
        for _ in range(megabytes):
            yield block
        yield TAIL

    headers = person.headers | {"Content-Type": MULTIPART}
    async with httpx2.AsyncClient(base_url=api.url, timeout=60) as client:
        small = await client.post(UPLOAD, content=pieces(1), headers=headers)
        assert small.status_code == 202
        rss_before = api.rss_bytes()
        api.reset_peak()
        large = await client.post(UPLOAD, content=pieces(200), headers=headers)
        assert large.status_code == 202, large.text
        assert large.json()["size_bytes"] == 200 * MEGABYTE + 9
        grown = api.peak_rss_bytes() - rss_before
        assert grown < 20 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB"
        for response in (small, large):
            await client.delete(response.headers["location"], headers=person.headers)


async def test_a_client_that_hangs_up_leaves_nothing(api: ApiProcess, person: Person) -> None:
    for length in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
        with closing(connect(api, person, length)) as connection:
            body = HEAD + b"x" * 100_000
            if "chunked" in length:
                body = f"{len(body):x}\r\n".encode() + body + b"\r\n"
            connection.sendall(body)
            await asyncio.to_thread(wait_until, lambda: any(api.incoming.iterdir()))
        await asyncio.to_thread(api.wait_until_nothing_is_incoming)
    assert (await person.get("/api/v1/documents")).json()["items"] == []
    assert "unhandled_exception" not in api.log.read_text()


async def test_a_length_that_is_too_small_is_a_truncated_body(
    api: ApiProcess, person: Person
) -> None:
    with closing(connect(api, person, "Content-Length: 200")) as connection:
        connection.sendall(HEAD + b"x" * 5_000 + TAIL)
        status, body = await asyncio.to_thread(answer_of, connection)
    assert (status, body["error"]["code"]) == (400, "invalid_request")
    await asyncio.to_thread(api.wait_until_nothing_is_incoming)


async def test_a_length_over_the_limit_is_answered_before_the_body(
    api: ApiProcess, person: Person
) -> None:
    length = 300 * MEGABYTE
    headers = (f"Content-Length: {length}", "Expect: 100-continue")
    with closing(connect(api, person, *headers)) as connection:
        status, body = await asyncio.to_thread(answer_of, connection)
    assert (status, body["error"]["code"]) == (413, "payload_too_large")


async def test_a_stranger_is_told_so_before_the_body(api: ApiProcess, person: Person) -> None:
    nobody = Person(person.client, person.email, person.tokens | {"access_token": "nonsense"})
    with closing(connect(api, nobody, "Content-Length: 1000000")) as connection:
        status, _ = await asyncio.to_thread(answer_of, connection)
    assert status == 401
