"""Deliveries: which are due, how they went, when to try again, and their log."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import delete_batch
from app.core.errors import NotFound
from app.core.ids import new_id
from app.core.pagination import Cursor, Page
from app.models.webhooks import (
    DeliveryStatus,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEvent,
)
from app.webhooks.sending import Outcome

# Seconds after each attempt until the next: 24 hours in all.
RETRY_WAITS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 37_000)
GIVE_UP_AFTER = timedelta(hours=24)
KEPT_FOR = timedelta(days=30)
# Longer than a request takes: a delivery whose process died is due again behind it.
LEASE_S = 30
# So that one address that hangs does not hold up all others.
MAX_PER_WEBHOOK = 3
_GONE = 410
_JITTER = 0.1
_RANDOM = random.SystemRandom()

_CLAIM = text("""
    WITH due AS (
        SELECT d.org_id, d.id, d.next_attempt_at,
            row_number() OVER (PARTITION BY d.webhook_id ORDER BY d.next_attempt_at, d.id) AS place,
            row_number() OVER (PARTITION BY d.org_id ORDER BY d.next_attempt_at, d.id) AS turn
        FROM webhook_deliveries d
        JOIN webhooks w ON w.org_id = d.org_id AND w.id = d.webhook_id AND w.is_active
        WHERE d.status = 'pending' AND d.next_attempt_at <= now() AND d.webhook_id <> ALL(:busy)),
    held AS (
        SELECT d.org_id, d.id
        FROM webhook_deliveries d JOIN due USING (org_id, id)
        WHERE due.place <= :per_webhook AND d.status = 'pending' AND d.next_attempt_at <= now()
        ORDER BY due.turn, due.next_attempt_at
        LIMIT :limit
        FOR UPDATE OF d SKIP LOCKED)
    UPDATE webhook_deliveries d
    SET attempts = d.attempts + 1, next_attempt_at = now() + make_interval(secs => :lease_s)
    FROM held, webhooks w, webhook_events e
    WHERE d.org_id = held.org_id AND d.id = held.id
      AND w.org_id = d.org_id AND w.id = d.webhook_id
      AND e.org_id = d.org_id AND e.id = d.event_id
    RETURNING d.org_id, d.id, d.webhook_id, d.attempts, d.created_at, w.url, w.sealed_secret,
        CASE WHEN w.old_secret_until > now() THEN w.sealed_old_secret END AS sealed_old_secret,
        e.id AS event_id, e.type, e.data, e.created_at AS happened_at, now() AS sent_at
