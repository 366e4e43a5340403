"""The versions that a document has had, with how each of them ended."""

from alembic import op

revision = "0010"
down_revision = "0009"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    # Goes with the document: the purge deletes that row last. What is unknown of versions from
    # before this table is NULL.
    """
    CREATE TABLE document_versions (
        org_id uuid NOT NULL,
        document_id uuid NOT NULL,
        version integer NOT NULL,
        filename text NOT NULL,
        media_type text NOT NULL,
        size_bytes bigint,
        uploaded_at timestamptz NOT NULL DEFAULT now(),
        ready_at timestamptz,
        status text NOT NULL CONSTRAINT ck_document_versions_status
            CHECK (status IN ('queued', 'processing', 'ready', 'failed')),
        error_code text,
        page_count integer,
        chunk_count integer,
        CONSTRAINT pk_document_versions PRIMARY KEY (org_id, document_id, version),
        CONSTRAINT ck_document_versions_failed_has_code
            CHECK ((status = 'failed') = (error_code IS NOT NULL)),
        CONSTRAINT fk_document_versions_org_id_document_id FOREIGN KEY (org_id, document_id)
            REFERENCES documents (org_id, id) ON DELETE CASCADE
    )
    """,
    # A trigger, because a dozen statements begin a version or change its status: upload, replace,
    # claim, publish, fail, cancel, retry, give way, sweep. Each holds the document's row, so nobody
    # else is at its versions. A version that is replaced before it was ready has failed.
    """
    CREATE FUNCTION record_document_version() RETURNS trigger LANGUAGE plpgsql
    SET search_path = public, pg_temp AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND NEW.version > OLD.version THEN
            UPDATE document_versions SET status = 'failed', error_code = 'superseded'
            WHERE org_id = NEW.org_id AND document_id = NEW.id AND version < NEW.version
                AND status IN ('queued', 'processing');
        END IF;
        INSERT INTO document_versions AS known (org_id, document_id, version, filename, media_type,
            size_bytes, status, error_code, ready_at, page_count, chunk_count)
        VALUES (NEW.org_id, NEW.id, NEW.version, NEW.filename, NEW.media_type, NEW.size_bytes,
            NEW.status, NEW.error_code,
            CASE WHEN NEW.status = 'ready' THEN now() END,
            CASE WHEN NEW.status = 'ready' THEN NEW.page_count END,
            CASE WHEN NEW.status = 'ready' THEN NEW.chunk_count END)
        ON CONFLICT (org_id, document_id, version) DO UPDATE
            SET status = excluded.status, error_code = excluded.error_code,
                ready_at = excluded.ready_at, page_count = excluded.page_count,
                chunk_count = excluded.chunk_count;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER record_first_version AFTER INSERT ON documents
        FOR EACH ROW EXECUTE FUNCTION record_document_version()
    """,
    """
    CREATE TRIGGER record_version AFTER UPDATE ON documents FOR EACH ROW
        WHEN (NEW.status <> 'deleting'
            AND (NEW.version, NEW.status, NEW.error_code)
                IS DISTINCT FROM (OLD.version, OLD.status, OLD.error_code))
        EXECUTE FUNCTION record_document_version()
    """,
    # The newest version of each document. When a later one came is only known roughly: by when it
    # was queued.
    """
    INSERT INTO document_versions (org_id, document_id, version, filename, media_type, size_bytes,
        uploaded_at, ready_at, status, error_code, page_count, chunk_count)
    SELECT org_id, id, version, filename, media_type, size_bytes,
        CASE WHEN version = 1 THEN created_at ELSE queued_at END,
        CASE WHEN status = 'ready' THEN updated_at END, status, error_code,
        CASE WHEN status = 'ready' THEN page_count END,
        CASE WHEN status = 'ready' THEN chunk_count END
    FROM documents WHERE status <> 'deleting'
    """,
    # And the one that readers see, where that is another.
    """
    INSERT INTO document_versions (org_id, document_id, version, filename, media_type,
        uploaded_at, status, page_count, chunk_count)
    SELECT org_id, id, ready_version, coalesce(ready_filename, filename),
        coalesce(ready_media_type, media_type), created_at, 'ready', page_count, chunk_count
    FROM documents WHERE status <> 'deleting' AND ready_version BETWEEN 1 AND version - 1
    """,
    "ALTER TABLE document_versions ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON document_versions TO footnote_system",
    "GRANT SELECT, INSERT, UPDATE ON document_versions TO footnote_app",
    """
    CREATE POLICY system ON document_versions TO footnote_system USING (true) WITH CHECK (true)
    """,
    f"""
    CREATE POLICY tenant ON document_versions TO footnote_app
        USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP TRIGGER record_version ON documents",
    "DROP TRIGGER record_first_version ON documents",
    "DROP FUNCTION record_document_version",
    "DROP TABLE document_versions",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
