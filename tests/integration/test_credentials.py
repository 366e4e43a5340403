"""Who a token belongs to: what many ask at once takes few statements, and each gets their own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.accounts.api_key_secrets import hash_secret, new_secret
from app.accounts.credentials import PrincipalResolver
from app.core.db import Database
from app.core.errors import NotAuthenticated
from app.core.ids import new_id
from app.core.security import issue_access_token
from app.core.stream_tokens import StreamAudience, StreamScope
from app.models.api_keys import ApiKey, KeyEnvironment
from tests.stored import store_organization

KEY = "0123456789abcdef" * 4


async def sign_in(db: Database) -> tuple[UUID, str]:
    """Add a user. Returns their id and an access token."""
    user_id, org_id = new_id(), new_id()
    async with db.system_transaction() as session:
        await store_organization(session, org_id, user_id)
        await session.execute(
            text("INSERT INTO memberships (org_id, user_id, role) VALUES (:o, :u, 'viewer')"),
            {"o": org_id, "u": user_id},
        )
    token = issue_access_token(
        KEY, user_id=user_id, org_id=org_id, session_id=new_id(), epoch=0, lifetime_s=900
    )
    return user_id, token


async def deactivate(db: Database, user_id: UUID) -> None:
    async with db.system_transaction() as session:
        await session.execute(
            text("UPDATE users SET is_active = false WHERE id = :id"), {"id": user_id}
        )


@contextmanager
def counted(db: Database) -> Iterator[list[str]]:
    """The statements of the system's pool."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(db._system.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(db._system.sync_engine, "before_cursor_execute", note)


