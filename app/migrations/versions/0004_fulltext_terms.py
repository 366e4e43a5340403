"""Index terms made in Python, and the statistics of BM25."""

from alembic import op

from app.migrations.fulltext import rebuild_terms

revision = "0004"
down_revision = "0003"

_COUNT_LEXEMES = """
-- Add the chunks of a generation to the counts (p_sign 1), or take them out (-1). Ordered, so that
-- two documents of one organization can't wait for each other's rows.
CREATE OR REPLACE FUNCTION count_lexemes(
    p_org uuid, p_document uuid, p_generation integer, p_sign integer)
RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO lexemes AS known (org_id, lexeme, chunk_count, token_count)
    SELECT p_org, lexeme, p_sign * count(*),
        CASE WHEN lexeme = '' THEN p_sign * sum(c.token_count) END
    FROM chunks c, unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
    WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
        AND lexeme <> org_lexeme(p_org)
    GROUP BY lexeme ORDER BY lexeme
    ON CONFLICT (org_id, lexeme)
        DO UPDATE SET chunk_count = known.chunk_count + excluded.chunk_count,
            token_count = known.token_count + excluded.token_count
$$
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
-- organization is checked against the transaction's all the same.
CREATE FUNCTION search_chunks_fulltext(
    p_org uuid, p_documents uuid[], p_page_first integer, p_page_last integer, p_terms text[],
    p_weights double precision[], p_groups integer[], p_limit integer, p_extra uuid[])
RETURNS TABLE (chunk_id uuid, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off SET enable_indexscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    here tsquery := quote_literal(org_lexeme(p_org))::tsquery;
    total integer;
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
    SELECT l.chunk_count, greatest(l.token_count::float8 / nullif(l.chunk_count, 0), 1)
    INTO total, average
    FROM lexemes l WHERE l.org_id = p_org AND l.lexeme = '';
    budget := least(400 + total / 3, 10000) * CASE WHEN p_documents IS NULL THEN 1 ELSE 2 END;
    WITH terms AS (
        SELECT quote_literal(t.term) AS term, t.word_group, t.term LIKE '~%' AS is_beginning,
            l.chunk_count AS n,
            t.weight * ln(1 + (total - coalesce(l.chunk_count, 0) + 0.5)
                              / (coalesce(l.chunk_count, 0) + 0.5)) AS weight
        FROM unnest(p_terms, p_weights, p_groups) AS t(term, weight, word_group)
        LEFT JOIN lexemes l ON l.org_id = p_org AND l.lexeme = t.term AND l.chunk_count > 0
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
        SELECT c.org_id, c.id, c.document_id, c.generation,
            sum(w.weight * ts_rank('{0.4, 0, 1, 0.2}', c.tsv, w.word))
                / (1.25 + 0.75 * c.token_count / average) AS rank
        FROM unnest(rare_words, rare_weights) AS w(word, weight)
        -- By the GIN index alone: given org_id here too, the planner takes the btree and filters,
        -- and before the first ANALYZE it would rather read the table; hence the settings above.
        -- A plan of its own for every call took 5 ms where the generic one takes 1.
        JOIN chunks c ON c.tsv @@ (here && w.word)
            AND (p_documents IS NULL OR c.document_id = ANY (p_documents))
            AND (p_page_first IS NULL OR c.page_end >= p_page_first)
            AND (p_page_last IS NULL OR c.page_start <= p_page_last)
        GROUP BY c.org_id, c.id
        ORDER BY rank DESC, c.id
    ), found AS MATERIALIZED (
        SELECT hits.id
        -- In the order of hits, one look-up each, until there are enough that readers may see.
        FROM hits, LATERAL (
            SELECT FROM documents d WHERE d.org_id = hits.org_id AND d.id = hits.document_id
                AND d.generation = hits.generation AND d.deleted_at IS NULL
                AND (d.expires_at IS NULL OR d.expires_at > now()) OFFSET 0) AS visible
        WHERE hits.org_id = p_org
        LIMIT p_limit
    )
    SELECT c.id, coalesce(ranked.score / whole, 0)
    FROM (SELECT id FROM found UNION SELECT unnest(p_extra)) AS wanted,
    LATERAL (
        SELECT k.id, k.tsv, k.token_count FROM chunks k
        WHERE k.org_id = p_org AND k.id = wanted.id OFFSET 0) AS c,
    LATERAL (
        SELECT sum(w.weight * (3 * ts_rank('{0, 0, 1, 0.2}', c.tsv, w.word) + coalesce(1 / (1
                + (1 / nullif(ts_rank('{1, 0, 0, 0}', c.tsv, w.word), 0) - 1)
                * (0.375 + 1.125 * c.token_count / average)), 0))) AS score
        FROM unnest(words, weights) AS w(word, weight)
        WHERE c.tsv @@ w.word) AS ranked
    ORDER BY 2 DESC, c.id;
END $$
"""

_UPGRADE = (
    # Of the row '' alone: the tokens of all the organization's visible chunks.
    "ALTER TABLE lexemes ADD COLUMN token_count bigint",
    _COUNT_LEXEMES,
    "DROP FUNCTION search_chunks_fulltext(uuid, uuid[], text, integer)",
    _SEARCH,
    "REVOKE ALL ON FUNCTION search_chunks_fulltext FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION search_chunks_fulltext TO footnote_app",
)

_DOWNGRADE = (
    """
    DROP FUNCTION search_chunks_fulltext(
        uuid, uuid[], integer, integer, text[], double precision[], integer[], integer, uuid[])
    """,
    """
    CREATE OR REPLACE FUNCTION count_lexemes(
        p_org uuid, p_document uuid, p_generation integer, p_sign integer)
    RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
        INSERT INTO lexemes AS known (org_id, lexeme, chunk_count)
        SELECT p_org, lexeme, p_sign * count(*)
        FROM chunks c, unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
        WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
            AND lexeme <> org_lexeme(p_org)
        GROUP BY lexeme ORDER BY lexeme
        ON CONFLICT (org_id, lexeme)
            DO UPDATE SET chunk_count = known.chunk_count + excluded.chunk_count
    $$
    """,
    "ALTER TABLE lexemes DROP COLUMN token_count",
    """
    UPDATE chunks c SET tsv = to_tsvector('english', concat_ws(' ', d.title, c.heading))
        || to_tsvector('english', c.text) || array_to_tsvector(ARRAY[org_lexeme(c.org_id)])
    FROM documents d WHERE d.org_id = c.org_id AND d.id = c.document_id
    """,
    "DELETE FROM lexemes",
    """
    INSERT INTO lexemes (org_id, lexeme, chunk_count)
    SELECT c.org_id, lexeme, count(*)
    FROM chunks c
    JOIN documents d
        ON d.org_id = c.org_id AND d.id = c.document_id AND d.generation = c.generation,
        unnest(tsvector_to_array(c.tsv) || '{""}') AS lexeme
    WHERE d.generation > 0 AND lexeme <> org_lexeme(c.org_id)
    GROUP BY c.org_id, lexeme
    """,
    # As 0001 made it.
    """
    CREATE FUNCTION search_chunks_fulltext(
        p_org uuid, p_documents uuid[], p_query text, p_limit integer)
    RETURNS TABLE (chunk_id uuid, rank double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = public, pg_temp
    SET enable_seqscan = off SET enable_indexscan = off SET plan_cache_mode = force_generic_plan
    AS $$
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
    END $$
    """,
    "REVOKE ALL ON FUNCTION search_chunks_fulltext FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION search_chunks_fulltext TO footnote_app",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)
    rebuild_terms(op.get_bind())


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
