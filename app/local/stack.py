"""`python -m app run`: Postgres, Redis, the worker and the API as one command."""

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.core.redis import WORKER_HEARTBEAT_KEY
from app.ingestion.ocr import find_ocr_engine
from app.local.folders import FolderLock, make_private_folder
from app.local.postgres import Postgres
from app.local.process import (
    STACK_VARIABLE,
    LocalStackError,
    Program,
    StopStep,
    describe_exit,
    kill_group,
    kill_leftovers,
    launch,
)
from app.local.redis import Redis
from app.local.server import LocalServer
from app.local.supervisor import Service, SignalInbox, StopRequested, Supervisor

_WATCH_S = 0.5
_HEALTH_POLL_S = 0.1
_HEALTH_TIMEOUT_S = 2.0
_NOTICE_AFTER_S = 20.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound

# The API drains its runs for 10 s, the worker may finish a short task and is then told to leave.
_API_STEPS = (StopStep(signal.SIGTERM, 11.5),)
_WORKER_STEPS = (StopStep(signal.SIGTERM, 5.0), StopStep(signal.SIGQUIT, 1.5))


@dataclass(frozen=True)
class Commands:
    """What the stack runs beside the servers, each with the stack's environment."""

    migrate: Sequence[str] = (sys.executable, "-m", "app", "migrate")
    recover: Sequence[str] = (sys.executable, "-m", "app", "recover")
    worker: Sequence[str] = (sys.executable, "-m", "app", "worker")
    api: Sequence[str] = (sys.executable, "-m", "app", "api")


def run_stack(settings: Settings, *, commands: Commands | None = None) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP, then stop it; prints when it is ready.

    Returns the exit status: 0 after a signal, 1 (with a line on stderr) if it cannot run. Must be
    called from the main thread, once in a process.
    """
    with SignalInbox() as inbox:
        try:
            with suppress(StopRequested):
                _run(settings, commands or Commands(), inbox)
        except LocalStackError as exc:
            _write(sys.stderr.write, f"Footnote cannot run: {exc}")
            return 1
    return 0


def check_port(host: str, port: int) -> None:
    """Raises LocalStackError if the API could not listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise LocalStackError(
                f"port {port} on {host} is already in use. Stop the program that listens there, "
                f"or choose another port: make run PORT={port + 1 if port < 65535 else 8000}"
            ) from exc
        raise LocalStackError(
            f"cannot listen on {host} port {port}: {exc.strerror}. Choose another PORT or HOST."
        ) from exc


def _run(settings: Settings, commands: Commands, inbox: SignalInbox) -> None:
    """Raises StopRequested or LocalStackError, in either case with everything stopped."""
    data_dir = make_private_folder(settings.data_dir.absolute()).resolve()
    with ExitStack() as stack:
        stack.enter_context(FolderLock(make_private_folder(data_dir / "run"), what="Footnote"))
        kill_leftovers(data_dir)
        check_port(settings.host, settings.port)
        # The children inherit it, whoever starts them.
        os.environ[STACK_VARIABLE] = str(data_dir)

        servers = _start_servers(settings, data_dir, stack, inbox)
        supervisor = Supervisor(say=_say)
        stack.callback(supervisor.stop)
        for server in servers:
            supervisor.watch(
                Service(server.name, server.spawn, server.stop_steps, process=server.process)
            )
        env = _environment(settings, data_dir, servers)
        # A database of our own has no other workers, and the last of ours are gone.
        is_ours = not settings.database_url
        _migrate(commands.recover if is_ours else commands.migrate, env, inbox)
        for name, queues in _workers(settings).items():
            supervisor.start(_service(name, commands.worker, env | queues, _WORKER_STEPS))
        supervisor.start(_service("api", commands.api, env, _API_STEPS))
        _wait_until_ready(settings, supervisor, inbox)
        _say(f"Footnote is ready on {_base_url(settings)}")
        supervisor.is_ready = True
        while True:
            supervisor.restart_dead()
            inbox.pause(_WATCH_S)


