"""Usage events with their daily sums, budgets, prices."""

from alembic import op

revision = "0017"
down_revision = "0016"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"
_ORG_REFERENCE = "REFERENCES organizations ON DELETE CASCADE"
# What the application may do besides reading: events are only ever added.
_TENANT_TABLES = {
    "usage_events": "INSERT",
    "usage_daily": "INSERT, UPDATE",
    "budgets": "INSERT, UPDATE, DELETE",
    "budget_periods": "INSERT, UPDATE",
    "budget_reservations": "INSERT, UPDATE",
    "organization_prices": "",
}

_UPGRADE: tuple[str, ...] = (
    # Whom an event is of outlives them: no foreign keys but to the organization.
    f"""
    CREATE TABLE usage_events (
        org_id uuid NOT NULL CONSTRAINT fk_usage_events_org_id {_ORG_REFERENCE},
        id uuid NOT NULL,
        at timestamptz NOT NULL,
        user_id uuid NOT NULL,
        key_id uuid,
        run_id uuid,
        kind text NOT NULL CONSTRAINT ck_usage_events_kind
            CHECK (kind IN ('chat', 'rewrite', 'rerank', 'embedding')),
        provider text NOT NULL,
        model text NOT NULL,
        attempt integer NOT NULL,
        input_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        is_estimated boolean NOT NULL,
        cost_nano bigint,
        price_source text NOT NULL,
        error_code text,
        degraded boolean NOT NULL,
        CONSTRAINT pk_usage_events PRIMARY KEY (org_id, id),
        CONSTRAINT ck_usage_events_known_cost
            CHECK ((cost_nano IS NULL) = (price_source = 'unknown'))
    )
    """,
    "CREATE INDEX ix_usage_events_org_id_at ON usage_events (org_id, at)",
    # The sums of the events, which nobody has to add up again. `key_id` is the nil UUID for a call
    # without an API key: a primary key takes no NULL.
    f"""
    CREATE TABLE usage_daily (
        org_id uuid NOT NULL CONSTRAINT fk_usage_daily_org_id {_ORG_REFERENCE},
        day date NOT NULL,
        user_id uuid NOT NULL,
        key_id uuid NOT NULL,
        kind text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        requests bigint NOT NULL,
        errors bigint NOT NULL,
        input_tokens bigint NOT NULL,
        cached_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cost_nano bigint NOT NULL,
        unknown_cost_requests bigint NOT NULL,
        CONSTRAINT pk_usage_daily
            PRIMARY KEY (org_id, day, user_id, key_id, kind, provider, model)
    )
    """,
    f"""
    CREATE TABLE budgets (
        org_id uuid NOT NULL CONSTRAINT fk_budgets_org_id {_ORG_REFERENCE},
        monthly_limit_nano bigint NOT NULL
            CONSTRAINT ck_budgets_limit CHECK (monthly_limit_nano >= 0),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_budgets PRIMARY KEY (org_id)
    )
    """,
    # `scope` is 'organization' or the id of an API key. `limit_nano` is what held last.
    f"""
    CREATE TABLE budget_periods (
        org_id uuid NOT NULL CONSTRAINT fk_budget_periods_org_id {_ORG_REFERENCE},
        scope text NOT NULL,
        period date NOT NULL,
        limit_nano bigint,
        spent_nano bigint NOT NULL DEFAULT 0,
        held_nano bigint NOT NULL DEFAULT 0
            CONSTRAINT ck_budget_periods_held CHECK (held_nano >= 0),
        alerted_80_at timestamptz,
        alerted_100_at timestamptz,
        CONSTRAINT pk_budget_periods PRIMARY KEY (org_id, scope, period)
    )
    """,
    # `id` is that of the usage event to come. What follows `floor_nano` is what the event will say
    # of a call whose process died.
    f"""
    CREATE TABLE budget_reservations (
        org_id uuid NOT NULL CONSTRAINT fk_budget_reservations_org_id {_ORG_REFERENCE},
        id uuid NOT NULL,
        period date NOT NULL,
        scopes text[] NOT NULL,
        nano bigint NOT NULL CONSTRAINT ck_budget_reservations_nano CHECK (nano >= 0),
        floor_nano bigint NOT NULL,
        at timestamptz NOT NULL,
        user_id uuid NOT NULL,
        key_id uuid,
        run_id uuid,
        kind text NOT NULL,
        provider text NOT NULL,
        model text NOT NULL,
        attempt integer NOT NULL,
        input_tokens bigint NOT NULL,
        price_source text NOT NULL,
        expires_at timestamptz NOT NULL,
        settled_at timestamptz,
        CONSTRAINT pk_budget_reservations PRIMARY KEY (org_id, id)
    )
    """,
    """
    CREATE INDEX ix_budget_reservations_open ON budget_reservations (expires_at)
        WHERE settled_at IS NULL
    """,
    """
    CREATE INDEX ix_budget_reservations_settled_at ON budget_reservations (settled_at)
        WHERE settled_at IS NOT NULL
    """,
    # US dollars for a million tokens.
    """
    CREATE TABLE model_prices (
        model text NOT NULL,
        input_usd numeric(16, 6) NOT NULL CONSTRAINT ck_model_prices_input CHECK (input_usd >= 0),
        output_usd numeric(16, 6) NOT NULL
            CONSTRAINT ck_model_prices_output CHECK (output_usd >= 0),
        cached_input_usd numeric(16, 6)
            CONSTRAINT ck_model_prices_cached_input CHECK (cached_input_usd >= 0),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_model_prices PRIMARY KEY (model)
    )
    """,
    "GRANT SELECT ON model_prices TO footnote_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON model_prices TO footnote_system",
    f"""
    CREATE TABLE organization_prices (
        org_id uuid NOT NULL CONSTRAINT fk_organization_prices_org_id {_ORG_REFERENCE},
        model text NOT NULL,
        input_usd numeric(16, 6) NOT NULL
            CONSTRAINT ck_organization_prices_input CHECK (input_usd >= 0),
        output_usd numeric(16, 6) NOT NULL
            CONSTRAINT ck_organization_prices_output CHECK (output_usd >= 0),
        cached_input_usd numeric(16, 6)
            CONSTRAINT ck_organization_prices_cached_input CHECK (cached_input_usd >= 0),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_organization_prices PRIMARY KEY (org_id, model)
    )
    """,
)
_DOWNGRADE = (
    "DROP TABLE organization_prices, model_prices, budget_reservations, budget_periods, budgets,"
    " usage_daily, usage_events"
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)
    for table, changes in _TENANT_TABLES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO footnote_system")
        granted = ", ".join(part for part in ("SELECT", changes) if part)
        op.execute(f"GRANT {granted} ON {table} TO footnote_app")
        op.execute(
            f"CREATE POLICY system ON {table} TO footnote_system USING (true) WITH CHECK (true)"
        )
        op.execute(
            f"CREATE POLICY tenant ON {table} TO footnote_app"
            f" USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})"
        )


def downgrade() -> None:
    op.execute(_DOWNGRADE)
