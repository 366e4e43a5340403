"""Questions to begin with, made of real files' headings."""

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from app.documents import suggestions
from app.documents.suggestions import suggest_questions
from app.ingestion.pipeline import Ingester
from app.resources import Resources
from tests.conftest import ingest_all
from tests.people import Person
from tests.stored import change_document

_URL = "/api/v1/documents/suggestions"


def markdown(*headings: str, end: str = "") -> bytes:
    """A text with much under each heading, and the more the earlier it comes."""
    sentence = "The committee writes here what it has found out about these things. "
    parts = [
        f"## {heading}\n\n{sentence * (16 - 4 * min(at, 2))}\n\n"
        for at, heading in enumerate(headings)
    ]
    return ("".join(parts) + end).encode()


async def upload(person: Person, filename: str, content: bytes) -> str:
    response = await person.upload(filename, content)
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def suggest(person: Person, **params: Any) -> list[dict[str, Any]]:
    response = await person.get(_URL, params=params)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def test_without_a_ready_document_there_is_none(person: Person) -> None:
    assert await suggest(person) == []
    document_id = await upload(person, "Queued_report.md", markdown("Wet habitats"))
    assert await suggest(person) == []
    assert await suggest(person, document_id=document_id) == []


async def test_each_document_has_its_turn_the_newest_first(
    person: Person, ingester: Ingester
) -> None:
    old = await upload(
        person, "Otter_guide.md", markdown("1. Wet habitats", "2. LARGE RIVERS", "Contents")
    )
    new = await upload(person, "Tax_guide.md", markdown("Item 1A. Risk factors", "PART I"))
    plain = await upload(person, "Short_note.txt", b"There is no heading in it at all.")
    await ingest_all(ingester)
    items = await suggest(person)
    assert items == [
        {
            "question": "What are the risk factors in Tax guide?",
            "document_id": new,
            "filename": "Tax_guide.md",
            "heading": "Risk factors",
        },
        {
            "question": "What does Otter guide say about wet habitats?",
            "document_id": old,
            "filename": "Otter_guide.md",
            "heading": "Wet habitats",
        },
        {
            "question": "What is Short note about?",
            "document_id": plain,
            "filename": "Short_note.txt",
            "heading": None,
        },
        {
            "question": "What does Otter guide say about large rivers?",
            "document_id": old,
            "filename": "Otter_guide.md",
            "heading": "Large rivers",
        },
    ]
    assert await suggest(person) == items
    assert await suggest(person, limit=1) == items[:1]
    assert await suggest(person, limit=20) == items
    only_old = await suggest(person, document_id=[old, plain])
    assert [item["document_id"] for item in only_old] == [old, plain, old]


async def test_what_is_deleted_expired_or_a_strangers_is_not_asked_about(
    person: Person, stranger: Person, resources: Resources, ingester: Ingester
) -> None:
    kept = await upload(person, "Kept_guide.md", markdown("Wet habitats"))
    gone = await upload(person, "Gone_guide.md", markdown("Dry habitats"))
    expired = await upload(person, "Expired_guide.md", markdown("Cold habitats"))
    await ingest_all(ingester)
    assert await suggest(stranger) == []
    assert len(await suggest(person)) == 3
    await person.delete(f"/api/v1/documents/{gone}")
    await change_document(resources, expired, "expires_at = now() - interval '1 s'")
    assert [item["document_id"] for item in await suggest(person)] == [kept]
    for unknown in (gone, expired, str(uuid4())):
        response = await person.get(_URL, params={"document_id": [kept, unknown]})
        assert response.status_code == 404
        assert response.json()["error"]["param"] == "document_id"
    assert (await stranger.get(_URL, params={"document_id": kept})).status_code == 404


async def test_while_a_new_version_is_made_the_served_one_is_asked_about(
    person: Person, ingester: Ingester
) -> None:
    document_id = await upload(person, "Old_guide.md", markdown("Wet habitats"))
    await ingest_all(ingester)
    await person.client.put(
        f"/api/v1/documents/{document_id}/content",
        headers=person.headers,
        files={"file": ("New_guide.md", markdown("Dry habitats"))},
    )
    (before,) = await suggest(person)
    assert before["question"] == "What does Old guide say about wet habitats?"
    await ingest_all(ingester)
    (after,) = await suggest(person)
    assert after["question"] == "What does New guide say about dry habitats?"


async def test_hostile_headings_come_as_one_short_clean_line(
    person: Person, ingester: Ingester
) -> None:
    hostile = "Wet \u202estatibah\u202c <script>alert(1)</script> " + "long " * 60
    await upload(person, "Evil_guide.md", markdown(hostile, "Dry\u2066 rivers\u200b"))
    await ingest_all(ingester)
    for item in await suggest(person):
        assert len(item["heading"] or "") <= 120
        assert item["question"].isprintable()
    assert "What does Evil guide say about dry rivers?" in [
        item["question"] for item in await suggest(person)
    ]


async def test_two_files_of_one_name_do_not_ask_the_same_twice(
    person: Person, ingester: Ingester
) -> None:
    for end in ("One.", "Two."):
        await upload(person, "Same_guide.md", markdown("Wet habitats", end=end))
    await ingest_all(ingester)
    assert len(await suggest(person)) == 1


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 21}, {"document_id": "x"}])
async def test_bad_parameters_are_422(person: Person, params: dict[str, Any]) -> None:
    assert (await person.get(_URL, params=params)).status_code == 422


async def test_chunks_are_looked_up_one_by_one_however_many_there_are(
    person: Person, resources: Resources, ingester: Ingester
) -> None:
    """Of 25 documents with 2,000 chunks each, some 1,000 chunks of 20 are read."""
    await upload(person, "One_guide.md", markdown("Wet habitats"))
    await ingest_all(ingester)
    async with resources.db.system_transaction() as session:
        await session.execute(
            text("""
                INSERT INTO documents (org_id, id, uploaded_by, filename, media_type, size_bytes,
                    sha256, status, generation, ready_version, chunk_count)
                SELECT :org, gen_random_uuid(), :user, n || '.txt', 'text/plain', n,
                    sha256(n::text::bytea), 'ready', 1, 1, 2000 FROM generate_series(1, 25) AS n
            """),
            {"org": person.org_id, "user": person.user_id},
        )
        await session.execute(
            text("""
                INSERT INTO chunks (org_id, id, document_id, generation, ordinal, text, spans,
                    page_start, page_end, heading, token_count, tsv)
                SELECT d.org_id, gen_random_uuid(), d.id, 1, n, 'x', '{1,0,1}', 1, 1, 'One', 9, ''
                FROM documents d, generate_series(0, 1999) AS n
                WHERE d.org_id = :org AND d.chunk_count = 2000
            """),
            {"org": person.org_id},
        )
    read = text("""
        SELECT idx_tup_fetch + coalesce(seq_tup_read, 0)
        FROM pg_stat_xact_user_tables WHERE relname = 'chunks'
    """)
    async with resources.db.transaction(person) as session:
        found = await suggest_questions(session, person.org_id, document_ids=None, limit=4)
        assert len(found) == 4
        rows = await session.scalar(read)
    assert 900 <= rows <= 2 * suggestions._SAMPLED_CHUNKS
