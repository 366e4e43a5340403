"""Webhooks of an organization, and the log of what was sent to them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Query, status
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.audit_trail import Noted
from app.core.pagination import Cursor
from app.core.text import AnyText, CleanLine
from app.dependencies import OrganizationManager, ResourcesDep
from app.models.webhooks import DeliveryStatus, Webhook, WebhookAttempt, WebhookEventType
from app.webhooks import deliveries, endpoints
from app.webhooks.addresses import check_url
from app.webhooks.deliveries import DeliveryView
from app.webhooks.endpoints import Change

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

_Events = Annotated[list[WebhookEventType], Field(min_length=1, max_length=len(WebhookEventType))]


class WebhookIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: AnyText = Field(
        max_length=2_000, description="Public and https, but for local installations."
    )
    description: CleanLine = Field(default="", max_length=200)
    events: _Events


class WebhookPatch(BaseModel):
    """What is not named stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: AnyText | None = Field(default=None, max_length=2_000)
    description: CleanLine | None = Field(default=None, max_length=200)
    events: _Events | None = None
    is_active: bool | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name at least one of url, description, events and is_active")
        return self


class WebhookOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    url: str
    description: str
    events: list[str]
    is_active: bool = Field(description="False also after the address answered 410.")
    created_at: datetime


class WebhookWithSecret(WebhookOut):
    secret: str = Field(description="Shown only here. The key of Standard Webhooks, `whsec_…`.")


class Webhooks(BaseModel):
    items: list[WebhookOut]


class AttemptOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    number: int
    attempted_at: datetime
    duration_ms: int
    status_code: int | None = Field(description="Null where no answer came.")
    error: str | None = Field(
        description="refused, redirected, timeout, connection_failed, unknown_host, tls_failed, "
        "blocked_address, invalid_url or secret_lost; null where it went well."
    )


class DeliveryOut(BaseModel):
    id: UUID
    message_id: str = Field(description="The header `webhook-id`: the same for each repetition.")
    type: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None = Field(description="Null unless it is pending.")
    is_replay: bool
    created_at: datetime
    finished_at: datetime | None
    last_attempt: AttemptOut | None


class DeliveryDetails(DeliveryOut):
    data: dict[str, Any] = Field(description="What is sent as `data`.")
    log: list[AttemptOut] = Field(description="All attempts, the first one first.")


class DeliveryPage(BaseModel):
    items: list[DeliveryOut]
    next_cursor: str | None


@router.get("")
async def list_webhooks(caller: OrganizationManager, resources: ResourcesDep) -> Webhooks:
    """All webhooks of the organization, the oldest first."""
    async with resources.db.transaction(caller) as session:
        found = await endpoints.list_webhooks(session, caller.org_id)
    return Webhooks(items=[WebhookOut.model_validate(webhook) for webhook in found])


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_webhook(
    body: WebhookIn, caller: OrganizationManager, resources: ResourcesDep, note: Noted
) -> WebhookWithSecret:
    """Add one; the secret that signs is shown only in this answer."""
    url = check_url(body.url, allows_private=not resources.settings.is_production)
    async with resources.db.transaction(caller) as session:
        webhook, secret = await endpoints.add_webhook(
            session,
            caller.org_id,
            url=url,
            description=body.description,
            events=_unique(body.events),
            created_by=caller.user_id,
            sealer=resources.sealer,
        )
    note.object_id = str(webhook.id)
    note.details = _named(body, url)
    return _with_secret(webhook, secret)


