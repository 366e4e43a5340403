"""One short task for each JobName, without arguments: it asks Postgres what there is to do."""

from collections.abc import Callable, Coroutine
from typing import Any

from app.core.jobs import JobName
from app.documents.library import purge_next
from app.ingestion.pipeline import Ingester, ingest_next
from app.resources import Resources
from worker.celery_app import celery_app
from worker.runtime import get_runtime

# A wake-up works on at most so many documents; then it rings again, so that others get their turn.
_MAX_PER_WAKE_UP = 20


@celery_app.task(name=JobName.INGEST)
def ingest() -> None:
    _repeat(
        JobName.INGEST,
        lambda r: ingest_next(Ingester(r.db, r.storage, r.embedder, r.models.embedding)),
    )


@celery_app.task(name=JobName.PURGE)
def purge() -> None:
    _repeat(JobName.PURGE, lambda r: purge_next(r.db, r.storage))


def _repeat(job: JobName, step: Callable[[Resources], Coroutine[Any, Any, bool]]) -> None:
    """Call `step` until it finds nothing more to do."""
    runtime = get_runtime()
    for _ in range(_MAX_PER_WAKE_UP):
        if not runtime.run(step(runtime.resources)):
            return
    runtime.run(runtime.resources.jobs.send(job))
