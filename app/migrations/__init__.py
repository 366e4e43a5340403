"""Alembic migrations. They also create roles, policies, partitions and functions.

`upgrade(url)` brings a database to the newest schema, as the owner that `DATABASE_URL` names.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing; safe to run twice and by several processes at once. Blocks.

    Must not be called from a running event loop. Raises what the driver raises.
    """
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Undo migrations down to `revision` ("base" undoes all)."""
    command.downgrade(_config(database_url), revision)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config
