"""Files and vector stores in the shapes of OpenAI's API, and responses that are kept."""

from alembic import op

revision = "0018"
down_revision = "0017"

_TENANT_TABLES = (
    *("openai_files", "vector_stores", "vector_store_files", "vector_store_batches"),
    "openai_responses",
)
_OF_DOCUMENTS = ("openai_files", "vector_store_files")
_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    # What only that API says of a document. It goes with the document's row.
    """
    CREATE TABLE openai_files (
        org_id uuid NOT NULL,
        document_id uuid NOT NULL,
        purpose text NOT NULL CONSTRAINT ck_openai_files_purpose
            CHECK (purpose IN ('assistants', 'user_data')),
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_openai_files PRIMARY KEY (org_id, document_id),
        CONSTRAINT fk_openai_files_org_id_document_id FOREIGN KEY (org_id, document_id)
            REFERENCES documents (org_id, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE vector_stores (
        org_id uuid NOT NULL CONSTRAINT fk_vector_stores_org_id
            REFERENCES organizations ON DELETE CASCADE,
        id uuid NOT NULL,
        created_by uuid,
        name text NOT NULL DEFAULT '',
        description text,
        metadata jsonb NOT NULL DEFAULT '{}' CONSTRAINT ck_vector_stores_metadata_is_object
            CHECK (jsonb_typeof(metadata) = 'object'),
        expires_after_days integer CONSTRAINT ck_vector_stores_expires_after_days
            CHECK (expires_after_days BETWEEN 1 AND 365),
        created_at timestamptz NOT NULL DEFAULT now(),
        last_active_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_vector_stores PRIMARY KEY (org_id, id)
    )
    """,
    """
    CREATE TABLE vector_store_files (
        org_id uuid NOT NULL,
        vector_store_id uuid NOT NULL,
        document_id uuid NOT NULL,
        attributes jsonb NOT NULL DEFAULT '{}' CONSTRAINT ck_vector_store_files_attributes_is_object
            CHECK (jsonb_typeof(attributes) = 'object'),
        created_at timestamptz NOT NULL DEFAULT now(),
        cancelled_at timestamptz,
        CONSTRAINT pk_vector_store_files PRIMARY KEY (org_id, vector_store_id, document_id),
        CONSTRAINT fk_vector_store_files_org_id_vector_store_id
            FOREIGN KEY (org_id, vector_store_id)
            REFERENCES vector_stores (org_id, id) ON DELETE CASCADE,
        CONSTRAINT fk_vector_store_files_org_id_document_id FOREIGN KEY (org_id, document_id)
            REFERENCES documents (org_id, id) ON DELETE CASCADE
    )
    """,
    # For a document that goes, and for the filter of a search, which asks by document.
    """
    CREATE INDEX ix_vector_store_files_org_id_document_id
        ON vector_store_files (org_id, document_id)
    """,
    # The files by id alone: what became of them is in `vector_store_files`.
    """
    CREATE TABLE vector_store_batches (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        vector_store_id uuid NOT NULL,
        document_ids uuid[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        cancelled_at timestamptz,
        CONSTRAINT pk_vector_store_batches PRIMARY KEY (org_id, id),
        CONSTRAINT fk_vector_store_batches_org_id_vector_store_id
            FOREIGN KEY (org_id, vector_store_id)
            REFERENCES vector_stores (org_id, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX ix_vector_store_batches_org_id_vector_store_id
        ON vector_store_batches (org_id, vector_store_id)
    """,
    # What was asked besides the words, of a run whose answer is a response. It goes with the run.
    """
    CREATE TABLE openai_responses (
        org_id uuid NOT NULL,
        run_id uuid NOT NULL,
        previous_run_id uuid,
        request jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_openai_responses PRIMARY KEY (org_id, run_id),
        CONSTRAINT fk_openai_responses_org_id_run_id FOREIGN KEY (org_id, run_id)
            REFERENCES runs (org_id, id) ON DELETE CASCADE
    )
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)
    for table in _TENANT_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO footnote_system")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO footnote_app")
        op.execute(
            f"CREATE POLICY system ON {table} TO footnote_system USING (true) WITH CHECK (true)"
        )
        op.execute(
            f"CREATE POLICY tenant ON {table} TO footnote_app"
            f" USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})"
        )
    # What is said of a document is shown where the document shows: see 0014.
    for table in _OF_DOCUMENTS:
        shown = (
            f"org_id = {_ORG} AND EXISTS (SELECT FROM documents d"
            f" WHERE d.org_id = {table}.org_id AND d.id = {table}.document_id)"
        )
        op.execute(f"ALTER POLICY tenant ON {table} USING ({shown}) WITH CHECK ({shown})")


def downgrade() -> None:
    op.execute(
        "DROP TABLE openai_responses, vector_store_batches, vector_store_files, vector_stores,"
        " openai_files"
    )
