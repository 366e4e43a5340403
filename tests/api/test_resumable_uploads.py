"""Resumable uploads: the tus protocol's statuses, cuts at any point, and an existing client."""

import asyncio
import fcntl
import hashlib
import os
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

from app.accounts.principal import Principal
from app.config import Settings
from app.core.errors import RequestTimeout
from app.dependencies import authenticate, get_intake
from app.documents.cleanup import remove_expired
from app.documents.intake import Intake
from app.documents.partial_file import Checksum
from app.documents.receiving import Patience
from app.documents.resumable import MAX_UNFINISHED, Piece, ResumableUploads
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.api_process import ApiProcess, running_api
from tests.people import Person
from tests.stack_process import wait_until

UPLOADS = "/api/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream"}
MEGABYTE = 1024 * 1024


def metadata(**values: str) -> str:
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in values.items())


async def request(
    person: Person, method: str, url: str, headers: dict[str, str], content: Any = None
) -> httpx2.Response:
    return await person.client.request(
        method, url, headers=person.headers | headers, content=content
    )


async def create(person: Person, size_bytes: int, **values: str) -> str:
    headers = TUS | {"Upload-Length": str(size_bytes), "Upload-Metadata": metadata(**values)}
    response = await request(person, "POST", UPLOADS, headers)
    assert response.status_code == 201, response.text
    return response.headers["location"]


async def patch(
    person: Person, url: str, offset: int, content: Any, **headers: str
) -> httpx2.Response:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return await request(
        person, "PATCH", url, PIECE | {"Upload-Offset": str(offset)} | extra, content
    )


async def head(person: Person, url: str) -> httpx2.Response:
    return await request(person, "HEAD", url, TUS)


async def offset_of(person: Person, url: str) -> int:
    return int((await head(person, url)).headers["upload-offset"])


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def id_of(url: str) -> UUID:
    return UUID(url.rpartition("/")[2])


def folder_of(resources: Resources, url: str) -> Path:
    return resources.storage.upload_folder(id_of(url))


