"""What ingestion made of a document: the report, the text of a page, the chunks.

Each function runs in one snapshot (`Database.reading`), so that a version that gets ready meanwhile
doesn't mix into another. Where no version is ready yet, report and pages show what was read so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from app.core.errors import NotFound
from app.ingestion.base import TextSource
from app.ingestion.outcomes import IngestErrorCode
from app.models.documents import DocumentStatus
from app.models.spans import Span, unflatten_spans

# `shown` is the generation that readers see or, where there is none, the one in the making.
_DOCUMENT = """
    SELECT id, coalesce(ready_filename, filename) AS filename, status, error_code, error_message,
        coalesce(nullif(ready_version, 0), version) AS version,
        coalesce(ready_media_type, media_type) AS media_type,
        coalesce(nullif(generation, 0), 1) AS shown, generation
    FROM documents
    WHERE org_id = $1 AND id = $2 AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
"""
_TOTALS = """
    SELECT source, count(*) AS pages, coalesce(sum(char_length(text)), 0) AS characters,
        count(*) FILTER (WHERE warnings <> '{}') AS warned
    FROM pages WHERE org_id = $1 AND document_id = $2 AND generation = $3
    GROUP BY source
"""
_CHUNK_COUNT = """
    SELECT count(*) FROM chunks WHERE org_id = $1 AND document_id = $2 AND generation = $3
"""
# Every third number of `spans` is a page's. A chunk may leave out a page between two others.
_PAGES = """
    WITH shown AS (
        SELECT number, label, char_length(text) AS characters, source, warnings
        FROM pages
        WHERE org_id = $1 AND document_id = $2 AND generation = $3 AND number > $4
        ORDER BY number LIMIT $5),
    touched AS (
        SELECT c.spans[i] AS number, count(DISTINCT c.id) AS chunks
        FROM chunks c, generate_series(1, cardinality(c.spans), 3) AS i
        WHERE c.org_id = $1 AND c.document_id = $2 AND c.generation = $3
          AND c.page_end > $4 AND c.page_start <= (SELECT max(number) FROM shown)
        GROUP BY c.spans[i])
    SELECT number, label, characters, source, coalesce(chunks, 0) AS chunks, warnings
    FROM shown LEFT JOIN touched USING (number) ORDER BY number
"""
_PAGE = """
    SELECT number, label, text, width, height, source, warnings
    FROM pages WHERE org_id = $1 AND document_id = $2 AND generation = $3 AND number = $4
"""
_CHUNKS = """
    SELECT ordinal, id, text, heading, token_count, page_start, page_end, spans
    FROM chunks
    WHERE org_id = $1 AND document_id = $2 AND generation = $3 AND ordinal > $4
    ORDER BY ordinal LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class PageReport:
    """How the reading of one page went. `chunks` is how many touch it.

    `label` is the page's printed name, None where that is its number.
    """

    number: int
    label: str | None
    characters: int
    source: TextSource
    chunks: int
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Report:
    """How the reading of a document went, with some of its pages, in order.

    The totals are of all pages; `sources` counts pages, `warning_count` those with a warning.
    `next_after` is the number behind which the next pages begin, None at the end.
    """

    document_id: UUID
    filename: str
    status: DocumentStatus
    version: int
    error_code: IngestErrorCode | None
    error_message: str | None
    page_count: int
    chunk_count: int
    characters: int
    sources: dict[TextSource, int]
    warning_count: int
    pages: Sequence[PageReport]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class PageText:
    """The stored text of a page: what spans and quotes count in. Sizes are in PDF points.

    `label` is the page's printed name, None where that is its number.
    """

    number: int
    label: str | None
    text: str
    width: float | None
    height: float | None
    source: TextSource
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True)
class PageFile:
    """A page of a version and the file that it is in, for those who look at the page itself."""

    org_id: UUID
    document_id: UUID
    version: int
    media_type: str
    number: int
    text: str
    width: float | None
    height: float | None
    source: TextSource


