"""A deleted organization is shut at once, then all of it goes; a receipt says what there was."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.storage import BlobStore
from app.documents.deletion import purge_next
from app.documents.organization_removal import (
    KEPT_TABLES,
    ORGANIZATION_TABLES,
    remove_next_organization,
)
from app.ingestion.pipeline import Ingester
from app.resources import Resources
from tests.conftest import ingest_all
from tests.people import Person, join, register, sign_in
from tests.stored_runs import ask, principal_of

URL = "/api/v1/organization"
_TUS = {"Tus-Resumable": "1.0.0"}


async def delete_organization(person: Person, confirm: str | None = None) -> httpx2.Response:
    body = {"confirm": confirm or person.tokens["organization"]["name"]}
    return await person.client.request("DELETE", URL, json=body, headers=person.headers)


async def receipt_of(person: Person, deletion_id: str) -> dict[str, Any]:
    response = await person.get(f"/api/v1/organization-deletions/{deletion_id}")
    assert response.status_code == 200, response.text
    receipt: dict[str, Any] = response.json()
    return receipt


async def settle(resources: Resources) -> None:
    """Let the time pass until every process knows."""
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE organization_deletions SET requested_at = now() - interval '1 minute'")
        )


async def work(resources: Resources, storage: BlobStore | None = None) -> int:
    """Do what a worker does when it is woken. Returns in how many steps."""
    storage = storage or resources.storage
    steps = 0
    while await purge_next(resources.db, storage) or await remove_next_organization(
        resources.db, storage
    ):
        steps += 1
        assert steps < 200
    return steps


async def count_rows(resources: Resources, org_id: UUID) -> dict[str, int]:
    async with resources.db.system_transaction() as session:
        counts = {
            table: await session.scalar(
                text(f"SELECT count(*) FROM {table} WHERE org_id = :org_id"), {"org_id": org_id}
            )
            for table in ORGANIZATION_TABLES
        }
        counts["organizations"] = await session.scalar(
            text("SELECT count(*) FROM organizations WHERE id = :org_id"), {"org_id": org_id}
        )
    return {table: count for table, count in counts.items() if count}


def files_of(resources: Resources, org_id: UUID) -> list[Path]:
    root: Path = resources.settings.data_dir / "files"
    return [path for path in root.rglob("*") if str(org_id) in str(path)]


async def fill(person: Person, ingester: Ingester) -> str:
    """Put a bit of everything into an organization. Returns the id of an unfinished upload."""
    uploaded = await person.upload("zoo.txt", f"The quokka is no zebra. {uuid4()}".encode())
    assert uploaded.status_code == 202, uploaded.text
    await ingest_all(ingester)
    await person.upload("waiting.txt", f"Nobody has read this yet. {uuid4()}".encode())
    deleted = (await person.upload("gone.txt", f"Gone. {uuid4()}".encode())).json()
    await person.delete(f"/api/v1/documents/{deleted['document_id']}")
    who = principal_of(person.org_id, person.user_id)
    await ask(ingester.db, who, "Where?", document_id=UUID(uploaded.json()["document_id"]))
    started = await person.client.post(
        "/api/v1/uploads", headers=person.headers | _TUS | {"Upload-Length": "15"}
    )
    assert started.status_code == 201, started.text
    await person.post(
        f"{URL}/invitations", json={"email": f"{uuid4().hex}@example.com", "role": "viewer"}
    )
    await person.post("/api/v1/api-keys", json={"name": "k", "scope": "read"})
    await person.client.post(
        "/api/v1/chat/",
        json={"messages": [{"role": "user", "content": "Hello?"}], "use_rag": False},
        headers=person.headers | {"Idempotency-Key": uuid4().hex},
    )
    upload_id: str = started.json()["upload_id"]
    return upload_id


@pytest.fixture
async def full(person: Person, ingester: Ingester) -> str:
    """The person's organization has a bit of everything. The id of an unfinished upload."""
    return await fill(person, ingester)


