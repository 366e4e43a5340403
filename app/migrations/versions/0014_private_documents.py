"""Documents that only their uploader sees.

The policy on `documents` shows a private one to nobody but the user that the transaction names, and
what else is kept of documents stands on that:

- `chunks`, `pages`, `ocr_pages` and `document_versions`, which hold a document's words, show their
  rows only where the document shows: whoever reads them by an id of their own learns nothing.
- `chunk_embeddings` are thousands of rows for one search, and hold no words. They have the
  organization's policy alone; a test holds that every statement that reads them joins `documents`.
- `citations` belong to a conversation, and that to a user. Their readers ask for the file names of
  their documents, under the policy, and show no quote without one.
- `lexemes` count the words of shared documents alone, `private_lexemes` those of each user's own:
  else a score would tell how rare a word is in documents that one may not see.
- `deletions` of private documents are shown to their user, as the documents were.

Functions that run as the owner, whom no policy binds, ask for the user themselves. Those that only
add up what an organization has (`count_queued_documents`, `measure_documents`) count all of it.

A document is private to nobody but who uploaded it. So a worker acts for the uploader, and sees the
document whatever becomes of it meanwhile.
"""

from importlib import import_module
from typing import Any

from alembic import op

revision = "0014"
down_revision = "0013"

_ORG = "NULLIF(current_setting('app.org_id', true), '')::uuid"
_USER = "NULLIF(current_setting('app.user_id', true), '')::uuid"
# A CASE, because a planner without statistics takes it that nothing `IS NULL`: half is nearer.
_MINE = f"CASE WHEN private_to IS NULL THEN true ELSE private_to = {_USER} END"
_SHOWN = f"""
    org_id = {_ORG} AND EXISTS (
        SELECT FROM documents d WHERE d.org_id = {{table}}.org_id AND d.id = {{table}}.document_id)
"""
_HELD = "CREATE FUNCTION hold_live_vectors("
_OF_DOCUMENTS = ("chunks", "pages", "ocr_pages", "document_versions")

