"""In which order documents are listed, and the cursor that names the last one of a page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from operator import gt, lt
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, tuple_

from app.core.errors import UnprocessableRequest
from app.core.pagination import decode_cursor, encode_cursor
from app.core.text import storable
from app.models.documents import Document

SortValue: TypeAlias = datetime | str | int | None

_MAX_BIGINT = 2**63 - 1
_MAX_INTEGER = 2**31 - 1


class DocumentSort(StrEnum):
    CREATED = "created"
    NAME = "name"
    SIZE = "size"
    PAGES = "pages"
    STATUS = "status"
    UPDATED = "updated"


class SortOrder(StrEnum):
    ASC = "asc"
    DESC = "desc"


_KEYS: dict[DocumentSort, ColumnElement[Any]] = {
    DocumentSort.CREATED: Document.created_at.expression,
    DocumentSort.NAME: func.lower(Document.filename),
    DocumentSort.SIZE: Document.size_bytes.expression,
    DocumentSort.PAGES: Document.page_count.expression,
    DocumentSort.STATUS: Document.status.expression,
    DocumentSort.UPDATED: Document.updated_at.expression,
}
_ALPHABETICAL = (DocumentSort.NAME, DocumentSort.STATUS)


@dataclass(frozen=True, slots=True)
class Sorting:
    """By `sort`, then by id, both in one direction. Names are compared without their case.

    Documents whose pages are unknown come last in either direction.
    """

    sort: DocumentSort
    order: SortOrder

    @property
    def key(self) -> ColumnElement[Any]:
        """What is sorted by, to be selected: a cursor is made of it."""
        return _KEYS[self.sort]

    def apply(
        self, query: Select[Document, Any], cursor: "SortCursor | None"
    ) -> Select[Document, Any]:
        """Put a query in this order, and behind the cursor. Raises UnprocessableRequest for one
        of another order."""
        is_descending = self.order == SortOrder.DESC
        key = self.key.desc() if is_descending else self.key.asc()
        # Where nothing is null the words would only keep an index from being used.
        key = key.nulls_last() if self.sort == DocumentSort.PAGES else key
        query = query.order_by(key, Document.id.desc() if is_descending else Document.id.asc())
        return query if cursor is None else query.where(self._behind(cursor))

    def _behind(self, cursor: "SortCursor") -> ColumnElement[bool]:
        if cursor.sorting != self:
            raise UnprocessableRequest(
                f"The cursor is of a list sorted by {cursor.sorting.sort}, "
                f"{cursor.sorting.order}. Begin at the first page when the order changes.",
                param="cursor",
            )
        is_past = lt if self.order == SortOrder.DESC else gt
        if cursor.value is None:
            return and_(self.key.is_(None), is_past(Document.id, cursor.id))
        behind: ColumnElement[bool] = is_past(
            tuple_(self.key, Document.id), (cursor.value, cursor.id)
        )
        return or_(behind, self.key.is_(None)) if self.sort == DocumentSort.PAGES else behind


def make_sorting(sort: DocumentSort, order: SortOrder | None) -> Sorting:
    """Unless an order is asked for, words go from A to Z, and the newest or largest come first."""
    usual = SortOrder.ASC if sort in _ALPHABETICAL else SortOrder.DESC
    return Sorting(sort, order or usual)


@dataclass(frozen=True, slots=True)
class SortCursor:
    """The order of a list, and the value and id of the last document seen in it."""

    sorting: Sorting
    value: SortValue
    id: UUID

    def encode(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        return encode_cursor(self.sorting.sort, self.sorting.order, value, str(self.id))

    @classmethod
    def decode(cls, text: str) -> "SortCursor":
        """Raises InvalidRequest for anything that `encode` did not make."""
        return decode_cursor(text, cls._of)

    @classmethod
    def _of(cls, sort: str, order: str, value: object, row_id: str) -> "SortCursor":
        sorting = Sorting(DocumentSort(sort), SortOrder(order))
        return cls(sorting, _read_value(sorting.sort, value), UUID(row_id))


def _read_value(sort: DocumentSort, value: object) -> SortValue:
    """Return a value as the database takes it. Raises ValueError, TypeError or OverflowError."""
    if sort == DocumentSort.PAGES and value is None:
        return None
    if sort in (DocumentSort.SIZE, DocumentSort.PAGES):
        largest = _MAX_BIGINT if sort == DocumentSort.SIZE else _MAX_INTEGER
        if type(value) is not int or not 0 <= value <= largest:
            raise ValueError("no size")
        return value
    if not isinstance(value, str) or storable(value) != value:
        raise ValueError("no text")
    if sort in _ALPHABETICAL:
        return value
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)
