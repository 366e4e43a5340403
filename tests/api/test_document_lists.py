"""The orders in which documents are listed, their tags, and what they take up together."""

import base64
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from app.resources import Resources
from tests.people import Person
from tests.stored import change_document

# Two share each value; `pages` is unknown of two.
ROWS: Sequence[tuple[str, int, int | None]] = (
    ("beta.txt", 20, 3),
    ("Alpha.txt", 10, None),
    ("alpha.txt", 30, 1),
    ("Émile.txt", 10, None),
    ("émile.txt", 5, 3),
    ("zeta.txt", 30, 2),
)


async def upload(person: Person, filename: str, *, tags: Sequence[str] = ()) -> str:
    response = await person.post(
        "/api/v1/documents/upload",
        files={"file": (filename, uuid4().bytes.hex().encode())},
        data={"tags": json.dumps(list(tags))} if tags else {},
    )
    assert response.status_code == 202, response.text
    return str(response.json()["document_id"])


async def upload_rows(person: Person, resources: Resources) -> dict[str, tuple[str, int, Any]]:
    """Returns what each document is, by its id, in the order of the uploads."""
    rows = {}
    for filename, size, pages in ROWS:
        document_id = await upload(person, filename)
        await change_document(
            resources,
            document_id,
            "size_bytes = :size, page_count = :pages",
            size=size,
            pages=pages,
        )
        rows[document_id] = (filename, size, pages)
    return rows


