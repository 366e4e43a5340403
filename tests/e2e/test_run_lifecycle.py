"""`python -m app run`, the real thing: ready, killed, started again, stopped."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.local.privileges import SystemUser
from tests.people import PASSWORD
from tests.stack_process import WAIT_S, StackProcess, free_port, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

RUN = [sys.executable, "-m", "app", "run"]
EMAIL = "lifecycle@example.com"
API, WORKER = "-m app api", "--hostname=ingest"
# CAP_DAC_READ_SEARCH: the interpreter may lie below a folder that only root can enter.
NOBODY = SystemUser(uid=65534, gid=65534, name="nobody", capability=2)


@contextmanager
def running(data_dir: Path, *, user: SystemUser | None = None) -> Iterator[StackProcess]:
    with StackProcess(RUN, data_dir=data_dir, port=free_port(), user=user) as stack:
        stack.wait_for(f"Footnote is ready on {stack.url}\n")
        yield stack


def register(stack: StackProcess) -> int:
    body = {"email": EMAIL, "password": PASSWORD}
    url = f"{stack.url}/api/v1/auth/register"
    return httpx2.post(url, json=body, timeout=WAIT_S).status_code


def login(stack: StackProcess) -> int:
    form = {"username": EMAIL, "password": PASSWORD}
    return httpx2.post(f"{stack.url}/api/v1/auth/login", data=form, timeout=WAIT_S).status_code


def checks(stack: StackProcess) -> dict[str, str]:
    try:
        response = httpx2.get(f"{stack.url}/health/ready", timeout=WAIT_S)
    except httpx2.TransportError:
        return {}
    found: dict[str, str] = response.json()["checks"]
    return found


def is_whole(stack: StackProcess) -> bool:
    found = checks(stack)
    return all(found.get(part) == "ok" for part in ("database", "redis", "worker"))


def test_it_survives_the_death_of_every_part_and_keeps_the_data(tmp_path: Path) -> None:
    data_dir = tmp_path / "data with a space"
    with running(data_dir) as stack:
        assert is_whole(stack)
        assert register(stack) == 201

        for part in (API, WORKER, "postgres -D", "redis-server"):
            before = stack.pids_of(part)
            os.kill(before[0], signal.SIGKILL)
            stack.wait_for_other_than(before[0], part)
            # The children of Celery's main process and Postgres's backends went with it.
            stack.wait_for_end_of(before)
        wait_until(lambda: is_whole(stack))
        assert login(stack) == 200

        stack.process.kill()
        stack.process.wait()
        wait_until(lambda: stack.pids() == [])

    with running(data_dir) as stack:
        assert login(stack) == 200
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(WAIT_S) == 0
        assert stack.pids() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_run_it(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY.uid, NOBODY.gid)
    with running(tmp_path / "data", user=NOBODY) as stack:
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in stack.pids()} == {NOBODY.uid}
        stack.process.terminate()
        assert stack.process.wait(WAIT_S) == 0
        assert stack.pids() == []
