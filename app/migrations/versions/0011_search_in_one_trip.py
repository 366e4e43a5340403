"""A question that no filter narrows, searched in one round trip."""

from alembic import op

revision = "0011"
down_revision = "0010"

_SEARCH = """
-- The chunks that are nearest to a vector, those that share words with a question, and what is made
-- of them. `similarity` is the cosine; `nearest` the chunk's place among the nearest, from 1, and
-- `nearest_ms` how long those took to find. Reads every vector of the organization: for spaces
-- without an index of vectors, else the condition is the one of app/retrieval/dense.py.
-- Begins no transaction of its own, which would be two round trips more: it names the organization
-- itself, for the transaction that it runs in, and finds nothing where another one is named. All
-- statements of a function that is not volatile see one snapshot, and none may write.
CREATE FUNCTION search_everything(
    p_org uuid, p_space integer, p_vector halfvec, p_terms text[], p_weights double precision[],
    p_groups integer[], p_limit integer)
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
    near uuid[];
    near_ms double precision;
BEGIN
    IF named <> p_org THEN
        RETURN;
    END IF;
    PERFORM set_config('app.org_id', p_org::text, true);
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
    SELECT found.chunk_id, found.score, c.document_id, d.ready_filename, d.page_count, c.ordinal,
        c.page_start, c.page_end, -(e.embedding <#> p_vector), c.text, c.spans, c.heading,
        array_position(near, found.chunk_id), near_ms
    FROM search_chunks_fulltext(
        p_org, NULL, NULL, NULL, p_terms, p_weights, p_groups, p_limit, near) AS found
    JOIN chunks c ON c.org_id = p_org AND c.id = found.chunk_id
    JOIN documents d ON d.org_id = p_org AND d.id = c.document_id
    LEFT JOIN chunk_embeddings e
        ON e.space_id = p_space AND e.org_id = p_org AND e.chunk_id = found.chunk_id
    ORDER BY found.score DESC, found.chunk_id;
END $$
"""


def upgrade() -> None:
    op.execute(_SEARCH)
    op.execute("REVOKE ALL ON FUNCTION search_everything FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION search_everything TO footnote_app")


def downgrade() -> None:
    op.execute("DROP FUNCTION search_everything")
