"""What the embedded Postgres and Redis have in common: a folder, a socket, a log, a process."""

import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from app.local.folders import (
    FolderLock,
    make_private_folder,
    make_socket_folder,
    remove_socket_folder,
    rotate_log,
)
from app.local.privileges import SystemUser
from app.local.process import (
    LocalStackError,
    Program,
    StopStep,
    describe_exit,
    launch,
    stop,
    tail_of,
)

_POLL_S = 0.02
# After a crash Postgres replays its log first, and Redis reads its own.
_START_TIMEOUT_S = 60.0


class LocalServer(ABC):
    """A server on a data folder of its own, reachable through a private socket only.

    `prepare` takes the folder, `spawn` starts the process (again, after it died), `close` gives the
    folder back; `start` and `stop` do it all and wait, and so does `with`. The folder and the URL
    stay the same when the process is spawned again. Call all of it from the main thread.
    """

    name: ClassVar[str]
    stop_steps: ClassVar[Sequence[StopStep]]
    death_signal: ClassVar[int]

    def __init__(self, folder: Path, *, log_path: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.log_path = log_path or self.folder / f"{self.name}.log"
        self.user: SystemUser | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = FolderLock(self.folder, what=self.name.capitalize())
        self._socket_record = self.folder / "socket-folder"
        self._socket_folder: Path | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """How clients connect; valid from `prepare` on."""

    @property
    def socket_folder(self) -> Path:
        if self._socket_folder is None:
            raise LocalStackError(f"{self.name} has not been prepared")
        return self._socket_folder

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the running process accepts clients. Returns at once."""

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _clear_leftovers(self) -> None:
        """End an orphan on this folder and remove what would stop a start."""

    @abstractmethod
    def _initialize(self) -> None:
        """Find the binaries; create the data, once. The socket folder exists already."""

    def _choose_user(self) -> SystemUser | None:
        return None

    def prepare(self) -> None:
        """Take the folder, end what a killed predecessor left on it, create the data once.

        Raises LocalStackError.
        """
        self.user = self._choose_user()
        make_private_folder(self.folder, owner=self.user)
        self._lock.acquire()
        self._clear_leftovers()
        self._socket_folder = make_socket_folder(self._socket_record, owner=self.user)
        rotate_log(self.log_path)
        self._initialize()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        self._clear_leftovers()
        self.process = launch(self._program(self._command()))
        return self.process

    def wait_until_ready(
        self,
        *,
        timeout_s: float = _START_TIMEOUT_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises LocalStackError, with the end of the log, if it ends or takes too long.

        `pause` waits for a number of seconds; what it raises ends the waiting.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            process = self.process
            if process is None or process.poll() is not None:
                how = "is not running" if process is None else describe_exit(process)
                raise LocalStackError(f"{self.name} {how}. Its log ends:{tail_of(self.log_path)}")
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"{self.name} was not ready after {timeout_s:.0f} s; see {self.log_path}"
                )
            pause(_POLL_S)

    def start(self) -> Self:
        """Prepare, spawn and wait. Leaves nothing behind if that fails."""
        try:
            self.prepare()
            self.spawn()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the process, remove the socket folder, let go of the data folder."""
        if self.process is not None:
            stop(self.process, self.stop_steps)
            self.process = None
        self.close()

    def close(self) -> None:
        if self._socket_folder is not None:
            remove_socket_folder(self._socket_record)
            self._socket_folder = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _program(self, command: Sequence[str]) -> Program:
        return Program(
            name=self.name,
            command=command,
            env=self._environment(),
            cwd=self.folder,
            log_path=self.log_path,
            user=self.user,
            death_signal=self.death_signal,
        )

    def _environment(self) -> Mapping[str, str]:
        return dict(os.environ)
