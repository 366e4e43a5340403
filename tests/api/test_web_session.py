"""The web app's sign-in: a cookie for its own pages, and nothing that a foreign page could use."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from typing import Any, cast
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.resources import Resources
from tests.people import PASSWORD, Person

WEB = {"X-Footnote-Web": "1"}
SESSION = "/api/v1/session"


class Browser:
    """Sends what a page of the web app sends, with the cookies that it was given."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}

    async def call(self, method: str, path: str = "", **options: Any) -> httpx2.Response:
        headers = WEB | self.cookie_header() | options.pop("headers", {})
        response = await self.client.request(method, SESSION + path, headers=headers, **options)
        # Tests share the client, which must not send one person's cookie for the next.
        self.client.cookies.clear()
        for name, morsel in cookies_of(response).items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return response

    def cookie_header(self) -> dict[str, str]:
        pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": pairs} if pairs else {}

    def copy(self) -> "Browser":
        """Another tab, or a thief: the same cookies, from here on its own."""
        other = Browser(self.client)
        other.cookies = dict(self.cookies)
        return other


def cookies_of(response: httpx2.Response) -> dict[str, Morsel[str]]:
    cookie = SimpleCookie()
    for header in response.headers.get_list("set-cookie"):
        cookie.load(header)
    return dict(cookie)


def session_of(response: httpx2.Response) -> str:
    """The `sid` of its access token."""
    payload = response.json()["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sid"])


@pytest.fixture
async def browser(client: httpx2.AsyncClient, person: Person) -> Browser:
    """Somebody who has signed in to the web app."""
    browser = Browser(client)
    response = await browser.call("POST", json={"email": person.email, "password": PASSWORD})
    assert response.status_code == 200, response.text
    return browser


