"""Text recognition with the Tesseract of this machine, on scans that the tests draw."""

import logging
from io import BytesIO
from pathlib import Path

import pytest
import reportlab
from PIL import Image, ImageDraw, ImageFont
from pypdf import PdfReader, PdfWriter
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from app.core.logging import configure_logging
from app.ingestion.media_types import PDF
from app.ingestion.ocr import OcrEngine, OcrPage, find_ocr_engine

_PNG, _TIFF, _JPEG = "image/png", "image/tiff", "image/jpeg"
_FONT = Path(reportlab.__file__).parent / "fonts" / "Vera.ttf"
_LINES = (
    "The harbor master counted every ship.",
    "Seventeen vessels left before sunrise",
    "and four came back in the evening.",
)
_SENTENCE = " ".join(_LINES)


def draw(
    *lines: str, size: tuple[int, int] = (1654, 2339), letter_px: int = 32, mode: str = "L"
) -> Image.Image:
    """A page as a scanner at 200 dpi sees it."""
    image = Image.new(mode, size, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, letter_px)
    for number, line in enumerate(lines or _LINES):
        pen.text((3 * letter_px, (3 + 2 * number) * letter_px), line, font=font, fill="black")
    return image


def _pdf_of(*images: Image.Image) -> bytes:
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=A4)
    for image in images:
        canvas.drawImage(ImageReader(image), 0, 0, *A4)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def _words(page: OcrPage) -> str:
    assert page.warning is None
    return " ".join(page.text.split())


def test_a_scanned_page_of_a_pdf_is_read(engine: OcrEngine, tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(_pdf_of(draw("Another page.", letter_px=60), draw()))
    assert _words(engine.read_page(path, PDF, 2)) == _SENTENCE


def test_lines_stay_lines(engine: OcrEngine, tmp_path: Path) -> None:
    draw().save(tmp_path / "scan.png")
    text = engine.read_page(tmp_path / "scan.png", _PNG, 1).text
    assert [line for line in text.split("\n") if line] == list(_LINES)


def test_headings_are_found(engine: OcrEngine, tmp_path: Path) -> None:
    draw("Chapter 3 Harbor Dues", *_LINES).save(tmp_path / "scan.png")
    page = engine.read_page(tmp_path / "scan.png", _PNG, 1)
    assert [heading.title for heading in page.headings] == ["Chapter 3 Harbor Dues"]


def test_an_encrypted_pdf_is_read_with_its_password(engine: OcrEngine, tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(_pdf_of(draw()))))
    writer.encrypt("open sesame", algorithm="AES-128")
    writer.write(tmp_path / "locked.pdf")
    page = engine.read_page(tmp_path / "locked.pdf", PDF, 1, password="open sesame")
    assert _words(page) == _SENTENCE
    page = engine.read_page(tmp_path / "locked.pdf", PDF, 1)
    assert page == OcrPage("", warning="The page could not be rendered.")


def test_each_frame_of_a_tiff_is_a_page(engine: OcrEngine, tmp_path: Path) -> None:
    frames = [draw("First of all.", letter_px=60), draw("Second to none.", letter_px=60)]
    path = tmp_path / "fax.tiff"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert _words(engine.read_page(path, _TIFF, 1)) == "First of all."
    assert _words(engine.read_page(path, _TIFF, 2)) == "Second to none."
    assert engine.read_page(path, _TIFF, 3).warning == "The page could not be rendered."


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_pictures_of_any_color_mode_are_read(mode: str, engine: OcrEngine, tmp_path: Path) -> None:
    path = tmp_path / "scan.tiff"
    draw(mode="RGB").convert(mode).save(path)
    assert _words(engine.read_page(path, _TIFF, 1)) == _SENTENCE


def test_a_transparent_picture_is_read_on_white(engine: OcrEngine, tmp_path: Path) -> None:
    letters = draw().point(lambda value: 255 - value)
    picture = Image.new("RGBA", letters.size, (0, 0, 0, 0))
    picture.putalpha(letters)
    picture.save(tmp_path / "logo.png")
    assert _words(engine.read_page(tmp_path / "logo.png", _PNG, 1)) == _SENTENCE


def test_a_picture_of_16_bits_is_read(engine: OcrEngine, tmp_path: Path) -> None:
    # Black on a gray that is white if the upper half of its bits is cut off.
    gray = draw().convert("I").point(lambda value: value * 128 + 2000)
    gray.convert("I;16").save(tmp_path / "deep.png")
    assert _words(engine.read_page(tmp_path / "deep.png", _PNG, 1)) == _SENTENCE


