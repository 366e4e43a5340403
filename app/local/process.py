"""Start, watch and stop child processes, and find those that a killed predecessor left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.core.process import die_with_parent
from app.local.privileges import SystemUser, become

STACK_VARIABLE = "FOOTNOTE_STACK"
_PROC = Path("/proc")
_POLL_S = 0.02
_LOG_TAIL_LINES = 8


class LocalStackError(Exception):
    """The local stack cannot run. The message says why and what to do about it."""


@dataclass(frozen=True)
class Program:
    """What to run and as whom. Without `log_path` the output goes where ours goes."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    log_path: Path | None = None
    user: SystemUser | None = None
    death_signal: int = signal.SIGKILL


@dataclass(frozen=True)
class StopStep:
    """Send the signal, then wait this long before the next one."""

    signal_number: int
    wait_s: float


def launch(program: Program, *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start the program in a process group of its own; it dies with this thread, the main one.

    Raises LocalStackError if it cannot be executed.
    """
    parent_pid = os.getpid()

    def prepare() -> None:
        if program.user is not None:
            become(program.user)
        # After the change of user, which clears it.
        die_with_parent(program.death_signal, parent_pid=parent_pid)

    output = None if program.log_path is None else _open_log(program.log_path)
    try:
        return subprocess.Popen(
            program.command,
            stdin=stdin,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=program.env,
            cwd=program.cwd,
            process_group=0,
            preexec_fn=prepare,  # noqa: PLW1509  # no other thread runs while the stack starts
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise LocalStackError(f"Cannot start {program.name} ({program.command[0]}): {exc}") from exc
    finally:
        if output is not None:
            os.close(output)


def stop(
    process: subprocess.Popen[bytes], steps: Sequence[StopStep], *, deadline: float = float("inf")
) -> None:
    """End the process and whatever is left of its group.

    Each step signals the leader alone, which tells its own children; SIGKILL follows when the
    steps or the time (`deadline`, of `time.monotonic()`) are used up.
    """
    for step in steps:
        if process.poll() is not None:
            break
        process.send_signal(step.signal_number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, min(step.wait_s, deadline - time.monotonic())))
    kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and every member of its group that outlived it; reaps the process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe_exit(process: subprocess.Popen[bytes]) -> str:
    """How it ended, for people: "exited with status 3" or "was killed by SIGKILL"."""
    code = process.returncode
    if code is None:
        return "is running"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with status {code}"


def tail_of(log_path: Path) -> str:
    """The last lines of a log file, indented, for an error message."""
    if not log_path.exists():
        return ""
    lines = log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def is_program_in(pid: int, *, names: Sequence[str], folder: Path) -> bool:
    """Whether `pid` is alive, runs one of `names` and works in `folder`. A zombie does not."""
    if sys.platform != "linux":
        return _ps_name(pid) in names
    try:
        executable = (_PROC / str(pid) / "exe").readlink().name.removesuffix(" (deleted)")
        return executable in names and (_PROC / str(pid) / "cwd").readlink() == folder.resolve()
    except OSError:  # it ended, it is a zombie, or it belongs to another user
        return False


def find_programs_in(folder: Path, *, names: Sequence[str]) -> list[int]:
    """The processes that run one of `names` in `folder`; none outside Linux."""
    return [pid for pid in _iter_pids() if is_program_in(pid, names=names, folder=folder)]


def has_pid(pid: int) -> bool:
    """Whether some process has this id, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_foreign(pid: int, signal_number: int, *, wait_s: float) -> None:
    """End a process that is not our child: the signal first, SIGKILL when the time is up."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal_number)
        if not _is_gone_within(pid, wait_s):
            os.kill(pid, signal.SIGKILL)
            _is_gone_within(pid, wait_s)


def kill_leftovers(data_dir: Path) -> int:
    """Kill what an earlier stack on `data_dir` started and did not live to stop.

    Every process that descends from a stack carries the folder in its environment. Call it only
    while holding the folder's lock: then no living stack can own such a process. Returns how many.
    """
    marker = f"{STACK_VARIABLE}={data_dir}".encode()
    leftovers = [pid for pid in _iter_pids() if marker in _environment_of(pid)]
    for pid in leftovers:
        end_foreign(pid, signal.SIGKILL, wait_s=2.0)
    return len(leftovers)


def _open_log(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _iter_pids() -> Iterator[int]:
    if not _PROC.is_dir():
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            yield int(entry.name)


def _environment_of(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or it belongs to another user
        return []


def _is_gone_within(pid: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while _is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _is_alive(pid: int) -> bool:
    if not has_pid(pid):
        return False
    try:
        # The state follows the name, which is in parentheses and may hold anything.
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return not _PROC.is_dir()
    return state not in "ZX"


def _ps_name(pid: int) -> str:
    result = subprocess.run(
        ["ps", "-o", "comm=", "-p", str(pid)],  # noqa: S607  # where ps lies differs
        capture_output=True,
        text=True,
        check=False,
    )
    return Path(result.stdout.strip()).name
