"""Runs across processes: made in one, read in another, wiped from Redis, killed, stopped."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.chat.run_store import read_lines, stream_key
from app.chat.run_sweep import RunSweeper
from app.config import Settings
from app.core.redis import open_redis
from app.core.sse import StreamTiming
from app.dependencies import get_stream_timing
from app.local.postgres import Postgres
from app.local.process import stop
from app.migrations import upgrade
from app.models.conversations import MAX_EVENTS
from tests.frames import Frame
from tests.integration.test_streams import Server, api_process, listen
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from tests.run_streams import (
    begin,
    cancel,
    check_run,
    lines_of,
    read,
    reading,
    state_of,
    text_of,
)

ANSWER = "The zoo keeps seven zebras, twelve giraffes and a lion, says the report. "
MODEL = "openai/gpt-4.1-mini"
GOING_ON = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An API process of its own, and a client of it."""

    client: httpx2.AsyncClient
    process: Any

    def as_seen_by(self, person: Person) -> Person:
        return replace(person, client=self.client)


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text=ANSWER)


@pytest.fixture(scope="module")
def configured(settings: Settings, provider: ProviderServer) -> Settings:
    return with_openai(
        settings,
        provider,
        ollama_base_url=provider.url,
        default_model=MODEL,
        run_unread_s=1.5,
    )


@pytest.fixture(scope="module")
async def server(configured: Settings) -> AsyncIterator[Server]:
    """The process of the tests; here nobody needs to read for more than 1.5 s."""
    async with listen(configured) as server:
        await server.client.get("/health/ready")  # has looked for models when it returns
        yield server


@pytest.fixture(scope="module")
async def elsewhere(
    configured: Settings, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Elsewhere]:
    log = tmp_path_factory.mktemp("api") / "api.out"
    async with (
        api_process(configured, log, RUN_UNREAD_S="1.5") as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield Elsewhere(client, process)


@pytest.fixture
async def reader(server: Server) -> Person:
    return await register(server.client, f"reader-{uuid4().hex}@example.com")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = open_redis(redis_url)
    yield redis
    await redis.aclose(close_connection_pool=True)


def slow(words: int, *, delay_s: float = 0.02) -> Reply:
    return Reply(text="".join(f"word{n} " for n in range(words)), chunk_delay_s=delay_s)


async def take(frames: AsyncIterator[Frame], count: int) -> list[Frame]:
    """The next frames that are no pings."""
    seen: list[Frame] = []
    async for frame in frames:
        if frame.type != "ping":
            seen.append(frame)
        if len(seen) == count:
            break
    return seen


async def rest_of(frames: AsyncIterator[Frame]) -> list[Frame]:
    return [frame async for frame in frames if frame.type != "ping"]


async def row_of(server: Server, run: dict[str, Any]) -> Any:
    async with server.resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM runs WHERE id = :id"), {"id": UUID(run["run_id"])}
        )
        return rows.one_or_none()


async def set_row(server: Server, run: dict[str, Any], values: str) -> None:
    async with server.resources.db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE runs SET {values} WHERE id = :id"), {"id": UUID(run["run_id"])}
        )


# Read elsewhere


async def test_a_run_can_be_read_from_another_process(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer
) -> None:
    provider.script(slow(60))
    run = await begin(elsewhere.as_seen_by(reader))
    here, there = await asyncio.gather(read(server.client, run), read(elsewhere.client, run))
    assert check_run(here) == slow(60).text
    assert lines_of(here) == lines_of(there)
    # And when it has ended, from Postgres.
    assert lines_of(await read(server.client, run)) == lines_of(there)


async def test_memory_redis_and_postgres_tell_the_same_bytes(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer, redis: Redis
) -> None:
    provider.script(slow(30))
    run = await begin(elsewhere.as_seen_by(reader))
    live = await read(elsewhere.client, run)
    async with asyncio.timeout(10):
        while len(lines := await read_lines(redis, UUID(run["run_id"]))) < len(live):
            await asyncio.sleep(0.02)
    assert [(n, json.loads(line)) for n, line in lines] == [(f.id, f.data) for f in live]
    raw = [(await c.get(run["events_url"])).text for c in (server.client, elsewhere.client)]
    for number, line in lines:
        for body in raw:
            assert f"id: {number}\ndata: {line.decode()}\n\n" in body
    assert 0 < await redis.ttl(stream_key(UUID(run["run_id"]))) <= 60


