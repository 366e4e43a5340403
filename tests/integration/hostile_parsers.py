"""Parsers that do what a hostile or broken file could make a real one do.

Those that never open a document return nothing.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.ingestion.base import Page, QuotePlace
from app.ingestion.parsers.base import ParsedDocument


@contextmanager
def _say(text: str) -> Iterator[ParsedDocument]:
    yield ParsedDocument(None, 1, lambda: iter([Page(1, text)]))


def loop_for_ever(path: Path) -> None:
    while True:
        pass


@contextmanager
def loop_on_page_two(path: Path) -> Iterator[ParsedDocument]:
    def pages() -> Iterator[Page]:
        yield Page(1, "first")
        while True:
            pass

    yield ParsedDocument(None, 2, pages)


def sleep_for_ever(path: Path) -> None:
    time.sleep(600)


def allocate_without_end(path: Path) -> None:
    held = []
    while True:
        held.append(bytes(10_000_000))


def segfault(path: Path) -> None:
    ctypes.string_at(0)


def abort(path: Path) -> None:
    os.abort()


def raise_unexpectedly(path: Path) -> None:
    raise ZeroDivisionError("a secret of the document")


def leave_quietly(path: Path) -> None:
    os._exit(0)


def end_as_told(path: Path, *, signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def write_to_the_pipe(path: Path, *, data: str) -> None:
    """Bytes as Latin-1, on whatever descriptor the messages go out by."""
    os.write(_pipe_of_messages(), data.encode("latin-1"))
    time.sleep(60)


def close_the_pipe(path: Path) -> None:
    os.close(_pipe_of_messages())
    time.sleep(60)


@contextmanager
def print_noise(path: Path) -> Iterator[ParsedDocument]:
    sys.stdout.write("noise of a library")
    sys.stdout.flush()
    os.write(1, b"more of it")
    with _say("quiet") as document:
        yield document


@contextmanager
def connect(path: Path, *, port: int) -> Iterator[ParsedDocument]:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        outcome = "connected"
    except OSError as error:
        outcome = type(error).__name__
    with _say(outcome) as document:
        yield document


@contextmanager
def connect_to_path(path: Path, *, address: str) -> Iterator[ParsedDocument]:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
        outcome = "connected"
    except OSError as error:
        outcome = type(error).__name__
    with _say(outcome) as document:
        yield document


@contextmanager
def read_another_file(path: Path, *, other: str) -> Iterator[ParsedDocument]:
    """The document and then the other file."""
    own = path.read_text()
    try:
        outcome = Path(other).read_text()
    except OSError as error:
        outcome = type(error).__name__
    with _say(f"{own} {outcome}") as document:
        yield document


@contextmanager
def list_network_interfaces(path: Path) -> Iterator[ParsedDocument]:
    # Asking for them takes a socket.
    _, _, *lines = Path("/proc/self/net/dev").read_text().splitlines()
    with _say(" ".join(line.partition(":")[0].strip() for line in lines)) as document:
        yield document


@contextmanager
def look_around(path: Path) -> Iterator[ParsedDocument]:
    """The environment, open descriptors, loaded modules, capabilities, arguments."""
    seen = {
        "environment": dict(os.environ),
        "descriptors": sorted(entry.name for entry in Path("/proc/self/fd").iterdir()),
        "modules": sorted(sys.modules),
        "status": Path("/proc/self/status").read_text(),
        "arguments": Path("/proc/self/cmdline").read_text().split("\0"),
        "folder": str(Path.cwd()),
    }
    with _say(json.dumps(seen)) as document:
        yield document


@contextmanager
def write_a_file(path: Path) -> Iterator[ParsedDocument]:
    try:
        path.with_suffix(".new").write_text("left behind")
        outcome = "written"
    except OSError as error:
        outcome = type(error).__name__
    with _say(outcome) as document:
        yield document


@contextmanager
def start_a_program(path: Path) -> Iterator[ParsedDocument]:
    """A process that outlives its parent; its id is the text."""
    with _say(str(subprocess.Popen(["/bin/sleep", "600"]).pid)) as document:
        yield document


@contextmanager
def many_pages(path: Path, *, count: int, characters: int) -> Iterator[ParsedDocument]:
    text = "x" * characters
    yield ParsedDocument(
        None, count, lambda: (Page(number, text) for number in range(1, count + 1))
    )


@contextmanager
def burn_cpu(path: Path, *, page_count: int, seconds: float) -> Iterator[ParsedDocument]:
    def pages() -> Iterator[Page]:
        while time.process_time() < seconds:
            pass
        yield Page(1, "done")

    yield ParsedDocument(None, page_count, pages)


def find_nothing(path: Path) -> QuotePlace:
    return QuotePlace()


def _pipe_of_messages() -> int:
    pipes = [fd for fd in range(3, 10) if _is_pipe(fd)]
    return pipes[0]


def _is_pipe(fd: int) -> bool:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("pipe:")
    except OSError:
        return False
