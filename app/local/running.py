"""Where a running stack keeps its database, for commands beside it."""

from pathlib import Path
from urllib.parse import quote

from app.local.postgres import DATABASE

_PORT = 5432


def find_database_url(data_dir: Path) -> str | None:
    """Return how to reach the embedded Postgres that runs on this data folder, None without one."""
    folder = data_dir.absolute() / "postgres"
    try:
        socket_folder = (folder / "socket-folder").read_text().strip()
        password = (folder / "password").read_text().strip()
    except OSError:
        return None
    if not (Path(socket_folder) / f".s.PGSQL.{_PORT}").exists():
        return None
    return (
        f"postgresql+asyncpg://{DATABASE}:{password}@/{DATABASE}"
        f"?host={quote(socket_folder)}&port={_PORT}"
    )
