"""Run a program as another user: Postgres refuses to run as root."""

import ctypes
import os
import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_READ_AND_SEARCH = 0o005

# Loaded here and not in the function: between fork and exec a child must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class SystemUser:
    """Someone to run as. `capability` lets that user pass folders which only root can enter."""

    uid: int
    gid: int
    name: str
    capability: int | None = None


def database_user(folder: Path) -> SystemUser | None:
    """The user who runs Postgres on `folder`, or None: whoever runs this program.

    For root it is the owner of `folder` if that is someone else, and otherwise `nobody`.
    """
    if os.geteuid() != 0:
        return None
    owner = folder.stat().st_uid if folder.exists() else 0
    entry = _find_entry(owner) if owner else None
    entry = entry or pwd.getpwnam("nobody")
    return SystemUser(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)


def capability_for(paths: Iterable[Path]) -> int | None:
    """The capability that a plain user needs to reach all of `paths`, or None.

    Reading everything is less than root could do anyway; a container may have taken that
    capability away and left the stronger one.
    """
    if all(_is_open_to_all(path) for path in paths):
        return None
    held = _held_capabilities()
    return next((c for c in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if held >> c & 1), None)


def become(user: SystemUser) -> None:
    """Turn this process, root's, into the user's. Meant for a child between fork and exec.

    Clears what `die_with_parent` set, so call that one afterwards. Raises OSError.
    """
    if user.capability is not None:
        _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)
    if user.capability is not None:
        _keep_only(user.capability)


def _find_entry(uid: int) -> pwd.struct_passwd | None:
    # initdb refuses a user without a name.
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _is_open_to_all(path: Path) -> bool:
    passable = all(parent.stat().st_mode & 0o001 for parent in path.parents)
    return passable and path.stat().st_mode & _READ_AND_SEARCH == _READ_AND_SEARCH


def _held_capabilities() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(lines.get("CapPrm", "0").strip(), 16)


def _keep_only(capability: int) -> None:
    """Hold one capability, through exec too (that is what makes it ambient)."""
    bits = 1 << capability
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)(_CapabilityData(bits, bits, bits), _CapabilityData(0, 0, 0))
    _call("capset", ctypes.byref(header), ctypes.byref(data))
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _call(function: str, *arguments: object) -> None:
    if _LIBC is None:
        raise OSError(f"{function} exists on Linux only")
    if getattr(_LIBC, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), function)