async def walk(person: Person, **params: Any) -> list[str]:
    """Return the ids on all pages of two."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        response = await person.get("/api/v1/documents", params={"limit": 2, **params, **more})
        assert response.status_code == 200, response.text
        page = response.json()
        assert page["total"] == len(ROWS)
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            return seen


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_walk_over_every_order(
    person: Person, resources: Resources, order: str
) -> None:
    rows = await upload_rows(person, resources)
    is_descending = order == "desc"
    by_id = sorted(rows, reverse=is_descending)
    # Sorting is stable, so that ids break the ties.
    known = [i for i in by_id if rows[i][2] is not None]
    unknown = [i for i in by_id if rows[i][2] is None]
    expected = {
        "created": by_id,
        "updated": sorted(rows, key=list(rows).index, reverse=is_descending),
        "status": by_id,
        "name": sorted(by_id, key=lambda i: rows[i][0].lower(), reverse=is_descending),
        "size": sorted(by_id, key=lambda i: rows[i][1], reverse=is_descending),
        "pages": sorted(known, key=lambda i: rows[i][2], reverse=is_descending) + unknown,
    }
    if is_descending:
        # sorted() keeps the order of equals in reverse too.
        assert expected["size"][:2] == [i for i in by_id if rows[i][1] == 30]
    for sort, ids in expected.items():
        assert await walk(person, sort=sort, order=order) == ids, sort


async def test_without_an_order_words_go_up_and_figures_down(
    person: Person, resources: Resources
) -> None:
    await upload_rows(person, resources)
    assert await walk(person) == await walk(person, sort="created", order="desc")
    for sort, order in {
        "created": "desc",
        "updated": "desc",
        "size": "desc",
        "pages": "desc",
        "name": "asc",
        "status": "asc",
    }.items():
        assert await walk(person, sort=sort) == await walk(person, sort=sort, order=order), sort


async def test_statuses_are_sorted_by_their_words(person: Person, resources: Resources) -> None:
    ids = [await upload(person, f"{n}.txt") for n in range(3)]
    await change_document(resources, ids[0], "status = 'processing'")
    await change_document(resources, ids[2], "status = 'failed', error_code = 'corrupt'")
    page = (await person.get("/api/v1/documents", params={"sort": "status"})).json()
    assert [item["status"] for item in page["items"]] == ["failed", "processing", "queued"]


async def test_a_cursor_of_another_order_is_422(person: Person, resources: Resources) -> None:
    await upload_rows(person, resources)
    first = (await person.get("/api/v1/documents", params={"limit": 2, "sort": "name"})).json()
    for params in ({"sort": "size"}, {"sort": "name", "order": "desc"}, {}):
        response = await person.get(
            "/api/v1/documents", params={**params, "cursor": first["next_cursor"]}
        )
        assert response.status_code == 422, params
        error = response.json()["error"]
        assert error["param"] == "cursor"
        assert "sorted by name, asc" in error["message"]


async def test_a_very_long_name_fits_into_a_cursor(person: Person) -> None:
    for mark in ("a", "b"):
        await upload(person, "報" * 250 + mark)
    first = (await person.get("/api/v1/documents", params={"limit": 1, "sort": "name"})).json()
    params = {"sort": "name", "cursor": first["next_cursor"]}
    rest = (await person.get("/api/v1/documents", params=params)).json()
    assert [item["filename"][-1] for item in rest["items"]] == ["b"]


@pytest.mark.parametrize(
    "parts",
    [
        ["created", "desc", "2026-01-01T00:00:00", str(uuid4())],
        ["created", "desc", "0001-01-01T00:00:00+23:59", str(uuid4())],
        ["created", "desc", None, str(uuid4())],
        ["size", "desc", 2**63, str(uuid4())],
        ["size", "desc", True, str(uuid4())],
        ["size", "desc", None, str(uuid4())],
        ["pages", "desc", 2**31, str(uuid4())],
        ["pages", "desc", "1", str(uuid4())],
        ["name", "asc", "a\0b", str(uuid4())],
        ["name", "asc", 5, str(uuid4())],
        ["name", "up", "a", str(uuid4())],
        ["owner", "asc", "a", str(uuid4())],
        ["name", "asc", "a", "no id"],
        ["name", "asc", "a"],
        {"name": "asc"},
    ],
)
async def test_a_made_up_cursor_of_any_order_is_400(person: Person, parts: Any) -> None:
    raw = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
    params = {"cursor": raw}
    if isinstance(parts, list):
        params |= {"sort": "created" if parts[0] == "owner" else parts[0]}
    response = await person.get("/api/v1/documents", params=params)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "cursor"


async def test_a_lone_surrogate_in_a_cursor_is_400(person: Person) -> None:
    raw = base64.urlsafe_b64encode(rb'["name","asc","\ud800","' + str(uuid4()).encode() + b'"]')
    params = {"sort": "name", "order": "asc", "cursor": raw.decode().rstrip("=")}
    assert (await person.get("/api/v1/documents", params=params)).status_code == 400


@pytest.mark.parametrize("params", [{"sort": "owner"}, {"order": "up"}, {"status": ["ready", "x"]}])
async def test_an_unknown_order_or_status_is_422(person: Person, params: dict[str, Any]) -> None:
    assert (await person.get("/api/v1/documents", params=params)).status_code == 422


async def test_the_total_counts_what_the_filter_lets_through(
    person: Person, stranger: Person, resources: Resources
) -> None:
    await upload(stranger, "report 9.txt")
    ids = [await upload(person, f"report {n}.txt") for n in range(3)]
    await upload(person, "letter.txt")
    await person.delete(f"/api/v1/documents/{ids[0]}")
    await change_document(resources, ids[1], "expires_at = now() - interval '1 second'")
    for params, total in (({}, 2), ({"name": "report"}, 1), ({"name": "memo"}, 0)):
        for limit in (1, 50):
            page = await person.get("/api/v1/documents", params={**params, "limit": limit})
            assert page.json()["total"] == total, params


# Tags


async def list_tags(person: Person, **params: Any) -> list[tuple[str, int]]:
    response = await person.get("/api/v1/documents/tags", params=params)
    assert response.status_code == 200, response.text
    return [(item["tag"], item["documents"]) for item in response.json()["items"]]


async def test_tags_come_with_how_many_documents_have_them(
    person: Person, stranger: Person
) -> None:
    assert await list_tags(person) == []
    await upload(stranger, "other.txt", tags=["theirs", "law"])
    await upload(person, "a.txt", tags=["law", "Éclair", "100%"])
    await upload(person, "b.txt", tags=["law", "lab"])
    deleted = await upload(person, "c.txt", tags=["gone", "law"])
    await person.delete(f"/api/v1/documents/{deleted}")
    assert await list_tags(person) == [("law", 2), ("100%", 1), ("lab", 1), ("Éclair", 1)]
    assert await list_tags(person, prefix="LA") == [("law", 2), ("lab", 1)]
    assert await list_tags(person, prefix="e\u0301") == [("Éclair", 1)]
    assert await list_tags(person, prefix="1%") == []
    assert await list_tags(person, prefix="a") == []
    assert await list_tags(person, prefix="\0") == []
    response = await person.get("/api/v1/documents/tags", params={"prefix": "x" * 65})
    assert response.status_code == 422


# Storage


async def test_storage_is_what_is_not_deleted(
    person: Person, stranger: Person, resources: Resources
) -> None:
    url = "/api/v1/organization/storage"
    nothing = {
        "documents": 0,
        "bytes": 0,
        "pages": 0,
        "chunks": 0,
        "by_status": {"queued": 0, "processing": 0, "ready": 0, "failed": 0},
        "largest": [],
    }
    assert (await person.get(url)).json() == nothing
    rows = await upload_rows(person, resources)
    ids = list(rows)
    huge = 3 * 2**40
    await change_document(
        resources, ids[0], "status = 'ready', chunk_count = 7, size_bytes = :huge", huge=huge
    )
    await change_document(resources, ids[2], "status = 'failed', error_code = 'corrupt'")
    await person.delete(f"/api/v1/documents/{ids[4]}")
    used = (await person.get(url)).json()
    assert used["documents"] == 5
    assert used["bytes"] == huge + 10 + 30 + 10 + 30
    assert (used["pages"], used["chunks"]) == (3 + 1 + 2, 7)
    assert used["by_status"] == {"queued": 3, "processing": 0, "ready": 1, "failed": 1}
    assert used["largest"][0] == {"id": ids[0], "filename": "beta.txt", "size_bytes": huge}
    assert [item["size_bytes"] for item in used["largest"]] == [huge, 30, 30, 10, 10]
    assert (await stranger.get(url)).json() == nothing