""")


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that this process is to send. `attempt` counts from 1."""

    org_id: UUID
    id: UUID
    webhook_id: UUID
    attempt: int
    created_at: datetime
    url: str
    sealed_secrets: tuple[bytes, ...]
    event_id: UUID
    type: str
    data: dict[str, Any]
    happened_at: datetime
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A line of the log; `last` is None before the first attempt."""

    delivery: WebhookDelivery
    event: WebhookEvent
    last: WebhookAttempt | None


async def claim(
    session: AsyncSession, *, limit: int, busy: Iterable[UUID] = ()
) -> list[DueDelivery]:
    """Take deliveries that are due: organizations take turns, the oldest of each goes first.

    A few of each webhook, and none of the `busy` ones. Needs a system transaction. Two callers
    don't get the same one.
    """
    values = {
        "limit": limit,
        "per_webhook": MAX_PER_WEBHOOK,
        "lease_s": LEASE_S,
        "busy": list(busy),
    }
    rows = (await session.execute(_CLAIM, values)).all()
    return [
        DueDelivery(
            org_id=row.org_id,
            id=row.id,
            webhook_id=row.webhook_id,
            attempt=row.attempts,
            created_at=row.created_at,
            url=row.url,
            sealed_secrets=tuple(
                each for each in (row.sealed_secret, row.sealed_old_secret) if each is not None
            ),
            event_id=row.event_id,
            type=row.type,
            data=row.data,
            happened_at=row.happened_at,
            sent_at=row.sent_at,
        )
        for row in rows
    ]


async def record(session: AsyncSession, due: DueDelivery, outcome: Outcome) -> DeliveryStatus:
    """Log the attempt and say when the next one is. Returns what the delivery is now.

    One that somebody else has sent meanwhile, after our lease, stays as they left it.
    """
    await session.execute(
        insert(WebhookAttempt).values(
            org_id=due.org_id,
            delivery_id=due.id,
            number=due.attempt,
            attempted_at=due.sent_at,
            duration_ms=outcome.duration_ms,
            status_code=outcome.status_code,
            error=outcome.error,
        )
    )
    status = _judge(due, outcome)
    values: dict[str, Any] = {"status": status}
    if status is DeliveryStatus.PENDING:
        values["next_attempt_at"] = func.now() + _wait(due.attempt, outcome)
    else:
        values["finished_at"] = func.now()
    await session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.org_id == due.org_id,
            WebhookDelivery.id == due.id,
            WebhookDelivery.attempts == due.attempt,
        )
        .values(**values)
    )
    if outcome.status_code == _GONE:
        await _deactivate(session, due)
    return status


async def list_deliveries(
    session: AsyncSession,
    org_id: UUID,
    webhook_id: UUID,
    *,
    status: DeliveryStatus | None,
    cursor: Cursor | None,
    limit: int,
) -> Page[DeliveryView]:
    """Return a page of a webhook's log, newest first."""
    query = _views(org_id).where(WebhookDelivery.webhook_id == webhook_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    key = tuple_(WebhookDelivery.created_at, WebhookDelivery.id)
    if cursor is not None:
        query = query.where(key < tuple_(cursor.created_at, cursor.id))
    order = (WebhookDelivery.created_at.desc(), WebhookDelivery.id.desc())
    rows = (await session.execute(query.order_by(*order).limit(limit + 1))).all()
    return Page.of(
        [_view(row) for row in rows],
        limit,
        lambda view: Cursor(view.delivery.created_at, view.delivery.id).encode(),
    )


async def get_delivery(
    session: AsyncSession, org_id: UUID, webhook_id: UUID, delivery_id: UUID
) -> tuple[DeliveryView, Sequence[WebhookAttempt]]:
    """Return a delivery with all its attempts, the first one first. Raises NotFound."""
    query = _views(org_id).where(
        WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.id == delivery_id
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise NotFound("There is no such delivery.")
    attempts = await session.scalars(
        select(WebhookAttempt)
        .where(WebhookAttempt.org_id == org_id, WebhookAttempt.delivery_id == delivery_id)
        .order_by(WebhookAttempt.number)
    )
    return _view(row), attempts.all()


async def add_delivery(
    session: AsyncSession,
    org_id: UUID,
    webhook_id: UUID,
    event: WebhookEvent,
    *,
    is_replay: bool = False,
) -> DeliveryView:
    """Queue one delivery of an event that is there."""
    delivery = WebhookDelivery(
        org_id=org_id, id=new_id(), webhook_id=webhook_id, event_id=event.id, is_replay=is_replay
    )
    session.add(delivery)
    await session.flush()
    await session.refresh(delivery)
    return DeliveryView(delivery, event, None)


async def delete_old(session: AsyncSession) -> int:
    """Delete events of more than 30 days ago with their log, 10,000 at most. Returns how many."""
    return await delete_batch(
        session, WebhookEvent, WebhookEvent.created_at < func.now() - KEPT_FOR
    )


def _views(org_id: UUID) -> Select[WebhookDelivery, WebhookEvent, WebhookAttempt]:
    return (
        select(WebhookDelivery, WebhookEvent, WebhookAttempt)
        .join(
            WebhookEvent,
            and_(
                WebhookEvent.org_id == WebhookDelivery.org_id,
                WebhookEvent.id == WebhookDelivery.event_id,
            ),
        )
        .outerjoin(
            WebhookAttempt,
            and_(
                WebhookAttempt.org_id == WebhookDelivery.org_id,
                WebhookAttempt.delivery_id == WebhookDelivery.id,
                WebhookAttempt.number == WebhookDelivery.attempts,
            ),
        )
        .where(WebhookDelivery.org_id == org_id)
    )


def _view(row: Row[WebhookDelivery, WebhookEvent, WebhookAttempt]) -> DeliveryView:
    delivery, event, last = row
    return DeliveryView(delivery, event, last)


def _judge(due: DueDelivery, outcome: Outcome) -> DeliveryStatus:
    if outcome.is_delivered:
        return DeliveryStatus.DELIVERED
    is_over = due.attempt > len(RETRY_WAITS_S) or due.sent_at - due.created_at >= GIVE_UP_AFTER
    if outcome.status_code == _GONE or is_over:
        return DeliveryStatus.FAILED
    return DeliveryStatus.PENDING


def _wait(attempt: int, outcome: Outcome) -> timedelta:
    wait_s = RETRY_WAITS_S[attempt - 1] * _RANDOM.uniform(1 - _JITTER, 1 + _JITTER)
    return timedelta(seconds=max(wait_s, outcome.retry_after_s))


async def _deactivate(session: AsyncSession, due: DueDelivery) -> None:
    """The other end says that it is gone for good."""
    webhook_id = select(WebhookDelivery.webhook_id).where(
        WebhookDelivery.org_id == due.org_id, WebhookDelivery.id == due.id
    )
    await session.execute(
        update(Webhook)
        .where(Webhook.org_id == due.org_id, Webhook.id == webhook_id.scalar_subquery())
        .values(is_active=False)
    )
