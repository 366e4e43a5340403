"""What a user sees of their sign-ins, and their name."""

from alembic import op

revision = "0009"
down_revision = "0008"

_UPGRADE: tuple[str, ...] = (
    "ALTER TABLE users ADD COLUMN name text NOT NULL DEFAULT ''",
    # Each token of a family has them from the one before it.
    """
    ALTER TABLE refresh_tokens ADD COLUMN client text NOT NULL DEFAULT '',
        ADD COLUMN signed_in_at timestamptz NOT NULL DEFAULT now()
    """,
    """
    UPDATE refresh_tokens t SET signed_in_at = f.signed_in_at
    FROM (SELECT family_id, min(created_at) AS signed_in_at
          FROM refresh_tokens GROUP BY family_id) f
    WHERE t.family_id = f.family_id
    """,
    # A browser that is used for a month leaves 3,000 used tokens, and whether its sign-in was ended
    # is asked every 5 s.
    """
    CREATE INDEX ix_refresh_tokens_revoked ON refresh_tokens (family_id)
    WHERE revoked_at IS NOT NULL
    """,
    """
    CREATE INDEX ix_refresh_tokens_live ON refresh_tokens (user_id)
    WHERE used_at IS NULL AND revoked_at IS NULL
    """,
    "CREATE INDEX ix_refresh_tokens_expires_at ON refresh_tokens (expires_at)",
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP INDEX ix_refresh_tokens_expires_at, ix_refresh_tokens_live, ix_refresh_tokens_revoked",
    "ALTER TABLE refresh_tokens DROP COLUMN signed_in_at, DROP COLUMN client",
    "ALTER TABLE users DROP COLUMN name",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
