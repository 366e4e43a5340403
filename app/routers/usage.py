"""What was used and what it cost, and the organization's monthly budget."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.accounts.permissions import Permission
from app.audit_trail import Noted
from app.core.errors import UnprocessableRequest
from app.core.numbers import PlainDecimal
from app.dependencies import OrganizationManager, OrganizationReader, ResourcesDep
from app.usage.alerts import tell_webhooks
from app.usage.budgets import BudgetState, read_budget, set_budget
from app.usage.metering import utc_now
from app.usage.prices import nano_to_usd, usd_to_nano
from app.usage.reports import MAX_DAYS, GroupBy, UsageFigures, report_usage, to_csv

router = APIRouter(prefix="/api/v1", tags=["usage"])

_DEFAULT_DAYS = 30


class UsageFiguresOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    requests: int = Field(
        description="Calls of models: answers, and what helps to find their sources."
    )
    errors: int
    input_tokens: int
    cached_tokens: int = Field(description="Those of the input that the vendor had read before.")
    output_tokens: int
    cost_usd: str | None = Field(
        description="Of the calls whose price is known; null where that is none of them."
    )
    unknown_cost_calls: int


class UsageRowOut(UsageFiguresOut):
    """A group; it has the fields that it was grouped by."""

    day: date | None = None
    model: str | None = None
    key_id: UUID | None = Field(default=None, description="Null for calls without an API key.")
    user_id: UUID | None = None


class UsageOut(BaseModel):
    first_day: date = Field(serialization_alias="from")
    last_day: date = Field(serialization_alias="to")
    group_by: list[GroupBy]
    rows: list[UsageRowOut]
    totals: UsageFiguresOut


class BudgetAlertOut(BaseModel):
    """Each is told once a month, of the limit that there was then."""

    percent: int
    at: datetime


class BudgetOut(BaseModel):
    """This month (UTC)."""

    limit_usd: str | None = Field(description="Null: no limit.")
    spent_usd: str = Field(
        description="A call whose price is unknown counts here as if its tokens cost"
        " UNKNOWN_PRICE_CEILING_USD for a million."
    )
    held_usd: str = Field(description="What calls under way may cost at most.")
    percent: float | None = Field(description="Of the limit, what is spent.")
    alerts: list[BudgetAlertOut]
    resets_at: datetime


class BudgetIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    monthly_limit_usd: PlainDecimal | None = Field(
        ge=0, le=1_000_000_000, decimal_places=9, description="Null: no limit."
    )


@router.get(
    "/usage",
    response_model=UsageOut,
    response_model_exclude_unset=True,
    responses={200: {"content": {"text/csv": {}}}},
)
async def read_usage(
    caller: OrganizationReader,
    resources: ResourcesDep,
    from_: Annotated[
        date | None, Query(alias="from", description="The first day (UTC); 30 days ago.")
    ] = None,
    to: Annotated[date | None, Query(description="The last day (UTC); today.")] = None,
    group_by: Annotated[
        list[str] | None,
        Query(description="One or two of day, model, key, user, with a comma; `day` if none."),
    ] = None,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> UsageOut | Response:
    """Who may manage the organization sees all of it, anybody else their own use."""
    last = to or datetime.now(UTC).date()
    first = from_ or _days_before(last, _DEFAULT_DAYS - 1)
    groups = _read_groups(group_by)
    _check(first, last)
    sees_all = caller.may(Permission.MANAGE_ORGANIZATION)
    await resources.ledger.flush(caller.org_id)
    async with resources.db.transaction(caller) as session:
        report = await report_usage(
            session,
            caller.org_id,
            first=first,
            last=last,
            group_by=groups,
            user_id=None if sees_all else caller.user_id,
        )
    if format_ == "csv":
        filename = f"usage-{first}-{last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
        return Response(to_csv(report, groups), media_type="text/csv", headers=headers)
    return UsageOut(
        first_day=first,
        last_day=last,
        group_by=groups,
        rows=[UsageRowOut(**row.names, **_fields(row.figures)) for row in report.rows],
        totals=UsageFiguresOut.model_validate(report.totals),
    )


@router.get("/budget")
async def get_budget(caller: OrganizationReader, resources: ResourcesDep) -> BudgetOut:
    """What the organization has spent this month, and what it may spend."""
    await resources.ledger.flush(caller.org_id)
    async with resources.db.transaction(caller) as session:
        return _budget(await read_budget(session, caller.org_id, utc_now()))


@router.put("/budget")
async def put_budget(
    body: BudgetIn, caller: OrganizationManager, resources: ResourcesDep, note: Noted
) -> BudgetOut:
    """Set what may be spent in a month, this one included. Holds everywhere within 2 s."""
    usd = body.monthly_limit_usd
    note.details = body.model_dump(mode="json")
    limit_nano = None if usd is None else usd_to_nano(usd)
    await resources.ledger.flush(caller.org_id)  # what was spent without a limit counts in it
    async with resources.db.transaction(caller) as session:
        now = utc_now()
        await set_budget(session, caller.org_id, limit_nano, now, on_alert=tell_webhooks)
        state = await read_budget(session, caller.org_id, now)
    resources.ledger.forget_limits()
    return _budget(state)


def show_percent(state: BudgetState) -> float | None:
    return None if state.percent is None else round(state.percent, 2)


def show_alerts(state: BudgetState) -> list[BudgetAlertOut]:
    return [BudgetAlertOut(percent=percent, at=at) for percent, at in state.alerts]


def _read_groups(group_by: list[str] | None) -> list[GroupBy]:
    named = dict.fromkeys(name.strip() for part in group_by or ["day"] for name in part.split(","))
    if not set(named) <= set(GroupBy) or len(named) > 2:
        raise UnprocessableRequest(
            "group_by: name one or two of day, model, key and user.",
            code="validation_error",
            param="group_by",
        )
    return [GroupBy(name) for name in named]


def _days_before(last: date, days: int) -> date:
    """Not before the first day of the calendar."""
    return date.fromordinal(max(1, last.toordinal() - days))


def _check(first: date, last: date) -> None:
    if first > last:
        raise UnprocessableRequest("`from` is behind `to`.", code="validation_error", param="from")
    if (last - first).days >= MAX_DAYS:
        raise UnprocessableRequest(
            f"That is more than {MAX_DAYS} days.", code="validation_error", param="from"
        )


def _fields(figures: UsageFigures) -> dict[str, object]:
    return UsageFiguresOut.model_validate(figures).model_dump()


def _budget(state: BudgetState) -> BudgetOut:
    return BudgetOut(
        limit_usd=None if state.limit_nano is None else nano_to_usd(state.limit_nano),
        spent_usd=nano_to_usd(state.spent_nano),
        held_usd=nano_to_usd(state.held_nano),
        percent=show_percent(state),
        alerts=show_alerts(state),
        resets_at=state.resets_at,
    )
