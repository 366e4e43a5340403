"""The live embedding space, and filling another beside it."""

from alembic import op

revision = "0005"
down_revision = "0004"

_UPGRADE: tuple[str, ...] = (
    # One row, from the first document on. `beside_id` is the space that is being filled, or that
    # was live before: see `app/models/embeddings.py` for the states.
    """
    CREATE TABLE embedding_rollout (
        singleton boolean NOT NULL DEFAULT true CONSTRAINT pk_embedding_rollout PRIMARY KEY
            CONSTRAINT ck_embedding_rollout_singleton CHECK (singleton),
        live_id integer NOT NULL
            CONSTRAINT fk_embedding_rollout_live_id REFERENCES embedding_spaces,
        beside_id integer CONSTRAINT fk_embedding_rollout_beside_id REFERENCES embedding_spaces,
        state text NOT NULL DEFAULT 'idle' CONSTRAINT ck_embedding_rollout_state
            CHECK (state IN ('idle', 'filling', 'paused', 'switched')),
        is_held boolean NOT NULL DEFAULT false,
        switched_at timestamptz,
        CONSTRAINT ck_embedding_rollout_beside CHECK ((state = 'idle') = (beside_id IS NULL)),
        CONSTRAINT ck_embedding_rollout_two_spaces CHECK (beside_id <> live_id)
    )
    """,
    """
    CREATE TABLE embedding_fills (
        space_id integer CONSTRAINT pk_embedding_fills PRIMARY KEY
            CONSTRAINT fk_embedding_fills_space_id REFERENCES embedding_spaces ON DELETE CASCADE,
        is_behind boolean NOT NULL DEFAULT true,
        after_org_id uuid,
        after_chunk_id uuid,
        lease_expires_at timestamptz,
        failures integer NOT NULL DEFAULT 0,
        retry_at timestamptz,
        error_code text
    )
    """,
    "ALTER TABLE embedding_fills ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY system ON embedding_fills TO footnote_system USING (true) WITH CHECK (true)",
    "GRANT SELECT ON embedding_rollout TO footnote_app",
    """
    GRANT SELECT, INSERT, UPDATE, DELETE ON embedding_rollout, embedding_fills TO footnote_system
    """,
    # Where documents are there already, the space with the most vectors of what readers see is
    # live. Another model may have been set on the way: what it lacks is filled in.
    """
    INSERT INTO embedding_rollout (live_id)
    SELECT e.space_id FROM chunk_embeddings e
    JOIN documents d ON d.org_id = e.org_id AND d.id = e.document_id
        AND d.generation = e.generation AND d.deleted_at IS NULL
    GROUP BY e.space_id ORDER BY count(*) DESC, e.space_id DESC LIMIT 1
    """,
    "INSERT INTO embedding_fills (space_id) SELECT live_id FROM embedding_rollout",
    """
    CREATE FUNCTION lacks_vectors(
        p_space integer, p_org uuid, p_document uuid, p_generation integer)
    RETURNS boolean LANGUAGE sql SET search_path = public, pg_temp AS $$
        SELECT EXISTS (
            SELECT FROM chunks c
            WHERE c.org_id = p_org AND c.document_id = p_document AND c.generation = p_generation
              AND NOT EXISTS (SELECT FROM chunk_embeddings e WHERE e.space_id = p_space
                              AND e.org_id = c.org_id AND e.chunk_id = c.id))
    $$
    """,
    # Says whether a space is live or stands beside the live one. Until the transaction ends, no
    # switch happens and no such space is dropped. As the owner, because a row lock takes the right
    # to write. A switch counts every chunk meanwhile: this waits for longer than others.
    """
    CREATE FUNCTION hold_kept_space(p_space integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '15s'
    AS $$
    DECLARE
        rollout embedding_rollout;
    BEGIN
        SELECT * INTO rollout FROM embedding_rollout FOR SHARE;
        RETURN coalesce(p_space IN (rollout.live_id, rollout.beside_id), false);
    END $$
    """,
    # For who is about to publish a generation: whether each of its chunks has a vector in the live
    # space, which stays live until the transaction ends. What the space beside it lacks is left to
    # the filler.
    """
    CREATE FUNCTION hold_live_vectors(p_org uuid, p_document uuid, p_generation integer)
    RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '15s'
    AS $$
    DECLARE
        rollout embedding_rollout;
    BEGIN
        IF p_org IS DISTINCT FROM NULLIF(current_setting('app.org_id', true), '')::uuid THEN
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
    # As the owner, who alone may drop a partition. That locks out every query for a moment, so it
    # waits for none of them for long. Raises object_in_use (55006).
    """
    CREATE FUNCTION drop_embedding_space(p_space integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '1s'
    AS $$
    BEGIN
        PERFORM FROM embedding_rollout FOR UPDATE;
        IF EXISTS (SELECT FROM embedding_rollout WHERE p_space IN (live_id, beside_id)) THEN
            RAISE EXCEPTION 'embedding space % is in use', p_space USING ERRCODE = '55006';
        END IF;
        EXECUTE format('DROP TABLE IF EXISTS chunk_embeddings_%s', p_space);
        DELETE FROM embedding_spaces WHERE id = p_space;
    END $$
    """,
    """
    REVOKE ALL ON FUNCTION lacks_vectors, hold_kept_space, hold_live_vectors, drop_embedding_space
    FROM PUBLIC
    """,
    "GRANT EXECUTE ON FUNCTION hold_live_vectors TO footnote_app",
    "GRANT EXECUTE ON FUNCTION hold_kept_space TO footnote_app, footnote_system",
    "GRANT EXECUTE ON FUNCTION drop_embedding_space TO footnote_system",
)
_DOWNGRADE: tuple[str, ...] = (
    "DROP FUNCTION drop_embedding_space",
    "DROP FUNCTION hold_live_vectors",
    "DROP FUNCTION hold_kept_space",
    "DROP FUNCTION lacks_vectors",
    "DROP TABLE embedding_fills, embedding_rollout",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
