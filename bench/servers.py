"""Postgres, Redis and processes of the API, without a worker: for benchmarks of answers."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGUSR1, SIGUSR2
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import asyncpg
import httpx2
from redis import Redis as RedisClient

from app.core.process import die_with_parent
from app.local.postgres import Postgres
from app.local.redis import Redis
from app.migrations import upgrade
from bench.product import free_port

_START_TIMEOUT_S = 60
# Fewer than the product allows: who was cut comes back before all of that is noticed.
_STREAMS_PER_USER = 15
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass
class ApiProcess:
    """`python -m app api` on a port of its own. `folder` takes its log and what it tells."""

    env: Mapping[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    kills: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self.folder / "api.log"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.watched_api", str(self.folder)],
                env={**os.environ, **self.env, "PORT": str(self.port)},
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )

    def wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while '"models_ready"' not in self._log.read_text(errors="replace"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the API did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self.kills += 1
        self._process.send_signal(SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)

    def rss_mb(self) -> float:
        return _status_kb(self.pid, "VmRSS") / 1024

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def tasks(self) -> dict[str, int]:
        """How many asyncio tasks there are of each coroutine."""
        return {str(name): int(count) for name, count in self._tell(SIGUSR2, "tasks.json").items()}

    def start_profile(self) -> None:
        os.kill(self.pid, SIGUSR1)

    def stop_profile(self) -> dict[str, int]:
        """Return how many samples of CPU time met each stack, innermost function first."""
        return {
            str(stack): int(count) for stack, count in self._tell(SIGUSR1, "profile.json").items()
        }

    def complaints(self) -> list[str]:
        """Lines of its log above INFO."""
        return [
            line
            for line in self._log.read_text(errors="replace").splitlines()
            if '"level": "info"' not in line
        ]

    def _tell(self, signal_number: int, name: str) -> dict[str, Any]:
        """Have it write a file, and read that."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        os.kill(self.pid, signal_number)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not path.exists():
            if time.monotonic() > deadline:
                sys.exit(f"the API wrote no {name}")
            time.sleep(0.02)
        told: dict[str, Any] = json.loads(path.read_text())
        return told


@dataclass
class Servers:
    """What runs. `people`: the header Authorization of each user who signed up."""

    apis: list[ApiProcess]
    database_url: str
    redis_url: str
    people: list[str] = field(default_factory=list)

    def sign_up(self, count: int) -> None:
        """Add users with an organization of their own. A user may read a few streams only."""
        with (
            httpx2.Client(base_url=self.apis[0].url, timeout=60) as client,
            ThreadPoolExecutor(4) as threads,
        ):

            def register(_number: int) -> str:
                response = client.post(
                    "/api/v1/auth/register",
                    json={"email": f"bench-{uuid4().hex}@example.com", "password": "correct horse"},
                )
                return f"Bearer {response.raise_for_status().json()['access_token']}"

            # The first one alone: it makes the API load what it signs people up with.
            self.people.append(register(0))
            self.people += threads.map(register, range(1, count))

    def sign_up_for(self, streams: int) -> None:
        """Add as many users as may read that many streams at once."""
        self.sign_up(-(-streams // _STREAMS_PER_USER))

    def postgres_connections(self) -> int:
        """Those of the APIs: nothing else is connected."""
        return asyncio.run(self._fetch_number(_CONNECTIONS))

    def redis_connections(self) -> int:
        with self._redis() as redis:
            return len(redis.client_list()) - 1

    def flush_redis(self) -> None:
        with self._redis() as redis:
            redis.flushall()

    def _redis(self) -> RedisClient:
        return RedisClient(unix_socket_path=urlsplit(self.redis_url).path)

    async def _fetch_number(self, sql: str) -> int:
        address = urlsplit(self.database_url)
        options = parse_qs(address.query)
        connection = await asyncpg.connect(
            host=options["host"][0],
            port=int(options["port"][0]),
            user=address.username,
            password=address.password,
            database=address.path.strip("/"),
        )
        try:
            number: int = await connection.fetchval(sql)
            return number
        finally:
            await connection.close()


@contextmanager
def running_apis(count: int, provider_url: str, **settings: str) -> Iterator[Servers]:
    """Start the servers and `count` processes of the API, and stop it all."""
    with tempfile.TemporaryDirectory(prefix="footnote-bench-") as name:
        folder = Path(name)
        with Postgres(folder / "postgres") as postgres, Redis(folder / "redis") as redis:
            upgrade(postgres.url)
            env = {
                "DATABASE_URL": postgres.url,
                "REDIS_URL": redis.url,
                "DATA_DIR": str(folder / "data"),
                "OPENAI_BASE_URL": provider_url,
                "OPENAI_API_KEY": "stand-in",
                "OLLAMA_BASE_URL": "",
                "LOG_LEVEL": "INFO",
                "DEFAULT_PLAN": "enterprise",  # without rates
            } | settings
            apis = [ApiProcess(env, folder / f"api-{number}") for number in range(count)]
            servers = Servers(apis, postgres.url, redis.url)
            try:
                # One after the other: the first makes the key that all sign with.
                for api in apis:
                    api.start()
                    api.wait_until_ready()
                yield servers
            except Exception:
                for line in [line for api in apis for line in api.complaints()][-5:]:
                    print(line[-2000:], file=sys.stderr)
                raise
            finally:
                for api in apis:
                    api.stop()


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _status_kb(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0])