_DROP_SEARCH = """
    DROP FUNCTION search_chunks_fulltext(
        uuid, uuid[], integer, integer, text[], double precision[], integer[], integer, uuid[])
"""
_SEARCH = """
-- Chunks by weighted terms, and the same figures for p_extra, which another stage found. Terms of
-- one group stand for the same word of the question; those of group 0 for no word of it.
--     score = sum over terms of weight * idf * (body + place) / sum over words of weight * idf
--     idf = ln(1 + (N - n + 0.5) / (n + 0.5)), N chunks of the organization, of which n have it
--     body = tf / (tf + k), k = 0.9 * (0.25 + 0.75 * tokens / average tokens)
-- which is BM25 (Robertson and Zaragoza 2009) with k1 = 0.9 and b = 0.75, and `place` is 1.8 for a
-- term of the title (label B), 0.4 for one of the heading (A). ts_rank() reads a tsvector fastest:
-- of tf positions it makes s = sum(1 / j^2) / 1.645, so that tf is 0.6 * s / (1 - s). Divided by
-- what the words weigh, phrases included, scores of different questions can be compared.
-- A word that no chunk has counts as the rarest.
-- The index is asked for the rarest terms until together they stand in `budget` chunks: common ones
-- cost the most and tell the least. It is asked for a word's beginning only where few chunks have
-- its stem. What it finds is ranked roughly, the best p_limit of that by all terms.
-- Runs as the owner: `@@` is not leakproof, so under a policy its index would never be used. The
-- organization is checked against the transaction's all the same, and each document that is private
-- against its user: also the documents of p_extra, and words that stand in private documents alone
-- are as unknown to everybody else as those that stand in none. What it has read of the chunks
-- comes with them: under their policy each would be looked up once more, and its document.
-- What keeps it fast, measured on 964 chunks and 21 terms: figures are float8, because numeric
-- literals make numeric products and logarithms (0.3 of 2.8 ms); ranks are made before rows are
-- grouped, behind OFFSET 0, and grouped by hashing, because sorting carried each row's tsvector
-- along (0.8 ms); and one look-up for all that is ranked (0.2 ms).
CREATE FUNCTION search_chunks_fulltext(
    p_org uuid, p_documents uuid[], p_page_first integer, p_page_last integer, p_terms text[],
    p_weights double precision[], p_groups integer[], p_limit integer, p_extra uuid[])
RETURNS TABLE (chunk_id uuid, score double precision, document_id uuid, ordinal integer,
    page_start integer, page_end integer, passage text, spans integer[], heading text)
-- As many as there mostly are: what joins them looks each up.
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 60
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_indexscan = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    here tsquery := quote_literal(org_lexeme(p_org))::tsquery;
    reader uuid := NULLIF(current_setting('app.user_id', true), '')::uuid;
    total integer;
    tokens bigint;
    own integer;
    own_tokens bigint;
    average double precision;
    budget integer;
    words tsquery[];
    weights double precision[];
    whole double precision;
    rare_words tsquery[];
    rare_weights double precision[];
BEGIN
    IF p_org IS DISTINCT FROM NULLIF(current_setting('app.org_id', true), '')::uuid THEN
        RETURN;
    END IF;
    SELECT l.chunk_count, l.token_count INTO total, tokens
    FROM lexemes l WHERE l.org_id = p_org AND l.lexeme = '';
    SELECT p.chunk_count, p.token_count INTO own, own_tokens
    FROM private_lexemes p WHERE p.org_id = p_org AND p.user_id = reader AND p.lexeme = '';
    total := coalesce(total, 0) + coalesce(own, 0);
    average := greatest(
        (coalesce(tokens, 0) + coalesce(own_tokens, 0))::float8 / nullif(total, 0), 1);
    budget := least(400 + total / 3, 10000) * CASE WHEN p_documents IS NULL THEN 1 ELSE 2 END;
    WITH terms AS (
        SELECT quote_literal(t.term) AS term, t.word_group, t.term LIKE '~%' AS is_beginning,
            nullif(t.n, 0) AS n,
            t.weight * ln(1 + (total - t.n + 0.5::float8) / (t.n + 0.5::float8)) AS weight
        FROM (
            SELECT a.*, coalesce(l.chunk_count, 0) + CASE WHEN own > 0 THEN coalesce((
                SELECT p.chunk_count FROM private_lexemes p
                WHERE p.org_id = p_org AND p.user_id = reader AND p.lexeme = a.term), 0)
                ELSE 0 END AS n
            FROM unnest(p_terms, p_weights, p_groups) AS a(term, weight, word_group)
            LEFT JOIN lexemes l ON l.org_id = p_org AND l.lexeme = a.term
            OFFSET 0) AS t
    ), grouped AS (
        SELECT t.term, t.word_group, t.n, t.weight, count(*) OVER g AS members,
            coalesce(max(t.weight) FILTER (WHERE t.n > 0) OVER g, max(t.weight) OVER g) AS best,
            sum(t.n) OVER (ORDER BY t.is_beginning, t.n, t.term) AS reached,
            t.is_beginning AND coalesce(min(t.n) FILTER (WHERE NOT t.is_beginning) OVER g, 0) >= 5
                AS is_spare
        FROM terms t WINDOW g AS (PARTITION BY t.word_group)
    ), weighed AS (
        SELECT t.*,
            sum(CASE WHEN t.word_group > 0 THEN t.best / t.members ELSE t.weight END) OVER ()
                AS whole,
            -- Of what is rare here, the documents asked for may have nothing: one term more.
            NOT t.is_spare AND (t.reached <= budget OR t.reached = t.n
                OR (p_documents IS NOT NULL AND t.reached - t.n < budget)) AS is_rare
        FROM grouped t
    )
    SELECT array_agg(t.term::tsquery), array_agg(t.weight), max(t.whole),
        array_agg(t.term::tsquery) FILTER (WHERE t.is_rare),
        array_agg(t.weight) FILTER (WHERE t.is_rare)
    INTO words, weights, whole, rare_words, rare_weights
    FROM weighed t WHERE t.n > 0;
    RETURN QUERY
    WITH hits AS MATERIALIZED (
        SELECT h.id, h.document_id, min(h.generation) AS generation,
            sum(h.rank) / (1.25::float8 + 0.75::float8 * min(h.token_count) / average) AS rank
        FROM (
            SELECT c.org_id, c.id, c.document_id, c.generation, c.token_count,
                w.weight * ts_rank('{0.4, 0, 1, 0.2}', c.tsv, w.word) AS rank
            FROM unnest(rare_words, rare_weights) AS w(word, weight)
            -- By the GIN index alone: given org_id here too, the planner takes the btree and
            -- filters, and before the first ANALYZE it would rather read the table; hence the
            -- settings above. A plan of its own for every call took 5 ms, the generic one takes 1.
            JOIN chunks c ON c.tsv @@ (here && w.word)
                AND (p_documents IS NULL OR c.document_id = ANY (p_documents))
                AND (p_page_first IS NULL OR c.page_end >= p_page_first)
                AND (p_page_last IS NULL OR c.page_start <= p_page_last)
            OFFSET 0) AS h
        WHERE h.org_id = p_org
        GROUP BY h.id, h.document_id
        ORDER BY rank DESC, h.id
    ), found AS MATERIALIZED (
        SELECT hits.id
        -- In the order of hits, one look-up each, until there are enough that readers may see.
        FROM hits, LATERAL (
            SELECT FROM documents d WHERE d.org_id = p_org AND d.id = hits.document_id
                AND d.generation = hits.generation AND d.deleted_at IS NULL
                AND (d.expires_at IS NULL OR d.expires_at > now())
                AND (d.private_to IS NULL OR d.private_to = reader) OFFSET 0) AS visible
        LIMIT p_limit
    )
    SELECT c.id, coalesce(ranked.score / whole, 0), c.document_id, c.ordinal, c.page_start,
        c.page_end, c.text, c.spans, c.heading
    FROM (
        SELECT k.*, 0.375::float8 + 1.125::float8 * k.token_count / average AS damping
        FROM chunks k
        WHERE k.org_id = p_org
            AND k.id = ANY (ARRAY(SELECT found.id FROM found UNION ALL SELECT unnest(p_extra)))
            -- What was asked for by its id may be another user's.
            AND EXISTS (SELECT FROM documents d WHERE d.org_id = p_org AND d.id = k.document_id
                AND (d.private_to IS NULL OR d.private_to = reader))
        OFFSET 0) AS c,
    LATERAL (
        SELECT sum(w.weight * (3 * ts_rank('{0, 0, 1, 0.2}', c.tsv, w.word) + coalesce(1 / (1
                + (1 / nullif(ts_rank('{1, 0, 0, 0}', c.tsv, w.word), 0) - 1) * c.damping), 0)))
            AS score
        FROM unnest(words, weights) AS w(word, weight)
        WHERE c.tsv @@ w.word) AS ranked
    ORDER BY 2 DESC, c.id;
END $$
"""