async def test_everything_goes_and_the_receipt_says_what_there_was(
    person: Person, stranger: Person, resources: Resources, ingester: Ingester, full: str
) -> None:
    await stranger.upload("stays.txt", f"This stays. {uuid4()}".encode())
    while await purge_next(resources.db, resources.storage):
        pass  # what was deleted before is not counted
    await resources.ledger.flush(person.org_id)
    theirs = await count_rows(resources, stranger.org_id)
    before = await count_rows(resources, person.org_id)
    kinds = {"chunks", "messages", "citations", "uploads", "invitations", "api_keys", "deletions"}
    assert kinds | {"idempotency_keys", "refresh_tokens", "memberships"} < set(before)
    assert files_of(resources, person.org_id)
    assert resources.storage.upload_folder(UUID(full)).exists()

    asked = await delete_organization(person)
    assert (asked.status_code, asked.json()["status"]) == (202, "pending")
    again = await sign_in(person.client, person.email)
    assert again.org_id != person.org_id
    await settle(resources)
    await work(resources)

    assert await count_rows(resources, person.org_id) == {}
    assert files_of(resources, person.org_id) == []
    assert not resources.storage.upload_folder(UUID(full)).exists()
    receipt = await receipt_of(again, asked.json()["id"])
    assert receipt["status"] == "completed"
    assert receipt["requested_at"] < receipt["completed_at"] < receipt["verified_at"]
    expected = {table: count for table, count in before.items() if table != "organizations"}
    assert receipt["rows"] == expected
    assert receipt["files"] >= 2
    assert receipt["file_bytes"] > 0
    assert await count_rows(resources, stranger.org_id) == theirs
    assert (await stranger.get("/api/v1/documents")).json()["items"]


async def test_nobody_is_in_it_from_then_on(
    person: Person, client: httpx2.AsyncClient, resources: Resources
) -> None:
    member = await join(person, await register(client, f"m-{uuid4().hex}@example.com"))
    key = await member.post("/api/v1/api-keys", json={"name": "k", "scope": "write"})
    invited = f"i-{uuid4().hex}@example.com"
    link = (await person.post(f"{URL}/invitations", json={"email": invited})).json()["link"]
    assert (await delete_organization(person)).status_code == 202
    by_key = {"Authorization": f"Bearer {key.json()['key']}"}
    for headers in (person.headers, member.headers, by_key):
        assert (await client.get("/api/v1/documents", headers=headers)).status_code == 401
    for who in (person, member):
        refreshed = await client.post(
            "/api/v1/auth/refresh", json={"refresh_token": who.tokens["refresh_token"]}
        )
        assert refreshed.status_code == 401
        assert (await sign_in(client, who.email)).org_id != person.org_id
    token = link.partition("#")[2]
    looked_up = await client.post("/api/v1/invitations/look-up", json={"token": token})
    assert looked_up.status_code == 404
    # Nothing goes before every process knows.
    assert not await remove_next_organization(resources.db, resources.storage)
    async with resources.db.system_transaction() as session:
        is_there = "SELECT deleted_at IS NOT NULL FROM organizations WHERE id = :id"
        assert await session.scalar(text(is_there), {"id": person.org_id})


async def test_only_an_owner_deletes_it_and_by_its_name(
    person: Person, client: httpx2.AsyncClient
) -> None:
    admin = await join(person, await register(client, f"a-{uuid4().hex}@example.com"), "admin")
    assert (await delete_organization(admin)).status_code == 403
    wrong = await delete_organization(person, "Another")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "not_confirmed")
    without = await person.client.request("DELETE", URL, headers=person.headers)
    assert without.status_code == 422
    assert (await person.get(URL)).status_code == 200


async def test_the_receipt_is_for_who_asked(person: Person, stranger: Person) -> None:
    asked = (await delete_organization(person)).json()
    again = await sign_in(person.client, person.email)
    assert (await receipt_of(again, asked["id"]))["verified_at"] is None
    refused = await stranger.get(f"/api/v1/organization-deletions/{asked['id']}")
    assert refused.status_code == 404


class Killed(Exception):
    """What ends a worker in these tests."""