async def test_cut_at_every_frame_between_two_processes_the_text_is_whole(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer
) -> None:
    """Like an EventSource behind a balancer: two frames here, two there, until the end."""
    provider.script(slow(80))
    run = await begin(elsewhere.as_seen_by(reader))
    seen: list[Frame] = []
    cuts = 0
    while not seen or seen[-1].type != "done":
        client = (server.client, elsewhere.client)[cuts % 2]
        async with reading(client, run, seen[-1].id if seen else None) as frames:
            seen += await take(frames, 2)
        cuts += 1
    assert cuts > 10
    assert [frame.id for frame in seen] == list(range(1, len(seen) + 1))
    assert check_run(seen) == slow(80).text


async def test_cancelling_from_another_process_closes_the_providers_socket(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(slow(4000))
    run = await begin(reader)
    async with reading(elsewhere.client, run) as frames:
        seen = await take(frames, 3)
        async with asyncio.timeout(2):
            response = await cancel(elsewhere.as_seen_by(reader), run)
            assert response.status_code == 202
            await provider.wait_until(lambda: provider.aborts == aborts + 1)
        seen += await rest_of(frames)
    told = check_run(seen, status="cancelled")
    state = await state_of(elsewhere.as_seen_by(reader), run)
    assert (state["status"], state["answer"]) == ("cancelled", told)


async def test_the_answer_so_far_is_known_elsewhere(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer
) -> None:
    provider.script(slow(4000))
    run = await begin(reader)
    async with reading(server.client, run) as frames:
        seen = await take(frames, 5)
    async with asyncio.timeout(10):
        while True:
            state = await state_of(elsewhere.as_seen_by(reader), run)
            if state["answer"].startswith(text_of(seen)) and state["status"] == "running":
                break
            await asyncio.sleep(0.05)
    assert slow(4000).text.startswith(state["answer"])
    assert state["sources"] == []
    await cancel(reader, run)


# Redis is wiped or away


async def test_wiped_redis_costs_one_snapshot(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer, redis: Redis
) -> None:
    provider.script(slow(150))
    run = await begin(elsewhere.as_seen_by(reader))
    async with reading(server.client, run) as frames, reading(elsewhere.client, run) as local:
        seen = await take(frames, 5)
        await redis.flushall()
        late = asyncio.create_task(read(server.client, run, seen[-1].id))
        seen += await rest_of(frames)
        at_home = await rest_of(local)
    for told in (seen, at_home, [*seen[:5], *await late]):
        assert check_run(told) == slow(150).text
        assert [frame.type for frame in told].count("snapshot") == 1
    assert check_run(await read(server.client, run)) == slow(150).text


async def test_wiped_redis_is_noticed_while_the_model_is_silent(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer, redis: Redis
) -> None:
    provider.script(Reply(text=ANSWER, failure=Failure.STALL))
    run = await begin(elsewhere.as_seen_by(reader))
    async with reading(server.client, run) as frames:
        first = await take(frames, 2)
    await redis.flushall()
    async with reading(server.client, run) as frames:  # it finds nothing of it in Redis
        (snapshot,) = await take(frames, 1)
        assert snapshot.type == "snapshot"
        assert text_of([snapshot]).startswith(text_of(first))
        await cancel(reader, run)
        check_run([snapshot, *await rest_of(frames)], status="cancelled")


async def test_without_redis_local_readers_notice_nothing_and_others_get_the_end(
    configured: Settings, server: Server, reader: Person, provider: ProviderServer
) -> None:
    lonely = configured.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    async with listen(lonely) as alone:
        provider.script(slow(60))
        run = await begin(replace(reader, client=alone.client))
        here, there = await asyncio.gather(read(alone.client, run), read(server.client, run))
    assert check_run(here) == slow(60).text
    assert lines_of(there) == lines_of(here)


# Nobody reads


async def test_what_nobody_reads_is_cancelled(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(slow(4000))
    run = await begin(reader)
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    frames = await read(server.client, run)
    assert check_run(frames, status="cancelled")
    assert frames[-1].data["finish_reason"] == "cancelled"


async def test_what_is_detached_or_asked_for_goes_on(
    server: Server, elsewhere: Elsewhere, reader: Person, provider: ProviderServer
) -> None:
    """Each for more than twice the time after which a run without readers is cancelled."""
    replies = [replace(slow(200), chunk_delay_s=0.025)] * 4
    provider.script(*replies)
    detached = await begin(reader, detached=True)
    polled, read_here, read_there = [await begin(reader) for _ in range(3)]

    async def poll() -> dict[str, Any]:
        while True:
            state = await state_of(elsewhere.as_seen_by(reader), polled)
            if state["status"] not in GOING_ON:
                return state
            await asyncio.sleep(0.4)

    state, here, there = await asyncio.gather(
        poll(), read(server.client, read_here), read(elsewhere.client, read_there)
    )
    assert (state["status"], state["answer"]) == ("completed", replies[0].text)
    assert check_run(here) == check_run(there) == replies[0].text
    assert check_run(await read(server.client, detached)) == replies[0].text


# The database is away


async def test_answers_outlive_a_database_that_is_away_for_a_moment_and_say_so_when_it_stays_away(
    configured: Settings, provider: ProviderServer, tmp_path: Path
) -> None:
    with Postgres(tmp_path / "postgres") as postgres:
        await asyncio.to_thread(upgrade, postgres.url)
        own = configured.model_copy(update={"database_url": postgres.url, "data_dir": tmp_path})

        async def stop_postgres() -> None:
            assert postgres.process is not None
            await asyncio.to_thread(stop, postgres.process, postgres.stop_steps)

        async with listen(own) as server:
            reader = await register(server.client, "reader@example.com")
            provider.script(slow(60), slow(60))
            lucky = await begin(reader)
            async with reading(server.client, lucky) as frames:
                seen = await take(frames, 3)
                await stop_postgres()
                await provider.wait_until(lambda: provider.open_streams == 0)
                postgres.spawn()
                await asyncio.to_thread(postgres.wait_until_ready)
                seen += await rest_of(frames)
            assert check_run(seen) == slow(60).text
            assert lines_of(await read(server.client, lucky)) == lines_of(seen)

            unlucky = await begin(reader)
            async with reading(server.client, unlucky) as frames:
                seen = await take(frames, 3)
                await stop_postgres()
                seen += await rest_of(frames)
            assert check_run(seen, status="failed") == slow(60).text
            assert seen[-2].data["code"] == "storage_unavailable"
            # Who comes now is not sent away: an EventSource would not come again.
            async with asyncio.timeout(30):
                response = await server.client.get(unlucky["events_url"])
            assert response.status_code == 200
            assert "id:" not in response.text
            postgres.spawn()
            await asyncio.to_thread(postgres.wait_until_ready)
            async with asyncio.timeout(40):
                while (state := await state_of(reader, unlucky))["status"] in GOING_ON:
                    await asyncio.sleep(0.2)
            assert (state["status"], state["answer"]) == ("failed", slow(60).text)


# Processes that end


async def test_a_killed_process_leaves_a_failed_run_with_its_text(
    configured: Settings,
    server: Server,
    reader: Person,
    provider: ProviderServer,
    tmp_path: Path,
) -> None:
    provider.script(slow(4000))
    async with (
        api_process(configured, tmp_path / "api.out") as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=60) as client,
    ):
        run = await begin(replace(reader, client=client))
        async with reading(server.client, run) as frames:
            seen = await take(frames, 10)
            process.send_signal(signal.SIGKILL)
            async with asyncio.timeout(20):
                seen += await rest_of(frames)
    told = check_run(seen, status="failed")
    assert told and slow(4000).text.startswith(told)
    assert seen[-2].data["code"] == "stream_interrupted"
    assert seen[-2].data["retryable"] is True
    state = await state_of(reader, run)
    assert (state["status"], state["answer"]) == ("failed", told)
    # Who was cut off earlier, or comes only now, ends with the same.
    for place in (None, seen[3].id, seen[-3].id):
        kept = [frame for frame in seen if place is not None and (frame.id or 0) <= place]
        assert check_run([*kept, *await read(server.client, run, place)], status="failed") == told
    again = await begin(reader, conversation_id=run["conversation_id"])
    assert check_run(await read(server.client, again)) == ANSWER


async def test_sigterm_ends_a_run_that_takes_too_long_and_lets_others_finish(
    configured: Settings,
    server: Server,
    reader: Person,
    provider: ProviderServer,
    tmp_path: Path,
) -> None:
    log = tmp_path / "api.out"
    async with (
        api_process(configured, log) as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=60) as client,
    ):
        person = replace(reader, client=client)
        provider.script(slow(100), slow(8000))
        short = await begin(person)
        await provider.wait_until(lambda: provider.open_streams == 1)
        long = await begin(person)
        provider.script(slow(8000))
        detached = await begin(person, detached=True)
        await provider.wait_until(lambda: provider.open_streams == 3)
        async with (
            reading(client, short) as short_frames,
            reading(client, long) as long_frames,
            reading(server.client, long) as frames_there,
        ):
            every = (short_frames, long_frames, frames_there)
            heads = [await take(frames, 3) for frames in every]
            process.send_signal(signal.SIGTERM)
            tails = await asyncio.gather(*map(rest_of, every))
            done, ended, there = [head + tail for head, tail in zip(heads, tails, strict=True)]
        assert check_run(done) == slow(100).text
        told = check_run(ended, status="failed")
        assert ended[-2].data["code"] == "shutting_down"
        assert slow(8000).text.startswith(told)
        assert lines_of(there) == lines_of(ended)
        assert await asyncio.to_thread(process.wait, 15) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    state = await state_of(reader, detached)
    assert (state["status"], state["error"]["code"]) == ("failed", "shutting_down")
    assert state["answer"]
    await provider.wait_until(lambda: provider.open_streams == 0)


