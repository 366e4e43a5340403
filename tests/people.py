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


async def sign_in(client: httpx2.AsyncClient, email: str) -> Person:
    """Sign in with the password that `register` gives."""
    response = await client.post(
        "/api/v1/auth/login", data={"username": email, "password": PASSWORD}
    )
    assert response.status_code == 200, response.text
    return Person(client, email, response.json())


async def sign_in_elsewhere(person: Person, org_id: str) -> Person:
    """Begin another sign-in of somebody, in another organization of theirs."""
    signed_in = await sign_in(person.client, person.email)
    switched = await signed_in.post(f"/api/v1/organizations/{org_id}/switch")
    assert switched.status_code == 200, switched.text
    return Person(person.client, person.email, switched.json())


async def join(owner: Person, person: Person, role: str = "member") -> Person:
    """Make somebody a member of the owner's organization. Returns them signed in there."""
    invited = await owner.post(
        "/api/v1/organization/invitations", json={"email": person.email, "role": role}
    )
    assert invited.status_code == 201, invited.text
    token = invited.json()["link"].partition("#")[2]
    accepted = await person.post("/api/v1/invitations/accept", json={"token": token})
    assert accepted.status_code == 200, accepted.text
    return await sign_in_elsewhere(person, str(owner.org_id))