async def age_uses(resources: Resources, person: Person, seconds: float) -> None:
    """Make it that much longer ago that this person's tokens were used."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE refresh_tokens SET used_at = used_at - make_interval(secs => :seconds)"
                " WHERE user_id = :user_id"
            ),
            {"seconds": seconds, "user_id": person.user_id},
        )


async def test_signing_in_gives_an_access_token_and_a_cookie(
    client: httpx2.AsyncClient, person: Person
) -> None:
    response = await Browser(client).call(
        "POST", json={"email": person.email.upper(), "password": PASSWORD}
    )
    assert response.status_code == 200
    body = response.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "user", "organization"}
    user = body["user"]
    assert (user["id"], user["email"], user["name"]) == (str(person.user_id), person.email, "")
    assert body["organization"]["id"] == str(person.org_id)
    headers = {"Authorization": f"Bearer {body['access_token']}"}
    assert (await client.get("/api/v1/auth/me", headers=headers)).status_code == 200
    (cookie,) = cookies_of(response).values()
    assert cookie.value not in response.text
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert (cookie["max-age"], cookie["domain"]) == (str(30 * 86_400), "")


async def test_registering_takes_a_name_and_signs_in(client: httpx2.AsyncClient) -> None:
    browser, email = Browser(client), f"{uuid4().hex}@example.com"
    response = await browser.call(
        "POST", "/register", json={"email": email, "password": PASSWORD, "name": "  Ada \n L. "}
    )
    assert response.status_code == 201
    assert response.json()["user"]["name"] == "Ada L."
    assert "refresh_token" not in response.json()
    assert (await browser.call("POST", "/refresh")).json()["user"]["email"] == email
    again = await browser.call("POST", "/register", json={"email": email, "password": PASSWORD})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "email_taken")


async def test_sign_in_does_not_tell_unknown_users_from_wrong_passwords(
    client: httpx2.AsyncClient, person: Person
) -> None:
    bodies = []
    for email in (person.email, "nobody@example.com", "no address at all"):
        response = await Browser(client).call("POST", json={"email": email, "password": "wrong"})
        assert "set-cookie" not in response.headers
        bodies.append((response.status_code, response.json()["error"]))
    assert bodies[0] == bodies[1] == bodies[2]
    assert (bodies[0][0], bodies[0][1]["code"]) == (401, "invalid_credentials")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://footnote.example.com", "__Host-footnote"),
        ("http://127.0.0.1:8000", "__Host-footnote"),
        ("http://127.8.9.10", "__Host-footnote"),
        ("http://[::1]:8000", "__Host-footnote"),
        ("http://localhost:8000", "__Host-footnote"),
        ("http://app.localhost:8000", "__Host-footnote"),
        ("http://footnote.lan:8000", "footnote"),
        ("http://192.168.0.7", "footnote"),
        ("http://127.0.0.1.example.com", "footnote"),
        ("http://localhost.example.com", "footnote"),
        ("http://notlocalhost", "footnote"),
    ],
)
async def test_the_cookie_is_secure_where_the_browser_takes_that(
    app: FastAPI, person: Person, url: str, name: str
) -> None:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=url) as client:
        browser = Browser(client)
        credentials = {"email": person.email, "password": PASSWORD}
        response = await browser.call("POST", json=credentials, headers={"Origin": url})
        ((given, cookie),) = cookies_of(response).items()
        assert (given, bool(cookie["secure"])) == (name, name.startswith("__Host-"))
        assert (await browser.call("POST", "/refresh")).status_code == 200
        cleared = cookies_of(await browser.call("DELETE"))[name]
        # A browser refuses to change such a cookie by one that lacks these.
        assert (cleared["path"], bool(cleared["secure"])) == ("/", bool(cookie["secure"]))


SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.0 Safari/605.1.15"
)


@pytest.mark.parametrize(
    ("url", "name"),
    [("http://localhost:8000", "footnote"), ("https://localhost:8000", "__Host-footnote")],
)
async def test_safari_takes_secure_cookies_over_https_alone(
    app: FastAPI, person: Person, url: str, name: str
) -> None:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"User-Agent": SAFARI}
    async with httpx2.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
        browser = Browser(client)
        await browser.call("POST", json={"email": person.email, "password": PASSWORD})
        assert list(browser.cookies) == [name]
        assert (await browser.call("POST", "/refresh")).status_code == 200


@pytest.mark.parametrize(
    ("peer", "name"), [("127.0.0.1", "__Host-footnote"), ("203.0.113.9", "footnote")]
)
async def test_https_is_believed_of_a_trusted_proxy_alone(
    app: FastAPI, person: Person, peer: str, name: str
) -> None:
    behind: Any = ProxyHeadersMiddleware(cast(Any, app), trusted_hosts="127.0.0.1")
    transport = httpx2.ASGITransport(app=behind, client=(peer, 4711))
    async with httpx2.AsyncClient(transport=transport, base_url="http://a.example.com") as client:
        response = await Browser(client).call(
            "POST",
            json={"email": person.email, "password": PASSWORD},
            headers={"X-Forwarded-Proto": "https"},
        )
    assert list(cookies_of(response)) == [name]


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        ("https://test", "__Host-footnote"),
        ("https://forwarded.example.com", "__Host-footnote"),
        ("http://localhost:9000", "__Host-footnote"),
        ("http://test:81", "footnote"),
    ],
)
async def test_behind_a_proxy_that_hides_where_the_page_is_the_browser_tells(
    client: httpx2.AsyncClient, person: Person, origin: str, name: str
) -> None:
    """TLS ends before it, or it changes `Host`: forwarded ports, tunnels, nginx's `$host`."""
    credentials = {"email": person.email, "password": PASSWORD}
    browser = Browser(client)
    seen = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    response = await browser.call("POST", json=credentials, headers=seen)
    assert list(cookies_of(response)) == [name]
    assert (await browser.call("POST", "/refresh", headers=seen)).status_code == 200
    assert (await browser.call("DELETE", headers=seen)).status_code == 204
    assert browser.cookies == {}


