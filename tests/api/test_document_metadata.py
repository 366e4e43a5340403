"""Tags and metadata of documents: set at upload, shown, changed, and never dropped in silence."""

import asyncio
import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from app.ingestion.pipeline import Ingester
from app.models.accounts import MemberRole
from app.resources import Resources
from tests.conftest import ingest_all
from tests.key_holders import set_role
from tests.people import Person, sign_in

UPLOAD = "/api/v1/documents/upload"
TUS = {"Tus-Resumable": "1.0.0"}
METADATA = {"year": 2022, "ratio": 1.5, "company": "3M", "draft": True, "x": None, "by": ["Ann"]}


async def upload(
    person: Person,
    content: bytes | None = None,
    *,
    url: str = UPLOAD,
    method: str = "POST",
    key: str | None = None,
    **fields: Any,
) -> httpx2.Response:
    headers = person.headers | ({"Idempotency-Key": key} if key else {})
    return await person.client.request(
        method,
        url,
        headers=headers,
        files={"file": ("a.txt", content or uuid4().hex.encode())},
        data=fields,
    )


async def patch(person: Person, document_id: str, body: object) -> httpx2.Response:
    return await person.client.patch(
        f"/api/v1/documents/{document_id}", json=body, headers=person.headers
    )


async def shown(person: Person, document_id: str) -> tuple[list[str], dict[str, Any]]:
    body = (await person.get(f"/api/v1/documents/{document_id}")).json()
    return body["tags"], body["metadata"]


def told(response: httpx2.Response) -> tuple[list[str], dict[str, Any]]:
    return response.json()["tags"], response.json()["metadata"]


# At upload


@pytest.mark.parametrize("tags", [["10-K", " annual "], "10-K,annual", '["10-K", "annual"]'])
async def test_what_is_said_at_upload_is_stored_and_shown(person: Person, tags: Any) -> None:
    response = await upload(person, tags=tags, metadata=json.dumps(METADATA))
    assert response.status_code == 202, response.text
    assert told(response) == (["10-K", "annual"], METADATA)
    assert await shown(person, response.json()["document_id"]) == (["10-K", "annual"], METADATA)
    listed = (await person.get("/api/v1/documents")).json()["items"]
    assert (listed[0]["tags"], listed[0]["metadata"]) == (["10-K", "annual"], METADATA)


async def test_without_a_word_there_are_none(person: Person) -> None:
    assert told(await upload(person)) == ([], {})
    assert told(await upload(person, tags="", metadata="")) == ([], {})


async def test_the_largest_metadata_fits_however_it_is_written(person: Person) -> None:
    metadata = {f"{n:02}": "ü" * 250 for n in range(16)}
    response = await upload(person, metadata=json.dumps(metadata, indent=9, ensure_ascii=False))
    assert (response.status_code, told(response)) == (202, ([], metadata))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tags", "canary" * 20),
        ("tags", '["canary", {}]'),
        ("tags", [f"canary{n}" for n in range(33)]),
        ("tags", ["canary"] * 65),
        ("tags", "canary\x00"),
        ("metadata", "canary"),
        ("metadata", '["canary"]'),
        ("metadata", '{"canary": {}}'),
        ("metadata", '{"canary": "\\u0000"}'),
        ("metadata", '{"canary": "\\ud800"}'),
        ("metadata", ['{"canary": 1}', '{"canary": 2}']),
        ("metadata", '{"canary": "' + "x" * 20_000 + '"}'),
        ("metadata", "[" * 9_000),
    ],
)
async def test_what_cannot_be_is_422_and_leaves_no_document(
    person: Person, name: str, value: Any
) -> None:
    response = await upload(person, **{name: value})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["param"] == name
    assert "canary" not in response.text
    assert (await person.get("/api/v1/documents")).json()["items"] == []


async def test_they_survive_ingestion(person: Person, ingester: Ingester) -> None:
    document_id = (await upload(person, tags="a", metadata='{"b": 1}')).json()["document_id"]
    await ingest_all(ingester)
    assert (await person.get(f"/api/v1/documents/{document_id}")).json()["status"] == "ready"
    assert await shown(person, document_id) == (["a"], {"b": 1})


