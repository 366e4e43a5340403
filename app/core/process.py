"""What a child process promises its parent: to die with it, however the parent died."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Loaded here and not in the function: between fork and exec a child must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(signal_number: int = signal.SIGKILL, *, parent_pid: int | None = None) -> None:
    """Have the kernel send this process `signal_number` when the parent ends, even by SIGKILL.

    `parent_pid` is what the parent's `os.getpid()` said before the fork; if that process is gone
    already, this one is killed at once, and without it that is not checked. The promise survives
    exec but neither a fork nor a change of user, and is about the parent's *thread* that forked.
    Does nothing outside Linux.
    """
    if _LIBC is None:
        return
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have ended before the call above; then nothing would ever arrive.
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
