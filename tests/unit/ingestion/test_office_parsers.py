"""DOCX, PPTX and XLSX: what of their structure the text keeps."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pptx.util import Inches

from app.ingestion.base import TextSource
from app.ingestion.media_types import DOCX, PPTX, XLSX
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.parsers.base import DocumentUnreadable
from tests.unit.ingestion.samples import (
    SAMPLES,
    fail,
    headings,
    read,
    read_text,
    read_title,
    write_book,
    write_docx,
    write_image,
    write_pptx,
    write_xlsx,
    write_zip,
)


def saved(document: Any) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def with_xml(*blocks: str) -> bytes:
    """Return a DOCX whose body begins with these elements."""
    document = docx.Document()
    for block in reversed(blocks):
        document.element.body.insert(0, parse_xml(block.replace(">", f" {nsdecls('w')}>", 1)))
    return saved(document)


def replaced(package: bytes, name: str, old: str, new: str) -> bytes:
    """Return a package in which one part has another text."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as source, zipfile.ZipFile(file, "w") as target:
        for entry in source.namelist():
            data = source.read(entry)
            target.writestr(
                entry, data.replace(old.encode(), new.encode()) if entry == name else data
            )
    return file.getvalue()


def test_docx_keeps_headings_lists_and_rows_in_order(tmp_path: Path) -> None:
    (page,) = read(tmp_path, DOCX, write_docx())
    assert page.text == (
        "Annual report 2024\n\nResults\n\nSales grew.\n\n- first\n- second\n\nBy region\n\n"
        "Region: North | 2023: 1 | 2024: 2\nRegion: South | 2023: 3"
    )
    assert headings(page) == [(1, "Annual report 2024"), (1, "Results"), (2, "By region")]
    assert page.source is TextSource.TEXT_LAYER
    assert read_title(tmp_path, DOCX, write_docx()) == "Annual report"


def test_docx_shows_the_final_version_of_a_tracked_change(tmp_path: Path) -> None:
    data = with_xml(
        '<w:p><w:r><w:t xml:space="preserve">We </w:t></w:r><w:del w:id="1"><w:r>'
        '<w:delText>hate</w:delText></w:r></w:del><w:ins w:id="2"><w:r><w:t>like</w:t></w:r>'
        "</w:ins>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>SECRET</w:t></w:r>"
        "<w:r><w:instrText>PAGE</w:instrText><w:tab/><w:t>it</w:t></w:r></w:p>"
    )
    assert read_text(tmp_path, DOCX, data) == "We like it"


def test_docx_headings_are_found_through_the_styles_they_are_based_on(tmp_path: Path) -> None:
    document = docx.Document()
    own = document.styles.add_style("House style", 1)
    own.base_style = document.styles["Heading 3"]
    looped = document.styles.add_style("Looped", 1)
    looped.base_style = looped
    document.add_paragraph("Deep", style="House style")
    document.add_paragraph("Plain", style="Looped")
    (page,) = read(tmp_path, DOCX, saved(document))
    assert headings(page) == [(3, "Deep")]


def test_docx_outline_level_of_a_paragraph_goes_before_its_style(tmp_path: Path) -> None:
    data = with_xml(
        '<w:p><w:pPr><w:outlineLvl w:val="1"/></w:pPr><w:r><w:t>Outlined</w:t></w:r></w:p>',
        '<w:p><w:pPr><w:pStyle w:val="Heading1"/><w:outlineLvl w:val="9"/></w:pPr>'
        "<w:r><w:t>Contents</w:t></w:r></w:p>",
    )
    (page,) = read(tmp_path, DOCX, data)
    assert headings(page) == [(2, "Outlined")]


def test_docx_merged_cells_appear_once_and_columns_stay_in_place(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(rows=3, cols=3)
    for row, texts in enumerate([("Name", "Low", "High"), ("Wide", "", "7"), ("Tall", "2", "3")]):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(1, 1))
    table.cell(1, 2).merge(table.cell(2, 2))
    assert read_text(tmp_path, DOCX, saved(document)) == (
        "Name: Wide | High: 7 3\nName: Tall | Low: 2"
    )


