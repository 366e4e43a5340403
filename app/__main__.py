"""The command line: `python -m app COMMAND`, where `--help` lists the commands."""

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Never

from pydantic import ValidationError

from app.config import Settings
from app.llm.model_names import ModelsMisconfigured, check_models

_LOCAL_DRAIN_S = 10
_DRAIN_S = 25
_KEEP_ALIVE_S = 5


class SettingMissing(Exception):
    """A command can't do without this setting. The message names it and the remedy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status; 2 means that a setting is wrong."""
    options = _parse(arguments)
    try:
        settings = Settings()
    except ValidationError as exc:
        for line in describe_settings_errors(exc):
            print(line, file=sys.stderr)
        return 2
    try:
        return COMMANDS[options.command](settings, options)
    except (ModelsMisconfigured, SettingMissing) as exc:
        print(f"Setting {exc}", file=sys.stderr)
        return 2


def describe_settings_errors(error: ValidationError) -> list[str]:
    """One line for each setting that cannot work. Never shows the value: it may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in problem["loc"]).upper()
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"Setting {name}: {message}" if name else f"Setting {message}")
    return lines


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Footnote: chat with documents. Settings come from the environment and .env.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, function in COMMANDS.items():
        summary = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        command = commands.add_parser(name, help=summary, description=summary)
        if add_arguments := ARGUMENTS.get(name):
            add_arguments(command)
    return parser.parse_args(arguments)


def _require(settings: Settings, *names: str) -> None:
    """Raise SettingMissing if one of these URLs is empty."""
    missing = [name.upper() for name in names if not getattr(settings, name)]
    if missing:
        raise SettingMissing(
            f"{' and '.join(missing)}: not set. Set what is missing, or use `python -m app run`, "
            "which starts servers of its own."
        )


def _find_database(settings: Settings) -> str:
    """Return the URL of the database: DATABASE_URL, or that of a stack that runs on DATA_DIR."""
    from app.local.running import find_database_url  # noqa: PLC0415

    url = settings.database_url or find_database_url(settings.data_dir)
    if not url:
        raise SettingMissing(
            "DATABASE_URL: not set, and nothing runs on DATA_DIR. Set it, or start "
            "`python -m app run` first."
        )
    return url


# Each command imports what it alone needs: the worker's start should not wait for the API's
# modules, nor --help for any.


def _run(settings: Settings, _options: argparse.Namespace) -> int:
    """start everything on this machine: Postgres, Redis, a worker and the API."""
    check_models(settings)
    from app.core.logging import configure_logging  # noqa: PLC0415
    from app.local.stack import run_stack  # noqa: PLC0415

    configure_logging(settings.log_level)

    return run_stack(settings)


def _api(settings: Settings, _options: argparse.Namespace) -> int:
    """serve the API (needs DATABASE_URL and REDIS_URL)."""
    _require(settings, "database_url", "redis_url")
    check_models(settings)
    # When uvicorn has shut down it hands the signal on, which would end this process as killed.
    signal.signal(signal.SIGTERM, _leave)
    import uvicorn  # noqa: PLC0415

    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        http="app.core.http_protocol:BoundedHttpProtocol",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S if settings.is_production else _LOCAL_DRAIN_S,
        server_header=False,
        access_log=False,
        log_config=None,
    )
    return 0


def _leave(_number: int, _frame: FrameType | None) -> Never:
    raise SystemExit(0)


def _worker(settings: Settings, _options: argparse.Namespace) -> int:
    """work off the queue of documents (needs DATABASE_URL and REDIS_URL)."""
    _require(settings, "database_url", "redis_url")
    check_models(settings)
    # Replaces this process, so that signals reach Celery itself. Heartbeats stay on: readiness
    # is told by them.
    os.execv(  # noqa: S606
        sys.executable,
        [
            # As root it warns in seven lines; in a container root is the rule.
            *(sys.executable, "-W", "ignore:You're running the worker with superuser privileges"),
            *("-m", "celery", "--quiet", "-A", "worker.celery_app", "worker"),
            *("--loglevel=WARNING", f"--concurrency={settings.worker_concurrency}"),
            *("--without-gossip", "--without-mingle"),
            # Tells the workers of one machine apart.
            f"--hostname={settings.worker_queues.replace(',', '-')}@%h",
        ],
    )


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    """bring the schema of DATABASE_URL up to date."""
    _require(settings, "database_url")
    from app.migrations import upgrade  # noqa: PLC0415

    upgrade(settings.database_url)
    return 0


def _recover(settings: Settings, options: argparse.Namespace) -> int:
    """migrate, and queue anew what stopped workers were at: only while no worker runs."""
    _migrate(settings, options)
    from app.ingestion.lease import requeue_all  # noqa: PLC0415

    asyncio.run(requeue_all(settings.database_url))
    return 0


def _doctor(settings: Settings, _options: argparse.Namespace) -> int:
    """check everything that is needed, and say what to do."""
    from app.core.logging import configure_logging  # noqa: PLC0415
    from app.local.doctor import run_doctor  # noqa: PLC0415

    configure_logging("ERROR")  # it says everything itself

    return run_doctor(settings, say=print)


def _admin(settings: Settings, options: argparse.Namespace) -> int:
    """grant EMAIL makes a user an operator of this deployment, revoke EMAIL undoes it; list."""
    from app.accounts.operators import list_operators, set_operator  # noqa: PLC0415
    from app.core.errors import Conflict, UnprocessableRequest  # noqa: PLC0415

    if (options.step == "list") == bool(options.email):
        print("`grant` and `revoke` take an address, `list` takes none.", file=sys.stderr)
        return 2
    url = _find_database(settings)
    if options.step == "list":
        print("\n".join(asyncio.run(list_operators(url))))
        return 0
    is_operator = options.step == "grant"
    try:
        found = asyncio.run(set_operator(url, options.email, is_operator=is_operator))
    except UnprocessableRequest as exc:
        print(exc.message, file=sys.stderr)
        return 2
    except Conflict as exc:
        print(exc.message, file=sys.stderr)
        return 1
    if not found:
        print("There is no user with this address: register first.", file=sys.stderr)
        return 1
    print(f"{options.email} is {'now' if is_operator else 'no longer'} an operator.")
    return 0


def _reembed(settings: Settings, options: argparse.Namespace) -> int:
    """change the embedding model without a pause: start, status, switch, rollback, finish, …."""
    from app.core.logging import configure_logging  # noqa: PLC0415
    from app.local.reembed import START, run_reembed  # noqa: PLC0415

    configure_logging("ERROR")  # it says everything itself
    if (options.step == START) != bool(options.model):
        print("`start` takes a model, as provider/model, and nothing else does.", file=sys.stderr)
        return 2
    return asyncio.run(
        run_reembed(
            settings,
            _find_database(settings),
            options.step,
            model=options.model or "",
            is_held=options.hold,
            space_id=options.space,
            say=print,
        )
    )


def _openapi(settings: Settings, _options: argparse.Namespace) -> int:
    """print the API's OpenAPI document, which clients are made from."""
    from app.main import create_app  # noqa: PLC0415

    # The document is the product's, whatever an installation calls itself.
    name = Settings.model_fields["app_name"].default
    document = create_app(settings.model_copy(update={"app_name": name})).openapi()
    print(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False))
    return 0


def _add_reembed_arguments(parser: argparse.ArgumentParser) -> None:
    steps = ("start", "status", "pause", "resume", "cancel", "switch", "rollback", "finish")
    parser.add_argument("step", choices=steps, metavar="STEP", help=", ".join(steps))
    parser.add_argument("model", nargs="?", metavar="MODEL", help="for start: provider/model")
    parser.add_argument("--hold", action="store_true", help="for start: wait for `switch`")
    parser.add_argument("--space", type=int, metavar="ID", help="another space than the one beside")


def _add_admin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("step", choices=("grant", "revoke", "list"), metavar="STEP")
    parser.add_argument("email", nargs="?", default="", metavar="EMAIL", help="the registered one")


COMMANDS: Mapping[str, Callable[[Settings, argparse.Namespace], int]] = {
    "run": _run,
    "api": _api,
    "worker": _worker,
    "migrate": _migrate,
    "recover": _recover,
    "admin": _admin,
    "reembed": _reembed,
    "doctor": _doctor,
    "openapi": _openapi,
}
# What a command takes besides its name.
ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "admin": _add_admin_arguments,
    "reembed": _add_reembed_arguments,
}

if __name__ == "__main__":
    sys.exit(main())
