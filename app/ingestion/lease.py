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

log = structlog.get_logger(__name__)

LEASE_S = 30
HEARTBEAT_S = 8
MAX_ATTEMPTS = 3

# The organization with the fewest documents in work comes first, so that one with a thousand
# files does not hold up another's one.
_CLAIM = text(f"""
    UPDATE documents SET status = 'processing', stage = 'parsing', percent = 0,
        lease_token = lease_token + 1, lease_expires_at = now() + interval '{LEASE_S} seconds',
        attempts = attempts + 1, updated_at = now()
    WHERE (org_id, id) = (
        SELECT d.org_id, d.id FROM documents d
        LEFT JOIN (SELECT org_id, count(*) AS running FROM documents
                   WHERE status = 'processing' GROUP BY org_id) p ON p.org_id = d.org_id
        WHERE d.status = 'queued'
        ORDER BY coalesce(p.running, 0), d.queued_at, d.id
        LIMIT 1 FOR UPDATE OF d SKIP LOCKED)
    RETURNING org_id, id, filename, media_type, lease_token, generation
""")  # noqa: S608  # a constant
_RENEW = text(f"""
    UPDATE documents SET lease_expires_at = now() + interval '{LEASE_S} seconds'
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
""")  # noqa: S608  # a constant
_HOLD = text("""
    SELECT true FROM documents
    WHERE org_id = :org_id AND id = :id AND lease_token = :token AND status = 'processing'
    FOR UPDATE
""")
_REQUEUE_ALL = text("""
    UPDATE documents SET status = 'queued', stage = NULL, percent = 0, lease_expires_at = NULL,
        attempts = greatest(attempts - 1, 0), updated_at = now()
    WHERE status = 'processing'
""")


class LeaseLost(Exception):
    """Somebody else owns the document now, or it is being deleted: stop and write nothing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One claimed document. Readers see `generation` while this works on the next."""

    org_id: UUID
    document_id: UUID
    filename: str
    media_type: str
    token: int
    generation: int

    @property
    def key(self) -> dict[str, object]:
        return {"org_id": self.org_id, "id": self.document_id, "token": self.token}


async def claim_next(session: AsyncSession) -> Lease | None:
    """Claim the next queued document, fair between organizations; None when there is none.

    Needs a system transaction. Two workers never get the same document.
    """
    row = (await session.execute(_CLAIM)).one_or_none()
    if row is None:
        return None
    return Lease(row.org_id, row.id, row.filename, row.media_type, row.lease_token, row.generation)


async def hold(session: AsyncSession, lease: Lease) -> None:
    """Lock the document's row until the transaction ends. Raises LeaseLost."""
    if await session.scalar(_HOLD, lease.key) is None:
        raise LeaseLost


async def requeue_all(database_url: str) -> None:
    """Give back every claimed document with its attempt, as if it had never been claimed.

    For when no worker lives: they were stopped, and their documents are not to blame. A worker
    that lives all the same loses its lease. Connects as the owner, who sees all organizations.
    """
    engine = create_async_engine(database_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(_REQUEUE_ALL)
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
