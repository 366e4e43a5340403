"""What became of a document: the report on its pages, one page's text and image, the chunks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.accounts.principal import Principal
from app.core.errors import UnprocessableRequest
from app.core.static_files import names_etag
from app.dependencies import Reader, ResourcesDep
from app.documents import inspection
from app.documents.inspection import PageFile
from app.documents.page_images import (
    MAX_WIDTH_PX,
    MIN_WIDTH_PX,
    FileMissing,
    check_drawable,
    round_width,
)
from app.ingestion.base import TextSource
from app.ingestion.outcomes import OUTCOMES, IngestErrorCode
from app.models.documents import DocumentStatus
from app.resources import Resources

router = APIRouter(prefix="/api/v1/documents/{document_id}", tags=["documents"])

# Page numbers and ordinals are 32-bit integers in the database.
_MAX_INT = 2**31 - 1
_LABEL = "The page's printed name, like `iv`; null where that is its number."
# Not longer: who may no longer see a document must not go on seeing it. An unchanged image costs
# one look at the database and no bytes.
_MAX_AGE_S = 5


class PageReportOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    number: int
    label: str | None = Field(description=_LABEL)
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
    label: str | None = Field(description=_LABEL)
    text: str
    width: float | None = Field(description="In PDF points, where the format has sizes.")
    height: float | None
    source: TextSource
    warnings: list[str]


class RectangleOut(BaseModel):
    """A part of the page's image, in fractions of its width and height, from the top left."""

    model_config = ConfigDict(from_attributes=True)

    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)


class RectanglesOut(BaseModel):
    """Where a part of a page's text stands on its image."""

    page: int
    width: float | None = Field(description="Of the page as it is shown, in PDF points.")
    height: float | None
    rectangles: list[RectangleOut] = Field(description="One or more for each line.")
    exact: bool = Field(
        description="Whether the words were found on the page. Not in text that was recognized in "
        "a picture, nor in other formats than PDF: there are no rectangles then."
    )


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
    caller: Reader,
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
    caller: Reader,
    resources: ResourcesDep,
) -> PageTextOut:
    """The text of one page, of the version that the report is on."""
    async with resources.db.reading(caller) as driver:
        page = await inspection.get_page(driver, caller.org_id, document_id, number=number)
    return PageTextOut.model_validate(page)


@router.get(
    "/pages/{number}/image",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, 304: {"description": "As before."}},
)
async def get_page_image(
    document_id: UUID,
    number: Annotated[int, Path(ge=1, le=_MAX_INT)],
    caller: Reader,
    resources: ResourcesDep,
    width: Annotated[
        int,
        Query(ge=MIN_WIDTH_PX, le=MAX_WIDTH_PX, description="In pixels; up to 200 more come."),
    ] = 1000,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A page of a PDF or a picture as a PNG, of the version that the report is on.

    404 `no_page_image` for other formats; 409 `encrypted` where the file needs a password, which is
    not kept; 422 `page_not_drawable` for a damaged page; 503 `busy` when many are being drawn.
    """
    drawn_px = round_width(width)
    # The file of a version goes when the next one gets ready: then there is that one.
    for is_last in (False, True):
        page = await _find_page(resources, caller, document_id, number)
        check_drawable(page)
        etag = f'W/"{page.version}-{number}-{drawn_px}"'
        headers = {"ETag": etag, "Cache-Control": f"private, max-age={_MAX_AGE_S}"}
        if names_etag(if_none_match, etag):
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
        try:
            png = await resources.page_images.get_image(page, width=drawn_px)
            break
        except FileMissing:
            if is_last:
                raise
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return Response(png, media_type="image/png", headers=headers)


@router.get("/pages/{number}/rectangles")
async def get_rectangles(
    document_id: UUID,
    number: Annotated[int, Path(ge=1, le=_MAX_INT)],
    caller: Reader,
    resources: ResourcesDep,
    start: Annotated[int, Query(ge=0, le=_MAX_INT, description="In code points.")],
    end: Annotated[int, Query(ge=1, le=_MAX_INT, description="Exclusive.")],
) -> RectanglesOut:
    """Where a part of a page's text, such as a quote, stands on the page's image."""
    for is_last in (False, True):
        page = await _find_page(resources, caller, document_id, number)
        _check_range(page, start, end)
        try:
            place = await resources.page_images.find_rectangles(page, start=start, end=end)
            break
        except FileMissing:
            if is_last:
                raise
    return RectanglesOut(
        page=number,
        width=page.width,
        height=page.height,
        rectangles=[RectangleOut.model_validate(rectangle) for rectangle in place.rectangles],
        exact=bool(place.rectangles),
    )


@router.get("/chunks")
async def list_chunks(
    document_id: UUID,
    caller: Reader,
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


async def _find_page(
    resources: Resources, caller: Principal, document_id: UUID, number: int
) -> PageFile:
    async with resources.db.reading(caller) as driver:
        return await inspection.get_page_file(driver, caller.org_id, document_id, number=number)


def _check_range(page: PageFile, start: int, end: int) -> None:
    """Raise UnprocessableRequest for what is no part of the page's text."""
    if not start < end <= len(page.text):
        raise UnprocessableRequest(
            f"The page has {len(page.text)} characters: `start` is below `end`, and `end` is not "
            "above that.",
            code="invalid_range",
            param="end",
        )
