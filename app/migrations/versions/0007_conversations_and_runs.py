"""Conversations, their messages, the runs that make answers, and the answers' citations."""

from alembic import op

revision = "0007"
down_revision = "0006"

_TENANT_TABLES = ("conversations", "messages", "runs", "citations")
_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"

_UPGRADE: tuple[str, ...] = (
    """
    CREATE TABLE conversations (
        org_id uuid NOT NULL CONSTRAINT fk_conversations_org_id REFERENCES organizations,
        id uuid NOT NULL,
        user_id uuid NOT NULL CONSTRAINT fk_conversations_user_id REFERENCES users,
        title text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_conversations PRIMARY KEY (org_id, id)
    )
    """,
    """
    CREATE INDEX ix_conversations_org_id_user_id_updated_at_id
        ON conversations (org_id, user_id, updated_at, id)
    """,
    # A tree: an edited question or another answer is a sibling, and nothing is overwritten.
    """
    CREATE TABLE messages (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        conversation_id uuid NOT NULL,
        parent_id uuid,
        role text NOT NULL CONSTRAINT ck_messages_role CHECK (role IN ('user', 'assistant')),
        content text NOT NULL,
        terms tsvector NOT NULL DEFAULT '',
        model text,
        model_version text,
        finish_reason text,
        degraded boolean NOT NULL DEFAULT false,
        input_tokens integer,
        output_tokens integer,
        is_usage_estimated boolean NOT NULL DEFAULT false,
        cost_nano bigint,
        answer_sha256 bytea,
        dropped_markers integer NOT NULL DEFAULT 0,
        unsupported integer[] NOT NULL DEFAULT '{}',
        sources jsonb NOT NULL DEFAULT '[]',
        unready_documents jsonb NOT NULL DEFAULT '[]',
        trace jsonb,
        rating smallint CONSTRAINT ck_messages_rating CHECK (rating IN (-1, 1)),
        comment text,
        rated_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_messages PRIMARY KEY (org_id, id),
        CONSTRAINT fk_messages_org_id_conversation_id FOREIGN KEY (org_id, conversation_id)
            REFERENCES conversations ON DELETE CASCADE,
        CONSTRAINT fk_messages_org_id_parent_id FOREIGN KEY (org_id, parent_id)
            REFERENCES messages ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_messages_org_id_conversation_id_id ON messages (org_id, conversation_id, id)",
    "CREATE INDEX ix_messages_org_id_parent_id ON messages (org_id, parent_id)",
    # `token_ids` and `token_offsets` say which frame brought the answer from which offset on.
    """
    CREATE TABLE runs (
        org_id uuid NOT NULL,
        id uuid NOT NULL,
        user_id uuid NOT NULL CONSTRAINT fk_runs_user_id REFERENCES users,
        conversation_id uuid NOT NULL,
        message_id uuid NOT NULL,
        status text NOT NULL DEFAULT 'queued' CONSTRAINT ck_runs_status
            CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
        is_detached boolean NOT NULL DEFAULT false,
        model text NOT NULL,
        error_code text,
        error_message text,
        is_retryable boolean,
        cancel_requested_at timestamptz,
        seen_at timestamptz NOT NULL DEFAULT now(),
        lease_expires_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        last_event_id integer NOT NULL DEFAULT 0,
        snapshot_id integer,
        token_ids integer[] NOT NULL DEFAULT '{}',
        token_offsets integer[] NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_runs PRIMARY KEY (org_id, id),
        CONSTRAINT ck_runs_finished
            CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
        CONSTRAINT ck_runs_failed_has_code CHECK ((status = 'failed') = (error_code IS NOT NULL)),
        CONSTRAINT fk_runs_org_id_conversation_id FOREIGN KEY (org_id, conversation_id)
            REFERENCES conversations ON DELETE CASCADE,
        CONSTRAINT fk_runs_org_id_message_id FOREIGN KEY (org_id, message_id)
            REFERENCES messages ON DELETE CASCADE
    )
    """,
    """
    CREATE UNIQUE INDEX uq_runs_org_id_conversation_id ON runs (org_id, conversation_id)
        WHERE status IN ('queued', 'running')
    """,
    "CREATE UNIQUE INDEX uq_runs_org_id_message_id ON runs (org_id, message_id)",
    # For deleting a conversation, which else looks at all runs of the organization.
    "CREATE INDEX ix_runs_org_id_conversation_id ON runs (org_id, conversation_id)",
    """
    CREATE INDEX ix_runs_lease_expires_at ON runs (lease_expires_at)
        WHERE status IN ('queued', 'running')
    """,
    # No foreign key to the document: the citation outlives it, without its words.
    """
    CREATE TABLE citations (
        org_id uuid NOT NULL,
        message_id uuid NOT NULL,
        event_id integer NOT NULL,
        n integer NOT NULL,
        document_id uuid NOT NULL,
        chunk_id uuid NOT NULL,
        chunk_index integer NOT NULL,
        page_start integer NOT NULL,
        page_end integer NOT NULL,
        page_label text,
        quote text,
        quote_start integer NOT NULL,
        quote_end integer NOT NULL,
        chunk_start integer NOT NULL,
        chunk_end integer NOT NULL,
        answer_start integer NOT NULL,
        score double precision NOT NULL,
        verified boolean NOT NULL,
        missing_numbers text[] NOT NULL DEFAULT '{}',
        CONSTRAINT pk_citations PRIMARY KEY (org_id, message_id, event_id),
        CONSTRAINT fk_citations_org_id_message_id FOREIGN KEY (org_id, message_id)
            REFERENCES messages ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ix_citations_org_id_document_id ON citations (org_id, document_id)",
    """
    ALTER TABLE organizations
        ADD COLUMN system_prompt text NOT NULL DEFAULT '',
        ADD COLUMN rejects_injections boolean NOT NULL DEFAULT false
    """,
    "GRANT UPDATE (system_prompt, rejects_injections) ON organizations TO footnote_app",
    # As printed, like "iv" or "A-3"; NULL where the file names its pages by their number.
    "ALTER TABLE pages ADD COLUMN label text",
)
_DOWNGRADE: tuple[str, ...] = (
    "ALTER TABLE pages DROP COLUMN label",
    "REVOKE UPDATE (system_prompt, rejects_injections) ON organizations FROM footnote_app",
    "ALTER TABLE organizations DROP COLUMN system_prompt, DROP COLUMN rejects_injections",
    "DROP TABLE citations, runs, messages, conversations",
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
