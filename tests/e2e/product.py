"""The whole product as its users have it: `python -m app run`, a client, and its two servers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
from redis.asyncio import Redis

from tests.people import Person
from tests.stack_process import WAIT_S, StackProcess, free_port

RUN = [sys.executable, "-m", "app", "run"]
NOWHERE = "http://127.0.0.1:9"
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Product:
    stack: StackProcess
    client: httpx2.AsyncClient

    def pool_children(self) -> set[int]:
        """The worker's children, which do its work."""
        main = self.stack.pid_of("--hostname=ingest")
        children = Path(f"/proc/{main}/task/{main}/children").read_text()
        return {int(pid) for pid in children.split()}

    async def is_whole(self) -> bool:
        """Whether the API answers and finds its database, its Redis and a worker."""
        try:
            response = await self.client.get("/health/ready")
        except httpx2.TransportError:
            return False
        found: dict[str, str] = response.json()["checks"]
        return all(found.get(part) == "ok" for part in ("database", "redis", "worker"))

    async def flush_redis(self) -> None:
        async with Redis(unix_socket_path=f"{self._socket_folder('redis')}/redis.sock") as redis:
            await redis.flushall()

    async def stored_ordinals(self, document_id: str) -> list[int]:
        """The ordinals of all chunks that have exactly one vector, in ascending order."""
        rows = await self._fetch(
            """
            SELECT c.ordinal FROM chunks c JOIN chunk_embeddings e ON e.chunk_id = c.id
            WHERE c.document_id = $1 ORDER BY c.ordinal
            """,
            document_id,
        )
        return [row["ordinal"] for row in rows]

    async def stored_pages(self, document_id: str) -> list[int]:
        rows = await self._fetch(
            "SELECT number FROM pages WHERE document_id = $1 ORDER BY number", document_id
        )
        return [row["number"] for row in rows]

    async def attempts(self, document_id: str) -> int:
        """How often the document was claimed, as far as that counts against it."""
        rows = await self._fetch("SELECT attempts FROM documents WHERE id = $1", document_id)
        return int(rows[0]["attempts"])

    async def _fetch(self, query: str, document_id: str) -> list[asyncpg.Record]:
        """Read as the owner, whom row-level security does not bind."""
        password = (self.stack.data_dir / "postgres/password").read_text().strip()
        connection = await asyncpg.connect(
            host=self._socket_folder("postgres"),
            port=5432,
            user="footnote",
            database="footnote",
            password=password,
        )
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, UUID(document_id))
        finally:
            await connection.close()
        return rows

    def _socket_folder(self, server: str) -> str:
        return (self.stack.data_dir / server / "socket-folder").read_text()


@asynccontextmanager
async def running_product(data_dir: Path, **settings: str) -> AsyncIterator[Product]:
    """Start it with these settings and no language model but those they name; stop it at the end.

    The test's event loop runs on while it starts.
    """
    nothing = {"OPENAI_API_KEY": "", "OLLAMA_BASE_URL": NOWHERE}
    with StackProcess(
        RUN, data_dir=data_dir, port=free_port(), settings=nothing | settings
    ) as stack:
        await asyncio.to_thread(stack.wait_for, f"Footnote is ready on {stack.url}\n")
        async with httpx2.AsyncClient(base_url=stack.url, timeout=WAIT_S) as client:
            yield Product(stack, client)


async def upload(person: Person, filename: str, content: bytes) -> str:
    """Upload a file that is accepted. Returns the document's id."""
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def watch(
    person: Person, document_id: str, until: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Ask for the document until it is as wanted. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_S):
        while True:
            response = await person.get(f"/api/v1/documents/{document_id}")
            assert response.status_code == 200, response.text
            document: dict[str, Any] = response.json()
            if until(document):
                return document
            await asyncio.sleep(_POLL_S)


async def watch_to_end(person: Person, document_id: str) -> dict[str, Any]:
    return await watch(person, document_id, lambda found: found["status"] in ("ready", "failed"))


async def watch_to_middle(person: Person, document_id: str) -> None:
    """Until some, but not all of it, is ingested."""

    def is_in_the_middle(document: dict[str, Any]) -> bool:
        assert document["status"] in ("queued", "processing"), document
        percent: int = document["percent"]
        return 5 <= percent <= 90

    await watch(person, document_id, is_in_the_middle)


async def wait_until_whole(product: Product) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await product.is_whole():
            await asyncio.sleep(_POLL_S)
