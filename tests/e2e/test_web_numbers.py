"""Usage, budget, webhooks, audit log and the operators' pages of the web app, in a browser."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web
from playwright.async_api import Locator, expect

from app.audit_trail import AUDITED
from tests.e2e.web_app import Visitor, WebApp, file
from tests.people import PASSWORD, Person, sign_in
from tests.web_build import WEB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Debian's Chromium")

SETTLED_S = 20
QUESTION = "How wide is the spillway?"
NOTE = file("spillway.txt", b"The spillway is eleven meters wide.", "text/plain")
HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}"
OPERATORS_PAGES = ("All users", "All organizations", "Prices", "Model names", "Whole audit log")
OPERATORS_DATA = (
    *("users", "organizations", "prices", "model-aliases", "audit-log"),
    *("embedding-spaces", "index"),
)


@dataclass(slots=True)
class Receiver:
    """Somebody's server that webhooks lead to. Answers with `status`."""

    status: int = 204
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/footnote"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/footnote", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def operator(web_app: WebApp) -> AsyncIterator[Visitor]:
    """Somebody who runs the deployment, in a browser of their own."""
    async with web_app.visit() as operator:
        await operator.register()
        await steer_operators(web_app, "grant", operator.email)
        # A sign-in that is known already may take 5 s to be looked at again.
        await operator.page.context.clear_cookies()
        await operator.page.goto("/sign-in")
        await operator.sign_in()
        yield operator


async def test_usage_after_a_question(member: Visitor) -> None:
    totals = (await use_a_model(member))["totals"]
    tokens = totals["input_tokens"] + totals["output_tokens"]
    await open_settings(member, "usage")
    figures = member.page.get_by_role("region", name="Totals")
    await figures.get_by_text(f"{tokens:,}", exact=True).wait_for()
    await expect(figures).to_contain_text(f"{totals['input_tokens']:,} in")
    await expect(figures).to_contain_text("US$0.000")

    plot = member.page.get_by_role("slider", name="Tokens by day")
    await expect(plot).to_have_attribute("aria-valuetext", re.compile(rf": {tokens:,}, input "))
    await expect(plot.locator("rect.part-0")).to_have_count(1)
    await plot.press("ArrowLeft")
    await expect(plot).to_have_attribute("aria-valuetext", re.compile(r": 0, input 0, output 0$"))
    await expect(by_day(member).locator(".readout strong")).to_have_text("0")
    await plot.press("End")
    await expect(by_day(member).locator(".readout strong")).to_have_text(f"{tokens:,}")

    choice = member.page.get_by_role("group", name="What the plots show")
    await choice.get_by_text("Requests").click()
    plot = member.page.get_by_role("slider", name="Requests by day")
    await expect(plot).to_have_attribute(
        "aria-valuetext", re.compile(f": {totals['requests']}, answered ")
    )


async def test_the_table_behind_a_plot_and_its_csv(member: Visitor) -> None:
    totals = (await use_a_model(member))["totals"]
    await open_settings(member, "usage")
    models = member.page.get_by_role("table", name="Usage by model")
    row = models.get_by_role("row").filter(has_text="openai/gpt-4.1-mini")
    # Screen readers have it before it is asked for.
    await expect(row).to_contain_text(f"{totals['input_tokens']:,}")
    await member.button("Table: by model").click()
    await row.scroll_into_view_if_needed()
    await expect(row).to_be_in_viewport()
    people = member.page.get_by_role("table", name="Usage by member")
    await expect(people.get_by_role("rowheader")).to_have_text(member.email)

    async with member.page.expect_download() as downloading:
        await member.choose(member.button("Download as CSV"), "Days and models")
    lines = Path(await (await downloading.value).path()).read_text().splitlines()
    assert lines[0].startswith("day,model,")
    assert f",{totals['input_tokens']}," in lines[1]


async def test_a_period_without_use(member: Visitor) -> None:
    await use_a_model(member)
    await open_settings(member, "usage")
    await member.page.get_by_label("Period").select_option("Last month")
    await member.page.get_by_text("Nothing was used on these days.").first.wait_for()
    await member.page.get_by_label("Period").select_option("Other days")
    await member.page.get_by_label("First day").fill("2020-02-03")
    await member.page.get_by_label("Last day").fill("2020-02-04")
    await expect(member.page.get_by_text("Nothing was used on these days.")).to_have_count(3)


