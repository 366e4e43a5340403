"""The messages by which the child that reads a document tells its pages: JSON behind its length.

In order: a Header, its pages, and an End; or one PageImage or QuotePlace, from a child that was
asked for that. Instead of what is still missing a Failure (the document is to blame, and how) or a
Crash (the code is). Who receives them trusts none of it.
"""

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from app.ingestion.base import (
    MAX_LABEL_CHARACTERS,
    Heading,
    Page,
    PageImage,
    QuotePlace,
    Rectangle,
    TextSource,
)
from app.ingestion.outcomes import IngestErrorCode

LENGTH_BYTES = 4  # of the big-endian number before each message
MAX_MESSAGE_BYTES = 100_000_000
MAX_RECTANGLES = 1_000

_MAX_TITLE_CHARACTERS = 10_000
_MAX_SENTENCE_CHARACTERS = 1000
_MAX_WARNINGS = 100
_MAX_LEVEL = 99
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # the sizes follow
# Postgres refuses NUL, and UTF-8 has no lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_PLACE = re.compile(r"[\w.<> -]{1,100}(:\d{1,7})?")

# What odd JSON ends in; RecursionError if it is nested too deep, OverflowError if a size has
# hundreds of digits.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)

T = TypeVar("T")


class InvalidMessage(Exception):
    """Nothing that an honest child would send."""


@dataclass(frozen=True, slots=True)
class Header:
    title: str | None
    page_count: int


@dataclass(frozen=True, slots=True)
class End:
    """All pages were sent."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What DocumentUnreadable says."""

    code: IngestErrorCode
    detail: str


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception nobody expected: its type, and `file:line` of the last frames, innermost last.

    Without its message, which may quote the document.
    """

    error: str
    frames: tuple[str, ...]


Message = Header | Page | End | PageImage | QuotePlace | Failure | Crash


def encode(message: Message) -> bytes:
    """Return the message with its length before it. Raises UnicodeEncodeError on half an emoji."""
    tagged = {"type": type(message).__name__, **asdict(message)}
    data = json.dumps(
        tagged, ensure_ascii=False, separators=(",", ":"), default=_encode_bytes
    ).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _encode_bytes(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def decode(data: bytes) -> Message:
    """Return the message that follows its length. Raises InvalidMessage."""
    try:
        values = json.loads(data)
        return _READERS[values.pop("type")](values)
    except _UNREADABLE as error:
        raise InvalidMessage(type(error).__name__) from error


def _header(values: dict[str, Any]) -> Header:
    _require(values.keys() == {"title", "page_count"})
    title = values["title"]
    return Header(
        None if title is None else _text(title, _MAX_TITLE_CHARACTERS),
        _exactly(int, values["page_count"]),
    )


def _page(values: dict[str, Any]) -> Page:
    _require(values.keys() == {field.name for field in fields(Page)})
    text = _text(values["text"], MAX_MESSAGE_BYTES)
    body_start, body_end = _exactly(int, values["body_start"]), values["body_end"]
    body_stop = len(text) if body_end is None else _exactly(int, body_end)
    _require(0 <= body_start <= body_stop <= len(text))
    warnings = _exactly(list, values["warnings"])
    _require(len(warnings) <= _MAX_WARNINGS)
    return Page(
        number=_exactly(int, values["number"]),
        text=text,
        width=_size(values["width"]),
        height=_size(values["height"]),
        headings=_headings(_exactly(list, values["headings"]), len(text)),
        body_start=body_start,
        body_end=body_end,
        source=TextSource(values["source"]),
        needs_ocr=_exactly(bool, values["needs_ocr"]),
        warnings=tuple(_text(warning, _MAX_SENTENCE_CHARACTERS) for warning in warnings),
        label=None if values["label"] is None else _text(values["label"], MAX_LABEL_CHARACTERS),
    )


def _headings(rows: list[dict[str, Any]], stop: int) -> tuple[Heading, ...]:
    """Read headings that lie within 0..stop, one after the other."""
    headings: list[Heading] = []
    for row in rows:
        heading = Heading(
            _exactly(int, row.pop("start")),
            _exactly(int, row.pop("end")),
            _exactly(int, row.pop("level")),
            _text(row.pop("title"), _MAX_TITLE_CHARACTERS),
        )
        _require(not row and 1 <= heading.level <= _MAX_LEVEL)
        earliest = headings[-1].end if headings else 0
        _require(earliest <= heading.start < heading.end <= stop)
        headings.append(heading)
    return tuple(headings)


def _image(values: dict[str, Any]) -> PageImage:
    _require(values.keys() == {"width", "height", "png"})
    width, height = (_exactly(int, values[name]) for name in ("width", "height"))
    png = base64.b64decode(_exactly(str, values["png"]), validate=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in (width, height))
    _require(png.startswith(_PNG_START + sizes) and width > 0 and height > 0)
    return PageImage(width, height, png)


def _place(values: dict[str, Any]) -> QuotePlace:
    _require(values.keys() == {"rectangles"})
    rows = _exactly(list, values["rectangles"])
    _require(len(rows) <= MAX_RECTANGLES)
    return QuotePlace(tuple(map(_rectangle, rows)))


def _rectangle(values: dict[str, Any]) -> Rectangle:
    rectangle = Rectangle(*(_fraction(values.pop(f.name)) for f in fields(Rectangle)))
    _require(not values)
    return rectangle


def _end(values: dict[str, Any]) -> End:
    _require(not values)
    return End()


def _failure(values: dict[str, Any]) -> Failure:
    _require(values.keys() == {"code", "detail"})
    detail = _text(values["detail"], _MAX_SENTENCE_CHARACTERS)
    return Failure(IngestErrorCode(values["code"]), detail)


def _crash(values: dict[str, Any]) -> Crash:
    _require(values.keys() == {"error", "frames"})
    places = [values["error"], *_exactly(list, values["frames"])]
    _require(len(places) <= _MAX_WARNINGS and all(_PLACE.fullmatch(place) for place in places))
    return Crash(places[0], tuple(places[1:]))


_READERS: dict[str, Callable[[dict[str, Any]], Message]] = {
    Header.__name__: _header,
    Page.__name__: _page,
    PageImage.__name__: _image,
    QuotePlace.__name__: _place,
    End.__name__: _end,
    Failure.__name__: _failure,
    Crash.__name__: _crash,
}


def _require(condition: bool) -> None:
    if not condition:
        raise InvalidMessage("a value out of its range")


def _exactly(kind: type[T], value: object) -> T:
    # Not isinstance: True is an int.
    if type(value) is not kind:
        raise InvalidMessage(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _text(value: object, limit: int) -> str:
    text = _exactly(str, value)
    _require(len(text) <= limit and _UNSTORABLE.search(text) is None)
    return text


def _size(value: object) -> float | None:
    if value is None:
        return None
    points = float(value) if type(value) is int else _exactly(float, value)
    _require(math.isfinite(points))
    return points


def _fraction(value: object) -> float:
    fraction = _size(value)
    if fraction is None or not 0 <= fraction <= 1:
        raise InvalidMessage("no fraction")
    return fraction
