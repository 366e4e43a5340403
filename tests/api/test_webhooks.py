"""Webhooks from the event to a receiver on a socket: signed, retried, logged, kept apart."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID, uuid4

import httpx2
import pytest
from aiohttp import web
from sqlalchemy import text

from app.config import Environment, Settings
from app.ingestion.pipeline import Ingester
from app.models.accounts import MemberRole
from app.models.webhooks import WebhookEventType
from app.resources import Resources
from app.webhooks.deliveries import (
    GIVE_UP_AFTER,
    LEASE_S,
    MAX_PER_WEBHOOK,
    RETRY_WAITS_S,
    claim,
)
from app.webhooks.outbox import emit
from app.webhooks.sending import WebhookSender
from tests.conftest import ingest_all, serve
from tests.key_holders import set_role
from tests.people import Person, sign_in

ALL = [event.value for event in WebhookEventType]


@dataclass(slots=True)
class Receiver:
    """A customer's server. Answers with `statuses` one after the other, then with 204."""

    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.received]

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.received) < count:
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    _runner: web.AppRunner = field(init=False, repr=False)

    async def _receive(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 204
        return web.Response(status=status, headers=self.headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def add(person: Person, url: str, events: list[str] | None = None) -> dict[str, Any]:
    response = await person.post("/api/v1/webhooks", json={"url": url, "events": events or ALL})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def log_of(person: Person, webhook_id: str) -> list[dict[str, Any]]:
    response = await person.get(f"/api/v1/webhooks/{webhook_id}/deliveries")
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def wait_for_status(person: Person, webhook_id: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            log = await log_of(person, webhook_id)
            if log and log[0]["status"] == status and log[0]["last_attempt"]:
                return log[0]
            await asyncio.sleep(0.05)


async def tell(resources: Resources, person: Person) -> None:
    async with resources.db.transaction(await principal_of(person, resources)) as session:
        await emit(session, person.org_id, WebhookEventType.BUDGET_ALERT, {"percent": 80})


async def principal_of(person: Person, resources: Resources) -> Any:
    return await resources.principals.resolve(person.tokens["access_token"])


async def make_due(resources: Resources, org_id: UUID) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE org_id = :org"),
            {"org": org_id},
        )


def verify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """As the specification's own libraries do it."""
    sent = {name.lower(): value for name, value in headers.items()}
    signed = f"{sent['webhook-id']}.{sent['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert abs(time.time() - int(sent["webhook-timestamp"])) < 60
    return f"v1,{expected}" in sent["webhook-signature"].split(" ")


async def test_documents_are_told_of_signed_and_logged(
    person: Person, ingester: Ingester, receiver: Receiver
) -> None:
    webhook = await add(person, receiver.url)
    document = (await person.upload("zoo.txt", b"The zoo has two lions. " * 20)).json()
    await ingest_all(ingester)
    await person.upload("empty.pdf", b"%PDF-1.4 nothing in it")
    await ingest_all(ingester)
    await person.delete(f"/api/v1/documents/{document['document_id']}")
    await receiver.wait_for(3)

    told = {body["type"]: body["data"] for body in receiver.bodies()}
    assert told.keys() == {"document.ready", "document.failed", "document.deleted"}
    assert told["document.ready"]["document_id"] == document["document_id"]
    assert told["document.ready"]["filename"] == "zoo.txt"
    assert told["document.failed"]["error_code"]
    assert all(verify(webhook["secret"], *each) for each in receiver.received)
    assert not verify("whsec_" + base64.b64encode(b"another").decode(), *receiver.received[0])
    log = await log_of(person, webhook["id"])
    assert [entry["type"] for entry in log][::-1] == [
        "document.ready",
        "document.failed",
        "document.deleted",
    ]


async def test_runs_are_told_of_without_their_words(person: Person, receiver: Receiver) -> None:
    webhook = await add(person, receiver.url, ["run.completed"])
    answer = await person.post(
        "/api/v1/chat/runs",
        json={"messages": [{"role": "user", "content": "Where is the canary 7f3a?"}]},
    )
    assert answer.status_code == 201, answer.text
    await receiver.wait_for(1)

    [body] = receiver.bodies()
    assert body["type"] == "run.completed"
    assert body["data"]["run_id"] == answer.json()["run_id"]
    assert b"7f3a" not in receiver.received[0][1]
    assert (await wait_for_status(person, webhook["id"], "delivered"))["attempts"] == 1


async def test_a_refusal_is_tried_again_until_it_is_taken(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302, 204]
    receiver.headers = {"Location": receiver.url}
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    for attempt, error in ((1, "refused"), (2, "redirected")):
        await receiver.wait_for(attempt)
        async with asyncio.timeout(20):
            while (entry := (await log_of(person, webhook["id"]))[0])["last_attempt"] is None or (
                entry["last_attempt"]["number"] != attempt
            ):
                await asyncio.sleep(0.05)
        assert entry["status"] == "pending"
        assert entry["last_attempt"]["error"] == error
        assert entry["next_attempt_at"] > entry["created_at"]
        await make_due(resources, person.org_id)

    entry = await wait_for_status(person, webhook["id"], "delivered")
    assert entry["attempts"] == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    details = await person.get(f"/api/v1/webhooks/{webhook['id']}/deliveries/{entry['id']}")
    assert [each["status_code"] for each in details.json()["log"]] == [500, 302, 204]
    assert details.json()["data"] == {"percent": 80}


def test_retries_go_on_for_a_day() -> None:
    assert sum(RETRY_WAITS_S) == pytest.approx(GIVE_UP_AFTER.total_seconds(), rel=0.01)
    assert list(RETRY_WAITS_S) == sorted(RETRY_WAITS_S)


async def test_after_a_day_it_has_failed_and_can_be_replayed(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    receiver.statuses = [503, 503]
    receiver.headers = {"Retry-After": "600"}
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    await receiver.wait_for(1)
    await wait_for_status(person, webhook["id"], "pending")
    async with resources.db.system_transaction() as session:
        waits_s = await session.scalar(
            text(
                "SELECT extract(epoch FROM next_attempt_at - now()) FROM webhook_deliveries"
                " WHERE org_id = :org"
            ),
            {"org": person.org_id},
        )
        assert 500 < waits_s <= 600
        await session.execute(
            text(
                "UPDATE webhook_deliveries SET created_at = now() - interval '24 hours',"
                " next_attempt_at = now() WHERE org_id = :org"
            ),
            {"org": person.org_id},
        )
    failed = await wait_for_status(person, webhook["id"], "failed")

    path = f"/api/v1/webhooks/{webhook['id']}/deliveries/{failed['id']}/replay"
    replayed = await person.post(path)
    assert replayed.status_code == 202
    assert replayed.json()["is_replay"]
    await receiver.wait_for(3)
    assert receiver.received[0][0]["webhook-id"] == receiver.received[2][0]["webhook-id"]
    assert receiver.received[0][1] == receiver.received[2][1]


async def test_gone_switches_it_off(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    receiver.statuses = [410]
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    await wait_for_status(person, webhook["id"], "failed")
    assert not (await person.get(f"/api/v1/webhooks/{webhook['id']}")).json()["is_active"]
    await tell(resources, person)
    assert len(await log_of(person, webhook["id"])) == 1


async def test_while_it_is_switched_off_nothing_is_replayed(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    sent = await wait_for_status(person, webhook["id"], "delivered")
    path = f"/api/v1/webhooks/{webhook['id']}"
    replay = f"{path}/deliveries/{sent['id']}/replay"

    async def switch(*, is_active: bool) -> None:
        body = {"is_active": is_active}
        changed = await person.client.patch(path, headers=person.headers, json=body)
        assert changed.status_code == 200

    await switch(is_active=False)
    refused = await person.post(replay)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "webhook_inactive")
    assert "switch it on" in refused.json()["error"]["message"]
    assert len(await log_of(person, webhook["id"])) == 1
    await switch(is_active=True)
    assert (await person.post(replay)).status_code == 202
    await receiver.wait_for(2)


async def test_a_description_shows_nothing_but_what_it_is(
    person: Person, receiver: Receiver
) -> None:
    body = {"url": receiver.url, "events": ALL, "description": "pay\u202eroll\u0007 \n a\u200bb"}
    created = (await person.post("/api/v1/webhooks", json=body)).json()
    assert created["description"] == "payroll ab"
    changed = await person.client.patch(
        f"/api/v1/webhooks/{created['id']}",
        headers=person.headers,
        json={"description": "\u2066\u202d"},
    )
    assert changed.json()["description"] == ""
    reordered = {"url": f"{receiver.url}/\u202egpj.exe", "events": ALL}
    assert (await person.post("/api/v1/webhooks", json=reordered)).status_code == 422


async def test_what_is_rolled_back_is_not_told(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    webhook = await add(person, receiver.url)
    principal = await principal_of(person, resources)
    with pytest.raises(RuntimeError, match="after all"):
        async with resources.db.transaction(principal) as session:
            await emit(session, person.org_id, WebhookEventType.BUDGET_ALERT, {})
            raise RuntimeError("not after all")
    assert await log_of(person, webhook["id"]) == []


async def test_a_delivery_whose_process_died_is_due_again(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    """Claimed and never recorded: that is what a kill leaves."""
    receiver.statuses = [500]
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    await receiver.wait_for(1)
    await wait_for_status(person, webhook["id"], "pending")
    await make_due(resources, person.org_id)
    async with resources.db.system_transaction() as session:
        claimed = [due for due in await claim(session, limit=50) if due.org_id == person.org_id]
        again = [due for due in await claim(session, limit=50) if due.org_id == person.org_id]
        lease_s = await session.scalar(
            text(
                "SELECT extract(epoch FROM next_attempt_at - now()) FROM webhook_deliveries"
                " WHERE org_id = :org"
            ),
            {"org": person.org_id},
        )
    if claimed:  # else the server's own courier was quicker
        assert again == []
        assert lease_s == pytest.approx(LEASE_S, abs=1)
        await make_due(resources, person.org_id)
    await wait_for_status(person, webhook["id"], "delivered")


async def test_an_address_that_hangs_holds_up_nobody_else(
    person: Person, stranger: Person, resources: Resources, receiver: Receiver
) -> None:
    answer, calls = asyncio.Event(), 0

    async def hang(_request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await answer.wait()
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", hang)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await add(stranger, f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await add(person, receiver.url)
        for _ in range(30):
            await tell(resources, stranger)
        for count in (1, 2, 3):
            await tell(resources, person)
            await receiver.wait_for(count)
        assert 0 < calls <= MAX_PER_WEBHOOK
    finally:
        answer.set()
        await runner.cleanup()


async def test_both_secrets_sign_while_one_replaces_the_other(
    person: Person, resources: Resources, receiver: Receiver
) -> None:
    webhook = await add(person, receiver.url)
    renewed = (await person.post(f"/api/v1/webhooks/{webhook['id']}/secret")).json()
    assert renewed["secret"] != webhook["secret"]
    await tell(resources, person)
    await receiver.wait_for(1)
    assert verify(webhook["secret"], *receiver.received[0])
    assert verify(renewed["secret"], *receiver.received[0])

    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE webhooks SET old_secret_until = now() WHERE org_id = :org"),
            {"org": person.org_id},
        )
    await person.post(f"/api/v1/webhooks/{webhook['id']}/test")
    await receiver.wait_for(2)
    assert not verify(webhook["secret"], *receiver.received[1])
    assert verify(renewed["secret"], *receiver.received[1])


async def test_secrets_are_shown_once_and_stored_sealed(
    person: Person, resources: Resources
) -> None:
    webhook = await add(person, "http://127.0.0.1:9/")
    shown = (await person.get("/api/v1/webhooks")).text
    assert webhook["secret"] not in shown
    assert "whsec_" not in shown
    async with resources.db.system_transaction() as session:
        rows = await session.execute(
            text("SELECT * FROM webhooks WHERE org_id = :org"), {"org": person.org_id}
        )
        assert webhook["secret"].removeprefix("whsec_") not in str(rows.one())


async def test_in_production_a_name_that_means_this_machine_is_not_called(
    receiver: Receiver,
) -> None:
    sender = WebhookSender(allows_private=False)
    try:
        for host in ("localhost", "127.0.0.1", "[::ffff:127.0.0.1]"):
            outcome = await sender.send(f"http://{host}:{receiver.port}/", b"{}", {})
            assert (outcome.status_code, outcome.error) == (None, "blocked_address"), host
    finally:
        await sender.aclose()
    assert receiver.received == []


async def test_what_goes_wrong_on_the_way_has_a_name(receiver: Receiver) -> None:
    is_over = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    hanging = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = hanging.sockets[0].getsockname()[1]
    sender = WebhookSender(allows_private=True, timeout_s=0.3)
    try:
        assert (await sender.send(f"http://127.0.0.1:{port}/", b"{}", {})).error == "timeout"
        assert (await sender.send("http://127.0.0.1:9/", b"{}", {})).error == "connection_failed"
        tls = await sender.send(f"https://127.0.0.1:{receiver.port}/", b"{}", {})
        assert tls.error in {"tls_failed", "connection_failed"}
    finally:
        is_over.set()
        await sender.aclose()
        hanging.close()
        await hanging.wait_closed()


async def test_webhooks_of_production_are_https_and_public(settings: Settings) -> None:
    production = settings.model_copy(
        update={
            "environment": Environment.PRODUCTION,
            "secret_key": type(settings.secret_key)("k" * 40),
        }
    )
    async with serve(production) as (_, client):
        credentials = {"email": f"p-{uuid4().hex}@example.com", "password": "correct horse"}
        tokens = (await client.post("/api/v1/auth/register", json=credentials)).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        for url in ("http://example.com/", "https://127.0.0.1/", "https://[::1]/"):
            body = {"url": url, "events": ALL}
            response = await client.post("/api/v1/webhooks", json=body, headers=headers)
            assert response.status_code == 422
            assert response.json()["error"]["code"] == "invalid_webhook_url"


async def test_strangers_and_members_have_nothing_to_do_with_them(
    person: Person, stranger: Person, resources: Resources, receiver: Receiver
) -> None:
    webhook = await add(person, receiver.url)
    await tell(resources, person)
    delivery = await wait_for_status(person, webhook["id"], "delivered")
    path = f"/api/v1/webhooks/{webhook['id']}"
    for response in (
        await stranger.get(path),
        await stranger.delete(path),
        await stranger.get(f"{path}/deliveries"),
        await stranger.get(f"{path}/deliveries/{delivery['id']}"),
        await stranger.post(f"{path}/deliveries/{delivery['id']}/replay"),
        await stranger.post(f"{path}/test"),
        await stranger.post(f"{path}/secret"),
        await stranger.client.patch(path, headers=stranger.headers, json={"is_active": False}),
    ):
        assert response.status_code == 404
    assert (await stranger.get("/api/v1/webhooks")).json() == {"items": []}

    await set_role(resources, person, MemberRole.MEMBER)
    member = await sign_in(person.client, person.email)
    assert (await member.get(path)).status_code == 403
    assert (await member.get("/api/v1/webhooks")).status_code == 403


async def test_changes_and_bad_input(person: Person, receiver: Receiver) -> None:
    webhook = await add(person, receiver.url, ["run.failed", "run.failed"])
    assert webhook["events"] == ["run.failed"]
    path = f"/api/v1/webhooks/{webhook['id']}"

    async def patch(body: dict[str, Any]) -> httpx2.Response:
        return await person.client.patch(path, headers=person.headers, json=body)

    changed = await patch({"events": ["document.ready"], "description": "CRM", "is_active": False})
    assert changed.json()["events"] == ["document.ready"]
    assert (changed.json()["description"], changed.json()["is_active"]) == ("CRM", False)
    assert (await person.post(f"{path}/test")).status_code == 409
    bad: list[dict[str, Any]] = [
        {},
        {"events": []},
        {"events": ["x"]},
        {"url": "x"},
        {"secret": "x"},
    ]
    for body in bad:
        assert (await patch(body)).status_code == 422, body
    assert (await person.get(f"{path}/deliveries?cursor=x")).status_code == 400
    assert (await person.delete(path)).status_code == 204
    assert (await person.get(path)).status_code == 404
    for _ in range(18):
        await add(person, receiver.url)
    body = {"url": receiver.url, "events": ALL}
    answers = await asyncio.gather(*(person.post("/api/v1/webhooks", json=body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 4
    full = await person.post("/api/v1/webhooks", json=body)
    assert full.json()["error"]["code"] == "too_many_webhooks"