async def test_known_bytes_take_over_what_is_said_now_and_keep_the_rest(person: Person) -> None:
    first = await upload(person, b"known", tags="a,b", metadata='{"year": 2021}')
    silent = await upload(person, b"known")
    assert (silent.status_code, told(silent)) == (200, (["a", "b"], {"year": 2021}))
    tagged = await upload(person, b"known", tags="c")
    assert (tagged.status_code, told(tagged)) == (200, (["c"], {"year": 2021}))
    emptied = await upload(person, b"known", tags="[]", metadata='{"year": 2022}')
    assert (emptied.status_code, told(emptied)) == (200, ([], {"year": 2022}))
    assert await shown(person, first.json()["document_id"]) == ([], {"year": 2022})


async def test_new_content_takes_over_what_is_said_now_and_keeps_the_rest(person: Person) -> None:
    first = await upload(person, tags="a", metadata='{"year": 2021}')
    url = f"/api/v1/documents/{first.json()['document_id']}/content"
    silent = await upload(person, url=url, method="PUT")
    assert (silent.status_code, told(silent)) == (202, (["a"], {"year": 2021}))
    said = await upload(person, b"next", url=url, method="PUT", metadata='{"year": 2022}')
    assert (said.status_code, told(said)) == (202, (["a"], {"year": 2022}))
    same = await upload(person, b"next", url=url, method="PUT", tags="b")
    assert (same.status_code, told(same)) == (200, (["b"], {"year": 2022}))


async def test_other_tags_or_metadata_under_the_same_key_are_422(person: Person) -> None:
    said: dict[str, Any] = {"tags": ["a", "b"], "metadata": '{"year": 1, "month": 2}'}
    first = await upload(person, b"once", key="k", **said)
    assert first.status_code == 202
    # The order of an object's keys says nothing.
    again = await upload(person, b"once", key="k", tags="a,b", metadata='{"month": 2, "year": 1}')
    assert (again.status_code, again.text) == (202, first.text)
    for other in (
        {},
        {**said, "tags": "a"},
        {**said, "tags": "b,a"},
        {**said, "metadata": '{"year": 1}'},
    ):
        response = await upload(person, b"once", key="k", **other)
        assert response.status_code == 422, other


async def test_an_answer_from_before_there_were_any_is_replayed(
    person: Person, resources: Resources
) -> None:
    first = await upload(person, b"old", key="k")
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE idempotency_keys SET response = response - '{tags,metadata}'::text[]"
                " WHERE org_id = :org"
            ),
            {"org": person.org_id},
        )
    again = await upload(person, b"old", key="k")
    assert (again.status_code, again.json()) == (202, first.json())


# By resumable uploads


async def create(person: Person, size_bytes: int, **values: str) -> httpx2.Response:
    pairs = ",".join(f"{k} {b64encode(v.encode()).decode()}" for k, v in values.items())
    headers = TUS | {"Upload-Length": str(size_bytes), "Upload-Metadata": pairs}
    return await person.client.post("/api/v1/uploads", headers=person.headers | headers)


async def send(person: Person, created: httpx2.Response, content: bytes) -> str:
    headers = TUS | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    response = await person.client.patch(
        created.headers["location"], content=content, headers=person.headers | headers
    )
    assert response.status_code == 204, response.text
    return response.headers["document-id"]


async def test_a_resumable_upload_carries_them_to_the_document(person: Person) -> None:
    content = uuid4().hex.encode()
    created = await create(
        person, len(content), tags='["a, b", "ü"]', metadata=json.dumps(METADATA)
    )
    document_id = await send(person, created, content)
    assert await shown(person, document_id) == (["a, b", "ü"], METADATA)
    # Known bytes, and nothing said: they stay. Then with other tags.
    assert await send(person, await create(person, len(content)), content) == document_id
    assert await shown(person, document_id) == (["a, b", "ü"], METADATA)
    await send(person, await create(person, len(content), tags="c"), content)
    assert await shown(person, document_id) == (["c"], METADATA)


@pytest.mark.parametrize(("name", "value"), [("tags", "x" * 65), ("metadata", '{"a": {}}')])
async def test_a_resumable_upload_is_refused_at_once(person: Person, name: str, value: str) -> None:
    response = await create(person, 5, **{name: value})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == name