# The sweeper


@pytest.mark.parametrize("has_redis", [True, False])
async def test_a_lost_run_is_closed_with_what_redis_or_postgres_knows(
    server: Server, reader: Person, provider: ProviderServer, redis: Redis, has_redis: bool
) -> None:
    provider.script(slow(4000))
    run = await begin(reader, detached=True)
    run_id = UUID(run["run_id"])
    async with reading(server.client, run) as frames:
        seen = await take(frames, 6)
        engine = server.resources.runs
        await engine._keep_texts()
        # As if its process were dead: it goes on, but says nothing any more.
        local = engine._runs.pop(run_id)
        if has_redis:
            async with asyncio.timeout(10):
                while len(await read_lines(redis, run_id)) < 6:
                    await asyncio.sleep(0.02)
        else:
            engine._store.drop(local.log)
            await redis.delete(stream_key(run_id))
        await set_row(server, run, "lease_expires_at = now() - interval '1 second'")
        sweeper = RunSweeper(server.resources.db, redis, patience_s=0.0)
        async with asyncio.timeout(10):  # the app's own may be faster
            while (await row_of(server, run)).finished_at is None:
                await sweeper.sweep()
    state = await state_of(reader, run)
    assert state["status"] == "failed"
    assert state["error"]["code"] == "stream_interrupted"
    assert state["usage"]["estimated"] is True
    assert state["answer"].startswith(text_of(seen[:3]))
    told = await read(server.client, run)
    assert check_run(told, status="failed") == state["answer"]
    assert told[-1].id == MAX_EVENTS + 3
    # The process that was only slow finds out, and tells nothing else.
    engine._runs[run_id] = local
    assert local.task is not None
    await asyncio.wait([local.task], timeout=10)
    assert local.log.is_closed
    assert [f async for f in _no_frames(server, run, told[-1].id)] == []
    assert (await state_of(reader, run))["answer"] == state["answer"]


