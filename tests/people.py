"""People who use the API in tests."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx2

PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Person:
    """A signed-in user: their client's headers and what registering returned."""

    client: httpx2.AsyncClient
    email: str
    tokens: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    @property
    def user_id(self) -> UUID:
        return UUID(self.tokens["user"]["id"])

    @property
    def org_id(self) -> UUID:
        return UUID(self.tokens["organization"]["id"])

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.get(path, headers=self.headers, **options)

    async def post(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.post(path, headers=self.headers, **options)

    async def delete(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.delete(path, headers=self.headers, **options)

    async def upload(self, filename: str, content: bytes) -> httpx2.Response:
        return await self.post("/api/v1/documents/upload", files={"file": (filename, content)})


async def register(client: httpx2.AsyncClient, email: str) -> Person:
    response = await client.post(
        "/api/v1/auth/register", json={"email": email, "password": PASSWORD}
    )
    assert response.status_code == 201, response.text
    return Person(client, email, response.json())
