"""Progress of documents as server-sent events, over a real socket."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import event, text

from app.accounts.principal import Principal
from app.config import Settings
from app.core.ids import new_id
from app.core.sse import StreamTiming
from app.core.stream_tokens import StreamAudience, StreamClaims, StreamScope, sign_stream_token
from app.dependencies import PUBLIC_ROUTES, get_stream_timing
from app.documents.deletion import delete_document
from app.documents.feed import MAX_WATCHES_PER_USER
from app.ingestion.outcomes import IngestErrorCode
from app.local.postgres import Postgres
from app.local.process import stop
from app.migrations import upgrade
from app.models.accounts import MemberRole
from app.models.documents import Document
from app.resources import Resources
from app.routers import ROUTERS
from tests.frames import Frame, iter_frames, parse_frames
from tests.integration.test_streams import Server, api_process, listen
from tests.key_holders import holder_of, make_key
from tests.people import Person, register

EVENTS = "/api/v1/documents/events"
_BY_WORKER = "status = 'processing', lease_expires_at = now() + interval '1 hour'"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A person's documents, written as workers write them."""

    person: Person
    resources: Resources

    @property
    def principal(self) -> Principal:
        return Principal(self.person.user_id, self.person.org_id, MemberRole.OWNER, uuid4())

    async def add(self, filename: str = "report.pdf") -> UUID:
        document = Document(
            org_id=self.person.org_id,
            id=new_id(),
            uploaded_by=self.person.user_id,
            filename=filename,
            media_type="application/pdf",
            size_bytes=1,
            sha256=uuid4().bytes * 2,
        )
        async with self.resources.db.transaction(self.principal) as session:
            session.add(document)
        return document.id

    async def set(self, document_id: UUID, values: str) -> None:
        await self.run(
            f"UPDATE documents SET {values}, updated_at = now() WHERE id = :id", document_id
        )

    async def start(self, document_id: UUID, *, percent: int = 10) -> None:
        await self.set(document_id, f"{_BY_WORKER}, stage = 'embedding', percent = {percent}")

    async def finish(self, document_id: UUID) -> None:
        await self.set(
            document_id,
            "status = 'ready', stage = NULL, percent = 100, chunk_count = 7, generation = 1,"
            " ready_version = 1, lease_expires_at = NULL",
        )

    async def fail(self, document_id: UUID, code: IngestErrorCode) -> None:
        values = f"status = 'failed', stage = NULL, error_code = '{code}', error_message = 'Why.'"
        await self.set(document_id, values)

    async def delete(self, document_id: UUID) -> None:
        async with self.resources.db.transaction(self.principal) as session:
            await delete_document(
                session, self.person.org_id, document_id, requested_by=self.person.user_id
            )

    async def remove(self, document_id: UUID | None = None) -> None:
        """Remove a row, or all of them, as the worker does that purges."""
        async with self.resources.db.system_transaction() as session:
            await session.execute(
                text("DELETE FROM documents WHERE org_id = :org_id AND id = coalesce(:id, id)"),
                {"org_id": self.person.org_id, "id": document_id},
            )

    async def run(self, statement: str, document_id: UUID) -> None:
        async with self.resources.db.transaction(self.principal) as session:
            await session.execute(text(statement), {"id": document_id})


@pytest.fixture(scope="module")
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with listen(settings) as server:
        yield server


@pytest.fixture
async def shelf(server: Server) -> AsyncIterator[Shelf]:
    person = await register(server.client, f"reader-{uuid4().hex}@example.com")
    shelf = Shelf(person, server.resources)
    yield shelf
    await shelf.remove()


def path_of(document_id: UUID) -> str:
    return f"/api/v1/documents/{document_id}/events"


