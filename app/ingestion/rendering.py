"""One page of a PDF, or one picture, as an image: gray and large for text recognition, or a PNG.

Runs in the child processes that `app.ingestion.sandbox` starts.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pypdfium2 as pdfium
from PIL import Image, ImageOps
from pypdfium2 import raw as pdfium_c

from app.ingestion.base import PageImage
from app.ingestion.media_types import PDF
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsers.pdf_forms import enable_forms

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
# Of the images that readers see: 2,000 pixels wide, three times as high. A PNG of noise then still
# fits into one message.
_MAX_SHOWN_PIXELS = 12_000_000
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_SIDE = frozenset(turn for tag, turn in _TURNS.items() if tag >= 5)


def render_page(
    path: Path, media_type: str, number: int, *, password: str | None = None
) -> Image.Image:
    """Return page `number` of a PDF, or frame `number` of a picture (1-based), as 8 bit gray.

    Upright as the file says, on white, of at most 25 million pixels. Raises DocumentUnreadable
    (corrupt, encrypted, too_large).
    """
    with _damage_means_unreadable():
        if media_type == PDF:
            return _render_pdf_page(path, number, password)
        return _load_picture(path, number)


def draw_page(path: Path, *, media_type: str, number: int, width: int) -> PageImage:
    """Return page `number` of a PDF, or frame `number` of a picture, as a PNG in color.

    `width` pixels wide, upright, on white. Narrower where it would have more than 12 million
    pixels, and a picture is not enlarged. Raises DocumentUnreadable (corrupt, encrypted,
    too_large).
    """
    with _damage_means_unreadable():
        if media_type == PDF:
            image = _draw_pdf_page(path, number, width)
        else:
            image = _draw_picture(path, number, width)
        file = BytesIO()
        image.save(file, "PNG")
    return PageImage(image.width, image.height, file.getvalue())


@contextmanager
def _damage_means_unreadable() -> Iterator[None]:
    try:
        yield
    except pdfium.PdfiumError as error:
        is_locked = error.err_code == pdfium_c.FPDF_ERR_PASSWORD
        code = IngestErrorCode.ENCRYPTED if is_locked else IngestErrorCode.CORRUPT
        raise DocumentUnreadable(code) from error
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


def _draw_pdf_page(path: Path, number: int, width: int) -> Image.Image:
    with pdfium.PdfDocument(path) as pdf:
        enable_forms(pdf)
        page = pdf.get_page(number - 1)
        points_wide, points_high = (max(points, 1.0) for points in page.get_size())
        width, _ = _shrink(width, width * points_high / points_wide)
        # Half a pixel less, because the sides are rounded up.
        bitmap = page.render(scale=(width - 0.5) / points_wide, rev_byteorder=True)
        image: Image.Image = bitmap.to_pil().convert("RGB").copy()
        return image


def _load_picture(path: Path, number: int) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as picture:
        picture.seek(number - 1)
        if picture.width * picture.height > _MAX_SOURCE_PIXELS:
            raise DocumentUnreadable(IngestErrorCode.TOO_LARGE)
        gray = _to_gray(ImageOps.exif_transpose(picture))
    scale = _fit(gray.width, gray.height)
    size = (max(1, round(gray.width * scale)), max(1, round(gray.height * scale)))
    return gray if size == gray.size else gray.resize(size, Image.Resampling.BICUBIC)


def _draw_picture(path: Path, number: int, width: int) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as picture:
        picture.seek(number - 1)
        if picture.width * picture.height > _MAX_SOURCE_PIXELS:
            raise DocumentUnreadable(IngestErrorCode.TOO_LARGE)
        # Some formats are turned by loading them, and say so afterwards.
        picture.load()
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION_TAG, 1))
        is_on_side = turn in _ON_SIDE
        wide, high = picture.size[::-1] if is_on_side else picture.size
        scale = min(1.0, width / wide)
        shown = _shrink(wide * scale, high * scale)
        # Turned when it is small: a copy of the largest would not fit into the memory.
        small = _to_color(picture).resize(
            shown[::-1] if is_on_side else shown, Image.Resampling.BICUBIC, reducing_gap=3.0
        )
    return small.transpose(turn) if turn is not None else small


def _to_color(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        gray = picture.mode.startswith("I;16")
        return _to_gray(picture).convert("RGB") if gray else picture.convert("RGB")
    colored = picture.convert("RGBA")
    page = Image.new("RGB", picture.size, "white")
    page.paste(colored, mask=colored.getchannel("A"))
    return page


def _shrink(width: float, height: float) -> tuple[int, int]:
    """Return whole sides of at least a pixel and of at most 12 million pixels together."""
    scale = min(1.0, math.sqrt(_MAX_SHOWN_PIXELS / (width * height)), _MAX_SIDE / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


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
