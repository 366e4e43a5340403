"""One page of a PDF, or one picture, as a gray image in a size that text can be recognized at."""

import math
from pathlib import Path

import pypdfium2 as pdfium
from PIL import Image, ImageOps

from app.ingestion.media_types import PDF
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable

_PDF_DPI = 300
_POINTS_PER_INCH = 72
# The height of a letter page at 300 dpi. Smaller pictures are enlarged to it, within reason:
# Tesseract wants capitals of about 30 pixels, and a screenshot has 10.
_LONG_SIDE = 3300
_MAX_ENLARGEMENT = 3.0
_MAX_PIXELS = 25_000_000
_MAX_SIDE = 32_000  # Tesseract refuses 32,768
# An A3 page in color at 600 dpi has 70 million.
_MAX_SOURCE_PIXELS = 100_000_000
# Not all that Pillow knows: some of its formats run other programs.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000")
_WHITE = 255


def render_page(
    path: Path, media_type: str, number: int, *, password: str | None = None
) -> Image.Image:
    """Return page `number` of a PDF, or frame `number` of a picture (1-based), as 8 bit gray.

    Upright as the file says, on white, of at most 25 million pixels. Raises DocumentUnreadable
    (corrupt, too_large).
    """
    try:
        if media_type == PDF:
            return _render_pdf_page(path, number, password)
        return _load_picture(path, number)
    except pdfium.PdfiumError as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error
    except Image.DecompressionBombError as error:
        raise DocumentUnreadable(IngestErrorCode.TOO_LARGE) from error
    # Pillow has no error of its own, and EOFError is a frame that isn't there.
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise DocumentUnreadable(IngestErrorCode.CORRUPT) from error


def _render_pdf_page(path: Path, number: int, password: str | None) -> Image.Image:
    with pdfium.PdfDocument(path, password=password) as pdf:
        page = pdf.get_page(number - 1)
        scale = _PDF_DPI / _POINTS_PER_INCH
        width, height = (max(points, 1.0) * scale for points in page.get_size())
        bitmap = page.render(scale=scale * _fit(width, height), grayscale=True)
        # A copy: the bitmap's memory goes with the document.
        image: Image.Image = bitmap.to_pil().copy()
        return image.convert("L")


def _load_picture(path: Path, number: int) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as picture:
        picture.seek(number - 1)
        if picture.width * picture.height > _MAX_SOURCE_PIXELS:
            raise DocumentUnreadable(IngestErrorCode.TOO_LARGE)
        gray = _to_gray(ImageOps.exif_transpose(picture))
    scale = _fit(gray.width, gray.height)
    size = (max(1, round(gray.width * scale)), max(1, round(gray.height * scale)))
    return gray if size == gray.size else gray.resize(size, Image.Resampling.BICUBIC)


def _to_gray(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # Converted as it is, all but the darkest would be white.
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if not picture.has_transparency_data:
        return picture.convert("L")
    colored = picture.convert("RGBA")
    page = Image.new("L", picture.size, _WHITE)
    page.paste(colored.convert("L"), mask=colored.getchannel("A"))
    return page


def _fit(width: float, height: float) -> float:
    """Return what to multiply both sides with."""
    longest = max(width, height)
    enlargement = max(1.0, min(_LONG_SIDE / longest, _MAX_ENLARGEMENT))
    return min(enlargement, math.sqrt(_MAX_PIXELS / (width * height)), _MAX_SIDE / longest)
