"""API keys."""

from alembic import op

revision = "0013"
down_revision = "0012"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    # A key goes with its creator's membership: somebody who comes back begins without keys.
    """
    CREATE TABLE api_keys (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        user_id uuid NOT NULL,
        made_by_key_id uuid,
        name text NOT NULL,
        environment text NOT NULL
            CONSTRAINT ck_api_keys_environment CHECK (environment IN ('live', 'test')),
        scope text NOT NULL
            CONSTRAINT ck_api_keys_scope CHECK (scope IN ('read', 'write', 'admin')),
        secret_hash bytea NOT NULL,
        last_chars text NOT NULL,
        previous_hash bytea,
        previous_expires_at timestamptz,
        allowed_models text[],
        requests_per_minute integer
            CONSTRAINT ck_api_keys_requests_per_minute CHECK (requests_per_minute > 0),
        tokens_per_day integer CONSTRAINT ck_api_keys_tokens_per_day CHECK (tokens_per_day > 0),
        monthly_budget_nano bigint
            CONSTRAINT ck_api_keys_monthly_budget_nano CHECK (monthly_budget_nano >= 0),
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz,
        CONSTRAINT pk_api_keys PRIMARY KEY (org_id, id),
        CONSTRAINT uq_api_keys_secret_hash UNIQUE (secret_hash),
        CONSTRAINT uq_api_keys_previous_hash UNIQUE (previous_hash),
        CONSTRAINT ck_api_keys_previous_expires
            CHECK ((previous_hash IS NULL) = (previous_expires_at IS NULL)),
        CONSTRAINT fk_api_keys_org_id_user_id FOREIGN KEY (org_id, user_id)
            REFERENCES memberships (org_id, user_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_api_keys_org_id_user_id ON api_keys (org_id, user_id)",
    "ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO footnote_system",
    "GRANT SELECT, INSERT, UPDATE ON api_keys TO footnote_app",
    "CREATE POLICY system ON api_keys TO footnote_system USING (true) WITH CHECK (true)",
    f"""
    CREATE POLICY tenant ON api_keys TO footnote_app
        USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})
    """,
)
_DOWNGRADE: tuple[str, ...] = ("DROP TABLE api_keys",)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
