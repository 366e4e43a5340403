"""The embedded Postgres and Redis: start, stop, what a killed predecessor left, whose they are."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis import Redis as RedisClient

from app.core.process import die_with_parent
from app.local.postgres import Postgres
from app.local.privileges import SystemUser, become
from app.local.process import LocalStackError
from app.local.redis import Redis

NOBODY = SystemUser(uid=65534, gid=65534, name="nobody", capability=2)  # CAP_DAC_READ_SEARCH
WAIT_S = 30.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="children die with us on Linux")

HOLD_BOTH = """
    import sys, time
    from pathlib import Path
    from app.local.postgres import Postgres
    from app.local.redis import Redis

    folder = Path(sys.argv[1])
    with Postgres(folder / "postgres", options={"fsync": "off"}) as postgres:
        with Redis(folder / "redis") as redis:
            print(postgres.process.pid, redis.process.pid, flush=True)
            time.sleep(120)
"""


def open_postgres(folder: Path) -> Postgres:
    return Postgres(folder, options={"fsync": "off"})


async def query(postgres: Postgres, sql: str) -> object:
    connection = await asyncpg.connect(postgres.url.replace("+asyncpg", ""))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def holder(folder: Path, *, user: SystemUser | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that runs both servers on `folder`; killed at the end."""

    def prepare() -> None:
        if user is not None:
            become(user)
        die_with_parent()

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD_BOTH), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def pids_of(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


async def test_postgres_keeps_data_over_a_restart_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "with a space" / "postgres"
    with open_postgres(folder) as postgres:
        await query(postgres, "CREATE EXTENSION vector")
        await query(postgres, "CREATE TABLE kept AS SELECT '[1,2]'::vector AS v")
        socket_folder = postgres.socket_folder
        assert socket_folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "password").stat().st_mode & 0o777 == 0o600
    assert not socket_folder.exists()

    with open_postgres(folder) as postgres:
        assert await query(postgres, "SELECT v::text FROM kept") == "[1,2]"
        facts = "SELECT concat_ws(' ', current_user, current_database(), {}, {}, {})".format(
            "current_setting('server_encoding')",
            "current_setting('jit')",
            "(SELECT datcollate FROM pg_database WHERE datname = current_database())",
        )
        assert await query(postgres, facts) == "footnote footnote UTF8 off C"


async def test_postgres_asks_for_the_password(tmp_path: Path) -> None:
    with (
        open_postgres(tmp_path / "postgres") as postgres,
        pytest.raises(asyncpg.InvalidPasswordError),
    ):
        await asyncpg.connect(
            host=str(postgres.socket_folder),
            port=5432,
            user="footnote",
            password="wrong",
            database="footnote",
        )


async def test_postgres_starts_in_an_empty_folder_that_exists(tmp_path: Path) -> None:
    with open_postgres(tmp_path) as postgres:
        assert await query(postgres, "SELECT 1") == 1


async def test_a_lost_password_is_replaced(tmp_path: Path) -> None:
    with open_postgres(tmp_path / "postgres"):
        pass
    (tmp_path / "postgres" / "password").unlink()
    with open_postgres(tmp_path / "postgres") as postgres:
        assert await query(postgres, "SELECT 1") == 1


async def test_postgres_ignores_the_users_own_postgres_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    with open_postgres(tmp_path / "postgres") as postgres:
        assert await query(postgres, "SELECT 1") == 1


@pytest.mark.parametrize("server", [Postgres, Redis])
def test_a_folder_in_use_is_refused(tmp_path: Path, server: type[Postgres | Redis]) -> None:
    refusal = rf"already running.*process {os.getpid()}"
    with server(tmp_path / "data"), pytest.raises(LocalStackError, match=refusal):
        server(tmp_path / "data").start()


def test_data_of_another_major_version_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(LocalStackError, match="made by Postgres 17"):
        open_postgres(tmp_path / "postgres").start()


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="unrecognized configuration parameter"):
        Postgres(tmp_path / "postgres", options={"nonsense": "1"}).start()


@needs_linux
async def test_a_pid_file_that_names_an_unrelated_process_is_cleared(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with open_postgres(folder) as postgres:
        pid_file = folder / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        await query(postgres, "SELECT 1")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    try:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        with open_postgres(folder) as postgres:
            assert await query(postgres, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        # Not reaped yet: now the pid file names a zombie.
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        with open_postgres(folder) as postgres:
            assert await query(postgres, "SELECT 1") == 1
        bystander.wait()


@needs_linux
async def test_a_killed_postmaster_can_be_spawned_again_at_once(tmp_path: Path) -> None:
    with open_postgres(tmp_path / "postgres") as postgres:
        url = postgres.url
        assert postgres.process is not None
        sleeper = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            postgres.process.kill()
            postgres.process.wait()
            postgres.spawn()
            postgres.wait_until_ready()
        finally:
            sleeper.terminate()
        assert postgres.url == url
        assert await query(postgres, "SELECT 1") == 1


@needs_linux
def test_servers_die_with_a_killed_parent_and_leave_nothing_to_stop_the_next(
    tmp_path: Path,
) -> None:
    with holder(tmp_path) as process:
        pids = pids_of(process)
        sockets = [
            Path((tmp_path / n / "socket-folder").read_text()) for n in ("postgres", "redis")
        ]
        process.kill()
        wait_until(lambda: not any(is_running(pid) for pid in pids))
    with open_postgres(tmp_path / "postgres"), Redis(tmp_path / "redis"):
        assert not any(folder.exists() for folder in sockets)


@needs_linux
@needs_root
def test_an_ordinary_user_can_run_both(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    os.chown(folder, NOBODY.uid, NOBODY.gid)
    with holder(folder, user=NOBODY) as process:
        pids = pids_of(process)
        assert len(pids) == 2
        for pid in pids:
            assert Path(f"/proc/{pid}").stat().st_uid == NOBODY.uid
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not any(is_running(pid) for pid in pids))
    # Root leaves the data with their owner.
    with open_postgres(folder / "postgres"):
        assert (folder / "postgres" / "data").stat().st_uid == NOBODY.uid


def test_redis_keeps_its_queue_over_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2):
        with Redis(tmp_path / "redis") as redis, RedisClient.from_url(redis.url) as client:
            assert client.incr("starts") == expected
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert redis.socket_folder.stat().st_mode & 0o777 == 0o700


def test_redis_sets_a_log_aside_that_it_cannot_read(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "appendonly.aof").write_bytes(b"this is no log of commands\r\n" * 10)
    with Redis(folder) as redis, RedisClient.from_url(redis.url) as client:
        assert client.ping()
    assert list(folder.glob("appendonly.aof.unreadable-*"))