@dataclass(frozen=True, slots=True)
class ChunkDetail:
    """A stored chunk. `text` is what `spans` cut out of the pages, joined by SPAN_SEPARATOR."""

    ordinal: int
    chunk_id: UUID
    text: str
    heading: str | None
    token_count: int
    page_start: int
    page_end: int
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class ChunkPage:
    """Some chunks of a version, in order. `next_after` is None at the end."""

    version: int
    items: Sequence[ChunkDetail]
    next_after: int | None


async def report(
    driver: asyncpg.Connection, org_id: UUID, document_id: UUID, *, after: int, limit: int
) -> Report:
    """Return the report with at most `limit` pages behind page `after`. Raises NotFound."""
    document = await _find_document(driver, org_id, document_id)
    key = (org_id, document_id, document["shown"])
    totals = await driver.fetch(_TOTALS, *key)
    pages = await driver.fetch(_PAGES, *key, after, limit + 1)
    return Report(
        document_id=document_id,
        filename=document["filename"],
        status=document["status"],
        version=document["version"],
        error_code=document["error_code"],
        error_message=document["error_message"],
        page_count=sum(row["pages"] for row in totals),
        chunk_count=await driver.fetchval(_CHUNK_COUNT, *key),
        characters=sum(row["characters"] for row in totals),
        sources=dict.fromkeys(TextSource, 0) | {row["source"]: row["pages"] for row in totals},
        warning_count=sum(row["warned"] for row in totals),
        pages=[PageReport(**page) for page in pages[:limit]],
        next_after=pages[limit - 1]["number"] if len(pages) > limit else None,
    )


async def get_page(
    driver: asyncpg.Connection, org_id: UUID, document_id: UUID, *, number: int
) -> PageText:
    """Raises NotFound for a document or a page that is not there."""
    document = await _find_document(driver, org_id, document_id)
    row = await driver.fetchrow(_PAGE, org_id, document_id, document["shown"], number)
    if row is None:
        raise NotFound("The document has no such page.")
    return PageText(**row)


async def get_page_file(
    driver: asyncpg.Connection, org_id: UUID, document_id: UUID, *, number: int
) -> PageFile:
    """Raises NotFound for a document or a page that is not there."""
    document = await _find_document(driver, org_id, document_id)
    row = await driver.fetchrow(_PAGE, org_id, document_id, document["shown"], number)
    if row is None:
        raise NotFound("The document has no such page.")
    return PageFile(
        org_id=org_id,
        document_id=document_id,
        version=document["version"],
        media_type=document["media_type"],
        number=number,
        text=row["text"],
        width=row["width"],
        height=row["height"],
        source=TextSource(row["source"]),
    )


async def list_chunks(
    driver: asyncpg.Connection, org_id: UUID, document_id: UUID, *, after: int, limit: int
) -> ChunkPage:
    """Return at most `limit` chunks that readers see, behind ordinal `after`. Raises NotFound."""
    document = await _find_document(driver, org_id, document_id)
    rows = await driver.fetch(
        _CHUNKS, org_id, document_id, document["generation"], after, limit + 1
    )
    items = [
        ChunkDetail(
            ordinal=row["ordinal"],
            chunk_id=row["id"],
            text=row["text"],
            heading=row["heading"],
            token_count=row["token_count"],
            page_start=row["page_start"],
            page_end=row["page_end"],
            spans=unflatten_spans(row["spans"]),
        )
        for row in rows[:limit]
    ]
    next_after = items[-1].ordinal if len(rows) > limit else None
    return ChunkPage(document["version"], items, next_after)


async def _find_document(
    driver: asyncpg.Connection, org_id: UUID, document_id: UUID
) -> asyncpg.Record:
    document = await driver.fetchrow(_DOCUMENT, org_id, document_id)
    if document is None:
        raise NotFound("There is no such document.")
    return document