def test_a_photo_is_turned_as_the_camera_says(engine: OcrEngine, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    draw().rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif)
    assert _words(engine.read_page(tmp_path / "photo.jpg", _JPEG, 1)) == _SENTENCE


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_on_its_side_or_head_is_read(
    degrees: int, engine: OcrEngine, tmp_path: Path
) -> None:
    if not engine.is_turnable:
        pytest.skip("the pack osd of Tesseract is not installed")
    # Which way up shows only on more than a few words.
    draw(*_LINES * 5).rotate(degrees, expand=True).save(tmp_path / "scan.png")
    assert _words(engine.read_page(tmp_path / "scan.png", _PNG, 1)) == " ".join(_LINES * 5)


def test_the_row_of_a_table_is_one_line(engine: OcrEngine, tmp_path: Path) -> None:
    rows = [
        ("Net sales", "32,765", "31,657"),
        ("Cost of sales", "16,682", "16,055"),
        ("Operating income", "7,207", "7,692"),
        ("Interest expense", "(350)", "(322)"),
        ("Net income", "5,349", "4,858"),
    ] * 3
    image = Image.new("L", (2480, 3508), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.truetype(_FONT, 36)
    for number, row in enumerate(rows):
        for left, cell in zip((240, 1600, 2100), row, strict=True):
            pen.text((left, 300 + 60 * number), cell, font=font, fill="black")
    image.rotate(0.3, fillcolor="white").save(tmp_path / "table.png")
    text = engine.read_page(tmp_path / "table.png", _PNG, 1).text
    assert [line for line in text.split("\n") if line] == [" ".join(row) for row in rows]


def test_a_small_screenshot_is_enlarged(engine: OcrEngine, tmp_path: Path) -> None:
    draw(size=(280, 112), letter_px=8).save(tmp_path / "screenshot.png")
    assert _words(engine.read_page(tmp_path / "screenshot.png", _PNG, 1)) == _SENTENCE


def test_a_page_the_size_of_a_wall_is_scaled_down(engine: OcrEngine, tmp_path: Path) -> None:
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=(14_000, 14_000))
    canvas.drawImage(ImageReader(draw(size=(1600, 1600))), 0, 0, 14_000, 14_000)
    canvas.save()
    (tmp_path / "wall.pdf").write_bytes(buffer.getvalue())
    assert _words(engine.read_page(tmp_path / "wall.pdf", PDF, 1)) == _SENTENCE


@pytest.mark.parametrize("gray", [0, 128, 255])
def test_a_page_without_a_letter_has_no_text(gray: int, engine: OcrEngine, tmp_path: Path) -> None:
    Image.new("L", (800, 1000), gray).save(tmp_path / "blank.png")
    assert engine.read_page(tmp_path / "blank.png", _PNG, 1) == OcrPage("")


def test_stains_are_not_taken_for_words(engine: OcrEngine, tmp_path: Path) -> None:
    Image.effect_noise((1200, 1600), 90).save(tmp_path / "noise.png")
    assert len(engine.read_page(tmp_path / "noise.png", _PNG, 1).text) < 20


def test_a_page_that_takes_too_long_is_given_up(engine: OcrEngine, tmp_path: Path) -> None:
    draw(*_LINES * 6, letter_px=24).save(tmp_path / "scan.png")
    hasty = OcrEngine(engine.languages, page_timeout_s=0.1, program=engine.program)
    page = hasty.read_page(tmp_path / "scan.png", _PNG, 1)
    assert page == OcrPage("", warning="Text recognition took longer than 0.1 s.")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_what_is_no_picture_cannot_be_rendered(
    data: bytes, engine: OcrEngine, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    page = engine.read_page(tmp_path / "a.png", _PNG, 1)
    assert page == OcrPage("", warning="The page could not be rendered.")


def test_a_picture_that_unpacks_to_gigabytes_is_refused(engine: OcrEngine, tmp_path: Path) -> None:
    # 400 million pixels in some kilobytes.
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png", optimize=False)
    page = engine.read_page(tmp_path / "bomb.png", _PNG, 1)
    assert page == OcrPage("", warning="The page could not be rendered.")


def test_a_tesseract_that_fails_leaves_a_warning(tmp_path: Path) -> None:
    draw().save(tmp_path / "scan.png")
    page = OcrEngine("eng", program="/bin/false").read_page(tmp_path / "scan.png", _PNG, 1)
    assert page == OcrPage("", warning="Text recognition failed on this page.")


def test_there_is_no_engine_without_tesseract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ocr_engine("eng") is None


def test_there_is_no_engine_where_it_is_switched_off() -> None:
    assert find_ocr_engine("none") is None


def test_missing_languages_are_named_and_left_out(
    engine: OcrEngine, caplog: pytest.LogCaptureFixture
) -> None:
    configure_logging("INFO")
    logging.getLogger().addHandler(caplog.handler)
    found = find_ocr_engine("xyz+eng")
    assert found is not None
    assert found.languages == "eng"
    assert "xyz" in caplog.text
    assert find_ocr_engine("xyz") is None
