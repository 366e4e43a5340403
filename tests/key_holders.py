"""API keys in tests, and who holds them."""

import time
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from app.accounts.api_key_secrets import hash_secret, new_secret
from app.accounts.credentials import PrincipalResolver
from app.accounts.permissions import Scope
from app.core.ids import new_id
from app.models.accounts import MemberRole
from app.models.api_keys import ApiKey, KeyEnvironment
from app.resources import Resources
from tests.people import Person

API_KEYS = "/api/v1/api-keys"


async def make_key(person: Person, scope: str = "read", **fields: Any) -> dict[str, Any]:
    """Make a key through the API. Returns the answer, with the secret as `key`."""
    body = {"name": "a key", "scope": scope} | fields
    response = await person.post(API_KEYS, json=body)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def plant_key(resources: Resources, person: Person, scope: Scope) -> Person:
    """Add a key whatever its creator's role. Returns whoever calls with it."""
    secret = new_secret(KeyEnvironment.LIVE)
    async with resources.db.system_transaction() as session:
        session.add(
            ApiKey(
                org_id=person.org_id,
                id=new_id(),
                user_id=person.user_id,
                name="planted",
                environment=KeyEnvironment.LIVE,
                scope=scope.value,
                secret_hash=hash_secret(secret, resources.settings.signing_key),
                last_chars=secret[-4:],
            )
        )
    return holder_of(person, secret)


def holder_of(person: Person, secret: str) -> Person:
    """Return the same user, calling with a key."""
    return Person(person.client, person.email, person.tokens | {"access_token": secret})


async def set_role(resources: Resources, person: Person, role: MemberRole) -> None:
    """Noticed after `let_5_s_pass`."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE memberships SET role = :role WHERE user_id = :id AND org_id = :org_id"),
            {"role": role.value, "id": person.user_id, "org_id": person.org_id},
        )


def let_5_s_pass(resolver: PrincipalResolver) -> None:
    """Make what the resolver knows of credentials as old as it may be, without waiting for it."""
    asked_at = time.monotonic() - 5
    for credential, standing in resolver._cache.items():
        resolver._cache[credential] = replace(standing, asked_at=asked_at)
