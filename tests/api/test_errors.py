"""Every error in the one body, with its headers; nothing of the request in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from app.config import Settings
from app.core.errors import ProviderError, ProviderErrorKind
from app.main import create_app
from app.middleware import _SECURITY_HEADERS
from tests.conftest import serve
from tests.people import Person

CANARY = "canary-1f0e9d"
JSON = {"Content-Type": "application/json"}


def check_error(response: httpx2.Response, status: int) -> dict[str, Any]:
    """Assert the shape of an error. Returns its `error`."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"status", "error", "metadata"}
    assert body["status"] == "error"
    assert set(body["error"]) == {"code", "message", "type", "param"}
    assert body["error"]["type"].endswith("_error")
    assert body["metadata"] == {"request_id": response.headers["X-Request-ID"]}
    check_headers(response)
    return dict(body["error"])


def check_headers(response: httpx2.Response) -> None:
    assert float(response.headers["X-Processing-Time-Ms"]) >= 0
    for name, value in _SECURITY_HEADERS.items():
        assert response.headers[name] == value


@pytest.fixture(scope="module")
async def broken(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The app with routes that fail in ways that no route of ours does."""
    async with serve(settings) as (app, client):
        _add_failing_routes(app)
        yield client


def _add_failing_routes(app: FastAPI) -> None:
    @app.get("/broken/unknown")
    async def unknown() -> None:
        raise ZeroDivisionError(CANARY)

    @app.get("/broken/provider")
    async def provider() -> None:
        raise ProviderError("It is tired.", kind=ProviderErrorKind.OVERLOADED, provider="x")

    @app.get("/broken/later")
    async def later() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            raise ZeroDivisionError(CANARY)

        return StreamingResponse(body())

    @app.get("/broken/driver")
    async def driver() -> None:
        raise asyncpg.exceptions.AdminShutdownError(CANARY)

    @app.get("/broken/connection")
    async def connection() -> None:
        raise asyncpg.InterfaceError(CANARY)

    @app.get("/broken/statement")
    async def statement() -> None:
        raise asyncpg.exceptions.UndefinedTableError(CANARY)

    @app.get("/broken/pool")
    async def pool() -> None:
        raise ConnectionRefusedError(111, CANARY)


async def test_unknown_paths_are_404(client: httpx2.AsyncClient) -> None:
    for path in ("/nothing", "/api/v1/nothing", f"/api/v1/{CANARY}/%00/..%2f", "/api/v1//chat"):
        response = await client.get(path)
        error = check_error(response, 404)
        assert error["code"] == "not_found"
        assert CANARY not in response.text


async def test_a_wrong_method_is_405(client: httpx2.AsyncClient) -> None:
    for method, path in (("PUT", "/api/v1/search"), ("DELETE", "/health"), ("FOO", "/metrics")):
        response = await client.request(method, path)
        assert check_error(response, 405)["code"] == "method_not_allowed"
        assert response.headers["Allow"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{'query': 1}",
        b"\xff\xfe\x00garbage",
        b"[" * 100_000,
        b'{"query":' * 50_000,
        b'{"query":' + b"9" * 1_000_000 + b"}",
        CANARY.encode(),
    ],
    ids=["cut", "quotes", "bytes", "deep-array", "deep-object", "huge-number", "text"],
)
@pytest.mark.parametrize("path", ["/api/v1/search", "/api/v1/chat/", "/api/v1/auth/register"])
async def test_malformed_json_is_400(person: Person, path: str, content: bytes) -> None:
    response = await person.client.post(path, content=content, headers=person.headers | JSON)
    error = check_error(response, 400)
    assert (error["code"], error["message"].startswith("The body is ")) == ("invalid_json", True)
    assert CANARY not in response.text


async def test_malformed_json_says_what_is_wrong_with_it(person: Person) -> None:
    for content, word in ((b'{"query": "\xff"}', "UTF-8"), (b"[" * 100_000, "deeply")):
        response = await person.client.post(
            "/api/v1/search", content=content, headers=person.headers | JSON
        )
        assert word in check_error(response, 400)["message"]
    response = await person.client.post(
        "/api/v1/search", content=b'{"query":' + b"9" * 5_000 + b"}", headers=person.headers | JSON
    )
    assert "digits" in check_error(response, 400)["message"]


async def test_a_body_over_one_mib_is_413(person: Person) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 65_536

    for content in (b"x" * (1024 * 1024 + 1), chunks()):
        response = await person.client.post(
            "/api/v1/search", content=content, headers=person.headers | JSON
        )
        error = check_error(response, 413)
        assert (error["code"], "1 MiB" in error["message"]) == ("payload_too_large", True)


@pytest.mark.parametrize("path", ["chat/completions", "embeddings", "responses"])
async def test_a_prompt_may_have_eight_mib(person: Person, path: str) -> None:
    for mib, status in ((7, 400), (9, 413)):
        body = json.dumps({"colour": "x" * mib * 1024 * 1024})
        response = await person.client.post(
            f"/v1/{path}", content=body, headers=person.headers | JSON
        )
        error = check_error(response, status)
    assert "8 MiB" in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/search", {"query": {CANARY: 1}}),
        ("/api/v1/search", {"query": "x", "colour": CANARY}),
        ("/api/v1/search", {"query": "x", "top_k": CANARY}),
        ("/api/v1/search", {"query": "x", "document_ids": [CANARY]}),
        ("/api/v1/search", [CANARY]),
        ("/api/v1/chat/", {"messages": [{"role": CANARY, "content": "x"}]}),
        ("/api/v1/chat/", {"messages": [{"content": "x", "colour": CANARY}]}),
        ("/api/v1/chat/", {"messages": [{"content": CANARY * 1000}]}),
        ("/api/v1/auth/register", {"email": CANARY, "password": f"secret {CANARY}"}),
        ("/api/v1/auth/register", {"email": "a@example.com", "password": CANARY[:3]}),
    ],
)
async def test_a_validation_error_echoes_nothing(person: Person, path: str, body: Any) -> None:
    response = await person.post(path, json=body)
    check_error(response, 422)
    assert CANARY not in response.text


@pytest.mark.parametrize(
    ("path", "body", "param", "status"),
    [
        ("/api/v1/search", {"query": "x", "colour": 1}, "colour", 422),
        ("/api/v1/api-keys", {"name": "k", "scope": "read", "colour": 1}, "colour", 422),
        (
            "/api/v1/chat/",
            {"messages": [{"content": "x", "colour": 1}]},
            "messages.0.colour",
            422,
        ),
        ("/api/v1/search", {"query": "x", "\u202ea\x00 \n[b]": 1}, "a [b]", 422),
        (
            "/v1/chat/completions",
            {
                "model": "m",
                "messages": [{"role": "user", "content": "x"}],
                "stream_options": {"foo": 1},
            },
            "stream_options.foo",
            400,
        ),
    ],
)
async def test_an_unknown_field_is_named(
    person: Person, path: str, body: Any, param: str, status: int
) -> None:
    error = check_error(await person.post(path, json=body), status)
    assert (error["param"], error["message"]) == (param, f"{param}: there is no such field.")


async def test_a_long_name_is_not_repeated(person: Person) -> None:
    """It may be a key that has slipped."""
    body = {"query": "x", "k" * 33: 1}
    error = check_error(await person.post("/api/v1/search", json=body), 422)
    assert (error["param"], error["message"]) == (None, "There is a field that is not known.")


async def test_a_text_that_is_too_long_has_characters(person: Person) -> None:
    response = await person.post("/api/v1/api-keys", json={"name": "x" * 1000, "scope": "read"})
    error = check_error(response, 422)
    assert error["message"].startswith("name: String should have at most ")
    assert error["message"].endswith(" characters.")
    response = await person.get("/v1/files", params={"after": "x" * 101})
    error = check_error(response, 400)
    assert error["message"] == "after: String should have at most 100 characters."


async def test_json_without_its_content_type_says_so(person: Person) -> None:
    for path, status in (("/api/v1/search", 422), ("/v1/chat/completions", 400)):
        response = await person.client.post(path, content=b'{"query": "x"}', headers=person.headers)
        assert "Content-Type: application/json" in check_error(response, status)["message"]


async def test_not_a_number_is_no_temperature(person: Person) -> None:
    for value in ("NaN", "Infinity", "-Infinity", "1e999"):
        content = f'{{"messages":[{{"content":"x"}}],"temperature":{value}}}'
        response = await person.client.post(
            "/api/v1/chat/", content=content, headers=person.headers | JSON
        )
        check_error(response, 422)


async def test_json_under_another_content_type_is_no_json(person: Person) -> None:
    response = await person.client.post(
        "/api/v1/search",
        content=json.dumps({"query": "x"}),
        headers=person.headers | {"Content-Type": "text/plain"},
    )
    check_error(response, 422)


async def test_what_nobody_expected_is_a_bare_500(broken: httpx2.AsyncClient) -> None:
    response = await broken.get("/broken/unknown", headers={"Origin": "http://localhost:3000"})
    assert check_error(response, 500)["code"] == "internal_error"
    assert check_error(await broken.get("/broken/statement"), 500)["code"] == "internal_error"
    assert CANARY not in response.text
    assert "ZeroDivision" not in response.text
    # A browser's script may read it, too.
    assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"


async def test_what_may_work_later_says_when(broken: httpx2.AsyncClient) -> None:
    for path, code in (
        ("provider", "provider_overloaded"),
        ("pool", "unavailable"),
        ("driver", "database_unavailable"),
        ("connection", "database_unavailable"),
    ):
        response = await broken.get(f"/broken/{path}")
        assert check_error(response, 503)["code"] == code
        assert int(response.headers["Retry-After"]) >= 1
        assert CANARY not in response.text


async def test_a_failure_behind_the_first_byte_cuts_the_response(
    broken: httpx2.AsyncClient,
) -> None:
    response = await broken.get("/broken/later")
    assert (response.status_code, response.text) == (200, "first")


async def test_request_ids_are_kept_only_if_harmless(client: httpx2.AsyncClient) -> None:
    kept = await client.get("/health", headers={"X-Request-ID": "trace-1.2_3"})
    assert kept.headers["X-Request-ID"] == "trace-1.2_3"
    for odd in (b"x" * 65, b"a b", b"a\tb", b"<script>", b"", "é".encode()):
        response = await client.get("/health", headers={b"X-Request-ID": odd})
        assert len(response.headers["X-Request-ID"]) == 32


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil.com",
        "https://evilapp.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com/",
        "https://APP.example.com",
        "https://example.com",
        "null",
        "file://",
        "*",
        "http://localhost:3000",
    ],
)
async def test_other_origins_are_refused(strict: httpx2.AsyncClient, origin: str) -> None:
    preflight = await strict.options(
        "/api/v1/search",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
    )
    plain = await strict.get("/health", headers={"Origin": origin})
    for response in (preflight, plain):
        assert "Access-Control-Allow-Origin" not in response.headers
    assert preflight.status_code == 400


@pytest.fixture(scope="module")
async def strict(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """Behaves as in production: a list of origins, no docs."""
    configured = settings.model_copy(
        update={
            "environment": type(settings.environment).PRODUCTION,
            "secret_key": type(settings.secret_key)("0123456789abcdef0123456789abcdef"),
            "cors_origins": "https://app.example.com, https://admin.example.com",
            "debug": True,
            "profile_requests": True,
        }
    )
    async with serve(configured) as (app, client):
        _add_failing_routes(app)
        yield client


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://admin.example.com"])
async def test_listed_origins_may_call(strict: httpx2.AsyncClient, origin: str) -> None:
    preflight = await strict.options(
        "/api/v1/search",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    for response in (preflight, await strict.get("/nothing", headers={"Origin": origin})):
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "Origin" in response.headers["Vary"]


# What the `openai` package of npm adds in a browser; Firefox and Safari also send its User-Agent.
OPENAI_HEADERS = (
    "authorization,content-type,user-agent,x-stainless-arch,x-stainless-helper-method,"
    "x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,"
    "x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
)


async def test_openais_client_may_call_from_a_listed_page(strict: httpx2.AsyncClient) -> None:
    origin = "https://app.example.com"
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for names, status in ((OPENAI_HEADERS, 200), ("x-stainless-other", 400)):
        response = await strict.options(
            "/v1/chat/completions", headers=asked | {"Access-Control-Request-Headers": names}
        )
        assert response.status_code == status
    exposed = (await strict.get("/health", headers={"Origin": origin})).headers
    assert "ETag" in exposed["Access-Control-Expose-Headers"].split(", ")


async def test_without_a_setting_production_allows_no_origin(settings: Settings) -> None:
    production = settings.model_copy(
        update={"environment": type(settings.environment).PRODUCTION, "cors_origins": ""}
    )
    transport = httpx2.ASGITransport(app=create_app(production))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/health", headers={"Origin": "http://localhost:3000"})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_production_shows_no_docs_no_profile_and_no_traceback(
    strict: httpx2.AsyncClient,
) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"):
        check_error(await strict.get(path), 404)
    assert (await strict.get("/health?profile=1")).json() == {"status": "ok"}
    response = await strict.get("/broken/unknown")
    check_error(response, 500)
    assert CANARY not in response.text


async def test_profiles_only_where_they_were_asked_for(
    client: httpx2.AsyncClient, settings: Settings
) -> None:
    assert (await client.get("/health?profile=1")).json() == {"status": "ok"}
    async with serve(settings.model_copy(update={"profile_requests": True})) as (_, profiled):
        assert (await profiled.get("/health")).json() == {"status": "ok"}
        assert (await profiled.get("/health?profile=10")).json() == {"status": "ok"}
        # Two at once, too.
        for path in ("/health", "/health/ready"):
            ask = profiled.get(f"{path}?profile=1"), profiled.get(f"{path}?profile=1")
            for page in await asyncio.gather(*ask):
                assert page.status_code == 200
                assert page.headers["Content-Type"].startswith("text/html")
                assert "pyinstrument" in page.text
