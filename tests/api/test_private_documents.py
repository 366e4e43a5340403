"""Documents that are private to who uploaded them: for everybody else they are not there.

A owns an organization, B is its admin and C a member; D belongs to another one.
"""

import asyncio
import json
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx2
import numpy as np
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy import text

from app.core.db import TenantScope
from app.core.sse import Frame
from app.documents.deletion import delete_private_documents, purge_next
from app.documents.feed import Watch
from app.ingestion.lease import claim_next, hold
from app.ingestion.pipeline import Ingester
from app.models.accounts import MemberRole
from app.models.documents import DocumentStatus
from app.resources import Resources
from app.routers import ROUTERS
from tests.conftest import ingest_all
from tests.people import PASSWORD, Person, register
from tests.stored import change_document, read_document
from tests.stored_runs import ask, principal_of

SHARED_TEXT = b"The quokka lives on Rottnest Island and eats grass at night."
# They send frames for as long as somebody listens.
ENDLESS = {"/api/v1/documents/events"}
# Rows of these hold a document's words, or tell of it.
TABLES = ("documents", "pages", "chunks", "ocr_pages", "document_versions", "deletions")


@dataclass(frozen=True, slots=True)
class Team:
    a: Person
    b: Person
    c: Person
    d: Person

    @property
    def others(self) -> dict[str, Person]:
        return {"admin": self.b, "member": self.c, "stranger": self.d}


@dataclass(frozen=True, slots=True)
class Canary:
    """A's private document. `word` is in its name, text, tags and metadata, and nowhere else."""

    word: str
    document_id: str
    shared_id: str

    def is_in(self, told: str) -> bool:
        return self.word in told.lower() or self.document_id in told


def _new_word() -> str:
    """Of letters alone: what has digits too is searched for in its parts, which others may have."""
    return "canary" + "".join(random.choices(string.ascii_lowercase, k=24))


@dataclass(frozen=True, slots=True)
class Scope:
    org_id: UUID
    user_id: UUID | None = None


@pytest.fixture
async def team(client: httpx2.AsyncClient, resources: Resources, person: Person) -> Team:
    b = await _join(client, resources, person, MemberRole.ADMIN)
    c = await _join(client, resources, person, MemberRole.MEMBER)
    d = await register(client, f"d-{uuid4().hex}@example.com")
    return Team(person, b, c, d)


@pytest.fixture
async def canary(team: Team, ingester: Ingester) -> Canary:
    word = _new_word()
    private = await _upload(
        team.a,
        f"{word}.txt",
        f"The secret of the {word} lies under the old bridge.".encode(),
        visibility="private",
        tags=word,
        metadata=json.dumps({word: word}),
    )
    shared = await _upload(team.a, "quokka.txt", SHARED_TEXT)
    await ingest_all(ingester)
    return Canary(word, private["document_id"], shared["document_id"])


async def _join(
    client: httpx2.AsyncClient, resources: Resources, owner: Person, role: MemberRole
) -> Person:
    """Return somebody who belongs to the owner's organization alone."""
    joined = await register(client, f"{role}-{uuid4().hex}@example.com")
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("UPDATE memberships SET org_id = :org, role = :role WHERE user_id = :user"),
            {"org": owner.org_id, "role": role, "user": joined.user_id},
        )
    signed_in = await client.post(
        "/api/v1/auth/login", data={"username": joined.email, "password": PASSWORD}
    )
    assert signed_in.json()["organization"]["id"] == str(owner.org_id)
    return Person(client, joined.email, signed_in.json())


async def _upload(person: Person, name: str, content: bytes, **fields: str) -> dict[str, Any]:
    response = await person.post(
        "/api/v1/documents/upload", files={"file": (name, content)}, data=fields
    )
    assert response.status_code in (200, 202), response.text
    found: dict[str, Any] = response.json()
    return found


