"""Pictures: pages without text, which has to be recognized. Only their headers are read here."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from app.ingestion.base import Page, TextSource
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import (
    MAX_PAGES,
    DocumentUnreadable,
    ParsedDocument,
    check_page_count,
)
from app.ingestion.parsers.damage import damage_means_corrupt

# Not all that Pillow knows: some of its formats run other programs.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
# The frames of other formats are those of a film.
_PAGED_FORMATS = ("TIFF",)
# An A3 page in color at 600 dpi has 70 million.
_MAX_PIXELS = 100_000_000
_POINTS_PER_INCH = 72
_SCREEN_DPI = 96.0
_LEAST_DPI, _MOST_DPI = 30, 5000


@contextmanager
def open_image(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    """Open a picture, or a TIFF with a picture on each page. Sizes are as its resolution says."""
    with damage_means_corrupt():
        pages = _read_frames(path)
    check_page_count(len(pages))
    yield ParsedDocument(title=None, page_count=len(pages), pages=lambda: iter(pages))


def _read_frames(path: Path) -> list[Page]:
    """Return a page for each frame, one more than the limit at most.

    Raises what Pillow raises on damage, and DocumentUnreadable (too_large).
    """
    with warnings.catch_warnings():
        # About sizes, which are checked here, and about odd metadata.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return list(_iter_frames(image))
        except Image.DecompressionBombError as error:
            raise _too_many_pixels() from error


def _iter_frames(image: Image.Image) -> Iterator[Page]:
    for number in range(1, MAX_PAGES + 2):
        yield _describe(image, number)
        if image.format not in _PAGED_FORMATS:
            return
        try:
            image.seek(number)
        except EOFError:
            return


def _describe(image: Image.Image, number: int) -> Page:
    if image.width * image.height > _MAX_PIXELS:
        raise _too_many_pixels()
    horizontal, vertical = _read_dpi(image)
    return Page(
        number=number,
        text="",
        width=image.width * _POINTS_PER_INCH / horizontal,
        height=image.height * _POINTS_PER_INCH / vertical,
        source=TextSource.NONE,
        needs_ocr=True,
    )


def _read_dpi(image: Image.Image) -> tuple[float, float]:
    """Return the resolution of a picture, and that of a screen where it says nothing likely."""
    match image.info.get("dpi"):
        case (int() | float() as horizontal, int() | float() as vertical):
            if all(_LEAST_DPI <= dpi <= _MOST_DPI for dpi in (horizontal, vertical)):
                return float(horizontal), float(vertical)
    return _SCREEN_DPI, _SCREEN_DPI


def _too_many_pixels() -> DocumentUnreadable:
    detail = f"The picture has more than {_MAX_PIXELS // 1_000_000} million pixels."
    return DocumentUnreadable(IngestErrorCode.TOO_LARGE, detail=detail)