async def test_members_see_their_own_use_alone(member: Visitor) -> None:
    await use_a_model(member)
    async with member.app.visit() as guest:
        await join(member, guest)
        await open_settings(guest, "usage")
        await guest.page.get_by_text("You see your own use.").wait_for()
        await guest.page.get_by_text("Nothing was used on these days.").first.wait_for()
        await expect(guest.heading("By member")).to_have_count(0)
        await expect(guest.page.get_by_text(member.email)).to_have_count(0)
        await open_settings(guest, "budget")
        await guest.page.get_by_text("No limit is set").wait_for()
        await expect(guest.button("Set the limit")).to_have_count(0)


async def test_budget_gauge_and_alert(member: Visitor) -> None:
    await use_a_model(member)
    await open_settings(member, "budget")
    await member.page.get_by_text("No limit is set").wait_for()
    limit = member.page.get_by_label("Limit of a month")
    await limit.fill("a lot")
    await member.page.get_by_text("Write an amount such as 1250 or 7.50.").wait_for()
    await expect(member.button("Set the limit")).to_be_disabled()
    await limit.fill("5")
    await member.button("Set the limit").click()
    gauge = member.page.get_by_role("meter", name="Budget spent")
    await expect(gauge).to_have_attribute("aria-valuetext", re.compile(r" of US\$5\.00, 0%$"))

    alert = member.page.get_by_text("This month's budget of US$0.000001 is spent.")
    await expect(alert).to_have_count(0)
    await limit.fill("0.000001")
    await member.button("Set the limit").click()
    await alert.wait_for()
    await expect(gauge).to_have_attribute("aria-valuenow", "100")
    # It is said wherever one is, and once it is dismissed nowhere in this month.
    await member.page.goto("/documents")
    await alert.wait_for()
    await member.button("Dismiss for this month").click()
    await expect(alert).to_have_count(0)
    await open_settings(member, "budget")
    await gauge.wait_for()
    await expect(alert).to_have_count(0)

    await member.button("Remove the limit").click()
    await member.page.get_by_text("No limit is set").wait_for()
    budget = await member.call("/api/v1/budget")
    assert budget["limit_usd"] is None


async def test_limits_of_the_plan(member: Visitor) -> None:
    await member.upload_until_ready(NOTE)
    await open_settings(member, "budget")
    limits = member.page.get_by_role("region", name="Limits")
    await limits.get_by_text("Plan: Enterprise").wait_for()
    await expect(limits.get_by_role("listitem").filter(has_text="Documents")).to_contain_text(
        "1 of no limit"
    )


async def test_a_webhook_from_its_secret_to_the_log(member: Visitor, receiver: Receiver) -> None:
    secret = await add_webhook(member, receiver)
    await member.choose(member.button(f"Actions for {receiver.url}"), "Send a test")
    log = member.page.get_by_role("table", name="Deliveries")
    row = log.get_by_role("row").filter(has_text="webhook.test")
    await row.get_by_text("Delivered").wait_for()
    await expect(row).to_contain_text("204")
    headers, body = receiver.received[0]
    assert sign(secret, headers, body) in headers["webhook-signature"].split()
    assert json.loads(body)["type"] == "webhook.test"

    await row.get_by_role("button", name="Details: webhook.test").click()
    await member.dialog.get_by_text(headers["webhook-id"]).wait_for()
    await expect(member.dialog).to_contain_text('"webhook_id"')
    await member.dialog.get_by_role("button", name="Send again").click()
    await expect(log.get_by_text("Delivered")).to_have_count(2)
    assert [each["webhook-id"] for each, _ in receiver.received] == [headers["webhook-id"]] * 2
    await log.get_by_text("sent again").wait_for()

    # What was shown once is nowhere any more.
    await member.page.reload()
    await member.page.get_by_text(receiver.url).wait_for()
    await expect(member.page.get_by_text(secret)).to_have_count(0)


async def test_a_webhook_that_fails_is_pending(member: Visitor, receiver: Receiver) -> None:
    receiver.status = 500
    await add_webhook(member, receiver)
    await member.choose(member.button(f"Actions for {receiver.url}"), "Send a test")
    log = member.page.get_by_role("table", name="Deliveries")
    await log.get_by_text("Pending").wait_for()
    # Without a reload, for something is on its way.
    await log.get_by_text("500").wait_for()
    await member.page.get_by_label("Status").select_option("Delivered")
    await member.heading("There are none of this status").wait_for()
    await member.page.get_by_label("Status").select_option("Pending")
    await log.get_by_text("webhook.test").wait_for()


