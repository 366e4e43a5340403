"""The lease on a document: who may write its chunks. Time is the database's clock.

A claim raises the document's fencing token. Whoever writes checks, under a row lock and in the
same transaction, that the row still holds the token it was given: a worker that was frozen, or
whose document was deleted or taken over, then writes nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.core.db import Database
from app.core.metrics import INGESTION_OUTCOMES
from app.ingestion.outcomes import IngestErrorCode, remedy_of

log = structlog.get_logger(__name__)

LEASE_S = 30
HEARTBEAT_S = 8
MAX_ATTEMPTS = 3
_POISON = {
    "max_attempts": MAX_ATTEMPTS,
    "code": IngestErrorCode.POISON_DOCUMENT,
    "message": remedy_of(IngestErrorCode.POISON_DOCUMENT),
}

# Claims come one after the other, so that two of them can't both take an organization's last place.
_LOCK_CLAIMS = text("SELECT pg_advisory_xact_lock(7330402110)")
# The organization with the fewest documents in work comes first, and of those the one whose last
# turn is longest ago, so that one with a thousand files does not hold up another's one. A document
# that waits for text recognition has no lease.
_CLAIM = text(f"""
    UPDATE documents SET status = 'processing', stage = 'parsing', lease_token = lease_token + 1,
        lease_expires_at = now() + interval '{LEASE_S} seconds', attempts = attempts + 1,
        updated_at = now()
    WHERE (org_id, id) = (
        SELECT d.org_id, d.id FROM documents d
        JOIN organizations o ON o.id = d.org_id
        LEFT JOIN (SELECT org_id, count(*) AS running FROM documents
                   WHERE status = 'processing' AND lease_expires_at IS NOT NULL
                   GROUP BY org_id) p ON p.org_id = d.org_id
        WHERE d.status = 'queued' AND coalesce(p.running, 0) < :per_org
        ORDER BY coalesce(p.running, 0), o.ingested_at NULLS FIRST, d.queued_at, d.id
        LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
    RETURNING org_id, id, uploaded_by, filename, media_type, version, lease_token, generation,
        checkpoint_chunks, checkpoint_digest, sealed_password
""")  # noqa: S608  # a constant
_TAKE_TURN = text("UPDATE organizations SET ingested_at = clock_timestamp() WHERE id = :org_id")
_RENEW = text(f"""
    UPDATE documents SET lease_expires_at = now() + interval '{LEASE_S} seconds'
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
""")  # noqa: S608  # a constant
_HOLD = text("""
    SELECT true FROM documents
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
    FOR UPDATE
""")
# A row that is locked is being worked at; a later sweep takes it over if need be.
_LET_GO_EXPIRED = text("""
    UPDATE documents SET stage = NULL, lease_expires_at = NULL, updated_at = now(),
        status = CASE WHEN attempts >= :max_attempts THEN 'failed' ELSE 'queued' END,
        error_code = CASE WHEN attempts >= :max_attempts THEN :code END,
        error_message = CASE WHEN attempts >= :max_attempts THEN :message END,
        sealed_password = CASE WHEN attempts < :max_attempts THEN sealed_password END
    WHERE (org_id, id) IN (
        SELECT org_id, id FROM documents
        WHERE status = 'processing' AND lease_expires_at < now() FOR UPDATE SKIP LOCKED)
    RETURNING id, status
""")
_GIVE_WAY = text("""
    UPDATE documents SET status = 'queued', stage = NULL, lease_expires_at = NULL,
        attempts = greatest(attempts - 1, 0), updated_at = now()
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
""")
# A wake-up takes a moment; one that waits for longer waits for a place.
_OTHERS_WAIT = text("""
    SELECT EXISTS (
        SELECT FROM documents d
        WHERE d.status = 'queued' AND d.org_id <> :org_id
          AND d.updated_at < now() - interval '2 seconds'
          AND NOT EXISTS (SELECT FROM documents r WHERE r.org_id = d.org_id
                          AND r.status = 'processing' AND r.lease_expires_at IS NOT NULL))
""")
_REQUEUE_ALL = text("""
    UPDATE documents SET status = 'queued', stage = NULL, lease_expires_at = NULL,
        attempts = greatest(attempts - 1, 0), updated_at = now()
    WHERE status = 'processing'
""")
_RELEASE_OCR_PAGES = text("""
    UPDATE ocr_pages SET lease_expires_at = NULL, attempts = greatest(attempts - 1, 0)
    WHERE text IS NULL AND lease_expires_at IS NOT NULL
""")


class LeaseLost(Exception):
    """Somebody else owns the document now, or it is being deleted: stop and write nothing."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is committed of the generation in the making: `chunks` many, and what they are made of.

    `digest` is that of `app/ingestion/checkpoints.py`, None when nothing is committed.
    """

    chunks: int = 0
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """One claimed document. Readers see `generation` while this works on the next.

    Who works on it acts for `user_id`, who uploaded it: nobody else could have made it private.
    """

    org_id: UUID
    document_id: UUID
    filename: str
    media_type: str
    token: int
    generation: int
    version: int = 1
    checkpoint: Checkpoint = Checkpoint()
    sealed_password: bytes | None = None
    user_id: UUID | None = None

    @property
    def key(self) -> dict[str, object]:
        return {"org_id": self.org_id, "id": self.document_id, "token": self.token}


async def claim_next(session: AsyncSession, *, per_org: int) -> Lease | None:
    """Claim the next queued document, fair between organizations; None when there is none.

    At most `per_org` documents of an organization are in work at once. Needs a system transaction.
    Two workers never get the same document.
    """
    await session.execute(_LOCK_CLAIMS)
    row = (await session.execute(_CLAIM, {"per_org": per_org})).one_or_none()
    if row is None:
        return None
    await session.execute(_TAKE_TURN, {"org_id": row.org_id})
    return Lease(
        row.org_id,
        row.id,
        row.filename,
        row.media_type,
        row.lease_token,
        row.generation,
        row.version,
        Checkpoint(row.checkpoint_chunks, row.checkpoint_digest),
        row.sealed_password,
        row.uploaded_by,
    )


async def hold(session: AsyncSession, lease: Lease) -> None:
    """Lock the document's row until the transaction ends. Raises LeaseLost."""
    if await session.scalar(_HOLD, lease.key) is None:
        raise LeaseLost


async def take_over_expired(session: AsyncSession) -> None:
    """Take every document whose worker is gone back into the queue, or fail it as poison.

    Needs a system transaction.
    """
    for row in await session.execute(_LET_GO_EXPIRED, _POISON):
        log.warning("lease_expired", document_id=str(row.id), status=row.status)
        INGESTION_OUTCOMES.labels(outcome="lease_expired").inc()


async def others_wait(session: AsyncSession, lease: Lease) -> bool:
    """Say whether an organization with nothing in work waits. Needs a system transaction."""
    return bool(await session.scalar(_OTHERS_WAIT, {"org_id": lease.org_id}))


async def give_way(session: AsyncSession, lease: Lease) -> None:
    """Back to the queue, at its place in it; what was committed stays. Raises LeaseLost."""
    await hold(session, lease)
    await session.execute(_GIVE_WAY, lease.key)


async def requeue_all(database_url: str) -> None:
    """Give back every claimed document with its attempt, as if it had never been claimed.

    For when no worker lives: they were stopped, and their documents are not to blame. A worker
    that lives all the same loses its lease. Connects as the owner, who sees all organizations.
    """
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(_REQUEUE_ALL)
            await connection.execute(_RELEASE_OCR_PAGES)
    finally:
        await engine.dispose()


@asynccontextmanager
async def kept_alive(
    db: Database, lease: Lease, *, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[None]:
    """Renew the lease while the block runs. Raises LeaseLost out of the block when it is gone."""
    owner = asyncio.current_task()
    assert owner is not None  # noqa: S101  # a context manager of asyncio runs in a task
    lost = asyncio.Event()

    async def renew() -> None:
        while True:
            await asyncio.sleep(heartbeat_s)
            try:
                async with db.transaction(lease) as session:
                    renewed = await session.execute(_RENEW, lease.key)
            except (SQLAlchemyError, OSError) as error:
                # The database is away. The fencing token decides, when it is back, who may write.
                log.warning("lease_not_renewed", error=type(error).__name__)
                continue
            if renewed.rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE has a rowcount
                lost.set()
                owner.cancel()
                return

    heartbeat = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if not lost.is_set():
            raise
        owner.uncancel()
        raise LeaseLost from None
    finally:
        heartbeat.cancel()
        with suppress(asyncio.CancelledError):
            await heartbeat
