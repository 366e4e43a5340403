"""The periodic task of every API process, one at a time: nothing stays stuck and nothing is lost.

Re-queues documents whose worker died, sends wake-ups that the broker lost, clears unfinished
uploads, and measures the queue. There is no beat process.
"""

import time
from dataclasses import dataclass

from sqlalchemy import text

from app.core.db import Database
from app.core.jobs import JobName, enqueue
from app.core.metrics import QUEUE_AGE_SECONDS, QUEUED_DOCUMENTS
from app.core.periodic import run_periodically
from app.core.storage import BlobStore
from app.ingestion import recognition
from app.ingestion.lease import take_over_expired
from app.ingestion.reembedding import ask_for_filler

SWEEP_INTERVAL_S = 5.0
_STALE_UPLOAD_S = 3600.0

_LOCK = text("SELECT pg_try_advisory_xact_lock(7330402109)")
# A wake-up that was sent a moment ago is probably on its way.
_QUEUE = text("""
    SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
        extract(epoch FROM now() - min(queued_at) FILTER (WHERE status = 'queued')) AS age_s,
        bool_or(status = 'queued' AND queued_at < now() - interval '2 seconds') AS wants_ingest,
        coalesce(bool_or(status = 'deleting' AND queued_at < now() - interval '5 seconds'), false)
            OR EXISTS (SELECT FROM deletions WHERE completed_at < now() - interval '5 seconds'
                       AND verified_at IS NULL)
            OR EXISTS (SELECT FROM organization_deletions
                       WHERE attempted_at < now() - interval '5 seconds'
                       AND verified_at IS NULL) AS wants_purge
    FROM documents WHERE status IN ('queued', 'deleting')
""")


@dataclass(frozen=True, slots=True)
class Sweeper:
    db: Database
    storage: BlobStore

    async def run(self) -> None:
        """Sweep until cancelled. A database that is away is waited for."""
        await run_periodically("sweep", self.sweep, SWEEP_INTERVAL_S)

    async def sweep(self) -> None:
        """One round; does nothing while another process sweeps."""
        async with self.db.system_transaction() as session:
            if not await session.scalar(_LOCK):
                return
            await take_over_expired(session)
            await recognition.keep_going(session)
            queue = (await session.execute(_QUEUE)).one()
            QUEUED_DOCUMENTS.set(queue.queued)
            QUEUE_AGE_SECONDS.set(float(queue.age_s or 0))
            if queue.wants_ingest:
                enqueue(session, JobName.INGEST)
            if queue.wants_purge:
                enqueue(session, JobName.PURGE)
            await ask_for_filler(session)
        for path in self.storage.iter_stale_incoming(older_than=time.time() - _STALE_UPLOAD_S):
            path.unlink(missing_ok=True)