async def _no_frames(server: Server, run: dict[str, Any], after: int | None) -> AsyncIterator[str]:
    response = await server.client.get(run["events_url"], headers={"Last-Event-ID": str(after)})
    assert response.status_code == 204
    for line in response.text.splitlines():
        yield line


async def test_a_sweeper_waits_for_processes_that_come_back_with_the_database(
    server: Server, reader: Person, provider: ProviderServer, redis: Redis
) -> None:
    provider.script(slow(4000))
    run = await begin(reader, detached=True)
    engine = server.resources.runs
    local = engine._runs.pop(UUID(run["run_id"]))  # nobody renews its lease
    try:
        sweeper = RunSweeper(server.resources.db, redis, patience_s=3600.0)
        await set_row(server, run, "lease_expires_at = now() - interval '1 second'")
        assert [await sweeper.sweep(), await sweeper.sweep()] == [0, 0]
        async with asyncio.timeout(10):
            while (await row_of(server, run)).finished_at is None:
                await RunSweeper(server.resources.db, redis, patience_s=0.0).sweep()
    finally:
        engine._runs[local.begun.run_id] = local
        await cancel(reader, run)


async def test_a_deleted_conversation_stops_its_run(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(slow(4000))
    run = await begin(reader)
    async with reading(server.client, run) as frames:
        await take(frames, 3)
        async with server.resources.db.system_transaction() as session:
            await session.execute(
                text("DELETE FROM conversations WHERE id = :id"),
                {"id": UUID(run["conversation_id"])},
            )
        await provider.wait_until(lambda: provider.aborts == aborts + 1)
        rest = await rest_of(frames)
    assert [frame.type for frame in rest[-2:]] == ["error", "done"]
    assert rest[-2].data["code"] == "conversation_deleted"
    assert rest[-1].data["status"] == "failed"
    assert (await server.client.get(run["events_url"])).status_code == 404


# Nothing is held


async def test_a_reader_that_does_not_read_is_dropped_and_can_come_back(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    server.app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(send_timeout_s=0.3)
    provider.script(Reply(text=("x" * 9_000 + " ") * 100, chunk_delay_s=0.005))
    run = await begin(reader)
    head = f"GET {run['events_url']} HTTP/1.1\r\nHost: test\r\n\r\n"
    try:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.client.base_url.port))
            await loop.sock_sendall(client, head.encode())
            readers = server.resources.runs._readers
            async with asyncio.timeout(10):
                while not readers:
                    await asyncio.sleep(0.01)
                while readers:
                    await asyncio.sleep(0.05)
        frames = await read(server.client, run)
        assert check_run(frames) == ("x" * 9_000 + " ") * 100
    finally:
        server.app.dependency_overrides.clear()


