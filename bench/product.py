"""The real product for a benchmark: `python -m app run` in a temporary folder, and a user."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
from redis import Redis

_START_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class Product:
    """A running Footnote. `pid` is the supervisor's."""

    base_url: str
    pid: int
    client: httpx2.Client
    data_dir: Path

    def upload(self, path: Path) -> str:
        """Upload a file and return its document's id."""
        return self.upload_bytes(path.name, path.read_bytes())

    def upload_bytes(self, filename: str, content: bytes) -> str:
        response = self.client.post("/api/v1/documents/upload", files={"file": (filename, content)})
        response.raise_for_status()
        return str(response.json()["document_id"])

    def wait_until_done(self, document_id: str, *, poll_s: float = 0.02) -> dict[str, object]:
        """Wait until the document is ready or failed, and return it."""
        while True:
            document: dict[str, object] = self.client.get(f"/api/v1/documents/{document_id}").json()
            if document["status"] in ("ready", "failed"):
                return document
            time.sleep(poll_s)

    def sign_up(self) -> None:
        """Go on as a new user with an organization of their own."""
        tokens = self.client.post(
            "/api/v1/auth/register",
            json={"email": f"bench-{uuid4().hex}@example.com", "password": "correct horse"},
        ).json()
        self.client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    def worker_pids(self) -> list[int]:
        """The worker's main processes and their children, but not what those start."""
        return [
            pid
            for pid, command in _processes()
            if "celery" in command and _descends_from(pid, self.pid)
        ]

    def peak_worker_mb(self) -> float:
        """The highest resident memory that any worker process had, in MB."""
        return max(
            int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
            for pid in self.worker_pids()
            for status in [Path(f"/proc/{pid}/status").read_text()]
        )

    def flush_redis(self) -> None:
        folder = (self.data_dir / "redis/socket-folder").read_text()
        with Redis(unix_socket_path=f"{folder}/redis.sock") as redis:
            redis.flushall()

    def query(self, sql: str) -> list[asyncpg.Record]:
        """Read as the database's owner, whom row-level security does not bind."""

        async def fetch() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(
                host=(self.data_dir / "postgres/socket-folder").read_text(),
                port=5432,
                user="footnote",
                database="footnote",
                password=(self.data_dir / "postgres/password").read_text().strip(),
            )
            try:
                rows: list[asyncpg.Record] = await connection.fetch(sql)
                return rows
            finally:
                await connection.close()

        return asyncio.run(fetch())


@contextmanager
def running_product(**settings: str) -> Iterator[Product]:
    """Start the product with these settings, sign up, and stop it again."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="footnote-bench-") as folder:
        log = Path(folder) / "run.log"
        with log.open("wb") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "app", "run"],
                env=os.environ
                | {"PORT": str(port), "DATA_DIR": f"{folder}/data"}
                | {"DEFAULT_PLAN": "enterprise"}  # without rates
                | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait_for(f"Footnote is ready on http://127.0.0.1:{port}", log, supervisor)
                base_url = f"http://127.0.0.1:{port}"
                with httpx2.Client(base_url=base_url, timeout=60) as client:
                    product = Product(base_url, supervisor.pid, client, Path(folder) / "data")
                    product.sign_up()
                    yield product
            finally:
                supervisor.terminate()
                supervisor.wait(timeout=30)


@contextmanager
def running_stand_in(*arguments: str) -> Iterator[str]:
    """Start the stand-in provider in a process of its own; gives its OpenAI base URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.provider_server", "--port", str(port), *arguments]
    )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_data(data: Path, *files: str) -> None:
    """Exit with a clear word when the evaluation data is not there."""
    missing = [name for name in files if not (data / name).exists()]
    if missing:
        sys.exit(f"{data} has no {', '.join(missing)}: point --data at the evaluation set.")


def _wait_for(line: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while line not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the product did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _processes() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile


def _descends_from(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