def unique(size_bytes: int = 60) -> bytes:
    return (uuid4().hex.encode() * (size_bytes // 32 + 1))[:size_bytes]


async def sql(resources: Resources, statement: str, **values: Any) -> Any:
    async with resources.db.system_transaction() as session:
        return await session.execute(text(statement), values)


# The way of an upload


async def test_a_file_in_pieces_becomes_a_document(person: Person, resources: Resources) -> None:
    content = unique(100)
    url = await create(
        person,
        100,
        filename="Bericht ä.txt",
        password="pass-4711",
        expires_at="2099-01-01T00:00:00Z",
    )
    assert await offset_of(person, url) == 0
    first = await patch(person, url, 0, content[:40])
    assert (first.status_code, first.content) == (204, b"")
    assert first.headers["upload-offset"] == "40"
    assert first.headers["tus-resumable"] == "1.0.0"
    assert "document-id" not in first.headers
    second = await patch(person, url, 40, content[40:])
    document_id = second.headers["document-id"]
    assert (second.status_code, second.headers["upload-offset"]) == (204, "100")
    blob = resources.storage.path(person.org_id, UUID(document_id))
    assert blob.read_bytes() == content
    row = (await sql(resources, "SELECT * FROM documents WHERE id = :id", id=document_id)).one()
    assert (row.filename, row.size_bytes, row.status) == ("Bericht ä.txt", 100, "queued")
    assert row.sha256 == hashlib.sha256(content).digest()
    assert resources.sealer.unseal(row.sealed_password) == "pass-4711"
    assert row.expires_at.year == 2099
    upload = (await sql(resources, "SELECT * FROM uploads WHERE id = :id", id=id_of(url))).one()
    assert upload.sealed_password is None
    assert not folder_of(resources, url).exists()


async def test_an_upload_tells_how_far_it_is(person: Person) -> None:
    content = unique(50)
    url = await create(person, 50, filename="a.txt", password="pass-4711")
    await patch(person, url, 0, content[:20])
    for offset, tail in ((20, b""), (50, content[20:])):
        if tail:
            await patch(person, url, 20, tail)
        shown = (await person.get(url)).json()
        headers = (await head(person, url)).headers
        assert shown["upload_id"] == url.rpartition("/")[2]
        assert (shown["filename"], shown["size_bytes"]) == ("a.txt", 50)
        assert shown["offset"] == int(headers["upload-offset"]) == offset
        assert shown["document_id"] == headers.get("document-id")
        assert (shown["document_id"] is None) == (not tail)
        assert headers["upload-length"] == "50"
        assert headers["upload-metadata"] == metadata(filename="a.txt")
        assert "no-store" in headers["cache-control"]
        left = parsedate_to_datetime(headers["upload-expires"]).timestamp() - time.time()
        assert 23 * 3600 < left <= 24 * 3600


async def test_what_the_server_can_do_is_told(person: Person, settings: Settings) -> None:
    response = await request(person, "OPTIONS", UPLOADS, {})
    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-extension"] == "creation,termination,expiration,checksum"
    assert response.headers["tus-max-size"] == str(settings.max_upload_bytes)
    assert response.headers["tus-checksum-algorithm"] == "sha1,sha256"


async def test_the_same_bytes_give_the_document_that_is_there(
    person: Person, resources: Resources
) -> None:
    content = unique()
    document_id = (await person.upload("a.txt", content)).json()["document_id"]
    url = await create(person, len(content), filename="b.txt")
    response = await patch(person, url, 0, content)
    assert response.headers["document-id"] == document_id
    assert len((await person.get("/api/v1/documents")).json()["items"]) == 1
    assert not folder_of(resources, url).exists()


async def test_a_browser_may_send_and_read_the_headers(client: httpx2.AsyncClient) -> None:
    origin = {"Origin": "http://localhost:3000"}
    wanted = "tus-resumable, upload-length, upload-metadata, upload-offset, upload-checksum"
    preflight = await client.options(
        f"{UPLOADS}/x",
        headers=origin
        | {
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": wanted,
        },
    )
    assert preflight.status_code == 200
    answer = await client.get("/health", headers=origin)
    exposed = answer.headers["access-control-expose-headers"]
    for name in ("Location", "Upload-Offset", "Upload-Length", "Tus-Resumable", "Document-Id"):
        assert name in exposed


# What is refused


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "ten"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "٣"}, 400),
        ({"Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "0"}, 422),
        ({"Upload-Length": str(5 * MEGABYTE)}, 413),
        ({"Upload-Length": "9" * 5000}, 413),
        ({"Upload-Length": "9", "Upload-Metadata": "filename ???"}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": "filename /w=="}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": "a YQ==,a YQ=="}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": ",,"}, 400),
        ({"Upload-Length": "9", "Upload-Metadata": metadata(expires_at="soon")}, 422),
        ({"Upload-Length": "9", "Upload-Metadata": metadata(password="x" * 1025)}, 422),
    ],
)
async def test_a_creation_that_makes_no_sense_is_refused(
    person: Person, resources: Resources, headers: dict[str, str], status: int
) -> None:
    sent = person.headers | TUS | headers
    response = await person.client.post(
        UPLOADS, headers=[(name.encode(), value.encode()) for name, value in sent.items()]
    )
    assert response.status_code == status, response.text
    assert response.headers["tus-resumable"] == "1.0.0"
    count = await sql(
        resources, "SELECT count(*) FROM uploads WHERE org_id = :org", org=person.org_id
    )
    assert count.scalar_one() == 0


@pytest.mark.parametrize("header", ["", "filename", "is_x ,filename", "filename "])
async def test_a_file_needs_no_name(person: Person, header: str) -> None:
    headers = TUS | {"Upload-Length": "9", "Upload-Metadata": header}
    response = await request(person, "POST", UPLOADS, headers)
    assert (response.status_code, response.json()["filename"]) == (201, "document")