async def test_a_webhook_is_changed_switched_renewed_and_deleted(
    member: Visitor, receiver: Receiver
) -> None:
    first = await add_webhook(member, receiver)
    menu = member.button(f"Actions for {receiver.url}")
    item = member.page.get_by_role("listitem", name=receiver.url)
    await member.choose(menu, "Change")
    await member.dialog.get_by_label("Description").fill(HOSTILE)
    await member.dialog.get_by_label("An answer failed").check()
    await member.dialog.get_by_role("button", name="Save").click()
    await item.get_by_text(HOSTILE).wait_for()
    await item.get_by_text("run.failed").wait_for()

    await member.choose(menu, "Switch off")
    await item.get_by_text("Off", exact=True).wait_for()
    await menu.click()
    await expect(member.page.get_by_role("menuitem", name="Send a test")).to_be_disabled()
    await member.page.get_by_role("menuitem", name="Switch on").click()
    await item.get_by_text("On", exact=True).wait_for()

    await member.choose(menu, "Renew the secret")
    await member.dialog.get_by_role("button", name="Renew the secret").click()
    assert await read_secret(member) != first

    await member.choose(menu, "Delete")
    await member.dialog.get_by_role("button", name="Delete").click()
    await member.heading("There are no webhooks yet").wait_for()
    assert (await member.call("/api/v1/webhooks"))["items"] == []


# What is typed, and what the page says of it.
AMOUNTS = {
    "25": "That is US$25.00.",
    "7,5": "That is US$7.50.",
    "1,000.50": "That is US$1,000.50.",
    "1.000,50": "That is US$1,000.50.",
    "1 000": "That is US$1,000.00.",
    "1\u202f000,125": "That is US$1,000.125.",
    "1'000.5": "That is US$1,000.50.",
    "1,000,000": "That is US$1,000,000.00.",
    "0,125": "That is US$0.125.",
    "1234.567": "That is US$1,234.567.",
    "0.000000001": "That is US$0.000000001.",
    "1,000": "This can be read as 1000 or as 1: write one of these.",
    "12.345": "This can be read as 12345 or as 12.3450: write one of these.",
    "1,00,000": "Write an amount such as 1250 or 7.50.",
    "1,000,00": "Write an amount such as 1250 or 7.50.",
    "1.2.3": "Write an amount such as 1250 or 7.50.",
    "-3": "Write an amount such as 1250 or 7.50.",
    "1e3": "Write an amount such as 1250 or 7.50.",
    "0.0000000001": "At most 9 digits stand behind the point.",
}


async def test_an_amount_is_read_as_it_is_meant_or_not_at_all(member: Visitor) -> None:
    await open_settings(member, "budget")
    limit = member.page.get_by_label("Limit of a month")
    for typed, said in AMOUNTS.items():
        await limit.fill(typed)
        await expect(member.page.locator("form .field-note"), typed).to_contain_text(said)
        if said.startswith("That is"):
            await expect(member.button("Set the limit"), typed).to_be_enabled()
        else:
            await expect(member.button("Set the limit"), typed).to_be_disabled()
    # What is stored is never shown in a way that has two meanings.
    for typed, stored, shown in (("1,000.50", "1000.5", "1000.5"), ("1.1250", "1.125", "1.1250")):
        await limit.fill(typed)
        await member.button("Set the limit").click()
        await expect(limit).to_have_value(shown)
        assert (await member.call("/api/v1/budget"))["limit_usd"] == stored


