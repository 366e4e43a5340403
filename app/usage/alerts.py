"""What webhooks are told when a budget runs out."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.usage import ORGANIZATION_SCOPE
from app.models.webhooks import WebhookEventType
from app.usage.budgets import BudgetAlert
from app.usage.prices import nano_to_usd
from app.webhooks.outbox import emit


async def tell_webhooks(session: AsyncSession, alert: BudgetAlert) -> None:
    """Queue `budget.alert`; a BudgetAlertHook. `key_id` is null for the organization's budget."""
    state = alert.state
    assert state.limit_nano is not None  # noqa: S101  # without a limit there is no alert
    is_of_key = alert.scope != ORGANIZATION_SCOPE
    data = {
        "key_id": alert.scope if is_of_key else None,
        "percent": alert.percent,
        "limit_usd": nano_to_usd(state.limit_nano),
        "spent_usd": nano_to_usd(state.spent_nano),
        "resets_at": state.resets_at.isoformat(),
    }
    await emit(session, alert.org_id, WebhookEventType.BUDGET_ALERT, data)
