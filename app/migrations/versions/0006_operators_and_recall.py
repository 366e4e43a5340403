"""Operators, and the measured recall of vector indexes."""

from alembic import op

revision = "0006"
down_revision = "0005"

_UPGRADE: tuple[str, ...] = (
    "ALTER TABLE users ADD COLUMN is_operator boolean NOT NULL DEFAULT false",
    # The last measurement of each space. Of no organization: the app's role never sees it.
    """
    CREATE TABLE index_recall (
        space_id integer CONSTRAINT pk_index_recall PRIMARY KEY
            CONSTRAINT fk_index_recall_space_id REFERENCES embedding_spaces ON DELETE CASCADE,
        measured_at timestamptz NOT NULL DEFAULT now(),
        has_hnsw boolean NOT NULL,
        queries integer NOT NULL,
        hnsw_queries integer NOT NULL,
        recall double precision NOT NULL,
        worst_org_id uuid NOT NULL,
        worst_recall double precision NOT NULL
    )
    """,
    "ALTER TABLE index_recall ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON index_recall TO footnote_system",
    """
    CREATE POLICY system ON index_recall TO footnote_system USING (true) WITH CHECK (true)
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP TABLE index_recall",
    "ALTER TABLE users DROP COLUMN is_operator",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
