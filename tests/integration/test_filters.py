"""Filters against brute force: what is found is what Python finds in the documents themselves."""

import asyncio
import json
import math
import operator
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.ingestion.pipeline import Ingester
from app.resources import Resources
from app.retrieval.filters import compile_documents
from app.routers.search_filters import FilterFields
from tests.conftest import ingest_all
from tests.people import Person, register
from tests.stored import ChunkRow, PageRow, change_document, make_ready

INJECTION = "'); DELETE FROM documents; --"
KEYS = ["year", "company", "draft", "by", "date", "x.y-z_1"]
TAGS = ["10-K", "10-Q", "a, b", "ü", "{a,b}", INJECTION]
FILENAMES = ["a.txt", "b.md", "ü.txt", "%.txt"]
STRINGS = ["3M", "3M Company", "2022", "2022-01-31", "2022-02-01", "", "ü", "Z", "null", INJECTION]
NUMBERS = [2019, 2022, 2022.0, 2022.5, -1, 0, 1, 1.0, 0.1, 1e-7, 2**53 - 1]
SCALARS = [*STRINGS, *NUMBERS, True, False, None]
MOMENTS = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=100 * n) for n in range(6)]
# Of each document's chunks: the first and the last page.
PAGES = [(1, 1), (2, 3), (3, 3)]
QUERY = "What does the walrus say?"

# Vectors that differ, the same in every run: hashes of the ordinal.
_VECTORS = text("""
    INSERT INTO chunk_embeddings (space_id, org_id, chunk_id, document_id, generation, embedding)
    SELECT :space, c.org_id, c.id, c.document_id, c.generation, l2_normalize(
        (SELECT array_agg(hashfloat8(c.ordinal * 1000 + d) / 2147483648.0)::halfvec
         FROM generate_series(1, :dimensions) AS d))
    FROM chunks c WHERE c.document_id = :document
    ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class Doc:
    id: str
    filename: str
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    pages: list[tuple[int, int]] = field(default_factory=lambda: list(PAGES))

    @property
    def media_type(self) -> str:
        return "text/markdown" if self.filename.endswith(".md") else "text/plain"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents of a person, each with one chunk for each of PAGES: fewer than 50 chunks."""

    person: Person
    docs: list[Doc]


# What the fields of a request mean, said once more and otherwise


def holds(node: dict[str, Any], doc: Doc) -> bool:
    if "and" in node:
        return all(holds(each, doc) for each in node["and"])
    if "or" in node:
        return any(holds(each, doc) for each in node["or"])
    if "not" in node:
        return not holds(node["not"], doc)
    name, op, wanted = node["field"], node["op"], node["value"]
    if name == "tags":
        common = set(wanted) & set(doc.tags)
        return bool({"any": common, "all": common == set(wanted), "none": not common}[op])
    if name == "created_at":
        moment = datetime.fromisoformat(wanted)
        return bool(getattr(operator, _PYTHON[op])(doc.created_at, moment))
    if name in ("filename", "media_type"):
        return bool(getattr(doc, name) in (wanted if op == "in" else [wanted]))
    return metadata_holds(doc.metadata, name.removeprefix("metadata."), op, wanted)


_PYTHON = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}


def metadata_holds(metadata: dict[str, Any], key: str, op: str, wanted: Any) -> bool:
    if op == "exists":
        return (key in metadata) is bool(wanted)
    if key not in metadata:
        return False
    value = metadata[key]
    if op in _PYTHON:
        if kind(value) != kind(wanted) or isinstance(value, list):
            return False
        return bool(getattr(operator, _PYTHON[op])(value, wanted))
    choices = wanted if op in ("in", "nin") else [wanted]
    present = [(kind(each), each) for each in (value if isinstance(value, list) else [value])]
    is_one = any((kind(choice), choice) in present for choice in choices)
    if op in ("eq", "in"):
        return is_one
    kinds = {kind(choice) for choice in choices}
    return not is_one and (kind(value) in kinds or ("null" in kinds and value is not None))


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "text"  # a list is one of texts