async def test_all_fields_for_numbers_read_them_alike(operator: Visitor) -> None:
    dialog = operator.dialog
    await open_settings(operator, "api-keys")
    await operator.button("New key").click()
    await dialog.get_by_label("Name", exact=True).fill("typed")
    await dialog.get_by_text("Limits of its own").click()
    await dialog.get_by_label("Tokens a day").fill("1,250,000")
    await dialog.get_by_label("Requests a minute").fill("1.000")  # no part of a request is meant
    await dialog.get_by_label("US dollars a month").fill("1,000")
    create = dialog.get_by_role("button", name="Create key")
    await expect(create).to_be_disabled()
    await dialog.get_by_label("US dollars a month").fill("1,000.25")
    await create.click()
    await dialog.get_by_role("button", name="Done").click()
    [key] = (await operator.call("/api/v1/api-keys"))["items"]
    assert (key["tokens_per_day"], key["requests_per_minute"]) == (1_250_000, 1000)
    assert key["monthly_budget_nano"] == 1_000_250_000_000

    name = (await operator.call("/api/v1/auth/me"))["organization"]["name"]
    await open_settings(operator, "admin-organizations")
    await operator.page.get_by_label("Find by name").fill(name)
    await operator.button(f"Plan and limits of {name}").click()
    for label in ("Documents", "Storage in MB"):
        await dialog.get_by_label(label, exact=True).select_option("Own limit")
    await dialog.get_by_label("Documents: own limit").fill("12,000")
    await dialog.get_by_label("Storage in MB: own limit").fill("1.500")
    await expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    await dialog.get_by_text("1500 or as 1.5").wait_for()
    await dialog.get_by_label("Storage in MB: own limit").fill("1.5")
    await dialog.get_by_role("button", name="Save").click()
    await operator.page.get_by_text("The limits are set.").wait_for()
    limits = (await operator.call("/api/v1/organization/limits"))["limits"]
    assert (limits["documents"], limits["storage_bytes"]) == (12_000, 1_500_000)

    await open_settings(operator, "admin-prices")
    await operator.button("Set a price").click()
    await dialog.get_by_label("Model", exact=True).fill("openai/gpt-4.1")
    await dialog.get_by_label("Input", exact=True).fill("2.125")
    await dialog.get_by_label("Output", exact=True).fill("8")
    await expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    await dialog.get_by_label("Input", exact=True).fill("2.1250")
    await dialog.get_by_role("button", name="Save").click()
    await operator.choose(operator.button("Actions for openai/gpt-4.1"), "Change")
    await expect(dialog.get_by_label("Input", exact=True)).to_have_value("2.1250")
    await expect(dialog.get_by_role("button", name="Save")).to_be_enabled()
    await dialog.get_by_role("button", name="Cancel").click()
    await operator.choose(operator.button("Actions for openai/gpt-4.1"), "Delete")
    await operator.page.get_by_text("The price is deleted.").wait_for()


async def test_the_audit_log_by_action_person_and_time(member: Visitor) -> None:
    await member.upload_until_ready(NOTE)
    person = await person_of(member)
    created = await person.post("/api/v1/api-keys", json={"name": "nightly", "scope": "read"})
    await open_settings(member, "audit")
    log = member.page.get_by_role("table", name="Audit log")
    upload = log.get_by_role("row").filter(has_text="Document: upload")
    await upload.get_by_text(member.email).wait_for()
    await expect(upload).to_contain_text("Done")
    await expect(log.get_by_role("row").filter(has_text="API key: create")).to_contain_text(
        created.json()["id"]
    )

    action = member.page.get_by_label("Action")
    await action.select_option("API key: create")
    await expect(log.get_by_role("row")).to_have_count(2)
    await member.page.get_by_label("Person", exact=True).select_option(member.email)
    await expect(log.get_by_role("row")).to_have_count(2)
    await member.page.get_by_label("To", exact=True).fill("2020-01-01")
    await member.heading("No such lines").wait_for()
    await member.page.get_by_label("To", exact=True).fill("")
    await action.select_option("Webhook: create")
    await member.heading("No such lines").wait_for()


async def test_operators_pages_are_for_operators(member: Visitor) -> None:
    person = await person_of(member)
    await open_settings(member, "usage")
    for title in OPERATORS_PAGES:
        await expect(member.link(title)).to_have_count(0)
    for section in ("users", "organizations", "prices", "aliases", "providers", "index", "audit"):
        await member.page.goto(f"/settings/admin-{section}")
        await member.heading("These settings are for others").wait_for()
    for path in OPERATORS_DATA:
        assert (await person.get(f"/api/v1/admin/{path}")).status_code == 403


async def test_operators_find_and_switch_off_users(operator: Visitor, member: Visitor) -> None:
    member.watch.expect(r"401 ")
    person = await person_of(member)
    response = await person.client.patch(
        "/api/v1/auth/me", headers=person.headers, json={"name": HOSTILE}
    )
    assert response.status_code == 200, response.text
    await open_settings(operator, "profile")
    for title in OPERATORS_PAGES:
        await operator.link(title).wait_for()
    await operator.link("All users").click()
    await operator.page.get_by_label("Find by address or name").fill(member.email[:20])
    users = operator.page.get_by_role("table", name="Users")
    row = users.get_by_role("row").filter(has_text=member.email)
    await row.get_by_text(HOSTILE).wait_for()
    await expect(users.get_by_role("row")).to_have_count(2)

    menu = operator.button(f"Actions for {member.email}")
    await operator.choose(menu, "Switch off")
    await operator.dialog.get_by_role("button", name="Switch off").click()
    await row.get_by_text("Off", exact=True).wait_for()
    await member.page.reload()
    await member.heading("Sign in").wait_for()
    await operator.choose(menu, "Switch on")
    await operator.dialog.get_by_role("button", name="Confirm").click()
    await row.get_by_text("On", exact=True).wait_for()
    await member.sign_in()


