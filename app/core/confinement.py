"""What a process gives up before it touches what it doesn't trust. Nothing here can be undone."""

import ctypes
import resource
import struct
import sys
from contextlib import suppress

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def leave_network() -> bool:
    """Move to a network namespace without any interface. Returns False where that's not permitted.

    Root needs no user namespace for it, and in one would lose the right to read the files of
    others. A container's seccomp profile often forbids both; outside Linux there is neither. Does
    nothing in a process with several threads, where user namespaces can't be left.
    """
    if _LIBC is None:
        return False
    return any(
        _LIBC.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def drop_privileges() -> None:
    """Give up all capabilities but reading others' files, and gaining new ones through exec.

    Root, too, is then held to file modes when it writes. Clears what `die_with_parent` set where
    there was something to give up, so call that one afterwards. Does nothing outside Linux.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    # Effective, permitted and inheritable; then the same again for capabilities 32 and up.
    held = (ctypes.c_uint32 * 6)()
    _LIBC.capget(header, held)
    kept = held[1] & 1 << _CAP_DAC_READ_SEARCH
    if _LIBC.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def limit(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a resource limit (`resource.RLIMIT_…`), or as much of it as the system takes.

    `hard` is `soft` if not given; neither goes above the hard limit that is in force already.
    """
    ceiling = resource.getrlimit(kind)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    # macOS refuses some limits below what the process uses already.
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, hard))
