"""Versions and checkpoints of documents, recognized pages, receipts, idempotency keys, uploads."""

from alembic import op

revision = "0002"
down_revision = "0001"

_UPGRADE = (
    # When a worker last took something of the organization: who waited longest is next.
    """
    ALTER TABLE organizations
        ADD COLUMN ingested_at timestamptz,
        ADD COLUMN recognized_at timestamptz
    """,
    """
    ALTER TABLE documents
        ADD COLUMN version integer NOT NULL DEFAULT 1,
        ADD COLUMN ready_version integer NOT NULL DEFAULT 0,
        ADD COLUMN ready_filename text,
        ADD COLUMN ready_media_type text,
        ADD COLUMN pages_done integer NOT NULL DEFAULT 0,
        ADD COLUMN pages_total integer,
        ADD COLUMN warning_count integer NOT NULL DEFAULT 0,
        ADD COLUMN checkpoint_chunks integer NOT NULL DEFAULT 0,
        ADD COLUMN checkpoint_digest bytea,
        ADD COLUMN sealed_password bytea,
        ADD COLUMN expires_at timestamptz
    """,
    """
    UPDATE documents SET ready_version = 1, ready_filename = filename,
        ready_media_type = media_type WHERE generation > 0
    """,
    """
    ALTER TABLE documents ADD CONSTRAINT ck_documents_visible_has_version
        CHECK ((generation > 0) = (ready_version > 0))
    """,
    "CREATE INDEX ix_documents_org_id_updated_at ON documents (org_id, updated_at)",
    """
    CREATE INDEX ix_documents_expires_at ON documents (expires_at)
        WHERE expires_at IS NOT NULL AND deleted_at IS NULL
    """,
    """
    ALTER TABLE pages
        ADD COLUMN source text NOT NULL DEFAULT 'text_layer'
            CONSTRAINT ck_pages_source
            CHECK (source IN ('text_layer', 'form_fields', 'ocr', 'none')),
        ADD COLUMN warnings text[] NOT NULL DEFAULT '{}'
    """,
    # One row for each page that has no text of its own, until its document is ready. `text` is
    # null until the page has been read; the lease is on the page.
    """
    CREATE TABLE ocr_pages (
        org_id uuid NOT NULL,
        document_id uuid NOT NULL,
        version integer NOT NULL,
        number integer NOT NULL,
        text text,
        headings integer[] NOT NULL DEFAULT '{}',
        warning text,
        attempts smallint NOT NULL DEFAULT 0,
        lease_token bigint NOT NULL DEFAULT 0,
        lease_expires_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_ocr_pages PRIMARY KEY (org_id, document_id, version, number),
        CONSTRAINT fk_ocr_pages_org_id_document_id
            FOREIGN KEY (org_id, document_id) REFERENCES documents (org_id, id)
    )
    """,
    "CREATE INDEX ix_ocr_pages_pending ON ocr_pages (created_at) WHERE text IS NULL",
    # The receipt of a deletion. It outlives the document and tells nothing of what was in it.
    """
    CREATE TABLE deletions (
        org_id uuid NOT NULL CONSTRAINT fk_deletions_org_id REFERENCES organizations,
        id uuid NOT NULL,
        document_id uuid NOT NULL,
        reason text NOT NULL
            CONSTRAINT ck_deletions_reason CHECK (reason IN ('requested', 'expired')),
        requested_by uuid,
        requested_at timestamptz NOT NULL DEFAULT now(),
        page_count integer NOT NULL DEFAULT 0,
        chunk_count integer NOT NULL DEFAULT 0,
        embedding_count integer NOT NULL DEFAULT 0,
        file_count integer NOT NULL DEFAULT 0,
        file_bytes bigint NOT NULL DEFAULT 0,
        quote_count integer NOT NULL DEFAULT 0,
        completed_at timestamptz,
        verified_at timestamptz,
        CONSTRAINT pk_deletions PRIMARY KEY (org_id, id),
        CONSTRAINT uq_deletions_org_id_document_id UNIQUE (org_id, document_id)
    )
    """,
    """
    CREATE INDEX ix_deletions_unverified ON deletions (completed_at)
        WHERE completed_at IS NOT NULL AND verified_at IS NULL
    """,
    # What a request with an Idempotency-Key was answered, for 24 hours.
    """
    CREATE TABLE idempotency_keys (
        org_id uuid NOT NULL CONSTRAINT fk_idempotency_keys_org_id REFERENCES organizations,
        user_id uuid NOT NULL CONSTRAINT fk_idempotency_keys_user_id REFERENCES users,
        key_hash bytea NOT NULL,
        request_hash bytea NOT NULL,
        status smallint NOT NULL,
        response jsonb NOT NULL,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_idempotency_keys PRIMARY KEY (org_id, user_id, key_hash)
    )
    """,
    "CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at)",
    # Resumable uploads. How much has arrived is what the file says; `document_id` comes at the end.
    """
    CREATE TABLE uploads (
        org_id uuid NOT NULL CONSTRAINT fk_uploads_org_id REFERENCES organizations,
        id uuid NOT NULL,
        user_id uuid NOT NULL CONSTRAINT fk_uploads_user_id REFERENCES users,
        filename text NOT NULL,
        size_bytes bigint NOT NULL,
        sealed_password bytea,
        document_expires_at timestamptz,
        document_id uuid,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_uploads PRIMARY KEY (org_id, id)
    )
    """,
    "CREATE INDEX ix_uploads_expires_at ON uploads (expires_at)",
)

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"
_TENANT_TABLES = ("ocr_pages", "deletions", "idempotency_keys", "uploads")


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


def downgrade() -> None:
    for table in reversed(_TENANT_TABLES):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE pages DROP COLUMN source, DROP COLUMN warnings")
    op.execute("ALTER TABLE organizations DROP COLUMN ingested_at, DROP COLUMN recognized_at")
    op.execute("DROP INDEX ix_documents_expires_at")
    op.execute("DROP INDEX ix_documents_org_id_updated_at")
    op.execute("""
        ALTER TABLE documents
            DROP CONSTRAINT ck_documents_visible_has_version,
            DROP COLUMN version, DROP COLUMN ready_version, DROP COLUMN ready_filename,
            DROP COLUMN ready_media_type, DROP COLUMN pages_done, DROP COLUMN pages_total,
            DROP COLUMN warning_count, DROP COLUMN checkpoint_chunks,
            DROP COLUMN checkpoint_digest, DROP COLUMN sealed_password, DROP COLUMN expires_at
    """)