async def _patch(person: Person, document_id: str, **fields: Any) -> httpx2.Response:
    return await person.client.patch(
        f"/api/v1/documents/{document_id}", json=fields, headers=person.headers
    )


async def _search(person: Person, query: str, **fields: Any) -> httpx2.Response:
    return await person.post("/api/v1/search", json={"query": query, "top_k": 50, **fields})


def _question(words: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": words}], **fields}


# Nothing that a request can ask for tells of it


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the query parameters of a route, and whether each is an id."""
    for field in dependant.query_params:
        yield field.alias, "UUID" in str(field.field_info.annotation)
    for below in dependant.dependencies:
        yield from _parameters(below)


def _get_routes() -> dict[str, APIRoute]:
    return {
        route.path: route
        for router in ROUTERS.values()
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }


async def test_no_get_route_tells_others_of_a_private_document(
    team: Team, canary: Canary, resources: Resources
) -> None:
    conversation = await ask(
        resources.db,
        principal_of(team.a.org_id, team.a.user_id),
        f"Where is the {canary.word}?",
        document_id=UUID(canary.document_id),
    )
    owners = {
        "{document_id}": canary.document_id,
        "{conversation_id}": str(conversation.begun.conversation_id),
        "{message_id}": str(conversation.begun.message_id),
        "{run_id}": str(conversation.begun.run_id),
        "{number}": "1",
    }
    asked = 0
    for path, route in _get_routes().items():
        if path in ENDLESS:
            continue
        url = path
        for name, value in owners.items():
            url = url.replace(name, value)
        is_about_it = "{document_id}" in path
        # Anything else that a route may name, as if it were the document.
        for part in [part for part in url.split("/") if part.startswith("{")]:
            url = url.replace(part, canary.document_id)
        wanted: list[dict[str, str]] = [{}]
        for name, is_id in _parameters(route.dependant):
            wanted.append({name: canary.document_id if is_id else canary.word})
            if not is_id:
                wanted.append({name: canary.document_id})
        for who, other in team.others.items():
            for params in wanted:
                response = await other.get(url, params=params, follow_redirects=False)
                assert response.status_code < 500, (path, params, who, response.text)
                assert not canary.is_in(response.text), (path, params, who, response.text)
                assert not canary.is_in(str(response.headers)), (path, params, who)
                if is_about_it and path.startswith("/api/"):
                    assert response.status_code in (400, 404, 422), (path, params, who)
                asked += 1
    assert asked > 200
    # All of it is there for its owner.
    for path in ("", "/content", "/pages/1", "/chunks", "/report", "/versions"):
        found = await team.a.get(f"/api/v1/documents/{canary.document_id}{path}")
        assert found.status_code == 200, path
        assert canary.is_in(found.text), path


async def test_writing_to_it_is_404_for_others(team: Team, canary: Canary) -> None:
    at = f"/api/v1/documents/{canary.document_id}"
    for who, other in team.others.items():
        headers = other.headers
        answers = [
            await _patch(other, canary.document_id, visibility="shared"),
            await _patch(other, canary.document_id, tags=[]),
            await other.post(f"{at}/cancel"),
            await other.post(f"{at}/retry"),
            await other.delete(at),
            await other.client.put(
                f"{at}/content", files={"file": ("n.txt", b"new")}, headers=headers
            ),
            await other.post("/api/v1/documents/events", json={"document_id": canary.document_id}),
        ]
        for answer in answers:
            assert answer.status_code == 404, (who, answer.request.url, answer.text)
            assert not canary.is_in(answer.text), who
    assert (await team.a.get(at)).json()["status"] == DocumentStatus.READY


async def test_no_search_finds_it_for_others(team: Team, canary: Canary) -> None:
    words = f"What is the secret of the {canary.word} under the old bridge?"
    narrowed: list[dict[str, Any]] = [
        {},
        {"explain": True},
        {"filter": {"tags": {"any": [canary.word]}}},
        {"tags": [canary.word]},
        {"metadata": {canary.word: canary.word}},
        {"filename": f"{canary.word}.txt"},
        {"pages": {"from": 1, "to": 1}},
        {"history": [{"role": "user", "content": words}]},
        {"document_ids": [canary.shared_id]},
    ]
    for who, other in team.others.items():
        for fields in narrowed:
            found = await _search(other, words, **fields)
            assert found.status_code in (200, 404, 422), found.text
            results = found.json().get("results", [])
            assert canary.document_id not in {hit["document_id"] for hit in results}, (who, fields)
            trace = json.dumps(found.json().get("trace", {}).get("candidates", []))
            assert not canary.is_in(trace), (who, fields)
        for ids in ([canary.document_id], [canary.document_id, canary.shared_id]):
            assert (await _search(other, words, document_ids=ids)).status_code == 404, who
    mine = (await _search(team.a, words)).json()["results"]
    assert mine[0]["document_id"] == canary.document_id
    narrowed_to_it = await _search(team.a, words, document_ids=[canary.document_id])
    assert [hit["document_id"] for hit in narrowed_to_it.json()["results"]] == [canary.document_id]


async def test_no_answer_tells_others_of_it(team: Team, canary: Canary) -> None:
    words = "What lies under the old bridge?"
    for who, other in team.others.items():
        for path in ("/api/v1/chat/", "/api/v1/chat/stream", "/v1/chat/completions"):
            answer = await other.post(path, json=_question(words, model="extractive"))
            assert answer.status_code == 200, answer.text
            assert not canary.is_in(answer.text), (who, path)
            named = _question(words, model="extractive", document_ids=[canary.document_id])
            refused = await other.post(path, json=named)
            assert refused.status_code == 404, (who, path, refused.text)
        run = _question(words, document_ids=[canary.document_id])
        assert (await other.post("/api/v1/chat/runs", json=run)).status_code == 404, who
    mine = await team.a.post("/api/v1/chat/", json=_question(words))
    assert canary.is_in(mine.text)


async def test_a_private_document_that_is_not_ready_is_nobody_elses_business(team: Team) -> None:
    waiting = await _upload(team.a, "waiting.txt", uuid4().hex.encode(), visibility="private")
    question = _question("What lies under the old bridge?")
    assert waiting["document_id"] not in (await team.b.post("/api/v1/chat/", json=question)).text
    assert waiting["document_id"] in (await team.a.post("/api/v1/chat/", json=question)).text


async def test_words_of_private_documents_weigh_nothing_for_others(
    team: Team, canary: Canary
) -> None:
    """How well a shared document fits would tell whether another word of the question is known."""

    async def fit(person: Person, other_word: str) -> list[float]:
        found = await _search(person, f"quokka {other_word}", explain=True)
        candidates = found.json()["trace"]["candidates"]
        return [c["fulltext"] for c in candidates if c["document_id"] == canary.shared_id]

    unknown = _new_word()
    for other in (team.b, team.c):
        # Sums of floats, in another order.
        assert await fit(other, canary.word) == pytest.approx(await fit(other, unknown), rel=1e-12)
    assert await fit(team.a, canary.word) != pytest.approx(await fit(team.a, unknown), rel=0.01)


async def test_storage_counts_its_bytes_and_does_not_name_it(team: Team, canary: Canary) -> None:
    for reader, named in ((team.a, True), (team.b, False), (team.c, False)):
        used = (await reader.get("/api/v1/organization/storage")).json()
        assert used["documents"] == 2
        assert used["bytes"] > len(SHARED_TEXT)
        assert (canary.document_id in {each["id"] for each in used["largest"]}) is named


# The database keeps it from whoever asks


async def test_the_database_shows_it_to_its_user_alone(
    team: Team, canary: Canary, resources: Resources
) -> None:
    document = {"id": UUID(canary.document_id)}
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "INSERT INTO ocr_pages (org_id, document_id, version, number, text)"
                " SELECT org_id, id, 1, 1, :word FROM documents WHERE id = :id"
            ),
            {**document, "word": canary.word},
        )
    deleted = await _upload(team.a, "gone.txt", uuid4().hex.encode(), visibility="private")
    assert (await team.a.delete(f"/api/v1/documents/{deleted['document_id']}")).status_code == 202

    async def count(scope: TenantScope, table: str) -> int:
        column = "id" if table == "documents" else "document_id"
        ids = [document["id"], UUID(deleted["document_id"])]
        async with resources.db.transaction(scope) as session:
            found = await session.scalar(
                text(f"SELECT count(*) FROM {table} WHERE {column} = ANY (:ids)"), {"ids": ids}
            )
        return int(found or 0)

    org_id = team.a.org_id
    foreign = [Scope(org_id), Scope(org_id, team.b.user_id), Scope(org_id, team.c.user_id)]
    foreign += [Scope(team.d.org_id, team.a.user_id), Scope(team.d.org_id, team.d.user_id)]
    for table in TABLES:
        assert await count(Scope(org_id, team.a.user_id), table) > 0, table
        for scope in foreign:
            assert await count(scope, table) == 0, (table, scope)
    words = text("SELECT count(*) FROM private_lexemes WHERE lexeme LIKE '%canary%'")
    for scope in foreign:
        async with resources.db.transaction(scope) as session:
            assert await session.scalar(words) == 0, scope
    async with resources.db.transaction(Scope(org_id, team.a.user_id)) as session:
        assert await session.scalar(words) > 0


async def test_functions_of_the_owner_ask_for_the_user(
    team: Team, canary: Canary, resources: Resources
) -> None:
    fulltext = """
        SELECT chunk_id FROM search_chunks_fulltext(
            $1, NULL, NULL, NULL, ARRAY[$2], '{1}', '{1}', 10, $3)
    """
    everything = """
        SELECT chunk_id FROM search_everything(
            $1, NULL, $4, ARRAY[$2], '{1}', '{1}', 10, $3)
    """
    vector = np.eye(1, 384, dtype=np.float32)[0]
    org_id, word = team.a.org_id, canary.word
    own = Scope(org_id, team.a.user_id)
    async with resources.db.reading(own) as driver:
        chunk_id = await driver.fetchval(
            "SELECT id FROM chunks WHERE document_id = $1", UUID(canary.document_id)
        )
        assert len(await driver.fetch(fulltext, org_id, word, [])) == 1
        held = "SELECT hold_live_vectors($1, $2, 1)"
    async with resources.db.transaction(own) as session:
        connection = await session.connection()
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await session.execute(text("SELECT 1"))
        assert await raw.fetchval(held, org_id, UUID(canary.document_id))
    for user_id in (None, team.b.user_id, team.c.user_id):
        scope = Scope(org_id, user_id)
        async with resources.db.reading(scope) as driver:
            assert await driver.fetch(fulltext, org_id, word, []) == []
            # Named by its id it has no score either.
            assert await driver.fetch(fulltext, org_id, word, [chunk_id]) == []
            # A transaction of somebody else's does not become the owner's.
            found = await driver.fetch(everything, org_id, word, team.a.user_id, vector)
            assert found == []
            assert await driver.fetch(everything, org_id, word, user_id, vector) == []
        async with resources.db.transaction(scope) as session:
            connection = await session.connection()
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await session.execute(text("SELECT 1"))
            assert not await raw.fetchval(held, org_id, UUID(canary.document_id))
    async with resources.db.lone_statements() as driver:
        assert len(await driver.fetch(everything, org_id, word, team.a.user_id, vector)) == 1
        assert await driver.fetch(everything, org_id, word, None, vector) == []


async def test_nobody_makes_a_document_private_to_somebody_else(
    team: Team, canary: Canary, resources: Resources
) -> None:
    hide = text("UPDATE documents SET private_to = :user WHERE id = :id")
    values = {"user": team.b.user_id, "id": UUID(canary.shared_id)}
    for scope in (Scope(team.a.org_id, team.a.user_id), Scope(team.a.org_id, team.b.user_id)):
        with pytest.raises(Exception, match=r"row-level security|private_to_uploader"):
            async with resources.db.transaction(scope) as session:
                await session.execute(hide, values)
    with pytest.raises(Exception, match="private_to_uploader"):
        async with resources.db.system_transaction() as session:
            await session.execute(hide, values)


# The same bytes


async def test_the_same_private_bytes_are_one_document_of_each_user(
    team: Team, resources: Resources
) -> None:
    content = uuid4().hex.encode()
    results = await asyncio.gather(
        *(
            _upload(person, f"{n}.txt", content, visibility="private")
            for n in range(15)
            for person in (team.a, team.c)
        )
    )
    assert len({result["document_id"] for result in results}) == 2
    assert sum(not result["deduplicated"] for result in results) == 2
    async with resources.db.system_transaction() as session:
        owners = await session.scalars(
            text("SELECT private_to FROM documents WHERE org_id = :org"), {"org": team.a.org_id}
        )
        assert set(owners) == {team.a.user_id, team.c.user_id}


async def test_an_upload_does_not_tell_what_others_keep(team: Team) -> None:
    content = uuid4().hex.encode()
    mine = await _upload(team.a, "mine.txt", content, visibility="private")
    theirs = await _upload(team.c, "theirs.txt", content)
    assert not theirs["deduplicated"]
    assert theirs["document_id"] != mine["document_id"]
    assert (await _upload(team.b, "again.txt", content))["document_id"] == theirs["document_id"]
    again = await _upload(team.a, "mine.txt", content, visibility="private")
    assert (again["document_id"], again["visibility"]) == (mine["document_id"], "private")
    # A new version is compared with what its own readers see.
    other = await _upload(team.c, "other.txt", uuid4().hex.encode(), visibility="private")
    replaced = await team.c.client.put(
        f"/api/v1/documents/{other['document_id']}/content",
        files={"file": ("other.txt", content)},
        headers=team.c.headers,
    )
    assert replaced.status_code == 202, replaced.text


async def test_a_resumable_upload_may_be_private(team: Team) -> None:
    # "visibility private" in the metadata of tus.
    started = await team.a.client.post(
        "/api/v1/uploads",
        headers=team.a.headers
        | {
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "5",
            "Upload-Metadata": "filename YS50eHQ=,visibility cHJpdmF0ZQ==",
        },
    )
    assert started.status_code == 201, started.text
    done = await team.a.client.patch(
        started.headers["Location"],
        content=uuid4().hex[:5].encode(),
        headers=team.a.headers
        | {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Content-Type": "application/offset+octet-stream",
        },
    )
    path = f"/api/v1/documents/{done.headers['Document-Id']}"
    assert (await team.a.get(path)).json()["visibility"] == "private"
    assert (await team.b.get(path)).status_code == 404
    assert (await team.b.get(started.headers["Location"])).status_code == 404


async def test_visibility_is_one_of_two(team: Team) -> None:
    refused = await team.a.post(
        "/api/v1/documents/upload",
        files={"file": ("a.txt", b"a")},
        data={"visibility": "secret"},
    )
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "visibility"
    mine = await _upload(team.a, "mine.txt", uuid4().hex.encode(), visibility="private")
    at = f"/api/v1/documents/{mine['document_id']}"
    for visibility, status in (("shared", 422), ("private", 202)):
        response = await team.a.client.put(
            f"{at}/content",
            files={"file": ("b.txt", uuid4().hex.encode())},
            data={"visibility": visibility},
            headers=team.a.headers,
        )
        assert response.status_code == status, response.text
    assert (await _patch(team.a, mine["document_id"], visibility="secret")).status_code == 422


async def test_a_list_can_be_of_one_visibility(team: Team, canary: Canary) -> None:
    async def listed(person: Person, **params: str) -> tuple[set[str], int]:
        page = (await person.get("/api/v1/documents", params=params)).json()
        return {each["id"] for each in page["items"]}, page["total"]

    assert await listed(team.a) == ({canary.document_id, canary.shared_id}, 2)
    assert await listed(team.a, visibility="private") == ({canary.document_id}, 1)
    assert await listed(team.a, visibility="shared") == ({canary.shared_id}, 1)
    assert await listed(team.b) == ({canary.shared_id}, 1)
    assert await listed(team.b, visibility="private") == (set(), 0)
    page = (await team.a.get("/api/v1/documents", params={"limit": 1})).json()
    assert page["total"] == 2
    assert (await team.b.get("/api/v1/documents", params={"limit": 1})).json()["total"] == 1


# Sharing and hiding


async def test_a_document_that_is_made_private_is_gone_for_others(
    team: Team, canary: Canary, resources: Resources
) -> None:
    kept = await ask(
        resources.db,
        principal_of(team.a.org_id, team.c.user_id),
        "Where is the quokka?",
        document_id=UUID(canary.shared_id),
    )
    messages = f"/api/v1/conversations/{kept.begun.conversation_id}/messages"
    run = f"/api/v1/chat/runs/{kept.begun.run_id}/events"
    for path in (messages, run):
        assert "Rottnest Island." in (await team.c.get(path)).text, path
    for other in (team.b, team.c):
        refused = await _patch(other, canary.shared_id, visibility="private")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    hidden = await _patch(team.a, canary.shared_id, visibility="private")
    assert hidden.json()["visibility"] == "private"

    assert (await team.c.get(f"/api/v1/documents/{canary.shared_id}")).status_code == 404
    assert (await _search(team.c, "quokka")).json()["results"] == []
    citation = (await team.c.get(messages)).json()["items"][-1]["citations"][0]
    assert not citation["filename"]
    assert not citation["quote"]
    assert '"quote":"The quokka' not in (await team.c.get(run)).text
    assert (await _search(team.a, "quokka")).json()["results"]

    shown = await _patch(team.a, canary.shared_id, visibility="shared")
    assert shown.json()["visibility"] == "shared"
    assert (await _search(team.c, "quokka")).json()["results"]
    citation = (await team.c.get(messages)).json()["items"][-1]["citations"][0]
    assert citation["filename"] == "quokka.txt"


async def test_answers_made_of_its_sentences_are_redacted_for_others_alone(
    team: Team, canary: Canary
) -> None:
    words = "Where does the quokka live?"
    conversations = {}
    for person in (team.a, team.c):
        run = await person.post("/api/v1/chat/runs", json=_question(words))
        assert run.status_code == 201, run.text
        await person.get(f"/api/v1/chat/runs/{run.json()['run_id']}/events")
        conversations[person.email] = run.json()["conversation_id"]

    async def answer_of(person: Person) -> str:
        path = f"/api/v1/conversations/{conversations[person.email]}/messages"
        content: str = (await person.get(path)).json()["items"][-1]["content"]
        return content

    for person in (team.a, team.c):
        assert "Rottnest" in await answer_of(person)
    await _patch(team.a, canary.shared_id, visibility="private")
    assert "Rottnest" in await answer_of(team.a)
    assert "private" in await answer_of(team.c)
    assert "Rottnest" not in await answer_of(team.c)


async def test_the_same_bytes_are_in_the_way_of_a_change(team: Team) -> None:
    content = uuid4().hex.encode()
    private = (await _upload(team.a, "p.txt", content, visibility="private"))["document_id"]
    shared = (await _upload(team.a, "s.txt", content))["document_id"]
    for document_id, visibility in ((private, "shared"), (shared, "private")):
        refused = await _patch(team.a, document_id, visibility=visibility)
        assert refused.status_code == 409, refused.text
        assert refused.json()["error"]["code"] == "duplicate_content"


async def test_words_are_counted_where_they_are_seen(
    team: Team, canary: Canary, resources: Resources
) -> None:
    """After sharing, hiding and deleting, the counts are those of the chunks."""

    async def counts(table: str) -> int:
        async with resources.db.system_transaction() as session:
            found = await session.scalar(
                text(
                    f"SELECT coalesce(sum(chunk_count), 0) FROM {table}"
                    " WHERE org_id = :org AND lexeme = ''"
                ),
                {"org": team.a.org_id},
            )
        return int(found or 0)

    async def both() -> tuple[int, int]:
        return await counts("lexemes"), await counts("private_lexemes")

    assert await both() == (1, 1)
    assert (await _patch(team.a, canary.document_id, visibility="shared")).status_code == 200
    assert await both() == (2, 0)
    found = (await _search(team.c, canary.word)).json()["results"]
    assert found[0]["document_id"] == canary.document_id
    assert (await _patch(team.a, canary.document_id, visibility="private")).status_code == 200
    assert await both() == (1, 1)
    for document_id in (canary.document_id, canary.shared_id):
        await team.a.delete(f"/api/v1/documents/{document_id}")
    while await purge_next(resources.db, resources.storage):
        pass
    assert await both() == (0, 0)


async def test_a_worker_goes_on_with_a_document_that_is_made_private(
    team: Team, ingester: Ingester, resources: Resources
) -> None:
    await ingest_all(ingester)
    document = await _upload(team.a, "p.txt", f"The numbat {uuid4().hex} eats termites.".encode())
    async with resources.db.system_transaction() as session:
        lease = await claim_next(session, per_org=100)
    assert lease is not None
    assert str(lease.document_id) == document["document_id"]
    patched = await _patch(team.a, document["document_id"], visibility="private")
    assert patched.json()["status"] == DocumentStatus.PROCESSING
    async with resources.db.transaction(lease) as session:
        await hold(session, lease)  # raises LeaseLost where it sees no such document
    await change_document(
        resources, document["document_id"], "status = 'queued', lease_expires_at = NULL"
    )
    await ingest_all(ingester)
    assert (await _search(team.a, "numbat")).json()["results"]
    assert (await _search(team.c, "numbat")).json()["results"] == []


# What is told of it


async def _hear(watch: Watch, until: str) -> list[Frame]:
    """Return all frames up to the first about a document."""
    heard: list[Frame] = []
    async with asyncio.timeout(20):
        while not any(frame.get("document_id") == until for frame in heard):
            heard += await watch.take(timeout_s=20) or ()
    return heard


async def test_others_hear_nothing_of_its_progress(team: Team, resources: Resources) -> None:
    feed = resources.progress
    watches = {
        person.email: feed.join(person.user_id, team.a.org_id, None, is_resumed=False)
        for person in (team.a, team.b)
    }
    try:
        private = await _upload(team.a, "p.txt", uuid4().hex.encode(), visibility="private")
        shared = await _upload(team.a, "s.txt", uuid4().hex.encode())
        mine = await _hear(watches[team.a.email], shared["document_id"])
        theirs = await _hear(watches[team.b.email], shared["document_id"])
        assert private["document_id"] in {frame.get("document_id") for frame in mine}
        assert private["document_id"] not in {frame.get("document_id") for frame in theirs}
        places = {f["document_id"]: f["queue_position"] for f in theirs if "queue_position" in f}
        assert places == {shared["document_id"]: 1}
        queued = {frame["queued"] for frame in theirs if frame["type"] == "progress"}
        assert queued <= {0, 1}
        # Made private it is gone for who saw it; what becomes of it then is told to its owner.
        await _patch(team.a, shared["document_id"], visibility="private")
        frames = await _hear(watches[team.b.email], shared["document_id"])
        assert {"type": "deleted", "document_id": shared["document_id"]} in frames
        await team.a.delete(f"/api/v1/documents/{private['document_id']}")
        last = await _upload(team.a, "l.txt", uuid4().hex.encode())
        theirs = await _hear(watches[team.b.email], last["document_id"])
        assert private["document_id"] not in {frame.get("document_id") for frame in theirs}
    finally:
        for watch in watches.values():
            feed.leave(watch)


async def test_who_follows_a_document_that_is_made_private_hears_that_it_is_gone(
    team: Team, resources: Resources
) -> None:
    shared = await _upload(team.a, "s.txt", uuid4().hex.encode())
    document_id = UUID(shared["document_id"])
    watch = resources.progress.join(team.b.user_id, team.a.org_id, document_id, is_resumed=False)
    try:
        (first,) = await _hear(watch, shared["document_id"])
        assert first["status"] == DocumentStatus.QUEUED
        await _patch(team.a, shared["document_id"], visibility="private")
        async with asyncio.timeout(20):
            while first["type"] != "deleted":
                (first,) = await watch.take(timeout_s=20) or (first,)
    finally:
        resources.progress.leave(watch)


async def test_its_place_in_the_queue_counts_what_its_reader_sees(team: Team) -> None:
    private = await _upload(team.a, "1.txt", uuid4().hex.encode(), visibility="private")
    shared = await _upload(team.a, "2.txt", uuid4().hex.encode())
    other = await _upload(team.c, "3.txt", uuid4().hex.encode(), visibility="private")

    async def place(person: Person, document: dict[str, Any]) -> int | None:
        found = (await person.get(f"/api/v1/documents/{document['document_id']}")).json()
        position: int | None = found["queue_position"]
        return position

    assert await place(team.a, private) == 1
    assert await place(team.a, shared) == await place(team.b, shared) == 1
    assert await place(team.c, other) == 2


# Deletion


async def test_only_its_owner_has_the_receipt_of_its_deletion(team: Team, canary: Canary) -> None:
    deleted = await team.a.delete(f"/api/v1/documents/{canary.document_id}")
    assert deleted.status_code == 202
    receipt = deleted.json()["deletion_id"]
    listed = (await team.a.get("/api/v1/deletions")).json()["items"]
    assert receipt in {each["id"] for each in listed}
    for other in (team.b, team.c, team.d):
        assert (await other.get(f"/api/v1/deletions/{receipt}")).status_code == 404
        assert not canary.is_in((await other.get("/api/v1/deletions")).text)
        again = await other.delete(f"/api/v1/documents/{canary.document_id}")
        assert again.status_code == 404


async def test_who_leaves_takes_their_private_documents_along(
    team: Team, canary: Canary, resources: Resources
) -> None:
    theirs = await _upload(team.c, "theirs.txt", uuid4().hex.encode(), visibility="private")
    given = await _upload(team.c, "given.txt", uuid4().hex.encode())
    key = (team.a.org_id, team.c.user_id)
    async with resources.db.transaction(Scope(team.a.org_id, team.b.user_id)) as session:
        # An admin's own transaction does not see them.
        deleted = await delete_private_documents(session, *key, requested_by=team.b.user_id)
        assert deleted == 0
    async with resources.db.system_transaction() as session:
        deleted = await delete_private_documents(session, *key, requested_by=team.b.user_id)
        assert deleted == 1
    async with resources.db.system_transaction() as session:
        receipt = (
            await session.execute(
                text("SELECT * FROM deletions WHERE document_id = :id"),
                {"id": UUID(theirs["document_id"])},
            )
        ).one()
    assert (receipt.reason, receipt.requested_by) == ("requested", team.b.user_id)
    assert receipt.private_to == team.c.user_id
    while await purge_next(resources.db, resources.storage):
        pass
    assert await read_document(resources, theirs["document_id"]) is None
    for document_id in (given["document_id"], canary.document_id):
        assert (await read_document(resources, document_id)).deleted_at is None
