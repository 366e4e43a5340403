"""The parent's end of one child process: start it, take its messages, end it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO

import app
from app.ingestion.wire import LENGTH_BYTES, MAX_MESSAGE_BYTES, InvalidMessage

_ROOT = Path(app.__file__).parents[1]
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from app.ingestion.child import main; main(sys.argv[2])"
)
_READ_BYTES = 1 << 20
# A process that has closed its pipe is about to end; how long that may take.
_END_S = 5.0
_POLL_S = 0.001


class ChildProcess:
    """A started child. `receive` in one thread at a time; `kill` and `close` from any."""

    def __init__(self, entry: str, job: Mapping[str, object]) -> None:
        """Start a child that runs `entry` ("module:function") in a process group of its own.

        It dies with the thread that calls this, if not before. Raises OSError.
        """
        flags = ["-I", *(["-B"] if sys.dont_write_bytecode else [])]
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", _BOOT, str(_ROOT), entry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Its tracebacks can quote the document.
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            process_group=0,
            bufsize=0,
        )
        self._pipe = _opened(self._process.stdout)
        self._receiving = Lock()
        self._ending = Lock()
        self.was_killed = False
        # Not by argument or environment, which every user of the machine can see. If the child is
        # gone already, then its pipe says so.
        with suppress(BrokenPipeError), _opened(self._process.stdin) as stdin:
            stdin.write(json.dumps({**job, "parent_pid": os.getpid()}).encode())

    def receive(self, timeout_s: float) -> bytes | None:
        """Return the next message, or None if the child has closed its pipe.

        Raises TimeoutError, or InvalidMessage for one that is too long.
        """
        with self._receiving:
            deadline = time.monotonic() + timeout_s
            head = self._read(LENGTH_BYTES, deadline)
            if head is None:
                return None
            length = int.from_bytes(head, "big")
            if length > MAX_MESSAGE_BYTES:
                raise InvalidMessage("too long")
            return self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes | None:
        if self._pipe.closed:
            return None
        data = bytearray()
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while len(data) < count:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(self._pipe.fileno(), min(count - len(data), _READ_BYTES))
            if not part:
                return None
            data += part
        return bytes(data)

    def kill(self) -> None:
        """End the child and all that it started; whoever waits in `receive` gets None."""
        with self._ending:
            if self._reap() is None:
                self.was_killed = True
                self._kill_group()

    def find_status(self) -> int | None:
        """Return how it ended, as Popen.returncode; None if it closed its pipe and goes on."""
        deadline = time.monotonic() + _END_S
        while True:
            with self._ending:
                status = self._reap()
            if status is not None or time.monotonic() > deadline:
                return status
            time.sleep(_POLL_S)

    def close(self) -> None:
        """Kill it if it still runs, and give back what it held here."""
        self.kill()
        with self._ending:
            self._process.wait()
        # A thread that still receives gets its None first.
        with self._receiving:
            self._pipe.close()

    def _reap(self) -> int | None:
        """Return how it ended, if it did. What it started must not outlive it."""
        if self._process.returncode is None and self._process.poll() is not None:
            # At once: later another process may have the number of the group.
            self._kill_group()
        return self._process.returncode

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _opened(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without a pipe")
    return stream
