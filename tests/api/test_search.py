"""Search: the contract, tenants kept apart, and any text as a query."""

import asyncio
import json
from uuid import uuid4

import httpx2
import pytest

from app.ingestion.pipeline import Ingester
from tests.conftest import ingest_all
from tests.people import Person, register

SECTIONS = (
    ("Turbines", "The turbine hall holds nine wind turbines made by Acme in Bremen."),
    ("Cooling", "The cooling tower is refilled from the river every second Tuesday."),
    ("Staff", "Forty-two engineers and three cooks work at the site in two shifts."),
    ("Safety", "Helmets are mandatory in the hall; the last accident was in 2014."),
)
RESULT_FIELDS = {
    "document_id",
    "filename",
    "chunk_id",
    "chunk_index",
    "text",
    "page_start",
    "page_end",
    "score",
}


async def add_document(person: Person, filename: str, text: str) -> str:
    response = await person.upload(filename, text.encode())
    assert response.status_code in (200, 201, 202), response.text
    return str(response.json()["document_id"])


async def add_sections(person: Person, ingester: Ingester) -> list[str]:
    """One document for each section, each of one chunk."""
    ids = [await add_document(person, f"{name}.txt", text) for name, text in SECTIONS]
    await ingest_all(ingester)
    return ids


async def search(person: Person, query: str, **options: object) -> httpx2.Response:
    return await person.post("/api/v1/search", json={"query": query, **options})


async def test_results_are_what_the_contract_says(person: Person, ingester: Ingester) -> None:
    ids = await add_sections(person, ingester)
    response = await search(person, "How many wind turbines are there?")
    assert response.status_code == 200
    results = response.json()["results"]
    assert len(results) == len(SECTIONS)  # fewer than the default 5 exist
    assert all(set(result) == RESULT_FIELDS for result in results)
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    best = results[0]
    assert best["document_id"] == ids[0]
    assert best["filename"] == "Turbines.txt"
    assert best["text"] == SECTIONS[0][1]
    assert (best["chunk_index"], best["page_start"], best["page_end"]) == (0, 1, 1)
    assert best["score"] > 0.9 > results[1]["score"]  # first by vector and by words


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
async def test_never_fewer_than_asked_for(person: Person, ingester: Ingester, top_k: int) -> None:
    await add_sections(person, ingester)
    # Not a word of it stands in the documents.
    results = (await search(person, "zxqv", top_k=top_k)).json()["results"]
    assert len(results) == top_k


async def test_fifty_of_sixty_chunks(person: Person, ingester: Ingester) -> None:
    paragraphs = [
        f"# Part {n}\n\n" + f"Item {n} is described here at length. " * 25 for n in range(60)
    ]
    await add_document(person, "long.md", "\n\n".join(paragraphs))
    await ingest_all(ingester)
    results = (await search(person, "item", top_k=50)).json()["results"]
    assert len({result["chunk_id"] for result in results}) == 50


async def test_document_ids_restrict_the_search(person: Person, ingester: Ingester) -> None:
    ids = await add_sections(person, ingester)
    chosen = [ids[1], ids[2]]
    results = (await search(person, "wind turbines", document_ids=chosen)).json()["results"]
    assert {result["document_id"] for result in results} == set(chosen)
    unknown = await search(person, "wind turbines", document_ids=[ids[1], str(uuid4())])
    assert unknown.status_code == 404


async def test_a_deleted_document_vanishes_at_once(person: Person, ingester: Ingester) -> None:
    ids = await add_sections(person, ingester)
    assert (await person.delete(f"/api/v1/documents/{ids[0]}")).status_code in (202, 204)
    results = (await search(person, "wind turbines by Acme")).json()["results"]
    assert {result["document_id"] for result in results} == set(ids[1:])
    assert (await search(person, "turbines", document_ids=[ids[0]])).status_code == 404


async def test_twenty_tenants_find_their_own_text_only(
    client: httpx2.AsyncClient, ingester: Ingester
) -> None:
    people = [await register(client, f"{uuid4().hex}@example.com") for _ in range(20)]
    canaries = [f"canary{uuid4().hex}" for _ in people]
    documents = [
        await add_document(
            person, "memo.txt", f"The password of the vault is {canary}. Everybody knows the vault."
        )
        for person, canary in zip(people, canaries, strict=True)
    ]
    await ingest_all(ingester)

    async def check(index: int) -> None:
        # The same question from everybody, and everybody else's secret word.
        neighbour = canaries[(index + 1) % len(canaries)]
        for query in (
            "What is the password of the vault?",
            neighbour,
            f"org{people[0].org_id.hex}",
        ):
            response = await search(people[index], query, top_k=50)
            results = response.json()["results"]
            assert [result["document_id"] for result in results] == [documents[index]]
            assert all(c not in response.text for c in canaries if c != canaries[index])
            assert canaries[index] in response.text

    await asyncio.gather(*(check(index) for index in range(len(people))))


@pytest.mark.parametrize(
    "query",
    [
        "'",
        '"',
        '"turbine hall" -river',
        "turbine & | ! <-> hall",
        "(((",
        ":*",
        "turbine:*",
        "turbine:*AB & 'x'",
        "100 %",
        "%s %(x)s {0} {{7*7}} ${x}",
        "back\\slash \\' \\",
        "'; DROP TABLE chunks; --",
        "\x00",
        "tur\x00bine",
        "\ud800",
        "turbine \udfff\ud800 hall",
        "🌀🦓👩‍👩‍👧‍👦",
        "the of and to a",
        "風力タービンは何基ありますか",
        "有多少台风力涡轮机?",
        "كم عدد التوربينات",
        "İstanbul ǅ ﬁ ẞ",
        "http://example.com/a'b?c=d&e=f#g /usr/local/x.y user@example.com <a href='x'>",
        "-1.5e10 2024-01-01 1,234.56",
        "x" * 4000,
        "turbine " * 500,
        " ".join(f"word{n}" for n in range(500))[:4000],
        "\u2028\u2029\r\n\t turbine",
        "\U0010ffff\ufffe\uffff",
    ],
)
async def test_any_text_is_a_query(person: Person, ingester: Ingester, query: str) -> None:
    await add_document(person, "a.txt", SECTIONS[0][1])
    await ingest_all(ingester)
    # As escapes: that is how lone surrogates and NUL come through JSON.
    response = await person.client.post(
        "/api/v1/search",
        content=json.dumps({"query": query}, ensure_ascii=True),
        headers={**person.headers, "Content-Type": "application/json"},
    )
    assert response.status_code == 200, response.text
    assert len(response.json()["results"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "  \n "},
        {"query": "x" * 4001},
        {"query": None},
        {"query": ["x"]},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": 51},
        {"query": "x", "top_k": 2.5},
        {"query": "x", "document_ids": ["no-uuid"]},
        {"query": "x", "document_ids": [str(uuid4())] * 1001},
        {"query": "x", "topk": 3},
        [],
        "x",
    ],
)
async def test_a_wrong_request_is_422(person: Person, body: object) -> None:
    response = await person.post("/api/v1/search", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"


async def test_somebody_without_documents_finds_nothing(person: Person) -> None:
    response = await search(person, "anything")
    assert (response.status_code, response.json()) == (200, {"results": []})
