"""The periodic task of every API process, one at a time: nothing stays stuck and nothing is lost.

Re-queues documents whose worker died, sends wake-ups that the broker lost, clears unfinished
uploads, and measures the queue. There is no beat process.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import Database
from app.core.jobs import JobName, enqueue
from app.core.metrics import INGESTION_OUTCOMES, QUEUE_AGE_SECONDS, QUEUED_DOCUMENTS
from app.core.storage import BlobStore
from app.ingestion.lease import MAX_ATTEMPTS
from app.ingestion.outcomes import IngestErrorCode, remedy_of

log = structlog.get_logger(__name__)

SWEEP_INTERVAL_S = 5.0
_STALE_UPLOAD_S = 3600.0

_LOCK = text("SELECT pg_try_advisory_xact_lock(7330402109)")
_TAKE_OVER = text("""
    UPDATE documents SET stage = NULL, lease_expires_at = NULL, updated_at = now(),
        status = CASE WHEN attempts >= :max_attempts THEN 'failed' ELSE 'queued' END,
        error_code = CASE WHEN attempts >= :max_attempts THEN :code END,
        error_message = CASE WHEN attempts >= :max_attempts THEN :message END
    WHERE status = 'processing' AND lease_expires_at < now()
    RETURNING id, status
""")
# A wake-up that was sent a moment ago is probably on its way.
_QUEUE = text("""
    SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
        extract(epoch FROM now() - min(queued_at) FILTER (WHERE status = 'queued')) AS age_s,
        bool_or(status = 'queued' AND queued_at < now() - interval '2 seconds') AS wants_ingest,
        bool_or(status = 'deleting' AND queued_at < now() - interval '5 seconds') AS wants_purge
    FROM documents WHERE status IN ('queued', 'deleting')
""")


@dataclass(frozen=True, slots=True)
class Sweeper:
    db: Database
    storage: BlobStore

    async def run(self) -> None:
        """Sweep until cancelled. A database that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except (SQLAlchemyError, OSError) as error:
                log.warning("sweep_failed", error=type(error).__name__)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def sweep(self) -> None:
        """One round; does nothing while another process sweeps."""
        async with self.db.system_transaction() as session:
            if not await session.scalar(_LOCK):
                return
            await _take_over_dead_leases(session)
            queue = (await session.execute(_QUEUE)).one()
            QUEUED_DOCUMENTS.set(queue.queued)
            QUEUE_AGE_SECONDS.set(float(queue.age_s or 0))
            if queue.wants_ingest:
                enqueue(session, JobName.INGEST)
            if queue.wants_purge:
                enqueue(session, JobName.PURGE)
        for path in self.storage.iter_stale_incoming(older_than=time.time() - _STALE_UPLOAD_S):
            path.unlink(missing_ok=True)


async def _take_over_dead_leases(session: AsyncSession) -> None:
    poison = IngestErrorCode.POISON_DOCUMENT
    rows = await session.execute(
        _TAKE_OVER,
        {"max_attempts": MAX_ATTEMPTS, "code": poison, "message": remedy_of(poison)},
    )
    for row in rows:
        log.warning("lease_expired", document_id=str(row.id), status=row.status)
        INGESTION_OUTCOMES.labels(outcome="lease_expired").inc()
