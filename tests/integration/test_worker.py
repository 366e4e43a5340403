"""A real Celery worker process: it picks uploads up, survives a killed child, and stops."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.config import Settings
from app.core.process import die_with_parent
from app.core.redis import WORKER_HEARTBEAT_KEY
from app.ingestion.sweep import Sweeper
from app.llm.dimensions import dimensions_key
from app.resources import Resources
from tests.pdfs import long_pdf
from tests.people import Person, sign_in
from tests.provider_server import DIMENSIONS, Failure, ProviderServer, Reply
from tests.stack_process import wait_until

pytestmark = pytest.mark.usefixtures("undecided")


class WorkerProcess:
    """`python -m app worker` with two children, embedding over HTTP."""

    def __init__(self, settings: Settings, provider: ProviderServer, folder: Path) -> None:
        self.log = folder / "worker.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "worker"],
                env={
                    **os.environ,
                    "DATABASE_URL": settings.database_url,
                    "REDIS_URL": settings.redis_url,
                    "DATA_DIR": str(settings.data_dir),
                    "OPENAI_API_KEY": "key",
                    "OPENAI_BASE_URL": provider.openai_url,
                    "EMBEDDING_MODEL": "openai/embed-test",
                    "OLLAMA_BASE_URL": "http://127.0.0.1:9",
                    "WORKER_CONCURRENCY": "2",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )

    def wait_for(self, event: str, *, times: int = 1) -> None:
        def has_happened() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.log.read_text().count(event) >= times

        wait_until(has_happened)

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
async def worker(
    settings: Settings,
    provider: ProviderServer,
    resources: Resources,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(settings, provider, tmp_path_factory.mktemp("worker"))
    try:
        await asyncio.to_thread(process.wait_for, "worker_ready")
        yield process
    finally:
        process.process.terminate()
        await asyncio.to_thread(process.process.wait, 30)


@pytest.fixture(autouse=True)
def good_manners(provider: ProviderServer) -> Iterator[None]:
    yield
    provider.default = Reply()


async def upload(person: Person, content: bytes, filename: str) -> str:
    return str((await person.upload(filename, content)).json()["document_id"])


async def wait_for_status(person: Person, document_id: str, status: str) -> dict[str, object]:
    async with asyncio.timeout(60):
        while True:
            response = await person.get(f"/api/v1/documents/{document_id}")
            document: dict[str, object] = response.json()
            if document["status"] == status:
                return document
            await asyncio.sleep(0.05)


async def ordinals_of(resources: Resources, document_id: str) -> list[int]:
    async with resources.db.system_transaction() as session:
        rows = await session.scalars(
            text("SELECT ordinal FROM chunks WHERE document_id = :id ORDER BY 1"),
            {"id": UUID(document_id)},
        )
        return list(rows)


async def test_an_upload_is_picked_up_and_a_deletion_carried_out(
    person: Person, resources: Resources, worker: WorkerProcess
) -> None:
    document_id = await upload(person, b"The worker reads this.", "a.txt")
    document = await wait_for_status(person, document_id, "ready")
    assert document["chunk_count"] == 1
    await person.delete(f"/api/v1/documents/{document_id}")
    path = resources.storage.path(person.org_id, UUID(document_id))
    await asyncio.to_thread(wait_until, lambda: not path.exists())


async def test_a_deleted_organization_goes_by_itself(
    person: Person, resources: Resources, worker: WorkerProcess
) -> None:
    document_id = await upload(person, b"The worker removes this, too.", "a.txt")
    await wait_for_status(person, document_id, "ready")
    name = {"confirm": person.tokens["organization"]["name"]}
    asked = await person.client.request(
        "DELETE", "/api/v1/organization", json=name, headers=person.headers
    )
    again = await sign_in(person.client, person.email)
    async with asyncio.timeout(60):  # the API sweeps every 5 s
        while True:
            url = f"/api/v1/organization-deletions/{asked.json()['id']}"
            receipt = (await again.get(url)).json()
            if receipt["verified_at"] is not None:
                break
            await asyncio.sleep(0.1)
    assert receipt["rows"]["documents"] == 1
    assert not resources.storage.has_organization(person.org_id)


async def test_its_heartbeat_comes_again_and_again(redis_url: str, worker: WorkerProcess) -> None:
    async with Redis.from_url(redis_url) as redis, asyncio.timeout(30):
        for _ in range(2):
            while not await redis.get(WORKER_HEARTBEAT_KEY):
                await asyncio.sleep(0.1)
            assert 0 < await redis.ttl(WORKER_HEARTBEAT_KEY) <= 15
            await redis.delete(WORKER_HEARTBEAT_KEY)


async def test_a_flushed_broker_loses_nothing(
    person: Person, resources: Resources, worker: WorkerProcess, redis_url: str
) -> None:
    async with Redis.from_url(redis_url) as redis:
        for n in range(3):
            await redis.flushall()
            document_id = await upload(person, f"Flushed {n}.".encode(), f"{n}.txt")
            await redis.flushall()
            await wait_for_status(person, document_id, "ready")  # the API sweeps every 5 s


async def test_a_child_killed_in_mid_document_does_not_lose_it(
    person: Person,
    resources: Resources,
    worker: WorkerProcess,
    provider: ProviderServer,
    redis_url: str,
) -> None:
    async with Redis.from_url(redis_url) as redis:  # or the first call would ask for the width
        await redis.set(dimensions_key("openai", "embed-test"), DIMENSIONS)
    provider.calls.clear()
    provider.script(Reply())
    provider.default = Reply(failure=Failure.HANG)
    content = long_pdf(120)
    document_id = await upload(person, content, "long.pdf")
    await provider.wait_until(lambda: len(provider.calls) >= 2)
    provider.default = Reply()
    children = worker.children()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until, lambda: not set(children) & set(worker.children()))
    assert (await person.get(f"/api/v1/documents/{document_id}")).json()["status"] == "processing"
    assert len(await ordinals_of(resources, document_id)) == 100

    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE documents SET lease_expires_at = now() WHERE id = :id"),
            {"id": UUID(document_id)},
        )
    await Sweeper(resources.db, resources.storage).sweep()
    document = await wait_for_status(person, document_id, "ready")
    ordinals = await ordinals_of(resources, document_id)
    assert ordinals == list(range(len(ordinals)))
    assert document["chunk_count"] == len(ordinals)


async def test_sigterm_lets_it_finish_its_document_and_stops_it(
    person: Person, worker: WorkerProcess, provider: ProviderServer
) -> None:
    provider.calls.clear()
    provider.delay_s = 1.0
    document_id = await upload(person, b"The last one before the end.", "last.txt")
    await provider.wait_until(lambda: len(provider.calls) >= 1)
    worker.process.terminate()
    assert await asyncio.to_thread(worker.process.wait, 25) == 0
    assert (await person.get(f"/api/v1/documents/{document_id}")).json()["status"] == "ready"
