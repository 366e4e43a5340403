"""A small real file of each format, written by the libraries that programs write them with."""

import io
import zipfile
from collections.abc import Callable
from datetime import datetime, time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import pptx
import xlsxwriter
from PIL import Image
from pptx.util import Inches

from app.ingestion.base import Page
from app.ingestion.media_types import (
    BMP,
    CSV,
    DOCX,
    EMAIL,
    EPUB,
    GIF,
    HTML,
    JPEG,
    JSON,
    JSON_LINES,
    MARKDOWN,
    PLAIN_TEXT,
    PNG,
    PPTX,
    TIFF,
    TSV,
    WEBP,
    XLSX,
)
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from app.ingestion.parsing import open_document

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf"/></rootfiles></container>'
)
OPF = (
    '<package xmlns="http://www.idpf.org/2007/opf"><metadata'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Moby Dick</dc:title></metadata>'
    '<manifest><item id="two" href="text/ch%202.xhtml"/><item id="one" href="text/ch1.xhtml"/>'
    '</manifest><spine><itemref idref="one"/><itemref idref="two"/></spine></package>'
)
CHAPTER = (
    '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>'
    '<a id="start"/><h1>{title}</h1><p>{text}</p></body></html>'
)


def write_docx() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Annual report"
    document.add_heading("Annual report 2024", level=0)
    document.add_heading("Results", level=1)
    document.add_paragraph("Sales grew.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Number")
    document.add_heading("By region", level=2)
    table = document.add_table(rows=3, cols=3)
    for row, texts in enumerate(
        [("Region", "2023", "2024"), ("North", "1", "2"), ("South", "3", "")]
    ):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    return _saved(document.save)


def write_pptx() -> bytes:
    deck = pptx.Presentation()
    deck.core_properties.title = "Pitch"
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Our market"
    slide.placeholders[1].text = "It is large\nIt grows"
    slide.notes_slide.notes_text_frame.text = "Smile here."
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    box = slide.shapes.add_textbox(Inches(1), Inches(5), Inches(2), Inches(1))
    box.text_frame.text = "Below the table"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for row, texts in enumerate([("Year", "Users"), ("2024", "1,000")]):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    return _saved(deck.save)


def write_xlsx() -> bytes:
    def fill(file: io.BytesIO) -> None:
        with xlsxwriter.Workbook(file) as book:
            days = book.add_format({"num_format": "yyyy-mm-dd"})
            sheet = book.add_worksheet("Orders")
            sheet.write_row(0, 0, ["All orders"])
            sheet.write_row(2, 0, ["Item", "Count", "Price", "Sent", "On", "At"])
            sheet.write_row(3, 0, ["Nut\nand bolt", 12, 0.1 + 0.2, True])
            sheet.write_datetime(3, 4, datetime(2024, 1, 2), days)
            sheet.write_datetime(3, 5, time(9, 30), book.add_format({"num_format": "hh:mm"}))
            sheet.write_row(4, 0, ["Washer", "", 5])
            hidden = book.add_worksheet("Notes")
            hidden.hide()
            hidden.write(0, 0, "Only a note")

    return _saved(fill)


def write_book(fill: Callable[[Any], None]) -> bytes:
    """Return a workbook with one sheet "S" that is filled by xlsxwriter."""

    def write(file: io.BytesIO) -> None:
        with xlsxwriter.Workbook(file) as book:
            fill(book.add_worksheet("S"))

    return _saved(write)


def write_epub(
    *, opf: str = OPF, extra: dict[str, str] | None = None, leave_out: str | None = None
) -> bytes:
    entries = {
        "mimetype": EPUB,
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": opf,
        "OPS/text/ch1.xhtml": CHAPTER.format(title="Loomings", text="Call me&nbsp;Ishmael."),
        "OPS/text/ch 2.xhtml": CHAPTER.format(title="The Carpet-Bag", text="I stuffed a shirt."),
        **(extra or {}),
    }
    return write_zip({name: text for name, text in entries.items() if name != leave_out})


