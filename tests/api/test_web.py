"""The web app's page and files: where they are served, as what, with which headers."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from app.config import Environment, Settings
from app.core.static_files import StaticFolder
from app.main import create_app
from tests.conftest import serve
from tests.nginx import NGINX_CONF
from tests.people import Person

PAGE = b"<!doctype html><title>Footnote</title>" + b"<p>The page.</p>" * 50
SCRIPT = b"export const answer = 42;\n" * 100
FILES = {
    "index.html": PAGE,
    "favicon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ".sources": b"0" * 64,
    "assets/index-B1c2d3e4.js": SCRIPT,
    "assets/index-B1c2d3e4.css": b"body{margin:0}" * 50,
    "assets/pdf.worker-A1b2c3d4.mjs": SCRIPT,
    "assets/inter-A1b2c3d4.woff2": bytes(range(256)),
    "pdfjs/5.6.205/cmaps/Adobe-CNS1-0.bcmap": b"\x00cmap",
    "pdfjs/5.6.205/wasm/openjpeg.wasm": b"\x00asm" * 100,
    "pdfjs/5.6.205/standard_fonts/LiberationSans-Bold.ttf": b"ttf" * 100,
    "pdfjs/5.6.205/standard_fonts/FoxitFixed.pfb": b"pfb",
    "pdfjs/5.6.205/iccs/CGATS001Compat-v2-micro.icc": b"icc",
    "pdfjs/5.6.205/locale/viewer.ftl": "größe = Größe".encode(),
}
PAGES = [
    "/",
    "/sign-in",
    "/join",
    "/chat/0199c1d2-0000-7000-8000-000000000000",
    "/chat/whatever",
    "/documents",
    "/documents/0199c1d2-0000-7000-8000-000000000000",
    "/settings",
    "/settings/sign-ins",
]
TYPES = {
    "/assets/index-B1c2d3e4.js": "text/javascript; charset=utf-8",
    "/assets/index-B1c2d3e4.css": "text/css; charset=utf-8",
    "/assets/pdf.worker-A1b2c3d4.mjs": "text/javascript; charset=utf-8",
    "/assets/inter-A1b2c3d4.woff2": "font/woff2",
    "/pdfjs/5.6.205/cmaps/Adobe-CNS1-0.bcmap": "application/octet-stream",
    "/pdfjs/5.6.205/wasm/openjpeg.wasm": "application/wasm",
    "/pdfjs/5.6.205/standard_fonts/LiberationSans-Bold.ttf": "font/ttf",
    "/pdfjs/5.6.205/standard_fonts/FoxitFixed.pfb": "application/octet-stream",
    "/pdfjs/5.6.205/iccs/CGATS001Compat-v2-micro.icc": "application/vnd.iccprofile",
    "/pdfjs/5.6.205/locale/viewer.ftl": "text/plain; charset=utf-8",
    "/favicon.svg": "image/svg+xml",
}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "dist"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder.parent / "secret.txt").write_text("not for anybody")
    (folder / "assets" / "link.txt").symlink_to(folder.parent / "secret.txt")
    return folder


@pytest.fixture
def built(app: FastAPI, dist: Path) -> Iterator[None]:
    before = app.state.web_app
    app.state.web_app = StaticFolder(dist)
    yield
    app.state.web_app = before


@pytest.fixture
async def web(client: httpx2.AsyncClient, built: None) -> httpx2.AsyncClient:
    client.cookies.clear()
    return client


@pytest.fixture
async def production(settings: Settings, dist: Path) -> AsyncIterator[httpx2.AsyncClient]:
    secret = type(settings.secret_key)("9f2c4e6a8b0d1f3a5c7e9b1d3f5a7c9e1b3d5f7a")
    changes = {"environment": Environment.PRODUCTION, "secret_key": secret}
    app = create_app(settings.model_copy(update=changes))
    app.state.web_app = StaticFolder(dist)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def policy_of(response: httpx2.Response) -> dict[str, list[str]]:
    """Return the directives of the one Content-Security-Policy."""
    (policy,) = response.headers.get_list("content-security-policy")
    directives = [directive.split() for directive in policy.split(";")]
    assert len({name for name, *_ in directives}) == len(directives)
    return {name: values for name, *values in directives}


@pytest.mark.parametrize("path", PAGES)
async def test_each_address_of_the_app_is_the_page(web: httpx2.AsyncClient, path: str) -> None:
    response = await web.get(path)
    assert (response.status_code, response.content) == (200, PAGE)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    head = await web.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == response.headers["Content-Length"]


@pytest.mark.parametrize(
    "path",
    ["/chat", "/chat/1/2", "/documents/1/2", "/settings/a/b", "/index.html", "/Sign-In", "/login"],
)
async def test_no_other_address_is(web: httpx2.AsyncClient, path: str) -> None:
    response = await web.get(path, headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/assets/index-B1c2d3e4.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_it_can_only_be_read(web: httpx2.AsyncClient, method: str, path: str) -> None:
    assert (await web.request(method, path)).status_code == 405


async def test_the_page_is_asked_for_again_and_sent_once(web: httpx2.AsyncClient) -> None:
    etag = (await web.get("/")).headers["ETag"]
    for named in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        response = await web.get("/settings", headers={"If-None-Match": named})
        assert (response.status_code, response.content) == (304, b""), named
        assert response.headers["ETag"] == etag
        assert response.headers["Cache-Control"] == "no-cache"
    response = await web.get("/", headers={"If-None-Match": 'W/"other"'})
    assert response.status_code == 200


async def test_the_pages_policy_is_strict(web: httpx2.AsyncClient) -> None:
    response = await web.get("/")
    assert policy_of(response) == {
        "default-src": ["'none'"],
        "script-src": ["'self'", "'wasm-unsafe-eval'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "worker-src": ["'self'"],
        "manifest-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["footnote"],
    }
    # The policy of a worker is that of its own file.
    script = await web.get("/assets/pdf.worker-A1b2c3d4.mjs")
    assert policy_of(script) == policy_of(response)


@pytest.mark.parametrize("path", ["/", "/favicon.svg", "/assets/gone.js", "/health", "/api/v1/x"])
async def test_every_response_has_the_headers_of_security(
    web: httpx2.AsyncClient, path: str
) -> None:
    headers = (await web.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "clipboard" not in headers["Permissions-Policy"]


async def test_answers_of_the_api_load_nothing_and_are_kept_by_nobody(person: Person) -> None:
    for path in ("/api/v1/documents", "/api/v1/nothing", "/health"):
        response = await person.get(path)
        assert policy_of(response) == {"default-src": ["'none'"], "frame-ancestors": ["'none'"]}
        assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize(("path", "media_type"), TYPES.items())
async def test_files_are_kept_by_browsers_and_have_their_types(
    web: httpx2.AsyncClient, path: str, media_type: str
) -> None:
    response = await web.get(path)
    assert (response.status_code, response.content) == (200, FILES[path[1:]])
    assert response.headers["Content-Type"] == media_type
    kept = "public, max-age=86400" if path == "/favicon.svg" else "immutable"
    assert kept in response.headers["Cache-Control"]
    head = await web.head(path)
    assert (head.status_code, head.content) == (200, b"")
    again = await web.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304


async def read_raw(
    client: httpx2.AsyncClient, path: str, accepted: str
) -> tuple[str | None, bytes]:
    """Return the content coding, and the body as it was sent."""
    async with client.stream("GET", path, headers={"Accept-Encoding": accepted}) as response:
        assert "Accept-Encoding" in response.headers["Vary"]
        raw = b"".join([part async for part in response.aiter_raw()])
        assert response.headers["Content-Length"] == str(len(raw))
        return response.headers.get("Content-Encoding"), raw


@pytest.mark.parametrize(
    "accepted", ["gzip", "br, GZIP;q=0.5", "*", "deflate, gzip, br, zstd", "*;q=0, gzip"]
)
async def test_text_is_compressed_for_who_takes_that(
    web: httpx2.AsyncClient, accepted: str
) -> None:
    for path in ("/", "/assets/index-B1c2d3e4.js", "/pdfjs/5.6.205/wasm/openjpeg.wasm"):
        coding, raw = await read_raw(web, path, accepted)
        whole = FILES[path[1:] or "index.html"]
        assert (coding, gzip.decompress(raw)) == ("gzip", whole)
        assert len(raw) < len(whole)
    # Nothing is gained here.
    coding, raw = await read_raw(web, "/assets/inter-A1b2c3d4.woff2", accepted)
    assert (coding, raw) == (None, FILES["assets/inter-A1b2c3d4.woff2"])


@pytest.mark.parametrize(
    "accepted", ["identity", "gzip;q=0", "br, gzip; q=0.0", "*, gzip;q=0", "*;q=0", ""]
)
async def test_and_for_nobody_else(web: httpx2.AsyncClient, accepted: str) -> None:
    assert await read_raw(web, "/assets/index-B1c2d3e4.js", accepted) == (None, SCRIPT)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/gone-A1b2c3d4.js",
        "/assets/",
        "/assets/..%2f.sources",
        "/assets/..%2F..%2Fsecret.txt",
        "/assets/%2e%2e/.sources",
        "/assets/..%5c..%5csecret.txt",
        "/assets/link.txt",
        "/assets//index-B1c2d3e4.js",
        "/assets/index-B1c2d3e4.js%00",
        "/pdfjs//etc/passwd",
        "/.sources",
        "/dist/index.html",
    ],
)
async def test_there_are_no_other_files(web: httpx2.AsyncClient, path: str) -> None:
    response = await web.get(path)
    assert response.status_code == 404, response.text
    assert set(response.json()) == {"status", "error", "metadata"}
    assert "no-store" in response.headers["Cache-Control"]


async def test_production_serves_the_app_too(production: httpx2.AsyncClient) -> None:
    assert (await production.get("/")).content == PAGE
    assert (await production.get("/assets/index-B1c2d3e4.js")).content == SCRIPT
    assert (await production.get("/docs")).status_code == 404
    assert (await production.get("/docs/swagger-ui-bundle.js")).status_code == 404


async def test_without_a_bundle_it_says_how_to_build_one(
    app: FastAPI, web: httpx2.AsyncClient, tmp_path: Path
) -> None:
    app.state.web_app = StaticFolder(tmp_path / "nowhere")
    response = await web.get("/")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "web_app_not_built"
    assert "make web" in response.json()["error"]["message"]
    assert (await web.get("/assets/index-B1c2d3e4.js")).status_code == 404
    assert (await web.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        *("assets/../.sources", "../secret.txt", "assets/../../secret.txt", "./index.html"),
        *("/etc/passwd", "assets/./index-B1c2d3e4.js", "assets", "", "assets/link.txt"),
    ],
)
async def test_names_are_not_paths(dist: Path, name: str) -> None:
    assert await StaticFolder(dist).find(name) is None


async def test_a_file_that_is_gone_is_404(
    app: FastAPI, web: httpx2.AsyncClient, dist: Path
) -> None:
    (dist / "assets" / "old-A1b2c3d4.js").write_bytes(SCRIPT)
    app.state.web_app = StaticFolder(dist)
    (dist / "assets" / "old-A1b2c3d4.js").unlink()
    assert (await web.get("/assets/old-A1b2c3d4.js")).status_code == 404


async def test_a_file_is_read_once(dist: Path) -> None:
    folder = StaticFolder(dist)
    first, second = await asyncio.gather(folder.find("index.html"), folder.find("index.html"))
    assert first == second
    assert await folder.find("index.html") is await folder.find("index.html")


async def test_the_apis_description_comes_from_here_alone(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    assert not re.search(r"<script>|<style", page.text)
    for path in named:
        response = await client.get(path)
        assert response.status_code == 200, path
        assert response.content
    policy = policy_of(page)
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["connect-src"] == ["'self'"]
    for path in ("/docs/__init__.py", "/docs/nothing", "/docs/oauth2-redirect"):
        assert (await client.get(path)).status_code == 404


async def test_a_profile_may_show_itself(settings: Settings) -> None:
    async with serve(settings.model_copy(update={"profile_requests": True})) as (_, client):
        policy = policy_of(await client.get("/health?profile=1"))
    assert "'unsafe-inline'" in policy["script-src"]
    assert "connect-src" not in policy


def test_the_proxy_leaves_headers_as_they_are() -> None:
    directives = re.findall(r"^\s*(\w+)", NGINX_CONF.read_text(), flags=re.MULTILINE)
    assert not {"add_header", "proxy_hide_header", "gzip", "proxy_ignore_headers"} & set(directives)
