"""Every route: who may call it, and that a stranger's ids are 404."""

import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.dependencies import (
    PUBLIC_ROUTES,
    SIGN_IN_ROUTES,
    Caller,
    SignedInCaller,
    check_routes_are_guarded,
)
from app.ingestion.pipeline import Ingester
from app.routers import ROUTERS
from tests.conftest import ingest_all
from tests.people import Person, sign_in_elsewhere
from tests.stored_runs import ask, principal_of

REVIEWED_PUBLIC_ROUTES = {
    ("GET", "/"),
    ("GET", "/sign-in"),
    ("GET", "/join"),
    ("GET", "/chat/{conversation_id}"),
    ("GET", "/documents"),
    ("GET", "/documents/{document_id}"),
    ("GET", "/settings"),
    ("GET", "/settings/{section}"),
    ("GET", "/assets/{name:path}"),
    ("GET", "/pdfjs/{name:path}"),
    ("GET", "/favicon.svg"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/docs/start.js"),
    ("GET", "/docs/{name}"),
    ("GET", "/openapi.json"),
    ("POST", "/api/v1/auth/register"),
    ("POST", "/api/v1/auth/login"),
    ("POST", "/api/v1/auth/refresh"),
    ("POST", "/api/v1/auth/logout"),
    ("POST", "/api/v1/session"),
    ("POST", "/api/v1/session/register"),
    ("POST", "/api/v1/session/refresh"),
    ("DELETE", "/api/v1/session"),
    ("POST", "/api/v1/invitations/look-up"),
}
REVIEWED_SIGN_IN_ROUTES = {
    ("POST", "/api/v1/auth/password"),
    ("GET", "/api/v1/auth/me"),
    ("PATCH", "/api/v1/auth/me"),
    ("GET", "/api/v1/auth/sign-ins"),
    ("DELETE", "/api/v1/auth/sign-ins"),
    ("DELETE", "/api/v1/auth/sign-ins/{sign_in_id}"),
    ("POST", "/api/v1/session/password"),
    ("POST", "/api/v1/session/switch"),
    ("POST", "/api/v1/organizations"),
    ("GET", "/api/v1/organizations"),
    ("POST", "/api/v1/organizations/{organization_id}/switch"),
    ("GET", "/api/v1/organization-deletions/{organization_deletion_id}"),
    ("POST", "/api/v1/invitations/accept"),
}
ROUTES = sorted(
    (method, route.path)
    for router in ROUTERS.values()
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
)
GUARDED_ROUTES = [
    (method, path)
    for method, path in ROUTES
    if ("GET" if method == "HEAD" else method, path) not in REVIEWED_PUBLIC_ROUTES
]
ADMIN = "/api/v1/admin/"
STORE = "/v1/vector_stores/{vector_store_id}"
# Models are nobody's.
MODEL = "/v1/models/{model_id:path}"
_TUS = {"Tus-Resumable": "1.0.0"}
# What else a request for an id needs, or what a body with ids in it looks like.
OPTIONS_BY_ROUTE: dict[tuple[str, str], Callable[[str], dict[str, Any]]] = {
    ("POST", "/api/v1/chat/"): lambda document_id: {"json": _question_about(document_id)},
    ("POST", "/api/v1/chat/stream"): lambda document_id: {"json": _question_about(document_id)},
    ("POST", "/api/v1/chat/runs"): lambda document_id: {"json": _question_about(document_id)},
    ("POST", "/v1/chat/completions"): lambda document_id: {
        "json": _question_about(document_id) | {"model": "extractive"}
    },
    ("POST", "/api/v1/search"): lambda document_id: {
        "json": {"query": "What does it say?", "document_ids": [document_id]}
    },
    ("GET", "/api/v1/documents/suggestions"): lambda document_id: {
        "params": {"document_id": document_id}
    },
    ("POST", "/api/v1/documents/events"): lambda document_id: {
        "json": {"document_id": document_id}
    },
    ("GET", "/api/v1/documents/{document_id}/pages/{number}/rectangles"): lambda _: {
        "params": {"start": "0", "end": "9"}
    },
    ("PATCH", "/api/v1/organization/members/{user_id}"): lambda _: {"json": {"role": "viewer"}},
    ("PATCH", "/api/v1/api-keys/{key_id}"): lambda _: {"json": {"name": "Mine"}},
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): lambda _: {"json": {"description": "Mine"}},
    ("PATCH", "/api/v1/conversations/{conversation_id}"): lambda _: {"json": {"title": "Mine"}},
    ("PUT", "/api/v1/conversations/{conversation_id}/messages/{message_id}/feedback"): lambda _: {
        "json": {"rating": "up"}
    },
    ("PATCH", "/api/v1/documents/{document_id}"): lambda _: {"json": {"expires_at": None}},
    ("PUT", "/api/v1/documents/{document_id}/content"): lambda _: {
        "files": {"file": ("a.txt", b"somebody else's")}
    },
    ("POST", "/v1/vector_stores"): lambda document_id: {
        "json": {"file_ids": [_file_of(document_id)]}
    },
    ("POST", f"{STORE}"): lambda _: {"json": {"name": "Mine"}},
    ("POST", f"{STORE}/search"): lambda _: {"json": {"query": "zebra"}},
    ("POST", f"{STORE}/files"): lambda document_id: {"json": {"file_id": _file_of(document_id)}},
    ("POST", f"{STORE}/files/{{file_id}}"): lambda _: {"json": {"attributes": {}}},
    ("POST", f"{STORE}/file_batches"): lambda document_id: {
        "json": {"file_ids": [_file_of(document_id)]}
    },
    ("HEAD", "/api/v1/uploads/{upload_id}"): lambda _: {"headers": _TUS},
    ("DELETE", "/api/v1/uploads/{upload_id}"): lambda _: {"headers": _TUS},
    ("PATCH", "/api/v1/uploads/{upload_id}"): lambda _: {
        "headers": _TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"},
        "content": b"somebody else's",
    },
}


