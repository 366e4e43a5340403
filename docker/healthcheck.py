"""Is this container well? Exit status 0 is yes, 1 is no.

`python healthcheck.py api|worker|ocr-worker`
"""

import os
import sys
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 3.0


def check_api() -> str | None:
    """Return what is wrong, or None. Asks for life, not readiness: a restart mends no database."""
    return _ask(int(os.environ.get("PORT") or 8000), "/health")


def check_ocr_worker() -> str | None:
    """Return what is wrong, or None. Its metrics are there from when it takes in work."""
    return _ask(int(os.environ["WORKER_METRICS_PORT"]), "/metrics")


def _ask(port: int, path: str) -> str | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer: {type(error).__name__}"
    finally:
        connection.close()
    return None if status == 200 else f"answered {status}"


def check_worker() -> str | None:
    """Return what is wrong, or None. The heartbeat is of any worker on this Redis that ingests."""
    # Only here: the API's check runs every few seconds and needs none of this.
    from redis import Redis  # noqa: PLC0415

    from app.core.redis import REDIS_ERRORS, WORKER_HEARTBEAT_KEY  # noqa: PLC0415

    try:
        with Redis.from_url(
            os.environ["REDIS_URL"], socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        ) as redis:
            is_beating = redis.exists(WORKER_HEARTBEAT_KEY)
    except REDIS_ERRORS as error:
        return f"no Redis: {type(error).__name__}"
    return None if is_beating else "no heartbeat"


CHECKS: Mapping[str, Callable[[], str | None]] = {
    "api": check_api,
    "worker": check_worker,
    "ocr-worker": check_ocr_worker,
}

if __name__ == "__main__":
    # A text becomes a line on stderr and the status 1.
    sys.exit(CHECKS[sys.argv[1]]())
