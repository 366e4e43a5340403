"""What the browser tests share: the product with a language model, one browser, and who visits.

And what is faster to start: the API alone, in front of which pages show what was stored.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from app.config import Settings
from tests.api_process import ApiProcess, running_api
from tests.e2e.web_app import Visitor, WebApp, running_web_app
from tests.e2e.web_pages import GuardedPage, chromium, guarded_page, sign_in
from tests.people import Person
from tests.provider_server import ProviderServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots",
        metavar="FOLDER",
        type=Path,
        help="write the pictures of the web app's main views to this folder",
    )


@pytest.fixture(scope="package")
async def web_app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebApp]:
    async with running_web_app(tmp_path_factory.mktemp("web") / "data") as web_app:
        yield web_app


@pytest.fixture
async def visitor(web_app: WebApp) -> AsyncIterator[Visitor]:
    """Somebody who was never here. At the end of the test their browser has seen no trouble."""
    async with web_app.visit() as visitor:
        yield visitor


@pytest.fixture
async def member(visitor: Visitor) -> Visitor:
    """Somebody who has just registered."""
    await visitor.register()
    return visitor


@pytest.fixture(scope="package")
async def model_server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@pytest.fixture(scope="package")
async def api_alone(
    settings: Settings, model_server: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    asks = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model_server.openai_url}
    running = running_api(settings, tmp_path_factory.mktemp("api"), **asks)
    process = await asyncio.to_thread(running.__enter__)
    yield process
    await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.fixture(scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def guarded(
    browser: Browser, api_alone: ApiProcess, person: Person
) -> AsyncIterator[GuardedPage]:
    """The app in a browser in which the person is signed in. In the end nothing was reported."""
    async with guarded_page(browser, api_alone.url) as guarded:
        await sign_in(guarded, person)
        guarded.watch()
        yield guarded
        await guarded.settle()
        assert guarded.reports == []