async def test_sixty_runs_hold_few_connections(
    server: Server, elsewhere: Elsewhere, provider: ProviderServer, redis: Redis
) -> None:
    people = [await register(server.client, f"many-{uuid4().hex}@example.com") for _ in range(6)]
    provider.script(*[slow(40, delay_s=0.05)] * 60)
    runs = await asyncio.gather(*(begin(people[n % 6], detached=True) for n in range(60)))
    before = len(await redis.client_list())
    clients = (server.client, elsewhere.client)
    reads = [asyncio.create_task(read(clients[n % 2], run)) for n, run in enumerate(runs)]
    most, held = 0, 0
    while not all(task.done() for task in reads):
        most = max(most, len(await redis.client_list()))
        # Three to begin and to end, one each to look, to keep alive, and to write what was used.
        held += server.checked_out() > 6
        await asyncio.sleep(0.05)
    assert [check_run(await task) for task in reads] == [slow(40).text] * 60
    assert most - before <= 6
    assert held == 0
    async with asyncio.timeout(10):
        while server.checked_out() or server.resources.runs._runs:
            await asyncio.sleep(0.02)
    assert not server.resources.runs._readers
    assert not server.resources.runs._tails._tails


async def test_readers_that_leave_at_once_leave_nothing(
    server: Server, reader: Person, provider: ProviderServer
) -> None:
    provider.script(slow(4000))
    run = await begin(reader, detached=True)
    tasks = len(asyncio.all_tasks())

    async def leave(count: int) -> None:
        async with reading(server.client, run) as frames:
            await take(frames, count)

    for _ in range(5):
        await asyncio.gather(*(leave(1 + n % 5) for n in range(15)))
    async with asyncio.timeout(10):
        while server.resources.runs._readers or len(asyncio.all_tasks()) > tasks + 20:
            await asyncio.sleep(0.05)
    await cancel(reader, run)
    check_run(await read(server.client, run), status="cancelled")
    await provider.wait_until(lambda: provider.open_streams == 0)