def _file_of(document_id: str) -> str:
    return f"file-{UUID(document_id).hex}"


def _question_about(document_id: str) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": "What does it say?"}],
        "document_ids": [document_id],
    }


def test_schemas_have_names_of_their_own(app: FastAPI) -> None:
    """Two with one name get those of our modules, which clients then carry into their code."""
    assert [name for name in app.openapi()["components"]["schemas"] if "__" in name] == []


def test_the_public_list_is_the_reviewed_one() -> None:
    assert PUBLIC_ROUTES == REVIEWED_PUBLIC_ROUTES


def test_the_list_of_what_takes_no_permission_is_the_reviewed_one() -> None:
    assert SIGN_IN_ROUTES == REVIEWED_SIGN_IN_ROUTES


def test_start_up_refuses_a_route_that_asks_for_no_permission() -> None:
    for alias in (Caller, SignedInCaller):
        router = APIRouter(prefix="/api/v1")

        async def handler(caller: alias) -> None: ...  # type: ignore[valid-type]

        router.add_api_route("/anybody", handler)
        refused = FastAPI(openapi_url=None)
        refused.include_router(router)
        with pytest.raises(RuntimeError, match="GET /api/v1/anybody asks for no permission"):
            check_routes_are_guarded(refused.routes)


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
    # Starlette adds HEAD to the pages of the API's documentation.
    assert _without_head(seen) == _without_head(ROUTES) | PUBLIC_ROUTES


def _without_head(routes: Iterable[tuple[str, str | None]]) -> set[tuple[str, str | None]]:
    return {(method, path) for method, path in routes if method != "HEAD"}


