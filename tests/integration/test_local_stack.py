"""The supervisor with stand-ins for API and worker: ready line, restarts, order, clean-up."""

import os
import signal
import socket
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack_process import WAIT_S, StackProcess, free_port, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Both write a line when they are told to end, so that the order can be read from the output.
API = """
    import http.server, os, signal, sys
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"status": "ready", "checks": {"worker": "ok"}}'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
    def end(*_):
        print("api ends", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health)
    server.serve_forever()
"""
# Like Celery's: a main process with a child that knows nothing of signals.
WORKER = """
    import os, signal, subprocess, sys, time
    def end(*_):
        print("worker ends", flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(%d)" % 301])
    print("worker starts", flush=True)
    time.sleep(300)
"""
POOL_CHILD = "time.sleep(301)"
RUN = """
    import sys
    from app.config import Settings
    from app.local.stack import Commands, run_stack

    migrate, worker, api = ((sys.executable, "-c", script) for script in sys.argv[1:])
    recover = (*migrate, "and recovered")
    commands = Commands(migrate=migrate, recover=recover, worker=worker, api=api)
    sys.exit(run_stack(Settings(), commands=commands))
"""
MIGRATE = """
    import os, sys
    print(os.environ["DATABASE_URL"].partition(":")[0], "migrated", *sys.argv[1:], flush=True)
"""


@contextmanager
def running(
    data_dir: Path, *, migrate: str = MIGRATE, worker: str = WORKER, api: str = API
) -> Iterator[StackProcess]:
    stack = launch(data_dir, port=free_port(), migrate=migrate, worker=worker, api=api)
    with stack:
        yield stack


def launch(
    data_dir: Path, *, port: int, migrate: str = MIGRATE, worker: str = WORKER, api: str = API
) -> StackProcess:
    scripts = [textwrap.dedent(script) for script in (RUN, migrate, worker, api)]
    return StackProcess([sys.executable, "-c", *scripts], data_dir=data_dir, port=port)


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_of_it_in_order(tmp_path: Path, stop_signal: signal.Signals) -> None:
    with running(tmp_path / "data dir") as stack:
        stack.wait_for(f"Footnote is ready on http://127.0.0.1:{stack.port}\n")
        assert "postgresql+asyncpg migrated and recovered" in stack.output()
        stack.process.send_signal(stop_signal)
        assert stack.process.wait(WAIT_S) == 0
        assert stack.pids() == []
        assert stack.output().index("api ends") < stack.output().index("worker ends")


def test_a_dead_child_comes_back_and_takes_nothing_of_its_own_along(tmp_path: Path) -> None:
    with running(tmp_path / "data") as stack:
        stack.wait_for("Footnote is ready")
        stack.wait_for("worker starts", times=2)  # one for documents, one for deletions
        pool_children = stack.pids_of(POOL_CHILD)
        for worker in stack.pids_of("worker starts"):
            os.kill(worker, signal.SIGKILL)
        stack.wait_for("worker starts", times=4)
        stack.wait_for_end_of(pool_children)
        for server in ("postgres -D", "redis-server"):
            victim = stack.pid_of(server)
            os.kill(victim, signal.SIGKILL)
            stack.wait_for_other_than(victim, server)
        assert stack.process.poll() is None


def test_a_killed_supervisor_leaves_nothing_that_stops_the_next(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir) as stack:
        stack.wait_for("Footnote is ready")
        orphans = set(stack.pids_of(POOL_CHILD))
        stack.process.kill()
        stack.process.wait()
        # The stand-ins' children did not ask to die with their parents, as Celery's do: the next
        # start finds them.
        wait_until(lambda: set(stack.pids()) <= orphans)
        with running(data_dir) as successor:
            successor.wait_for("Footnote is ready")
            assert not orphans & set(successor.pids())


def test_two_stacks_run_side_by_side(tmp_path: Path) -> None:
    with running(tmp_path / "one") as one, running(tmp_path / "two") as two:
        one.wait_for("Footnote is ready")
        two.wait_for("Footnote is ready")
        one.process.terminate()
        assert one.process.wait(WAIT_S) == 0
        assert two.process.poll() is None
        assert two.pids()


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        first.wait_for("Footnote is ready")
        before = first.pids()
        second = launch(tmp_path / "data", port=free_port())
        assert second.process.wait(WAIT_S) == 1
        assert f"already running on {tmp_path / 'data'}" in second.output()
        assert set(before) <= set(first.pids())


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stack = launch(tmp_path / "data", port=port)
        assert stack.process.wait(WAIT_S) == 1
    assert f"port {port} on 127.0.0.1 is already in use" in stack.output()
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize(
    ("part", "reason"),
    [("api", "api exited with status 3, 3 times in a row"), ("migrate", "the migration exited")],
)
def test_what_cannot_start_ends_the_stack_with_the_reason(
    tmp_path: Path, part: str, reason: str
) -> None:
    scripts = {part: "import sys; print('the cause', flush=True); sys.exit(3)"}
    with running(tmp_path / "data", **scripts) as stack:
        assert stack.process.wait(WAIT_S) == 1
        assert reason in stack.output()
        assert "the cause" in stack.output()
        assert stack.pids() == []


def test_given_urls_replace_the_embedded_servers_and_nothing_is_taken_from_other_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://elsewhere/db")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    show = """
        import os, sys
        print(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], *sys.argv[1:], flush=True)
    """
    with running(tmp_path / "data", migrate=show) as stack:
        stack.wait_for("postgresql+asyncpg://elsewhere/db redis://elsewhere\n")
        stack.wait_for("Footnote is ready")
        assert not (tmp_path / "data" / "postgres").exists()
        stack.process.terminate()
        assert stack.process.wait(WAIT_S) == 0
