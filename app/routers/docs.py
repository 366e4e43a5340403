"""Swagger UI from our own origin, for the API's description; not there in production."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from app.core.errors import NotFound
from app.core.static_files import StaticFolder, respond_with

SWAGGER_UI = Path(str(files("fastapi_swagger.resources")))

router = APIRouter(prefix="/docs", include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_OPTIONS = {"url": "/openapi.json", "dom_id": "#swagger-ui", "deepLinking": True}
_START = f"SwaggerUIBundle({json.dumps(_OPTIONS)});\n"
# Swagger UI sets styles on its elements, and its pictures are in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_FILES = frozenset({"favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"})
_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}


async def get_swagger_ui(request: Request) -> StaticFolder:
    folder: StaticFolder = request.app.state.swagger_ui
    return folder


@router.get("")
async def show_docs() -> HTMLResponse:
    """The page with every route, to read and to try."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/start.js")
async def start_docs() -> Response:
    """A file of its own: the policy allows no script inside a page."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get("/{name}")
async def get_docs_file(
    name: str, request: Request, swagger_ui: Annotated[StaticFolder, Depends(get_swagger_ui)]
) -> Response:
    file = await swagger_ui.find(name) if name in _FILES else None
    if file is None:
        raise NotFound("There is no such file.")
    return respond_with(request, file, _HEADERS)