# Changed


async def test_only_what_is_named_changes(person: Person) -> None:
    document_id = (await upload(person, tags="a", metadata='{"b": 1}')).json()["document_id"]
    before = (await person.get(f"/api/v1/documents/{document_id}")).json()
    tagged = await patch(person, document_id, {"tags": [" c ", "c"]})
    assert (tagged.status_code, told(tagged)) == (200, (["c"], {"b": 1}))
    assert tagged.json()["updated_at"] > before["updated_at"]
    described = await patch(person, document_id, {"metadata": METADATA})
    assert told(described) == (["c"], METADATA)
    expiring = await patch(person, document_id, {"expires_at": "2099-01-01T00:00:00Z"})
    assert told(expiring) == (["c"], METADATA)
    emptied = await patch(person, document_id, {"tags": [], "metadata": {}})
    assert told(emptied) == ([], {})
    assert emptied.json()["expires_at"] == "2099-01-01T00:00:00Z"
    assert await shown(person, document_id) == ([], {})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tags": None},
        {"tags": "canary"},
        {"tags": ["canary" * 20]},
        {"tags": [["canary"]]},
        {"metadata": None},
        {"metadata": ["canary"]},
        {"metadata": {"canary": {}}},
        {"metadata": {"canary": 10**400}},
        {"metadata": {"a": "canary\x00"}},
        {"tags": ["b"], "metadata": {"a": "canary", "b b": 1}},
    ],
)
async def test_a_change_that_cannot_be_is_422_and_changes_nothing(
    person: Person, body: Any
) -> None:
    document_id = (await upload(person, tags="a", metadata='{"b": 1}')).json()["document_id"]
    response = await patch(person, document_id, body)
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"
    assert response.json()["error"]["param"] in (None, "tags", "metadata")
    assert "canary" not in response.text
    assert await shown(person, document_id) == (["a"], {"b": 1})


async def test_strangers_and_viewers_change_nothing(
    person: Person, stranger: Person, resources: Resources
) -> None:
    document_id = (await upload(person, tags="a")).json()["document_id"]
    assert (await patch(stranger, document_id, {"tags": ["b"]})).status_code == 404
    await set_role(resources, person, MemberRole.VIEWER)
    viewer = await sign_in(person.client, person.email)
    assert (await patch(viewer, document_id, {"tags": ["b"]})).status_code == 403
    assert await shown(viewer, document_id) == (["a"], {})


async def test_changes_at_once_are_whole(person: Person) -> None:
    document_id = (await upload(person)).json()["document_id"]
    bodies = [{"tags": [f"t{n}"], "metadata": {"n": n}} for n in range(10)]
    responses = await asyncio.gather(*(patch(person, document_id, body) for body in bodies))
    assert [told(response) for response in responses] == [
        (body["tags"], body["metadata"]) for body in bodies
    ]
    tags, metadata = await shown(person, document_id)
    assert {"tags": tags, "metadata": metadata} in bodies


# Listed


async def test_documents_are_listed_by_tag(person: Person, stranger: Person) -> None:
    await upload(stranger, tags="a,b")
    for tags in ("a", "a,b", "b,c", ""):
        await upload(person, tags=tags)

    async def listed(**params: Any) -> list[list[str]]:
        response = await person.get("/api/v1/documents", params=params)
        assert response.status_code == 200, response.text
        return [item["tags"] for item in response.json()["items"]]

    assert await listed(tag="a") == [["a", "b"], ["a"]]
    assert await listed(tag=[" a ", "b"]) == [["a", "b"]]
    assert await listed(tag="A") == []
    assert await listed(tag="{a,b}") == []
    assert await listed(tag="a", status="failed") == []
    first = await person.get("/api/v1/documents", params={"tag": "b", "limit": 1})
    rest = {"tag": "b", "limit": 1, "cursor": first.json()["next_cursor"]}
    assert [first.json()["items"][0]["tags"], *await listed(**rest)] == [["b", "c"], ["a", "b"]]
    for wrong in ("", "x" * 65, "a\x00", ["a"] * 33):
        response = await person.get("/api/v1/documents", params={"tag": wrong})
        assert response.status_code == 422, wrong
