"""Tags and metadata of documents."""

from alembic import op

revision = "0003"
down_revision = "0002"

# No index on them: their operators are not leakproof, so under a policy none would be used, and
# each step of a document's progress would have to write into it.
_UPGRADE: tuple[str, ...] = (
    """
    ALTER TABLE documents
        ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
        ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'
            CONSTRAINT ck_documents_metadata_is_object CHECK (jsonb_typeof(metadata) = 'object')
    """,
    # Null: the upload says nothing of them, so a known document keeps its own.
    """
    ALTER TABLE uploads
        ADD COLUMN document_tags text[],
        ADD COLUMN document_metadata jsonb
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    "ALTER TABLE uploads DROP COLUMN document_tags, DROP COLUMN document_metadata",
    "ALTER TABLE documents DROP COLUMN tags, DROP COLUMN metadata",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