async def test_whoever_asks_at_once_is_in_one_statement(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    people = [await sign_in(db) for _ in range(5)]
    with counted(db) as statements:
        found = await asyncio.gather(*(resolver.resolve(token) for _, token in people * 20))
        assert [each.user_id for each in found] == [user_id for user_id, _ in people] * 20
        assert len(statements) == 1
        await asyncio.gather(*(resolver.resolve(token) for _, token in people))
        assert len(statements) == 1
    assert not resolver._asked
    assert resolver._asking is None


async def test_what_was_read_before_a_change_is_read_again(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    _, token = await sign_in(db)
    org_id = (await PrincipalResolver(db, KEY).resolve(token)).org_id

    def change(*_: object) -> None:
        if len(statements) == 1:
            resolver.forget(org_id)

    engine = db._system.sync_engine
    event.listen(engine, "after_cursor_execute", change)
    with counted(db) as statements:
        await resolver.resolve(token)
        assert len(statements) == 2
        await resolver.resolve(token)
        assert len(statements) == 2
    event.remove(engine, "after_cursor_execute", change)


async def test_who_is_refused_is_refused_alone(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    people = [await sign_in(db) for _ in range(3)]
    await deactivate(db, people[1][0])
    results = await asyncio.gather(
        *(resolver.resolve(token) for _, token in people), return_exceptions=True
    )
    assert [isinstance(each, NotAuthenticated) for each in results] == [False, True, False]


async def test_one_who_leaves_takes_the_answer_from_nobody(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    user_id, token = await sign_in(db)
    leaving, staying = (asyncio.create_task(resolver.resolve(token)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).user_id == user_id
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_what_the_database_raises_reaches_all_and_is_not_kept(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    people = [await sign_in(db) for _ in range(2)]
    async with db.system_transaction() as one, db.system_transaction() as two:
        await one.connection(), await two.connection()
        results = await asyncio.gather(
            *(resolver.resolve(token) for _, token in people), return_exceptions=True
        )
    assert [type(each) for each in results] == [PoolTimeout, PoolTimeout]
    assert (await resolver.resolve(people[0][1])).user_id == people[0][0]


async def test_a_stream_token_needs_no_statement_and_is_recalled_for_a_while(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    scope = StreamScope(StreamAudience.RUN, new_id())
    user_id, token = await sign_in(db)
    principal = await resolver.resolve(token)
    (key,) = resolver._cache

    def age(seconds: float) -> None:
        standing = resolver._cache[key]
        resolver._cache[key] = replace(standing, asked_at=standing.asked_at - seconds)

    with counted(db) as statements:
        age(9)
        issued = await resolver.issue_stream_token(principal, scope)
        assert resolver.recall_for_stream(issued.token, scope) == principal
        age(9)
        assert resolver.recall_for_stream(issued.token, scope) is None
        assert not statements
    with pytest.raises(NotAuthenticated):
        resolver.recall_for_stream(issued.token, StreamScope(StreamAudience.RUN, new_id()))
    await deactivate(db, user_id)
    with pytest.raises(NotAuthenticated):
        await resolver.resolve_for_stream(issued.token, scope)
    assert resolver.recall_for_stream(issued.token, scope) is None


async def make_key(db: Database, token: str) -> tuple[UUID, str]:
    """Add a key of whoever has the access token. Returns its id and its secret."""
    principal = await PrincipalResolver(db, KEY).resolve(token)
    secret = new_secret(KeyEnvironment.LIVE)
    key = ApiKey(
        org_id=principal.org_id,
        id=new_id(),
        user_id=principal.user_id,
        name="k",
        environment=KeyEnvironment.LIVE,
        scope="read",
        secret_hash=hash_secret(secret, KEY),
        last_chars=secret[-4:],
    )
    async with db.system_transaction() as session:
        session.add(key)
    return key.id, secret


async def test_keys_and_sign_ins_are_in_one_statement_and_each_gets_their_own(
    db: Database,
) -> None:
    resolver = PrincipalResolver(db, KEY)
    people = [await sign_in(db) for _ in range(3)]
    keys = [await make_key(db, token) for _, token in people]
    unknown = new_secret(KeyEnvironment.LIVE)
    credentials = [people[0][1], keys[1][1], unknown, people[2][1], keys[0][1], keys[2][1]]
    with counted(db) as statements:
        found = await asyncio.gather(
            *(resolver.resolve(each) for each in credentials * 10), return_exceptions=True
        )
        assert len(statements) == 1
        assert [None if isinstance(each, BaseException) else each.user_id for each in found] == [
            *(people[0][0], people[1][0], None, people[2][0], people[0][0], people[2][0])
        ] * 10
        assert [each.key_id for each in found if not isinstance(each, BaseException)][:5] == [
            *(None, keys[1][0], None, keys[0][0], keys[2][0])
        ]
        refused = found[2]
        assert isinstance(refused, NotAuthenticated)
        assert refused.code == "invalid_api_key"
        # For 5 s nobody is asked again but who is unknown.
        await asyncio.gather(*(resolver.resolve(each) for each in set(credentials) - {unknown}))
        assert len(statements) == 1


async def test_a_key_of_another_signing_key_is_nobodys(db: Database) -> None:
    _, token = await sign_in(db)
    _, secret = await make_key(db, token)
    with pytest.raises(NotAuthenticated):
        await PrincipalResolver(db, KEY[::-1]).resolve(secret)


async def test_a_stream_token_of_a_key_ends_with_the_key(db: Database) -> None:
    resolver = PrincipalResolver(db, KEY)
    scope = StreamScope(StreamAudience.RUN, new_id())
    _, token = await sign_in(db)
    key_id, secret = await make_key(db, token)
    principal = await resolver.resolve(secret)
    with counted(db) as statements:
        issued = await resolver.issue_stream_token(principal, scope)
        assert await resolver.resolve_for_stream(issued.token, scope) == principal
        assert resolver.recall_for_stream(issued.token, scope) == principal
        assert not statements
    fresh = PrincipalResolver(db, KEY)
    assert await fresh.resolve_for_stream(issued.token, scope) == principal
    # Neither revoked nor gone is it taken for a sign-in.
    for statement in (
        "UPDATE api_keys SET revoked_at = now() WHERE id = :id",
        "DELETE FROM api_keys WHERE id = :id",
    ):
        async with db.system_transaction() as session:
            await session.execute(text(statement), {"id": key_id})
        with pytest.raises(NotAuthenticated):
            await PrincipalResolver(db, KEY).resolve_for_stream(issued.token, scope)
