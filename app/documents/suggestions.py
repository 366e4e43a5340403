"""Questions to begin with, suggested by the newest documents' own headings."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Row, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.documents.questions import DocumentQuestions, HeadedText, Question

# More documents, or more of their chunks, would change few questions.
_NEWEST_DOCUMENTS = 20
_SAMPLED_CHUNKS = 1_000
_EXCERPT_CHARS = 300

# Evenly spread chunks of each document, looked up one by one in the unique index: a filter on every
# n-th would read all of them.
_HEADINGS = text("""
    WITH newest AS MATERIALIZED (
        SELECT id, generation, chunk_count, title, created_at,
            coalesce(ready_filename, filename) AS filename
        FROM documents
        WHERE org_id = :org_id AND generation > 0 AND deleted_at IS NULL
          AND (expires_at IS NULL OR expires_at > now())
          AND (:document_ids IS NULL OR id = ANY(:document_ids))
        ORDER BY created_at DESC, id DESC LIMIT :documents),
    steps AS (
        SELECT greatest(1, ceil(chunk_count * (SELECT count(*) FROM newest)
                                / CAST(:chunks AS float8))::integer) AS step, newest.*
        FROM newest)
    SELECT s.id, s.filename, s.title, s.chunk_count, h.*
    FROM steps s LEFT JOIN LATERAL (
        SELECT c.heading AS path, count(*) AS chunks, sum(c.token_count) * s.step AS tokens,
            min(c.ordinal) AS ordinal,
            (array_agg(left(c.text, :characters) ORDER BY c.ordinal))[1] AS excerpt
        FROM generate_series(0, s.chunk_count - 1, s.step) AS n,
            LATERAL (SELECT * FROM chunks c
                     WHERE c.org_id = :org_id AND c.document_id = s.id
                       AND c.generation = s.generation AND c.ordinal = n OFFSET 0) AS c
        GROUP BY c.heading) AS h ON true
    ORDER BY s.created_at DESC, s.id DESC, h.ordinal
""").bindparams(bindparam("document_ids", type_=ARRAY(Uuid())))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A question about a document; `heading` is None where it is about the whole of it."""

    question: str
    document_id: UUID
    filename: str
    heading: str | None


async def suggest_questions(
    session: AsyncSession, org_id: UUID, *, document_ids: Sequence[UUID] | None, limit: int
) -> list[Suggestion]:
    """Return at most `limit` questions, about the newest of the searchable documents first.

    Each document has its turn before one has a second. Where headings are no good for it, the
    question is what the document is about.
    """
    rows = await session.execute(
        _HEADINGS,
        {
            "org_id": org_id,
            "document_ids": list(document_ids) if document_ids else None,
            "documents": _NEWEST_DOCUMENTS,
            "chunks": _SAMPLED_CHUNKS,
            "characters": _EXCERPT_CHARS,
        },
    )
    # Words are looked at one by one: 2 ms for a long document.
    return await asyncio.to_thread(_suggest_first, rows.all(), limit)


def _suggest_first(rows: Sequence[Row[Any]], limit: int) -> list[Suggestion]:
    documents = [list(group) for _, group in groupby(rows, key=lambda row: row.id)]
    suggestions: dict[str, Suggestion] = {}
    for suggestion in _suggestions(documents):
        # Two files of one name and form.
        suggestions.setdefault(suggestion.question, suggestion)
        if len(suggestions) == limit:
            break
    return list(suggestions.values())


def _suggestions(documents: Sequence[Sequence[Row[Any]]]) -> Iterator[Suggestion]:
    """Documents with headings have their first turns before those without."""
    headed: list[tuple[Row[Any], Iterator[Question]]] = []
    plain: list[Suggestion] = []
    for rows in documents:
        questions = _questions_of(rows)
        by_heading = questions.about_headings()
        first = next(by_heading, None)
        if first is None:
            plain.append(_suggest(rows[0], questions.about_the_whole()))
        else:
            headed.append((rows[0], by_heading))
            yield _suggest(rows[0], first)
    yield from plain
    for turn in zip_longest(*(by_heading for _, by_heading in headed)):
        for (row, _), question in zip(headed, turn, strict=True):
            if question is not None:
                yield _suggest(row, question)


def _questions_of(rows: Sequence[Row[Any]]) -> DocumentQuestions:
    texts = [
        HeadedText(
            path=row.path,
            chunks=row.chunks,
            tokens=int(row.tokens),
            place=row.ordinal / row.chunk_count,
            excerpt=row.excerpt,
        )
        for row in rows
        if row.chunks
    ]
    return DocumentQuestions(rows[0].filename, rows[0].title, texts)


def _suggest(row: Row[Any], question: Question) -> Suggestion:
    return Suggestion(question.text, row.id, row.filename, question.heading)