def _start_servers(
    settings: Settings, data_dir: Path, stack: ExitStack, inbox: SignalInbox
) -> list[LocalServer]:
    """Start the embedded servers that no URL replaces, side by side; `stack` stops them."""
    servers: list[LocalServer] = []
    logs = make_private_folder(data_dir / "logs")
    if not settings.database_url:
        servers.append(Postgres(data_dir / "postgres", log_path=logs / "postgres.log"))
    if not settings.redis_url:
        servers.append(Redis(data_dir / "redis", log_path=logs / "redis.log"))
    for server in servers:
        stack.callback(server.stop)
        server.prepare()
        server.spawn()
    for server in servers:
        server.wait_until_ready(pause=inbox.pause)
        if isinstance(server, Redis):
            # The last worker's sign of life is kept like everything; this one has yet to give its.
            server.forget(WORKER_HEARTBEAT_KEY)
    return servers


def _environment(
    settings: Settings, data_dir: Path, servers: Sequence[LocalServer]
) -> dict[str, str]:
    """What the worker and the API need to know, over what this process was given itself."""
    embedded = {server.name: server.url for server in servers}
    metrics = data_dir / "run" / "metrics"
    # Counters of processes that are gone would be added to the new ones.
    shutil.rmtree(metrics, ignore_errors=True)
    make_private_folder(metrics)
    return {
        **os.environ,
        "DATABASE_URL": embedded.get("postgres", settings.database_url),
        "REDIS_URL": embedded.get("redis", settings.redis_url),
        "DATA_DIR": str(data_dir),
        "PORT": str(settings.port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "PYTHONUNBUFFERED": "1",
    }


def _workers(settings: Settings) -> dict[str, dict[str, str]]:
    """Name and settings of each worker. Scans, which take long, don't hold up other documents."""
    if find_ocr_engine(settings.ocr_languages) is None:
        _say("Scans will not be read: Tesseract is not installed or turned off (see README.md).")
        return {"worker": {"WORKER_QUEUES": "ingest,purge"}}
    return {
        "worker": {"WORKER_QUEUES": "ingest,purge"},
        "ocr-worker": {"WORKER_QUEUES": "ocr", "WORKER_CONCURRENCY": "1"},
    }


def _service(
    name: str, command: Sequence[str], env: dict[str, str], stop_steps: Sequence[StopStep]
) -> Service:
    program = Program(name=name, command=command, env=env)
    return Service(name, lambda: launch(program), stop_steps)


def _migrate(command: Sequence[str], env: dict[str, str], inbox: SignalInbox) -> None:
    """Bring the schema up to date, in a process of its own: it can be interrupted."""
    process = launch(Program(name="migrate", command=command, env=env))
    try:
        while process.poll() is None:
            inbox.pause(_WATCH_S)
    finally:
        kill_group(process)
    if process.returncode != 0:
        raise LocalStackError(f"the migration {describe_exit(process)}; its messages are above.")


def _wait_until_ready(settings: Settings, supervisor: Supervisor, inbox: SignalInbox) -> None:
    """Until the API answers and hears its worker. Raises LocalStackError if either keeps dying."""
    next_notice = time.monotonic() + _NOTICE_AFTER_S
    while missing := _find_missing(settings):
        supervisor.restart_dead()
        if time.monotonic() > next_notice:
            _say(f"Still waiting for: {missing}")
            next_notice += _NOTICE_AFTER_S
        inbox.pause(_HEALTH_POLL_S)


def _find_missing(settings: Settings) -> str | None:
    """What the stack is still waiting for, or None."""
    host = _ANY_ADDRESS.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return "the API"
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        return "the API to become ready"
    with suppress(ValueError, TypeError, KeyError):
        if json.loads(body)["checks"]["worker"] == "ok":
            return None
    return "the worker"


def _base_url(settings: Settings) -> str:
    host = _ANY_ADDRESS.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _say(message: str) -> None:
    _write(sys.stdout.write, message)


def _write(write: Callable[[str], int], message: str) -> None:
    # The terminal may be gone; that must not keep the stack from stopping.
    with suppress(OSError, ValueError):
        write(message + "\n")
        sys.stdout.flush()
