"""Opens transactions, under one of two roles that row-level security tells apart.

`footnote_app` sees one organization: the one named by `app.org_id`, set for each transaction. Of
its private documents it sees those of the user named by `app.user_id`.
`footnote_system` sees all: for work that has no organization yet or spans several (login, claim,
sweep). Neither owns a table. Jobs queued in a transaction are sent after it commits.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast
from uuid import UUID

import asyncpg
from pgvector.asyncpg import register_vector
from sqlalchemy import (
    ColumnElement,
    Connection,
    PoolProxiedConnection,
    delete,
    event,
    exc,
    inspect,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import UserDefinedType

from app.core.jobs import JobSender, take_jobs

# What the database raises while it is away, and what it should never raise.
DATABASE_ERRORS = (exc.SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)

APP_ROLE = "footnote_app"
SYSTEM_ROLE = "footnote_system"
_BEGIN = "BEGIN"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
_NOTHING = text("SELECT")
_TAKE_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:topic, 0))")
_MAX_DELETED = 10_000
_SCOPE = "scope"
_NOBODY = ""
_ROLE_FACTS = text(
    "SELECT current_user, rolsuper OR rolbypassrls,"
    " EXISTS (SELECT FROM pg_class WHERE relowner = pg_roles.oid AND relpersistence <> 't')"
    " FROM pg_roles WHERE rolname = current_user"
)


class TenantScope(Protocol):
    """Whoever a transaction is opened for.

    One that also has a `user_id` acts for that user; any other sees no private document.
    """

    @property
    def org_id(self) -> UUID: ...


@dataclass(frozen=True, slots=True)
class OrganizationScope:
    """An organization itself, for what is done on behalf of no user."""

    org_id: UUID


def user_of(scope: TenantScope) -> UUID | None:
    """Return the user that a scope acts for."""
    return getattr(scope, "user_id", None)


class HalfVec(UserDefinedType[Any]):
    """pgvector's halfvec, for a connection whose binary codec is registered.

    pgvector's own SQLAlchemy type turns vectors into text, which the codec then refuses.
    """

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "halfvec"


class _Connection(asyncpg.Connection):
    """Names organization and user in the round trip that begins a transaction."""

    scope: TenantScope | None = None  # of the next transaction, and of that alone

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        scope, self.scope = self.scope, None
        if scope is not None and query.startswith(_BEGIN):
            query += _naming(scope)
        try:
            status: str = await super().execute(query, *args, timeout=timeout)
        except BaseException:
            if scope is not None:  # perhaps it has begun, and SQLAlchemy takes it that it has not
                self.terminate()
            raise
        return status


class _TenantSession(Session):
    """Its `info` holds the scope of its transaction, which begins with its first use."""


@event.listens_for(_TenantSession, "after_begin")
def _name_scope(session: Session, _: object, connection: Connection) -> None:
    driver = cast(_Connection, connection.connection.driver_connection)
    driver.scope = session.info[_SCOPE]


class Database:
    """Two pools, one per role. Raises at `check_roles` when a role could see too much."""

    def __init__(self, url: str, jobs: JobSender, *, pool_size: int = 10) -> None:
        self._jobs = jobs
        self._app = _create_engine(url, APP_ROLE, pool_size=pool_size)
        self._system = _create_engine(url, SYSTEM_ROLE, pool_size=2)
        self._app_sessions = async_sessionmaker(
            self._app, expire_on_commit=False, sync_session_class=_TenantSession
        )
        self._system_sessions = async_sessionmaker(self._system, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, scope: TenantScope) -> AsyncIterator[AsyncSession]:
        """A transaction that sees the rows of one organization only. Commits at the end.

        Of its private documents, and what belongs to them, it sees those of the scope's user.
        """
        async with self._app_sessions.begin() as session:
            session.info[_SCOPE] = scope
            yield session
        await self._jobs.send_all(take_jobs(session))

    @asynccontextmanager
    async def reading(self, scope: TenantScope) -> AsyncIterator[asyncpg.Connection]:
        """A read-only transaction like `transaction`, on the bare driver, over one snapshot.

        For the statements that every question runs: SQLAlchemy's own share of one is 0.3 ms,
        several times the driver's. Raises asyncpg's errors.
        """
        async with self._app.connect() as connection:
            driver = _driver_of(await connection.get_raw_connection())
            try:
                driver.scope = scope
                # One snapshot: what a statement found must be there for the next one.
                await driver.execute(_BEGIN_READING)
                yield driver
            finally:
                await _end(driver)

    @asynccontextmanager
    async def lone_statements(self) -> AsyncIterator[asyncpg.Connection]:
        """The bare driver in no transaction: for a function that names its scope itself.

        Each statement is its own transaction, and one that names no organization sees no rows.
        Raises asyncpg's errors.
        """
        # Without SQLAlchemy's own connection around it: that takes as long as the driver itself.
        connection = await self._app.raw_connection()
        try:
            yield _driver_of(connection)
        finally:
            # Waits for nothing: SQLAlchemy knows of no transaction that it would have to end.
            connection.close()

    @asynccontextmanager
    async def system_transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction across organizations. tests/test_architecture.py lists who may call it."""
        async with self._system_sessions.begin() as session:
            yield session
        await self._jobs.send_all(take_jobs(session))

    async def check_roles(self) -> None:
        """Raise RuntimeError unless both pools run under roles that row-level security binds."""
        for engine, expected in ((self._app, APP_ROLE), (self._system, SYSTEM_ROLE)):
            async with engine.connect() as connection:
                role, is_exempt, owns_tables = (await connection.execute(_ROLE_FACTS)).one()
            if role != expected or is_exempt or owns_tables:
                raise RuntimeError(
                    f"the database role {role!r} is not bound by row-level security: "
                    "run `python -m app migrate` and connect as a member of footnote_app"
                )

    async def close(self) -> None:
        await self._app.dispose()
        await self._system.dispose()


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE of what SQLAlchemy or the bare driver raised.

    Without one ("") it is about the connection.
    """
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(getattr(driver_error, "sqlstate", None) or "")


async def get_driver(session: AsyncSession) -> asyncpg.Connection:
    """Return the asyncpg connection of a session's transaction, which alone can COPY."""
    connection = await session.connection()
    driver = _driver_of(await connection.get_raw_connection())
    if not driver.is_in_transaction():  # SQLAlchemy begins it with its own first statement
        await session.execute(_NOTHING)
    return driver