def write_zip(entries: dict[str, str] | dict[str, bytes]) -> bytes:
    def fill(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)

    return _saved(fill)


def write_email() -> bytes:
    message = EmailMessage()
    message["From"] = "Jörg <joerg@example.org>"
    message["To"] = "ann@example.org, bob@example.org"
    message["Cc"] = "eve@example.org"
    message["Date"] = "Mon, 01 Jan 2024 10:00:00 +0000"
    message["Subject"] = "Grüße aus München"
    message.set_content("Hello,\n\n  see the café plan.\n", charset="iso-8859-1")
    message.add_alternative("<p>not this</p>", subtype="html")
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="plän.pdf")
    return bytes(message)


HTML_PAGE = """<!doctype html><html><head><title>A page</title><style>p {color: red}</style></head>
<body><h1>Top</h1>Loose <b>te</b>xt<br>below<p>One
paragraph</p><h2>Lists</h2><ul><li>one<li>two</ul><ol start=3><li>three</ol>
<pre>a
  b</pre><table><caption>Fruit</caption><tr><th>Name<th>Price<tr><td>Pear<td>3</table></body></html>"""


def write_image(format_name: str, *, frames: int = 1, size: tuple[int, int] = (192, 96)) -> bytes:
    pictures = [Image.new("RGB", size, (shade, 0, 0)) for shade in range(frames)]
    options = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    return _saved(lambda file: pictures[0].save(file, format_name, **options))


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


# Media type -> a name for it, and the file.
SAMPLES: dict[str, tuple[str, bytes]] = {
    DOCX: ("report.docx", write_docx()),
    PPTX: ("pitch.pptx", write_pptx()),
    XLSX: ("orders.xlsx", write_xlsx()),
    HTML: ("page.html", HTML_PAGE.encode()),
    EPUB: ("book.epub", write_epub()),
    EMAIL: ("mail.eml", write_email()),
    CSV: ("table.csv", b'Name;Note\nAnn;"two\nlines"\nBob;\n'),
    TSV: ("table.tsv", b"Name\tCity\tAge\nAnn\tOslo, Norway\t30\n"),
    JSON: ("data.json", b'{"invoice": {"items": [{"price": 12.50}, {"price": 3}], "paid": true}}'),
    JSON_LINES: ("data.jsonl", b'{"user": {"name": "Ann"}}\n{"user": {"name": "Bob"}}\n'),
    MARKDOWN: ("notes.md", b"# Title\n\nSome *text*\n\n## Part\n\nMore\n"),
    PLAIN_TEXT: ("notes.txt", b"Item 1. Business of the company\n\nIt makes things.\n"),
    PNG: ("scan.png", write_image("PNG")),
    JPEG: ("scan.jpg", write_image("JPEG")),
    TIFF: ("scan.tiff", write_image("TIFF", frames=3)),
    WEBP: ("scan.webp", write_image("WEBP")),
    BMP: ("scan.bmp", write_image("BMP")),
    GIF: ("scan.gif", write_image("GIF", frames=3)),
}


def read(folder: Path, media_type: str, data: bytes | str) -> list[Page]:
    """Read a document through the same door as the product."""
    path = folder / "document"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with open_document(path, media_type) as document:
        pages = list(document.pages())
        assert [page.number for page in pages] == list(range(1, document.page_count + 1))
    return pages


def read_text(folder: Path, media_type: str, data: bytes | str) -> str:
    (page,) = read(folder, media_type, data)
    return page.text


def read_title(folder: Path, media_type: str, data: bytes | str) -> str | None:
    read(folder, media_type, data)
    with open_document(folder / "document", media_type) as document:
        return document.title


def fail(folder: Path, media_type: str, data: bytes | str) -> IngestErrorCode:
    """Return why a document can't be read."""
    try:
        read(folder, media_type, data)
    except DocumentUnreadable as error:
        return error.error_code
    raise AssertionError("the document was read")


def headings(page: Page) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in page.headings]