async def test_operators_give_a_plan_and_limits(operator: Visitor, member: Visitor) -> None:
    name = (await member.call("/api/v1/auth/me"))["organization"]["name"]
    await open_settings(operator, "admin-organizations")
    await operator.page.get_by_label("Find by name").fill(name)
    await operator.button(f"Plan and limits of {name}").click()
    await operator.dialog.get_by_label("Plan", exact=True).select_option("Pro")
    await operator.dialog.get_by_label("Documents", exact=True).select_option("Own limit")
    await operator.dialog.get_by_label("Documents: own limit").fill("12")
    await operator.dialog.get_by_label("Members", exact=True).select_option("No limit")
    await operator.dialog.get_by_role("button", name="Save").click()
    organizations = operator.page.get_by_role("table", name="Organizations")
    await organizations.get_by_text("Pro", exact=True).wait_for()

    await open_settings(member, "budget")
    limits = member.page.get_by_role("region", name="Limits")
    await limits.get_by_text("Plan: Pro").wait_for()
    for words in ("0 of 12", "0 of 600", "no limit"):
        await limits.get_by_text(words, exact=True).first.wait_for()
    # What is set is what the form begins with.
    await operator.button(f"Plan and limits of {name}").click()
    await expect(operator.dialog.get_by_label("Documents: own limit")).to_have_value("12")
    await expect(operator.dialog.get_by_label("Members", exact=True)).to_have_value("none")


async def test_operators_set_prices_and_names(operator: Visitor, member: Visitor) -> None:
    alias = f"quick-{operator.email[:8]}"
    await open_settings(operator, "admin-aliases")
    await operator.button("New name").click()
    await operator.dialog.get_by_label("Name", exact=True).fill(alias)
    await operator.dialog.get_by_label("Description").fill(HOSTILE)
    await operator.dialog.get_by_label("Model 1", exact=True).fill("openai/gpt-4.1-nano")
    await operator.button("Add a model").click()
    await operator.dialog.get_by_label("Model 2", exact=True).fill("openai/gpt-4.1-mini")
    await operator.dialog.get_by_label("Weight of model 2").fill("3")
    await operator.button("Move model 2 up").click()
    await operator.dialog.get_by_role("button", name="Save").click()
    row = operator.page.get_by_role("table", name="Model names").get_by_role("row")
    targets = row.filter(has_text=alias).get_by_role("listitem")
    await expect(targets).to_have_text(["openai/gpt-4.1-mini weight 3", "openai/gpt-4.1-nano"])

    await open_settings(operator, "admin-prices")
    await operator.button("Set a price").click()
    await operator.dialog.get_by_label("Model", exact=True).fill("openai/gpt-4.1-nano")
    await operator.dialog.get_by_label("Input", exact=True).fill("1,25")
    await operator.dialog.get_by_label("Output", exact=True).fill("7.5")
    await operator.dialog.get_by_role("button", name="Save").click()
    prices = operator.page.get_by_role("table", name="Prices")
    await prices.get_by_role("row").filter(has_text="US$7.50").wait_for()

    await open_settings(member, "models")
    names = member.page.get_by_role("table", name="Names for models").get_by_role("row")
    await names.filter(has_text=alias).get_by_text(HOSTILE).wait_for()
    await expect(names.filter(has_text=alias).get_by_role("listitem")).to_have_text(
        ["openai/gpt-4.1-mini", "openai/gpt-4.1-nano"]
    )
    await operator.choose(operator.button("Actions for openai/gpt-4.1-nano"), "Delete")
    await expect(prices).to_have_count(0)
    await open_settings(operator, "admin-aliases")
    await operator.choose(operator.button(f"Actions for {alias}"), "Delete")
    await operator.page.get_by_text("The name is deleted.").wait_for()


