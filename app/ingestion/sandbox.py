"""Open a document in a child process, which costs one document when it crashes, never the worker.

The child is `app.ingestion.child`, which says what it is confined by. This side trusts nothing of
what comes back, and turns the way a child ends into what it means for the document.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from app.ingestion.base import Page
from app.ingestion.child import EXIT_NOT_STARTED, EXIT_OUT_OF_MEMORY, Answer
from app.ingestion.child_process import ChildProcess
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import MAX_CHARACTERS, MAX_PAGES, DocumentUnreadable
from app.ingestion.wire import Crash, End, Failure, Header, InvalidMessage, Message, decode

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=Answer)

_PARSER = "app.ingestion.parsing:open_document"
_PYTHON_FAILED = 1
# What an operator, a shutdown or a machine without memory sends. A document doesn't.
_SENT_FROM_OUTSIDE = frozenset(
    -number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
)


class ParserLost(Exception):
    """The child was killed, or could not start. As far as one can tell no fault of the document.

    Reading it again may go well.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one document may take.

    `silence_s` is wall time without a message while one is waited for.
    """

    memory_bytes: int = 1 << 30
    cpu_s_per_100_pages: int = 60
    silence_s: float = 120.0


PARSING_LIMITS = Limits()


class SandboxedDocument:
    """A document that a child reads. Synchronous: use it from threads.

    `title` is the document's own, `page_count` what it claims; neither is more than well-formed,
    and neither is there before `wait_until_open`.
    """

    title: str | None
    page_count: int

    def __init__(self, child: ChildProcess, *, silence_s: float) -> None:
        self._child = child
        self._silence_s = silence_s

    def wait_until_open(self) -> None:
        """Wait until the child has opened it. Raises DocumentUnreadable or ParserLost."""
        header = self._receive()
        if not isinstance(header, Header) or not 1 <= header.page_count <= MAX_PAGES:
            raise self._reject()
        self.title = header.title
        self.page_count = header.page_count

    def pages(self) -> Iterator[Page]:
        """Yield the pages in order, numbered from 1, while the child is at work on the next ones.

        It stops after a few when nobody takes them. Once only. Raises DocumentUnreadable, or
        ParserLost, which also follows `kill`.
        """
        number = characters = 0
        while not isinstance(page := self._receive(), End):
            number += 1
            if not isinstance(page, Page) or page.number != number or number > MAX_PAGES:
                raise self._reject()
            characters += len(page.text)
            if characters > MAX_CHARACTERS:
                raise self._reject()
            yield page

    def answer(self, kind: type[A]) -> A:
        """Return what a function that opens no document was asked for.

        Raises DocumentUnreadable, or ParserLost, which also follows `kill`.
        """
        answer = self._receive()
        if not isinstance(answer, kind):
            raise self._reject()
        return answer

    def kill(self) -> None:
        """End the child at once. From any thread, any number of times."""
        self._child.kill()

    def _receive(self) -> Message:
        """Return the next message that isn't the end of all. Raises as `pages` does."""
        try:
            data = self._child.receive(self._silence_s)
            message = None if data is None else decode(data)
        except TimeoutError:
            raise DocumentUnreadable(IngestErrorCode.TIMED_OUT) from None
        except InvalidMessage:
            raise self._reject() from None
        if isinstance(message, Failure):
            raise DocumentUnreadable(message.code, detail=message.detail)
        if message is None or isinstance(message, Crash):
            raise self._explain_end(message)
        return message

    def _reject(self) -> DocumentUnreadable:
        log.error("parser_sent_nonsense")
        return _crashed()

    def _explain_end(self, crash: Crash | None) -> DocumentUnreadable | ParserLost:
        status = self._child.find_status()
        if self._child.was_killed or status in _SENT_FROM_OUTSIDE:
            return ParserLost("The process that read the document was killed.")
        if status == -signal.SIGXCPU:
            return DocumentUnreadable(IngestErrorCode.TIMED_OUT)
        if status == EXIT_OUT_OF_MEMORY:
            detail = "Reading the document needs too much memory."
            return DocumentUnreadable(IngestErrorCode.TOO_LARGE, detail=detail)
        log.error(
            "parser_crashed",
            status=status,
            error=crash and crash.error,
            frames=crash and crash.frames,
        )
        if status in (EXIT_NOT_STARTED, _PYTHON_FAILED):
            return ParserLost("The process that reads documents could not start.")
        return _crashed()


@contextmanager
def open_sandboxed(
    path: Path, media_type: str, *, password: str | None = None, limits: Limits = PARSING_LIMITS
) -> Iterator[SandboxedDocument]:
    """Open a document in a child process, which ends with the block.

    The child also dies with the thread that opens it, so take one that lives as long. Raises
    DocumentUnreadable, ParserLost, or OSError where no process can be started.
    """
    with start_sandboxed(path, media_type, password=password, limits=limits) as document:
        document.wait_until_open()
        yield document


@contextmanager
def start_sandboxed(
    path: Path, media_type: str, *, password: str | None = None, limits: Limits = PARSING_LIMITS
) -> Iterator[SandboxedDocument]:
    """Like `open_sandboxed`, but the document is not open yet: it can be killed meanwhile."""
    arguments = {"media_type": media_type, "password": password}
    with _start(_PARSER, path, arguments, limits=limits, may_start_programs=False) as document:
        yield document


@contextmanager
def open_with(
    entry: str,
    path: Path,
    arguments: Mapping[str, object],
    *,
    limits: Limits,
    may_start_programs: bool = False,
) -> Iterator[SandboxedDocument]:
    """Like `open_sandboxed`, with another function: "module:name", which opens a ParsedDocument.

    It gets the path, and `arguments`, which go as JSON, by name.
    """
    with _start(
        entry, path, arguments, limits=limits, may_start_programs=may_start_programs
    ) as document:
        document.wait_until_open()
        yield document


@contextmanager
def start_with(
    entry: str, path: Path, arguments: Mapping[str, object], *, limits: Limits
) -> Iterator[SandboxedDocument]:
    """Ask a child one thing about a document: `entry` is as in `open_with`, but returns an Answer.

    `answer` waits for it, and it can be killed meanwhile. Raises OSError.
    """
    with _start(entry, path, arguments, limits=limits, may_start_programs=False) as document:
        yield document


@contextmanager
def _start(
    entry: str,
    path: Path,
    arguments: Mapping[str, object],
    *,
    limits: Limits,
    may_start_programs: bool,
) -> Iterator[SandboxedDocument]:
    job = {
        "path": str(path.absolute()),
        "arguments": arguments,
        "memory_bytes": limits.memory_bytes,
        "cpu_s_per_100_pages": limits.cpu_s_per_100_pages,
        "may_start_programs": may_start_programs,
    }
    child = ChildProcess(entry, job)
    try:
        yield SandboxedDocument(child, silence_s=limits.silence_s)
    finally:
        child.close()


def _crashed() -> DocumentUnreadable:
    return DocumentUnreadable(IngestErrorCode.CORRUPT, detail="Reading the file crashed.")
