"""Accounts, documents and chunks; roles and row-level security from the first table on."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE users (
    id uuid CONSTRAINT pk_users PRIMARY KEY,
    email text NOT NULL CONSTRAINT uq_users_email UNIQUE,
    password_hash text NOT NULL,
    token_epoch integer NOT NULL DEFAULT 0,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organizations (
    id uuid CONSTRAINT pk_organizations PRIMARY KEY,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE memberships (
    org_id uuid NOT NULL CONSTRAINT fk_memberships_org_id REFERENCES organizations,
    user_id uuid NOT NULL CONSTRAINT fk_memberships_user_id REFERENCES users,
    role text NOT NULL
        CONSTRAINT ck_memberships_role CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_memberships PRIMARY KEY (org_id, user_id)
);
CREATE INDEX ix_memberships_user_id ON memberships (user_id);

CREATE TABLE refresh_tokens (
    id uuid CONSTRAINT pk_refresh_tokens PRIMARY KEY,
    org_id uuid NOT NULL CONSTRAINT fk_refresh_tokens_org_id REFERENCES organizations,
    user_id uuid NOT NULL CONSTRAINT fk_refresh_tokens_user_id REFERENCES users,
    family_id uuid NOT NULL,
    token_hash bytea NOT NULL CONSTRAINT uq_refresh_tokens_token_hash UNIQUE,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_refresh_tokens_user_id ON refresh_tokens (user_id);
CREATE INDEX ix_refresh_tokens_family_id ON refresh_tokens (family_id);

CREATE TABLE documents (
    org_id uuid NOT NULL CONSTRAINT fk_documents_org_id REFERENCES organizations,
    id uuid NOT NULL,
    uploaded_by uuid NOT NULL CONSTRAINT fk_documents_uploaded_by REFERENCES users,
    filename text NOT NULL,
    media_type text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    title text,
    status text NOT NULL CONSTRAINT ck_documents_status
        CHECK (status IN ('queued', 'processing', 'ready', 'failed', 'deleting')),
    stage text,
    percent smallint NOT NULL DEFAULT 0,
    page_count integer,
    chunk_count integer NOT NULL DEFAULT 0,
    generation integer NOT NULL DEFAULT 0,
    error_code text,
    error_message text,
    lease_token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    attempts smallint NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT pk_documents PRIMARY KEY (org_id, id),
    CONSTRAINT ck_documents_ready_has_chunks CHECK (status <> 'ready' OR chunk_count > 0),
    CONSTRAINT ck_documents_failed_has_code CHECK ((status = 'failed') = (error_code IS NOT NULL))
);
CREATE UNIQUE INDEX uq_documents_org_id_sha256 ON documents (org_id, sha256)
    WHERE deleted_at IS NULL;
CREATE INDEX ix_documents_org_id_created_at_id ON documents (org_id, created_at, id);
CREATE INDEX ix_documents_pending ON documents (status, queued_at)
    WHERE status IN ('queued', 'processing', 'deleting');

CREATE TABLE pages (
    org_id uuid NOT NULL,
    document_id uuid NOT NULL,
    generation integer NOT NULL,
    number integer NOT NULL,
    text text NOT NULL,
    width double precision,
    height double precision,
    CONSTRAINT pk_pages PRIMARY KEY (org_id, document_id, generation, number),
    CONSTRAINT fk_pages_org_id_document_id
        FOREIGN KEY (org_id, document_id) REFERENCES documents (org_id, id)
);

-- Chunk texts and their tsvectors stay in the row, uncompressed: ranking reads hundreds of them.
CREATE TABLE chunks (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    document_id uuid NOT NULL,
    generation integer NOT NULL,
    ordinal integer NOT NULL,
    text text NOT NULL,
    spans integer[] NOT NULL,
    page_start integer NOT NULL,
    page_end integer NOT NULL,
    heading text,
    token_count integer NOT NULL,
    tsv tsvector NOT NULL,
    CONSTRAINT pk_chunks PRIMARY KEY (org_id, id),
    CONSTRAINT uq_chunks_org_id_document_id_generation_ordinal
        UNIQUE (org_id, document_id, generation, ordinal),
    CONSTRAINT fk_chunks_org_id_document_id
        FOREIGN KEY (org_id, document_id) REFERENCES documents (org_id, id)
) WITH (toast_tuple_target = 8160);
-- Without a pending list: every search would read all of it, 5 ms behind one new filing.
CREATE INDEX ix_chunks_tsv ON chunks USING gin (tsv) WITH (fastupdate = off);

-- In how many of an organization's visible chunks each lexeme stands; '' counts the chunks.
CREATE TABLE lexemes (
    org_id uuid NOT NULL CONSTRAINT fk_lexemes_org_id REFERENCES organizations,
    lexeme text NOT NULL,
    chunk_count integer NOT NULL,
    CONSTRAINT pk_lexemes PRIMARY KEY (org_id, lexeme)
);

CREATE TABLE embedding_spaces (
    id integer GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_embedding_spaces PRIMARY KEY,
    provider text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL,
    CONSTRAINT uq_embedding_spaces_provider_model_dimensions UNIQUE (provider, model, dimensions)
);

CREATE TABLE chunk_embeddings (
    space_id integer NOT NULL CONSTRAINT fk_chunk_embeddings_space_id REFERENCES embedding_spaces,
    org_id uuid NOT NULL,
    chunk_id uuid NOT NULL,
    document_id uuid NOT NULL,
    generation integer NOT NULL,
    embedding halfvec NOT NULL,
    CONSTRAINT pk_chunk_embeddings PRIMARY KEY (space_id, org_id, chunk_id),
    CONSTRAINT fk_chunk_embeddings_org_id_document_id
        FOREIGN KEY (org_id, document_id) REFERENCES documents (org_id, id)
) PARTITION BY LIST (space_id);
CREATE INDEX ix_chunk_embeddings_org_id_document_id ON chunk_embeddings (org_id, document_id);
"""

