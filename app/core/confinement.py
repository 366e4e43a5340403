"""What a process gives up before it touches what it doesn't trust. Nothing here can be undone."""

import ctypes
import errno
import os
import resource
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522

# Landlock. Its system calls have these numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
# How many rights on files there are since a version of it: the lowest bits.
_FILE_RIGHTS_SINCE = {1: 13, 2: 14, 3: 15, 5: 16}
# Bind and connect TCP; reach abstract sockets and signal processes of others.
_ALL_NETWORK_RIGHTS, _NETWORK_SINCE = 0b11, 4
_ALL_SCOPES, _SCOPES_SINCE = 0b11, 6

# Seccomp, and the instructions of its filters.
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4
_ALLOW, _FAIL_WITH_EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
# The numbers of x32, a second way to all system calls of x86-64, begin here.
_X32 = 0x40000000
# Machine -> how filters see it, and its numbers of: socket, socketpair, connect; ptrace,
# process_vm_readv, process_vm_writev, pidfd_getfd; open_by_handle_at, which needs no path; and
# io_uring_setup, which leads to the first ones past any filter.
_DENIED_CALLS = {
    "x86_64": (0xC000003E, (41, 53, 42, 101, 310, 311, 438, 304, 425)),
    "aarch64": (0xC00000B7, (198, 199, 203, 117, 270, 271, 438, 265, 425)),
}

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
    _deny_new_privileges()
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    # Effective, permitted and inheritable; then the same again for capabilities 32 and up.
    held = (ctypes.c_uint32 * 6)()
    _LIBC.capget(header, held)
    kept = held[1] & 1 << _CAP_DAC_READ_SEARCH
    if _LIBC.capset(header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def confine_files(readable: Iterable[Path]) -> bool:
    """Leave only these files, and all that is in these folders, to be read and executed.

    Nothing can be written but /dev/null; what is open already stays usable. Paths that don't exist
    are passed over. Programs started later are held to it, too. Where the kernel can, it also
    denies TCP, and signals to processes that aren't held to it. Returns False, with nothing
    changed, where the kernel has no Landlock, or a container or a file system doesn't permit it.
    """
    version = _call(_LANDLOCK_CREATE_RULESET, None, 0, _GET_VERSION)
    if version < 1:
        return False
    rights = (1 << max(n for since, n in _FILE_RIGHTS_SINCE.items() if since <= version)) - 1
    network = _ALL_NETWORK_RIGHTS if version >= _NETWORK_SINCE else 0
    scopes = _ALL_SCOPES if version >= _SCOPES_SINCE else 0
    rules = struct.pack("=QQQ", rights, network, scopes)
    ruleset = _call(_LANDLOCK_CREATE_RULESET, rules, len(rules), 0)
    if ruleset < 0:
        return False
    try:
        if not all(_permit(ruleset, path) for path in (*readable, Path(os.devnull))):
            return False
        _deny_new_privileges()
        return _call(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _permit(ruleset: int, path: Path) -> bool:
    try:
        # Only a place in the file system: nothing is read, and no right to is needed.
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        rights = _READ_FILE | _EXECUTE
        if stat.S_ISDIR(os.fstat(file).st_mode):
            rights |= _READ_DIR
        if path == Path(os.devnull):
            rights |= _WRITE_FILE
        rule = struct.pack("=Qi", rights, file)
        return _call(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0) == 0
    finally:
        os.close(file)


def deny_system_calls() -> bool:
    """Fail with EPERM what opens or connects sockets, of any family, or meddles with processes.

    For this process and all that it starts. Returns False where the kernel or the machine has no
    filter for it: there is one for Linux on x86-64 and on ARM, both of 64 bit.
    """
    machine = os.uname().machine
    if _LIBC is None or machine not in _DENIED_CALLS or sys.maxsize <= 1 << 32:
        return False
    architecture, denied = _DENIED_CALLS[machine]
    instructions = _filter(architecture, denied)
    code = ctypes.create_string_buffer(b"".join(instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    _deny_new_privileges()
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)


def _filter(architecture: int, denied: tuple[int, ...]) -> list[bytes]:
    """Return the instructions of a filter: code, jumps if true and if false, operand."""
    checks = [(_JUMP_IF_AT_LEAST, _X32), *((_JUMP_IF_EQUAL, number) for number in denied)]
    # Jumps count from the next instruction; the last one is what all of them lead to.
    to_end = range(len(checks), 0, -1)
    return [
        struct.pack("=HBBI", *fields)
        for fields in (
            (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
            (_JUMP_IF_EQUAL, 0, len(checks) + 2, architecture),
            (_LOAD, 0, 0, _NUMBER_OFFSET),
            *((code, jump, 0, k) for jump, (code, k) in zip(to_end, checks, strict=True)),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _FAIL_WITH_EPERM),
        )
    ]


def _deny_new_privileges() -> None:
    """Keep exec from giving privileges, as root's files do. The kernel asks for it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(number: int, *arguments: bytes | int | None) -> int:
    """Make a system call. Returns its result, -1 for any error and outside Linux."""
    if _LIBC is None:
        return -1
    wide = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    return int(_LIBC.syscall(ctypes.c_long(number), *wide))


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
