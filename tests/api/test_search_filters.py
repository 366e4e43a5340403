"""The filter fields of searches and questions: what is refused, where, and that chats heed them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from app.ingestion.pipeline import Ingester
from app.retrieval.filters import MAX_DEPTH, MAX_NODES
from tests.conftest import ingest_all
from tests.people import Person

LEAF = {"field": "tags", "op": "any", "value": ["a"]}
FACT_2021 = "The walrus colony of Svalbard counted 4,711 animals in the survey of that summer."
FACT_2022 = "The walrus colony of Svalbard counted 5,322 animals in the survey of that summer."


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = LEAF
    for _ in range(depth - 1):
        node = {"not": node}
    return node


def meta(op: str, value: Any, key: str = "year") -> dict[str, Any]:
    return {"field": f"metadata.{key}", "op": op, "value": value}


def asking(**options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "How many walrus were counted?"}], **options}


async def ask_everywhere(person: Person, fields: dict[str, Any]) -> list[httpx2.Response]:
    return [
        await person.post("/api/v1/search", json={"query": "walrus", **fields}),
        await person.post("/api/v1/chat/", json=asking(**fields)),
        await person.post("/api/v1/chat/stream", json=asking(**fields)),
    ]


BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"filter": []}, "filter"),
    ({"filter": "x"}, "filter"),
    ({"filter": {}}, "filter"),
    ({"filter": {"and": []}}, "filter.and"),
    ({"filter": {"and": LEAF}}, "filter.and"),
    ({"filter": {"not": [LEAF]}}, "filter.not"),
    ({"filter": {"and": [LEAF], "or": [LEAF]}}, "filter"),
    ({"filter": LEAF | {"canary": 1}}, "filter"),
    ({"filter": {"or": [LEAF, LEAF | {"op": "canary"}]}}, "filter.or.1"),
    ({"filter": LEAF | {"op": {"canary": 1}}}, "filter"),
    ({"filter": LEAF | {"field": "org_id"}}, "filter"),
    ({"filter": LEAF | {"field": "canary"}}, "filter"),
    ({"filter": LEAF | {"field": ["canary"]}}, "filter"),
    ({"filter": {"field": "tags", "op": "any"}}, "filter.value"),
    ({"filter": LEAF | {"value": []}}, "filter.value"),
    ({"filter": LEAF | {"value": "canary"}}, "filter.value"),
    ({"filter": LEAF | {"value": ["canary" * 20]}}, "filter.value"),
    ({"filter": LEAF | {"op": "eq"}}, "filter"),
    ({"filter": meta("eq", 1, key="canary canary")}, "filter.field"),
    ({"filter": meta("eq", 1, key="")}, "filter.field"),
    ({"filter": meta("eq", 1, key="x" * 65)}, "filter.field"),
    ({"filter": meta("eq", [1])}, "filter.value"),
    ({"filter": meta("eq", {"canary": 1})}, "filter.value"),
    ({"filter": meta("eq", "canary\x00")}, "filter.value"),
    ({"filter": meta("eq", "\ud800")}, "filter.value"),
    ({"filter": meta("eq", "x" * 513)}, "filter.value"),
    ({"filter": meta("lt", 10**400)}, "filter.value"),
    ({"filter": meta("lt", None)}, "filter.value"),
    ({"filter": meta("lt", True)}, "filter.value"),
    ({"filter": meta("like", "canary")}, "filter"),
    ({"filter": meta("in", [])}, "filter.value"),
    ({"filter": meta("in", 2022)}, "filter.value"),
    ({"filter": meta("in", [1, [2]])}, "filter.value.1"),
    ({"filter": meta("in", list(range(101)))}, "filter.value"),
    ({"filter": meta("exists", "canary")}, "filter.value"),
    ({"filter": {"and": [{"not": meta("gt", [])}]}}, "filter.and.0.not.value"),
    ({"filter": {"field": "created_at", "op": "gte", "value": "canary"}}, "filter.value"),
    ({"filter": {"field": "created_at", "op": "gte", "value": "2022-01-01T00:00"}}, "filter.value"),
    (
        {"filter": {"field": "created_at", "op": "lt", "value": "0001-01-01T00:00+09:00"}},
        "filter.value",
    ),
    ({"filter": {"field": "created_at", "op": "eq", "value": "2022-01-01"}}, "filter"),
    ({"filter": {"field": "filename", "op": "eq", "value": "\x00"}}, "filter.value"),
    ({"filter": {"field": "filename", "op": "gt", "value": "a"}}, "filter"),
    ({"filter": nested(MAX_DEPTH + 1)}, "filter"),
    ({"filter": nested(200)}, "filter"),
    ({"filter": {"or": [LEAF] * MAX_NODES}}, "filter"),
    ({"filter": {"or": [{"and": [LEAF] * 9}] * 9}}, "filter"),
    ({"tags": "canary"}, "tags"),
    ({"tags": ["canary\n"] * 2 + ["canary\nx"]}, "tags"),
    ({"tags": [str(n) for n in range(33)]}, "tags"),
    ({"created_after": "canary"}, "created_after"),
    ({"created_before": "2022-13-01"}, "created_before"),
    ({"created_before": "9999-12-31T23:59:59-09:00"}, "created_before"),
    ({"pages": {"from": 0}}, "pages.from"),
    ({"pages": {"to": 10**30}}, "pages.to"),
    ({"pages": {"from": 3, "to": 2}}, "pages"),
    ({"pages": {"first": 3}}, "pages.first"),
    ({"pages": [1, 2]}, "pages"),
    ({"document_ids": ["canary"]}, "document_ids.0"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_FIELDS)
async def test_a_filter_that_cannot_be_is_422_at_its_place(
    person: Person, fields: dict[str, Any], param: str
) -> None:
    for path, rest in (
        ("/api/v1/search", {"query": "walrus"}),
        ("/api/v1/chat/", asking()),
        ("/api/v1/chat/stream", asking()),
    ):
        # As escapes: that is how lone surrogates come through JSON.
        response = await person.client.post(
            path,
            content=json.dumps(rest | fields),
            headers=person.headers | {"Content-Type": "application/json"},
        )
        assert response.status_code == 422, response.text
        error = response.json()["error"]
        assert (error["code"], error["param"]) == ("validation_error", param), error
        assert "canary" not in response.text
        assert "Traceback" not in response.text


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": nested(MAX_DEPTH)},
        {"filter": {"or": [LEAF] * (MAX_NODES - 1)}},
        {"filter": None, "tags": [], "pages": None, "created_after": None, "document_ids": []},
        {"filter": meta("in", [1, 2.5, "x", True, None])},
        {"created_after": "2022-01-31", "created_before": "2022-01-31T00:00:00+14:00"},
        {"created_after": "0001-01-01", "created_before": "9999-12-31T23:59:59Z"},
        {"pages": {}},
        {"pages": {"from": 1_000_000, "to": 1_000_000}},
    ],
)
async def test_a_filter_at_the_limits_is_taken(person: Person, fields: dict[str, Any]) -> None:
    for response in await ask_everywhere(person, fields):
        assert response.status_code == 200, response.text


async def test_who_is_not_signed_in_learns_nothing_of_the_filter(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post("/api/v1/search", json={"query": "x", "filter": {"and": []}})
    assert response.status_code == 401


async def test_unknown_documents_are_404_beside_any_filter(person: Person) -> None:
    for response in await ask_everywhere(
        person, {"document_ids": [str(uuid4())], "tags": ["a"], "filter": LEAF}
    ):
        assert response.status_code == 404
        assert response.json()["error"]["param"] == "document_ids"


async def test_the_api_description_has_the_tree(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    for request in ("SearchRequest", "ChatRequest"):
        assert {"filter", "tags", "pages", "created_after", "created_before"} <= set(
            schemas[request]["properties"]
        )
    assert set(schemas["MetadataCompares"]["properties"]["op"].get("enum", [])) <= {
        "gt",
        "gte",
        "lt",
        "lte",
    }
    assert schemas["AllOf"]["required"] == ["and"]
    assert schemas["AllOf"]["additionalProperties"] is False
    assert schemas["PageRange"]["properties"]["from"]["minimum"] == 1


# Chats


async def add(person: Person, filename: str, words: str, **fields: str) -> str:
    response = await person.post(
        "/api/v1/documents/upload", files={"file": (filename, words.encode())}, data=fields
    )
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def cited(person: Person, **fields: Any) -> set[str]:
    """The documents that the answer cites, the same as JSON and as a stream."""
    answer = await person.post("/api/v1/chat/", json=asking(**fields))
    assert answer.status_code == 200, answer.text
    ids = {citation["document_id"] for citation in answer.json()["citations"]}
    stream = await person.post("/api/v1/chat/stream", json=asking(**fields))
    frames = [
        json.loads(line.removeprefix("data: "))
        for line in stream.text.splitlines()
        if line.startswith("data: ")
    ]
    assert ids == {f["document_id"] for f in frames if f["type"] == "citation"}
    return ids


async def test_an_answer_is_from_what_the_filter_lets_through(
    person: Person, ingester: Ingester
) -> None:
    old = await add(person, "2021.txt", FACT_2021, tags="old", metadata='{"year": 2021}')
    new = await add(person, "2022.txt", FACT_2022, tags="new,x", metadata='{"year": 2022}')
    await ingest_all(ingester)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert old in await cited(person) or new in await cited(person)
    assert await cited(person, filter=meta("eq", 2021)) == {old}
    assert await cited(person, filter=meta("gt", 2021)) == {new}
    assert await cited(person, tags=["new", "x"]) == {new}
    assert await cited(person, tags=["old", "x"]) == set()
    assert await cited(person, document_ids=[old, new], filter={"not": LEAF}, tags=["old"]) == {old}
    assert await cited(person, created_after=tomorrow) == set()
    assert await cited(person, created_before=tomorrow, pages={"to": 1}, tags=["new"]) == {new}
    assert await cited(person, pages={"from": 2}) == set()
    assert await cited(person, document_ids=[old], filter=meta("eq", 2022)) == set()
