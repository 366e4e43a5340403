"""The rectangles of a quote cover where it was drawn, and images show the page as it is."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from app.ingestion.base import PageImage, Rectangle
from app.ingestion.locating import find_quote
from app.ingestion.media_types import JPEG, PDF, PNG, TIFF
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsers.pdf import open_pdf
from app.ingestion.rendering import draw_page
from tests import pdfs

FONT, SIZE = "Helvetica", 12
SENTENCE = "The harbor counts seven ships."
Box = tuple[float, float, float, float]
CROP: Box = (50, 400, 450, 800)


def draw(path: Path, lines: Sequence[tuple[float, float, str]]) -> Path:
    """A page with texts at places, in points from the bottom left."""
    canvas = Canvas(str(path), pagesize=A4)
    canvas.setFont(FONT, SIZE)
    for x, y, text in lines:
        canvas.drawString(x, y, text)
    canvas.showPage()
    canvas.save()
    return path


def change(path: Path, *, rotation: int = 0, crop: Box | None = None) -> Path:
    writer = PdfWriter(clone_from=PdfReader(path))
    writer.pages[0].rotate(rotation)
    if crop:
        writer.pages[0].cropbox = RectangleObject(crop)
    writer.write(path)
    return path


def stored_text(path: Path) -> str:
    with open_pdf(path) as document:
        (page,) = document.pages()
    return page.text


def locate(path: Path, quote: str, *, nth: int = 0) -> tuple[Rectangle, ...]:
    text, start = stored_text(path), -1
    for _ in range(nth + 1):
        start = text.index(quote, start + 1)
    return find_quote(path, number=1, text=text, start=start, end=start + len(quote)).rectangles


def where_drawn(
    x: float, y: float, text: str, *, rotation: int = 0, crop: Box | None = None
) -> Box:
    """Left, top, right and bottom of the letters of a text, in fractions of the shown page."""
    left, bottom, right, top = crop or (0, 0, *A4)
    width, height = right - left, top - bottom
    x0, x1 = (x - left) / width, (x + stringWidth(text, FONT, SIZE) - left) / width
    # The letters between their base line and the height of an x.
    y0, y1 = 1 - (y + SIZE / 2 - bottom) / height, 1 - (y - bottom) / height
    for _ in range(rotation // 90):
        x0, y0, x1, y1 = 1 - y1, x0, 1 - y0, x1
    return x0, y0, x1, y1


def assert_covers(rectangle: Rectangle, box: Box, *, height_points: float = 842.0) -> None:
    """It covers the box, and nothing but a little around it: less than a line of text."""
    x0, y0, x1, y1 = box
    slack = SIZE / height_points
    assert rectangle.x == pytest.approx(x0, abs=slack)
    assert rectangle.y == pytest.approx(y0, abs=slack)
    assert rectangle.x + rectangle.width == pytest.approx(x1, abs=slack)
    assert rectangle.y + rectangle.height == pytest.approx(y1, abs=slack)
    assert rectangle.x <= x0 + 0.002
    assert rectangle.y <= y0 + 0.002
    assert rectangle.x + rectangle.width >= x1 - 0.002
    assert rectangle.y + rectangle.height >= y1 - 0.002


@pytest.mark.parametrize("crop", [None, CROP])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_sentence_is_where_it_was_drawn(tmp_path: Path, rotation: int, crop: Box | None) -> None:
    path = draw(tmp_path / "a.pdf", [(100, 700, SENTENCE), (100, 600, "Another line.")])
    change(path, rotation=rotation, crop=crop)
    (rectangle,) = locate(path, SENTENCE)
    box = where_drawn(100, 700, SENTENCE, rotation=rotation, crop=crop)
    assert_covers(rectangle, box, height_points=400.0 if crop else 595.0)


@pytest.mark.parametrize("crop", [None, CROP])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_rectangle_holds_the_ink_of_the_image(
    tmp_path: Path, rotation: int, crop: Box | None
) -> None:
    path = change(draw(tmp_path / "a.pdf", [(100, 700, SENTENCE)]), rotation=rotation, crop=crop)
    (rectangle,) = locate(path, SENTENCE)
    image = open_png(draw_page(path, media_type=PDF, number=1, width=1000))
    ink = image.convert("L").point(lambda value: 255 * (value < 128)).getbbox()
    assert ink is not None
    left, top = rectangle.x * image.width, rectangle.y * image.height
    right = left + rectangle.width * image.width
    bottom = top + rectangle.height * image.height
    assert left - 2 <= ink[0] <= ink[2] <= right + 2
    assert top - 2 <= ink[1] <= ink[3] <= bottom + 2


def test_a_part_of_a_line_is_covered_and_the_rest_is_not(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.pdf", [(100, 700, SENTENCE)])
    (rectangle,) = locate(path, "seven")
    before = stringWidth("The harbor counts ", FONT, SIZE)
    assert_covers(rectangle, where_drawn(100 + before, 700, "seven"))


def test_words_that_stand_twice_are_told_apart(tmp_path: Path) -> None:
    lines = [(100.0, y, f"In {year} sales fell.") for y, year in ((700.0, 2022), (650.0, 2023))]
    path = draw(tmp_path / "a.pdf", lines)
    offset = stringWidth("In 2022 ", FONT, SIZE)
    for nth, (x, y, _) in enumerate(lines):
        (rectangle,) = locate(path, "sales fell.", nth=nth)
        assert_covers(rectangle, where_drawn(x + offset, y, "sales fell."))


def test_a_word_broken_by_a_line_end_has_two_rectangles(tmp_path: Path) -> None:
    lines = [(100.0, 700.0, "We measured the perfor-"), (100.0, 686.0, "mance of the crane.")]
    path = draw(tmp_path / "a.pdf", lines)
    assert "performance" in stored_text(path)
    first, second = locate(path, "performance of")
    offset = stringWidth("We measured the ", FONT, SIZE)
    assert_covers(first, where_drawn(100 + offset, 700, "perfor-"))
    assert_covers(second, where_drawn(100, 686, "mance of"))


def test_two_columns_are_not_run_together(tmp_path: Path) -> None:
    left = ["Ships of the left", "column come in", "and unload."]
    right = ["Ships of the right", "column go out", "and return."]
    columns = ((72.0, left), (330.0, right))
    lines = [(x, 700.0 - 14 * n, t) for x, column in columns for n, t in enumerate(column)]
    path = draw(tmp_path / "a.pdf", lines)
    text = stored_text(path)
    start, end = text.index("column go out"), text.index("return.") + len("return.")
    rectangles = find_quote(path, number=1, text=text, start=start, end=end).rectangles
    assert len(rectangles) == 2
    for rectangle, (x, y, drawn) in zip(rectangles, lines[4:], strict=True):
        assert_covers(rectangle, where_drawn(x, y, drawn))


def test_vertical_text_is_one_rectangle_a_line(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    canvas.setFont(FONT, SIZE)
    canvas.rotate(90)
    canvas.drawString(300, -200, SENTENCE)
    canvas.drawString(300, -230, "A second line beside it.")
    canvas.showPage()
    canvas.save()
    (rectangle,) = locate(tmp_path / "a.pdf", SENTENCE)
    long = stringWidth(SENTENCE, FONT, SIZE) / A4[1]
    assert rectangle.height == pytest.approx(long, abs=0.01)
    assert rectangle.width < 2 * SIZE / A4[0]
    assert rectangle.x < 200 / A4[0] < rectangle.x + rectangle.width + 0.005


@pytest.mark.parametrize(
    "code_points",
    [(0x5D0, 0x5D1, 0x5D2), (0xFB01, 0x6E, 0x64), (0x627, 0x644, 0x645), (0x1D465, 0x4E2D)],
    ids=["hebrew", "ligature", "arabic", "mathematical"],
)
def test_other_letters_are_found(tmp_path: Path, code_points: Sequence[int]) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdfs.mapped_pdf(code_points))
    line = stored_text(path).splitlines()[0]
    rectangles = locate(path, line)
    assert rectangles
    for rectangle in rectangles:
        # 24 points high, drawn from 72 points on, 142 points below the top.
        assert rectangle.x >= 71 / 595
        assert rectangle.y < (842 - 700) / 842 < rectangle.y + rectangle.height + 0.001
        assert rectangle.height < 30 / 842


def test_what_is_not_on_the_page_has_no_rectangles(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.pdf", [(100, 700, SENTENCE)])
    assert not find_quote(path, number=1, text="Never drawn", start=0, end=11).rectangles
    change(path, crop=(0, 0, 300, 300))
    assert not find_quote(path, number=1, text=SENTENCE, start=0, end=3).rectangles


# Images


def open_png(drawn: PageImage) -> Image.Image:
    with Image.open(BytesIO(drawn.png), formats=["PNG"]) as image:
        image.load()
    assert image.size == (drawn.width, drawn.height)
    return image


@pytest.mark.parametrize(
    ("rotation", "crop", "size"),
    [(0, None, (600, 849)), (90, None, (600, 425)), (0, CROP, (600, 600))],
)
def test_a_page_is_drawn_as_wide_as_asked_for(
    tmp_path: Path, rotation: int, crop: Box | None, size: tuple[int, int]
) -> None:
    path = change(draw(tmp_path / "a.pdf", [(100, 700, SENTENCE)]), rotation=rotation, crop=crop)
    image = open_png(draw_page(path, media_type=PDF, number=1, width=600))
    assert image.size == pytest.approx(size, abs=1)
    assert image.width == 600
    assert len(image.convert("L").getcolors() or ()) > 10


def test_colors_and_filled_fields_are_shown(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=A4)
    canvas.setFillColorRGB(1, 0, 0)
    canvas.rect(0, 421, 595, 421, stroke=0, fill=1)
    canvas.acroForm.textfield(name="who", value="Ada", x=100, y=100, width=200, height=40)
    canvas.showPage()
    canvas.save()
    image = open_png(draw_page(tmp_path / "a.pdf", media_type=PDF, number=1, width=600))
    assert image.getpixel((300, 100)) == (255, 0, 0)
    inside_field = image.crop((105, 708, 180, 738)).convert("L")
    assert sum(inside_field.histogram()[:100]) > 20  # dark pixels


def test_a_very_long_page_is_drawn_narrower(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(100, 14_000))
    canvas.drawString(10, 7000, "in the middle")
    canvas.showPage()
    canvas.save()
    image = open_png(draw_page(tmp_path / "a.pdf", media_type=PDF, number=1, width=2000))
    assert image.width < 2000
    assert image.width * image.height <= 12_100_000


def _save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def _turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (1200, 600), "blue")
    image.paste("red", (0, 0, 600, 600))
    return _save(path, image, exif=exif, quality=95)


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    path = _turned(tmp_path / "a.jpg")
    image = open_png(draw_page(path, media_type=JPEG, number=1, width=400))
    assert image.size == (400, 800)
    # What was on the left is on top.
    assert image.getpixel((200, 100))[0] > 200  # type: ignore[index]  # three bands
    assert image.getpixel((200, 700))[2] > 200  # type: ignore[index]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("media_type", "suffix"), [(JPEG, "jpg"), (TIFF, "tif"), (PNG, "png")])
def test_pictures_are_turned_as_they_say(
    tmp_path: Path, turn: int, media_type: str, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    marked = Image.new("RGB", (400, 200), "white")
    marked.paste("black", (0, 0, 100, 50))
    path = _save(tmp_path / f"a.{suffix}", marked, exif=exif)
    image = open_png(draw_page(path, media_type=media_type, number=1, width=2000)).convert("L")
    corners = {2: (1, 0), 3: (1, 1), 4: (0, 1), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    x, y = corners.get(turn, (0, 0))
    assert image.size == ((400, 200) if turn < 5 else (200, 400))
    assert image.getpixel((10 + x * (image.width - 20), 10 + y * (image.height - 20))) < 60  # type: ignore[operator]  # one band
    assert image.getpixel((image.width // 2, image.height // 2)) > 200  # type: ignore[operator]


def test_each_page_of_a_tiff_has_its_image(tmp_path: Path) -> None:
    pages = [Image.new("L", (300, 100), gray) for gray in (0, 200)]
    path = _save(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    for number, gray in ((1, 0), (2, 200)):
        image = open_png(draw_page(path, media_type=TIFF, number=number, width=200))
        assert image.getpixel((50, 30)) == (gray, gray, gray)
    with pytest.raises(DocumentUnreadable):
        draw_page(path, media_type=TIFF, number=3, width=200)


def test_transparent_pictures_are_on_white(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGBA", (300, 300), (0, 0, 0, 0)))
    image = open_png(draw_page(path, media_type=PNG, number=1, width=200))
    assert image.getcolors() == [(200 * 200, (255, 255, 255))]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pdfs.garbage_pdf, IngestErrorCode.CORRUPT),
        (pdfs.truncated_pdf, IngestErrorCode.CORRUPT),
        (lambda: pdfs.encrypted_pdf("x", password="p"), IngestErrorCode.ENCRYPTED),
    ],
)
def test_what_cannot_be_opened_says_why(
    tmp_path: Path, data: Callable[[], bytes], code: IngestErrorCode
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(data())
    for ask in (
        lambda: draw_page(path, media_type=PDF, number=1, width=200),
        lambda: find_quote(path, number=1, text="words", start=0, end=5),
    ):
        with pytest.raises(DocumentUnreadable) as caught:
            ask()
        assert caught.value.error_code is code
