"""Open streams of somebody who is removed end by themselves, whichever process removes them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import httpx2
import pytest

from app.config import Settings
from tests.frames import iter_frames
from tests.integration.test_streams import Server, listen
from tests.openai_api import with_openai
from tests.people import Person, join, register
from tests.provider_server import ProviderServer, Reply
from tests.run_streams import begin, reading

API_KEYS = "/api/v1/api-keys"
EVENTS = "/api/v1/documents/events"
# What is promised is 5 s; the rest is for a slow machine.
PROMISED_S = 8
ENDLESS = Reply(text="word " * 40_000, chunk_delay_s=0.01)


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return ENDLESS


@pytest.fixture(scope="module")
async def server(settings: Settings, provider: ProviderServer) -> AsyncIterator[Server]:
    """A process of its own, as far as what it remembers goes, with a model that never ends."""
    configured = with_openai(settings, provider, default_model="openai/gpt-4.1-mini")
    async with listen(configured) as server:
        await server.client.get("/health/ready")  # has looked for models when it returns
        yield server


@pytest.fixture
async def there(server: Server, client: httpx2.AsyncClient, person: Person) -> Person:
    """A member of the person's organization, who calls the other process."""
    member = await join(person, await register(client, f"member-{uuid4().hex}@example.com"))
    return replace(member, client=server.client)


async def end_by(how: str, person: Person, there: Person) -> None:
    if how == "removed":
        ended = await person.delete(f"/api/v1/organization/members/{there.user_id}")
    else:
        confirm = {"confirm": person.tokens["organization"]["name"]}
        ended = await person.client.request(
            "DELETE", "/api/v1/organization", json=confirm, headers=person.headers
        )
    assert ended.status_code in (202, 204), ended.text


@pytest.mark.parametrize("how", ["removed", "organization deleted"])
async def test_a_stream_of_documents_ends(person: Person, there: Person, how: str) -> None:
    await person.upload("one.txt", f"One {uuid4()}.".encode())
    url = (await there.post(EVENTS)).json()["events_url"]
    async with there.client.stream("GET", url) as response:
        frames = iter_frames(response)
        await anext(frames)
        # What this process knows of them is as fresh as can be.
        assert (await there.get("/api/v1/auth/me")).status_code == 200
        await end_by(how, person, there)
        async with asyncio.timeout(PROMISED_S):
            seen = [frame async for frame in frames]
    assert (seen[-1].type, seen[-1].data["code"]) == ("error", "token_revoked")
    assert (await there.client.get(url)).status_code == 401


@pytest.mark.parametrize("how", ["removed", "organization deleted"])
async def test_a_stream_of_an_answer_ends_and_so_does_the_answer(
    person: Person, there: Person, server: Server, how: str
) -> None:
    run = await begin(there, detached=True)
    async with reading(server.client, run) as frames:
        await anext(frames)
        await end_by(how, person, there)
        async with asyncio.timeout(PROMISED_S):
            last = [frame async for frame in frames][-1]
    # The answer is cancelled as well: whichever comes first.
    assert last.data.get("status") == "cancelled" or last.data["code"] == "token_revoked"
    await is_refused(there)
    assert (await there.client.get(run["events_url"])).status_code == 401


async def is_refused(person: Person) -> None:
    async with asyncio.timeout(PROMISED_S):
        while (await person.get("/api/v1/auth/me")).status_code != 401:
            await asyncio.sleep(0.1)


MESSAGES = [{"role": "user", "content": "Say words."}]
ASKED = {
    "/api/v1/chat/stream": {"messages": MESSAGES, "use_rag": False},
    "/v1/chat/completions": {
        "model": "openai/gpt-4.1-mini",
        "messages": MESSAGES,
        "stream": True,
    },
    "/v1/responses": {"model": "openai/gpt-4.1-mini", "input": "Say words.", "stream": True},
    "/v1/responses unstored": {
        "model": "openai/gpt-4.1-mini",
        "input": "Say words.",
        "stream": True,
        "store": False,
    },
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("how", ["removed", "organization deleted", "key revoked"])
async def test_an_answer_that_is_streamed_at_once_ends(
    person: Person, there: Person, how: str, asked: str
) -> None:
    """It says so, and nobody pays for the rest."""
    caller, key_id = there, ""
    if how == "key revoked":
        made = (await person.post(API_KEYS, json={"name": "k", "scope": "write"})).json()
        caller, key_id = replace(there, tokens={"access_token": made["key"]}), made["id"]
    stream = caller.client.stream(
        "POST", asked.split(maxsplit=1)[0], json=ASKED[asked], headers=caller.headers, timeout=30
    )
    async with stream as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        await anext(lines)
        if key_id:
            assert (await person.delete(f"{API_KEYS}/{key_id}")).status_code == 204
        else:
            await end_by(how, person, there)
        async with asyncio.timeout(PROMISED_S):
            seen = [line async for line in lines]
    # A run is cancelled as well: whichever comes first.
    assert any(word in line for line in seen for word in ("revoked", "API key", "cancelled"))


@pytest.mark.parametrize("how", ["removed", "organization deleted"])
async def test_who_waits_for_a_whole_answer_waits_no_longer(
    person: Person, there: Person, provider: ProviderServer, how: str
) -> None:
    before = len(provider.calls)
    body = {"messages": MESSAGES, "use_rag": False}
    waiting = asyncio.create_task(there.post("/api/v1/chat/", json=body))
    await provider.wait_until(lambda: len(provider.calls) > before)
    await end_by(how, person, there)
    async with asyncio.timeout(PROMISED_S):
        refused = await waiting
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "token_revoked")
