"""Background jobs by name. They ride on the transaction: sent after commit, dropped on rollback.

A message is only a wake-up. What there is to do stands in Postgres, so a lost message delays work
until the next sweep and loses none.
"""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

# A wake-up that nobody took is stale soon: the sweeper sends a new one.
_EXPIRES_S = 30
_SEND_TIMEOUT_S = 3.0


class JobName(StrEnum):
    """What a worker can be woken for; `worker/tasks.py` has a task for each."""

    INGEST = "ingest"  # claim queued documents until there are none
    PURGE = "purge"  # remove what tombstoned documents left
    OCR = "ocr"  # recognize text on pages that have none
    REEMBED = "reembed"  # add the vectors that an embedding space lacks


# On the queue of another: the same workers have the embedding models, and none has to be told.
_QUEUES = {JobName.REEMBED: JobName.INGEST}


def queue_of(job: JobName) -> str:
    """Return the name of the queue on which a wake-up waits for a worker."""
    return _QUEUES.get(job, job)


def enqueue(session: AsyncSession, job: JobName) -> None:
    """Ask for a wake-up once this session's transaction has committed."""
    session.info.setdefault("jobs", []).append(job)


def take_jobs(session: AsyncSession) -> Sequence[JobName]:
    jobs: list[JobName] = session.info.pop("jobs", [])
    return jobs


def celery_broker_url(redis_url: str) -> str:
    """Return kombu's form of a redis-py URL (`unix://…` is `redis+socket://…` there)."""
    if redis_url.startswith("unix://"):
        path = redis_url.removeprefix("unix://").partition("?")[0]
        return f"redis+socket://{path}?virtual_host=1"
    return redis_url


class JobSender:
    """Sends wake-ups over Redis. A broker that is down costs a log line: the sweep sends again.

    Celery is imported for the first of them: a process that never sends one does without its 4 MB.
    """

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._celery: Celery | None = None
        self._opening = Lock()

    async def send_all(self, jobs: Sequence[JobName]) -> None:
        for job in jobs:
            await self.send(job)

    async def send(self, job: JobName) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await asyncio.to_thread(self._send, job)
        except OSError as error:  # TimeoutError is one
            log.warning("job_not_sent", job=str(job), error=type(error).__name__)

    def _send(self, job: JobName) -> None:
        """In a thread: it waits, and the first import takes long. Raises OSError."""
        from kombu.exceptions import OperationalError  # noqa: PLC0415

        with self._opening:
            celery = self._celery = self._celery or _open_celery(self._redis_url)
        try:
            celery.send_task(job, queue=queue_of(job), expires=_EXPIRES_S, retry=False)
        except OperationalError as error:
            raise ConnectionError("The broker does not answer.") from error

    def close(self) -> None:
        if self._celery is not None:
            self._celery.close()


def _open_celery(redis_url: str) -> "Celery":
    from celery import Celery  # noqa: PLC0415

    celery = Celery("footnote", broker=celery_broker_url(redis_url), set_as_current=False)
    celery.conf.update(
        broker_connection_timeout=1,
        broker_transport_options={"socket_timeout": 1, "socket_connect_timeout": 1},
        task_ignore_result=True,
    )
    return celery