async def test_over_https_a_planted_cookie_without_the_prefix_does_not_count(
    app: FastAPI, browser: Browser
) -> None:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="https://test") as client:
        victim = Browser(client)
        victim.cookies = {"footnote": browser.cookies["footnote"]}
        response = await victim.call("POST", "/refresh")
    assert response.status_code == 204


async def test_refreshing_replaces_the_cookie_and_keeps_the_sign_in(browser: Browser) -> None:
    before = dict(browser.cookies)
    first = await browser.call("POST", "/refresh")
    second = await browser.call("POST", "/refresh")
    assert (first.status_code, second.status_code) == (200, 200)
    assert browser.cookies != before
    assert cookies_of(first)["footnote"].value != cookies_of(second)["footnote"].value
    assert session_of(first) == session_of(second)
    assert "refresh_token" not in second.json()


async def test_without_a_cookie_there_is_no_session(client: httpx2.AsyncClient) -> None:
    response = await Browser(client).call("POST", "/refresh")
    assert (response.status_code, response.content) == (204, b"")
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("value", ["nonsense", "x" * 4000, "%00", "a.b.c"])
async def test_a_cookie_that_is_not_valid_is_refused(
    client: httpx2.AsyncClient, value: str
) -> None:
    browser = Browser(client)
    browser.cookies = {"footnote": value}
    response = await browser.call("POST", "/refresh")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_refresh_token"


async def test_a_refusal_that_comes_late_leaves_the_cookie_of_a_new_sign_in(
    browser: Browser, person: Person
) -> None:
    """A tab refreshes while another changes the password: the answers come in any order."""
    late_tab = browser.copy()
    access = (await browser.call("POST", "/refresh")).json()["access_token"]
    body = {"current_password": PASSWORD, "new_password": "a new password"}
    headers = {"Authorization": f"Bearer {access}"}
    assert (await browser.call("POST", "/password", json=body, headers=headers)).status_code == 200
    refused = await late_tab.call("POST", "/refresh")
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)


async def test_two_changes_of_the_password_at_once_do_not_both_count(
    browser: Browser, person: Person
) -> None:
    """Else who knows the old password only could still set theirs over the new one."""
    responses = await asyncio.gather(
        *(
            browser.copy().call(
                "POST",
                "/password",
                json={"current_password": PASSWORD, "new_password": f"a new password {number}"},
                headers=person.headers,
            )
            for number in range(2)
        )
    )
    assert sorted(response.status_code for response in responses) == [200, 401]