def test_docx_nested_tables_stay_in_their_cell_and_frames_are_opened(tmp_path: Path) -> None:
    document = docx.Document()
    outer = document.add_table(rows=2, cols=2)
    outer.cell(0, 0).text, outer.cell(0, 1).text, outer.cell(1, 0).text = "Item", "1", "Parts"
    inner = outer.cell(1, 1).add_table(rows=1, cols=2)
    inner.cell(0, 0).text, inner.cell(0, 1).text = "bolt", "nut"
    frame = document.add_table(rows=1, cols=1)
    frame.cell(0, 0).text = "Framed"
    frame.cell(0, 0).add_paragraph("Title in a frame", style="Heading 1")
    (page,) = read(tmp_path, DOCX, saved(document))
    assert page.text == "Item | 1\nParts | bolt nut\n\nFramed\n\nTitle in a frame"
    assert headings(page) == [(1, "Title in a frame")]


def test_docx_a_marked_row_of_names_needs_no_figures(tmp_path: Path) -> None:
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    for row, texts in enumerate([("Country", "Capital"), ("France", "Paris")]):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    assert read_text(tmp_path, DOCX, saved(document)) == "Country | Capital\nFrance | Paris"
    properties = table.rows[0]._tr.get_or_add_trPr()
    properties.append(parse_xml(f"<w:tblHeader {nsdecls('w')}/>"))
    assert read_text(tmp_path, DOCX, saved(document)) == "Country: France | Capital: Paris"


def test_docx_text_boxes_are_read_once_behind_their_paragraph(tmp_path: Path) -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent>"
    data = with_xml(
        '<w:p><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/'
        f'markup-compatibility/2006"><mc:Choice Requires="wps">{box}</mc:Choice>'
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent><w:t>Around</w:t></w:r></w:p>"
    )
    assert read_text(tmp_path, DOCX, data) == "Around\n\nIn a box"


def test_docx_footnotes_follow_their_paragraph(tmp_path: Path) -> None:
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    package = replaced(
        with_xml('<w:p><w:r><w:t>Claim</w:t><w:footnoteReference w:id="2"/></w:r></w:p>'),
        "word/_rels/document.xml.rels",
        "</Relationships>",
        '<Relationship Id="rId99" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        'relationships/footnotes" Target="footnotes.xml"/></Relationships>',
    )
    file = io.BytesIO(package)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(
            "word/footnotes.xml",
            f'<w:footnotes {w}><w:footnote w:type="separator" w:id="0"/><w:footnote w:id="2">'
            '<w:p><w:r><w:footnoteReference w:id="2"/><w:t>Proof</w:t></w:r></w:p></w:footnote>'
            "</w:footnotes>",
        )
    assert read_text(tmp_path, DOCX, file.getvalue()) == "Claim\n\nFootnote: Proof"


@pytest.mark.parametrize(
    "kind",
    [
        "ms-word.document.macroEnabled.main",
        "openxmlformats-officedocument.wordprocessingml.template.main",
        "ms-word.template.macroEnabledTemplate.main",
    ],
)
def test_docx_templates_and_files_with_macros_are_read(tmp_path: Path, kind: str) -> None:
    plain = "openxmlformats-officedocument.wordprocessingml.document.main"
    data = replaced(write_docx(), "[Content_Types].xml", plain, kind)
    assert "Sales grew." in read_text(tmp_path, DOCX, data)


def test_pptx_slides_are_pages_with_titles_bullets_tables_and_notes(tmp_path: Path) -> None:
    first, second = read(tmp_path, PPTX, write_pptx())
    assert first.text == "Our market\n\n- It is large\n- It grows\n\nNotes: Smile here."
    assert headings(first) == [(1, "Our market")]
    assert (first.width, first.height) == (720.0, 540.0)
    assert second.text == "Year: 2024 | Users: 1,000\n\nBelow the table"
    assert read_title(tmp_path, PPTX, write_pptx()) == "Pitch"


