"""How much later than the provider's own our first token comes, with retrieval.

python -m bench.first_token
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop

from bench.product import Product, running_product
from bench.stand_in import running_paced
from bench.stream_clients import RUNS
from tests.nginx import running_nginx

GOAL_CACHED_MS, GOAL_NEW_MS, GOAL_NGINX_MS = 30, 60, 100
DOCUMENTS = 20
_WARM_UP_ROUNDS = 10
_TOPICS = ("cranes", "berths", "tugboats", "warehouses", "pilots", "customs", "fuel", "railways")
_PROVIDERS_TOKEN = re.compile(rb'"content":"[^"]')
_OUR_TOKEN = re.compile(rb'"type":"token"')

Timer = Callable[[], Awaitable[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--after-ms", type=int, default=50, help="the provider's own first token")
    options = parser.parse_args()
    model = f"paced-50x3-after{options.after_ms}"
    with (
        running_paced() as stand_in,
        running_product(
            OPENAI_BASE_URL=stand_in.url,
            OPENAI_API_KEY="stand-in",
            DEFAULT_MODEL=f"openai/{model}",
            LOG_LEVEL="WARNING",
        ) as product,
    ):
        ids = [
            product.upload_bytes(f"port-{number}.txt", make_text(number).encode())
            for number in range(DOCUMENTS)
        ]
        chunks = sum(int(str(product.wait_until_done(each)["chunk_count"])) for each in ids)
        print(
            f"{chunks} chunks of {DOCUMENTS} documents; the provider's first token comes after"
            f" {options.after_ms} ms"
        )
        with ExitStack() as stack:
            proxy_port = start_proxy(stack, product)
            own, ours = uvloop.run(
                measure(product, stand_in.port, model, options.rounds, proxy_port)
            )
    print(f"  provider alone: p50 {np.median(own):.1f} ms")
    for name, values in ours.items():
        p50, p95 = np.percentile(values, [50, 95])
        goal = GOAL_CACHED_MS if "cached" in name else GOAL_NEW_MS
        goal = GOAL_NGINX_MS if "nginx" in name else goal
        print(f"  {name}: p50 {p50:.1f} ms, p95 {p95:.1f} ms more (goal: p50 {goal} ms)")


def start_proxy(stack: ExitStack, product: Product) -> int | None:
    """Return the port of an nginx before the API, None where there is no nginx."""
    nginx, address = shutil.which("nginx"), urlsplit(product.base_url)
    if nginx is None:
        print("nginx is not installed: answers behind it are not measured")
        return None
    assert address.port is not None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    return urlsplit(stack.enter_context(running_nginx(nginx, address.port, folder))).port


def make_text(number: int) -> str:
    """A report of a port with some figures on each topic."""
    chance = random.Random(number)
    return "\n\n".join(
        f"{topic.capitalize()} of port {number}\n\n"
        + " ".join(
            f"In {year} port {number} counted {chance.randint(10, 999)} {topic}, and spent"
            f" {chance.randint(1, 90)} million on the upkeep of all its {topic} and their crews."
            for year in range(2010, 2025)
        )
        for topic in _TOPICS
    )


async def measure(
    product: Product, provider_port: int, model: str, rounds: int, proxy_port: int | None
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the provider's own times, and by how much each of our ways is above its round's."""
    clients = FirstTokens(product, provider_port, model)
    proxied = FirstTokens(product, provider_port, model, port=proxy_port)
    numbers = count()

    def new() -> str:
        number = next(numbers)
        return f"How many {_TOPICS[number % 8]} did port {number % DOCUMENTS} count? ({number})"

    always = new()
    ways: dict[str, Timer] = {
        "run and EventSource, query embedding cached": lambda: clients.time_run(always),
        "run and EventSource, new question": lambda: clients.time_run(new()),
        "/chat/stream, query embedding cached": lambda: clients.time_stream(always),
        "/chat/stream, new question": lambda: clients.time_stream(new()),
    }
    if proxy_port is not None:
        ways["/chat/stream, new question, behind nginx"] = lambda: proxied.time_stream(new())
    own: list[float] = []
    ours: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-_WARM_UP_ROUNDS, rounds):
        alone = await clients.time_provider()
        # No way always comes behind the same other one.
        for name in random.sample(sorted(ways), len(ways)):
            elapsed = await ways[name]()
            if turn >= 0:
                ours[name].append(elapsed - alone)
        if turn >= 0:
            own.append(alone)
    return own, ours


class FirstTokens:
    """Times first tokens in ms. Bare HTTP, and a connection for each request, for all ways."""

    def __init__(
        self, product: Product, provider_port: int, model: str, *, port: int | None = None
    ) -> None:
        port = port or urlsplit(product.base_url).port
        assert port is not None
        self._port = port
        self._provider_port = provider_port
        self._model = model
        self._authorization = f"Authorization: {product.client.headers['Authorization']}"

    async def time_provider(self) -> float:
        body = {"model": self._model, "messages": [], "stream": True}
        started = time.perf_counter()
        arrived, _ = await _request(
            self._provider_port, "POST /v1/chat/completions", [], body, _PROVIDERS_TOKEN
        )
        return 1000 * (arrived - started)

    async def time_stream(self, question: str) -> float:
        started = time.perf_counter()
        arrived, _ = await _request(
            self._port,
            "POST /api/v1/chat/stream",
            [self._authorization],
            _ask(question),
            _OUR_TOKEN,
        )
        return 1000 * (arrived - started)

    async def time_run(self, question: str) -> float:
        started = time.perf_counter()
        _, created = await _request(
            self._port, f"POST {RUNS}", [self._authorization], _ask(question), None
        )
        url = urlsplit(json.loads(created)["events_url"])
        arrived, _ = await _request(self._port, f"GET {url.path}?{url.query}", [], None, _OUR_TOKEN)
        return 1000 * (arrived - started)


def _ask(question: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}], "use_rag": True}


async def _request(
    port: int,
    line: str,
    headers: list[str],
    body: dict[str, object] | None,
    awaited: re.Pattern[bytes] | None,
) -> tuple[float, bytes]:
    """Return when `awaited` was there (the end, without one), and the body, read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{line} HTTP/1.1", "Host: bench", "Connection: close", *headers]
    head += ["Content-Type: application/json", f"Content-Length: {len(content)}", "", ""]
    writer.write("\r\n".join(head).encode() + content)
    answer, arrived = b"", None
    is_complete = False
    while not is_complete and (block := await reader.read(65_536)):
        answer += block
        if arrived is None and awaited is not None and awaited.search(answer):
            arrived = time.perf_counter()
        # The stand-in keeps the connection.
        is_complete = answer.endswith(b"\r\n0\r\n\r\n")
    writer.close()
    _, _, content = answer.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 20"), answer[:500]
    assert awaited is None or arrived is not None, answer[:500]
    return arrived or time.perf_counter(), content


if __name__ == "__main__":
    main()