async def test_who_was_shut_out_is_signed_out(
    browser: Browser, person: Person, resources: Resources
) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": person.user_id}
        )
    response = await browser.call("POST", "/refresh")
    assert response.status_code == 401
    body = {"refresh_token": person.tokens["refresh_token"]}
    refused = await browser.client.post("/api/v1/auth/refresh", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_refresh_token")


async def test_tabs_that_refresh_at_once_all_succeed_with_one_cookie(browser: Browser) -> None:
    tabs = [browser.copy() for _ in range(12)]
    responses = await asyncio.gather(*(tab.call("POST", "/refresh") for tab in tabs))
    assert {response.status_code for response in responses} == {200}
    assert len({session_of(response) for response in responses}) == 1
    # There is one line of tokens, not twelve.
    assert len({tab.cookies["footnote"] for tab in tabs}) == 1
    assert tabs[0].cookies != browser.cookies
    assert (await tabs[3].call("POST", "/refresh")).status_code == 200


async def test_a_tab_that_is_two_cookies_late_gets_the_newest(browser: Browser) -> None:
    late = browser.copy()
    await browser.call("POST", "/refresh")
    await browser.call("POST", "/refresh")
    assert (await late.call("POST", "/refresh")).status_code == 200
    assert late.cookies == browser.cookies


async def test_a_tab_that_is_many_cookies_late_does_not_get_the_newest(browser: Browser) -> None:
    """To find it takes a query for each; no browser is so far behind."""
    late = browser.copy()
    for _ in range(17):
        assert (await browser.call("POST", "/refresh")).status_code == 200
    assert (await late.call("POST", "/refresh")).status_code == 401
    assert (await browser.call("POST", "/refresh")).status_code == 401


async def test_a_cookie_that_comes_again_later_ends_the_sign_in(
    browser: Browser, person: Person, resources: Resources
) -> None:
    thief = browser.copy()
    await browser.call("POST", "/refresh")
    await age_uses(resources, person, 31)
    stolen = await thief.call("POST", "/refresh")
    assert stolen.status_code == 401
    newest = await browser.call("POST", "/refresh")
    assert (newest.status_code, newest.json()["error"]["code"]) == (401, "invalid_refresh_token")


async def test_a_thief_who_was_fast_shows_with_the_next_cookie(
    browser: Browser, person: Person, resources: Resources
) -> None:
    thief = browser.copy()
    await browser.call("POST", "/refresh")
    assert (await thief.call("POST", "/refresh")).status_code == 200
    await thief.call("POST", "/refresh")
    await age_uses(resources, person, 31)
    assert (await browser.call("POST", "/refresh")).status_code == 401
    assert (await thief.call("POST", "/refresh")).status_code == 401


async def test_the_token_api_gives_no_grace(browser: Browser) -> None:
    token = browser.cookies["footnote"]
    body = {"refresh_token": token}
    first = await browser.client.post("/api/v1/auth/refresh", json=body)
    second = await browser.client.post("/api/v1/auth/refresh", json=body)
    assert (first.status_code, second.status_code) == (200, 401)


async def test_signing_out_ends_the_sign_in_and_clears_the_cookie(browser: Browser) -> None:
    before = browser.copy()
    token = (await browser.call("POST", "/refresh")).json()["access_token"]
    for _ in range(2):
        gone = await browser.call("DELETE")
        assert (gone.status_code, gone.content, browser.cookies) == (204, b"", {})
    assert "set-cookie" not in gone.headers
    headers = {"Authorization": f"Bearer {token}"}
    assert (await browser.client.get("/api/v1/auth/me", headers=headers)).status_code == 401
    assert (await before.call("POST", "/refresh")).status_code == 401


async def test_signing_in_again_ends_the_sign_in_of_the_replaced_cookie(
    browser: Browser, person: Person
) -> None:
    old = browser.copy()
    await browser.call("POST", json={"email": person.email, "password": PASSWORD})
    assert (await browser.call("POST", "/refresh")).status_code == 200
    assert (await old.call("POST", "/refresh")).status_code == 401


async def test_a_sign_in_that_fails_leaves_the_cookie_alone(
    browser: Browser, person: Person
) -> None:
    refused = await browser.call("POST", json={"email": person.email, "password": "wrong"})
    assert refused.status_code == 401
    assert (await browser.call("POST", "/refresh")).status_code == 200


async def test_changing_the_password_gives_a_new_cookie_and_ends_the_rest(
    browser: Browser, person: Person
) -> None:
    old = browser.copy()
    access = (await browser.call("POST", "/refresh")).json()["access_token"]
    headers = {"Authorization": f"Bearer {access}"}
    wrong = {"current_password": "wrong", "new_password": "a new password"}
    refused = await browser.call("POST", "/password", json=wrong, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_credentials")
    right = {"current_password": PASSWORD, "new_password": "a new password"}
    changed = await browser.call("POST", "/password", json=right, headers=headers)
    assert changed.status_code == 200
    assert "refresh_token" not in changed.json()
    assert (await browser.call("POST", "/refresh")).status_code == 200
    assert (await old.call("POST", "/refresh")).status_code == 401
    assert (await person.get("/api/v1/auth/me")).status_code == 401


async def test_the_password_is_not_changed_by_the_cookie_alone(browser: Browser) -> None:
    body = {"current_password": PASSWORD, "new_password": "a new password"}
    assert (await browser.call("POST", "/password", json=body)).status_code == 401


@pytest.mark.parametrize("path", ["/api/v1/documents", "/api/v1/auth/me", "/api/v1/conversations"])
async def test_nothing_else_takes_the_cookie(browser: Browser, path: str) -> None:
    headers = WEB | browser.cookie_header() | {"Sec-Fetch-Site": "same-origin"}
    assert (await browser.client.get(path, headers=headers)).status_code == 401


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["", "/refresh", "/register", "/password"])
async def test_reading_changes_nothing(browser: Browser, method: str, path: str) -> None:
    response = await browser.call(method, path)
    assert response.status_code in (404, 405)
    assert "set-cookie" not in response.headers


CALLS = [
    ("POST", ""),
    ("POST", "/register"),
    ("POST", "/refresh"),
    ("DELETE", ""),
    ("POST", "/password"),
]
FOREIGN: list[dict[str, str | None]] = [
    {"X-Footnote-Web": None},
    {"X-Footnote-Web": "0"},
    {"X-Footnote-Web": "1, 1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Origin": "http://evil.example.com"},
    {"Origin": "http://test:81"},
    {"Origin": "http://sub.test"},
    {"Origin": "https://test"},
    {"Origin": "ftp://test"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "same-origin, same-origin"},
    {"Origin": "http://test", "Sec-Fetch-Site": "same-site"},
    {"Origin": ""},
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
async def test_another_origin_s_request_is_refused(
    client: httpx2.AsyncClient,
    shared: tuple[Person, Browser],
    method: str,
    path: str,
    foreign: dict[str, str | None],
) -> None:
    person, browser = shared
    sent = person.headers | WEB | browser.cookie_header() | foreign
    headers = {name: value for name, value in sent.items() if value is not None}
    body = {"email": person.email, "password": PASSWORD} if path != "/password" else None
    response = await client.request(method, SESSION + path, headers=headers, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "cross_site")
    assert "set-cookie" not in response.headers


@pytest.fixture(scope="module")
async def shared(client: httpx2.AsyncClient) -> AsyncIterator[tuple[Person, Browser]]:
    """For many requests that are refused: at the end it is still signed in."""
    browser, email = Browser(client), f"{uuid4().hex}@example.com"
    response = await browser.call("POST", "/register", json={"email": email, "password": PASSWORD})
    yield Person(client, email, response.json()), browser
    assert (await browser.call("POST", "/refresh")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://test"},
        {"Origin": "http://test:80"},
        {"Origin": "http://test", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_the_own_origin_is_let_in(browser: Browser, headers: dict[str, str]) -> None:
    assert (await browser.call("POST", "/refresh", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
async def test_what_a_form_can_send_is_415(
    client: httpx2.AsyncClient, person: Person, content_type: str
) -> None:
    response = await Browser(client).call(
        "POST",
        content=json.dumps({"email": person.email, "password": PASSWORD}),
        headers={"Content-Type": content_type},
    )
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"
    assert "set-cookie" not in response.headers


async def test_json_without_its_type_is_no_sign_in(
    client: httpx2.AsyncClient, person: Person
) -> None:
    content = json.dumps({"email": person.email, "password": PASSWORD}).encode()
    response = await Browser(client).call("POST", content=content)
    assert response.status_code in (415, 422)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("origin", ["http://localhost:5173", "http://evil.example.com"])
async def test_cors_lets_no_foreign_page_send_the_header_or_cookies(
    client: httpx2.AsyncClient, origin: str
) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-footnote-web",
    }
    response = await client.options(SESSION, headers=asked)
    assert response.status_code == 400
    assert "access-control-allow-credentials" not in response.headers
    assert "x-footnote-web" not in response.headers["access-control-allow-headers"].lower()


async def test_the_openapi_document_names_the_header(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    for method, path in CALLS:
        names = [
            parameter["name"] for parameter in paths[SESSION + path][method.lower()]["parameters"]
        ]
        assert "X-Footnote-Web" in names
