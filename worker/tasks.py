"""One short task for each JobName, without arguments: it asks Postgres what there is to do."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

from app.core.jobs import JobName
from app.documents.deletion import purge_next
from app.documents.organization_removal import remove_next_organization
from app.ingestion.pipeline import ingest_next
from app.ingestion.recognition import Recognizer, do_without, recognize_next
from app.ingestion.reembedding import Filler, fill_next
from app.resources import Resources, make_ingester
from worker.celery_app import celery_app, is_stopping
from worker.runtime import get_runtime

# A wake-up works for so long; then it rings again, so that others get their turn, and long before
# the time limit of a task.
_WAKE_UP_S = 300.0
# Pages and slices take long: after each, whoever shares the worker gets their turn.
_ONE_STEP_S = 0.0


@celery_app.task(name=JobName.INGEST)
def ingest() -> None:
    _repeat(JobName.INGEST, _purge_or_ingest_next)


@celery_app.task(name=JobName.OCR)
def ocr() -> None:
    _repeat(JobName.OCR, _recognize_next, seconds=_ONE_STEP_S)


@celery_app.task(name=JobName.PURGE)
def purge() -> None:
    _repeat(JobName.PURGE, _purge_next)


@celery_app.task(name=JobName.REEMBED)
def reembed() -> None:
    _repeat(JobName.REEMBED, lambda r: fill_next(Filler(r.db, r.embedders)), seconds=_ONE_STEP_S)


async def _purge_next(resources: Resources) -> bool:
    if await purge_next(resources.db, resources.storage):
        return True
    return await remove_next_organization(resources.db, resources.storage)


async def _purge_or_ingest_next(resources: Resources) -> bool:
    # Deletions don't wait behind a long queue of documents.
    if await purge_next(resources.db, resources.storage):
        return True
    return await ingest_next(make_ingester(resources))


async def _recognize_next(resources: Resources) -> bool:
    if resources.ocr is None:
        await do_without(resources.db)
        return False
    r = resources
    return await recognize_next(Recognizer(r.db, r.storage, r.sealer, resources.ocr))


def _repeat(
    job: JobName,
    step: Callable[[Resources], Coroutine[Any, Any, bool]],
    *,
    seconds: float = _WAKE_UP_S,
) -> None:
    """Call `step` until it finds nothing more to do, time is up, or the worker is to stop."""
    runtime = get_runtime()
    stop_at = time.monotonic() + seconds
    while runtime.run(step(runtime.resources)):
        if time.monotonic() >= stop_at or is_stopping():
            runtime.run(runtime.resources.jobs.send(job))
            return
