"""Guessing passwords and registering in heaps: it takes longer and longer, and locks nobody out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.accounts import attempts
from app.accounts.attempts import Attempts
from app.core.addresses import is_loopback, network_of
from app.core.errors import NotAuthenticated, RateLimited, Unavailable
from app.core.security import PasswordHasher
from app.resources import Resources
from tests.people import PASSWORD, Person

WRONG = "wrong horse battery"


def address_of(n: int) -> str:
    """One of a network that no other test is in."""
    raw = uuid4().bytes
    return f"100.{raw[0]}.{raw[1]}.{n}"


def from_address(app: FastAPI, address: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, client=(address, 5000), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def attacker(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with from_address(app, address_of(1)) as client:
        yield client


async def login(client: httpx2.AsyncClient, email: str, password: str) -> httpx2.Response:
    form = {"username": email, "password": password}
    return await client.post("/api/v1/auth/login", data=form)


async def guess_until_refused(
    guess: Callable[[], Awaitable[httpx2.Response]],
) -> tuple[int, httpx2.Response]:
    """Return how many were looked at, and the refusal.

    A machine so slow that a wait is over before the next guess looks at a few more.
    """
    for looked_at in range(12):
        response = await guess()
        if response.status_code == 429:
            return looked_at, response
        assert response.status_code == 401, response.text
    raise AssertionError("nothing holds")


async def test_of_1000_guesses_at_most_20_are_verified_and_the_victim_signs_in(
    app: FastAPI,
    attacker: httpx2.AsyncClient,
    person: Person,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified = 0
    verify = PasswordHasher.verify

    async def counted(self: PasswordHasher, password: str, password_hash: str | None) -> bool:
        nonlocal verified
        verified += password.startswith("guess")
        return await verify(self, password, password_hash)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    answers = await asyncio.gather(
        *(login(attacker, person.email, f"guess {n}") for n in range(1000))
    )
    assert 1 <= verified <= 20
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 1000 - 20
    assert {answer.status_code for answer in answers} <= {401, 429, 503}  # 503: it was busy
    assert {answer.json()["error"]["code"] for answer in refused} == {"rate_limited"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    async with from_address(app, address_of(1)) as victim:
        assert (await login(victim, person.email, PASSWORD)).status_code == 200


async def test_unknown_accounts_are_refused_alike(
    attacker: httpx2.AsyncClient, person: Person
) -> None:
    known, refused = await guess_until_refused(lambda: login(attacker, person.email, WRONG))
    unknown, alike = await guess_until_refused(lambda: login(attacker, f"x{person.email}", WRONG))
    assert min(known, unknown) >= attempts.FREE_GUESSES
    assert refused.json()["error"] == alike.json()["error"]


async def test_after_the_wait_one_may_try_and_the_right_password_forgives(
    attacker: httpx2.AsyncClient, person: Person
) -> None:
    _, refused = await guess_until_refused(lambda: login(attacker, person.email.upper(), WRONG))
    await asyncio.sleep(int(refused.headers["retry-after"]))
    assert (await login(attacker, person.email, PASSWORD)).status_code == 200
    for _ in range(5):
        assert (await login(attacker, person.email, WRONG)).status_code == 401


async def test_an_address_that_guesses_at_many_accounts_is_held(
    app: FastAPI, attacker: httpx2.AsyncClient, person: Person
) -> None:
    answers = []
    for n in range(attempts.GUESSES_OF_ADDRESS + 5):
        # What a stranger says of where it comes from is not believed.
        for name in ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded"):
            attacker.headers[name] = f"198.51.{n}.1"
        answers.append(await login(attacker, f"{uuid4().hex}@example.com", WRONG))
    statuses = [answer.status_code for answer in answers]
    assert statuses[:-5] == [401] * attempts.GUESSES_OF_ADDRESS
    assert statuses[-1] == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20


async def test_signing_in_rightly_is_not_counted(
    attacker: httpx2.AsyncClient, person: Person
) -> None:
    for _ in range(attempts.GUESSES_OF_ADDRESS + 5):
        assert (await login(attacker, person.email, PASSWORD)).status_code == 200


async def test_the_password_change_and_the_web_session_count_guesses_too(
    attacker: httpx2.AsyncClient, person: Person
) -> None:
    page = {"X-Footnote-Web": "1"}
    guess = {"current_password": WRONG, "new_password": "another horse battery"}
    credentials = {"email": person.email, "password": WRONG}
    for path, headers, body in (
        ("/api/v1/auth/password", person.headers, guess),
        ("/api/v1/session", page, credentials),
    ):
        post = partial(attacker.post, path, headers=headers, json=body)
        looked_at, _ = await guess_until_refused(post)
        assert looked_at >= attempts.FREE_GUESSES, path
    other = partial(
        attacker.post, "/api/v1/session/password", headers=person.headers | page, json=guess
    )
    looked_at, _ = await guess_until_refused(other)
    assert looked_at < attempts.FREE_GUESSES  # one count for both doors


async def test_an_address_registers_so_many_and_loopback_as_many_as_it_likes(
    attacker: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    async def register(client: httpx2.AsyncClient) -> int:
        body = {"email": f"many-{uuid4().hex}@example.com", "password": "short"}
        return (await client.post("/api/v1/auth/register", json=body)).status_code

    allowed = attempts.REGISTRATIONS_OF_ADDRESS
    statuses = [await register(attacker) for _ in range(allowed + 2)]
    assert statuses == [422] * allowed + [429] * 2
    assert {await register(client) for _ in range(allowed + 2)} == {422}


async def test_an_account_is_registered_a_few_times_an_hour(
    app: FastAPI, client: httpx2.AsyncClient, person: Person
) -> None:
    body = {"email": person.email, "password": PASSWORD}
    statuses = []
    for n in range(6):
        async with from_address(app, address_of(n)) as elsewhere:
            answer = await elsewhere.post("/api/v1/auth/register", json=body)
            statuses.append(answer.status_code)
    assert statuses == [409] * 4 + [429] * 2  # the first was the person's own
    minutes = -(-int(answer.headers["retry-after"]) // 60)
    assert minutes > 1
    assert f"try again in {minutes} minutes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("wait_s", "words"),
    [
        *((0.0, "1 second"), (0.4, "1 second"), (1.2, "2 seconds"), (60.0, "60 seconds")),
        *((90.0, "90 seconds"), (90.5, "2 minutes"), (469.0, "8 minutes"), (3600.0, "60 minutes")),
    ],
)
def test_a_refusal_says_how_long_it_holds(wait_s: float, words: str) -> None:
    assert attempts.in_words(wait_s) == words


async def test_refresh_tokens_are_tried_so_often(attacker: httpx2.AsyncClient) -> None:
    async def refresh() -> int:
        body = {"refresh_token": "x"}
        return (await attacker.post("/api/v1/auth/refresh", json=body)).status_code

    statuses = [await refresh() for _ in range(attempts.REFRESHES_OF_ADDRESS)]
    assert statuses == [401] * attempts.REFRESHES_OF_ADDRESS
    # Meanwhile time has given some back.
    assert 429 in [await refresh() for _ in range(attempts.REFRESHES_OF_ADDRESS)]


async def test_production_spares_nobody(resources: Resources) -> None:
    strict = Attempts(resources.attempts.store, spares_loopback=False)
    address = f"127.{uuid4().bytes[0]}.{uuid4().bytes[0]}.1"
    for _ in range(attempts.LOOK_UPS_OF_ADDRESS):
        await strict.look_up(address=address)
    with pytest.raises(RateLimited):
        await strict.look_up(address=address)
    await resources.attempts.look_up(address=address)


async def test_a_crowd_of_addresses_shares_an_hours_guesses_but_not_the_owners(
    resources: Resources,
) -> None:
    account, home = uuid4().hex, address_of(1)
    tried: Attempts = resources.attempts

    async def guess(address: str, *, is_right: bool) -> None:
        async with tried.guessing(account=account, address=address):
            if not is_right:
                raise NotAuthenticated("wrong")

    await guess(home, is_right=True)
    refused = 0
    for _ in range(attempts.GUESSES_OF_ACCOUNT + 10):
        try:
            await guess(address_of(1), is_right=False)
        except RateLimited:
            refused += 1
        except NotAuthenticated:
            pass
    assert refused >= 8  # addresses are drawn; two may be of one network
    await guess(home, is_right=True)


async def test_a_busy_server_costs_no_guess(resources: Resources) -> None:
    address = address_of(1)
    for _ in range(attempts.GUESSES_OF_ADDRESS + 1):
        with pytest.raises(Unavailable):
            async with resources.attempts.guessing(account=uuid4().hex, address=address):
                raise Unavailable("busy")


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("testclient", "unknown"),
    ],
)
async def test_networks(host: str, network: str) -> None:
    assert network_of(host, v4_prefix=24) == network


async def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.9.9.9")))
    assert not any(map(is_loopback, ("", "10.0.0.1", "localhost.example.com")))
