"""Webhooks: what happened, who is to be told, and every attempt to tell them."""

from alembic import op

revision = "0019"
down_revision = "0018"

_TENANT_TABLES = ("webhooks", "webhook_events", "webhook_deliveries", "webhook_attempts")
_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    """
    CREATE TABLE webhooks (
        org_id uuid NOT NULL CONSTRAINT fk_webhooks_org_id REFERENCES organizations,
        id uuid NOT NULL,
        url text NOT NULL,
        description text NOT NULL DEFAULT '',
        events text[] NOT NULL,
        is_active boolean NOT NULL DEFAULT true,
        sealed_secret bytea NOT NULL,
        sealed_old_secret bytea,
        old_secret_until timestamptz,
        created_by uuid NOT NULL CONSTRAINT fk_webhooks_created_by REFERENCES users,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_webhooks PRIMARY KEY (org_id, id)
    )
    """,
    """
    CREATE TABLE webhook_events (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        type text NOT NULL,
        data jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_webhook_events PRIMARY KEY (org_id, id)
    )
    """,
    "CREATE INDEX ix_webhook_events_created_at ON webhook_events (created_at)",
    """
    CREATE TABLE webhook_deliveries (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        webhook_id uuid NOT NULL,
        event_id uuid NOT NULL,
        status text NOT NULL DEFAULT 'pending' CONSTRAINT ck_webhook_deliveries_status
            CHECK (status IN ('pending', 'delivered', 'failed')),
        attempts smallint NOT NULL DEFAULT 0,
        next_attempt_at timestamptz NOT NULL DEFAULT now(),
        is_replay boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        CONSTRAINT pk_webhook_deliveries PRIMARY KEY (org_id, id),
        CONSTRAINT fk_webhook_deliveries_org_id_webhook_id FOREIGN KEY (org_id, webhook_id)
            REFERENCES webhooks ON DELETE CASCADE,
        CONSTRAINT fk_webhook_deliveries_org_id_event_id FOREIGN KEY (org_id, event_id)
            REFERENCES webhook_events ON DELETE CASCADE
    )
    """,
    """
    CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_attempt_at)
        WHERE status = 'pending'
    """,
    """
    CREATE INDEX ix_webhook_deliveries_org_id_webhook_id_created_at_id
        ON webhook_deliveries (org_id, webhook_id, created_at, id)
    """,
    """
    CREATE INDEX ix_webhook_deliveries_org_id_event_id ON webhook_deliveries (org_id, event_id)
    """,
    """
    CREATE TABLE webhook_attempts (
        org_id uuid NOT NULL,
        delivery_id uuid NOT NULL,
        number smallint NOT NULL,
        attempted_at timestamptz NOT NULL,
        duration_ms integer NOT NULL,
        status_code smallint,
        error text,
        CONSTRAINT pk_webhook_attempts PRIMARY KEY (org_id, delivery_id, number),
        CONSTRAINT fk_webhook_attempts_org_id_delivery_id FOREIGN KEY (org_id, delivery_id)
            REFERENCES webhook_deliveries ON DELETE CASCADE
    )
    """,
    # In the transaction of what happened, so that nobody is told of what was rolled back, and
    # nothing that was committed goes untold. Runs as the owner, for whoever may do what happened;
    # an organization that is named is the only one whose events may be written.
    """
    CREATE FUNCTION emit_webhook_event(p_org uuid, p_type text, p_data jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        new_event uuid := gen_random_uuid();
    BEGIN
        IF NULLIF(current_setting('app.org_id', true), '')::uuid <> p_org OR NOT EXISTS (
            SELECT FROM webhooks
            WHERE org_id = p_org AND is_active AND p_type = ANY (events)) THEN
            RETURN;
        END IF;
        INSERT INTO webhook_events (org_id, id, type, data)
        VALUES (p_org, new_event, p_type, p_data);
        INSERT INTO webhook_deliveries (org_id, id, webhook_id, event_id)
        SELECT org_id, gen_random_uuid(), id, new_event FROM webhooks
        WHERE org_id = p_org AND is_active AND p_type = ANY (events);
    END $$
    """,
    "REVOKE ALL ON FUNCTION emit_webhook_event FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION emit_webhook_event TO footnote_app, footnote_system",
    # Triggers, because a dozen statements end a document's work. A private document is nobody
    # else's business, and webhooks belong to the organization.
    """
    CREATE FUNCTION tell_of_document() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM emit_webhook_event(NEW.org_id,
            CASE NEW.status WHEN 'deleting' THEN 'document.deleted'
                ELSE 'document.' || NEW.status END,
            jsonb_build_object('document_id', NEW.id, 'filename', NEW.filename,
                'version', NEW.version, 'page_count', NEW.page_count,
                'error_code', NEW.error_code));
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tell_of_document AFTER UPDATE OF status ON documents FOR EACH ROW
        WHEN (NEW.private_to IS NULL AND NEW.status IS DISTINCT FROM OLD.status
            AND NEW.status IN ('ready', 'failed', 'deleting'))
        EXECUTE FUNCTION tell_of_document()
    """,
    # No words of the question or the answer: a conversation is its user's.
    """
    CREATE FUNCTION tell_of_run() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM emit_webhook_event(NEW.org_id, 'run.' || NEW.status,
            jsonb_build_object('run_id', NEW.id, 'conversation_id', NEW.conversation_id,
                'message_id', NEW.message_id, 'user_id', NEW.user_id, 'model', NEW.model,
                'error_code', NEW.error_code));
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tell_of_run AFTER UPDATE OF status ON runs FOR EACH ROW
        WHEN (NEW.status IS DISTINCT FROM OLD.status AND NEW.status IN ('completed', 'failed'))
        EXECUTE FUNCTION tell_of_run()
    """,
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP TRIGGER tell_of_run ON runs",
    "DROP TRIGGER tell_of_document ON documents",
    "DROP FUNCTION tell_of_run",
    "DROP FUNCTION tell_of_document",
    "DROP FUNCTION emit_webhook_event",
    "DROP TABLE webhook_attempts, webhook_deliveries, webhook_events, webhooks",
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


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