def fields_hold(fields: dict[str, Any], doc: Doc) -> bool:
    return (
        (not fields.get("document_ids") or doc.id in fields["document_ids"])
        and set(fields.get("tags", ())) <= set(doc.tags)
        and ("filter" not in fields or holds(fields["filter"], doc))
        and ("created_after" not in fields or doc.created_at >= _moment(fields["created_after"]))
        and ("created_before" not in fields or doc.created_at < _moment(fields["created_before"]))
    )


def _moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


def brute_force(corpus: Corpus, fields: dict[str, Any]) -> set[tuple[str, int]]:
    """Return (document, ordinal) of each chunk that the fields let through."""
    pages = fields.get("pages", {})
    first, last = pages.get("from", 1), pages.get("to", math.inf)
    return {
        (doc.id, ordinal)
        for doc in corpus.docs
        if fields_hold(fields, doc)
        for ordinal, (start, end) in enumerate(doc.pages)
        if start <= last and end >= first
    }


# Random conditions

_key = st.sampled_from([*KEYS, "none"]).map(lambda key: f"metadata.{key}")


def _test(fields: Any, ops: list[str], values: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"field": fields, "op": st.sampled_from(ops), "value": values})


_scalar = st.sampled_from(SCALARS)
_moments = st.sampled_from(MOMENTS).map(datetime.isoformat)
_name = {
    "filename": st.sampled_from([*FILENAMES, "", INJECTION]),
    "media_type": st.sampled_from(["text/plain", "text/markdown", "application/pdf"]),
}
_tests = st.one_of(
    _test(
        st.just("tags"),
        ["any", "all", "none"],
        st.lists(st.sampled_from([*TAGS, "none"]), min_size=1, max_size=3),
    ),
    _test(_key, ["eq", "ne"], _scalar),
    _test(_key, ["in", "nin"], st.lists(_scalar, min_size=1, max_size=4)),
    _test(_key, list(_PYTHON), st.sampled_from([*STRINGS, *NUMBERS])),
    _test(_key, ["exists"], st.booleans()),
    _test(st.just("created_at"), list(_PYTHON), _moments),
    *(_test(st.just(n), ["eq"], values) for n, values in _name.items()),
    *(_test(st.just(n), ["in"], st.lists(v, min_size=1, max_size=3)) for n, v in _name.items()),
)
conditions = st.recursive(
    _tests,
    lambda below: st.one_of(
        st.fixed_dictionaries({"and": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(below, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": below}),
    ),
    max_leaves=8,
)
_ranges = st.sampled_from([{"from": 2}, {"to": 1}, {"from": 2, "to": 2}, {"from": 3, "to": 9}, {}])
_others = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.lists(st.sampled_from(TAGS), max_size=2),
        "created_after": _moments,
        "created_before": _moments,
        "pages": _ranges,
    },
)
_relaxed = settings(
    max_examples=100,
    deadline=None,
    # The fixtures are of the module.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# The documents


async def add(
    resources: Resources,
    person: Person,
    *,
    pages: list[tuple[int, int]],
    filename: str = "a.txt",
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    words: str = "The walrus speaks.",
) -> str:
    """Have a document ready with a chunk, and its vector, for each range of pages."""
    response = await person.post(
        "/api/v1/documents/upload",
        files={"file": (filename, uuid4().hex.encode())},
        data={"tags": json.dumps(tags or []), "metadata": json.dumps(metadata or {})},
    )
    assert response.status_code == 202, response.text
    document_id = str(response.json()["document_id"])
    last = max(end for _, end in pages)
    # Not near each other: what looks the same is one result.
    texts = [f"{words} {' '.join(uuid4().hex[:6] for _ in range(20))}" for _ in pages]
    await make_ready(
        resources,
        person.org_id,
        document_id,
        [PageRow(n, "\n".join(texts)) for n in range(1, last + 1)],
        [
            ChunkRow(chunk, (start, 0, len(chunk)) if start == end else (start, 0, 1, end, 0, 1))
            for chunk, (start, end) in zip(texts, pages, strict=True)
        ],
    )
    [found] = await resources.spaces.embed_queries(person, [QUERY])
    assert found.space is not None
    values = {"space": found.space.id, "dimensions": len(found.vector)}
    async with resources.db.system_transaction() as session:
        await session.execute(_VECTORS, {**values, "document": UUID(document_id)})
    return document_id


@pytest.fixture(scope="module", autouse=True)
async def a_live_space(
    client: httpx2.AsyncClient, resources: Resources, ingester: Ingester
) -> None:
    """As the first document that is ingested leaves it."""
    person = await register(client, f"{uuid4().hex}@example.com")
    await person.upload("first.txt", b"The first document of all.")
    await ingest_all(ingester)


@pytest.fixture(scope="module")
async def corpus(client: httpx2.AsyncClient, resources: Resources) -> AsyncIterator[Corpus]:
    choose = random.Random(7)
    person = await register(client, f"{uuid4().hex}@example.com")
    other = await register(client, f"{uuid4().hex}@example.com")
    docs = []
    for _ in range(12):
        filename = choose.choice(FILENAMES)
        tags = choose.sample(TAGS, choose.randrange(4))
        metadata: dict[str, Any] = {
            key: choose.choice(SCALARS) for key in choose.sample(KEYS, choose.randrange(6))
        }
        if choose.random() < 0.4:
            metadata["by"] = choose.sample(STRINGS, choose.randrange(3))
        created_at = choose.choice(MOMENTS)
        described: dict[str, Any] = {"filename": filename, "tags": tags, "metadata": metadata}
        document_id = await add(resources, person, pages=PAGES, **described)
        await change_document(resources, document_id, "created_at = :at", at=created_at)
        docs.append(Doc(document_id, filename, tags, metadata, created_at))
        # The same in another organization, and beside it what nobody may find any more.
        await add(resources, other, pages=PAGES, **described)
        if choose.random() < 0.3:
            gone = await add(resources, person, pages=PAGES, **described)
            ends = choose.choice(["deleted_at = now(), status = 'deleting'", "expires_at = now()"])
            await change_document(resources, gone, ends)
    yield Corpus(person, docs)


async def search(person: Person, **body: Any) -> list[dict[str, Any]]:
    response = await person.post("/api/v1/search", json={"query": QUERY, "top_k": 50, **body})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


async def find(corpus: Corpus, fields: dict[str, Any]) -> set[tuple[str, int]]:
    results = await search(corpus.person, **fields)
    return {(result["document_id"], result["chunk_index"]) for result in results}


def _one(name: str, op: str, value: Any) -> dict[str, Any]:
    return {"field": name, "op": op, "value": value}


# Every test of the tree alone, so that each is tried whatever hypothesis draws.
SINGLE_TESTS = [
    *(_one("tags", op, [tag]) for op in ("any", "all", "none") for tag in TAGS),
    *(_one("tags", op, ["10-K", "ü"]) for op in ("any", "all", "none")),
    *(_one(f"metadata.{k}", op, v) for k in KEYS for op in ("eq", "ne") for v in SCALARS),
    *(
        _one(f"metadata.{k}", op, SCALARS[n::4])
        for k in KEYS
        for op in ("in", "nin")
        for n in (0, 1, 2, 3)
    ),
    *(_one(f"metadata.{k}", op, v) for k in KEYS for op in _PYTHON for v in (*STRINGS, *NUMBERS)),
    *(_one(f"metadata.{k}", "exists", v) for k in (*KEYS, "none") for v in (True, False)),
    *(_one("created_at", op, moment.isoformat()) for op in _PYTHON for moment in MOMENTS),
    *(_one("filename", "eq", name) for name in FILENAMES),
    _one("filename", "in", FILENAMES[1:]),
    _one("media_type", "eq", "text/markdown"),
]


async def select_documents(
    resources: Resources, corpus: Corpus, fields: dict[str, Any]
) -> set[str]:
    """By the compiled condition alone."""
    wanted = FilterFields.model_validate(fields).to_filter()
    condition = compile_documents(wanted, first_parameter=2)
    sql = "SELECT d.id FROM documents d WHERE d.org_id = $1 AND d.deleted_at IS NULL"
    sql += " AND (d.expires_at IS NULL OR d.expires_at > now())"
    async with resources.db.reading(corpus.person) as driver:
        if condition is None:
            rows = await driver.fetch(sql, corpus.person.org_id)
        else:
            rows = await driver.fetch(
                f"{sql} AND ({condition.sql})", corpus.person.org_id, *condition.values
            )
    return {str(row["id"]) for row in rows}


async def test_each_test_alone_selects_what_it_says(resources: Resources, corpus: Corpus) -> None:
    matching = []
    for node in SINGLE_TESTS:
        for condition in (node, {"not": node}):
            expected = {doc.id for doc in corpus.docs if holds(condition, doc)}
            assert await select_documents(resources, corpus, {"filter": condition}) == expected
            matching.append(len(expected))
    # The corpus tells them apart: many hold for some documents only.
    assert sum(0 < count < len(corpus.docs) for count in matching) > len(matching) / 4


@_relaxed
@given(conditions, _others)
async def test_any_tree_selects_what_it_says(
    resources: Resources, corpus: Corpus, condition: dict[str, Any], others: dict[str, Any]
) -> None:
    fields = {"filter": condition, **others}
    expected = {doc.id for doc in corpus.docs if fields_hold(fields, doc)}
    assert await select_documents(resources, corpus, fields) == expected


# The same by search, with pages


@_relaxed
@given(conditions, _others)
@example({"field": "metadata.year", "op": "exists", "value": False}, {"pages": {"from": 2}})
async def test_search_finds_every_chunk_that_a_filter_lets_through(
    corpus: Corpus, condition: dict[str, Any], others: dict[str, Any]
) -> None:
    fields = {"filter": condition, **others}
    assert await find(corpus, fields) == brute_force(corpus, fields)


@pytest.mark.parametrize("pages", [{"from": 1, "to": 1}, {"from": 2}, {"to": 2}, {"from": 4}, {}])
async def test_pages_and_documents_together(corpus: Corpus, pages: dict[str, int]) -> None:
    chosen = [doc.id for doc in corpus.docs[:5]]
    for fields in ({"pages": pages}, {"pages": pages, "document_ids": chosen}):
        assert await find(corpus, fields) == brute_force(corpus, fields)
    with_tag = {"pages": pages, "document_ids": chosen, "tags": ["10-K"]}
    assert await find(corpus, with_tag) == brute_force(corpus, with_tag)


async def test_what_looks_like_sql_is_a_value(corpus: Corpus, resources: Resources) -> None:
    async def count() -> int:
        async with resources.db.system_transaction() as session:
            return int(await session.scalar(text("SELECT count(*) FROM documents")) or 0)

    before = await count()
    for attempt in (INJECTION, "$1", "' OR true --", "{}", '{"a": 1}', "a' @> 'b", "\\", "%", '"'):
        for node in (
            {"field": "tags", "op": "any", "value": [attempt]},
            {"field": "metadata.company", "op": "eq", "value": attempt},
            {"field": "metadata.company", "op": "lte", "value": attempt},
            {"field": "filename", "op": "eq", "value": attempt},
        ):
            expected = brute_force(corpus, {"filter": node})
            assert await find(corpus, {"filter": node}) == expected
        # As a key it is none.
        body = {"query": "x", "filter": _one(f"metadata.{attempt}", "eq", 1)}
        response = await corpus.person.post("/api/v1/search", json=body)
        if attempt not in ("a",):
            assert response.status_code == 422, attempt
    assert await count() == before


# Never fewer than k


@pytest.fixture(scope="module")
async def large(client: httpx2.AsyncClient, resources: Resources) -> AsyncIterator[Corpus]:
    """Twenty documents of fifty chunks that speak of the query, and one of four that do not."""
    person = await register(client, f"{uuid4().hex}@example.com")
    docs = []
    for n in range(21):
        is_rare = n == 20
        pages = [(page, page) for page in range(1, 5 if is_rare else 51)]
        tags = ["rare"] if is_rare else ["common"]
        document_id = await add(
            resources,
            person,
            pages=pages,
            tags=tags,
            metadata={"n": n},
            words="Of something else." if is_rare else "What does the walrus say, it says.",
        )
        docs.append(Doc(document_id, "a.txt", tags, {"n": n}, MOMENTS[0], pages))
    yield Corpus(person, docs)


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ["rare"]},
        {"filter": {"field": "metadata.n", "op": "gte", "value": 20}},
        {"filter": {"not": {"field": "tags", "op": "any", "value": ["common"]}}},
        {"filter": {"field": "tags", "op": "any", "value": ["rare"]}, "pages": {"to": 3}},
        {
            "filter": {"field": "metadata.n", "op": "in", "value": [3, 20]},
            "pages": {"from": 3, "to": 4},
        },
        {"pages": {"from": 50}},
        {"pages": {"from": 49, "to": 50}, "tags": ["common"]},
    ],
)
async def test_few_chunks_of_many_are_all_found(large: Corpus, fields: dict[str, Any]) -> None:
    expected = brute_force(large, fields)
    assert 3 <= len(expected) <= 50
    assert await find(large, fields) == expected
    for top_k in (1, 3):
        assert len(await search(large.person, **fields, top_k=top_k)) == top_k


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": ["common"]},
        {"pages": {"from": 1, "to": 20}},
        {"pages": {"from": 2, "to": 4}},
        {
            "filter": {"field": "metadata.n", "op": "lt", "value": 3},
            "pages": {"from": 11, "to": 40},
        },
    ],
)
async def test_fifty_are_found_where_there_are_fifty(large: Corpus, fields: dict[str, Any]) -> None:
    allowed = brute_force(large, fields)
    assert len(allowed) > 50
    results = await search(large.person, **fields)
    found = {(result["document_id"], result["chunk_index"]) for result in results}
    assert len(results) == len(found) == 50
    assert found <= allowed