# Roles belong to the cluster, not to the database: another database may have made them already.
_ROLES = """
DO $$
BEGIN
    CREATE ROLE footnote_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$
BEGIN
    CREATE ROLE footnote_system NOLOGIN NOSUPERUSER NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
GRANT footnote_app, footnote_system TO CURRENT_USER;
GRANT USAGE ON SCHEMA public TO footnote_app, footnote_system;
"""

# After SET LOCAL ends, a pooled connection holds '' in the setting, hence NULLIF. The expression
# stands bare: wrapped in a sub-select the planner would assume an average organization.
_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"
_TENANT_TABLES = ("memberships", "documents", "pages", "chunks", "chunk_embeddings", "lexemes")
_SYSTEM_TABLES = ("users", "organizations", "refresh_tokens", *_TENANT_TABLES)

_FUNCTIONS = """
-- Find or make a space and its partition. Runs as the owner: the roles may not create tables.
CREATE FUNCTION ensure_embedding_space(p_provider text, p_model text, p_dimensions integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    space integer;
BEGIN
    SELECT id INTO space FROM embedding_spaces
        WHERE provider = p_provider AND model = p_model AND dimensions = p_dimensions;
    IF space IS NOT NULL THEN
        RETURN space;
    END IF;
    PERFORM pg_advisory_xact_lock(7330402108);
    INSERT INTO embedding_spaces (provider, model, dimensions)
        VALUES (p_provider, p_model, p_dimensions) ON CONFLICT DO NOTHING RETURNING id INTO space;
    IF space IS NULL THEN
        SELECT id INTO space FROM embedding_spaces
            WHERE provider = p_provider AND model = p_model AND dimensions = p_dimensions;
        RETURN space;
    END IF;
    EXECUTE format(
        'CREATE TABLE chunk_embeddings_%s PARTITION OF chunk_embeddings'
        ' (CONSTRAINT ck_chunk_embeddings_%s_dimensions CHECK (vector_dims(embedding) = %s))'
        ' FOR VALUES IN (%s) WITH (toast_tuple_target = 8160)',
        space, space, p_dimensions, space);
    -- No policy and no grant: the partition is reached through its parent alone.
    EXECUTE format('ALTER TABLE chunk_embeddings_%s ENABLE ROW LEVEL SECURITY', space);
    RETURN space;
END $$;
REVOKE ALL ON FUNCTION ensure_embedding_space FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_embedding_space TO footnote_system;

-- One lexeme for each organization. In every tsvector, so that the index can find its rows alone.
CREATE FUNCTION org_lexeme(p_org uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 'org' || replace(p_org::text, '-', '');

-- Add the chunks of a generation to the counts (p_sign 1), or take them out (-1). Ordered, so that
-- two documents of one organization can't wait for each other's rows.
CREATE FUNCTION count_lexemes(p_org uuid, p_document uuid, p_generation integer, p_sign integer)
RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO lexemes AS known (org_id, lexeme, chunk_count)
    SELECT p_org, lexeme, p_sign * count(*)
    FROM chunks c, unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
    WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
        AND lexeme <> org_lexeme(p_org)
    GROUP BY lexeme ORDER BY lexeme
    ON CONFLICT (org_id, lexeme)
        DO UPDATE SET chunk_count = known.chunk_count + excluded.chunk_count
$$;

-- Chunks by the question's words, weighted by how rare they are in the organization:
--     sum over words of ln(1 + (N - n + 0.5) / (n + 0.5)) * ts_rank(chunk, word)
-- with N chunks, of which n hold the word (the idf of BM25, Robertson and Zaragoza 2009; ts_rank
-- saturates with the word's frequency). The rarest words are looked up first, until together they
-- stand in as many chunks as there are, and none that stands in half of them: common words cost
-- the most and tell the least.
-- Runs as the owner: `@@` is not leakproof, so under a policy its index would never be used. The
-- organization is checked against the transaction's all the same.
CREATE FUNCTION search_chunks_fulltext(
    p_org uuid, p_documents uuid[], p_query text, p_limit integer)
RETURNS TABLE (chunk_id uuid, rank double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_indexscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    here tsquery := quote_literal(org_lexeme(p_org))::tsquery;
    total integer;
    words tsquery[];
    weights double precision[];
BEGIN
    IF p_org IS DISTINCT FROM NULLIF(current_setting('app.org_id', true), '')::uuid THEN
        RETURN;
    END IF;
    SELECT l.chunk_count INTO total FROM lexemes l WHERE l.org_id = p_org AND l.lexeme = '';
    SELECT array_agg(quote_literal(w.lexeme)::tsquery),
        array_agg(ln(1 + (total - w.n + 0.5) / (w.n + 0.5)))
    INTO words, weights
    FROM (
        SELECT l.lexeme, l.chunk_count AS n,
            sum(l.chunk_count) OVER (ORDER BY l.chunk_count, l.lexeme) - l.chunk_count AS before
        FROM lexemes l
        WHERE l.org_id = p_org AND l.chunk_count > 0
            AND l.lexeme = ANY (tsvector_to_array(to_tsvector('english', p_query)))
    ) AS w
    WHERE w.before = 0 OR (w.before < greatest(1000, total) AND w.n < total / 2);
    RETURN QUERY
    WITH hits AS MATERIALIZED (
        SELECT c.org_id, c.id, c.document_id, c.generation,
            sum(w.weight * ts_rank(c.tsv, w.word)) AS rank
        FROM unnest(words, weights) AS w(word, weight)
        -- By the GIN index alone: given org_id here too, the planner takes the btree and filters,
        -- and before the first ANALYZE it would rather read the table; hence the settings above.
        -- A plan of its own for every call took 5 ms where the generic one takes 1.
        JOIN chunks c ON c.tsv @@ (here && w.word)
            AND (p_documents IS NULL OR c.document_id = ANY (p_documents))
        GROUP BY c.org_id, c.id
        ORDER BY rank DESC, c.id)
    SELECT hits.id, hits.rank
    -- In the order of hits, one look-up each, until there are enough that readers may see.
    FROM hits, LATERAL (
        SELECT FROM documents d WHERE d.org_id = hits.org_id AND d.id = hits.document_id
            AND d.generation = hits.generation AND d.deleted_at IS NULL OFFSET 0) AS visible
    WHERE hits.org_id = p_org
    LIMIT p_limit;
END $$;
REVOKE ALL ON FUNCTION search_chunks_fulltext FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_chunks_fulltext TO footnote_app;
"""


