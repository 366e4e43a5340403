"""Files, vector stores, search and responses: a program for OpenAI's file search, run here."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import FileObject, VectorStore
from openai.types.responses import Response, ResponseStreamEvent
from sqlalchemy import text

from app.config import Settings
from app.llm.base import NOT_IN_DOCUMENTS
from app.resources import Resources
from tests.api_process import ApiProcess
from tests.openai_api import running_openai_api
from tests.pdfs import text_pdf
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

MODEL = "openai/gpt-4.1-mini"
ZOO = (
    "The zoo opened in 1901 and lies beside the river.",
    "The zoo keeps seven zebras and twelve giraffes.",
)
PARK = ("The park keeps forty zebras behind the old wall.",)
QUESTION = "How many zebras are kept?"
ANSWER = Reply(text="There are seven zebras [1].")
POLL: dict[str, Any] = {"poll_interval_ms": 50}


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return ANSWER


@pytest.fixture(scope="module")
async def api(
    settings: Settings, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    async with running_openai_api(settings, provider, tmp_path_factory.mktemp("api")) as process:
        yield process


@pytest.fixture(scope="module")
async def ada(client: httpx2.AsyncClient) -> Person:
    return await register(client, f"ada-{uuid4().hex}@example.com")


@pytest.fixture
async def sdk(api: ApiProcess, ada: Person) -> AsyncIterator[AsyncOpenAI]:
    async with sdk_of(api, ada) as made:
        yield made


@pytest.fixture
async def other(api: ApiProcess, client: httpx2.AsyncClient) -> AsyncIterator[AsyncOpenAI]:
    """Somebody of another organization."""
    async with sdk_of(api, await register(client, f"other-{uuid4().hex}@example.com")) as made:
        yield made


def sdk_of(api: ApiProcess, person: Person) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=person.tokens["access_token"], max_retries=0
    )


@dataclass(frozen=True)
class Stored:
    """A store with the two reports in it."""

    store: VectorStore
    zoo: FileObject
    park: FileObject


@pytest.fixture(scope="module")
async def stored(api: ApiProcess, ada: Person) -> Stored:
    """Nobody changes it."""
    async with sdk_of(api, ada) as sdk:
        store = await sdk.vector_stores.create(name="Animals")
        zoo = await sdk.files.create(file=("zoo.pdf", text_pdf(ZOO)), purpose="assistants")
        park = await sdk.files.create(file=("park.pdf", text_pdf(PARK)), purpose="assistants")
        described: tuple[tuple[FileObject, dict[str, str | float | bool]], ...] = (
            (zoo, {"kind": "zoo", "year": 2023}),
            (park, {"kind": "park"}),
        )
        for file, attributes in described:
            made = await sdk.vector_stores.files.create_and_poll(
                file.id, vector_store_id=store.id, attributes=attributes, **POLL
            )
            assert made.status == "completed"
    return Stored(store, zoo, park)


# Files


async def test_a_file_is_a_document(sdk: AsyncOpenAI, ada: Person) -> None:
    content = text_pdf((f"A harbor report {uuid4().hex}.",))
    file = await sdk.files.create(file=("harbor.pdf", content), purpose="user_data")
    assert (file.object, file.filename, file.purpose) == ("file", "harbor.pdf", "user_data")
    assert (file.bytes, file.status) == (len(content), "uploaded")
    document_id = UUID(file.id.removeprefix("file-"))
    assert (await sdk.files.wait_for_processing(file.id, poll_interval=0.05)).status == "processed"
    document = (await ada.get(f"/api/v1/documents/{document_id}")).json()
    assert (document["filename"], document["status"]) == ("harbor.pdf", "ready")
    assert (await sdk.files.content(file.id)).content == content
    again = await sdk.files.create(file=("again.pdf", content), purpose="assistants")
    assert (again.id, again.purpose) == (file.id, "assistants")
    gone = await sdk.files.delete(file.id)
    assert (gone.id, gone.deleted, gone.object) == (file.id, True, "file")
    for call in (sdk.files.retrieve, sdk.files.delete, sdk.files.content):
        with pytest.raises(openai.NotFoundError):
            await call(file.id)


async def test_a_file_that_cannot_be_read_says_why(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(
        file=("broken.pdf", b"%PDF-1.4 broken " + uuid4().bytes), purpose="assistants"
    )
    failed = await sdk.files.wait_for_processing(file.id, poll_interval=0.05)
    assert failed.status == "error"
    assert failed.status_details
    store = await sdk.vector_stores.create()
    found = await sdk.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, **POLL)
    assert found.status == "failed"
    assert found.last_error is not None
    assert (found.last_error.code, found.last_error.message) == (
        "invalid_file",
        failed.status_details,
    )


async def test_files_are_listed_page_by_page(other: AsyncOpenAI) -> None:
    purposes: tuple[Literal["assistants", "user_data"], ...] = (
        *("assistants", "user_data"),
        "assistants",
    )
    made = [
        await other.files.create(file=(f"{n}.txt", f"Number {n}.".encode()), purpose=purpose)
        for n, purpose in enumerate(purposes)
    ]
    newest_first = [file.id async for file in await other.files.list(limit=2)]
    assert newest_first == [file.id for file in reversed(made)]
    page = await other.files.list(limit=2, order="asc")
    assert [file.id for file in page.data] == [made[0].id, made[1].id]
    assert page.has_more is True
    [user_data] = (await other.files.list(purpose="user_data")).data
    assert user_data.id == made[1].id


async def test_a_purpose_that_no_file_can_have_has_none(ada: Person) -> None:
    response = await ada.get("/v1/files?purpose=%00")
    assert (response.status_code, response.json()["data"]) == (200, [])


async def test_a_file_expires_when_it_is_told_to(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(
        file=("soon.txt", uuid4().hex.encode()),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.expires_at == file.created_at + 3600


async def test_a_file_that_has_long_been_there_expires_from_now(
    sdk: AsyncOpenAI, ada: Person, resources: Resources
) -> None:
    content = uuid4().hex.encode()
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    made = await sdk.files.create(
        file=("old.txt", content), purpose="assistants", expires_after=expiry
    )
    async with resources.db.system_transaction() as session:
        await session.execute(
            text(
                "UPDATE documents SET created_at = created_at - interval '2 days',"
                " expires_at = now() + interval '1 minute' WHERE id = :id"
            ),
            {"id": made.id.removeprefix("file-")},
        )
    again = await sdk.files.create(
        file=("old.txt", content), purpose="assistants", expires_after=expiry
    )
    assert again.id == made.id
    assert again.expires_at is not None
    assert made.expires_at is not None
    assert again.expires_at >= made.expires_at
    assert (await ada.get(f"/v1/files/{made.id}")).status_code == 200


async def test_the_same_bytes_for_a_time_leave_the_file_that_stays(
    sdk: AsyncOpenAI, ada: Person
) -> None:
    uploaded = await ada.upload("kept.txt", content := uuid4().hex.encode())
    file = await sdk.files.create(
        file=("kept.txt", content),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert UUID(file.id.removeprefix("file-")) == UUID(uploaded.json()["document_id"])
    assert file.expires_at is None


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"purpose": "fine-tune"}, openai.BadRequestError, "purpose"),
        (
            {
                "purpose": "assistants",
                "expires_after": {"anchor": "created_at", "seconds": 5},
            },
            openai.BadRequestError,
            "expires_after",
        ),
        (
            {"purpose": "assistants", "extra_body": {"colour": "red"}},
            openai.BadRequestError,
            "colour",
        ),
        (
            {"purpose": "assistants", "file": ("x.txt", b"")},
            openai.BadRequestError,
            "file",
        ),
    ],
)
async def test_wrong_uploads_are_refused_by_name(
    sdk: AsyncOpenAI, options: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as caught:
        await sdk.files.create(**({"file": ("a.txt", b"A text.")} | options))
    assert caught.value.param == param


# Vector stores


async def test_the_sdks_helpers_upload_and_wait(sdk: AsyncOpenAI) -> None:
    store = await sdk.vector_stores.create(
        name="Reports",
        metadata={"team": "a"},
        expires_after={"anchor": "last_active_at", "days": 7},
    )
    assert (store.object, store.status, store.metadata) == (
        "vector_store",
        "completed",
        {"team": "a"},
    )
    assert store.expires_after is not None
    assert (store.expires_at or 0) - (store.last_active_at or 0) == 7 * 86_400
    file = await sdk.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("one.txt", uuid4().hex.encode()), **POLL
    )
    assert file.status == "completed"
    named = [(f"{n}.txt", io.BytesIO(uuid4().hex.encode())) for n in range(3)]
    batch = await sdk.vector_stores.file_batches.upload_and_poll(
        store.id, files=named, file_ids=[file.id], **POLL
    )
    assert (batch.object, batch.status) == ("vector_store.files_batch", "completed")
    assert (batch.file_counts.completed, batch.file_counts.total) == (4, 4)
    listed = await sdk.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store.id, filter="completed"
    )
    assert len(listed.data) == 4
    counted = await sdk.vector_stores.retrieve(store.id)
    assert (counted.file_counts.completed, counted.file_counts.total) == (4, 4)
    assert counted.usage_bytes == 4 * 32


async def test_a_store_is_changed_listed_and_deleted(sdk: AsyncOpenAI, other: AsyncOpenAI) -> None:
    file = await other.files.create(file=("a.txt", b"A fact about ants."), purpose="assistants")
    first = await other.vector_stores.create(name="First", file_ids=[file.id])
    second = await other.vector_stores.create()
    assert [store.id async for store in await other.vector_stores.list(limit=1)] == [
        second.id,
        first.id,
    ]
    changed = await other.vector_stores.update(first.id, name="Ants", metadata={"a": "b"})
    assert (changed.name, changed.metadata, changed.file_counts.total) == ("Ants", {"a": "b"}, 1)
    gone = await other.vector_stores.delete(first.id)
    assert (gone.deleted, gone.object) == (True, "vector_store.deleted")
    with pytest.raises(openai.NotFoundError):
        await other.vector_stores.retrieve(first.id)
    assert (await other.files.retrieve(file.id)).id == file.id
    with pytest.raises(openai.NotFoundError):
        await sdk.vector_stores.retrieve(second.id)


async def test_a_file_leaves_a_store_and_stays_a_file(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(file=("a.txt", uuid4().hex.encode()), purpose="assistants")
    store = await sdk.vector_stores.create(file_ids=[file.id])
    files = sdk.vector_stores.files
    changed = await files.update(file.id, vector_store_id=store.id, attributes={"n": 1, "b": True})
    assert changed.attributes == {"n": 1, "b": True}
    await files.poll(file.id, vector_store_id=store.id, **POLL)
    [page] = (await files.content(file.id, vector_store_id=store.id)).data
    assert page.type == "text"
    gone = await files.delete(file.id, vector_store_id=store.id)
    assert (gone.id, gone.deleted, gone.object) == (file.id, True, "vector_store.file.deleted")
    with pytest.raises(openai.NotFoundError):
        await files.retrieve(file.id, vector_store_id=store.id)
    assert (await sdk.files.retrieve(file.id)).status == "processed"


async def test_a_deleted_file_leaves_its_stores(sdk: AsyncOpenAI) -> None:
    store = await sdk.vector_stores.create()
    file = await sdk.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=("gone.txt", f"The heron {uuid4().hex} stands on one leg.".encode()),
        **POLL,
    )
    assert (await sdk.vector_stores.search(store.id, query="heron leg")).data
    await sdk.files.delete(file.id)
    assert (await sdk.vector_stores.retrieve(store.id)).file_counts.total == 0
    assert (await sdk.vector_stores.files.list(store.id)).data == []
    assert (await sdk.vector_stores.search(store.id, query="heron leg")).data == []


async def test_a_batch_is_of_files_with_attributes_of_their_own(
    sdk: AsyncOpenAI, stored: Stored
) -> None:
    store = await sdk.vector_stores.create()
    batch = await sdk.vector_stores.file_batches.create_and_poll(
        store.id,
        files=[
            {"file_id": stored.zoo.id, "attributes": {"n": 1}},
            {"file_id": stored.park.id, "attributes": {"n": 2}},
        ],
        **POLL,
    )
    listed = await sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert {file.id: file.attributes for file in listed.data} == {
        stored.zoo.id: {"n": 1},
        stored.park.id: {"n": 2},
    }
    ended = await sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert (ended.status, ended.file_counts.completed) == ("cancelled", 2)


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"file_ids": [f"file-{uuid4().hex}"]}, openai.NotFoundError, "file_id"),
        ({"file_ids": ["nonsense"]}, openai.NotFoundError, "file_id"),
        (
            {"chunking_strategy": {"type": "static", "static": {}}},
            openai.BadRequestError,
            "chunking_strategy",
        ),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour"),
        (
            {"expires_after": {"anchor": "last_active_at", "days": 400}},
            openai.BadRequestError,
            "expires_after.days",
        ),
        (
            {"metadata": {str(n): "x" for n in range(17)}},
            openai.BadRequestError,
            "metadata",
        ),
    ],
)
async def test_wrong_stores_are_refused_by_name(
    sdk: AsyncOpenAI, options: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as caught:
        await sdk.vector_stores.create(**options)
    assert caught.value.param == param


# Search


async def test_a_store_is_searched_and_nothing_else(sdk: AsyncOpenAI, stored: Stored) -> None:
    await sdk.files.create(
        file=("outside.txt", b"How many zebras are kept? A hundred zebras are kept."),
        purpose="assistants",
    )
    page = await sdk.vector_stores.search(stored.store.id, query=QUESTION)
    assert {found.filename for found in page.data} == {"zoo.pdf", "park.pdf"}
    scores = [found.score for found in page.data]
    assert scores == sorted(scores, reverse=True)
    zoo = next(found for found in page.data if found.filename == "zoo.pdf")
    assert (zoo.file_id, zoo.attributes) == (stored.zoo.id, {"kind": "zoo", "year": 2023})
    assert "seven zebras" in zoo.content[0].text


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "kind", "value": "zoo"}, {"zoo.pdf"}),
        ({"type": "ne", "key": "kind", "value": "zoo"}, {"park.pdf"}),
        ({"type": "gte", "key": "year", "value": 2023}, {"zoo.pdf"}),
        ({"type": "lt", "key": "year", "value": 2023}, set()),
        ({"type": "in", "key": "kind", "value": ["park", "farm"]}, {"park.pdf"}),
        ({"type": "nin", "key": "kind", "value": ["park"]}, {"zoo.pdf"}),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "kind", "value": "park"},
                    {
                        "type": "and",
                        "filters": [
                            {"type": "eq", "key": "kind", "value": "zoo"},
                            {"type": "gt", "key": "year", "value": 2022.5},
                        ],
                    },
                ],
            },
            {"zoo.pdf", "park.pdf"},
        ),
    ],
)
async def test_filters_go_by_the_attributes(
    sdk: AsyncOpenAI, stored: Stored, filters: Any, names: set[str]
) -> None:
    page = await sdk.vector_stores.search(stored.store.id, query=QUESTION, filters=filters)
    assert {found.filename for found in page.data} == names


async def test_several_queries_and_a_threshold(sdk: AsyncOpenAI, stored: Stored) -> None:
    page = await sdk.vector_stores.search(
        stored.store.id, query=["zebras", "river"], max_num_results=1
    )
    assert len(page.data) == 1
    none = await sdk.vector_stores.search(
        stored.store.id, query="zebras", ranking_options={"score_threshold": 1.0}
    )
    assert none.data == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"query": ""}, "query.0"),
        ({"query": " "}, "query"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "filters": {"type": "eq", "key": "a", "value": [1]}}, "filters"),
        ({"query": "x", "filters": {"type": "gt", "key": "a", "value": True}}, "filters"),
        ({"query": "x", "filters": {"type": "and", "filters": []}}, "filters"),
        ({"query": "x", "ranking_options": {"ranker": "none"}}, "ranking_options.ranker"),
        (
            {"query": "x", "filters": {"type": "eq", "key": "a", "value": 1e308}},
            "filters.comparison.value",
        ),
    ],
)
async def test_wrong_searches_are_refused(
    sdk: AsyncOpenAI, stored: Stored, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.vector_stores.search(stored.store.id, **options)
    assert str(caught.value.param).startswith(param)
    assert "[" not in str(caught.value.param)


async def test_deep_filters_are_refused(sdk: AsyncOpenAI, stored: Stored) -> None:
    tree: Any = {"type": "eq", "key": "a", "value": 1}
    for _ in range(200):
        tree = {"type": "and", "filters": [tree]}
    with pytest.raises(openai.BadRequestError):
        await sdk.vector_stores.search(stored.store.id, query="x", filters=tree)


# Responses


def tool(stored: Stored, **options: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": [stored.store.id], **options}


def texts_of(response: Response) -> Any:
    return response.output[-1].to_dict()["content"][0]  # type: ignore[index]  # a message


async def test_a_response_cites_the_files_it_searched(
    sdk: AsyncOpenAI, stored: Stored, provider: ProviderServer
) -> None:
    zoo_alone = {"type": "eq", "key": "kind", "value": "zoo"}
    response = await sdk.responses.create(
        model=MODEL,
        input=QUESTION,
        instructions="Be brief.",
        tools=[tool(stored, filters=zoo_alone, max_num_results=3)],
        include=["file_search_call.results"],
        metadata={"a": "b"},
    )
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert response.output_text == ANSWER.text
    search, message = response.output
    assert (search.type, message.type) == ("file_search_call", "message")
    assert search.type == "file_search_call"
    assert search.queries == [QUESTION]
    results = search.results or []
    assert {(found.file_id, found.filename) for found in results} == {(stored.zoo.id, "zoo.pdf")}
    assert results[0].attributes == {"kind": "zoo", "year": 2023}
    assert any("seven zebras" in (found.text or "") for found in results)
    [annotation] = texts_of(response)["annotations"]
    assert annotation["type"] == "file_citation"
    assert (annotation["file_id"], annotation["filename"]) == (stored.zoo.id, "zoo.pdf")
    assert ANSWER.text[annotation["index"] :].startswith("[1]")
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert (response.instructions, response.metadata) == ("Be brief.", {"a": "b"})
    prompt = str(provider.calls[-1].body["messages"])
    assert "Be brief." in prompt
    assert "forty" not in prompt


async def test_without_results_asked_for_there_are_none(sdk: AsyncOpenAI, stored: Stored) -> None:
    response = await sdk.responses.create(
        model=MODEL, input=QUESTION, tools=[tool(stored)], store=False
    )
    assert response.output[0].to_dict()["results"] is None
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(response.id)


@pytest.mark.parametrize("store", [False, True])
async def test_a_streamed_response_has_openais_events(
    sdk: AsyncOpenAI, stored: Stored, store: bool
) -> None:
    events: list[ResponseStreamEvent] = [
        event
        async for event in await sdk.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": QUESTION}],
            tools=[tool(stored)],
            include=["file_search_call.results"],
            store=store,
            stream=True,
        )
    ]
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [event.type for event in events if event not in deltas] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    told = ""
    for event in events:
        if event.type == "response.output_text.delta":
            told += event.delta
        elif event.type == "response.output_text.annotation.added":
            index: Any = getattr(event.annotation, "index", None)
            assert told[index:].startswith("[1]")
    assert "".join(delta.delta for delta in deltas) == ANSWER.text
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == ANSWER.text
    assert last.response.output[0].to_dict()["results"]
    [annotation] = texts_of(last.response)["annotations"]
    assert annotation["file_id"] in (stored.zoo.id, stored.park.id)


async def test_the_sdks_stream_helper_puts_the_response_together(
    sdk: AsyncOpenAI, stored: Stored
) -> None:
    async with sdk.responses.stream(model=MODEL, input=QUESTION, tools=[tool(stored)]) as stream:
        text = "".join(
            [event.delta async for event in stream if event.type == "response.output_text.delta"]
        )
        response = await stream.get_final_response()
    assert text == response.output_text == ANSWER.text
    kept = await sdk.responses.retrieve(response.id)
    assert kept.output_text == ANSWER.text


async def test_a_kept_response_ended_when_it_did(sdk: AsyncOpenAI, resources: Resources) -> None:
    response = await sdk.responses.create(model=MODEL, input="Hello!")
    long_ago = text("UPDATE runs SET finished_at = to_timestamp(1000) WHERE id = :id")
    async with resources.db.system_transaction() as session:
        await session.execute(long_ago, {"id": UUID(response.id.removeprefix("resp_"))})

    assert (await sdk.responses.retrieve(response.id)).completed_at == 1000
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.retrieve(response.id, stream=True)
    assert caught.value.param == "stream"


@pytest.mark.parametrize("streams", [False, True])
async def test_a_kept_response_is_found_as_it_was_given(
    sdk: AsyncOpenAI, stored: Stored, resources: Resources, streams: bool
) -> None:
    tools = [tool(stored)]
    if streams:
        asked = sdk.responses.create(model=MODEL, input=QUESTION, tools=tools, stream=True)
        *_, last = [event async for event in await asked]
        assert last.type == "response.completed"
        given = last.response
    else:
        given = await sdk.responses.create(model=MODEL, input=QUESTION, tools=tools)
    assert given.output[0].to_dict()["queries"] == [QUESTION]
    found = await sdk.responses.retrieve(given.id)
    assert found.to_dict() == given.to_dict()
    finished_at = text("SELECT extract(epoch FROM finished_at)::float8 FROM runs WHERE id = :id")
    async with resources.db.system_transaction() as session:
        ended = await session.scalar(finished_at, {"id": UUID(given.id.removeprefix("resp_"))})
    assert given.completed_at == int(ended)


async def test_what_a_response_was_asked_with_is_listed(
    sdk: AsyncOpenAI, provider: ProviderServer, other: AsyncOpenAI
) -> None:
    provider.script(Reply(text="Hello Ada."), Reply(text="Ada."))
    first = await sdk.responses.create(model=MODEL, instructions="Be kind.", input="I am Ada.")
    second = await sdk.responses.create(
        model=MODEL, input="What is my name?", previous_response_id=first.id
    )
    pages = sdk.responses.input_items.list(second.id, order="asc", limit=2)
    items: list[Any] = [item async for item in pages]
    assert [(item.type, item.role, item.content[0].text) for item in items] == [
        ("message", "user", "I am Ada."),
        ("message", "assistant", "Hello Ada."),
        ("message", "user", "What is my name?"),
    ]
    assert [item.content[0].type for item in items] == ["input_text", "output_text", "input_text"]
    newest: list[Any] = [item async for item in sdk.responses.input_items.list(second.id)]
    assert [item.id for item in newest] == [item.id for item in reversed(items)]
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.input_items.list(second.id, after="msg_nothing")
    with pytest.raises(openai.NotFoundError):
        await other.responses.input_items.list(second.id)


async def test_a_response_in_the_making_is_cancelled(
    sdk: AsyncOpenAI, provider: ProviderServer, other: AsyncOpenAI
) -> None:
    provider.script(Reply(text="one two three four five six", failure=Failure.STALL))
    stream = await sdk.responses.create(model=MODEL, input="Count.", stream=True)
    events = aiter(stream)
    first = await anext(events)
    assert first.type == "response.created"
    with pytest.raises(openai.NotFoundError):
        await other.responses.cancel(first.response.id)
    cancelled = await sdk.responses.cancel(first.response.id)
    assert (cancelled.id, cancelled.status) == (first.response.id, "cancelled")
    async for _ in events:
        """To its end."""
    done = await sdk.responses.create(model=MODEL, input="Hello!")
    assert (await sdk.responses.cancel(done.id)).status == "completed"


async def test_a_response_follows_the_one_before(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    provider.script(Reply(text="Hello Ada."), Reply(text="Ada."))
    first = await sdk.responses.create(
        model=MODEL, instructions="Be kind.", input="My name is Ada."
    )
    assert provider.calls[-1].body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "My name is Ada."},
    ]
    second = await sdk.responses.create(
        model=MODEL,
        instructions="Be brief.",
        input="What is my name?",
        previous_response_id=first.id,
    )
    assert second.previous_response_id == first.id
    assert provider.calls[-1].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ]
    await sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(first.id)
    assert (await sdk.responses.retrieve(second.id)).output_text == "Ada."
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.responses.create(model=MODEL, input="x", previous_response_id=first.id)
    assert caught.value.param == "previous_response_id"


async def test_the_last_response_takes_its_conversation_along(
    sdk: AsyncOpenAI, ada: Person
) -> None:
    async def count() -> int:
        return len((await ada.get("/api/v1/conversations?limit=100")).json()["items"])

    before = await count()
    response = await sdk.responses.create(model=MODEL, input="Hello!")
    assert await count() == before + 1
    await sdk.responses.delete(response.id)
    assert await count() == before


async def test_a_response_goes_back_into_the_next_one(
    sdk: AsyncOpenAI, stored: Stored, provider: ProviderServer
) -> None:
    """As programs do that keep the history themselves."""
    first = await sdk.responses.create(
        model=MODEL, input=QUESTION, tools=[tool(stored)], store=False
    )
    history: list[Any] = [{"role": "user", "content": QUESTION}, *first.output]
    history.append({"role": "user", "content": [{"type": "input_text", "text": "Thanks!"}]})
    await sdk.responses.create(model=MODEL, input=history, store=False)
    assert provider.calls[-1].body["messages"] == [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER.text},
        {"role": "user", "content": "Thanks!"},
    ]


async def test_an_answer_that_is_cut_is_incomplete(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    provider.script(Reply(text="Once upon", finish_reason="length"))
    response = await sdk.responses.create(model=MODEL, input="Tell.", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert provider.calls[-1].body["max_tokens"] == 2


async def test_a_response_that_fails_in_its_middle_says_so(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    provider.script(Reply(text="one two three four five six", failure=Failure.INLINE_ERROR))
    events = [
        event
        async for event in await sdk.responses.create(model=MODEL, input="Count.", stream=True)
    ]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    assert "sk-secret" not in str(last)


async def test_a_response_that_never_begins_has_a_status_of_its_own(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    for streams in (False, True):
        provider.script(Reply(failure=Failure.STATUS, status=500))
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.responses.create(model="openai/gpt-away", input="x", stream=streams)
        assert str(caught.value.code).startswith("provider_")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"previous_response_id": f"resp_{uuid4().hex}", "store": False}, "store"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
async def test_what_a_response_cannot_have_is_refused_by_name(
    sdk: AsyncOpenAI, options: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "x"}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.create(**(asked | options))
    assert caught.value.param == param
    assert caught.value.code in ("unsupported_parameter", "unsupported_value")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "file_search_call", "id": "fs_1"}]}, "input"),
        ({"input": 5}, "input"),
        ({"input": ""}, "input"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
    ],
)
async def test_a_wrong_response_is_refused_by_the_names_of_the_api(
    sdk: AsyncOpenAI, sent: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "x"}
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.create(**(asked | sent))
    assert caught.value.param == param


async def test_a_file_that_is_not_there_is_named(sdk: AsyncOpenAI) -> None:
    missing = f"file-{uuid4().hex}"
    for call in (sdk.files.retrieve, sdk.files.delete, sdk.files.content):
        with pytest.raises(openai.NotFoundError) as caught:
            await call(missing)
        assert caught.value.param == "file_id"


async def test_who_leaves_a_tool_of_mcp_ends_the_models_call(
    api: ApiProcess, ada: Person, stored: Stored, provider: ProviderServer
) -> None:
    provider.script(Reply(failure=Failure.HANG))
    aborts = provider.aborts
    asked = {"name": "ask", "arguments": {"question": QUESTION, "model": MODEL}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked}
    headers = ada.headers | {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(base_url=api.url, headers=headers, timeout=None) as client:
        calling = asyncio.create_task(client.post("/mcp", json=call))
        await provider.wait_until(lambda: provider.open_streams > 0)
        calling.cancel()
        await provider.wait_until(lambda: provider.aborts > aborts)


async def test_what_is_another_organizations_is_not_there(
    other: AsyncOpenAI, sdk: AsyncOpenAI, stored: Stored
) -> None:
    store_id, file_id = stored.store.id, stored.zoo.id
    kept = await sdk.responses.create(model=MODEL, input="Hello!")
    own = await other.vector_stores.create()
    for call in (
        other.files.retrieve(file_id),
        other.files.delete(file_id),
        other.files.content(file_id),
        other.vector_stores.retrieve(store_id),
        other.vector_stores.delete(store_id),
        other.vector_stores.update(store_id, name="Mine"),
        other.vector_stores.search(store_id, query="zebras"),
        other.vector_stores.files.list(store_id),
        other.vector_stores.files.create(own.id, file_id=file_id),
        other.responses.create(model=MODEL, input="x", tools=[tool(stored)]),
        other.responses.retrieve(kept.id),
        other.responses.delete(kept.id),
        other.responses.create(model=MODEL, input="x", previous_response_id=kept.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await call
    assert (await sdk.responses.retrieve(kept.id)).id == kept.id


async def test_a_store_of_nothing_answers_that_nothing_is_there(sdk: AsyncOpenAI) -> None:
    store = await sdk.vector_stores.create()
    response = await sdk.responses.create(
        model=MODEL,
        input=QUESTION,
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
    )
    assert response.output_text == NOT_IN_DOCUMENTS


async def test_the_sync_client_does_all_of_it(api: ApiProcess, ada: Person) -> None:
    def talk() -> Response:
        key = ada.tokens["access_token"]
        with OpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0) as sync:
            store = sync.vector_stores.create(name="Sync")
            sync.vector_stores.files.upload_and_poll(
                vector_store_id=store.id, file=("zoo2.pdf", text_pdf((*ZOO, "Two."))), **POLL
            )
            with sync.responses.stream(
                model=MODEL,
                input=QUESTION,
                tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
            ) as stream:
                response = stream.get_final_response()
            sync.vector_stores.delete(store.id)
            return response

    response = await asyncio.to_thread(talk)
    assert response.output_text == ANSWER.text
    [annotation] = texts_of(response)["annotations"]
    assert annotation["filename"] == "zoo2.pdf"
