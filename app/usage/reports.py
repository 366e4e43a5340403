"""What was used, by day, model, API key or user: from the daily sums, so that it is quick."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import get_driver
from app.core.errors import InvalidRequest
from app.models.usage import NO_KEY
from app.usage.prices import nano_to_usd

MAX_ROWS = 10_000
MAX_DAYS = 731


class GroupBy(StrEnum):
    DAY = "day"
    MODEL = "model"
    KEY = "key"
    USER = "user"


# What a row is called by, and the SQL of it.
_COLUMNS = {
    GroupBy.DAY: ("day", "day"),
    GroupBy.MODEL: ("model", "provider || '/' || model"),
    GroupBy.KEY: ("key_id", "key_id"),
    GroupBy.USER: ("user_id", "user_id"),
}
_SUMS = """
    coalesce(sum(requests), 0)::bigint AS requests,
    coalesce(sum(errors), 0)::bigint AS errors,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(cost_nano), 0)::bigint AS cost_nano,
    coalesce(sum(unknown_cost_requests), 0)::bigint AS unknown_cost_calls
"""
_OF_CALLER = """
    FROM usage_daily
    WHERE org_id = $1 AND day BETWEEN $2 AND $3 AND ($4::uuid IS NULL OR user_id = $4)
"""
_FIGURES = (
    *("requests", "errors", "input_tokens", "cached_tokens", "output_tokens"),
    *("cost_usd", "unknown_cost_calls"),
)


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """Sums over calls of models, whatever they were for. `cost_nano` is of the known costs."""

    requests: int
    errors: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nano: int
    unknown_cost_calls: int

    @property
    def cost_usd(self) -> str | None:
        """None where there are calls, and no price of any is known."""
        is_unknown = 0 < self.requests == self.unknown_cost_calls
        return None if is_unknown else nano_to_usd(self.cost_nano)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group. `names` has what it was grouped by: day, model, key_id (None: none), user_id."""

    names: dict[str, Any]
    figures: UsageFigures


@dataclass(frozen=True, slots=True)
class UsageReport:
    rows: list[UsageRow]
    totals: UsageFigures


async def report_usage(
    session: AsyncSession,
    org_id: UUID,
    *,
    first: date,
    last: date,
    group_by: Sequence[GroupBy],
    user_id: UUID | None = None,
) -> UsageReport:
    """Add up the days from `first` to `last` (UTC), both included; of one user, if named.

    Rows come in the order of what they are grouped by. Raises InvalidRequest (`too_many_rows`).
    """
    driver = await get_driver(session)
    values = (org_id, first, last, user_id)
    names, expressions = zip(*(_COLUMNS[group] for group in group_by), strict=True)
    listed = ", ".join(f"{e} AS {name}" for name, e in zip(names, expressions, strict=True))
    places = ", ".join(str(n + 1) for n in range(len(names)))
    rows = await driver.fetch(
        f"SELECT {listed}, {_SUMS} {_OF_CALLER}"
        f" GROUP BY {places} ORDER BY {places} LIMIT {MAX_ROWS + 1}",
        *values,
    )
    if len(rows) > MAX_ROWS:
        raise InvalidRequest(
            f"That is more than {MAX_ROWS} rows: ask for fewer days, or by one thing alone.",
            code="too_many_rows",
            param="group_by",
        )
    totals = await driver.fetchrow(f"SELECT {_SUMS} {_OF_CALLER}", *values)
    assert totals is not None  # noqa: S101  # sums of whatever there is
    return UsageReport([_row(row, names) for row in rows], UsageFigures(**dict(totals)))


def to_csv(report: UsageReport, group_by: Sequence[GroupBy]) -> str:
    """Return the rows, without totals, under a line of names."""
    names = [_COLUMNS[group][0] for group in group_by]
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow([*names, *_FIGURES])
    for row in report.rows:
        labels = [_harmless(row.names[name]) for name in names]
        writer.writerow([*labels, *(getattr(row.figures, name) for name in _FIGURES)])
    return target.getvalue()


def _row(row: Any, names: Sequence[str]) -> UsageRow:
    values = dict(row)
    labels = {name: values.pop(name) for name in names}
    if labels.get("key_id") == NO_KEY:
        labels["key_id"] = None
    return UsageRow(labels, UsageFigures(**values))


def _harmless(value: object) -> str:
    """Keep a spreadsheet from taking a model's name, which a request brings, for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
