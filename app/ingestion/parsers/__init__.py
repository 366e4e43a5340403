"""The formats that can be read: media type -> parser. A new format is one file and one line."""

from app.ingestion.media_types import MARKDOWN, PDF, PLAIN_TEXT
from app.ingestion.parsers.base import Parser
from app.ingestion.parsers.markdown import open_markdown
from app.ingestion.parsers.pdf import open_pdf
from app.ingestion.parsers.text import open_text

PARSERS: dict[str, Parser] = {
    PDF: open_pdf,
    PLAIN_TEXT: open_text,
    MARKDOWN: open_markdown,
}