def killed_after(n: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    async def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > n:
            raise Killed
        return await function(*args, **options)

    return call


async def test_a_worker_may_be_killed_before_any_statement(
    person: Person,
    resources: Resources,
    full: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The N-th statement fails, for every N, until it goes through; each time one goes on."""
    before = await count_rows(resources, person.org_id)
    deletion_id = (await delete_organization(person)).json()["id"]
    await settle(resources)
    kills = 0
    execute = AsyncSession.execute
    for n in range(1, 400):
        monkeypatch.setattr(AsyncSession, "execute", killed_after(n, execute))
        try:
            await work(resources)
        except Killed:
            kills += 1
        else:
            break
    monkeypatch.undo()
    assert kills > 10
    assert await count_rows(resources, person.org_id) == {}
    assert files_of(resources, person.org_id) == []
    receipt = await receipt_of(await sign_in(person.client, person.email), deletion_id)
    assert receipt["verified_at"] is not None
    assert receipt["rows"]["chunks"] == before["chunks"]


async def test_files_that_can_not_be_removed_are_tried_again(
    person: Person, resources: Resources, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion_id = (await delete_organization(person)).json()["id"]
    await settle(resources)

    def refuse(*_: object) -> None:
        raise OSError("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(BlobStore, "delete_organization", refuse)
        with pytest.raises(OSError, match="the disk is away"):
            await work(resources)
    again = await sign_in(person.client, person.email)
    assert (await receipt_of(again, deletion_id))["completed_at"] is None
    await work(resources)
    assert (await receipt_of(again, deletion_id))["verified_at"] is not None


async def test_what_comes_in_between_goes_too(
    person: Person, resources: Resources, full: str
) -> None:
    """A request that was on its way may add a row, as long as the organization's own is there."""
    deletion_id = (await delete_organization(person)).json()["id"]
    await settle(resources)
    for _ in range(3):
        await purge_next(resources.db, resources.storage)
        await remove_next_organization(resources.db, resources.storage)
        await add_document(resources, person)
    blob = resources.storage.path(person.org_id, uuid4())
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(b"late")
    await work(resources)
    assert await count_rows(resources, person.org_id) == {}
    assert files_of(resources, person.org_id) == []
    again = await sign_in(person.client, person.email)
    assert (await receipt_of(again, deletion_id))["verified_at"] is not None


async def test_a_receipt_is_not_signed_while_anything_is_left(
    person: Person, resources: Resources
) -> None:
    deletion_id = (await delete_organization(person)).json()["id"]
    await settle(resources)
    again = await sign_in(person.client, person.email)
    while (await receipt_of(again, deletion_id))["completed_at"] is None:
        await purge_next(resources.db, resources.storage)
        await remove_next_organization(resources.db, resources.storage)
    # A table without a foreign key to organizations.
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO webhook_events (org_id, id, type, data)"
                " VALUES (:org_id, gen_random_uuid(), 'x', '{}')"
            ),
            {"org_id": person.org_id},
        )
    assert await remove_next_organization(resources.db, resources.storage)
    assert (await receipt_of(again, deletion_id))["verified_at"] is None
    await work(resources)
    assert (await receipt_of(again, deletion_id))["verified_at"] is not None


async def add_document(resources: Resources, person: Person) -> None:
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,"
                " sha256, status) SELECT id, gen_random_uuid(), :user_id, 'late.txt',"
                " 'text/plain', 1, :sha256, 'queued' FROM organizations WHERE id = :org_id"
            ),
            {"org_id": person.org_id, "user_id": person.user_id, "sha256": uuid4().bytes},
        )


async def test_what_arrives_after_all_is_gone_is_401_and_no_500(
    person: Person, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was let in before, and took its time."""
    principal = await resources.principals.resolve(person.tokens["access_token"])
    await delete_organization(person)
    await settle(resources)
    await work(resources)

    async def resolve(_: str) -> Any:
        return principal

    monkeypatch.setattr(resources.principals, "resolve", resolve)
    late = await person.upload("late.txt", b"Too late.")
    assert (late.status_code, late.json()["error"]["code"]) == (401, "token_revoked")
    assert files_of(resources, person.org_id) == [] or not any(
        path.is_file() for path in files_of(resources, person.org_id)
    )
    shutil.rmtree(resources.storage.path(person.org_id, uuid4()).parent, ignore_errors=True)


async def test_the_list_of_tables_is_that_of_the_database(resources: Resources) -> None:
    """A migration that adds a table with an organization must say here that it goes with it."""
    async with resources.db.system_transaction() as session:
        tables = set(
            await session.scalars(
                text(
                    "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                    " WHERE a.attname = 'org_id' AND c.relkind IN ('r', 'p')"
                    " AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace"
                )
            )
        )
    assert {*ORGANIZATION_TABLES, *KEPT_TABLES} == tables
    assert len(ORGANIZATION_TABLES) == len(set(ORGANIZATION_TABLES))


async def test_tables_go_before_those_that_they_refer_to(resources: Resources) -> None:
    async with resources.db.system_transaction() as session:
        references = await session.execute(
            text(
                "SELECT DISTINCT f.conrelid::regclass::text, f.confrelid::regclass::text"
                " FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid <> f.confrelid"
            )
        )
        pairs = [(child, parent) for child, parent in references]
        granted = [
            table
            for table in ORGANIZATION_TABLES
            if await session.scalar(
                text("SELECT has_table_privilege(current_user, :table, 'DELETE')"),
                {"table": table},
            )
        ]
    place = {table: n for n, table in enumerate(ORGANIZATION_TABLES)}
    wrong = [
        (child, parent)
        for child, parent in pairs
        if child in place and parent in place and place[child] > place[parent]
    ]
    assert len(pairs) > 20
    assert wrong == []
    # And who removes them may do so.
    assert granted == list(ORGANIZATION_TABLES)


async def test_names_of_tables_are_names() -> None:
    assert all(re.fullmatch("[a-z_]+", table) for table in ORGANIZATION_TABLES)
