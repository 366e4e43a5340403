"""Keyset pages: a cursor names the last row seen, so that a page never shifts under its reader."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar
from uuid import UUID

from app.core.errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The sort key of the last row of a page: newest first, the id breaks ties."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        return encode_cursor(self.created_at.isoformat(), str(self.id))

    @classmethod
    def decode(cls, value: str) -> "Cursor":
        """Raises InvalidRequest for anything that `encode` did not make."""
        return decode_cursor(value, cls._of)

    @classmethod
    def _of(cls, created_at: str, row_id: str) -> "Cursor":
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise ValueError("a time without its zone")
        # In UTC, as the database will want it: near the calendar's ends that overflows.
        return cls(moment.astimezone(UTC), UUID(row_id))


def encode_cursor(*parts: str | int | None) -> str:
    """Return what `decode_cursor` takes apart: letters, digits, `-` and `_`."""
    raw = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def decode_cursor(text: str, build: Callable[..., T]) -> T:
    """Call `build` with the parts of a cursor. Raises InvalidRequest where it finds these wrong.

    They are anything that JSON can hold: whoever sends a cursor may have made it up.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        return build(*json.loads(base64.urlsafe_b64decode(padded)))
    except (
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InvalidRequest("The cursor is not one of ours.", param="cursor") from error


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of rows; `next_cursor` is None at the end."""

    items: Sequence[T]
    next_cursor: str | None

    @classmethod
    def of(cls, rows: Sequence[T], limit: int, cursor_of: Callable[[T], str]) -> "Page[T]":
        """Return the first `limit` (at least 1) of rows; one more says that there is more."""
        shown = rows[:limit]
        return cls(shown, cursor_of(shown[-1]) if len(rows) > limit else None)

    @property
    def next_id(self) -> UUID | None:
        """The cursor of rows that are ordered by their ids alone."""
        return UUID(self.next_cursor) if self.next_cursor else None
