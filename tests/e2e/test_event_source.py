"""Streams as real readers get them: an unmodified `EventSource` in Chromium, and behind nginx."""

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, async_playwright

from app.config import Settings
from tests.api_process import ApiProcess, running_api
from tests.cutting_proxy import CuttingProxy
from tests.frames import iter_frames
from tests.nginx import running_nginx
from tests.people import Person
from tests.provider_server import ProviderServer, Reply
from tests.tools import find_tool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# 120 words over 6 s: time enough for five cuts.
SLOW = Reply(text=" ".join(f"word{i}" for i in range(120)), chunk_delay_s=0.05)
# What any page would write. It knows nothing of cuts.
READ = """
url => new Promise(resolve => {
    const seen = {text: "", ids: [], opened: 0, done: null};
    window.seen = seen;
    const source = new EventSource(url);
    source.onopen = () => { seen.opened += 1; };
    source.onmessage = message => {
        const frame = JSON.parse(message.data);
        if (message.lastEventId) seen.ids.push(Number(message.lastEventId));
        if (frame.type === "token") seen.text += frame.token;
        if (frame.type === "snapshot") seen.text = frame.text;
        if (frame.done) { source.close(); seen.done = frame; resolve(seen); }
    };
})
"""


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return SLOW


@pytest.fixture(scope="module")
async def api(
    settings: Settings,
    provider: ProviderServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[ApiProcess]:
    asks = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.openai_url}
    running = running_api(settings, tmp_path_factory.mktemp("api"), **asks)
    process = await asyncio.to_thread(running.__enter__)
    yield process
    await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium = find_tool("chromium", "chromium")
    async with async_playwright() as playwright:
        # Tests may run as root, for whom Chromium has no sandbox.
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # Not the policy of the page that these scripts are put into: they stand for any page.
        yield await browser.new_page(bypass_csp=True)
        await browser.close()


async def start_run(person: Person, url: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=url) as client:
        response = await client.post(
            "/api/v1/chat/runs",
            headers=person.headers,
            json={"messages": [{"content": "Go on."}], "use_rag": False},
        )
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    return run


async def load_run(person: Person, url: str, run_id: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=url) as client:
        response = await client.get(f"/api/v1/chat/runs/{run_id}", headers=person.headers)
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()
    return run


async def test_a_browser_that_is_cut_five_times_has_the_same_text(
    api: ApiProcess, person: Person, page: Page
) -> None:
    async with CuttingProxy(api.port) as proxy:
        run = await start_run(person, api.url)
        await page.goto(f"{proxy.url}/health")
        reading = asyncio.create_task(page.evaluate(READ, run["events_url"]))
        cuts = 0
        while cuts < 5 and not reading.done():
            seen = len(await page.evaluate("() => window.seen?.ids ?? []"))
            await page.wait_for_function(f"() => window.seen?.ids.length > {seen}")
            cuts += proxy.cut() > 0
        seen = await reading
    stored = await load_run(person, api.url, run["run_id"])
    assert cuts == 5
    assert seen["opened"] == 6
    assert stored["status"] == "completed"
    assert seen["text"] == stored["answer"] == SLOW.text
    assert seen["ids"] == list(range(1, len(seen["ids"]) + 1))
    assert hashlib.sha256(seen["text"].encode()).hexdigest() == seen["done"]["answer_sha256"]


async def test_the_url_alone_opens_a_stream_in_a_browser_and_only_that(
    api: ApiProcess, person: Person, page: Page
) -> None:
    first, second = await start_run(person, api.url), await start_run(person, api.url)
    await page.goto(f"{api.url}/health")
    swapped = first["events_url"].replace(first["run_id"], second["run_id"])
    status = await page.evaluate("async url => (await fetch(url)).status", swapped)
    assert status == 401
    seen = await page.evaluate(READ, first["events_url"])
    assert seen["text"] == SLOW.text


async def test_nginx_hands_on_each_frame_at_once_and_logs_no_token(
    api: ApiProcess, person: Person, tmp_path: Path
) -> None:
    nginx = find_tool("nginx", "nginx-light")
    with running_nginx(nginx, api.port, tmp_path) as url:
        run = await start_run(person, url)
        direct, proxied = await asyncio.gather(
            arrival_times(api.url + run["events_url"]), arrival_times(url + run["events_url"])
        )
    assert direct.keys() == proxied.keys()
    # A proxy that gathers its 4 or 8 KB would hand on everything at the end.
    first, last = min(proxied), max(proxied)
    assert proxied[last] - proxied[first] > 3
    log = (tmp_path / "access.log").read_text()
    assert f"/runs/{run['run_id']}/events" in log
    assert run["events_url"].partition("?token=")[2] not in log


async def arrival_times(url: str) -> dict[int, float]:
    """When each frame came, by its id."""
    times: dict[int, float] = {}
    async with (
        httpx2.AsyncClient(timeout=30) as client,
        client.stream("GET", url) as response,
    ):
        assert response.status_code == 200
        async for frame in iter_frames(response):
            if frame.id is not None:
                times[frame.id] = time.monotonic()
    return times
