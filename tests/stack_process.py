"""A local stack as a process of its own, seen from outside: its output and its processes."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from app.core.process import die_with_parent
from app.local.privileges import SystemUser, become

WAIT_S = 60.0


class StackProcess:
    """Runs `command` on a data folder and a port; what it prints goes to a file beside the folder.

    `settings` are further environment variables. Leaving the context stops it, and kills what it
    left.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        data_dir: Path,
        port: int,
        user: SystemUser | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self._log = data_dir.parent / f"{data_dir.name}-{port}.out"

        def prepare() -> None:
            if user is not None:
                become(user)
            die_with_parent()

        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "DEFAULT_PLAN": "enterprise",  # without rates
                    **(settings or {}),
                    "DATA_DIR": str(data_dir),
                    "PORT": str(port),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=prepare,  # noqa: PLW1509
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()  # not killed: it removes its socket folders
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Until the text was printed so often. Fails if the stack ends before."""

        def has_text() -> bool:
            has_ended = self.process.poll() is not None
            found = self.output().count(text) >= times
            assert found or not has_ended, self.output()
            return found

        wait_until(has_text)

    def pids(self) -> list[int]:
        """Everything but the supervisor that belongs to this data folder."""
        return [pid for pid in _all_pids() if pid != self.process.pid and self._owns(pid)]

    def pids_of(self, text: str) -> list[int]:
        """Those with this in their command line, the oldest first."""
        return sorted(pid for pid in self.pids() if text in _command_of(pid))

    def pid_of(self, text: str) -> int:
        return self.pids_of(text)[0]

    def wait_for_other_than(self, pid: int, text: str) -> None:
        wait_until(lambda: any(other != pid for other in self.pids_of(text)))

    def wait_for_end_of(self, pids: Sequence[int]) -> None:
        wait_until(lambda: not set(pids) & set(self.pids()))

    def _owns(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            folder = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            return False
        owned = f"DATA_DIR={self.data_dir}".encode() in environment
        return owned or folder.is_relative_to(self.data_dir)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.05)


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""
