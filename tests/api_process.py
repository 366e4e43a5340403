"""`python -m app api` as a process of its own: killed, measured, and talked to over sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from app.config import Settings
from app.core.process import die_with_parent
from tests.people import Person
from tests.stack_process import free_port, wait_until


class ApiProcess:
    """`python -m app api` on a port of its own, and sockets to it."""

    def __init__(
        self, settings: Settings, data_dir: Path, folder: Path, changes: Mapping[str, str]
    ) -> None:
        self.port = free_port()
        self.incoming = data_dir / "files" / "incoming"
        self.log = folder / f"api-{self.port}.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "api"],
                env={
                    **os.environ,
                    "DATABASE_URL": settings.database_url,
                    "REDIS_URL": settings.redis_url,
                    "DATA_DIR": str(data_dir),
                    "OLLAMA_BASE_URL": "http://127.0.0.1:9",
                    "PORT": str(self.port),
                    "MAX_UPLOAD_MB": "256",
                    "DEFAULT_PLAN": settings.default_plan,
                    **changes,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def peak_rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def reset_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def connect(self, person: Person, request_line: str, *headers: str) -> socket.socket:
        """Return a socket that has sent the head of a request."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        authorization = f"Authorization: {person.headers['Authorization']}"
        lines = [f"{request_line} HTTP/1.1", "Host: test", authorization, *headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    def wait_until_nothing_is_incoming(self) -> None:
        wait_until(lambda: not any(self.incoming.iterdir()))


@contextmanager
def running_api(settings: Settings, folder: Path, **changes: str) -> Iterator[ApiProcess]:
    """Started on the files in `folder`, and stopped at the end; `changes` are further variables.

    It has the key of the other tests' app, so that its people are signed in here too.
    """
    data_dir = folder / "data"
    data_dir.mkdir(exist_ok=True)
    (data_dir / "secret_key").write_text(settings.signing_key)
    server = ApiProcess(settings, data_dir, folder, changes)
    try:
        wait_until(lambda: '"models_ready"' in server.log.read_text())
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)
