"""The Redis client. Redis may be down or wiped at any moment: callers treat it as a cache."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

REDIS_TIMEOUT_S = 0.25
REDIS_ERRORS = (RedisError, OSError, TimeoutError)

WORKER_HEARTBEAT_KEY = "footnote:worker:heartbeat"
WORKER_HEARTBEAT_TTL_S = 15


def open_redis(url: str, *, timeout_s: float = REDIS_TIMEOUT_S, max_connections: int = 20) -> Redis:
    """Return a client with a bounded pool; every call may raise one of REDIS_ERRORS."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
    )
    return Redis.from_pool(pool)
