"""What it costs to count a request: one call to Redis for all levels.

python -m bench.limits
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles

from app.core.rates import Check, Count, Rate, RateStore
from app.core.redis import open_redis
from app.local.redis import Redis

_MANY = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000, help="of each kind, one after another")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="footnote-bench-") as folder,
        Redis(Path(folder) / "redis") as server,
    ):
        asyncio.run(measure(server.url, options.calls))


async def measure(redis_url: str, calls: int) -> None:
    redis = open_redis(redis_url, timeout_s=3.0, max_connections=8)
    store = RateStore(redis)
    rates: list[Check] = [
        Rate(f"{{o}}:{level}", _MANY, step_s=5.0)
        for level in ("organization", "address", "user", "key")
    ]
    ends_at = int(time.time()) + 3600
    counts = [Count(f"{{o}}:tokens:{level}", _MANY, 0, ends_at) for level in ("o", "user", "key")]
    for count in counts:
        await store.seed(count, 0)
    await show(store, "organization, address, tokens", [*rates[:2], counts[0]], calls)
    await show(store, "all levels", [*rates, *counts], calls)
    await redis.aclose(close_connection_pool=True)


async def show(store: RateStore, name: str, checks: Sequence[Check], calls: int) -> None:
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        verdict = await store.take(checks)
        seconds.append(time.perf_counter() - started)
        assert verdict.refused is None
        assert not verdict.is_local
    cuts = quantiles(seconds, n=100)
    print(
        f"{name} ({len(checks)} keys): p50 {1000 * cuts[49]:.3f} ms, p99 {1000 * cuts[98]:.3f} ms"
    )


if __name__ == "__main__":
    main()
