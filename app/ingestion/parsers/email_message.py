"""E-mail: one page with the headers that people read and the text. Attachments are only named."""

import email
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from lxml import etree

from app.ingestion.base import Page
from app.ingestion.cleaning import clean_title
from app.ingestion.encodings import decode_text
from app.ingestion.parsers.base import ParsedDocument, limit_text
from app.ingestion.parsers.damage import damage_means_corrupt
from app.ingestion.parsers.html_page import add_markup
from app.ingestion.parsers.markup import parse_markup
from app.ingestion.parsers.text_builder import TextBuilder, to_line

_HEADERS = ("From", "To", "Cc", "Date")
# The standard library takes quadratic time for the encoded words of a long header.
_MAX_HEADER_CHARACTERS = 10_000
_MAX_NAME_CHARACTERS = 200
_NOT_READ = "The attachments of the message were not read: upload them by themselves."


@dataclass(frozen=True, slots=True)
class _Contents:
    """The parts that are the text of a message, in order, and the names of all others."""

    texts: list[Message] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)


@contextmanager
def open_email(path: Path, password: str | None = None) -> Iterator[ParsedDocument]:
    with damage_means_corrupt(MessageError, etree.LxmlError):
        with path.open("rb") as file:
            message = email.message_from_binary_file(file)
        subject = _read_header(message, "Subject")
    yield ParsedDocument(
        title=clean_title(subject),
        page_count=1,
        pages=lambda: limit_text(iter([_read_page(message, subject)])),
    )


def _read_page(message: Message, subject: str) -> Page:
    builder = TextBuilder()
    with damage_means_corrupt(MessageError, etree.LxmlError):
        if subject:
            builder.add_heading(f"Subject: {subject}", level=1, title=subject)
        for name in _HEADERS:
            if value := _read_header(message, name):
                builder.add_line(f"{name}: {value}")
        contents = _sort_parts(message)
        warnings = [w for part in contents.texts for w in _add_text(builder, part)]
    for attachment in contents.attachments:
        builder.add_line(f"Attachment: {attachment}")
    if contents.attachments:
        warnings.append(_NOT_READ)
    return builder.build(1, warnings=tuple(dict.fromkeys(warnings)))


def _read_header(message: Message, name: str) -> str:
    """Return what a header says, decoded and on one line; "" if it is missing."""
    values = [value for key, value in message.raw_items() if key.lower() == name.lower()]
    return to_line(_decode_words(str(values[0]))) if values else ""


def _decode_words(raw: str) -> str:
    """Decode a header's encoded words; also letters that were sent as they are, which is wrong."""
    data = raw[:_MAX_HEADER_CHARACTERS].encode("utf-8", "surrogateescape")
    text = decode_text(data) or ""
    try:
        return str(make_header(decode_header(text)))
    # An unknown encoding, or bytes that are not in the one that is named.
    except (LookupError, ValueError, MessageError):
        return text


def _sort_parts(message: Message) -> _Contents:
    """Tell text from attachments. Of alternatives one is the text: plain, if it says anything."""
    contents = _Contents()
    waiting = [message]
    while waiting:
        part = waiting.pop()
        kind = part.get_content_type()
        if _is_attachment(part):
            contents.attachments.append(_read_name(part))
        elif part.is_multipart():
            waiting += [_choose(part)] if kind == "multipart/alternative" else _children(part)[::-1]
        else:
            contents.texts.append(part)
    return contents


def _is_attachment(part: Message) -> bool:
    if part.get_content_disposition() == "attachment":
        return True
    if part.get_content_maintype() == "multipart":
        # One without any parts is a text of which the boundary is missing.
        return False
    is_text = part.get_content_type() in {"text/plain", "text/html"}
    return not is_text or part.get_filename() is not None


def _children(part: Message) -> list[Message]:
    return [child for child in part.get_payload() if isinstance(child, Message)]


def _choose(part: Message) -> Message:
    alternatives = _children(part)
    plain = (child for child in alternatives if child.get_content_type() == "text/plain")
    return next((child for child in plain if _read_text(child).strip()), alternatives[-1])


def _read_name(part: Message) -> str:
    name = to_line(_decode_words(part.get_filename() or ""))
    return name[:_MAX_NAME_CHARACTERS] or part.get_content_type()


def _add_text(builder: TextBuilder, part: Message) -> tuple[str, ...]:
    if part.get_content_type() == "text/html":
        root = parse_markup(_read_bytes(part), declared=part.get_content_charset())
        return add_markup(builder, root)
    builder.add_preformatted(_read_text(part))
    return ()


def _read_text(part: Message) -> str:
    return decode_text(_read_bytes(part), declared=part.get_content_charset()) or ""


def _read_bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
