"""The Model Context Protocol, by its official client over a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from app.core.http_protocol import BoundedHttpProtocol
from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all
from tests.people import Person

LIONS = b"Lions of the zoo\n\nThe zoo has 17 lions. Each of them eats 9 kilograms of meat a day."
FISH = b"Fish of the lake\n\nThe lake holds 400 trout and 30 pike."


@pytest.fixture(scope="module")
async def url(app: FastAPI) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http=BoundedHttpProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@asynccontextmanager
async def connect(url: str, headers: dict[str, str]) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client


@pytest.fixture
async def librarian(person: Person, ingester: Ingester) -> Person:
    await person.upload("lions.txt", LIONS)
    await person.upload("fish.txt", FISH)
    await ingest_all(ingester)
    return person


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


async def test_tools_say_what_they_take(url: str, person: Person) -> None:
    async with connect(url, person.headers) as client:
        tools = (await client.list_tools()).tools

    assert [tool.name for tool in tools] == ["list_documents", "search", "read_document", "ask"]
    assert all(tool.description and tool.annotations for tool in tools)
    assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
    assert tools[3].input_schema["required"] == ["question"]


async def test_documents_are_listed_found_read_and_asked(url: str, librarian: Person) -> None:
    async with connect(url, librarian.headers) as client:
        listed = await client.call_tool("list_documents", {"name": "lions"})
        found = await client.call_tool("search", {"query": "How many lions are there?"})
        [document] = listed.structured_content["items"]
        read = await client.call_tool("read_document", {"document_id": document["id"]})
        answer = await client.call_tool("ask", {"question": "How many lions does the zoo have?"})
        elsewhere = await client.call_tool(
            "search",
            {"query": "How many lions are there?", "document_ids": [document["id"]], "limit": 1},
        )

    assert document["filename"] == "lions.txt"
    assert found.structured_content["results"][0]["filename"] == "lions.txt"
    assert "lions.txt, page 1" in text_of(found)
    assert "17 lions" in text_of(read)
    assert read.structured_content["pages"][0]["number"] == 1
    [citation, *_] = answer.structured_content["citations"]
    assert "17 lions" in citation["quote"]
    assert citation["quote"] in text_of(answer)
    assert "[1] lions.txt, page 1" in text_of(answer)
    assert len(elsewhere.structured_content["results"]) == 1


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("search", {}, "validation_error"),
        ("search", {"query": "x", "limit": 1000}, "validation_error"),
        ("search", {"query": "x", "secret": 1}, "validation_error"),
        ("search", {"query": "  "}, "validation_error"),
        ("read_document", {"document_id": "nonsense"}, "validation_error"),
        ("read_document", {"document_id": "0" * 32}, "not_found"),
        (
            "read_document",
            {"document_id": "0" * 32, "first_page": 2, "last_page": 1},
            "validation_error",
        ),
        ("ask", {"question": "x", "model": "openai/none"}, "model_not_found"),
        ("list_documents", {"cursor": "x"}, "invalid_request"),
        ("delete_document", {}, "unknown_tool"),
    ],
)
async def test_what_can_not_be_done_is_an_error_of_the_tool(
    url: str, person: Person, tool: str, arguments: dict[str, Any], code: str
) -> None:
    async with connect(url, person.headers) as client:
        result = await client.call_tool(tool, arguments)

    assert result.is_error
    assert result.structured_content["error"]["code"] == code
    assert code in text_of(result)


async def test_a_stranger_sees_nothing(url: str, librarian: Person, stranger: Person) -> None:
    async with connect(url, librarian.headers) as client:
        [document, *_] = (await client.call_tool("list_documents", {})).structured_content["items"]
    async with connect(url, stranger.headers) as client:
        listed = await client.call_tool("list_documents", {})
        found = await client.call_tool("search", {"query": "lions"})
        read = await client.call_tool("read_document", {"document_id": document["id"]})
        named = await client.call_tool(
            "search", {"query": "lions", "document_ids": [document["id"]]}
        )

    assert listed.structured_content["total"] == 0
    assert found.structured_content["results"] == []
    for result in (read, named):
        assert result.is_error
        assert result.structured_content["error"]["code"] == "not_found"


async def test_an_api_key_does_what_its_scope_allows(url: str, librarian: Person) -> None:
    created = await librarian.post("/api/v1/api-keys", json={"name": "reader", "scope": "read"})
    assert created.status_code == 201, created.text
    key = created.json()["key"]
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
        async with connect(url, headers) as client:
            found = await client.call_tool("search", {"query": "How many lions are there?"})
            answer = await client.call_tool("ask", {"question": "How many lions are there?"})
        assert found.structured_content["results"]
        assert answer.is_error
        assert answer.structured_content["error"]["code"] == "insufficient_scope"


async def test_without_a_credential_there_is_nothing(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url) as http:
        response = await http.post("/mcp")
        assert response.status_code == 401
        assert "WWW-Authenticate" in response.headers


async def test_garbage_is_refused(url: str, person: Person) -> None:
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, headers=person.headers | accept) as http:
        for body in (b"", b"{", b"[]", b"null", b'{"jsonrpc": "2.0"}', b"\xff\xfe"):
            response = await http.post("/mcp", content=body)
            assert 400 <= response.status_code < 500, body
        large = await http.post("/mcp", content=b'{"a": "' + b"a" * 2_000_000 + b'"}')
        assert large.status_code == 413
        assert (await http.get("/mcp")).status_code == 405


LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, None, 200),
        ("http://{own}", None, 200),
        ("http://localhost:3000", None, 200),  # a dev server, of the local mode's CORS_ORIGINS
        ("http://127.0.0.1:8000", None, 200),  # the web app's own, whatever a proxy made of Host
        ("https://evil.example", None, 403),
        ("http://evil.example:8000", "evil.example:8000", 403),  # a name that leads here
        ("http://{own}.evil.example", None, 403),
        ("null", None, 403),
        ("", None, 403),
    ],
)
async def test_only_pages_of_ours_may_call(
    url: str, person: Person, origin: str | None, host: str | None, status: int
) -> None:
    own = url.removeprefix("http://")
    headers = person.headers | {"Accept": "application/json"}
    if origin is not None:
        headers["Origin"] = origin.format(own=own)
    if host is not None:
        headers["Host"] = host
    async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
        response = await http.post("/mcp", json=LIST_TOOLS)
    assert response.status_code == status, response.text
    if status == 403:
        assert response.json()["error"]["code"] == "forbidden_origin"
        assert response.headers.get("Access-Control-Allow-Origin") is None


async def test_what_is_no_json_is_refused_in_our_error_body(url: str, person: Person) -> None:
    headers = person.headers | {"Accept": "application/json"}
    async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
        for media_type in ("text/plain", "", "application/x-www-form-urlencoded"):
            response = await http.post("/mcp", content=b"{}", headers={"Content-Type": media_type})
            assert response.status_code == 415, media_type
            assert response.json()["error"]["code"] == "unsupported_media_type"
        with_charset = {"Content-Type": "application/json; charset=utf-8"}
        response = await http.post("/mcp", json=LIST_TOOLS, headers=with_charset)
    assert response.status_code == 200


async def test_a_key_that_may_not_use_the_default_is_told_so(url: str, librarian: Person) -> None:
    key = {"name": "narrow", "scope": "write", "allowed_models": ["openai/some-other"]}
    created = await librarian.post("/api/v1/api-keys", json=key)
    assert created.status_code == 201, created.text
    async with connect(url, {"X-API-Key": created.json()["key"]}) as client:
        answer = await client.call_tool("ask", {"question": "How many lions are there?"})
    assert answer.is_error
    assert answer.structured_content["error"]["code"] == "model_not_found"
    assert "this API key may not use it" in text_of(answer)
    assert "no configured provider" not in text_of(answer)
