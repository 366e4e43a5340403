"""How fast `POST /api/v1/search` is over one filing, with a stand-in embedding server at 0 ms.

python -m bench.search
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from bench.product import require_data, running_product, running_stand_in

FILING = "pdfs/3M_2018_10K.pdf"
QUESTIONS = "financebench_dev.jsonl"
PEER_P50_MS, PEER_RATE = 10.6, 145


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    require_data(options.data, FILING, QUESTIONS)
    lines = (options.data / QUESTIONS).read_text().splitlines()
    queries = [json.loads(line)["question"] for line in lines]
    for cache_ttl_s, label in (("3600", "query vectors cached"), ("0", "cache off")):
        with (
            running_stand_in() as url,
            running_product(
                OPENAI_BASE_URL=url,
                OPENAI_API_KEY="stand-in",
                EMBEDDING_MODEL="openai/text-embedding-3-small",
                DEFAULT_MODEL="extractive/extractive",
                QUERY_CACHE_TTL_S=cache_ttl_s,
                LOG_LEVEL="WARNING",
            ) as product,
        ):
            document = product.wait_until_done(product.upload(options.data / FILING))
            print(f"{label}; {document['chunk_count']} chunks")
            token = product.client.headers["Authorization"]
            run_load(product.base_url, token, queries, callers=1, seconds=2)  # warm up
            alone = run_load(product.base_url, token, queries, callers=1, seconds=options.seconds)
            print(
                f"   1 caller:  p50 {statistics.median(alone):.2f} ms,"
                f" p95 {statistics.quantiles(alone, n=20)[-1]:.2f} ms (peer: {PEER_P50_MS} ms)"
            )
            many = run_load(product.base_url, token, queries, callers=16, seconds=options.seconds)
            print(
                f"  16 callers: {len(many) / options.seconds:.0f} requests/s,"
                f" p50 {statistics.median(many):.1f} ms (peer: {PEER_RATE} requests/s)"
            )


def run_load(
    base_url: str, token: str, queries: list[str], *, callers: int, seconds: float
) -> list[float]:
    """Return the milliseconds of each request; the load runs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_load, (base_url, token, queries, callers, seconds))


def _load(
    base_url: str, token: str, queries: list[str], callers: int, seconds: float
) -> list[float]:
    return asyncio.run(_call_all(base_url, token, queries, callers, seconds))


async def _call_all(
    base_url: str, token: str, queries: list[str], callers: int, seconds: float
) -> list[float]:
    deadline = time.perf_counter() + seconds
    results = await asyncio.gather(
        *(_call(base_url, token, queries[n:] + queries[:n], deadline) for n in range(callers))
    )
    return [elapsed_ms for result in results for elapsed_ms in result]


async def _call(base_url: str, token: str, queries: list[str], deadline: float) -> list[float]:
    elapsed: list[float] = []
    async with open_caller(base_url, token) as caller:
        for query in cycle(queries):
            if time.perf_counter() > deadline:
                break
            elapsed.append(await caller.ask(query))
    return elapsed


@dataclass(frozen=True, slots=True)
class SearchCaller:
    """One caller on one connection. Bare HTTP: a client library would be half of the load."""

    head: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, query: str) -> float:
        """Search, and return the milliseconds that it took."""
        started = time.perf_counter()
        body = json.dumps({"query": query, "top_k": 5}).encode()
        self.writer.write(f"{self.head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        await self.reader.readexactly(length)
        return 1000 * (time.perf_counter() - started)


@asynccontextmanager
async def open_caller(base_url: str, token: str) -> AsyncIterator[SearchCaller]:
    """Connect. `token` is the whole value of the header Authorization."""
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    yield SearchCaller(
        f"POST /api/v1/search HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: {token}\r\n"
        "Content-Type: application/json\r\n",
        reader,
        writer,
    )
    writer.close()


if __name__ == "__main__":
    main()
