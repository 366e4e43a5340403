"""Invitations to organizations, and their deletion."""

from alembic import op

revision = "0012"
down_revision = "0011"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    # One that is good can be used once; a later one for the same address takes its place.
    """
    CREATE TABLE invitations (
        org_id uuid NOT NULL CONSTRAINT fk_invitations_org_id REFERENCES organizations,
        id uuid NOT NULL,
        email text NOT NULL,
        role text NOT NULL CONSTRAINT ck_invitations_role
            CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
        token_hash bytea NOT NULL CONSTRAINT uq_invitations_token_hash UNIQUE,
        invited_by uuid NOT NULL CONSTRAINT fk_invitations_invited_by REFERENCES users,
        expires_at timestamptz NOT NULL,
        accepted_at timestamptz,
        revoked_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_invitations PRIMARY KEY (org_id, id)
    )
    """,
    """
    CREATE UNIQUE INDEX uq_invitations_org_id_email ON invitations (org_id, email)
        WHERE accepted_at IS NULL AND revoked_at IS NULL
    """,
    "CREATE INDEX ix_invitations_expires_at ON invitations (expires_at)",
    # No foreign key: the receipt outlives the organization, and names none of what was in it.
    """
    CREATE TABLE organization_deletions (
        id uuid NOT NULL CONSTRAINT pk_organization_deletions PRIMARY KEY,
        org_id uuid NOT NULL CONSTRAINT uq_organization_deletions_org_id UNIQUE,
        requested_by uuid NOT NULL,
        requested_at timestamptz NOT NULL DEFAULT now(),
        attempted_at timestamptz NOT NULL DEFAULT now(),
        row_counts jsonb NOT NULL DEFAULT '{}',
        file_count integer NOT NULL DEFAULT 0,
        file_bytes bigint NOT NULL DEFAULT 0,
        counted_at timestamptz,
        completed_at timestamptz,
        verified_at timestamptz
    )
    """,
    """
    CREATE INDEX ix_organization_deletions_unverified ON organization_deletions (attempted_at)
        WHERE verified_at IS NULL
    """,
    "ALTER TABLE organizations ADD COLUMN deleted_at timestamptz",
    # When a member was last there, and what goes with them or with the organization.
    """
    CREATE INDEX ix_refresh_tokens_org_id_user_id_created_at
        ON refresh_tokens (org_id, user_id, created_at)
    """,
    "GRANT UPDATE (name) ON organizations TO footnote_app",
    "ALTER TABLE invitations ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE organization_deletions ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON invitations TO footnote_system",
    "GRANT SELECT ON invitations TO footnote_app",
    "GRANT SELECT, INSERT, UPDATE ON organization_deletions TO footnote_system",
    "CREATE POLICY system ON invitations TO footnote_system USING (true) WITH CHECK (true)",
    """
    CREATE POLICY system ON organization_deletions TO footnote_system
        USING (true) WITH CHECK (true)
    """,
    f"CREATE POLICY tenant ON invitations TO footnote_app USING (org_id = {_ORG})",
)
_DOWNGRADE: tuple[str, ...] = (
    "REVOKE UPDATE (name) ON organizations FROM footnote_app",
    "DROP INDEX ix_refresh_tokens_org_id_user_id_created_at",
    "ALTER TABLE organizations DROP COLUMN deleted_at",
    "DROP TABLE organization_deletions, invitations",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
