"""Who may call what: each route under each role, by a sign-in and by a key of each scope."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from app.accounts.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, Scope
from app.dependencies import (
    PUBLIC_ROUTES,
    Requires,
    StreamAuthentication,
    authorize_operator,
    guards_of,
    require_sign_in,
)
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.key_holders import let_5_s_pass, plant_key, set_role
from tests.people import Person, register

P = Permission
Callers: TypeAlias = dict[tuple[MemberRole, Scope | None], Person]
SIGN_IN, OPERATOR = "sign-in", "operator"
# None: a sign-in instead of a key.
SCOPES: tuple[Scope | None, ...] = (None, *Scope)
CALLERS = tuple(product(MemberRole, SCOPES))

# What is no GET, and yet only reads or asks for no more than reading.
READING_POSTS = {
    ("POST", "/api/v1/search"),
    ("POST", "/api/v1/documents/events"),
    ("POST", "/api/v1/chat/runs/{run_id}/events"),
    ("POST", "/v1/vector_stores/{vector_store_id}/search"),
}
# What looks closer itself: leaving an organization takes a sign-in, removing others a manager; and
# each tool asks for what the route that it calls asks for.
CHECKED_INSIDE = {
    ("DELETE", "/api/v1/organization/members/{user_id}"),
    ("POST", "/mcp"),
}
# The whole of what each role and scope may do, written down a second time.
ROLES_OF = {
    P.READ: {"owner", "admin", "member", "viewer"},
    P.ASK: {"owner", "admin", "member", "viewer"},
    P.READ_ORGANIZATION: {"owner", "admin", "member", "viewer"},
    P.WRITE: {"owner", "admin", "member"},
    P.MANAGE_KEYS: {"owner", "admin", "member"},
    P.MANAGE_ORGANIZATION: {"owner", "admin"},
    P.OWN_ORGANIZATION: {"owner"},
}
SCOPES_OF = {
    P.READ: {"read", "write", "admin"},
    P.READ_ORGANIZATION: {"read", "write", "admin"},
    P.ASK: {"write", "admin"},
    P.WRITE: {"write", "admin"},
    P.MANAGE_KEYS: {"admin"},
    P.MANAGE_ORGANIZATION: {"admin"},
    P.OWN_ORGANIZATION: {"admin"},
}
# For each permission a call that goes well with it.
SAMPLES: dict[Permission, list[tuple[str, str, dict[str, Any], int]]] = {
    P.READ: [
        ("GET", "/api/v1/documents", {}, 200),
        ("GET", "/api/v1/conversations", {}, 200),
        ("GET", "/v1/models", {}, 200),
        ("POST", "/api/v1/documents/events", {}, 201),
    ],
    P.ASK: [("POST", "/api/v1/conversations", {"json": {"title": "Zebras"}}, 201)],
    P.WRITE: [("DELETE", f"/api/v1/documents/{uuid4()}", {}, 404)],
    P.READ_ORGANIZATION: [("GET", "/api/v1/organization", {}, 200)],
    P.MANAGE_KEYS: [("GET", "/api/v1/api-keys", {}, 200)],
    P.MANAGE_ORGANIZATION: [
        ("PATCH", "/api/v1/organization", {"json": {"system_prompt": "Be brief."}}, 200),
        ("GET", "/api/v1/api-keys?all=true", {}, 200),
    ],
}


@dataclass(frozen=True, slots=True)
class Route:
    """A guarded route, and what it asks of a caller: a permission, SIGN_IN or OPERATOR."""

    method: str
    path: str
    needs: str

    def refusal_of(self, role: MemberRole, scope: Scope | None) -> str | None:
        """The code of the 403 that such a caller gets, None where they may."""
        if self.needs in (SIGN_IN, OPERATOR):
            if scope is not None:
                return "sign_in_required"
            return "forbidden" if self.needs == OPERATOR else None
        permission = P(self.needs)
        if role not in ROLES_OF[permission]:
            return "forbidden"
        is_enough = scope is None or scope in SCOPES_OF[permission]
        return None if is_enough else "insufficient_scope"


def needs_of(route: object) -> str:
    found = set()
    for guard in guards_of(route):
        if isinstance(guard, Requires):
            found.add(guard.permission.value)
        elif isinstance(guard, StreamAuthentication):
            found.add(P.READ.value)
        elif guard is authorize_operator:
            found.add(OPERATOR)
    if not found and require_sign_in in guards_of(route):
        return SIGN_IN
    assert len(found) == 1, (route, found)
    return str(found.pop())


@pytest.fixture(scope="module")
def routes(app: FastAPI) -> list[Route]:
    return [
        Route(method, route.path or "", needs_of(route.original_route))
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or ())
        if ("GET" if method == "HEAD" else method, route.path) not in PUBLIC_ROUTES
    ]


@pytest.fixture(scope="module")
async def callers(client: httpx2.AsyncClient, resources: Resources) -> AsyncIterator[Callers]:
    found: Callers = {}
    for role in MemberRole:
        person = await register(client, f"{role.value}-{uuid4().hex}@example.com")
        await set_role(resources, person, role)
        found[role, None] = person
        for scope in Scope:
            found[role, scope] = await plant_key(resources, person, scope)
    async with resources.db.system_transaction() as session:
        # The first who registers is one.
        await session.execute(text("UPDATE users SET is_operator = false"))
    let_5_s_pass(resources.principals)
    yield found


def test_the_tables_are_the_reviewed_ones() -> None:
    for permission in P:
        assert ROLES_OF[permission] == {
            role.value for role, may in ROLE_PERMISSIONS.items() if permission in may
        }
        assert SCOPES_OF[permission] == {
            scope.value for scope, may in SCOPE_PERMISSIONS.items() if permission in may
        }


def test_each_route_asks_for_a_permission_that_fits_its_method(routes: list[Route]) -> None:
    """Nothing changes anything by the permission to read."""
    counted: Counter[str] = Counter()
    for route in routes:
        counted[route.needs] += 1
        is_safe = route.method in ("GET", "HEAD", "OPTIONS")
        is_reading = is_safe or (route.method, route.path) in READING_POSTS
        is_checked_inside = (route.method, route.path) in CHECKED_INSIDE
        if route.needs in (P.READ, P.READ_ORGANIZATION) and not is_checked_inside:
            assert is_reading, route
        if route.path.startswith("/api/v1/admin/"):
            assert route.needs == OPERATOR, route
        if route.path.startswith(("/api/v1/auth/", "/api/v1/session")):
            assert route.needs == SIGN_IN, route
    print(*sorted(counted.items()), sep="\n")  # noqa: T201
    assert counted[P.READ] >= 25
    assert counted[P.WRITE] >= 8


def test_the_table_of_all_routes(routes: list[Route]) -> None:
    """Print who may call what, and hold that the roles and scopes are told apart by it."""
    print("".ljust(88), *(f"{role.value[:2]}/{_short(scope)}" for role, scope in CALLERS))  # noqa: T201
    allowed: Counter[tuple[MemberRole, Scope | None]] = Counter()
    for route in routes:
        cells = []
        for caller in CALLERS:
            may = route.refusal_of(*caller) is None
            allowed[caller] += may
            cells.append("  +  " if may else " 403 ")
        print(f"{route.method:7}{route.path:60}{route.needs:21}", *cells)  # noqa: T201
    owner, viewer = (MemberRole.OWNER, None), (MemberRole.VIEWER, None)
    assert allowed[owner] > allowed[MemberRole.MEMBER, None] > allowed[viewer]
    assert allowed[owner] > allowed[MemberRole.OWNER, Scope.ADMIN]
    for role in MemberRole:
        by_scope = [allowed[role, scope] for scope in Scope]
        assert by_scope == sorted(by_scope)
        assert by_scope[0] < by_scope[1]


def _short(scope: Scope | None) -> str:
    return "--" if scope is None else scope.value[:2]


@pytest.mark.parametrize(("role", "scope"), CALLERS)
async def test_each_route_refuses_who_may_not(
    routes: list[Route],
    callers: Callers,
    role: MemberRole,
    scope: Scope | None,
) -> None:
    """Before it looks at anything else of the request."""
    caller = callers[role, scope]
    refused = 0
    for route in routes:
        expected = route.refusal_of(role, scope)
        if expected is None:
            continue
        url = "/".join(
            str(uuid4()) if part.startswith("{") else part for part in route.path.split("/")
        )
        response = await caller.client.request(route.method, url, headers=caller.headers)
        assert response.status_code == 403, (route, response.text)
        if route.method != "HEAD":
            assert response.json()["error"]["code"] == expected, route
            assert response.json()["error"]["type"] == "permission_error"
        refused += 1
    assert refused >= 4


@pytest.mark.parametrize("permission", SAMPLES)
async def test_each_permission_lets_those_through_who_have_it(
    callers: Callers, permission: Permission
) -> None:
    for method, path, options, status in SAMPLES[permission]:
        for (role, scope), caller in callers.items():
            has_role = role in ROLES_OF[permission]
            has_scope = scope is None or scope in SCOPES_OF[permission]
            response = await caller.client.request(method, path, headers=caller.headers, **options)
            expected = status if has_role and has_scope else 403
            assert response.status_code == expected, (path, role, scope, response.text)