async def test_another_version_of_the_protocol_is_412(person: Person) -> None:
    url = await create(person, 9)
    for method, path in (("POST", UPLOADS), ("HEAD", url), ("PATCH", url), ("DELETE", url)):
        for headers in ({}, {"Tus-Resumable": "0.2.2"}):
            response = await request(person, method, path, headers)
            assert response.status_code == 412
            assert response.headers["tus-version"] == "1.0.0"


async def test_a_piece_that_does_not_fit_is_refused_and_changes_nothing(person: Person) -> None:
    url = await create(person, 10, filename="a.txt")
    await patch(person, url, 0, b"12345")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    for offset in ("0", "4", "6", "10"):
        assert code_of(await patch(person, url, 0, b"x", Upload_Offset=offset)) == (
            409,
            "offset_mismatch",
        )
    assert (await patch(person, url, 5, b"123456")).status_code == 413
    assert (await patch(person, url, 5, endless())).status_code == 413
    for offset in ("", "five", "-5", "5.0"):
        assert (await patch(person, url, 5, b"x", Upload_Offset=offset)).status_code == 400
    wrong_type = await patch(person, url, 5, b"x", Content_Type="application/octet-stream")
    assert wrong_type.status_code == 415
    assert await offset_of(person, url) == 5


async def test_a_piece_with_a_checksum_counts_only_if_it_is_right(
    person: Person, resources: Resources
) -> None:
    content = unique(90)
    url = await create(person, 90, filename="a.txt")

    def checksum(algorithm: str, data: bytes) -> str:
        return f"{algorithm} {b64encode(hashlib.new(algorithm, data).digest()).decode()}"

    wrong = await patch(person, url, 0, content[:30], Upload_Checksum=checksum("sha1", b"other"))
    assert code_of(wrong) == (460, "checksum_mismatch")
    too_long = await patch(
        person, url, 0, chunked(content * 2), Upload_Checksum=checksum("sha1", b"")
    )
    assert too_long.status_code == 413
    for header in ("md5 YQ==", "sha1 ???", "sha1", ""):
        refused = await patch(person, url, 0, b"x", Upload_Checksum=header)
        assert refused.status_code in {400, 460}, header
    assert await offset_of(person, url) == 0
    for algorithm, start in (("sha1", 0), ("sha256", 45)):
        piece = content[start : start + 45]
        right = await patch(person, url, start, piece, Upload_Checksum=checksum(algorithm, piece))
        assert right.status_code == 204
    blob = resources.storage.path(person.org_id, UUID(right.headers["document-id"]))
    assert blob.read_bytes() == content


