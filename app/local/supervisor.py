"""Keep processes alive until a signal, then end them in order. One thread, nothing in handlers."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from app.core.process import die_with_parent
from app.local.process import LocalStackError, StopStep, describe_exit, kill_group, stop

STOP_TIMEOUT_S = 14.0
_LAST_MOMENT_S = 1.0  # what each service keeps for itself when those before it take long
_MAX_START_FAILURES = 3
_FIRST_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 15.0
_HEALTHY_AFTER_S = 60.0
_MAKE_CHECK_S = 0.5


class StopRequested(Exception):
    """Somebody wants this process to stop."""


class SignalInbox:
    """Turns signals into StopRequested at the places that can bear it: calls of `pause`."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._make = MakeParent()
        self._next_make_check = 0.0

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, _ignore)
        # nohup ignores SIGHUP on purpose.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _ignore)
        return self

    def __exit__(self, *_: object) -> None:
        # The handlers stay: a late signal must not end the process between two clean-ups.
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def pause(self, seconds: float) -> None:
        """Wait, less if a child ends. Raises StopRequested on SIGINT, SIGTERM and SIGHUP."""
        if time.monotonic() >= self._next_make_check:
            self._next_make_check = time.monotonic() + _MAKE_CHECK_S
            if self._make.is_interrupted():
                raise StopRequested
        readable, _, _ = select.select([self._reader], [], [], seconds)
        if readable and set(os.read(self._reader, 4096)) - {signal.SIGCHLD}:
            raise StopRequested


class MakeParent:
    """The `make` that started this process directly, if one did.

    Make passes SIGTERM on to its children but not SIGINT: it expects the terminal to send that to
    all, and then waits for them. When a program signals make alone, the only trace is that make's
    own handler is gone.
    """

    def __init__(self) -> None:
        self._pid = os.getppid()
        folder = Path("/proc") / str(self._pid)
        self._status: Path | None = None
        with suppress(OSError):
            if (folder / "comm").read_text().strip() in ("make", "gmake"):
                self._status = folder / "status"
                die_with_parent(signal.SIGTERM, parent_pid=self._pid)
        self._had_handler = self._catches_interrupts()

    def is_interrupted(self) -> bool:
        return self._had_handler and not self._catches_interrupts()

    def _catches_interrupts(self) -> bool:
        if self._status is None:
            return False
        with suppress(OSError):
            for line in self._status.read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
        return False


@dataclass
class Service:
    """A process to keep alive: how to start one and how to end it."""

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    stop_steps: Sequence[StopStep]
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = self.spawn()


class Supervisor:
    """Restarts what dies. Services are ended in the opposite order of their start."""

    def __init__(self, *, say: Callable[[str], None]) -> None:
        self._services: list[Service] = []
        self._say = say
        self.is_ready = False

    def start(self, service: Service) -> None:
        """Start the service and watch it from now on. Raises LocalStackError."""
        self._services.append(service)
        service.start()

    def watch(self, service: Service) -> None:
        """Watch a service that has been started already."""
        service.started_at = time.monotonic()
        self._services.append(service)

    def restart_dead(self) -> None:
        """Look at each service once; a dead one comes back after a growing pause.

        Raises LocalStackError if one keeps dying before the stack has been ready once: then the
        reason lies in what was installed or configured, and will not go away.
        """
        now = time.monotonic()
        for service in self._services:
            if service.process is None:
                if now >= service.restart_at:
                    service.start()
            elif service.process.poll() is not None:
                self._note_death(service, now)

    def stop(self) -> None:
        """End all services, the last started first, within STOP_TIMEOUT_S."""
        end = time.monotonic() + STOP_TIMEOUT_S
        while self._services:
            service = self._services.pop()
            if service.process is not None:
                deadline = end - len(self._services) * _LAST_MOMENT_S
                stop(service.process, service.stop_steps, deadline=deadline)

    def _note_death(self, service: Service, now: float) -> None:
        process = service.process
        if process is None:
            return
        kill_group(process)  # what it had started must not meet its successor
        service.process = None
        if now - service.started_at > _HEALTHY_AFTER_S:
            service.failures = 0
        service.failures += 1
        how = describe_exit(process)
        if not self.is_ready and service.failures >= _MAX_START_FAILURES:
            raise LocalStackError(
                f"{service.name} {how}, {service.failures} times in a row. "
                "Its own messages above say why; `python -m app doctor` checks the rest."
            )
        backoff_s = min(_FIRST_BACKOFF_S * 2 ** (service.failures - 1), _MAX_BACKOFF_S)
        service.restart_at = now + backoff_s
        self._say(f"{service.name} {how}; starting it again in {backoff_s:g} s")


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler must exist for the wakeup descriptor to be written."""