@router.get("/{webhook_id}")
async def get_webhook(
    webhook_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> WebhookOut:
    async with resources.db.transaction(caller) as session:
        webhook = await endpoints.get_webhook(session, caller.org_id, webhook_id)
    return WebhookOut.model_validate(webhook)


@router.patch("/{webhook_id}")
async def change_webhook(
    webhook_id: UUID,
    body: WebhookPatch,
    caller: OrganizationManager,
    resources: ResourcesDep,
    note: Noted,
) -> WebhookOut:
    """Change what is named. One that is switched on again gets what it missed, if not too old."""
    url = body.url
    if url is not None:
        url = check_url(url, allows_private=not resources.settings.is_production)
    note.details = _named(body, url)
    change = Change(
        url=url,
        description=body.description,
        events=None if body.events is None else _unique(body.events),
        is_active=body.is_active,
    )
    async with resources.db.transaction(caller) as session:
        webhook = await endpoints.change_webhook(session, caller.org_id, webhook_id, change)
    return WebhookOut.model_validate(webhook)


@router.delete("/{webhook_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_webhook(
    webhook_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> None:
    """Remove it with its log."""
    async with resources.db.transaction(caller) as session:
        await endpoints.delete_webhook(session, caller.org_id, webhook_id)


@router.post("/{webhook_id}/secret")
async def renew_secret(
    webhook_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> WebhookWithSecret:
    """Make a new secret. For 24 hours requests are signed with the old one too."""
    async with resources.db.transaction(caller) as session:
        webhook, secret = await endpoints.renew_secret(
            session, caller.org_id, webhook_id, sealer=resources.sealer
        )
    return _with_secret(webhook, secret)


@router.post("/{webhook_id}/test", status_code=status.HTTP_202_ACCEPTED)
async def send_test(
    webhook_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> DeliveryOut:
    """Send the event `webhook.test`; the log shows what came of it."""
    async with resources.db.transaction(caller) as session:
        view = await endpoints.send_test(session, caller.org_id, webhook_id)
    return DeliveryOut(**_facts(view))


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: UUID,
    caller: OrganizationManager,
    resources: ResourcesDep,
    status: DeliveryStatus | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeliveryPage:
    """What was sent to it in the last 30 days, newest first."""
    after = Cursor.decode(cursor) if cursor is not None else None
    async with resources.db.transaction(caller) as session:
        await endpoints.get_webhook(session, caller.org_id, webhook_id)
        page = await deliveries.list_deliveries(
            session, caller.org_id, webhook_id, status=status, cursor=after, limit=limit
        )
    return DeliveryPage(
        items=[DeliveryOut(**_facts(view)) for view in page.items], next_cursor=page.next_cursor
    )


@router.get("/{webhook_id}/deliveries/{delivery_id}")
async def get_delivery(
    webhook_id: UUID, delivery_id: UUID, caller: OrganizationManager, resources: ResourcesDep
) -> DeliveryDetails:
    """One delivery with what was sent and all attempts."""
    async with resources.db.transaction(caller) as session:
        view, attempts = await deliveries.get_delivery(
            session, caller.org_id, webhook_id, delivery_id
        )
    return DeliveryDetails(
        **_facts(view),
        data=view.event.data,
        log=[AttemptOut.model_validate(attempt) for attempt in attempts],
    )


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=status.HTTP_202_ACCEPTED)
async def replay_delivery(
    webhook_id: UUID,
    delivery_id: UUID,
    caller: OrganizationManager,
    resources: ResourcesDep,
    note: Noted,
) -> DeliveryOut:
    """Send the same event once more, with the same `webhook-id`.

    409 `webhook_inactive` for a webhook that is switched off.
    """
    note.details = {"webhook_id": str(webhook_id)}
    async with resources.db.transaction(caller) as session:
        view = await endpoints.replay(session, caller.org_id, webhook_id, delivery_id)
    return DeliveryOut(**_facts(view))


def _named(body: WebhookIn | WebhookPatch, url: str | None) -> dict[str, Any]:
    """Return what was named, for the audit log. The path of a URL is often a secret: its host."""
    details = body.model_dump(mode="json", exclude_unset=True, exclude={"url"})
    return details if url is None else details | {"host": urlsplit(url).hostname}


def _unique(events: Sequence[WebhookEventType]) -> list[WebhookEventType]:
    return list(dict.fromkeys(events))


def _with_secret(webhook: Webhook, secret: str) -> WebhookWithSecret:
    shown = WebhookOut.model_validate(webhook)
    return WebhookWithSecret(**shown.model_dump(), secret=secret)


def _facts(view: DeliveryView) -> dict[str, Any]:
    delivery = view.delivery
    is_pending = delivery.status == DeliveryStatus.PENDING
    return {
        "id": delivery.id,
        "message_id": f"msg_{delivery.event_id.hex}",
        "type": view.event.type,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.next_attempt_at if is_pending else None,
        "is_replay": delivery.is_replay,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "last_attempt": _attempt(view.last),
    }


def _attempt(attempt: WebhookAttempt | None) -> AttemptOut | None:
    return None if attempt is None else AttemptOut.model_validate(attempt)
