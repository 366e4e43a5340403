"""Documents are read in a child process: what it can't do, and what its end means."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.core.confinement import confine_files, deny_system_calls, leave_network
from app.core.logging import configure_logging
from app.ingestion.base import Page, PageImage, QuotePlace
from app.ingestion.media_types import MARKDOWN, PDF, PLAIN_TEXT
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsing import open_document
from app.ingestion.sandbox import Limits, ParserLost, open_sandboxed, open_with, start_with
from app.ingestion.wire import MAX_MESSAGE_BYTES, Header, encode
from tests import pdfs
from tests.children import list_children
from tests.integration import hostile_parsers
from tests.unit.ingestion.samples import SAMPLES

A = TypeVar("A", PageImage, QuotePlace)

_SHORT = Limits(cpu_s_per_100_pages=2, silence_s=30.0)


def _read(path: Path, media_type: str, *, password: str | None = None) -> list[Page]:
    with open_sandboxed(path, media_type, password=password) as document:
        return list(document.pages())


def _run(parser: str, *, limits: Limits = _SHORT, path: Path = Path("/"), **arguments: Any) -> str:
    """Read a document with one of the hostile parsers. Returns its text."""
    entry = f"{hostile_parsers.__name__}:{parser}"
    with open_with(entry, path, arguments, limits=limits) as document:
        return "".join(page.text for page in document.pages())


def _fail(parser: str, **arguments: Any) -> DocumentUnreadable:
    with pytest.raises(DocumentUnreadable) as caught:
        _run(parser, **arguments)
    return caught.value


def _look_around() -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(_run("look_around"))
    return seen


def _is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not _is_running(pid)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report with spaces é.pdf"
    path.write_bytes(pdfs.long_pdf(5))
    return path


def test_a_child_gives_the_same_pages_as_the_parser_itself(report: Path) -> None:
    with open_document(report, PDF) as document:
        expected = list(document.pages())
    with open_sandboxed(report, PDF) as sandboxed:
        assert (sandboxed.title, sandboxed.page_count) == (document.title, 5)
        assert list(sandboxed.pages()) == expected


def test_headings_and_a_title_arrive(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# Harbor\n\nShips 🚢 come and go.\n\n## Berths\n\nThere are six.\n")
    with open_sandboxed(path, MARKDOWN) as document:
        assert document.title == "Harbor"
        (page,) = document.pages()
    assert [heading.title for heading in page.headings] == ["Harbor", "Berths"]


def test_a_password_reaches_the_parser(tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    path.write_bytes(pdfs.encrypted_pdf("The vault is open.", password="pässword"))
    assert "vault" in _read(path, PDF, password="pässword")[0].text
    for password, code in ((None, "encrypted"), ("wrong", "wrong_password")):
        with pytest.raises(DocumentUnreadable) as caught:
            _read(path, PDF, password=password)
        assert caught.value.error_code == code


def test_a_failure_keeps_its_code_and_detail(tmp_path: Path) -> None:
    path = tmp_path / "noise.pdf"
    path.write_bytes(pdfs.garbage_pdf())
    with pytest.raises(DocumentUnreadable) as expected, open_document(path, PDF):
        pass
    with pytest.raises(DocumentUnreadable) as caught:
        _read(path, PDF)
    assert caught.value.message == expected.value.message


def test_a_relative_path_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("found")
    monkeypatch.chdir(tmp_path)
    assert _read(Path("a.txt"), PLAIN_TEXT)[0].text == "found"


def test_a_private_folder_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir(mode=0o700)
    (folder / "a").write_text("found")
    (folder / "a").chmod(0o600)
    assert _read(folder / "a", PLAIN_TEXT)[0].text == "found"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_root_can_read_what_belongs_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    folder.mkdir(mode=0o700)
    (folder / "a").write_text("found")
    (folder / "a").chmod(0o600)
    os.chown(folder / "a", 12345, 12345)
    os.chown(folder, 12345, 12345)
    assert _read(folder / "a", PLAIN_TEXT)[0].text == "found"


def test_an_endless_loop_is_timed_out_by_cpu_time() -> None:
    assert _fail("loop_for_ever").error_code is IngestErrorCode.TIMED_OUT


def test_pages_before_an_endless_loop_are_kept() -> None:
    entry = f"{hostile_parsers.__name__}:loop_on_page_two"
    seen = []
    with (
        pytest.raises(DocumentUnreadable) as caught,
        open_with(entry, Path("/"), {}, limits=_SHORT) as document,
    ):
        for page in document.pages():
            seen.append(page.text)
    assert seen == ["first"]
    assert caught.value.error_code is IngestErrorCode.TIMED_OUT


def test_cpu_time_grows_with_the_number_of_pages() -> None:
    assert _run("burn_cpu", page_count=300, seconds=3) == "done"
    error = _fail("burn_cpu", page_count=100, seconds=60)
    assert error.error_code is IngestErrorCode.TIMED_OUT


def test_silence_is_timed_out() -> None:
    error = _fail("sleep_for_ever", limits=Limits(silence_s=1.0))
    assert error.error_code is IngestErrorCode.TIMED_OUT


def test_endless_allocation_is_too_large() -> None:
    error = _fail("allocate_without_end", limits=Limits(memory_bytes=300_000_000))
    assert error.error_code is IngestErrorCode.TOO_LARGE
    assert "memory" in error.detail


@pytest.mark.parametrize("parser", ["segfault", "abort", "leave_quietly", "raise_unexpectedly"])
def test_a_crash_means_that_the_document_is_corrupt(parser: str) -> None:
    error = _fail(parser)
    assert error.error_code is IngestErrorCode.CORRUPT
    assert error.detail == "Reading the file crashed."


def test_a_crash_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    configure_logging("INFO")
    logging.getLogger().addHandler(caplog.handler)
    _fail("raise_unexpectedly")
    output = caplog.text
    assert "ZeroDivisionError" in output
    assert "hostile_parsers.py:" in output
    assert "secret" not in output


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_from_outside_is_no_fault_of_the_document(signal_number: int) -> None:
    with pytest.raises(ParserLost):
        _run("end_as_told", signal_number=signal_number)


def test_a_child_that_cannot_start_is_no_fault_of_the_document() -> None:
    for entry in ("tests.there_is_no_such_module:open", f"{hostile_parsers.__name__}:nothing"):
        with (
            pytest.raises(ParserLost),
            open_with(entry, Path("/"), {}, limits=_SHORT) as document,
        ):
            list(document.pages())


_HEADER = encode(Header(None, 1)).decode("latin-1")


@pytest.mark.parametrize(
    "data",
    [
        "garbage without a length",
        "\0\0\0\5{}}}}",
        "\0\0\0\2[]",
        (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big").decode("latin-1"),
        encode(Header(None, 0)).decode("latin-1"),
        encode(Page(1, "a page before the header")).decode("latin-1"),
        _HEADER + _HEADER,
        _HEADER + encode(Page(2, "the second first")).decode("latin-1"),
        _HEADER + encode(Page(1, "NUL \0")).decode("latin-1"),
    ],
)
def test_nonsense_on_the_pipe_means_that_the_document_is_corrupt(data: str) -> None:
    assert _fail("write_to_the_pipe", data=data).error_code is IngestErrorCode.CORRUPT


def _ask(parser: str, kind: type[A], **arguments: Any) -> A:
    entry = f"{hostile_parsers.__name__}:{parser}"
    with start_with(entry, Path("/"), arguments, limits=_SHORT) as child:
        return child.answer(kind)


def test_a_child_can_answer_one_question() -> None:
    assert _ask("find_nothing", QuotePlace) == QuotePlace()


@pytest.mark.parametrize(
    ("parser", "code"),
    [
        ("find_nothing", IngestErrorCode.CORRUPT),  # no image
        ("print_noise", IngestErrorCode.CORRUPT),  # a document
        ("segfault", IngestErrorCode.CORRUPT),
        ("leave_quietly", IngestErrorCode.CORRUPT),
        ("loop_for_ever", IngestErrorCode.TIMED_OUT),
    ],
)
def test_another_answer_than_asked_for_is_refused(parser: str, code: IngestErrorCode) -> None:
    with pytest.raises(DocumentUnreadable) as caught:
        _ask(parser, PageImage)
    assert caught.value.error_code is code


def test_a_question_can_be_broken_off() -> None:
    entry = f"{hostile_parsers.__name__}:loop_for_ever"
    with start_with(entry, Path("/"), {}, limits=Limits()) as child:
        killer = threading.Timer(0.2, child.kill)
        killer.start()
        with pytest.raises(ParserLost):
            child.answer(PageImage)
        killer.join()


def test_a_closed_pipe_means_that_the_document_is_corrupt() -> None:
    assert _fail("close_the_pipe").error_code is IngestErrorCode.CORRUPT


def test_what_a_library_prints_is_no_message() -> None:
    assert _run("print_noise") == "quiet"


def test_a_child_knows_nothing_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    seen = _look_around()
    # Python sets this one itself where the system's locale is C.
    assert seen["environment"].keys() <= {"LC_CTYPE"}
    assert seen["folder"] == "/"
    assert not any("secret" in argument for argument in seen["arguments"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_child_holds_no_files_but_its_pipe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.set_inheritable(server.fileno(), True)
        # 3 is the pipe, 4 the folder that is being listed.
        assert _look_around()["descriptors"] == ["0", "1", "2", "3", "4"]


def test_a_child_loads_nothing_that_parsing_does_not_need() -> None:
    loaded = {name.partition(".")[0] for name in _look_around()["modules"]}
    assert not loaded & {"sqlalchemy", "pydantic", "structlog", "asyncio", "celery", "numpy"}


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_child_has_no_privileges() -> None:
    status = dict(line.split(":\t", 1) for line in _look_around()["status"].splitlines())
    assert status["NoNewPrivs"] == "1"
    may_read_all = 1 << 2
    assert int(status["CapEff"], 16) & ~may_read_all == 0
    assert int(status["CapPrm"], 16) & ~may_read_all == 0


def test_a_child_writes_no_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert _run("write_a_file", path=path) in ("OSError", "PermissionError")
    new = path.with_suffix(".new")
    assert not new.exists() or new.read_bytes() == b""


def _is_permitted(confine: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0 if confine() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_child_has_no_network() -> None:
    if not _is_permitted(leave_network):
        pytest.skip("this machine permits no network namespace")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert _run("connect", port=server.getsockname()[1]) in (
            "OSError",
            "PermissionError",
        )
    assert _run("list_network_interfaces") == "lo"


def test_a_child_has_no_sockets_of_the_file_system(tmp_path: Path) -> None:
    if not _is_permitted(deny_system_calls):
        pytest.skip("this machine permits no filter for system calls")
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        assert _run("connect_to_path", address=address) == "PermissionError"


@pytest.mark.parametrize("may_start_programs", [False, True])
def test_a_child_reads_no_file_but_its_document(tmp_path: Path, may_start_programs: bool) -> None:
    if not _is_permitted(lambda: confine_files([])):
        pytest.skip("this kernel has no Landlock, or the machine doesn't permit it")
    for name in ("blobs", "postgres"):
        (tmp_path / name).mkdir(mode=0o700)
    path, secret = tmp_path / "blobs" / "a", tmp_path / "postgres" / "password"
    path.write_text("document")
    secret.touch(mode=0o600)
    secret.write_text("secret")
    (path.parent / "b").write_text("of another user")
    entry = f"{hostile_parsers.__name__}:read_another_file"
    for other in (secret, path.parent / "b", Path("/etc/passwd")):
        with open_with(
            entry,
            path,
            {"other": str(other)},
            limits=_SHORT,
            may_start_programs=may_start_programs,
        ) as document:
            (page,) = document.pages()
        assert page.text == "document PermissionError"


@pytest.mark.parametrize("media_type", SAMPLES)
def test_every_format_is_read_as_without_a_sandbox(tmp_path: Path, media_type: str) -> None:
    name, data = SAMPLES[media_type]
    path = tmp_path / name
    path.write_bytes(data)
    with open_document(path, media_type) as document:
        expected = list(document.pages())
    assert _read(path, media_type) == expected


def test_what_a_child_started_ends_with_it() -> None:
    try:
        pid = int(_run("start_a_program"))
    except DocumentUnreadable:
        return  # not even that is permitted: only root's processes aren't counted
    assert _is_gone(pid)


def test_kill_unblocks_a_reader_and_can_be_repeated() -> None:
    entry = f"{hostile_parsers.__name__}:loop_on_page_two"
    with open_with(entry, Path("/"), {}, limits=Limits()) as document:
        pages = document.pages()
        next(pages)
        killer = threading.Timer(0.2, document.kill)
        killer.start()
        with pytest.raises(ParserLost):
            next(pages)
        killer.join()
        document.kill()
    document.kill()


def test_a_thread_that_still_reads_when_the_document_closes_is_let_go() -> None:
    entry = f"{hostile_parsers.__name__}:loop_on_page_two"
    ends: list[type[BaseException]] = []

    def read_on() -> None:
        try:
            next(pages)
        except (ParserLost, DocumentUnreadable) as error:
            ends.append(type(error))

    with open_with(entry, Path("/"), {}, limits=Limits()) as document:
        pages = document.pages()
        next(pages)
        reader = threading.Thread(target=read_on)
        reader.start()
    reader.join()
    assert ends == [ParserLost]


def test_leaving_early_ends_the_child() -> None:
    entry = f"{hostile_parsers.__name__}:many_pages"
    arguments = {"count": 100, "characters": 10_000}
    with open_with(entry, Path("/"), arguments, limits=_SHORT) as document:
        next(document.pages())
        (child,) = list_children()
    assert not _is_running(child)


def test_a_slow_reader_is_not_taken_for_silence() -> None:
    entry = f"{hostile_parsers.__name__}:many_pages"
    arguments = {"count": 30, "characters": 50_000}
    with open_with(entry, Path("/"), arguments, limits=Limits(silence_s=5.0)) as document:
        pages = document.pages()
        next(pages)
        time.sleep(6)
        assert sum(1 for _ in pages) == 29


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_child_dies_with_its_parent() -> None:
    code = (
        "import sys; from pathlib import Path; from app.ingestion.sandbox import *\n"
        f"with open_with('{hostile_parsers.__name__}:loop_on_page_two', Path('/'), {{}},"
        " limits=Limits()) as document:\n"
        "    pages = document.pages(); next(pages); print('ready', flush=True); next(pages)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        (child,) = list_children(parent.pid)
        parent.kill()
        parent.wait()
    assert _is_gone(child)
