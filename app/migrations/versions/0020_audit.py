"""The audit log: who did what to which object, from where, and what came of it."""

from alembic import op

revision = "0020"
down_revision = "0019"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    # No foreign keys: what is written outlives whom and what it is about. `org_id` is NULL for what
    # concerns no organization. Actors are kept by id: a name is personal, and may change.
    """
    CREATE TABLE audit_events (
        id uuid CONSTRAINT pk_audit_events PRIMARY KEY,
        org_id uuid,
        at timestamptz NOT NULL DEFAULT now(),
        user_id uuid,
        key_id uuid,
        action text NOT NULL,
        object_id text,
        address text NOT NULL,
        client text NOT NULL,
        status smallint NOT NULL,
        request_id text NOT NULL,
        details jsonb NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX ix_audit_events_org_id_id ON audit_events (org_id, id)",
    "CREATE INDEX ix_audit_events_user_id_id ON audit_events (user_id, id)",
    "ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY",
    # Append only: neither role may change or remove a line.
    "GRANT SELECT, INSERT ON audit_events TO footnote_system",
    "GRANT SELECT ON audit_events TO footnote_app",
    "CREATE POLICY system ON audit_events TO footnote_system USING (true) WITH CHECK (true)",
    f"CREATE POLICY tenant ON audit_events TO footnote_app USING (org_id = {_ORG})",
    # The one exception: an organization that is deleted takes its lines along. That it was deleted
    # is a line of no organization. Runs as the owner, for none that is still there.
    """
    CREATE FUNCTION forget_audit_events(p_org uuid) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        forgotten bigint;
    BEGIN
        IF EXISTS (SELECT FROM organizations WHERE id = p_org AND deleted_at IS NULL) THEN
            RAISE EXCEPTION 'the organization is not deleted';
        END IF;
        DELETE FROM audit_events WHERE org_id = p_org;
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        RETURN forgotten;
    END $$
    """,
    "REVOKE ALL ON FUNCTION forget_audit_events FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION forget_audit_events TO footnote_system",
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP FUNCTION forget_audit_events",
    "DROP TABLE audit_events",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