@pytest.mark.parametrize("ends", ["expires_at = now()", "deleted_at = now(), status = 'deleting'"])
async def test_what_is_gone_takes_no_place(person: Person, resources: Resources, ends: str) -> None:
    for _ in range(3):
        gone = await add(
            resources, person, pages=[(1, 1)] * 50, tags=["t"], words=f"{QUERY} {QUERY}"
        )
        await change_document(resources, gone, ends)
    kept = await add(resources, person, pages=[(1, 1), (2, 2), (3, 3)], tags=["t"])
    for fields in ({}, {"tags": ["t"]}, {"pages": {"to": 3}}):
        results = await search(person, **fields, top_k=3)
        assert [result["document_id"] for result in results] == [kept] * 3


async def test_a_change_is_searched_by_at_once(person: Person, resources: Resources) -> None:
    document_id = await add(resources, person, pages=[(1, 1)], tags=["old"])

    async def patch(**body: Any) -> None:
        url = f"/api/v1/documents/{document_id}"
        response = await person.client.patch(url, json=body, headers=person.headers)
        assert response.status_code == 200

    assert len(await search(person, tags=["old"])) == 1
    await patch(tags=["new"], metadata={"year": 2022})
    assert await search(person, tags=["old"]) == []
    assert len(await search(person, tags=["new"])) == 1
    year = {"field": "metadata.year", "op": "eq", "value": 2022}
    assert len(await search(person, filter=year)) == 1
    await patch(metadata={})
    assert await search(person, filter=year) == []


async def test_many_conditions_at_once(corpus: Corpus) -> None:
    """As many nodes and values as there may be, from several callers."""
    values = [*STRINGS, *(f"v{n}" for n in range(100 - len(STRINGS)))]
    leaf = {"field": "metadata.year", "op": "in", "value": values}
    wide = {"or": [leaf] * 63}
    deep: dict[str, Any] = leaf
    for _ in range(7):
        deep = {"not": deep}
    found = await asyncio.gather(*(find(corpus, {"filter": node}) for node in (wide, deep) * 4))
    expected = brute_force(corpus, {"filter": leaf})
    opposite = brute_force(corpus, {"filter": {"not": leaf}})
    assert expected
    assert opposite
    assert found == [expected, opposite] * 4
