"""Index terms of stored chunks, made anew by today's analysis.

A migration that changes what the terms are calls it, so that nothing stored becomes unfindable:
questions are analysed by the code that runs, and only terms of the same code meet them.
"""

from sqlalchemy import Connection, text

from app.core.analysis import to_tsvector

_BATCH = 500
_NEXT = text("""
    SELECT c.org_id, c.id, c.text, c.heading, d.title
    FROM chunks c JOIN documents d ON d.org_id = c.org_id AND d.id = c.document_id
    WHERE (c.org_id, c.id) > (CAST(:org_id AS uuid), CAST(:id AS uuid))
    ORDER BY c.org_id, c.id LIMIT :batch
""")
_STORE = text("""
    UPDATE chunks c SET tsv = made.tsv::tsvector || array_to_tsvector(ARRAY[org_lexeme(c.org_id)])
    FROM unnest(CAST(:org_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:tsvs AS text[]))
        AS made(org_id, id, tsv)
    WHERE c.org_id = made.org_id AND c.id = made.id
""")
# A document that is being deleted is counted until its chunks go.
_RECOUNT = """
    INSERT INTO {table} ({keys}, lexeme, chunk_count, token_count)
    SELECT {columns}, lexeme, count(*), CASE WHEN lexeme = '' THEN sum(c.token_count) END
    FROM chunks c
    JOIN documents d
        ON d.org_id = c.org_id AND d.id = c.document_id AND d.generation = c.generation,
        unnest(tsvector_to_array(c.tsv) || '{{""}}') AS lexeme
    WHERE d.generation > 0 AND lexeme <> org_lexeme(c.org_id) {which}
    GROUP BY {columns}, lexeme
"""
_RECOUNT_ALL = _RECOUNT.format(table="lexemes", keys="org_id", columns="d.org_id", which="")
# From migration 0014 on.
_RECOUNT_SHARED = _RECOUNT.format(
    table="lexemes", keys="org_id", columns="d.org_id", which="AND d.private_to IS NULL"
)
_RECOUNT_PRIVATE = _RECOUNT.format(
    table="private_lexemes",
    keys="org_id, user_id",
    columns="d.org_id, d.private_to",
    which="AND d.private_to IS NOT NULL",
)
_HAS_PRIVATE = text("SELECT to_regclass('private_lexemes') IS NOT NULL")
_FIRST = "00000000-0000-0000-0000-000000000000"


def rebuild_terms(connection: Connection) -> None:
    """Analyse all chunks and count their terms, in the caller's transaction. About 1 ms a chunk.

    Readers are not blocked, and see the old terms until the transaction ends.
    """
    at = {"org_id": _FIRST, "id": _FIRST}
    while rows := connection.execute(_NEXT, {**at, "batch": _BATCH}).all():
        connection.execute(
            _STORE,
            {
                "org_ids": [row.org_id for row in rows],
                "ids": [row.id for row in rows],
                "tsvs": [to_tsvector(r.text, title=r.title, heading=r.heading) for r in rows],
            },
        )
        at = {"org_id": rows[-1].org_id, "id": rows[-1].id}
    connection.execute(text("DELETE FROM lexemes"))
    if not connection.scalar(_HAS_PRIVATE):
        connection.execute(text(_RECOUNT_ALL))
        return
    connection.execute(text("DELETE FROM private_lexemes"))
    connection.execute(text(_RECOUNT_SHARED))
    connection.execute(text(_RECOUNT_PRIVATE))
