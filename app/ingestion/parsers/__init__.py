"""The formats that can be read: media type -> "module:function" of its parser, in this package.

By name, so that reading a PDF does not import what reads the others. A new format is one file, one
line here, and its media type.
"""

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
    PDF,
    PLAIN_TEXT,
    PNG,
    PPTX,
    TIFF,
    TSV,
    WEBP,
    XLSX,
)

PARSERS: dict[str, str] = {
    PDF: "pdf:open_pdf",
    DOCX: "word:open_docx",
    PPTX: "slides:open_pptx",
    XLSX: "sheets:open_xlsx",
    HTML: "html_page:open_html",
    EPUB: "epub:open_epub",
    EMAIL: "email_message:open_email",
    MARKDOWN: "markdown:open_markdown",
    PLAIN_TEXT: "text:open_text",
    CSV: "csv_table:open_csv",
    TSV: "csv_table:open_tsv",
    JSON: "json_text:open_json",
    JSON_LINES: "json_text:open_json_lines",
    **dict.fromkeys((PNG, JPEG, TIFF, WEBP, BMP, GIF), "images:open_image"),
}