@asynccontextmanager
async def watching(
    person: Person, path: str = EVENTS, **headers: str
) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of a stream, as they come."""
    async with (
        asyncio.timeout(30),
        person.client.stream("GET", path, headers=person.headers | headers) as response,
    ):
        assert response.status_code == 200
        yield iter_frames(response)


async def until(frames: AsyncIterator[Frame], is_last: Callable[[Frame], bool]) -> list[Frame]:
    """Frames up to the first for which this holds."""
    seen = []
    async for frame in frames:
        seen.append(frame)
        if is_last(frame):
            return seen
    raise AssertionError(f"the stream ended: {seen}")


def is_progress(frame: Frame) -> bool:
    return frame.type == "progress"


def is_about(document_id: UUID, **values: Any) -> Callable[[Frame], bool]:
    told = {"type": "document", "document_id": str(document_id), **values}
    return lambda frame: told.items() <= frame.data.items()


async def events_url(person: Person, document_id: UUID | None = None) -> str:
    body = {"document_id": str(document_id)} if document_id else None
    response = await person.post(EVENTS, json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["events_url"])


# All documents


async def test_a_stream_begins_with_what_is_active(shelf: Shelf) -> None:
    ready, waiting, working = [await shelf.add(f"{n}.pdf") for n in range(3)]
    await shelf.finish(ready)
    await shelf.start(working, percent=42)
    await shelf.set(working, "pages_done = 67, pages_total = 160")
    async with watching(shelf.person) as frames:
        seen = await until(frames, is_progress)
    assert [frame.id for frame in seen] == [1, 2, 3]
    assert [frame.data for frame in seen] == [
        {
            "type": "document",
            "document_id": str(working),
            "filename": "2.pdf",
            "status": "processing",
            "stage": "embedding",
            "percent": 42,
            "pages_done": 67,
            "pages_total": 160,
            "queue_position": None,
            "version": 1,
            "ready_version": 0,
            "chunk_count": 0,
            "warning_count": 0,
            "error_code": None,
            "error_message": None,
            "retryable": None,
        },
        {
            "type": "document",
            "document_id": str(waiting),
            "filename": "1.pdf",
            "status": "queued",
            "stage": None,
            "percent": 0,
            "pages_done": 0,
            "pages_total": None,
            "queue_position": 1,
            "version": 1,
            "ready_version": 0,
            "chunk_count": 0,
            "warning_count": 0,
            "error_code": None,
            "error_message": None,
            "retryable": None,
        },
        {"type": "progress", "queued": 1, "processing": 1},
    ]


async def test_streams_are_not_cached_buffered_or_changed_on_the_way(shelf: Shelf) -> None:
    headers = shelf.person.headers
    async with shelf.person.client.stream("GET", EVENTS, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-request-id"]


async def test_every_change_is_told(shelf: Shelf) -> None:
    async with watching(shelf.person) as frames:
        begin = await until(frames, is_progress)
        assert [frame.data for frame in begin] == [
            {"type": "progress", "queued": 0, "processing": 0}
        ]
        document_id = await shelf.add()
        await until(frames, is_about(document_id, status="queued", queue_position=1))
        await shelf.start(document_id, percent=40)
        await until(frames, is_about(document_id, stage="embedding", percent=40))
        await shelf.set(document_id, "percent = 41")
        await until(frames, is_about(document_id, percent=41))
        await shelf.finish(document_id)
        last = await until(frames, is_about(document_id, status="ready", chunk_count=7))
        # And then that nothing is active any more.
        rest = await until(frames, lambda frame: frame.data.get("processing") == 0)
        ids = [frame.id for frame in begin + last + rest if frame.type != "ping"]
        assert ids == sorted(set(ids), key=lambda number: number or 0)


async def test_a_document_that_is_ready_at_once_is_told(shelf: Shelf) -> None:
    async with watching(shelf.person) as frames:
        await until(frames, is_progress)
        document_id = await shelf.add()
        await shelf.finish(document_id)
        await until(frames, is_about(document_id, status="ready"))


async def test_a_change_that_took_long_to_commit_is_told(shelf: Shelf) -> None:
    """`updated_at` is the beginning of the transaction; the feed must not look behind it only."""
    document_id = await shelf.add()
    await shelf.start(document_id)
    async with watching(shelf.person) as frames:
        await until(frames, is_progress)
        await shelf.finish(document_id)
        await until(frames, is_about(document_id, status="ready"))
        await shelf.run(
            "UPDATE documents SET status = 'queued', updated_at = now() - interval '1 minute'"
            " WHERE id = :id",
            document_id,
        )
        await until(frames, is_about(document_id, status="queued"))
        await shelf.run(
            "UPDATE documents SET status = 'ready', updated_at = now() - interval '1 minute'"
            " WHERE id = :id",
            document_id,
        )
        await until(frames, is_about(document_id, status="ready"))


@pytest.mark.parametrize("is_purged", [False, True])
async def test_a_deletion_is_told_once(shelf: Shelf, is_purged: bool) -> None:
    working, ready = await shelf.add(), await shelf.add()
    await shelf.start(working)
    await shelf.finish(ready)
    async with watching(shelf.person) as frames:
        await until(frames, is_progress)
        for document_id in (working, ready):
            await shelf.delete(document_id)
            if is_purged:  # sooner than the next look, as a small document would be
                await shelf.remove(document_id)
        seen = await until(frames, lambda frame: frame.data.get("processing") == 0)
        last = await shelf.add("last.pdf")
        seen += await until(frames, is_about(last))
    deleted = [frame.data["document_id"] for frame in seen if frame.type == "deleted"]
    assert sorted(deleted) == sorted([str(working), str(ready)])
    assert not any(is_about(id_)(frame) for id_ in (working, ready) for frame in seen)


async def test_a_row_that_is_gone_without_a_trace_is_told(shelf: Shelf) -> None:
    document_id = await shelf.add()
    async with watching(shelf.person) as frames:
        await until(frames, is_progress)
        await shelf.remove(document_id)
        await until(
            frames, lambda frame: frame.data == {"type": "deleted", "document_id": str(document_id)}
        )


async def test_nothing_of_another_organization_is_told(shelf: Shelf, server: Server) -> None:
    person = await register(server.client, f"other-{uuid4().hex}@example.com")
    others = Shelf(person, server.resources)
    theirs = await others.add("secret.pdf")
    try:
        async with watching(shelf.person) as frames:
            seen = await until(frames, is_progress)
            await others.start(theirs)
            mine = await shelf.add()
            seen += await until(frames, is_about(mine))
            await others.delete(theirs)
            await shelf.finish(mine)
            seen += await until(frames, lambda frame: frame.data.get("queued") == 0)
        assert str(theirs) not in str(seen)
        assert all(frame.data["processing"] == 0 for frame in seen if is_progress(frame))
    finally:
        await others.remove()


async def test_a_long_queue_does_not_flood(shelf: Shelf) -> None:
    ids = [await shelf.add() for _ in range(60)]
    async with watching(shelf.person) as frames, watching(shelf.person, path_of(ids[59])) as one:
        seen = await until(frames, is_progress)
        positions = [frame.data["queue_position"] for frame in seen[:-1]]
        assert positions == [*range(1, 51), *[None] * 10]
        assert seen[-1].data["queued"] == 60
        # Who watches one document is told its place, wherever that is.
        await until(one, is_about(ids[59], queue_position=60))
        await shelf.finish(ids[0])
        await until(one, is_about(ids[59], queue_position=59))
        moved = await until(frames, lambda frame: frame.data.get("queued") == 59)
        told = [frame.data["document_id"] for frame in moved if frame.type == "document"]
        assert sorted(told) == sorted(map(str, ids[:51]))


# One document


async def test_the_stream_of_one_document_ends_when_it_is_ready(shelf: Shelf) -> None:
    document_id, other = await shelf.add(), await shelf.add()
    await shelf.start(document_id)
    async with watching(shelf.person, path_of(document_id)) as frames:
        await until(frames, is_about(document_id, percent=10))
        await shelf.start(other)
        await shelf.finish(document_id)
        seen = await until(frames, lambda frame: frame.type == "done")
        assert is_about(document_id, status="ready", percent=100)(seen[-2])
        assert seen[-1].data == {"type": "done", "done": True, "status": "ready"}
        assert [frame async for frame in frames] == []
    assert str(other) not in str(seen)


@pytest.mark.parametrize(
    ("code", "is_retryable"),
    [(IngestErrorCode.CORRUPT, False), (IngestErrorCode.EMBEDDING_UNAVAILABLE, True)],
)
async def test_a_failure_says_whether_to_try_again(
    shelf: Shelf, code: IngestErrorCode, is_retryable: bool
) -> None:
    document_id = await shelf.add()
    async with watching(shelf.person, path_of(document_id)) as frames:
        await until(frames, is_about(document_id))
        await shelf.fail(document_id, code)
        seen = await until(frames, lambda frame: frame.type == "done")
    told = {"error_code": str(code), "error_message": "Why.", "retryable": is_retryable}
    assert is_about(document_id, status="failed", **told)(seen[-2])
    assert seen[-1].data["status"] == "failed"


@pytest.mark.parametrize("is_purged", [False, True])
async def test_the_stream_of_a_deleted_document_ends(shelf: Shelf, is_purged: bool) -> None:
    document_id = await shelf.add()
    async with watching(shelf.person, path_of(document_id)) as frames:
        await until(frames, is_about(document_id))
        await shelf.delete(document_id)
        if is_purged:
            await shelf.remove(document_id)
        seen = await until(frames, lambda frame: frame.type == "done")
    assert seen[-2].data == {"type": "deleted", "document_id": str(document_id)}
    assert seen[-1].data["status"] == "deleted"
    assert (await shelf.person.get(path_of(document_id))).status_code == 404


async def test_a_document_that_has_ended_gives_its_frame_and_the_end(shelf: Shelf) -> None:
    document_id = await shelf.add()
    await shelf.finish(document_id)
    response = await shelf.person.get(path_of(document_id))
    frames = parse_frames(response.text)
    assert [frame.type for frame in frames] == ["document", "done"]
    assert [frame.id for frame in frames] == [1, 2]


async def test_coming_back_to_a_document_that_has_ended_is_204(shelf: Shelf) -> None:
    document_id = await shelf.add()
    await shelf.finish(document_id)
    again = shelf.person.headers | {"Last-Event-ID": "2"}
    response = await shelf.person.client.get(path_of(document_id), headers=again)
    assert (response.status_code, response.content) == (204, b"")
    assert (await shelf.person.get(f"{path_of(document_id)}?after=2")).status_code == 204


@pytest.mark.parametrize("path", [EVENTS, "one"])
async def test_there_is_an_event_every_two_seconds_while_something_is_active(
    shelf: Shelf, path: str
) -> None:
    document_id = await shelf.add()
    await shelf.start(document_id)
    beats = 0
    async with watching(shelf.person, path_of(document_id) if path == "one" else path) as frames:
        await until(frames, lambda frame: is_progress(frame) or path == "one")
        try:
            async with asyncio.timeout(7):
                async for frame in frames:
                    assert frame.type == ("document" if path == "one" else "progress")
                    beats += 1
        except TimeoutError:
            pass
    assert 3 <= beats <= 7


# Coming back


async def test_ids_go_on_where_the_reader_was(shelf: Shelf) -> None:
    document_id = await shelf.add()
    for path in (EVENTS, path_of(document_id)):
        async with watching(shelf.person, path, **{"Last-Event-ID": "41"}) as frames:
            assert (await anext(frames)).id == 42
        async with watching(shelf.person, f"{path}?after=7") as frames:
            assert (await anext(frames)).id == 8
        async with watching(shelf.person, path, **{"Last-Event-ID": "none of ours"}) as frames:
            assert (await anext(frames)).id == 1


async def test_who_comes_back_is_told_what_was_missed(shelf: Shelf) -> None:
    missed, deleted, active = [await shelf.add() for _ in range(3)]
    await shelf.finish(missed)
    await shelf.delete(deleted)
    async with watching(shelf.person) as frames:
        new = await until(frames, is_progress)
    assert str(missed) not in str(new)
    async with watching(shelf.person, **{"Last-Event-ID": "3"}) as frames:
        back = await until(frames, is_progress)
    assert any(is_about(missed, status="ready")(frame) for frame in back)
    assert any(is_about(active, status="queued")(frame) for frame in back)
    assert {"type": "deleted", "document_id": str(deleted)} in [frame.data for frame in back]


async def test_an_event_source_follows_a_document_to_its_end(shelf: Shelf) -> None:
    """As a browser does: it has a URL, loses the connection, and comes back until it may not."""
    document_id = await shelf.add()
    url = await events_url(shelf.person, document_id)
    last_id: int | None = None
    percents, statuses = [], []
    for step in range(1, 10):
        headers = {"Last-Event-ID": str(last_id)} if last_id else {}
        async with shelf.person.client.stream("GET", url, headers=headers) as response:
            statuses.append(response.status_code)
            if response.status_code != 200:
                break
            async for frame in iter_frames(response):
                last_id = frame.id or last_id
                if frame.type == "document":
                    percents.append(frame.data["percent"])
                    break  # the connection is cut
        if step < 4:
            await shelf.start(document_id, percent=10 * step)
        else:
            await shelf.finish(document_id)
    assert percents == [0, 10, 20, 30]
    assert statuses == [200] * 4 + [204]
    assert last_id == 4


# Who may read


async def test_a_url_is_for_one_stream_alone(shelf: Shelf, server: Server) -> None:
    client = server.client
    one, other = await shelf.add(), await shelf.add()
    url_of_all, url_of_one = await events_url(shelf.person), await events_url(shelf.person, one)
    for url in (url_of_all, url_of_one):
        assert shelf.person.tokens["access_token"] not in url
        async with client.stream("GET", url) as response:
            assert response.status_code == 200
    token_of_all, token_of_one = (url.partition("?token=")[2] for url in (url_of_all, url_of_one))
    refused = [
        f"{EVENTS}?token={token_of_one}",
        f"{path_of(other)}?token={token_of_one}",
        f"{path_of(one)}?token={token_of_all}",
        f"/api/v1/documents/no-id/events?token={token_of_one}",
        f"{EVENTS}?token={shelf.person.tokens['access_token']}",
        f"{EVENTS}?token={token_of_all[:-1]}",
        f"{EVENTS}?token=",
    ]
    for url in refused:
        response = await client.get(url)
        assert response.status_code == 401, url
        assert response.json()["error"]["type"] == "authentication_error"


async def test_a_stream_token_opens_no_other_route(shelf: Shelf, server: Server) -> None:
    document_id = await shelf.add()
    token = (await events_url(shelf.person, document_id)).partition("?token=")[2]
    walked = 0
    for router in ROUTERS.values():
        for route in router.routes:
            path, methods = getattr(route, "path", ""), getattr(route, "methods", None) or ()
            url = path.replace("{document_id}", str(document_id))
            for method in methods:
                if ("GET" if method == "HEAD" else method, path) in PUBLIC_ROUTES:
                    continue
                in_header = {"Authorization": f"Bearer {token}"}
                answer = await server.client.request(method, url, headers=in_header)
                assert answer.status_code == 401, (method, path)
                if url != path_of(document_id):
                    answer = await server.client.request(method, f"{url}?token={token}")
                    assert answer.status_code == 401, (method, path)
                walked += 1
    assert walked >= 10


async def test_another_organizations_document_is_404(shelf: Shelf, server: Server) -> None:
    document_id = await shelf.add()
    stranger = await register(server.client, f"stranger-{uuid4().hex}@example.com")
    assert (await stranger.get(path_of(document_id))).status_code == 404
    body = {"document_id": str(document_id)}
    assert (await stranger.post(EVENTS, json=body)).status_code == 404
    assert (await stranger.get(path_of(uuid4()))).status_code == 404
    # Their own sign-in under a token for this very document: as if somebody had signed it.
    claims = claims_of(stranger, StreamScope(StreamAudience.DOCUMENTS, document_id))
    token = sign_stream_token(server.resources.settings.signing_key, claims)
    response = await server.client.get(f"{path_of(document_id)}?token={token}")
    assert response.status_code == 404


def claims_of(
    person: Person, scope: StreamScope, *, lifetime_s: int = 60, epoch: int = 0
) -> StreamClaims:
    return StreamClaims(
        aud=scope.audience,
        sub=person.user_id,
        org=person.org_id,
        sid=uuid4(),
        epoch=epoch,
        res=scope.resource_id,
        exp=int(time.time()) + lifetime_s,
    )


async def test_two_credentials_are_400_and_none_is_401(shelf: Shelf, server: Server) -> None:
    url = await events_url(shelf.person)
    both = await server.client.get(url, headers=shelf.person.headers)
    assert both.status_code == 400
    assert both.json()["error"]["code"] == "ambiguous_credentials"
    twice = await server.client.get(f"{url}&token=st_a.b")
    assert twice.status_code == 400
    assert (await server.client.get(EVENTS)).status_code == 401


async def test_a_url_ends_when_its_token_does(shelf: Shelf, server: Server) -> None:
    everything = StreamScope(StreamAudience.DOCUMENTS, None)
    key = server.resources.settings.signing_key
    expired = sign_stream_token(key, claims_of(shelf.person, everything, lifetime_s=-1))
    response = await server.client.get(f"{EVENTS}?token={expired}")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "token_expired")
    old = sign_stream_token(key, claims_of(shelf.person, everything, epoch=1))
    response = await server.client.get(f"{EVENTS}?token={old}")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "token_revoked")

    issued = await shelf.person.post(EVENTS)
    assert issued.headers["cache-control"] == "private, no-store"
    assert issued.json()["expires_at"].endswith("Z")


@pytest.fixture
def often_confirmed(server: Server) -> Iterator[None]:
    server.app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(confirm_s=0.3)
    yield
    server.app.dependency_overrides.clear()


async def test_a_stream_ends_when_its_token_expires(
    shelf: Shelf, server: Server, often_confirmed: None
) -> None:
    everything = StreamScope(StreamAudience.DOCUMENTS, None)
    claims = claims_of(shelf.person, everything, lifetime_s=2)
    token = sign_stream_token(server.resources.settings.signing_key, claims)
    frames = parse_frames((await server.client.get(f"{EVENTS}?token={token}")).text)
    assert [frame.type for frame in frames] == ["progress", "error"]
    assert frames[-1].data["code"] == "token_expired"
    assert frames[-1].data["retryable"] is False


@pytest.mark.parametrize("by", ["url", "header"])
@pytest.mark.parametrize("what", ["logout", "password", "deactivated"])
async def test_a_stream_ends_when_the_sign_in_is_revoked(
    shelf: Shelf, server: Server, often_confirmed: None, what: str, by: str
) -> None:
    person = shelf.person
    url = await events_url(person) if by == "url" else EVENTS
    headers = person.headers if by == "header" else {}
    async with (
        asyncio.timeout(20),
        server.client.stream("GET", url, headers=headers) as response,
    ):
        frames = iter_frames(response)
        await until(frames, is_progress)
        await revoke(person, server.resources, what)
        seen = [frame async for frame in frames]
    assert [frame.type for frame in seen] == ["error"]
    assert seen[0].data["code"] == "token_revoked"
    assert (await server.client.get(url, headers=headers)).status_code == 401


@pytest.mark.parametrize("by", ["url", "header"])
@pytest.mark.parametrize("what", ["revoked", "expired", "member removed"])
async def test_a_stream_ends_with_the_key_that_opened_it(
    shelf: Shelf, server: Server, often_confirmed: None, what: str, by: str
) -> None:
    made = await make_key(shelf.person)
    holder = holder_of(shelf.person, made["key"])
    url = await events_url(holder) if by == "url" else EVENTS
    headers = holder.headers if by == "header" else {}
    async with (
        asyncio.timeout(20),
        server.client.stream("GET", url, headers=headers) as response,
    ):
        frames = iter_frames(response)
        await until(frames, is_progress)
        await end_key(shelf, made["id"], what)
        seen = [frame async for frame in frames]
    assert [frame.type for frame in seen] == ["error"]
    assert seen[0].data["code"] == "invalid_api_key"
    assert (await server.client.get(url, headers=headers)).status_code == 401


async def end_key(shelf: Shelf, key_id: str, what: str) -> None:
    if what == "revoked":
        ended = await shelf.person.delete(f"/api/v1/api-keys/{key_id}")
        assert ended.status_code == 204
        return
    statement = "UPDATE api_keys SET expires_at = now() WHERE user_id = :id"
    if what == "member removed":
        statement = "DELETE FROM memberships WHERE user_id = :id"
    async with shelf.resources.db.system_transaction() as session:
        await session.execute(text(statement), {"id": shelf.person.user_id})


async def revoke(person: Person, resources: Resources, what: str) -> None:
    if what == "logout":
        body = {"refresh_token": person.tokens["refresh_token"]}
        assert (await person.client.post("/api/v1/auth/logout", json=body)).status_code == 204
        return
    change = "is_active = false" if what == "deactivated" else "token_epoch = token_epoch + 1"
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE users SET {change} WHERE id = :id"), {"id": person.user_id}
        )


async def test_a_user_has_a_limit_of_open_streams(shelf: Shelf, server: Server) -> None:
    headers = shelf.person.headers
    async with asyncio.timeout(30), httpx2.AsyncClient(base_url=server.client.base_url) as client:
        opened = [
            client.stream("GET", EVENTS, headers=headers) for _ in range(MAX_WATCHES_PER_USER)
        ]
        for stream in opened:
            assert (await stream.__aenter__()).status_code == 200
        refused = await server.client.get(EVENTS, headers=headers)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_streams"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1
        # Nobody else's.
        other = await register(server.client, f"other-{uuid4().hex}@example.com")
        async with watching(other) as frames:
            await anext(frames)
        for stream in opened:
            await stream.__aexit__(None, None, None)
    async with asyncio.timeout(10):
        while server.resources.progress._users:
            await asyncio.sleep(0.02)
    async with watching(shelf.person) as frames:
        await anext(frames)


# The poller


async def test_many_watchers_cost_what_one_costs_and_none_costs_nothing(
    shelf: Shelf, server: Server
) -> None:
    statements: list[str] = []
    engine = server.resources.db._system.sync_engine

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "row_number()" in statement and "FROM documents" in statement:
            statements.append(statement)

    document_id = await shelf.add()
    event.listen(engine, "before_cursor_execute", note)
    try:

        async def watch(ready: asyncio.Barrier, path: str) -> None:
            async with watching(shelf.person, path) as frames:
                await anext(frames)
                await ready.wait()  # all are there
                statements.clear()
                await until(frames, is_about(document_id, status="processing"))
                await ready.wait()  # all have been told

        ready = asyncio.Barrier(MAX_WATCHES_PER_USER + 1)
        paths = [EVENTS, path_of(document_id)] * (MAX_WATCHES_PER_USER // 2)
        readers = [asyncio.create_task(watch(ready, path)) for path in paths]
        await ready.wait()
        await shelf.start(document_id)
        await ready.wait()
        assert 1 <= len(statements) <= 5
        await asyncio.gather(*readers)
        poller = server.resources.progress._poller
        assert poller is not None
        await poller  # ends by itself
        statements.clear()
        await asyncio.sleep(1.5)
        assert statements == []
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def test_streams_survive_a_database_that_is_away(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Postgres(tmp_path / "postgres") as postgres:
        await asyncio.to_thread(upgrade, postgres.url)
        own = settings.model_copy(update={"database_url": postgres.url, "data_dir": tmp_path})
        async with listen(own) as server:
            person = await register(server.client, "reader@example.com")
            shelf = Shelf(person, server.resources)
            document_id = await shelf.add()
            url = await events_url(person, document_id)
            async with watching(person) as frames:
                await until(frames, is_progress)
                assert postgres.process is not None
                await asyncio.to_thread(stop, postgres.process, postgres.stop_steps)
                # A reader who comes now is not sent away; a forged token is, as ever.
                async with asyncio.timeout(30):
                    async with server.client.stream("GET", url) as response:
                        assert response.status_code == 200
                        seen = [frame async for frame in iter_frames(response)]
                assert {frame.type for frame in seen} == {"ping"}
                assert {frame.id for frame in seen} == {None}
                assert (await server.client.get(f"{url}x")).status_code == 401
                postgres.spawn()
                await asyncio.to_thread(postgres.wait_until_ready)
                async with server.client.stream("GET", url) as response:
                    assert (await anext(iter_frames(response))).type == "document"
                await shelf.start(document_id)
                await until(frames, is_about(document_id, status="processing"))
    assert capsys.readouterr().out.count("progress_not_read") == 1


# A real process


async def test_a_token_is_never_logged_and_a_stop_ends_streams_at_once(
    settings: Settings, server: Server, shelf: Shelf, tmp_path: Path
) -> None:
    log = tmp_path / "api.out"
    os.environ["LOG_LEVEL"] = "DEBUG"
    try:
        process_context = api_process(settings, log)
        async with (
            process_context as (url, process),
            httpx2.AsyncClient(base_url=url, timeout=30) as client,
        ):
            person = replace(shelf.person, client=client)
            document_id = await shelf.add()
            one, everything = await events_url(person, document_id), await events_url(person)
            tokens = [path.partition("?token=")[2] for path in (one, everything)]
            for path in (
                f"{EVENTS}?token={tokens[0]}",
                f"{EVENTS}?token={tokens[1]}&token={tokens[0]}",
                f"{EVENTS}?token={tokens[1]}&after=wrong",
                f"/nowhere?token={tokens[0]}",
                f"/api/v1/documents?token={tokens[0]}",
                f"/api/v1/documents/no-id/events?token={tokens[0]}",
            ):
                assert (await client.get(path)).status_code >= 400
            async with asyncio.timeout(30), client.stream("GET", one) as response:
                frames = iter_frames(response)
                await anext(frames)
                process.send_signal(signal.SIGTERM)
                rest = [frame async for frame in frames]
            assert all(frame.type == "document" for frame in rest)
            assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        del os.environ["LOG_LEVEL"]
    written = log.read_text()
    assert "http_request" in written
    assert "Traceback" not in written
    for token in tokens:
        assert token not in written
        assert token.partition(".")[0] not in written
        assert token.partition(".")[2] not in written
