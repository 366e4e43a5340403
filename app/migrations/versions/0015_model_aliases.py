"""Names that stand for chains of models, and which of a chain answered."""

from alembic import op

revision = "0015"
down_revision = "0014"

_UPGRADE: tuple[str, ...] = (
    # Of the deployment, of no organization: everybody may read what a name stands for.
    """
    CREATE TABLE model_aliases (
        name text CONSTRAINT pk_model_aliases PRIMARY KEY,
        description text NOT NULL DEFAULT '',
        targets jsonb NOT NULL CONSTRAINT ck_model_aliases_targets
            CHECK (jsonb_typeof(targets) = 'array' AND jsonb_array_length(targets) > 0),
        allow_extractive boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "ALTER TABLE model_aliases ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT ON model_aliases TO footnote_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON model_aliases TO footnote_system",
    "CREATE POLICY app ON model_aliases FOR SELECT TO footnote_app USING (true)",
    """
    CREATE POLICY system ON model_aliases TO footnote_system USING (true) WITH CHECK (true)
    """,
    """
    ALTER TABLE messages ADD COLUMN provider text,
        ADD COLUMN attempts smallint NOT NULL DEFAULT 0,
        ADD COLUMN fallbacks smallint NOT NULL DEFAULT 0
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    "ALTER TABLE messages DROP COLUMN fallbacks, DROP COLUMN attempts, DROP COLUMN provider",
    "DROP TABLE model_aliases",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
