"""The sweep: dead leases, wake-ups that the broker lost, unfinished uploads."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from app.core.jobs import JobName, celery_broker_url, enqueue
from app.documents.deletion import purge_next
from app.documents.organization_removal import remove_next_organization
from app.ingestion.lease import MAX_ATTEMPTS, LeaseLost, claim_next, hold, requeue_all
from app.ingestion.pipeline import Ingester
from app.ingestion.sweep import Sweeper
from app.resources import Resources
from tests.conftest import ingest_all
from tests.people import Person


@pytest.fixture
async def sweeper(resources: Resources, ingester: Ingester) -> Sweeper:
    """With nothing queued and nothing to purge."""
    await ingest_all(ingester)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE organization_deletions SET requested_at = now() - interval '1 minute'")
        )
    while await purge_next(resources.db, resources.storage) or await remove_next_organization(
        resources.db, resources.storage
    ):
        pass
    return Sweeper(resources.db, resources.storage)


@pytest.fixture
async def broker(redis_url: str) -> AsyncIterator[Redis]:
    """The Redis database that Celery's queues lie in, empty."""
    url = celery_broker_url(redis_url)
    if url.startswith("redis+socket://"):
        path, _, options = url.removeprefix("redis+socket://").partition("?virtual_host=")
        url = f"unix://{path}?db={options}"
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        yield redis


async def upload(person: Person, content: bytes) -> str:
    return str((await person.upload("a.txt", content)).json()["document_id"])


async def update(resources: Resources, assignment: str, document_id: str) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE documents SET {assignment} WHERE id = :id"), {"id": UUID(document_id)}
        )


async def status_of(person: Person, document_id: str) -> str:
    return str((await person.get(f"/api/v1/documents/{document_id}")).json()["status"])


async def sweep_until_rung(sweeper: Sweeper, broker: Redis, job: JobName) -> None:
    # The API's own sweeper may be at it just now; then a round of ours does nothing.
    async with asyncio.timeout(10):
        while not await broker.llen(job):
            await sweeper.sweep()


async def test_a_wake_up_that_the_broker_lost_is_sent_again(
    person: Person, resources: Resources, sweeper: Sweeper, broker: Redis
) -> None:
    document_id = await upload(person, b"Its wake-up is lost.")
    assert await broker.llen(JobName.INGEST) == 1
    await broker.flushall()
    await update(resources, "queued_at = now() - interval '3 seconds'", document_id)
    await sweep_until_rung(sweeper, broker, JobName.INGEST)
    assert await broker.llen(JobName.PURGE) == 0


async def test_a_lost_purge_is_sent_again(
    person: Person, resources: Resources, sweeper: Sweeper, broker: Redis
) -> None:
    document_id = await upload(person, b"Deleted, and the wake-up is lost.")
    await person.delete(f"/api/v1/documents/{document_id}")
    assert await broker.llen(JobName.PURGE) == 1
    await broker.flushall()
    await update(resources, "queued_at = now() - interval '6 seconds'", document_id)
    await sweep_until_rung(sweeper, broker, JobName.PURGE)


async def test_a_deleted_organization_rings_until_it_is_gone(
    person: Person, resources: Resources, sweeper: Sweeper, broker: Redis
) -> None:
    name = {"confirm": person.tokens["organization"]["name"]}
    asked = await person.client.request(
        "DELETE", "/api/v1/organization", json=name, headers=person.headers
    )
    assert asked.status_code == 202, asked.text
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE organization_deletions SET attempted_at = now() - interval '6 seconds'")
        )
    await sweep_until_rung(sweeper, broker, JobName.PURGE)


async def test_a_rolled_back_transaction_rings_nobody(
    resources: Resources, sweeper: Sweeper, broker: Redis
) -> None:

    with pytest.raises(LookupError):
        async with resources.db.system_transaction() as session:
            enqueue(session, JobName.PURGE)
            raise LookupError
    assert await broker.llen(JobName.PURGE) == 0


async def test_nothing_to_do_rings_nobody(sweeper: Sweeper, broker: Redis) -> None:
    await sweeper.sweep()
    assert await broker.keys("*") == []


async def test_a_lease_that_holds_is_left_alone(
    person: Person, resources: Resources, sweeper: Sweeper
) -> None:
    document_id = await upload(person, b"Somebody works on it.")
    async with resources.db.system_transaction() as session:
        assert await claim_next(session, per_org=100) is not None
    await sweeper.sweep()
    assert await status_of(person, document_id) == "processing"
    await person.delete(f"/api/v1/documents/{document_id}")


async def test_what_stopped_workers_held_is_queued_again_with_all_its_attempts(
    person: Person, resources: Resources, sweeper: Sweeper, database_url: str
) -> None:
    # What other tests left claimed would come back too, and without its file.
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE documents SET status = 'failed', error_code = 'cancelled'"
                " WHERE status = 'processing'"
            )
        )
    document_id = await upload(person, b"It is not to blame.")
    for _ in range(MAX_ATTEMPTS + 1):
        async with resources.db.system_transaction() as session:
            lease = await claim_next(session, per_org=100)
        assert lease is not None
        await requeue_all(database_url)
        await sweeper.sweep()
        assert await status_of(person, document_id) == "queued"
        with pytest.raises(LeaseLost):
            async with resources.db.transaction(lease) as session:
                await hold(session, lease)
    await person.delete(f"/api/v1/documents/{document_id}")


async def test_only_one_process_sweeps(
    person: Person, resources: Resources, sweeper: Sweeper
) -> None:
    document_id = await upload(person, b"Its worker died.")
    async with resources.db.system_transaction() as session:
        assert await claim_next(session, per_org=100) is not None
    async with resources.db.system_transaction() as session:
        while not await session.scalar(text("SELECT pg_try_advisory_xact_lock(7330402109)")):
            await asyncio.sleep(0.01)
        await update(resources, "lease_expires_at = now() - interval '1 second'", document_id)
        await sweeper.sweep()
        assert await status_of(person, document_id) == "processing"
    async with asyncio.timeout(10):
        while await status_of(person, document_id) == "processing":
            await sweeper.sweep()
    assert await status_of(person, document_id) == "queued"
    await person.delete(f"/api/v1/documents/{document_id}")


async def test_unfinished_uploads_are_removed_after_an_hour(
    sweeper: Sweeper, data_dir: Path
) -> None:
    old, fresh = (data_dir / "files" / "incoming" / str(uuid4()) for _ in range(2))
    for path in (old, fresh):
        path.write_bytes(b"half a file")
    an_hour_ago = time.time() - 3601
    os.utime(old, (an_hour_ago, an_hour_ago))
    async with asyncio.timeout(10):
        while old.exists():
            await sweeper.sweep()
    assert fresh.exists()
    fresh.unlink()


async def test_uploads_are_taken_while_redis_is_away_and_ingested_later(
    person: Person, resources: Resources, sweeper: Sweeper, broker: Redis, ingester: Ingester
) -> None:
    # Stopped for everybody: no command is answered until it is over.
    await broker.client_pause(1500)
    response = await person.upload("a.txt", b"Redis does not answer.")
    assert response.status_code == 202
    await ingest_all(ingester)
    assert await status_of(person, response.json()["document_id"]) == "ready"