@pytest.mark.parametrize(("method", "path"), GUARDED_ROUTES)
async def test_without_a_credential_it_is_401(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    url = path.replace("{number}", "1")
    response = await client.request(method, re.sub(r"{\w+_id}", str(uuid4()), url))
    assert response.status_code == 401, path
    if method != "HEAD":
        assert response.json()["error"]["type"] == "authentication_error"


async def make_ids(person: Person, ingester: Ingester) -> dict[str, str]:
    """Return one thing of theirs for each parameter that a path has."""
    uploaded = await person.upload("mine.txt", b"The zebra crossing is closed on Sundays.")
    await ingest_all(ingester)
    deleted = (await person.upload("gone.txt", b"The zebra is gone.")).json()["document_id"]
    deletion = await person.delete(f"/api/v1/documents/{deleted}")
    started = await person.client.post(
        "/api/v1/uploads", headers=person.headers | _TUS | {"Upload-Length": "15"}
    )
    assert started.status_code == 201, started.text
    key = await person.post("/api/v1/api-keys", json={"name": "k", "scope": "read"})
    hook = {"url": "http://127.0.0.1:9/", "events": ["run.failed"]}
    webhook_id = (await person.post("/api/v1/webhooks", json=hook)).json()["id"]
    delivery = await person.post(f"/api/v1/webhooks/{webhook_id}/test")
    document_id = UUID(uploaded.json()["document_id"])
    who = principal_of(person.org_id, person.user_id)
    ended = await ask(ingester.db, who, "Where is the zebra?", document_id=document_id)
    return {
        "{conversation_id}": str(ended.begun.conversation_id),
        "{message_id}": str(ended.begun.message_id),
        "{run_id}": str(ended.begun.run_id),
        "{document_id}": uploaded.json()["document_id"],
        "{deletion_id}": deletion.json()["deletion_id"],
        "{upload_id}": started.json()["upload_id"],
        "{key_id}": key.json()["id"],
        "{sign_in_id}": (await person.get("/api/v1/auth/sign-ins")).json()["items"][0]["id"],
        "{webhook_id}": webhook_id,
        "{delivery_id}": delivery.json()["id"],
        "{number}": "1",
        "{user_id}": str(person.user_id),
        **await make_organization_ids(person),
        **await make_openai_ids(person, _file_of(uploaded.json()["document_id"])),
    }


async def make_openai_ids(person: Person, file_id: str) -> dict[str, str]:
    store = (await person.post("/v1/vector_stores", json={"file_ids": [file_id]})).json()["id"]
    batch = await person.post(
        f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file_id]}
    )
    asked = {"model": "extractive", "input": "Where is the zebra?"}
    response = await person.post("/v1/responses", json=asked)
    return {
        "{file_id}": file_id,
        "{vector_store_id}": store,
        "{batch_id}": batch.json()["id"],
        "{response_id}": response.json()["id"],
    }


async def make_organization_ids(person: Person) -> dict[str, str]:
    invited = await person.post(
        "/api/v1/organization/invitations", json={"email": f"{uuid4().hex}@example.com"}
    )
    made = await person.post("/api/v1/organizations", json={"name": "Gone"})
    switched = await sign_in_elsewhere(person, made.json()["id"])
    deletion = await switched.client.request(
        "DELETE", "/api/v1/organization", json={"confirm": "Gone"}, headers=switched.headers
    )
    return {
        "{organization_id}": str(person.org_id),
        "{organization_deletion_id}": deletion.json()["id"],
        "{invitation_id}": invited.json()["id"],
    }


async def test_the_routes_of_operators_are_403_for_everybody_else(
    person: Person, stranger: Person
) -> None:
    """Ids of theirs belong to the deployment: there is nothing to tell apart by a 404."""
    walked = 0
    for method, path in ROUTES:
        if not path.startswith(ADMIN):
            continue
        url = path.replace("{space_id}", "1").replace("{action}", "switch")
        response = await stranger.client.request(method, url, headers=stranger.headers)
        assert response.status_code == 403, (method, path, response.text)
        walked += 1
    assert walked >= 4


async def test_every_route_with_an_id_is_404_for_a_stranger(
    person: Person, stranger: Person, ingester: Ingester
) -> None:
    ids = await make_ids(person, ingester)
    walked = 0
    for method, path in GUARDED_ROUTES:
        options_of = OPTIONS_BY_ROUTE.get((method, path))
        if path.startswith(ADMIN) or path == MODEL or ("{" not in path and options_of is None):
            continue
        # A new id parameter must be filled in here before this test passes again.
        url = path
        for name, value in ids.items():
            url = url.replace(name, value)
        assert "{" not in url, path
        options = options_of(ids["{document_id}"]) if options_of else {}
        headers = stranger.headers | options.pop("headers", {})
        response = await stranger.client.request(method, url, headers=headers, **options)
        assert response.status_code == 404, (method, path, response.text)
        if method != "HEAD":
            assert response.json()["error"]["code"] == "not_found"
        walked += 1
    assert walked >= 20
    # And they are there: their owner finds them.
    for path in (
        f"/api/v1/documents/{ids['{document_id}']}/pages/1",
        f"/api/v1/deletions/{ids['{deletion_id}']}",
        f"/api/v1/api-keys/{ids['{key_id}']}",
        f"/api/v1/uploads/{ids['{upload_id}']}",
        f"/api/v1/conversations/{ids['{conversation_id}']}/messages?leaf={ids['{message_id}']}",
        f"/api/v1/messages/{ids['{message_id}']}/trace",
        f"/api/v1/chat/runs/{ids['{run_id}']}",
    ):
        assert (await person.get(path)).status_code == 200, path
