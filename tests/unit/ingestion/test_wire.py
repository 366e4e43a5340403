"""The messages between a parsing child and its parent, who believes nothing."""

import json
from base64 import b64encode
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.base import Heading, Page, PageImage, QuotePlace, Rectangle, TextSource
from app.ingestion.outcomes import IngestErrorCode
from app.ingestion.wire import (
    LENGTH_BYTES,
    Crash,
    End,
    Failure,
    Header,
    InvalidMessage,
    Message,
    decode,
    encode,
)

_PAGE = Page(
    number=7,
    text="Ships 🚢\nand more",
    width=595.5,
    height=842.0,
    headings=(Heading(0, 7, 1, "Ships"), Heading(8, 11, 2, "and")),
    body_start=8,
    body_end=11,
    source=TextSource.OCR,
    needs_ocr=True,
    warnings=("A picture could not be read.",),
    label="iv",
)
_IMAGE = PageImage(300, 200, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x2c\0\0\0\xc8 and so on")
_PLACE = QuotePlace((Rectangle(0.0, 0.25, 1.0, 0.5), Rectangle(0.125, 0.75, 0.5, 0.25)))
_MESSAGES = [
    Header("A title", 12),
    Header(None, 1),
    _PAGE,
    Page(1, ""),
    End(),
    _IMAGE,
    _PLACE,
    QuotePlace(),
    Failure(IngestErrorCode.ENCRYPTED, "Somebody locked it."),
    Crash("ValueError", ("pdf.py:12", "<string>:1")),
]


def _without_length(message: Message) -> bytes:
    return encode(message)[LENGTH_BYTES:]


def _changed(message: Message, **changes: Any) -> bytes:
    return json.dumps(json.loads(_without_length(message)) | changes).encode()


@pytest.mark.parametrize("message", _MESSAGES)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    data = encode(message)
    assert int.from_bytes(data[:LENGTH_BYTES], "big") == len(data) - LENGTH_BYTES
    assert decode(data[LENGTH_BYTES:]) == message


def test_the_page_above_has_a_value_of_its_own_in_every_field() -> None:
    plain = Page(1, "")
    for field in fields(Page):
        assert getattr(_PAGE, field.name) != getattr(plain, field.name)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"type":"Nothing"}',
        b'{"type":["Page"]}',
        b'{"type":"End","more":1}',
        b"[" * 1_000_000,
        _changed(Header(None, 1), page_count=True),
        _changed(Header(None, 1), page_count=1.0),
        _changed(Header(None, 1), title="half \ud800 an emoji"),
        _changed(Header(None, 1), title="NUL \0"),
        _changed(_PAGE, number="7"),
        _changed(_PAGE, text=None),
        _changed(_PAGE, text="\0" * 20),
        _changed(_PAGE, width=float("nan")),
        _changed(_PAGE, height=10**400),
        _changed(_PAGE, width=True),
        _changed(_PAGE, body_start=-1),
        _changed(_PAGE, body_start=12),
        _changed(_PAGE, body_end=10_000),
        _changed(_PAGE, source="telepathy"),
        _changed(_PAGE, needs_ocr=1),
        _changed(_PAGE, warnings="one string"),
        _changed(_PAGE, warnings=["x" * 2000]),
        _changed(_PAGE, headings={}),
        _changed(_PAGE, headings=[[0, 5, 1, "a list"]]),
        _changed(_PAGE, headings=[{"start": 0, "end": 99, "level": 1, "title": "past the end"}]),
        _changed(_PAGE, headings=[{"start": 3, "end": 3, "level": 1, "title": "empty"}]),
        _changed(_PAGE, headings=[{"start": 0, "end": 3, "level": 0, "title": "no level"}]),
        _changed(
            _PAGE,
            headings=[
                {"start": 0, "end": 5, "level": 1, "title": "first"},
                {"start": 4, "end": 8, "level": 1, "title": "overlaps"},
            ],
        ),
        _changed(_PAGE, unknown=1),
        _changed(_PAGE, label=4),
        _changed(_PAGE, label="x" * 41),
        _changed(_PAGE, label="\0"),
        _changed(_IMAGE, png="no base64!"),
        _changed(_IMAGE, png=b64encode(b"<svg onload=alert(1)>").decode()),
        _changed(_IMAGE, width=301),
        _changed(_IMAGE, height="200"),
        _changed(_IMAGE, unknown=1),
        _changed(_PLACE, rectangles={}),
        _changed(_PLACE, rectangles=[{"x": 0, "y": 0, "width": 1}]),
        _changed(_PLACE, rectangles=[{"x": 0, "y": 0, "width": 1, "height": 1.5}]),
        _changed(_PLACE, rectangles=[{"x": -0.1, "y": 0, "width": 1, "height": 1}]),
        _changed(_PLACE, rectangles=[{"x": 0, "y": 0, "width": None, "height": 1}]),
        _changed(_PLACE, rectangles=[{"x": 0, "y": 0, "width": 1, "height": 1, "z": 0}]),
        _changed(_PLACE, rectangles=[{"x": 0, "y": 0, "width": 1, "height": 1}] * 1001),
        _changed(Failure(IngestErrorCode.CORRUPT, ""), code="no such code"),
        _changed(Failure(IngestErrorCode.CORRUPT, ""), detail="x" * 2000),
        _changed(Crash("ValueError", ()), error="a sentence: from the document"),
        _changed(Crash("ValueError", ()), frames=["line\nbreak"]),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(data)


@given(st.sampled_from(sorted(field.name for field in fields(Page))), _JSON)
def test_any_value_in_any_field_is_checked(name: str, value: object) -> None:
    try:
        page = decode(_changed(_PAGE, **{name: value}))
    except InvalidMessage:
        return
    assert isinstance(page, Page)
    assert decode(_without_length(page)) == page
