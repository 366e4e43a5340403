"""Sends what is due. In every API process; each delivery is taken by one of them."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from app.core.db import Database
from app.core.metrics import WEBHOOK_DELIVERIES
from app.core.periodic import run_periodically
from app.core.sealing import Sealer
from app.webhooks import deliveries
from app.webhooks.deliveries import MAX_PER_WEBHOOK, DueDelivery
from app.webhooks.sending import Outcome, WebhookSender
from app.webhooks.signing import sign

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 1.0
_MAX_AT_ONCE = 20


@dataclass(slots=True)
class Courier:
    """A delivery whose process dies in the middle is sent again after its lease: receivers tell
    repetitions by `webhook-id`."""

    db: Database
    sealer: Sealer
    sender: WebhookSender
    _under_way: dict[asyncio.Task[None], UUID] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Deliver until cancelled. A database that is away is waited for."""
        try:
            await run_periodically("webhooks", self.send_due, LOOK_INTERVAL_S)
        finally:
            for task in self._under_way:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._under_way, return_exceptions=True)
            await self.sender.aclose()

    async def send_due(self) -> int:
        """Begin to send what is due, as much as may be under way at once. Returns how many."""
        free = _MAX_AT_ONCE - len(self._under_way)
        if free <= 0:
            return 0
        async with self.db.system_transaction() as session:
            due = await deliveries.claim(session, limit=free, busy=self._busy())
        for delivery in due:
            task = asyncio.create_task(self._send(delivery))
            self._under_way[task] = delivery.webhook_id
            task.add_done_callback(self._under_way.pop)
        return len(due)

    def _busy(self) -> list[UUID]:
        """Return the webhooks that have as many under way as they may."""
        counts = Counter(self._under_way.values())
        return [webhook_id for webhook_id, count in counts.items() if count >= MAX_PER_WEBHOOK]

    async def _send(self, due: DueDelivery) -> None:
        try:
            outcome = await self._post(due)
            async with self.db.system_transaction() as session:
                status = await deliveries.record(session, due, outcome)
            WEBHOOK_DELIVERIES.labels(outcome=outcome.error or "delivered").inc()
            log.info("webhook_sent", status=status.value, error=outcome.error, attempt=due.attempt)
        except Exception:  # it is due again when its lease has run out
            log.exception("webhook_lost")

    async def _post(self, due: DueDelivery) -> Outcome:
        secrets = [self.sealer.unseal(sealed) for sealed in due.sealed_secrets]
        known = [secret for secret in secrets if secret is not None]
        if not known:
            return Outcome(None, "secret_lost", 0)
        body = json.dumps(
            {"type": due.type, "timestamp": due.happened_at.isoformat(), "data": due.data},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        headers = sign(
            body, message_id=f"msg_{due.event_id.hex}", sent_at=due.sent_at, secrets_=known
        )
        return await self.sender.send(due.url, body, headers)