def test_pptx_groups_are_opened_and_hidden_shapes_left_out(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    group = slide.shapes.add_group_shape().shapes.add_group_shape()
    for text, left in (("right", 3), ("left", 1)):
        box = group.shapes.add_textbox(Inches(left), Inches(1), Inches(1), Inches(1))
        box.text_frame.text = text
    hidden = slide.shapes.add_textbox(0, 0, 10, 10)
    hidden.text_frame.text = "SECRET"
    hidden._element.nvSpPr.cNvPr.set("hidden", "1")
    assert read_text(tmp_path, PPTX, saved(deck)) == "left\n\nright"


def test_pptx_slide_shows_and_decks_with_pictures_are_read(tmp_path: Path) -> None:
    deck = pptx.Presentation(io.BytesIO(write_pptx()))
    deck.slides[0].shapes.add_picture(io.BytesIO(write_image("PNG")), 0, 0)
    show = replaced(saved(deck), "[Content_Types].xml", "presentation.main", "slideshow.main")
    assert len(read(tmp_path, PPTX, show)) == 2


def test_xlsx_sheets_are_pages_with_values_as_they_are_shown(tmp_path: Path) -> None:
    orders, notes = read(tmp_path, XLSX, write_xlsx())
    assert orders.text == (
        "Orders\n\nAll orders\n"
        "Item: Nut and bolt | Count: 12 | Price: 0.3 | Sent: TRUE | On: 2024-01-02 | At: 09:30:00\n"
        "Item: Washer | Price: 5"
    )
    assert headings(orders) == [(1, "Orders")]
    assert notes.text == "Notes\n\nOnly a note"


def test_xlsx_a_second_table_brings_its_own_names(tmp_path: Path) -> None:
    def fill(sheet: Any) -> None:
        rows = [
            ["Item", "Price"],
            ["Nut", 1],
            [],
            ["Town", "People"],
            ["Oslo", 700],
            [],
            ["Ulm", "?"],
        ]
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)

    assert read_text(tmp_path, XLSX, write_book(fill)).split("\n")[2:] == [
        "Item: Nut | Price: 1",
        "Town: Oslo | People: 700",
        "Town: Ulm | People: ?",
    ]


def test_xlsx_that_is_spread_too_widely_is_refused_and_formats_are_no_cells(tmp_path: Path) -> None:
    def fill(sheet: Any) -> None:
        sheet.write(0, 0, "a")
        sheet.write(1_048_575, 16_383, "z")

    def fill_formats(sheet: Any) -> None:
        sheet.write(0, 0, "a")
        sheet.set_column(0, 0, None)
        sheet.write_blank(1_048_575, 16_383, None, sheet.default_date_format)

    assert fail(tmp_path, XLSX, write_book(fill)) is IngestErrorCode.TOO_LARGE
    assert read_text(tmp_path, XLSX, write_book(fill_formats)) == "S\n\na"


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX])
def test_strict_open_xml_is_read_like_the_other_kind(tmp_path: Path, media_type: str) -> None:
    _, package = SAMPLES[media_type]
    names = "officeDocument|wordprocessingml|presentationml|spreadsheetml|drawingml"
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        parts = {
            name: re.sub(
                rf"http://schemas.openxmlformats.org/({names})/2006/".encode(),
                rb"http://purl.oclc.org/ooxml/\1/",
                archive.read(name),
            )
            for name in archive.namelist()
        }
    assert read(tmp_path, media_type, write_zip(parts)) == read(tmp_path, media_type, package)


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX])
def test_office_files_behind_a_password_say_so(tmp_path: Path, media_type: str) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
    assert fail(tmp_path, media_type, ole) is IngestErrorCode.ENCRYPTED


@pytest.mark.parametrize(
    ("media_type", "part"),
    [
        (DOCX, "word/document.xml"),
        (PPTX, "ppt/slides/slide1.xml"),
        (XLSX, "xl/worksheets/sheet1.xml"),
    ],
)
def test_entities_in_office_files_are_not_resolved(
    tmp_path: Path, media_type: str, part: str
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOP SECRET")
    _, package = SAMPLES[media_type]
    doctype = f'<!DOCTYPE x [<!ENTITY inner "INSIDE"><!ENTITY outer SYSTEM "{secret.as_uri()}">]>'
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        xml = archive.read(part).decode()
    head, declaration, body = xml.partition("?>")
    for old in ("Sales grew.", "It is large", "<v>12</v>"):
        body = body.replace(old, f"{old[:-4]}&inner;&outer;{old[-4:]}")
    assert "&outer;" in body
    hostile = replaced(package, part, xml, head + declaration + doctype + body)
    try:
        text = "".join(page.text for page in read(tmp_path, media_type, hostile))
    except DocumentUnreadable as error:
        assert error.error_code is IngestErrorCode.CORRUPT
    else:
        assert "SECRET" not in text
        assert "INSIDE" not in text
