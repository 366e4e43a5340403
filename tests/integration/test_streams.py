"""Streams over a real socket: clients that leave, silence, many at once, a server that stops."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from app.config import Settings
from app.core.http_protocol import BoundedHttpProtocol
from app.core.sse import StreamTiming
from app.dependencies import get_stream_timing
from app.ingestion.pipeline import Ingester
from app.main import create_app
from app.resources import Resources
from tests.conftest import ingest_all
from tests.frames import check_stream, iter_frames, parse_frames
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply
from tests.stack_process import free_port

ANSWER = "The zoo keeps seven zebras [1], twelve giraffes [1] and a lion, says the report."
MODELS = ["openai/gpt-4.1-mini", "ollama/llama3.2"]


@dataclass(frozen=True, slots=True)
class Server:
    app: FastAPI
    client: httpx2.AsyncClient

    @property
    def resources(self) -> Resources:
        opened: Resources = self.app.state.resources
        return opened

    def checked_out(self) -> int:
        """Connections to the database that somebody holds right now."""
        return sum(_pool(engine).checkedout() for engine in _engines(self.resources))


def _engines(resources: Resources) -> tuple[AsyncEngine, AsyncEngine]:
    return resources.db._app, resources.db._system


def _pool(engine: AsyncEngine) -> QueuePool:
    pool = engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    return pool


@asynccontextmanager
async def listen(settings: Settings) -> AsyncIterator[Server]:
    """The app behind uvicorn, on a socket, in this event loop."""
    app = create_app(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=BoundedHttpProtocol, log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=base_url, timeout=30, limits=limits) as client:
            yield Server(app, client)
        server.should_exit = True
        await serving


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return Reply(text=ANSWER)


@pytest.fixture(scope="module")
def configured(settings: Settings, provider: ProviderServer) -> Settings:
    return with_openai(settings, provider, ollama_base_url=provider.url)


@pytest.fixture(scope="module")
async def server(configured: Settings) -> AsyncIterator[Server]:
    async with listen(configured) as server:
        await server.client.get("/health/ready")  # has looked for models when it returns
        yield server


@pytest.fixture(scope="module")
async def zoo(client: httpx2.AsyncClient, server: Server, ingester: Ingester) -> Person:
    person = await register(client, f"zoo-{uuid4().hex}@example.com")
    await person.upload("zoo.txt", b"The zoo keeps seven zebras, twelve giraffes and one lion.")
    await ingest_all(ingester)
    return replace(person, client=server.client)


def question(model: str = MODELS[0], **options: Any) -> dict[str, Any]:
    return {
        "messages": [{"content": "How many zebras does the zoo keep?"}],
        "model": model,
    } | options


@asynccontextmanager
async def open_stream(
    person: Person, path: str = "/api/v1/chat/stream", **options: Any
) -> AsyncIterator[httpx2.Response]:
    async with person.client.stream(
        "POST", path, json=question(**options), headers=person.headers
    ) as response:
        yield response


async def leave_mid_stream(person: Person, model: str) -> None:
    """Read one token and close the connection."""
    async with open_stream(person, model=model) as response:
        assert response.status_code == 200
        async for frame in iter_frames(response):
            if frame.type == "token":
                return


def tasks_of_answers() -> list[str]:
    names = [repr(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in names if "AnswerStream" in name or "while_connected" in name]


async def settle(server: Server) -> None:
    """Until nothing of an answer is left. Fails by the timeout of the test."""
    async with asyncio.timeout(10):
        while tasks_of_answers() or server.checked_out():
            await asyncio.sleep(0.02)


# Clients that leave


@pytest.mark.parametrize("failure", [Failure.STALL, Failure.STALL_COMMENTS])
@pytest.mark.parametrize("model", MODELS)
async def test_a_reader_that_leaves_closes_the_providers_socket(
    server: Server, zoo: Person, provider: ProviderServer, model: str, failure: Failure
) -> None:
    aborts = provider.aborts
    provider.script(Reply(text=ANSWER, failure=failure))
    await leave_mid_stream(zoo, model)
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    assert provider.open_streams == 0
    await settle(server)


@pytest.mark.parametrize("model", MODELS)
async def test_a_reader_that_leaves_a_model_at_work_closes_its_socket(
    server: Server, zoo: Person, provider: ProviderServer, model: str
) -> None:
    aborts = provider.aborts
    provider.script(Reply(text="word " * 4000, chunk_delay_s=0.002))
    await leave_mid_stream(zoo, model)
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    await settle(server)


@pytest.mark.parametrize("path", ["/api/v1/chat/", "/api/v1/chat/stream"])
@pytest.mark.parametrize("model", MODELS)
async def test_a_client_that_leaves_before_the_first_token_closes_the_socket(
    server: Server, zoo: Person, provider: ProviderServer, model: str, path: str
) -> None:
    aborts = provider.aborts
    provider.script(Reply(failure=Failure.HANG))
    asking = asyncio.create_task(zoo.post(path, json=question(model)))
    await provider.wait_until(lambda: provider.open_streams == 1)
    asking.cancel()
    await asyncio.wait([asking])
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    await settle(server)


async def test_forty_readers_that_leave_at_once_leave_nothing(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    tasks = len(asyncio.all_tasks())
    provider.script(*[Reply(text=ANSWER, failure=Failure.STALL)] * 40)
    await asyncio.gather(*(leave_mid_stream(zoo, MODELS[n % 2]) for n in range(40)))
    await provider.wait_until(lambda: provider.aborts == aborts + 40)
    assert provider.open_streams == 0
    await settle(server)
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > tasks + 2:  # both ends of kept-alive connections
            await asyncio.sleep(0.05)
    # The pools of the providers' clients are as good as before.
    async with open_stream(zoo) as response:
        check_stream([frame async for frame in iter_frames(response)])


# Streams that stay


async def test_no_connection_to_the_database_is_held_while_streaming(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text=ANSWER, failure=Failure.STALL))
    async with open_stream(zoo) as response:
        async for frame in iter_frames(response):
            if frame.type == "token":
                break
        assert provider.open_streams == 1
        async with asyncio.timeout(10):
            while server.checked_out():  # the sweeper's, for a moment
                await asyncio.sleep(0.01)
    await settle(server)


async def test_a_silent_provider_is_covered_by_pings(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    server.app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(ping_s=0.05)
    provider.script(Reply(text=ANSWER, failure=Failure.STALL))
    try:
        seen: list[str] = []
        async with open_stream(zoo) as response:
            async for frame in iter_frames(response):
                seen.append(frame.type)
                if seen.count("ping") == 3:
                    assert frame.id is None
                    break
    finally:
        server.app.dependency_overrides.clear()
    assert seen[0] == "start"
    assert seen[-3:] == ["ping"] * 3


async def test_fifty_streams_at_once_all_complete(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    provider.script(*[Reply(text=ANSWER, chunk_delay_s=0.01)] * 50)

    async def read() -> str:
        async with open_stream(zoo) as response:
            assert response.status_code == 200
            return check_stream([frame async for frame in iter_frames(response)])

    answers = await asyncio.gather(*(read() for _ in range(50)))
    assert answers == [ANSWER] * 50
    await settle(server)


async def test_a_reader_that_does_not_read_is_dropped(
    server: Server, zoo: Person, provider: ProviderServer
) -> None:
    server.app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(send_timeout_s=0.3)
    aborts = provider.aborts
    provider.script(Reply(text=("x" * 20_000 + " ") * 1000))
    body = json.dumps(question()).encode()
    head = (
        f"POST /api/v1/chat/stream HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Authorization: {zoo.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", zoo.client.base_url.port))
            await loop.sock_sendall(client, head.encode() + body)
            await provider.wait_until(lambda: provider.aborts == aborts + 1)
            await settle(server)
    finally:
        server.app.dependency_overrides.clear()


# A server that stops


@asynccontextmanager
async def api_process(
    settings: Settings, log: Path, **changes: str
) -> AsyncIterator[tuple[str, Any]]:
    """`python -m app api` as a process of its own, and its address.

    `changes` are further variables.
    """
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "DATA_DIR": str(settings.data_dir),
        "OPENAI_API_KEY": settings.openai_api_key.get_secret_value(),
        "OPENAI_BASE_URL": settings.openai_base_url,
        "OLLAMA_BASE_URL": settings.ollama_base_url,
        "DEFAULT_PLAN": settings.default_plan,
        "PORT": str(port),
        **changes,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "api"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(60), httpx2.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"{url}/health")
                    break
                except httpx2.TransportError:
                    assert process.poll() is None, log.read_text()
                    await asyncio.sleep(0.1)
        yield url, process
    finally:
        process.kill()
        process.wait()


async def test_sigterm_ends_open_streams_with_a_last_frame(
    configured: Settings, zoo: Person, provider: ProviderServer, tmp_path: Path
) -> None:
    short, endless = "one two three four " * 5, "word " * 4000
    log = tmp_path / "api.out"
    async with (
        api_process(configured, log) as (url, process),
        httpx2.AsyncClient(base_url=url, timeout=60) as client,
    ):
        person = replace(zoo, client=client)

        async def read(model: str, reply: Reply) -> str:
            provider.by_model[model] = reply
            async with open_stream(person, model=f"openai/{model}") as response:
                assert response.status_code == 200
                await response.aread()
                return response.text

        finishing = asyncio.create_task(read("short", Reply(text=short, chunk_delay_s=0.2)))
        await provider.wait_until(lambda: provider.open_streams == 1)
        going_on = asyncio.create_task(read("endless", Reply(text=endless, chunk_delay_s=0.05)))
        await provider.wait_until(lambda: provider.open_streams == 2)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        # What can end in the server's grace ends as if nothing had happened.
        assert check_stream(parse_frames(await finishing)) == short
        frames = parse_frames(await going_on)
        written = check_stream(frames, status="failed")
        assert endless.startswith(written)
        assert frames[-2].data["code"] == "shutting_down"
        assert frames[-2].data["retryable"] is True
        await provider.wait_until(lambda: provider.open_streams == 0)
        assert await asyncio.to_thread(process.wait, 10) == 0, log.read_text()
        assert "Finished server process" in log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_api_leaves_with_status_0(
    configured: Settings, tmp_path: Path, signal_number: int
) -> None:
    log = tmp_path / "api.out"
    async with api_process(configured, log) as (_, process):
        process.send_signal(signal_number)
        assert await asyncio.to_thread(process.wait, 20) == 0, log.read_text()
        assert "Finished server process" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert "never retrieved" not in log.read_text()
