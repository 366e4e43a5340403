"""The web app, as it was built: its page at the app's own addresses, and the files of the page."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.core.errors import NotFound
from app.core.static_files import StaticFolder, respond_with

DIST = Path(__file__).parents[1] / "web" / "dist"

# A worker obeys the policy that its own file came with, so files have the page's. Trusted types:
# text becomes script or markup only through the one policy that the page defines.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types footnote",
    )
)
_FOREVER = "public, max-age=31536000, immutable"
_A_DAY = "public, max-age=86400"

router = APIRouter(include_in_schema=False)


async def get_web_app(request: Request) -> StaticFolder:
    folder: StaticFolder = request.app.state.web_app
    return folder


WebApp = Annotated[StaticFolder, Depends(get_web_app)]


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/sign-in", methods=["GET", "HEAD"])
@router.api_route("/join", methods=["GET", "HEAD"])
@router.api_route("/chat/{conversation_id}", methods=["GET", "HEAD"])
@router.api_route("/documents", methods=["GET", "HEAD"])
@router.api_route("/documents/{document_id}", methods=["GET", "HEAD"])
@router.api_route("/settings", methods=["GET", "HEAD"])
@router.api_route("/settings/{section}", methods=["GET", "HEAD"])
async def show_page(request: Request, web_app: WebApp) -> Response:
    """The one page, whatever the address says: the app reads that, and the API knows the caller."""
    page = await web_app.find("index.html")
    if page is None:
        raise NotFound("The web app is not built: run `make web`.", code="web_app_not_built")
    return respond_with(request, page, _headers("no-cache"))


@router.api_route("/assets/{name:path}", methods=["GET", "HEAD"])
async def get_asset(name: str, request: Request, web_app: WebApp) -> Response:
    """What belongs to the page; its name changes with its content."""
    return await _send(request, web_app, f"assets/{name}", _FOREVER)


@router.api_route("/pdfjs/{name:path}", methods=["GET", "HEAD"])
async def get_viewer_file(name: str, request: Request, web_app: WebApp) -> Response:
    """Character maps, fonts and WebAssembly of pdf.js, whose version is in their path."""
    return await _send(request, web_app, f"pdfjs/{name}", _FOREVER)


@router.api_route("/favicon.svg", methods=["GET", "HEAD"])
async def get_favicon(request: Request, web_app: WebApp) -> Response:
    return await _send(request, web_app, "favicon.svg", _A_DAY)


async def _send(request: Request, web_app: StaticFolder, name: str, cache_control: str) -> Response:
    file = await web_app.find(name)
    if file is None:
        raise NotFound("There is no such file.")
    return respond_with(request, file, _headers(cache_control))


def _headers(cache_control: str) -> dict[str, str]:
    return {"Cache-Control": cache_control, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