_SEARCH_EVERYTHING = """
-- The chunks that are nearest to a vector, those that share words with a question, and what is made
-- of them. `similarity` is the cosine; `nearest` the chunk's place among the nearest, from 1, and
-- `nearest_ms` how long those took to find. Reads every vector of the organization: for spaces
-- without an index of vectors, else the condition is the one of app/retrieval/dense.py.
-- Begins no transaction of its own, which would be two round trips more: it names the organization
-- and the user itself, for the transaction that it runs in, and finds nothing where that names
-- others. All statements of a function that is not volatile see one snapshot, and none may write.
-- Without a user it finds what is shared.
CREATE FUNCTION search_everything(
    p_org uuid, p_space integer, p_vector halfvec, p_terms text[], p_weights double precision[],
    p_groups integer[], p_limit integer, p_user uuid DEFAULT NULL)
RETURNS TABLE (chunk_id uuid, score double precision, document_id uuid, filename text,
    page_count integer, ordinal integer, page_start integer, page_end integer,
    similarity double precision, passage text, spans integer[], heading text,
    nearest integer, nearest_ms double precision)
LANGUAGE plpgsql STABLE ROWS 60
SET search_path = public, pg_temp
-- Planned once: else some of it is planned for each call, in 0.2 of 2.4 ms.
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    started timestamptz := clock_timestamp();
    named uuid := NULLIF(current_setting('app.org_id', true), '')::uuid;
    reader uuid := NULLIF(current_setting('app.user_id', true), '')::uuid;
    near uuid[];
    near_ms double precision;
BEGIN
    IF coalesce(named, reader) IS NOT NULL
        AND (named, reader) IS DISTINCT FROM (p_org, p_user) THEN
        RETURN;
    END IF;
    PERFORM set_config('app.org_id', p_org::text, true),
        set_config('app.user_id', coalesce(p_user::text, ''), true);
    near := ARRAY(
        SELECT e.chunk_id
        FROM chunk_embeddings e
        JOIN documents d ON d.org_id = e.org_id AND d.id = e.document_id
            AND d.generation = e.generation AND d.deleted_at IS NULL
            AND (d.expires_at IS NULL OR d.expires_at > now())
        WHERE e.space_id = p_space AND e.org_id = p_org
        ORDER BY -(e.embedding <#> p_vector) DESC, e.chunk_id
        LIMIT p_limit);
    near_ms := 1000 * extract(epoch FROM clock_timestamp() - started);
    RETURN QUERY
    SELECT found.chunk_id, found.score, found.document_id, d.ready_filename, d.page_count,
        found.ordinal, found.page_start, found.page_end, -(e.embedding <#> p_vector), found.passage,
        found.spans, found.heading, array_position(near, found.chunk_id), near_ms
    FROM search_chunks_fulltext(
        p_org, NULL, NULL, NULL, p_terms, p_weights, p_groups, p_limit, near) AS found
    JOIN documents d ON d.org_id = p_org AND d.id = found.document_id
    LEFT JOIN chunk_embeddings e
        ON e.space_id = p_space AND e.org_id = p_org AND e.chunk_id = found.chunk_id
    ORDER BY found.score DESC, found.chunk_id;
END $$
"""

