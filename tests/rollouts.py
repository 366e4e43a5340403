"""A deployment with a database of its own, in which a test may change the embedding model."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI
from sqlalchemy import CursorResult, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.config import Settings
from app.ingestion.reembedding import Filler, fill_next
from app.ingestion.rollout import Rollout, find_rollout
from app.migrations import upgrade
from app.resources import Resources, make_ingester
from tests.conftest import ingest_all, serve
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import ProviderServer

OLD_DIMENSIONS, NEW_DIMENSIONS = 384, 256


@dataclass(frozen=True, slots=True)
class Deployment:
    """The app, somebody who uses it, and two models: `old` is the configured one."""

    app: FastAPI
    client: httpx2.AsyncClient
    person: Person
    provider: ProviderServer
    old: str
    new: str

    @property
    def resources(self) -> Resources:
        resources: Resources = self.app.state.resources
        return resources

    @property
    def filler(self) -> Filler:
        return Filler(self.resources.db, self.resources.embedders)

    async def add(self, *texts: str) -> list[UUID]:
        """Upload and ingest one document for each text. Returns their ids."""
        ids = [await self.upload(content) for content in texts]
        await ingest_all(make_ingester(self.resources))
        return ids

    async def upload(self, content: str) -> UUID:
        response = await self.person.upload(f"{uuid4().hex}.txt", content.encode())
        assert response.status_code == 202, response.text
        return UUID(response.json()["document_id"])

    async def fill(self) -> None:
        """Do what workers do when they are woken: fill until there is nothing to do at once."""
        while await fill_next(self.filler):
            pass

    async def rollout(self) -> Rollout:
        async with self.resources.db.system_transaction() as session:
            found = await find_rollout(session)
        assert found is not None
        return found

    async def rows(self, sql: str, **values: object) -> Sequence[Any]:
        """Return what a statement yields: give it a column, or there are no rows."""
        async with self.resources.db.system_transaction() as session:
            result = await session.execute(text(sql), values)
            assert isinstance(result, CursorResult)
            return result.all() if result.returns_rows else ()

    async def spaces_of(self, document_id: UUID) -> set[str]:
        """Return the models in whose spaces every chunk of a document has a vector."""
        rows = await self.rows(
            "SELECT s.provider || '/' || s.model AS model FROM embedding_spaces s"
            " WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.document_id = :id AND NOT EXISTS ("
            "  SELECT FROM chunk_embeddings e WHERE e.space_id = s.id AND e.org_id = c.org_id"
            "  AND e.chunk_id = c.id))",
            id=document_id,
        )
        return {row.model for row in rows}


@asynccontextmanager
async def make_template(database_url: str) -> AsyncIterator[str]:
    """A migrated database for `deploy` to copy, in the same server. Yields its name."""
    async with _database(database_url) as name:
        await asyncio.to_thread(upgrade, _url_of(database_url, name))
        yield name


@asynccontextmanager
async def _database(database_url: str, *, template: str = "template1") -> AsyncIterator[str]:
    name = f"own_{uuid4().hex}"
    await execute(database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield name
    finally:
        await execute(database_url, f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(database_url: str, name: str) -> str:
    return database_url.replace("/footnote?", f"/{name}?")


async def execute(database_url: str, *statements: str) -> None:
    """Run statements as the owner, each by itself."""
    engine = create_async_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


def settings_for(
    settings: Settings, provider: ProviderServer, *, database_url: str, model: str
) -> Settings:
    return with_openai(
        settings,
        provider,
        database_url=database_url,
        embedding_model=model,
        default_model="extractive/extractive",
    )


@asynccontextmanager
async def deploy(settings: Settings, template: str) -> AsyncIterator[Deployment]:
    """Serve the app with a database of its own, made from a template."""
    url = settings.database_url
    # Of their own: Redis knows the width of a model for a day, and it is shared.
    old, new = f"old-{uuid4().hex}", f"new-{uuid4().hex}"
    async with (
        ProviderServer(dimensions_by_model={old: OLD_DIMENSIONS, new: NEW_DIMENSIONS}) as provider,
        _database(url, template=template) as name,
    ):
        own = settings_for(
            settings, provider, database_url=_url_of(url, name), model=f"openai/{old}"
        )
        async with serve(own) as (app, client):
            person = await register(client, f"{uuid4().hex}@example.com")
            yield Deployment(app, client, person, provider, f"openai/{old}", f"openai/{new}")
