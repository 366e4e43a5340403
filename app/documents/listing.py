"""Lists that are read on from an object's id, as OpenAI's API has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """Which part of a list: behind `after` and before `before`, in the order of the ids.

    By id alone, which begins with the time: an object that is gone still says where one was.
    """

    limit: int
    after: UUID | None = None
    before: UUID | None = None
    is_ascending: bool = False

    async def read(
        self,
        session: AsyncSession,
        query: Select[*tuple[Any, ...]],
        id_: InstrumentedAttribute[UUID],
    ) -> "Listed[Any]":
        """Return the rows of a query that has no order yet; `id_` is the column of the ids."""
        is_ascending = self.is_ascending
        if self.after is not None:
            query = query.where(id_ > self.after if is_ascending else id_ < self.after)
        if self.before is not None:
            query = query.where(id_ < self.before if is_ascending else id_ > self.before)
        # The page that ends before an object is read from its end.
        is_backwards = self.before is not None and self.after is None
        ordered = query.order_by(id_.asc() if is_ascending != is_backwards else id_.desc())
        rows = (await session.execute(ordered.limit(self.limit + 1))).all()
        kept = rows[: self.limit]
        return Listed(kept[::-1] if is_backwards else kept, has_more=len(rows) > self.limit)


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    items: Sequence[T]
    has_more: bool