_UPGRADE: tuple[str, ...] = (
    """
    ALTER TABLE documents ADD COLUMN private_to uuid, ADD COLUMN made_private_at timestamptz,
        ADD CONSTRAINT ck_documents_private_to_uploader CHECK (private_to = uploaded_by)
    """,
    # The same bytes are one document of all who share them, and one of each user.
    "DROP INDEX uq_documents_org_id_sha256",
    """
    CREATE UNIQUE INDEX uq_documents_org_id_sha256_private_to
        ON documents (org_id, sha256, private_to) NULLS NOT DISTINCT WHERE deleted_at IS NULL
    """,
    """
    CREATE INDEX ix_documents_org_id_private_to ON documents (org_id, private_to)
        WHERE private_to IS NOT NULL
    """,
    "ALTER TABLE deletions ADD COLUMN private_to uuid",
    "ALTER TABLE uploads ADD COLUMN document_is_private boolean NOT NULL DEFAULT false",
    *(
        f"""
        ALTER POLICY tenant ON {table}
            USING (org_id = {_ORG} AND {_MINE}) WITH CHECK (org_id = {_ORG} AND {_MINE})
        """
        for table in ("documents", "deletions")
    ),
    *(
        f"ALTER POLICY tenant ON {table} USING ({shown}) WITH CHECK ({shown})"
        for table in _OF_DOCUMENTS
        for shown in (_SHOWN.format(table=table),)
    ),
    # As `lexemes`, for the documents that are private to a user.
    """
    CREATE TABLE private_lexemes (
        org_id uuid NOT NULL CONSTRAINT fk_private_lexemes_org_id REFERENCES organizations,
        user_id uuid NOT NULL CONSTRAINT fk_private_lexemes_user_id REFERENCES users,
        lexeme text NOT NULL,
        chunk_count integer NOT NULL,
        token_count bigint,
        CONSTRAINT pk_private_lexemes PRIMARY KEY (org_id, user_id, lexeme)
    )
    """,
    "ALTER TABLE private_lexemes ENABLE ROW LEVEL SECURITY",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON private_lexemes TO footnote_system",
    "GRANT SELECT, INSERT, UPDATE ON private_lexemes TO footnote_app",
    """
    CREATE POLICY system ON private_lexemes TO footnote_system USING (true) WITH CHECK (true)
    """,
    f"""
    CREATE POLICY tenant ON private_lexemes TO footnote_app
        USING (org_id = {_ORG} AND user_id = {_USER})
        WITH CHECK (org_id = {_ORG} AND user_id = {_USER})
    """,
    # Adds the chunks of a generation to the counts of a user, NULL: of all (p_sign 1), or takes
    # them out (-1). Ordered, so that two documents can't wait for each other's rows; who needs both
    # counts takes the shared ones first.
    """
    CREATE FUNCTION count_lexemes_of(
        p_org uuid, p_user uuid, p_document uuid, p_generation integer, p_sign integer)
    RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    BEGIN
        IF p_user IS NULL THEN
            INSERT INTO lexemes AS known (org_id, lexeme, chunk_count, token_count)
            SELECT p_org, lexeme, p_sign * count(*),
                CASE WHEN lexeme = '' THEN p_sign * sum(c.token_count) END
            FROM chunks c, unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
            WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
                AND lexeme <> org_lexeme(p_org)
            GROUP BY lexeme ORDER BY lexeme
            ON CONFLICT (org_id, lexeme)
                DO UPDATE SET chunk_count = known.chunk_count + excluded.chunk_count,
                    token_count = known.token_count + excluded.token_count;
        ELSE
            INSERT INTO private_lexemes AS known (
                org_id, user_id, lexeme, chunk_count, token_count)
            SELECT p_org, p_user, lexeme, p_sign * count(*),
                CASE WHEN lexeme = '' THEN p_sign * sum(c.token_count) END
            FROM chunks c, unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
            WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
                AND lexeme <> org_lexeme(p_org)
            GROUP BY lexeme ORDER BY lexeme
            ON CONFLICT (org_id, user_id, lexeme)
                DO UPDATE SET chunk_count = known.chunk_count + excluded.chunk_count,
                    token_count = known.token_count + excluded.token_count;
        END IF;
    END $$
    """,
    # Who may not see the document sees no chunks of it either, and counts none.
    """
    CREATE OR REPLACE FUNCTION count_lexemes(
        p_org uuid, p_document uuid, p_generation integer, p_sign integer)
    RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
        SELECT count_lexemes_of(p_org,
            (SELECT d.private_to FROM documents d WHERE d.org_id = p_org AND d.id = p_document),
            p_document, p_generation, p_sign)
    $$
    """,
    # As in 0005, for a document that the transaction's user may see.
    """
    CREATE OR REPLACE FUNCTION hold_live_vectors(
        p_org uuid, p_document uuid, p_generation integer)
    RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '15s'
    AS $$
    DECLARE
        rollout embedding_rollout;
    BEGIN
        IF p_org IS DISTINCT FROM NULLIF(current_setting('app.org_id', true), '')::uuid
            OR EXISTS (
                SELECT FROM documents d WHERE d.org_id = p_org AND d.id = p_document
                    AND d.private_to IS DISTINCT FROM
                        NULLIF(current_setting('app.user_id', true), '')::uuid
                    AND d.private_to IS NOT NULL) THEN
            RETURN false;
        END IF;
        SELECT * INTO rollout FROM embedding_rollout FOR SHARE;
        IF rollout.live_id IS NULL
            OR lacks_vectors(rollout.live_id, p_org, p_document, p_generation) THEN
            RETURN false;
        END IF;
        IF rollout.state IN ('filling', 'switched')
            AND lacks_vectors(rollout.beside_id, p_org, p_document, p_generation) THEN
            INSERT INTO embedding_fills (space_id) VALUES (rollout.beside_id)
                ON CONFLICT (space_id) DO UPDATE SET is_behind = true;
        END IF;
        RETURN true;
    END $$
    """,
    # How many documents of the transaction's organization wait, whosever they are: at most p_most.
    """
    CREATE FUNCTION count_queued_documents(p_org uuid, p_most integer) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT count(*) FROM (
            SELECT FROM documents d WHERE d.org_id = p_org AND d.status = 'queued'
                AND p_org = NULLIF(current_setting('app.org_id', true), '')::uuid
            LIMIT p_most) AS queued
    $$
    """,
    # What all documents of the transaction's organization take up, whosever they are.
    """
    CREATE FUNCTION measure_documents(p_org uuid)
    RETURNS TABLE (status text, documents bigint, size_bytes bigint, pages bigint, chunks bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
        SELECT d.status, count(*), coalesce(sum(d.size_bytes), 0)::bigint,
            coalesce(sum(d.page_count), 0)::bigint, coalesce(sum(d.chunk_count), 0)::bigint
        FROM documents d
        WHERE d.org_id = p_org AND p_org = NULLIF(current_setting('app.org_id', true), '')::uuid
            AND d.deleted_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now())
        GROUP BY d.status
    $$
    """,
    "REVOKE ALL ON FUNCTION count_queued_documents, measure_documents FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION count_queued_documents, measure_documents TO footnote_app",
    _DROP_SEARCH,
    _SEARCH,
    "REVOKE ALL ON FUNCTION search_chunks_fulltext FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION search_chunks_fulltext TO footnote_app",
    """
    DROP FUNCTION search_everything(
        uuid, integer, halfvec, text[], double precision[], integer[], integer)
    """,
    _SEARCH_EVERYTHING,
    "REVOKE ALL ON FUNCTION search_everything FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION search_everything TO footnote_app",
)
_DOWNGRADE: tuple[str, ...] = (
    # They would become everybody's.
    """
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM documents WHERE private_to IS NOT NULL) THEN
            RAISE EXCEPTION 'there are private documents: share or delete them first';
        END IF;
    END $$
    """,
    """
    DROP FUNCTION search_everything(
        uuid, integer, halfvec, text[], double precision[], integer[], integer, uuid)
    """,
    "DROP FUNCTION measure_documents",
    "DROP FUNCTION count_queued_documents",
    *(
        f"ALTER POLICY tenant ON {table} USING (org_id = {_ORG}) WITH CHECK (org_id = {_ORG})"
        for table in (*_OF_DOCUMENTS, "documents", "deletions")
    ),
    "ALTER TABLE uploads DROP COLUMN document_is_private",
    "ALTER TABLE deletions DROP COLUMN private_to",
    "DROP INDEX uq_documents_org_id_sha256_private_to",
    "ALTER TABLE documents DROP COLUMN private_to, DROP COLUMN made_private_at",
    """
    CREATE UNIQUE INDEX uq_documents_org_id_sha256 ON documents (org_id, sha256)
        WHERE deleted_at IS NULL
    """,
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
    op.execute(_earlier("0004_fulltext_terms")._COUNT_LEXEMES)
    op.execute("DROP FUNCTION count_lexemes_of")
    op.execute("DROP TABLE private_lexemes")
    held = next(s for s in _earlier("0005_live_embedding_space")._UPGRADE if _HELD in s)
    op.execute(held.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute(_DROP_SEARCH)
    op.execute(_earlier("0008_fulltext_speed")._SEARCH)
    op.execute("REVOKE ALL ON FUNCTION search_chunks_fulltext FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION search_chunks_fulltext TO footnote_app")
    _earlier("0011_search_in_one_trip").upgrade()


def _earlier(name: str) -> Any:
    return import_module(f"app.migrations.versions.{name}")
