"""An organization's webhooks: add, change, renew the secret, remove, try out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import take_turn
from app.core.errors import Conflict, NotFound
from app.core.ids import new_id
from app.core.sealing import Sealer
from app.models.webhooks import Webhook, WebhookEvent, WebhookEventType
from app.webhooks.deliveries import DeliveryView, add_delivery, get_delivery
from app.webhooks.signing import new_secret

MAX_WEBHOOKS = 20
OLD_SECRET_FOR = timedelta(hours=24)
TEST_EVENT = "webhook.test"


@dataclass(frozen=True, slots=True)
class Change:
    """What is None stays as it is."""

    url: str | None = None
    description: str | None = None
    events: Sequence[WebhookEventType] | None = None
    is_active: bool | None = None


async def list_webhooks(session: AsyncSession, org_id: UUID) -> Sequence[Webhook]:
    """Return all of them, the oldest first."""
    query = select(Webhook).where(Webhook.org_id == org_id).order_by(Webhook.id)
    return (await session.scalars(query)).all()


async def get_webhook(session: AsyncSession, org_id: UUID, webhook_id: UUID) -> Webhook:
    """Raises NotFound."""
    webhook = await session.scalar(
        select(Webhook).where(Webhook.org_id == org_id, Webhook.id == webhook_id)
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook


async def add_webhook(
    session: AsyncSession,
    org_id: UUID,
    *,
    url: str,
    description: str,
    events: Sequence[WebhookEventType],
    created_by: UUID,
    sealer: Sealer,
) -> tuple[Webhook, str]:
    """Return the webhook and its secret, which is shown only here.

    Raises Conflict (`too_many_webhooks`).
    """
    # Else some that come at once would not count each other.
    await take_turn(session, f"webhooks {org_id}")
    count = await session.scalar(select(func.count()).where(Webhook.org_id == org_id))
    if (count or 0) >= MAX_WEBHOOKS:
        raise Conflict(
            f"An organization has {MAX_WEBHOOKS} webhooks at most.", code="too_many_webhooks"
        )
    secret = new_secret()
    webhook = Webhook(
        org_id=org_id,
        id=new_id(),
        url=url,
        description=description,
        events=[event.value for event in events],
        sealed_secret=sealer.seal(secret),
        created_by=created_by,
    )
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    return webhook, secret


async def change_webhook(
    session: AsyncSession, org_id: UUID, webhook_id: UUID, change: Change
) -> Webhook:
    """Raises NotFound."""
    webhook = await get_webhook(session, org_id, webhook_id)
    if change.url is not None:
        webhook.url = change.url
    if change.description is not None:
        webhook.description = change.description
    if change.events is not None:
        webhook.events = [event.value for event in change.events]
    if change.is_active is not None:
        webhook.is_active = change.is_active
    await session.flush()
    return webhook


async def renew_secret(
    session: AsyncSession, org_id: UUID, webhook_id: UUID, *, sealer: Sealer
) -> tuple[Webhook, str]:
    """Return the new secret, shown only here; for 24 hours the old one signs too.

    Raises NotFound.
    """
    webhook = await get_webhook(session, org_id, webhook_id)
    secret = new_secret()
    webhook.sealed_old_secret, webhook.sealed_secret = webhook.sealed_secret, sealer.seal(secret)
    webhook.old_secret_until = await session.scalar(select(func.now() + OLD_SECRET_FOR))
    await session.flush()
    return webhook, secret


async def delete_webhook(session: AsyncSession, org_id: UUID, webhook_id: UUID) -> None:
    """Remove it with its log; what is pending is not sent any more. Raises NotFound."""
    deleted = await session.scalar(
        delete(Webhook)
        .where(Webhook.org_id == org_id, Webhook.id == webhook_id)
        .returning(Webhook.id)
    )
    if deleted is None:
        raise NotFound("There is no such webhook.")


async def send_test(session: AsyncSession, org_id: UUID, webhook_id: UUID) -> DeliveryView:
    """Queue an event that says nothing. Raises NotFound, Conflict for one that is switched off."""
    await _check_active(session, org_id, webhook_id)
    event = WebhookEvent(
        org_id=org_id, id=new_id(), type=TEST_EVENT, data={"webhook_id": str(webhook_id)}
    )
    session.add(event)
    await session.flush()
    await session.refresh(event)
    return await add_delivery(session, org_id, webhook_id, event)


async def replay(
    session: AsyncSession, org_id: UUID, webhook_id: UUID, delivery_id: UUID
) -> DeliveryView:
    """Send the event of a delivery once more, under the same message id.

    Raises NotFound, Conflict for a webhook that is switched off: it would wait there unsent.
    """
    await _check_active(session, org_id, webhook_id)
    view, _ = await get_delivery(session, org_id, webhook_id, delivery_id)
    return await add_delivery(session, org_id, webhook_id, view.event, is_replay=True)


async def _check_active(session: AsyncSession, org_id: UUID, webhook_id: UUID) -> None:
    """From here to the commit nobody switches it off."""
    webhook = await session.scalar(
        select(Webhook)
        .where(Webhook.org_id == org_id, Webhook.id == webhook_id)
        .with_for_update(read=True)
    )
    if webhook is None:
        raise NotFound("There is no such webhook.")
    if not webhook.is_active:
        raise Conflict("This webhook is switched off: switch it on first.", code="webhook_inactive")
