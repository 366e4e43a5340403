"""What runs in the process that reads one document: lock itself in, read, tell the pages.

Started by `app.ingestion.sandbox` and by nothing else. Its code is trusted until it opens the
file; from then on it is taken to do whatever the file wants. Everywhere it has no environment, no
open files but the pipe, and limits on CPU time, open files and the size of files that it writes.
Linux adds the limit on memory, death along with the parent, and no privileges; no new processes for
users other than root. Where the kernel and the container permit it, there is also no network, no
socket of any kind, no look into other processes, and no file but the document and what programs
consist of; that last one not for a Tesseract outside of the system's folders.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import app
from app.core.confinement import (
    confine_files,
    deny_system_calls,
    drop_privileges,
    leave_network,
    limit,
)
from app.core.process import die_with_parent
from app.ingestion.base import PageImage, QuotePlace
from app.ingestion.parsers.base import MAX_PAGES, DocumentUnreadable, ParsedDocument
from app.ingestion.wire import Crash, End, Failure, Header, Message, encode

Answer = PageImage | QuotePlace
Entry = Callable[..., AbstractContextManager[ParsedDocument] | Answer]

EXIT_CRASHED = 70
EXIT_OUT_OF_MEMORY = 71
# Nothing of the document was read yet. Python's own status for "could not run main" is 1.
EXIT_NOT_STARTED = 72

_MAX_OPEN_FILES = 64
# Between the signal that ends a process and the kill, if it ignored that.
_CPU_GRACE_S = 5
_MAX_FRAMES = 8
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/nix/store")
# For the loader, fonts, the local time, the types of files, and what one can know about oneself.
_SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/fonts",
    "/etc/localtime",
    "/etc/mime.types",
    "/dev/urandom",
    "/proc/self",
)


def main(entry: str) -> None:
    """Open a document with `entry` ("module:function") and tell it on stdout. Never returns.

    The job comes on stdin: one JSON object with the `path` and the named `arguments` for the
    function, which opens a ParsedDocument or returns an Answer, and with what `_lock_in` reads.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = EXIT_NOT_STARTED
    channel = _take_stdout()
    try:
        # The imports take most of the start-up, so they come before the job.
        function = _resolve(entry)
        job = json.loads(sys.stdin.buffer.read())
        _lock_in(job)
        status = EXIT_CRASHED
        _tell(function, job, channel)
        status = os.EX_OK
    except MemoryError:
        status = EXIT_OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001  # told to the parent, which logs it
        _send(channel, _describe(error))
    finally:
        # What a document left in memory isn't worth an orderly end, and could hang in it.
        os._exit(status)


def _take_stdout() -> BinaryIO:
    """Return the pipe to the parent, and leave descriptor 1 to libraries that print."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return channel


def _resolve(entry: str) -> Entry:
    module, _, name = entry.partition(":")
    function: Entry = getattr(import_module(module), name)
    return function


def _lock_in(job: dict[str, Any]) -> None:
    leave_network()
    drop_privileges()
    if _is_of_system(job):
        confine_files(_find_readable(Path(job["path"])))
    deny_system_calls()
    die_with_parent(parent_pid=job["parent_pid"])
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_AS, job["memory_bytes"])
    if not job["may_start_programs"]:
        limit(resource.RLIMIT_NPROC, 0)
    # Hard is what the longest document may take: raising it later would need a privilege.
    longest_s = _cpu_s(MAX_PAGES, job["cpu_s_per_100_pages"])
    first_s = _cpu_s(1, job["cpu_s_per_100_pages"])
    limit(resource.RLIMIT_CPU, first_s, longest_s + _CPU_GRACE_S)


def _is_of_system(job: dict[str, Any]) -> bool:
    """Say whether all programs that may be started lie in the system's folders.

    What others consist of, and where, can't be known.
    """
    if not job["may_start_programs"]:
        return True
    places = (job["arguments"].get(name) for name in ("program", "data_folder"))
    paths = (Path(place).resolve() for place in places if place is not None)
    return all(any(path.is_relative_to(folder) for folder in _SYSTEM_FOLDERS) for path in paths)


def _find_readable(document: Path) -> list[Path]:
    """Return the folders and files that reading takes: never the project's, which has the data."""
    code = (Path(sys.prefix), Path(sys.base_prefix), Path(app.__file__).parent)
    # A folder would be permitted with all that is in it.
    files = [document] if document.is_file() else []
    return [*code, *map(Path, _SYSTEM_FOLDERS), *map(Path, _SYSTEM_FILES), *files]


def _cpu_s(page_count: int, cpu_s_per_100_pages: int) -> int:
    return -(-page_count // 100) * cpu_s_per_100_pages


def _tell(function: Entry, job: dict[str, Any], channel: BinaryIO) -> None:
    try:
        opened = function(Path(job["path"]), **job["arguments"])
        if isinstance(opened, Answer):
            _send(channel, opened)
            return
        with opened as document:
            _send(channel, Header(document.title, document.page_count))
            hard_s = resource.getrlimit(resource.RLIMIT_CPU)[1]
            allowed_s = _cpu_s(document.page_count, job["cpu_s_per_100_pages"])
            limit(resource.RLIMIT_CPU, allowed_s, hard_s)
            for page in document.pages():
                _send(channel, page)
        _send(channel, End())
    except DocumentUnreadable as error:
        _send(channel, Failure(error.error_code, error.detail))


def _send(channel: BinaryIO, message: Message) -> None:
    """Write one message; blocks while the parent is busy, and raises when it is gone."""
    channel.write(encode(message))
    channel.flush()


def _describe(error: BaseException) -> Crash:
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        name = PurePath(traceback.tb_frame.f_code.co_filename).name
        frames.append(f"{name}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return Crash(type(error).__name__, tuple(frames[-_MAX_FRAMES:]))