async def take_turn(session: AsyncSession, topic: str) -> None:
    """Wait until no other transaction is in its turn; ours lasts until the commit."""
    await session.execute(_TAKE_TURN, {"topic": topic})


async def delete_batch(
    session: AsyncSession, table: type[DeclarativeBase], *where: ColumnElement[bool]
) -> int:
    """Delete rows, 10,000 at most, and none that another transaction holds. Returns how many."""
    key = inspect(table).primary_key
    chosen = select(*key).where(*where).limit(_MAX_DELETED).with_for_update(skip_locked=True)
    deleted = await session.execute(delete(table).where(tuple_(*key).in_(chosen)).returning(*key))
    return len(deleted.all())


def _naming(scope: TenantScope) -> str:
    """Return what names a scope for a transaction."""
    user_id = user_of(scope)
    user = _NOBODY if user_id is None else UUID(int=user_id.int)
    # A batch takes no parameters, and a UUID needs no quoting.
    return (
        f" SET LOCAL app.org_id = '{UUID(int=scope.org_id.int)}'; SET LOCAL app.user_id = '{user}'"
    )


async def _end(driver: asyncpg.Connection) -> None:
    """End a transaction that only read. One that can't be ended must not reach the next caller."""
    if driver.is_closed():
        return
    try:
        await driver.execute("ROLLBACK")
    except BaseException:
        driver.terminate()
        raise


def _driver_of(connection: PoolProxiedConnection) -> _Connection:
    return cast(_Connection, connection.driver_connection)


def _create_engine(url: str, role: str, *, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        # More would be opened for a peak and closed behind it; waiting a little costs less.
        max_overflow=0,
        # The one used last: its server process has the plans and the rows at hand.
        pool_use_lifo=True,
        pool_timeout=3,
        pool_recycle=1200,
        # Parameters are texts, questions and addresses; errors end up in logs.
        hide_parameters=True,
        connect_args={
            "connection_class": _Connection,
            "timeout": 5,
            # The server's own time-outs don't run while it is frozen.
            "command_timeout": 70 if role == SYSTEM_ROLE else 25,
            "server_settings": {
                "role": role,
                "application_name": role,
                "jit": "off",
                "lock_timeout": "3s",
                "statement_timeout": "60s" if role == SYSTEM_ROLE else "20s",
                "idle_in_transaction_session_timeout": "60s",
            },
        },
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _register_codec(connection: Any, _record: object) -> None:
        connection.run_async(_register_vector_if_installed)

    @event.listens_for(engine.sync_engine, "checkout")
    def _check_out(connection: Any, _record: object, _proxy: object) -> None:
        # Of a transaction that had no statement.
        connection.driver_connection.scope = None
        # Like pool_pre_ping, without its round trip: asyncpg notices a server that has gone.
        if connection.driver_connection.is_closed():
            raise exc.DisconnectionError("the server closed the connection")

    return engine


async def _register_vector_if_installed(connection: Any) -> None:
    try:
        await register_vector(connection)
    except ValueError as error:  # before the first migration there is no such type
        if "unknown type" not in str(error):
            raise
