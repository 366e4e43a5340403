"""Rows that a test wrote itself: organizations, and what ingestion leaves of a document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.core.analysis import to_tsvector
from app.core.ids import new_id
from app.resources import Resources

_USER = text("INSERT INTO users (id, email, password_hash) VALUES (:id, :email, '')")
_ORGANIZATION = text("INSERT INTO organizations (id, name) VALUES (:id, 'o')")
_ENSURE_SPACE = text("SELECT ensure_embedding_space('tests', 'tests', 3)")
_PAGE = text("""
    INSERT INTO pages (org_id, document_id, generation, number, text, width, height, source,
                       warnings, label)
    VALUES (:org_id, :id, :generation, :number, :text, 612, 792, :source, :warnings, :label)
""")
_CHUNK = text("""
    INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans, page_start,
                        page_end, heading, token_count, tsv)
    VALUES (:org_id, :chunk_id, :id, :generation, :ordinal, :text, :spans, :page_start, :page_end,
            'Part', 7,
            CAST(CAST(:tsv AS text) AS tsvector) || array_to_tsvector(ARRAY[org_lexeme(:org_id)]))
""")
_EMBEDDING = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    VALUES (:space_id, :org_id, :chunk_id, :id, :generation, CAST('[1,0,0]' AS halfvec))
""")
_PUBLISH = text("""
    UPDATE documents SET status = 'ready', percent = 100, generation = :generation,
        chunk_count = :chunks, page_count = :pages, ready_version = version,
        ready_filename = filename, ready_media_type = media_type
    WHERE org_id = :org_id AND id = :id
""")
_COUNT_LEXEMES = text("SELECT count_lexemes(:org_id, :id, :generation, 1)")


@dataclass(frozen=True, slots=True)
class PageRow:
    number: int
    text: str
    source: str = "text_layer"
    warnings: Sequence[str] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """`spans` is flat, as it is stored."""

    text: str
    spans: Sequence[int]


async def store_organization(
    connection: AsyncSession | AsyncConnection, org_id: UUID, user_id: UUID
) -> None:
    """Write a user and an organization, of which they are no member."""
    await connection.execute(_USER, {"id": user_id, "email": f"{user_id}@example.com"})
    await connection.execute(_ORGANIZATION, {"id": org_id})


async def store_generation(
    resources: Resources,
    org_id: UUID,
    document_id: str,
    pages: Sequence[PageRow],
    chunks: Sequence[ChunkRow],
    *,
    generation: int = 1,
) -> None:
    """Write rows that readers don't see."""
    key: dict[str, Any] = {"org_id": org_id, "id": UUID(document_id), "generation": generation}
    async with resources.db.system_transaction() as session:
        space_id = await session.scalar(_ENSURE_SPACE)
        for page in pages:
            values = {"number": page.number, "text": page.text, "source": page.source}
            more = {"warnings": list(page.warnings), "label": page.label}
            await session.execute(_PAGE, {**key, **values, **more})
        for ordinal, chunk in enumerate(chunks):
            spans = list(chunk.spans)
            tsv = to_tsvector(chunk.text, title=None, heading="Part")
            values = {"ordinal": ordinal, "text": chunk.text, "spans": spans, "tsv": tsv}
            places = {"page_start": spans[0], "page_end": spans[-3], "chunk_id": new_id()}
            await session.execute(_CHUNK, {**key, **values, **places})
            await session.execute(_EMBEDDING, {**key, **places, "space_id": space_id})


async def make_ready(
    resources: Resources,
    org_id: UUID,
    document_id: str,
    pages: Sequence[PageRow],
    chunks: Sequence[ChunkRow],
    *,
    generation: int = 1,
) -> None:
    """Write rows and show them to readers."""
    await store_generation(resources, org_id, document_id, pages, chunks, generation=generation)
    key = {"org_id": org_id, "id": UUID(document_id), "generation": generation}
    async with resources.db.system_transaction() as session:
        await session.execute(_PUBLISH, {**key, "chunks": len(chunks), "pages": len(pages)})
        await session.execute(_COUNT_LEXEMES, key)


async def change_document(
    resources: Resources, document_id: str, assignments: str, **values: Any
) -> None:
    """Set columns of a document's row: `assignments` is SQL."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(f"UPDATE documents SET {assignments} WHERE id = :id"),
            {**values, "id": UUID(document_id)},
        )


async def read_document(resources: Resources, document_id: str) -> Any:
    """Return the document's row, or None, once nobody is about to change it."""
    async with resources.db.system_transaction() as session:
        return (
            await session.execute(
                text("SELECT * FROM documents WHERE id = :id FOR SHARE"), {"id": UUID(document_id)}
            )
        ).one_or_none()


async def count_rows(resources: Resources, table: str, document_id: str) -> int:
    column = "id" if table == "documents" else "document_id"
    async with resources.db.system_transaction() as session:
        count: int = await session.scalar(
            text(f"SELECT count(*) FROM {table} WHERE {column} = :id"), {"id": UUID(document_id)}
        )
    return count
