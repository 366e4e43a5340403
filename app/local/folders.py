"""Folders of the local stack: one owner at a time, and short private ones for sockets."""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from app.local.privileges import SystemUser
from app.local.process import LocalStackError

# sockaddr_un holds 108 bytes with the final zero, on macOS 104.
_MAX_SOCKET_PATH_BYTES = 103
_LONGEST_SOCKET_NAME = "/footnote-12345678/.s.PGSQL.5432"
_SOCKET_FOLDER_PREFIX = "footnote-"
_ABANDONED_AFTER_S = 600.0
_MAX_LOG_BYTES = 10 * 1024 * 1024


class FolderLock:
    """Holds a folder for this process; the kernel lets go of it when the process ends."""

    def __init__(self, folder: Path, *, what: str) -> None:
        self._path = folder / "lock"
        self._what = what
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Raises LocalStackError if another process holds the folder."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise LocalStackError(
                f"{self._what} is already running on {self._path.parent} (process {holder}). "
                "Stop it, or choose another folder: make run DATA_DIR=.data2 PORT=8001"
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def make_private_folder(folder: Path, *, owner: SystemUser | None = None) -> Path:
    """Create the folder with mode 0700, for `owner` if given. An existing one keeps its mode.

    Root's own folder is given to `owner`. Raises LocalStackError if it is not ours to write.
    """
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise LocalStackError(
                f"{folder} cannot be written by this user: choose another DATA_DIR, or give the "
                f'folder back with: sudo chown -R "$(id -un)" "{folder}"'
            ) from None
    except OSError as exc:
        raise LocalStackError(
            f"Cannot create {folder}: {exc.strerror}. Choose another DATA_DIR."
        ) from exc
    if owner is not None and folder.stat().st_uid == 0:
        os.chown(folder, owner.uid, owner.gid)
    return folder


def write_private_file(path: Path, text: str, *, owner: SystemUser | None = None) -> None:
    """Write a file that only its owner can read; replaces an existing one."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def make_socket_folder(record: Path, *, owner: SystemUser | None = None) -> Path:
    """A new 0700 folder with a path short enough for sockets, remembered in the file `record`.

    Removes the one that `record` names, which a killed predecessor left.
    """
    remove_socket_folder(record)
    base = _short_base()
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=_SOCKET_FOLDER_PREFIX, dir=base))
    record.write_text(str(folder))
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)
    return folder


def remove_socket_folder(record: Path) -> None:
    """Remove the folder that `record` names, and `record`."""
    if not record.exists():
        return
    folder = Path(record.read_text())
    # The record is a file that anything could have written: only remove what looks like ours.
    if folder.name.startswith(_SOCKET_FOLDER_PREFIX) and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    record.unlink()


def rotate_log(path: Path) -> None:
    """Set a log file of more than 10 MB aside as `<name>.1`."""
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))


def _remove_abandoned(base: Path) -> None:
    """Remove folders of killed servers whose record is gone too, as that of a killed test is.

    Only old and empty ones: in a server's own folder there is a socket soon after it was made.
    """
    for folder in base.glob(f"{_SOCKET_FOLDER_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_S:
                folder.rmdir()


def _short_base() -> Path:
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # mkdtemp makes it private
        if len(os.fsencode(base + _LONGEST_SOCKET_NAME)) <= _MAX_SOCKET_PATH_BYTES:
            return Path(base)
    raise LocalStackError("No folder with a path short enough for sockets: set TMPDIR to one.")
