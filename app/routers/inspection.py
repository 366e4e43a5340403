"""What became of a document's text: the report on its pages, one page's text, the chunks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.dependencies import Caller, ResourcesDep
from app.documents import inspection
from app.ingestion.base import TextSource
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.models.documents import DocumentStatus

router = APIRouter(prefix="/api/v1/documents/{document_id}", tags=["documents"])

# Page numbers and ordinals are 32-bit integers in the database.
_MAX_INT = 2**31 - 1


class PageReportOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    number: int
    characters: int
    source: TextSource
    chunks: int = Field(description="How many chunks touch the page.")
    warnings: list[str]


class ReportOut(BaseModel):
    """How a document was read. The totals are of all pages, `pages` is a part of them."""

    model_config = ConfigDict(from_attributes=True)

    document_id: UUID
    filename: str
    status: DocumentStatus
    version: int = Field(description="Which the pages are of: the ready one, or the only one.")
    error_code: IngestErrorCode | None
    error_message: str | None
    page_count: int
    chunk_count: int
    characters: int
    sources: dict[TextSource, int] = Field(description="Pages by where their text came from.")
    warning_count: int = Field(description="Pages with a warning.")
    pages: list[PageReportOut]
    next_after: int | None = Field(description="The next `after`; null at the end.")

    @computed_field(description="Whether the same file can get ready when it is tried again.")
    def retryable(self) -> bool | None:
        return OUTCOMES[self.error_code].is_retryable if self.error_code else None


class PageTextOut(BaseModel):
    """The text of a page: what the offsets of spans and quotes count in, in code points."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    text: str
    width: float | None = Field(description="In PDF points, where the format has sizes.")
    height: float | None
    source: TextSource
    warnings: list[str]


class SpanOut(BaseModel):
    """A stretch of one page's text, in code points; `end` is exclusive."""

    model_config = ConfigDict(from_attributes=True)

    page: int
    start: int
    end: int


class ChunkOut(BaseModel):
    """A passage as it is searched: what the spans cut out, joined by line feeds."""

    model_config = ConfigDict(from_attributes=True)

    ordinal: int
    chunk_id: UUID
    text: str
    heading: str | None
    token_count: int
    page_start: int
    page_end: int
    spans: list[SpanOut]


class ChunkPageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    version: int
    items: list[ChunkOut]
    next_after: int | None = Field(description="The next `after`; null at the end.")


@router.get("/report")
async def get_report(
    document_id: UUID,
    caller: Caller,
    resources: ResourcesDep,
    after: Annotated[int, Query(ge=0, le=_MAX_INT)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> ReportOut:
    """How the document was read, page by page behind page `after`.

    Of the version that readers see; where none is ready yet, of what has been read so far.
    """
    async with resources.db.reading(caller) as driver:
        report = await inspection.report(
            driver, caller.org_id, document_id, after=after, limit=limit
        )
    return ReportOut.model_validate(report)


@router.get("/pages/{number}")
async def get_page(
    document_id: UUID,
    number: Annotated[int, Path(ge=1, le=_MAX_INT)],
    caller: Caller,
    resources: ResourcesDep,
) -> PageTextOut:
    """The text of one page, of the version that the report is on."""
    async with resources.db.reading(caller) as driver:
        page = await inspection.get_page(driver, caller.org_id, document_id, number=number)
    return PageTextOut.model_validate(page)


@router.get("/chunks")
async def list_chunks(
    document_id: UUID,
    caller: Caller,
    resources: ResourcesDep,
    after: Annotated[int, Query(ge=-1, le=_MAX_INT)] = -1,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ChunkPageOut:
    """The chunks that search sees, in order, behind the ordinal `after`."""
    async with resources.db.reading(caller) as driver:
        chunks = await inspection.list_chunks(
            driver, caller.org_id, document_id, after=after, limit=limit
        )
    return ChunkPageOut.model_validate(chunks)
