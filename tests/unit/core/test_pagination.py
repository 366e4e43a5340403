"""Cursors: what we made comes back, and nothing else does."""

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core.errors import InvalidRequest
from app.core.pagination import Cursor, Page


def encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_cursor_comes_back() -> None:
    cursor = Cursor(datetime(2026, 11, 20, 12, 30, 1, 250, tzinfo=UTC), uuid4())
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize(
    "value",
    [
        "",
        "!",
        "é",
        "\ud800",
        "A" * 500,
        encode(None),
        encode([1, 2]),
        encode(["2026-11-20", str(UUID(int=7))]),
        encode(["2026-11-20T00:00:00", str(UUID(int=7))]),
        encode(["2026-11-20T00:00:00+00:00", "x"]),
        encode(["2026-11-20T00:00:00+00:00"]),
        encode(["0001-01-01T00:00:00+14:00", str(UUID(int=7))]),
        encode(["9999-12-31T23:59:59-14:00", str(UUID(int=7))]),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
    ],
)
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        Cursor.decode(value)


@pytest.mark.parametrize(
    ("found", "shown", "next_cursor"),
    [([], [], None), ([1, 2], [1, 2], None), ([1, 2, 3], [1, 2], "2")],
)
def test_a_page_has_a_next_one_where_a_row_more_was_found(
    found: list[int], shown: list[int], next_cursor: str | None
) -> None:
    assert Page.of(found, 2, str) == Page(shown, next_cursor)


def test_the_cursor_of_rows_ordered_by_id_is_an_id() -> None:
    row_id = uuid4()
    assert Page([row_id], str(row_id)).next_id == row_id
    assert Page([row_id], None).next_id is None