async def test_models_and_providers_with_their_state(operator: Visitor) -> None:
    await open_settings(operator, "models")
    models = operator.page.get_by_role("table", name="Models", exact=True).get_by_role("row")
    await models.filter(has_text="Default").get_by_text("Ready").wait_for()
    await expect(models.filter(has_text="Default")).to_contain_text("US$0.40")
    await expect(models.filter(has_text="Default")).to_contain_text("1,047,576")
    providers = operator.page.get_by_role("table", name="Providers").get_by_role("row")
    await providers.filter(has_text="Anthropic").get_by_text("Not connected").wait_for()
    await expect(providers.filter(has_text="Anthropic")).to_contain_text("ANTHROPIC_API_KEY")
    await open_settings(operator, "admin-providers")
    in_use = operator.page.get_by_role("table", name="Models in use").get_by_role("row")
    await in_use.filter(has_text="gpt-4.1-mini").get_by_text("Ready").wait_for()


async def test_operators_see_the_audit_log_of_all(operator: Visitor, member: Visitor) -> None:
    await open_settings(operator, "admin-audit")
    await operator.page.get_by_label("Action").select_option("Admin: change user")
    granted = operator.page.get_by_role("table", name="Audit log").get_by_role("row")
    granted = granted.filter(has_text="is_operator: true").first
    await expect(granted).to_contain_text("Somebody on the server itself")
    await operator.page.get_by_label("Action").select_option("")
    await operator.page.get_by_label("Find a person").fill(member.email)
    person = operator.page.get_by_label("Person", exact=True)
    await person.get_by_role("option", name=member.email).wait_for(state="attached")
    await person.select_option(member.email)
    log = operator.page.get_by_role("table", name="Audit log").get_by_role("row")
    await expect(log).to_have_count(2)
    await expect(log.last).to_contain_text("User: register")


def test_the_app_knows_every_action_of_the_audit_log() -> None:
    source = (WEB / "src/organization/audit_actions.ts").read_text()
    assert set(re.findall(r'^  "(.+)",$', source, re.MULTILINE)) == set(AUDITED.values())


# What people do


async def open_settings(visitor: Visitor, section: str) -> None:
    await visitor.page.goto(f"/settings/{section}")
    await visitor.heading("Settings").wait_for()


def by_day(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("region", name="By day")


async def use_a_model(visitor: Visitor) -> dict[str, Any]:
    """Ask about a document; return what the API says was used once that is settled."""
    await visitor.upload_until_ready(NOTE)
    await visitor.page.goto("/")
    await visitor.ask_to_end(QUESTION)
    async with asyncio.timeout(SETTLED_S):
        while True:
            usage: dict[str, Any] = await visitor.call("/api/v1/usage")
            if usage["totals"]["output_tokens"]:
                return usage
            await asyncio.sleep(0.1)


async def person_of(visitor: Visitor) -> Person:
    """The same person beside the app."""
    return await sign_in(visitor.app.product.client, visitor.email)


async def join(owner: Visitor, guest: Visitor) -> None:
    """Become a member of the owner's organization, as somebody new."""
    person = await person_of(owner)
    response = await person.post(
        "/api/v1/organization/invitations", json={"email": guest.email, "role": "member"}
    )
    assert response.status_code == 201, response.text
    await guest.page.goto(response.json()["link"])
    await guest.page.get_by_label("Password", exact=True).fill(PASSWORD)
    await guest.button("Create account").click()
    await guest.page.get_by_text("You are now a member of").wait_for()


async def steer_operators(web_app: WebApp, step: str, email: str) -> None:
    """As who runs the deployment does, on its machine."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "admin", step, email),
        env=os.environ | {"DATA_DIR": str(web_app.product.stack.data_dir)},
    )
    assert await process.wait() == 0


async def add_webhook(visitor: Visitor, receiver: Receiver) -> str:
    """Return its secret."""
    await open_settings(visitor, "webhooks")
    await visitor.button("New webhook").click()
    await visitor.dialog.get_by_label("URL").fill(receiver.url)
    await expect(visitor.dialog.get_by_role("button", name="Add webhook")).to_be_disabled()
    await visitor.dialog.get_by_label("A document is ready").check()
    await visitor.dialog.get_by_role("button", name="Add webhook").click()
    return await read_secret(visitor)


async def read_secret(visitor: Visitor) -> str:
    shown = visitor.dialog.get_by_role("group", name="Secret").get_by_role("code")
    await shown.wait_for()
    secret = await shown.inner_text()
    await visitor.dialog.get_by_role("button", name="Done").click()
    return secret


def sign(secret: str, headers: dict[str, str], body: bytes) -> str:
    """The signature as the page says that it is made."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
