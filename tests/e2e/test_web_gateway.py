"""Organizations, members, API keys and limits in the web app: several people, each in a browser."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import Locator, expect

from tests.e2e.web_app import Visitor, WebApp, file
from tests.people import PASSWORD
from tests.provider_server import Failure, Reply

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts Debian's Chromium")

# Their tokens, keys and streams end within 5 s; then the page has to notice.
REMOVAL_MS = 15_000
REMOVAL_S = 15
QUESTION = "Where is the spare key?"
SHARED = file("shared.txt", b"The spare key hangs behind the clock.", "text/plain")
PRIVATE = file("private.txt", b"My own salary is 50,000 euros.", "text/plain")


@pytest.fixture
async def guest(web_app: WebApp) -> AsyncIterator[Visitor]:
    """Somebody without an account, in a browser of their own."""
    async with web_app.visit() as guest:
        yield guest


async def test_who_is_invited_registers_and_sees_what_is_shared(
    member: Visitor, guest: Visitor
) -> None:
    await member.upload_until_ready(SHARED)
    await member.page.get_by_label("Only for me").first.check()
    await member.upload(PRIVATE)
    await member.wait_until_ready("private.txt")
    await expect(member.row("private.txt")).to_contain_text("Private")
    await expect(member.row("shared.txt")).not_to_contain_text("Private")

    await join(member, guest)
    await guest.open_documents()
    await guest.row("shared.txt").wait_for()
    await expect(guest.row("private.txt")).to_have_count(0)
    # Whoever shares a document later shows it to them.
    await member.open_documents()
    await member.row("private.txt").get_by_role("link").click()
    await member.button("Share it").click()
    await member.button("Make it private").wait_for()
    await guest.open_documents()
    await guest.row("private.txt").wait_for()

    await guest.page.get_by_label("Visible to").select_option("private")
    await guest.heading("No document matches").wait_for()


async def test_a_link_works_once_and_for_its_address_alone(
    member: Visitor, guest: Visitor, web_app: WebApp
) -> None:
    guest.watch.expect(r"404 .*/api/v1/invitations/look-up")
    link = await invite(member, guest.email)
    async with web_app.visit() as stranger:
        await stranger.register()
        await stranger.page.goto(link)
        await stranger.page.get_by_text(f"You are signed in as {stranger.email}").wait_for()
    await member.page.reload()
    await member.button(f"Revoke the invitation of {guest.email}").click()
    await member.button(f"Revoke the invitation of {guest.email}").wait_for(state="detached")
    await guest.page.goto(link)
    await guest.heading("This invitation does not work").wait_for()


async def test_a_role_decides_what_is_shown(member: Visitor, guest: Visitor) -> None:
    await join(member, guest)
    await open_settings(member, "members")
    role = member.page.get_by_label(f"Role of {guest.email}")
    await role.select_option("Viewer")
    await member.page.get_by_text(f"{guest.email} is now: Viewer.").wait_for()
    await guest.page.goto("/documents")
    await guest.page.get_by_text("As a viewer you read documents.").wait_for()
    await guest.page.goto("/settings/api-keys")
    await guest.heading("These settings are for others").wait_for()
    await expect(guest.link("Webhooks")).to_have_count(0)

    await role.select_option("Administrator")
    await member.page.get_by_text(f"{guest.email} is now: Administrator.").wait_for()
    await open_settings(guest, "members")
    await guest.heading("Invite people").wait_for()
    await guest.link("Webhooks").wait_for()
    # Nobody but an owner makes or changes owners.
    await expect(guest.page.get_by_label(f"Role of {member.email}")).to_have_count(0)


async def test_who_is_removed_is_signed_out_within_seconds(member: Visitor, guest: Visitor) -> None:
    guest.watch.expect(r"401 ")
    await join(member, guest)
    await guest.open_documents()
    await open_settings(member, "members")
    await member.choose(member.button(f"Actions for {guest.email}"), "Remove")
    await member.dialog.get_by_role("button", name="Remove").click()
    await guest.heading("Sign in").wait_for(timeout=REMOVAL_MS)
    await expect(member.page.get_by_text(guest.email)).to_have_count(0)
    # Their account stays, with an organization of its own.
    await guest.sign_in()
    await guest.heading("Add your first documents").wait_for()


async def test_an_organization_is_handed_over(member: Visitor, guest: Visitor) -> None:
    await join(member, guest)
    await open_settings(member, "members")
    await member.choose(member.button(f"Actions for {guest.email}"), "Hand the organization over")
    await member.dialog.get_by_role("button", name="Hand over").click()
    await expect(member.page.get_by_label(f"Role of {guest.email}")).to_have_count(0)
    await guest.page.goto("/settings/organization")
    await guest.button("Delete organization").wait_for()
    await member.page.goto("/settings/organization")
    await member.button("Save").wait_for()
    await expect(member.button("Delete organization")).to_have_count(0)


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(member: Visitor) -> None:
    await member.upload_until_ready(SHARED)
    await open_settings(member, "api-keys")
    await member.button("New key").click()
    await member.dialog.get_by_label("Name", exact=True).fill("nightly import")
    await member.dialog.get_by_label("Read", exact=False).first.check()
    await member.button("Create key").click()
    key = await read_key(member)
    assert await count_documents(member, key) == 1
    await member.button("Done").click()
    keys = member.page.get_by_role("list", name="API keys").get_by_role("listitem")
    await expect(keys).to_contain_text(key[-4:])
    assert key not in await member.page.content()
    await member.page.reload()
    await keys.wait_for()
    assert key not in await member.page.content()

    await member.choose(member.button("Actions for nightly import"), "Rotate")
    await member.button("Rotate").click()
    rotated = await read_key(member)
    assert rotated != key
    for each in (key, rotated):
        assert await count_documents(member, each) == 1
    await member.button("Done").click()
    await member.choose(member.button("Actions for nightly import"), "Revoke")
    await member.button("Revoke").click()
    await member.heading("There are no keys yet").wait_for()
    for each in (key, rotated):
        await wait_for_refusal(member, each)


async def test_another_organization_has_documents_and_chats_of_its_own(member: Visitor) -> None:
    own = member.email.partition("@")[0]
    await member.upload_until_ready(SHARED)
    tab = await member.open_tab("/documents")
    await tab.row("shared.txt").wait_for()
    await member.choose(organization_menu(member), "New organization")
    await member.dialog.get_by_label("Name", exact=True).fill("Second & Söhne")
    await member.button("Create").click()
    await member.page.get_by_text("You are now in Second & Söhne.").wait_for()
    await member.heading("Add your first documents").wait_for()
    # Both tabs have the cookie.
    await tab.heading("Add your first documents").wait_for()
    await tab.page.reload()
    await tab.heading("Add your first documents").wait_for()

    await organization_menu(member).click()
    await member.page.get_by_role("menuitemradio", name=own).click()
    await member.row("shared.txt").wait_for()
    await tab.row("shared.txt").wait_for()


async def test_an_organization_is_renamed_and_deleted_with_a_receipt(member: Visitor) -> None:
    member.watch.expect(r"401 ")
    await open_settings(member, "organization")
    await member.page.get_by_label("Name", exact=True).fill("To be gone")
    await member.button("Save").click()
    await expect(organization_menu(member)).to_contain_text("To be gone")
    await member.button("Delete organization").click()
    confirm = member.button("Delete for good")
    await expect(confirm).to_be_disabled()
    await member.dialog.get_by_label("Type its name").fill("To be gone")
    await confirm.click()
    await member.heading("Sign in").wait_for()
    await member.sign_in()
    await member.heading("The organization is deleted").wait_for()
    await member.button("Done").click()
    await member.page.reload()
    await expect(organization_menu(member)).to_contain_text(member.email.partition("@")[0])
    await expect(member.dialog).to_have_count(0)


async def test_a_spent_budget_says_who_can_raise_it(member: Visitor, guest: Visitor) -> None:
    for visitor in (member, guest):
        visitor.watch.expect(r"402 .*/api/v1/chat/runs")
    await member.upload_until_ready(SHARED)
    await join(member, guest)
    await put_budget(member, 0)
    for visitor, remedy in ((member, "Raise it in the settings"), (guest, "Ask an owner")):
        await visitor.page.goto("/")
        await visitor.composer.fill(QUESTION)
        await visitor.composer.press("Enter")
        await expect(visitor.page.get_by_role("alert")).to_contain_text("budget")
        await expect(visitor.page.get_by_role("alert")).to_contain_text(remedy)
        await expect(visitor.composer).to_have_value(QUESTION)


async def test_too_many_requests_say_how_long_to_wait(member: Visitor) -> None:
    member.watch.expect(r"429 .*/api/v1/chat/runs")
    error = {"code": "rate_limit_exceeded", "message": "At most 60 of these requests in a minute."}
    refused = {"status": 429, "headers": {"Retry-After": "7200"}, "json": {"error": error}}
    await member.page.route("**/api/v1/chat/runs", lambda route: route.fulfill(**refused))
    await member.page.goto("/")
    await member.composer.fill(QUESTION)
    await member.composer.press("Enter")
    await member.button("Try again in 2 hours").wait_for()


async def test_an_answer_says_which_model_did_not_give_it(member: Visitor, web_app: WebApp) -> None:
    await member.upload_until_ready(SHARED)
    await member.page.goto("/")
    web_app.librarian.by_model["gpt-4.1-mini"] = Reply(failure=Failure.STATUS)
    try:
        answer = await member.ask_to_end(QUESTION)
    finally:
        del web_app.librarian.by_model["gpt-4.1-mini"]
    await expect(answer).to_contain_text("gpt-4.1-mini did not answer.")
    await expect(answer).to_contain_text("behind the clock")
    await member.page.reload()
    await expect(member.answers.first).to_contain_text("did not answer.")


# What people do


async def open_settings(visitor: Visitor, section: str) -> None:
    await visitor.page.goto(f"/settings/{section}")
    await visitor.page.get_by_role("heading", level=2).last.wait_for()


async def invite(owner: Visitor, email: str) -> str:
    """Return the link."""
    await open_settings(owner, "members")
    await owner.page.get_by_label("E-mail address").fill(email)
    await owner.button("Invite").click()
    link = owner.page.get_by_text(re.compile("/join#"))
    await link.wait_for()
    return await link.inner_text()


async def join(owner: Visitor, guest: Visitor) -> None:
    """Follow an invitation as somebody new."""
    await guest.page.goto(await invite(owner, guest.email))
    await guest.heading(owner.email.partition("@")[0]).wait_for()
    address = guest.page.get_by_label("E-mail address")
    await expect(address).to_have_value(guest.email)
    await expect(address).not_to_be_editable()
    await guest.page.get_by_label("Password", exact=True).fill(PASSWORD)
    await guest.button("Create account").click()
    await guest.page.get_by_text("You are now a member of").wait_for()


def organization_menu(visitor: Visitor) -> Locator:
    return visitor.button(re.compile("^Organization: "))


async def read_key(visitor: Visitor) -> str:
    shown = visitor.dialog.get_by_role("group", name="API key").get_by_role("code")
    await shown.wait_for()
    return await shown.inner_text()


async def ask_with(visitor: Visitor, key: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await visitor.app.product.client.get("/api/v1/documents", headers=headers)


async def count_documents(visitor: Visitor, key: str) -> int:
    response = await ask_with(visitor, key)
    assert response.status_code == 200, response.text
    return int(response.json()["total"])


async def wait_for_refusal(visitor: Visitor, key: str) -> None:
    async with asyncio.timeout(REMOVAL_S):
        while (await ask_with(visitor, key)).status_code != 401:
            await asyncio.sleep(0.2)


async def put_budget(owner: Visitor, limit_usd: int) -> None:
    client = owner.app.product.client
    form = {"username": owner.email, "password": PASSWORD}
    token = (await client.post("/api/v1/auth/login", data=form)).json()["access_token"]
    response = await client.put(
        "/api/v1/budget",
        headers={"Authorization": f"Bearer {token}"},
        json={"monthly_limit_usd": limit_usd},
    )
    assert response.status_code == 200, response.text
