"""Every route: who may call it, and that a stranger's ids are 404."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.dependencies import PUBLIC_ROUTES, check_routes_are_guarded
from app.ingestion.pipeline import Ingester
from app.routers import ROUTERS
from tests.conftest import ingest_all
from tests.people import Person

REVIEWED_PUBLIC_ROUTES = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/docs/oauth2-redirect"),
    ("GET", "/openapi.json"),
    ("POST", "/api/v1/auth/register"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/logout"),
}
ROUTES = sorted(
    (method, route.path)
    for router in ROUTERS.values()
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
# What a body with ids in it looks like, for each route that takes one.
BODIES_WITH_IDS: dict[tuple[str, str], Callable[[str], Any]] = {
    ("POST", "/api/v1/chat/"): lambda document_id: {
        "messages": [{"role": "user", "content": "What does it say?"}],
        "document_ids": [document_id],
    },
    ("POST", "/api/v1/chat/stream"): lambda document_id: {
        "messages": [{"role": "user", "content": "What does it say?"}],
        "document_ids": [document_id],
    },
    ("POST", "/api/v1/search"): lambda document_id: {
        "query": "What does it say?",
        "document_ids": [document_id],
    },
}


def test_the_public_list_is_the_reviewed_one() -> None:
    assert PUBLIC_ROUTES == REVIEWED_PUBLIC_ROUTES


def test_start_up_refuses_a_route_that_nobody_guards(app: FastAPI) -> None:
    check_routes_are_guarded(app.routes)
    bare = APIRouter(prefix="/api/v1")

    @bare.get("/bare")
    async def handler() -> None: ...

    for included in (bare, _including(bare)):
        unguarded = FastAPI(openapi_url=None)
        unguarded.include_router(included)
        with pytest.raises(RuntimeError, match="GET /api/v1/bare"):
            check_routes_are_guarded(unguarded.routes)
    mounting = FastAPI(openapi_url=None)
    mounting.mount("/files", FastAPI())
    with pytest.raises(RuntimeError, match="ANY /files"):
        check_routes_are_guarded(mounting.routes)


def _including(router: APIRouter) -> APIRouter:
    outer = APIRouter()
    outer.include_router(router)
    return outer


def test_the_check_sees_every_route_of_the_app(app: FastAPI) -> None:
    seen = {(m, r.path) for r in iter_route_contexts(app.routes) for m in r.methods or ()}
    assert {(method, path) for method, path in seen if method != "HEAD"} == set(
        ROUTES
    ) | PUBLIC_ROUTES


@pytest.mark.parametrize(("method", "path"), [r for r in ROUTES if r not in PUBLIC_ROUTES])
async def test_without_a_credential_it_is_401(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, path.replace("{document_id}", str(uuid4())))
    assert response.status_code == 401, path
    assert response.json()["error"]["type"] == "authentication_error"


async def test_every_route_with_an_id_is_404_for_a_stranger(
    person: Person, stranger: Person, ingester: Ingester
) -> None:
    uploaded = await person.upload("mine.txt", b"The zebra crossing is closed on Sundays.")
    document_id = uploaded.json()["document_id"]
    await ingest_all(ingester)
    walked = 0
    for method, path in ROUTES:
        body = BODIES_WITH_IDS.get((method, path))
        if "{" not in path and body is None:
            continue
        # A new id parameter must be filled in here before this test passes again.
        url = path.replace("{document_id}", document_id)
        assert "{" not in url, path
        response = await stranger.client.request(
            method, url, headers=stranger.headers, json=body(document_id) if body else None
        )
        assert response.status_code == 404, (method, path, response.text)
        assert response.json()["error"]["code"] == "not_found"
        walked += 1
    assert walked >= 6
    assert (await person.get(f"/api/v1/documents/{document_id}")).status_code == 200