def upgrade() -> None:
    _execute_script(_TABLES)
    _execute_script(_ROLES)
    _execute_script(_FUNCTIONS)
    for table in _SYSTEM_TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO footnote_system")
        op.execute(
            f"CREATE POLICY system ON {table} TO footnote_system USING (true) WITH CHECK (true)"
        )
    for table in _TENANT_TABLES:
        op.execute(
            f"CREATE POLICY tenant ON {table} TO footnote_app"
            f" USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})"
        )
    op.execute(f"CREATE POLICY tenant ON organizations TO footnote_app USING (id = {_ORG})")
    op.execute("GRANT SELECT ON organizations, memberships TO footnote_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON documents TO footnote_app")
    op.execute("GRANT SELECT, INSERT, DELETE ON pages, chunks, chunk_embeddings TO footnote_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON lexemes TO footnote_app")
    op.execute("GRANT SELECT ON embedding_spaces TO footnote_app, footnote_system")


def downgrade() -> None:
    _execute_script("""
        DROP FUNCTION search_chunks_fulltext;
        DROP FUNCTION ensure_embedding_space;
        DROP FUNCTION count_lexemes;
        DROP FUNCTION org_lexeme;
        DROP TABLE chunk_embeddings, embedding_spaces, lexemes, chunks, pages, documents,
            refresh_tokens, memberships, organizations, users;
    """)


def _execute_script(script: str) -> None:
    """Run statements one by one: asyncpg prepares each, and a prepared statement is only one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        # A body between $$ holds semicolons of its own.
        if statement.count("$$") % 2 == 0 and line.rstrip().endswith(";"):
            op.execute(statement)
            statement = ""