async def chunked(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_an_upload_is_its_users_alone(person: Person, stranger: Person, app: FastAPI) -> None:
    url = await create(person, 10, filename="a.txt")
    colleague = Principal(stranger.user_id, person.org_id, MemberRole.ADMIN, uuid4())
    for caller in (None, colleague):
        if caller is not None:
            app.dependency_overrides[authenticate] = lambda: colleague
        try:
            for method in ("GET", "HEAD", "PATCH", "DELETE"):
                headers = PIECE | {"Upload-Offset": "0"}
                response = await request(stranger, method, url, headers)
                assert response.status_code == 404, method
        finally:
            app.dependency_overrides.clear()
    assert (await head(person, f"{UPLOADS}/{uuid4()}")).status_code == 404
    assert await offset_of(person, url) == 0


async def test_a_file_of_no_known_type_is_415_and_its_upload_gone(
    person: Person, resources: Resources
) -> None:
    url = await create(person, 256, filename="a.pdf")
    response = await patch(person, url, 0, bytes(range(256)))
    assert code_of(response) == (415, "unsupported_type")
    assert (await head(person, url)).status_code == 404
    assert not folder_of(resources, url).exists()


async def test_a_terminated_upload_is_gone_and_its_document_stays(
    person: Person, resources: Resources
) -> None:
    url = await create(person, 60, filename="a.txt")
    await patch(person, url, 0, unique(20))
    assert (await request(person, "DELETE", url, TUS)).status_code == 204
    assert not folder_of(resources, url).exists()
    for method in ("HEAD", "DELETE"):
        assert (await request(person, method, url, TUS)).status_code == 404
    assert (await patch(person, url, 20, b"x")).status_code == 404

    url = await create(person, 60, filename="a.txt")
    document_id = (await patch(person, url, 0, unique(60))).headers["document-id"]
    assert (await request(person, "DELETE", url, TUS)).status_code == 204
    assert (await person.get(f"/api/v1/documents/{document_id}")).status_code == 200


async def test_a_hundred_unfinished_uploads_are_enough(person: Person, stranger: Person) -> None:
    urls = [await create(person, 9, filename="a.txt") for _ in range(MAX_UNFINISHED - 3)]
    headers = TUS | {"Upload-Length": "9"}
    responses = await asyncio.gather(*(request(person, "POST", UPLOADS, headers) for _ in range(6)))
    assert sorted(response.status_code for response in responses) == [201] * 3 + [429] * 3
    refused = next(response for response in responses if response.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_uploads"
    assert int(refused.headers["retry-after"]) >= 1
    await create(stranger, 9)
    await request(person, "DELETE", urls[0], TUS)
    await create(person, 9)


async def test_a_full_queue_refuses_and_takes_the_file_later(
    person: Person, app: FastAPI, resources: Resources
) -> None:
    content = unique(60)
    url = await create(person, 60, filename="a.txt")
    await person.upload("b.txt", unique())
    app.dependency_overrides[get_intake] = lambda: Intake(resources.storage, max_queued=1)
    try:
        created = await request(person, "POST", UPLOADS, TUS | {"Upload-Length": "9"})
        assert code_of(created) == (429, "ingestion_backlog")
        last = await patch(person, url, 0, content)
        assert code_of(last) == (429, "ingestion_backlog")
        # Not 200: a client would take a whole upload for done.
        assert (await head(person, url)).status_code == 429
    finally:
        app.dependency_overrides.clear()
    response = await head(person, url)
    assert (response.status_code, response.headers["upload-offset"]) == (200, "60")
    blob = resources.storage.path(person.org_id, UUID(response.headers["document-id"]))
    assert blob.read_bytes() == content


# Cuts, kills and races


async def test_what_is_whole_but_not_stored_is_completed_by_whoever_asks(
    person: Person, resources: Resources
) -> None:
    # As after a kill between the last byte and the row.
    for method in ("HEAD", "GET", "PATCH"):
        content = unique(60)
        url = await create(person, 60, filename="a.txt")
        (folder_of(resources, url) / "data").write_bytes(content)
        headers = PIECE | {"Upload-Offset": "60"}
        response = await request(person, method, url, headers)
        assert response.status_code in {200, 204}
        document_id = (await head(person, url)).headers["document-id"]
        assert resources.storage.path(person.org_id, UUID(document_id)).read_bytes() == content
        again = await request(person, "PATCH", url, headers)
        assert (again.status_code, again.headers["document-id"]) == (204, document_id)
        assert (await patch(person, url, 0, content)).status_code == 409


async def test_a_file_that_was_moved_but_not_stored_is_taken_back(
    person: Person, resources: Resources
) -> None:
    # As after a kill between the move and the commit.
    content = unique(60)
    url = await create(person, 60, filename="a.txt")
    upload_id = id_of(url)
    await patch(person, url, 0, content[:59])
    data = folder_of(resources, url) / "data"
    data.write_bytes(content)
    resources.storage.commit(data, person.org_id, upload_id)
    response = await head(person, url)
    assert response.headers["upload-offset"] == "60"
    assert response.headers["document-id"] == str(upload_id)
    assert resources.storage.path(person.org_id, upload_id).read_bytes() == content


async def test_only_one_of_two_pieces_at_once_gets_in(person: Person) -> None:
    content = unique(60)
    url = await create(person, 60, filename="a.txt")
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield content[:30]
        has_begun.set()
        await may_end.wait()
        yield content[30:]

    first = asyncio.create_task(patch(person, url, 0, slow()))
    await has_begun.wait()
    while await offset_of(person, url) == 0:
        await asyncio.sleep(0.01)
    for response in (
        await patch(person, url, 0, content),
        await request(person, "DELETE", url, TUS),
    ):
        assert code_of(response) == (423, "locked")
    may_end.set()
    assert (await first).headers["upload-offset"] == "60"


async def test_the_lock_holds_for_other_processes_too(person: Person, resources: Resources) -> None:
    url = await create(person, 60, filename="a.txt")
    (folder_of(resources, url) / "data").write_bytes(unique(60))
    with (folder_of(resources, url) / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another open file: as good as another process
        # Whole, and somebody is at it: not yet done, and not yet refused.
        assert (await head(person, url)).status_code == 423
        assert (await patch(person, url, 60, b"")).status_code == 423
    assert "document-id" in (await head(person, url)).headers


async def test_ten_last_pieces_at_once_make_one_document(person: Person) -> None:
    content = unique(60)
    url = await create(person, 60, filename="a.txt")
    await patch(person, url, 0, content[:30])
    responses = await asyncio.gather(
        *(patch(person, url, 30, content[30:]) for _ in range(10)),
        *(head(person, url) for _ in range(10)),
    )
    assert {response.status_code for response in responses} <= {200, 204, 409, 410, 423}
    assert sum(response.status_code == 204 for response in responses) == 1
    assert len((await person.get("/api/v1/documents")).json()["items"]) == 1


async def test_a_client_that_stalls_keeps_what_it_has_sent(
    person: Person, resources: Resources
) -> None:
    url = await create(person, 60, filename="a.txt")
    uploads = ResumableUploads(
        resources.db,
        resources.storage,
        resources.sealer,
        Intake(resources.storage, 10),
        MEGABYTE,
        patience=Patience(silence_s=0.1),
    )
    principal = Principal(person.user_id, person.org_id, MemberRole.OWNER, uuid4())

    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 20
        await asyncio.Event().wait()

    for checksum, kept in ((None, 20), (Checksum("sha1", b""), 20)):
        piece = Piece(stalling(), offset=kept if checksum else 0, length=None, checksum=checksum)
        with pytest.raises(RequestTimeout):
            await uploads.append(principal, id_of(url), piece)
        assert await offset_of(person, url) == kept


# Expiry


async def test_an_upload_lives_a_day_after_its_last_piece(
    person: Person, resources: Resources
) -> None:
    url = await create(person, 60, filename="a.txt")
    other = await create(person, 60, filename="b.txt")
    await patch(person, other, 0, unique(20))
    for hours, address in ((23, url), (25, other)):
        await sql(
            resources,
            "UPDATE uploads SET expires_at = expires_at - make_interval(hours => :hours)"
            " WHERE id = :id",
            hours=hours,
            id=id_of(address),
        )
    assert (await patch(person, url, 0, unique(20))).status_code == 204
    expires_at = (await person.get(url)).json()["expires_at"]
    left = datetime.fromisoformat(expires_at) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        headers = PIECE | {"Upload-Offset": "20"}
        assert (await request(person, method, other, headers)).status_code == 410
    await remove_expired(resources.db, resources.storage)
    assert (await head(person, other)).status_code == 404
    assert not folder_of(resources, other).exists()
    assert await offset_of(person, url) == 20


# A real client, a real server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def api(settings: Settings, folder: Path) -> Iterator[ApiProcess]:
    with running_api(settings, folder) as server:
        yield server


def tus_client(api: ApiProcess, person: Person) -> TusClient:
    return TusClient(f"{api.url}{UPLOADS}", headers=person.headers)


@pytest.mark.parametrize("has_checksums", [False, True])
async def test_tuspy_uploads_stops_and_goes_on(
    api: ApiProcess, person: Person, folder: Path, has_checksums: bool
) -> None:
    content = b"%PDF-1.7 " + os.urandom(3 * MEGABYTE)
    options: dict[str, Any] = {
        "chunk_size": 400_000,
        "upload_checksum": has_checksums,
        "metadata": {"filename": "report.pdf"},
    }

    def send_half() -> str:
        uploader = tus_client(api, person).uploader(file_stream=BytesIO(content), **options)
        uploader.upload(stop_at=1_000_000)
        return str(uploader.url)

    def send_rest(url: str) -> tuple[int, str]:
        client = tus_client(api, person)
        uploader = client.uploader(file_stream=BytesIO(content), url=url, **options)
        resumed_at = uploader.offset
        uploader.upload()
        last: Any = uploader.request
        return resumed_at, last.response_headers["document-id"]

    url = await asyncio.to_thread(send_half)
    resumed_at, document_id = await asyncio.to_thread(send_rest, url)
    assert resumed_at == 1_000_000
    blob = folder / "data" / "files" / "blobs" / str(person.org_id) / document_id
    assert blob.read_bytes() == content
    shown = (await person.get(f"/api/v1/documents/{document_id}")).json()
    assert (shown["filename"], shown["size_bytes"]) == ("report.pdf", len(content))
    await person.delete(f"/api/v1/documents/{document_id}")


async def test_tuspy_is_told_that_a_file_is_refused(api: ApiProcess, person: Person) -> None:
    uploader = tus_client(api, person).uploader(file_stream=BytesIO(bytes(range(256))))
    with pytest.raises(TusUploadFailed) as caught:
        await asyncio.to_thread(uploader.upload)
    assert caught.value.status_code == 415


def cut_piece(api: ApiProcess, person: Person, url: str, *headers: str) -> socket.socket:
    """Send the first 100,000 of 1,000,000 bytes."""
    connection = api.connect(
        person,
        f"PATCH {url}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        "Content-Type: application/offset+octet-stream",
        "Content-Length: 1000000",
        *headers,
    )
    connection.sendall(b"x" * 100_000)
    return connection


async def test_a_connection_that_is_cut_keeps_what_has_arrived(
    api: ApiProcess, person: Person, folder: Path
) -> None:
    async with at(api, person) as remote:
        url = await create(remote, 1_000_000, filename="a.txt")
        data = data_of(folder, url)
        with closing(cut_piece(api, person, url)):
            await asyncio.to_thread(wait_until, lambda: size_of(data) == 100_000)
        rest = b"y" * 900_000
        # The server sees the end of the connection a moment later.
        while (response := await patch(remote, url, 100_000, rest)).status_code == 423:
            await asyncio.sleep(0.02)
        assert response.status_code == 204, response.text
        document_id = response.headers["document-id"]
        blob = folder / "data" / "files" / "blobs" / str(person.org_id) / document_id
        assert blob.read_bytes() == b"x" * 100_000 + rest
        await remote.delete(f"/api/v1/documents/{document_id}")


@pytest.mark.parametrize(
    ("header", "kept"), [("X-No: thing", 100_000), (f"Upload-Checksum: sha1 {'A' * 27}=", 0)]
)
async def test_a_killed_server_has_lost_nothing_and_believes_nothing_unproved(
    settings: Settings, person: Person, tmp_path: Path, header: str, kept: int
) -> None:
    with running_api(settings, tmp_path) as server:
        async with at(server, person) as remote:
            url = await create(remote, 1_000_000, filename="a.txt")
        data = data_of(tmp_path, url)
        arriving = data if kept else data.with_name("piece")
        with closing(cut_piece(server, person, url, header)):
            await asyncio.to_thread(wait_until, lambda: size_of(arriving) >= 90_000)
            server.process.kill()
            server.process.wait()
    with running_api(settings, tmp_path) as server:
        async with at(server, person) as remote:
            offset = await offset_of(remote, url)
            assert offset == size_of(data) >= 0.9 * kept
            assert kept or offset == 0
            response = await patch(remote, url, offset, b"y" * (1_000_000 - offset))
            assert response.status_code == 204
            await remote.delete(f"/api/v1/documents/{response.headers['document-id']}")


@asynccontextmanager
async def at(api: ApiProcess, person: Person) -> AsyncIterator[Person]:
    """The same person, at that server."""
    async with httpx2.AsyncClient(base_url=api.url, timeout=30) as client:
        yield replace(person, client=client)


def data_of(folder: Path, url: str) -> Path:
    return folder / "data" / "files" / "uploads" / url.rpartition("/")[2] / "data"


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
