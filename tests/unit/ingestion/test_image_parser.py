"""Pictures: pages that have to be recognized, and what is refused before that."""

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from app.ingestion.base import Page, TextSource
from app.ingestion.media_types import BMP, GIF, JPEG, PNG, TIFF, WEBP
from app.ingestion.outcomes import IngestErrorCode
from tests.unit.ingestion.samples import SAMPLES, fail, read, write_image


@pytest.mark.parametrize("media_type", [PNG, JPEG, WEBP, BMP, GIF])
def test_a_picture_is_one_page_to_recognize(tmp_path: Path, media_type: str) -> None:
    (page,) = read(tmp_path, media_type, SAMPLES[media_type][1])
    assert (page.number, page.text, page.needs_ocr, page.source) == (1, "", True, TextSource.NONE)
    assert page.width == pytest.approx(144, abs=0.1)
    assert page.height == pytest.approx(72, abs=0.1)


def test_each_page_of_a_tiff_is_a_page(tmp_path: Path) -> None:
    pages = read(tmp_path, TIFF, write_image("TIFF", frames=3))
    assert len(pages) == 3
    assert all(page.needs_ocr for page in pages)


def test_the_size_of_a_picture_follows_its_resolution_if_that_is_likely(tmp_path: Path) -> None:
    def size(dpi: tuple[float, float]) -> tuple[float | None, float | None]:
        path = tmp_path / "a.png"
        Image.new("L", (600, 300)).save(path, dpi=dpi)
        (page,) = read(tmp_path, PNG, path.read_bytes())
        return page.width, page.height

    assert size((300, 150)) == pytest.approx((144, 144), abs=0.1)
    assert size((1, 1)) == (450.0, 225.0)


def png_of(width: int, height: int) -> bytes:
    """Return the header of a PNG, and no pixels."""

    def block(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", b"") + block(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 20_000, 2**31 - 1])
def test_too_many_pixels_are_refused_without_decoding(tmp_path: Path, side: int) -> None:
    assert fail(tmp_path, PNG, png_of(side, side)) is IngestErrorCode.TOO_LARGE


def test_a_picture_of_the_largest_size_is_not_decoded_either(tmp_path: Path) -> None:
    (page,) = read(tmp_path, PNG, png_of(10_000, 10_000))
    assert isinstance(page, Page)


def test_what_only_begins_like_a_picture_is_corrupt(tmp_path: Path) -> None:
    for media_type, (_, data) in SAMPLES.items():
        if media_type.startswith("image/"):
            assert fail(tmp_path, media_type, data[:12]) is IngestErrorCode.CORRUPT


def test_formats_that_would_run_other_programs_are_refused(tmp_path: Path) -> None:
    assert fail(tmp_path, PNG, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") is (
        IngestErrorCode.CORRUPT
    )
