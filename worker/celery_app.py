"""The Celery app. It is a doorbell: what there is to do, and who does it, stands in Postgres."""

import multiprocessing
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    heartbeat_sent,
    setup_logging,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)
from kombu.entity import Queue
from redis import Redis

from app.config import Settings
from app.core.jobs import JobName, celery_broker_url
from app.core.logging import configure_logging
from app.core.metrics import serve_metrics
from app.core.process import die_with_parent
from app.core.redis import REDIS_ERRORS, WORKER_HEARTBEAT_KEY, WORKER_HEARTBEAT_TTL_S
from worker import runtime

log = structlog.get_logger(__name__)

settings = Settings()
# Made before the fork, so that the children see what the main process is told.
_stopping = multiprocessing.Event()
_jobs = [JobName(name) for name in settings.worker_queues.split(",")]
celery_app = Celery(
    "footnote", broker=celery_broker_url(settings.redis_url), include=["worker.tasks"]
)
celery_app.conf.update(
    task_queues=[Queue(job) for job in _jobs],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_soft_time_limit=3540,
    task_time_limit=3600,
    worker_prefetch_multiplier=1,
    worker_proc_alive_timeout=60,  # s; on a busy machine opening the runtime can take over 4
    worker_max_memory_per_child=800_000,  # KiB
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_soft_shutdown_timeout=0,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        # Longer than the hard time limit, or a task would be started twice.
        "visibility_timeout": 7200,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        "health_check_interval": 25,
        "socket_keepalive": True,
    },
    accept_content=["json"],
)


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    configure_logging(settings.log_level)


@worker_process_init.connect
def _open_runtime(**_: Any) -> None:
    die_with_parent()
    runtime.open_runtime(settings)


@worker_process_shutdown.connect
def _close_runtime(**_: Any) -> None:
    runtime.close_runtime()


@worker_shutting_down.connect
def _tell_children(**_: Any) -> None:
    _stopping.set()


def is_stopping() -> bool:
    """Whether the worker was told to stop: it finishes what it is at and takes nothing new."""
    return _stopping.is_set()


@worker_ready.connect
def _announce(**_: Any) -> None:
    log.info("worker_ready")
    _beat()
    if settings.worker_metrics_port:
        serve_metrics(settings.worker_metrics_port)


@heartbeat_sent.connect
def _beat(**_: Any) -> None:
    """Tell the API's readiness check that a worker lives who ingests documents."""
    if JobName.INGEST not in _jobs:
        return
    try:
        with Redis.from_url(settings.redis_url, socket_timeout=1) as redis:
            redis.set(WORKER_HEARTBEAT_KEY, "1", ex=WORKER_HEARTBEAT_TTL_S)
    except REDIS_ERRORS as error:
        log.warning("heartbeat_not_stored", error=type(error).__name__)
