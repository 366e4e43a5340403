"""OpenAI's API: the unmodified `openai` SDK against a server of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from sqlalchemy import text

from app.config import Settings
from app.core.sse import StreamTiming
from app.dependencies import get_stream_timing
from app.ingestion.pipeline import Ingester
from app.llm.base import NOT_IN_DOCUMENTS
from app.resources import Resources
from tests.api_process import ApiProcess, running_api
from tests.conftest import ingest_all, serve
from tests.openai_api import with_openai
from tests.pdfs import text_pdf
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

PAGES = (
    "The zoo opened in 1901 and lies beside the river.",
    "The zoo keeps seven zebras and twelve giraffes.",
    "Net sales of the zoo were 4.2 million euros in 2023.",
)
QUESTION = "How many zebras does the zoo keep?"
MODEL = "openai/gpt-4.1-mini"
ANSWER = Reply(text="The zoo keeps seven zebras [1], says the report [1][99].")
WRITTEN = "The zoo keeps seven zebras [1], says the report [1]."
SLOW = Reply(text=" ".join(f"word{i}" for i in range(200)), chunk_delay_s=0.05)
DOCS: dict[str, Any] = {"use_rag": True}


@pytest.fixture(scope="module")
def default_reply() -> Reply:
    return ANSWER


@pytest.fixture(scope="module")
async def api(
    settings: Settings, provider: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ApiProcess]:
    changes = {
        "OPENAI_API_KEY": "sk-test-0123456789",
        "OPENAI_BASE_URL": provider.openai_url,
        "QUERY_REWRITING": "false",
    }
    running = running_api(settings, tmp_path_factory.mktemp("api"), **changes)
    process = await asyncio.to_thread(running.__enter__)
    yield process
    await asyncio.to_thread(running.__exit__, None, None, None)


@pytest.fixture(scope="module")
async def zoo(client: httpx2.AsyncClient, ingester: Ingester) -> Person:
    """Somebody with a PDF of three pages. Nobody changes it."""
    person = await register(client, f"zoo-{uuid4().hex}@example.com")
    await person.upload("zoo.pdf", text_pdf(PAGES))
    await ingest_all(ingester)
    return person


@pytest.fixture
async def sdk(api: ApiProcess, zoo: Person) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{api.url}/v1", api_key=zoo.tokens["access_token"], max_retries=0
    ) as made:
        yield made


async def ask(sdk: AsyncOpenAI, content: Any = QUESTION, **options: Any) -> ChatCompletion:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "extra_body": DOCS,
    }
    answer: ChatCompletion = await sdk.chat.completions.create(**asked | options)
    return answer


async def read(sdk: AsyncOpenAI, **options: Any) -> list[ChatCompletionChunk]:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "extra_body": DOCS,
    }
    return [chunk async for chunk in await sdk.chat.completions.create(**asked | options)]


def annotations_of(answer: ChatCompletion) -> list[dict[str, Any]]:
    return [each.to_dict() for each in answer.choices[0].message.annotations or []]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def prompt_of(provider: ProviderServer) -> str:
    return json.dumps(provider.calls[-1].body["messages"])


async def stored_page(resources: Resources, person: Person, annotation: dict[str, Any]) -> str:
    class Scope:
        org_id = person.org_id

    async with resources.db.transaction(Scope()) as session:
        found = await session.scalar(
            text("SELECT text FROM pages WHERE document_id = :d AND number = :n"),
            {"d": annotation["document_id"], "n": annotation["page_start"]},
        )
    return str(found)


# Answers


async def test_an_answer_has_openais_shape(sdk: AsyncOpenAI) -> None:
    answer = await ask(sdk)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert choice.message.content == WRITTEN
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 20
    assert answer.usage.completion_tokens == len(ANSWER.text.split())
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_each_marker_is_an_annotation_that_quotes_its_page(
    sdk: AsyncOpenAI, zoo: Person, resources: Resources
) -> None:
    annotations = annotations_of(await ask(sdk))
    assert [each["n"] for each in annotations] == [1, 1]
    for each in annotations:
        assert each["type"] == "file_citation"
        assert WRITTEN[each["index"] :].startswith("[1]")
        assert each["filename"] == "zoo.pdf"
        assert each["file_id"] == f"file-{UUID(each['document_id']).hex}"
        assert (each["page_start"], each["page_end"]) == (2, 2)
        page = await stored_page(resources, zoo, each)
        assert page[each["quote_start"] : each["quote_end"]] == each["quote"]
    assert annotations[0]["index"] < annotations[1]["index"]
    assert "seven zebras" in annotations[0]["quote"]
    assert annotations[0]["verified"] is True


async def test_a_stream_is_the_same_answer_in_openais_order(sdk: AsyncOpenAI) -> None:
    chunks = await read(sdk, stream_options={"include_usage": True})
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {MODEL}
    first, *_, cited, finish, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert text_of(chunks) == WRITTEN
    whole = await ask(sdk)
    assert cited.choices[0].delta.to_dict()["annotations"] == annotations_of(whole)
    assert finish.choices[0].finish_reason == "stop"
    assert [c.choices[0].finish_reason for c in chunks[:-2]] == [None] * (len(chunks) - 2)
    assert usage.choices == []
    assert usage.usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_without_include_usage_a_stream_ends_with_the_finish_reason(
    sdk: AsyncOpenAI,
) -> None:
    chunks = await read(sdk)
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_stream_is_nothing_but_data_and_done(api: ApiProcess, zoo: Person) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    async with httpx2.AsyncClient(base_url=api.url) as client:
        response = await client.post("/v1/chat/completions", headers=zoo.headers, json=body)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    *chunks, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    for chunk in chunks:
        assert chunk.startswith("data: {")
        assert "usage" not in json.loads(chunk.removeprefix("data: "))


async def test_a_silent_stream_is_kept_alive_by_comments(
    settings: Settings, provider: ProviderServer, zoo: Person
) -> None:
    """Any other frame would be a chunk without choices to an OpenAI client."""
    configured = with_openai(settings, provider)
    provider.script(Reply(text="one two", chunk_delay_s=0.3))
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Count."}]}
    async with serve(configured) as (app, client):
        app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(ping_s=0.05)
        response = await client.post(
            "/v1/chat/completions", headers=zoo.headers, json=body | {"stream": True}
        )
    lines = [line for line in response.text.split("\n") if line]
    assert any(line.startswith(": ping") for line in lines)
    assert all(line.startswith((": ping", 'data: {"', "data: [DONE]")) for line in lines)
    assert not any('"type"' in line for line in lines)


async def test_the_sdks_own_stream_helper_puts_the_answer_together(sdk: AsyncOpenAI) -> None:
    async with sdk.chat.completions.stream(
        model=f"{MODEL}+docs", messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        pieces = [event.delta async for event in stream if event.type == "content.delta"]
        answer = await stream.get_final_completion()
    assert "".join(pieces) == answer.choices[0].message.content == WRITTEN
    assert answer.choices[0].message.to_dict()["annotations"]


async def test_the_sync_client_works_too(api: ApiProcess, zoo: Person) -> None:
    def talk() -> tuple[ChatCompletion, list[ChatCompletionChunk]]:
        with OpenAI(base_url=f"{api.url}/v1", api_key=zoo.tokens["access_token"]) as sync:
            whole = sync.chat.completions.create(
                model=f"{MODEL}+docs", messages=[{"role": "user", "content": QUESTION}]
            )
            chunks = sync.chat.completions.create(
                model=f"{MODEL}+docs", messages=[{"role": "user", "content": QUESTION}], stream=True
            )
            return whole, list(chunks)

    whole, chunks = await asyncio.to_thread(talk)
    assert whole.choices[0].message.content == text_of(chunks) == WRITTEN


async def test_without_a_language_model_it_says_so(sdk: AsyncOpenAI) -> None:
    answer = await ask(sdk, model="extractive")
    assert "seven zebras" in str(answer.choices[0].message.content)
    assert answer.to_dict()["degraded"] is True
    assert (await ask(sdk)).to_dict()["degraded"] is False
    last = (await read(sdk, model="extractive"))[-1]
    assert last.to_dict()["degraded"] is True


# What is asked with


async def test_plain_chat_is_passed_on(sdk: AsyncOpenAI, provider: ProviderServer) -> None:
    """Nothing of ours before it, nothing of the answer left out."""
    said = "a[1] is https://example.com/x ![x](https://example.com/y.png) [7]"
    provider.script(Reply(text=said))
    messages: list[Any] = [
        {"role": "user", "content": "Hello!"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": QUESTION},
    ]
    plain = await ask(sdk, messages=messages, extra_body={})
    assert plain.choices[0].message.content == said
    assert annotations_of(plain) == []
    assert provider.calls[-1].body["messages"] == messages
    assert provider.calls[-1].body["temperature"] == 1


async def test_what_an_organization_says_stands_before_plain_chat(
    api: ApiProcess, provider: ProviderServer, client: httpx2.AsyncClient
) -> None:
    person = await register(client, f"rules-{uuid4().hex}@example.com")
    rules = {"system_prompt": "Always be polite."}
    changed = await client.patch("/api/v1/organization", headers=person.headers, json=rules)
    assert changed.status_code == 200, changed.text
    key = person.tokens["access_token"]
    async with AsyncOpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0) as sdk:
        await ask(sdk, "Hello!", extra_body={})
    sent = [(m["role"], m["content"]) for m in provider.calls[-1].body["messages"]]
    assert sent == [("system", "Always be polite."), ("user", "Hello!")]


async def test_plain_chat_that_does_not_fit_is_refused(sdk: AsyncOpenAI) -> None:
    """Its oldest turns are not left out in silence."""
    turns: list[Any] = [{"role": "user", "content": "word " * 3_000}] * 3
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, model="openai/gpt-4", messages=turns, extra_body={})
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("model", "body", "is_asked"),
    [
        (MODEL, {}, False),
        (MODEL, {"use_rag": False}, False),
        (MODEL, {"use_rag": True}, True),
        (f"{MODEL}+docs", {}, True),
        (MODEL, {"document_ids": []}, True),
        (MODEL, {"created_after": "2020-01-01"}, True),
        (MODEL, {"wait_s": 0}, True),
    ],
)
async def test_documents_are_switched_by_extra_body_and_by_the_models_suffix(
    sdk: AsyncOpenAI, provider: ProviderServer, model: str, body: dict[str, Any], is_asked: bool
) -> None:
    answer = await ask(sdk, model=model, extra_body=body)
    assert (PAGES[1] in prompt_of(provider)) is is_asked
    assert bool(annotations_of(answer)) is is_asked
    assert provider.calls[-1].body["model"] == "gpt-4.1-mini"
    assert answer.model == MODEL


async def test_a_suffix_and_a_field_that_disagree_are_refused(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"\+docs"):
        await ask(sdk, model=f"{MODEL}+docs", extra_body={"use_rag": False})


async def test_a_question_can_be_about_some_documents(sdk: AsyncOpenAI) -> None:
    (first, *_) = annotations_of(await ask(sdk))
    named = await ask(sdk, extra_body={"document_ids": [first["document_id"]]})
    assert annotations_of(named)
    nothing = await ask(sdk, extra_body={"tags": ["no-such-tag"]})
    assert nothing.choices[0].message.content == NOT_IN_DOCUMENTS
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(sdk, extra_body={"document_ids": [str(uuid4())]})
    assert caught.value.param == "document_ids"


async def test_another_organizations_documents_are_not_asked(
    api: ApiProcess, stranger: Person
) -> None:
    key = stranger.tokens["access_token"]
    async with AsyncOpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0) as sdk:
        answer = await ask(sdk)
    assert answer.choices[0].message.content == NOT_IN_DOCUMENTS


async def test_options_reach_the_model(sdk: AsyncOpenAI, provider: ProviderServer) -> None:
    await ask(
        sdk,
        temperature=0,
        max_tokens=7,
        top_p=0.5,
        seed=11,
        stop=["\n", "###"],
        user="ada@example.com",
        extra_body={},
    )
    sent = provider.calls[-1].body
    assert (sent["temperature"], sent["max_tokens"]) == (0, 7)
    assert (sent["top_p"], sent["seed"], sent["stop"]) == (0.5, 11, ["\n", "###"])
    assert "ada" not in json.dumps(sent)
    assert len(sent["user"]) == 64
    first_user = sent["user"]
    await ask(sdk, max_completion_tokens=9, max_tokens=None, stop="x", user="bob", extra_body={})
    sent = provider.calls[-1].body
    assert (sent["temperature"], sent["max_tokens"], sent["stop"]) == (1, 9, ["x"])
    assert sent["user"] != first_user
    await ask(sdk, temperature=None)
    assert provider.calls[-1].body["temperature"] == 0.7


async def test_what_no_model_of_a_vendor_takes_is_refused_by_name(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, model="extractive", seed=7)
    assert (caught.value.param, caught.value.code) == ("seed", "unsupported_parameter")


async def test_all_that_is_said_reaches_the_model(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    before = (await ask(sdk)).choices[0].message
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "Hello!", "name": "ada"},
        before,  # with its annotations, as programs do
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "x" * 20_000},
        {
            "role": "user",
            "content": [{"type": "text", "text": "How"}, {"type": "text", "text": "many?"}],
        },
    ]
    await ask(sdk, messages=messages, extra_body={})
    sent = [(m["role"], m["content"]) for m in provider.calls[-1].body["messages"]]
    assert sent == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "Hello!"),
        ("assistant", WRITTEN),
        ("assistant", "x" * 20_000),
        ("user", "How\nmany?"),
    ]


async def test_what_changes_nothing_is_accepted(sdk: AsyncOpenAI) -> None:
    answer = await ask(
        sdk,
        n=1,
        top_p=1.0,
        presence_penalty=0,
        frequency_penalty=0.0,
        logprobs=False,
        stop=None,
        seed=None,
        tools=[],
        response_format={"type": "text"},
        user="somebody",
        metadata={"a": "b"},
        store=False,
    )
    assert answer.choices[0].message.content == WRITTEN


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("n", 2, "unsupported_value"),
        ("response_format", {"type": "json_object"}, "unsupported_value"),
        ("tools", [{"type": "function", "function": {"name": "f"}}], "unsupported_value"),
        ("audio", {}, "unsupported_parameter"),
        ("reasoning_effort", "high", "unsupported_parameter"),
        ("web_search_options", {}, "unsupported_parameter"),
        ("max_tokns", 5, "unsupported_parameter"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_what_is_not_supported_is_refused_by_name(
    sdk: AsyncOpenAI, name: str, value: Any, code: str, streams: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, stream=streams, extra_body={name: value})
    assert (caught.value.param, caught.value.code) == (name, code)
    assert caught.value.type == "invalid_request_error"
    assert name in str(caught.value.body)


async def test_a_name_is_repeated_as_it_can_be_read(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="`a b` is not supported") as caught:
        await ask(sdk, extra_body={"a\x00\u202e\nb": "value"})
    assert caught.value.param == "a b"


async def test_a_name_that_may_be_a_secret_is_not_repeated(sdk: AsyncOpenAI, zoo: Person) -> None:
    secrets = (zoo.tokens["access_token"], f"fn_live_{'a1B2' * 12}x", "sk-0123456789")
    for secret in secrets:
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(sdk, extra_body={secret: 1})
        assert secret[8:] not in caught.value.response.text


async def test_a_field_within_a_field_is_named_too(sdk: AsyncOpenAI) -> None:
    options: Any = {"include_usage": True, "foo": 1}
    with pytest.raises(openai.BadRequestError, match="no such field") as caught:
        await ask(sdk, stream=True, stream_options=options)
    assert caught.value.param == "stream_options.foo"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "x" * 10_001}]}, "messages"),
        ({"temperature": 2.1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 131_073}, "max_completion_tokens"),
        ({"stop": list("abcde")}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"model": ""}, "model"),
        ({"model": "+docs"}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"extra_body": {"document_ids": ["x"]}}, "document_ids.0"),
        ({"extra_body": {"use_rag": "perhaps"}}, "use_rag"),
    ],
)
async def test_wrong_requests_are_bad_requests(
    sdk: AsyncOpenAI, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(sdk, **options)
    assert (caught.value.code, caught.value.param) == ("validation_error", param)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"{", b"\xff", b""])
async def test_bodies_that_are_no_objects_are_refused(
    api: ApiProcess, zoo: Person, content: bytes
) -> None:
    headers = zoo.headers | {"Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=api.url) as client:
        response = await client.post("/v1/chat/completions", headers=headers, content=content)
    assert response.status_code in (400, 422), response.text
    assert response.json()["error"]["type"] == "invalid_request_error"


# Models


async def test_models_are_listed_and_the_default_is_the_first(sdk: AsyncOpenAI) -> None:
    listed = [model async for model in sdk.models.list()]
    models = [model for model in listed if model.to_dict()["kind"] == "chat"]
    assert listed[: len(models)] == models
    assert [model.id for model in models] == [MODEL, "extractive/extractive"]
    assert [model.owned_by for model in models] == ["openai", "extractive"]
    assert {model.object for model in models} == {"model"}
    answer = await ask(sdk, model=models[1].id)
    assert answer.model == models[1].id


# Failures


@pytest.mark.parametrize("streams", [False, True])
async def test_errors_are_of_the_sdks_classes(
    api: ApiProcess, sdk: AsyncOpenAI, provider: ProviderServer, streams: bool
) -> None:
    nobody = sdk.with_options(api_key="sk-wrong")
    with pytest.raises(openai.AuthenticationError) as unknown:
        await ask(nobody, stream=streams)
    assert unknown.value.code == "invalid_token"
    with pytest.raises(openai.AuthenticationError):
        await nobody.models.list()
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(sdk, model="no-such-model", stream=streams)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    provider.script(Reply(failure=Failure.STATUS, status=429, retry_after="7"))
    with pytest.raises(openai.InternalServerError) as busy:
        await ask(sdk, stream=streams)
    assert (busy.value.status_code, busy.value.code) == (503, "provider_rate_limited")
    assert busy.value.response.headers["Retry-After"] == "7"
    assert "sk-secret" not in busy.value.response.text


async def test_a_stream_that_fails_in_its_middle_raises(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    provider.script(Reply(text="one two three four five six", failure=Failure.INLINE_ERROR))
    seen = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
        ):
            seen += chunk.choices[0].delta.content or ""
    assert seen.startswith("one")
    assert (caught.value.code, caught.value.type) == ("provider_overloaded", "server_error")
    assert "sk-secret" not in str(caught.value.body)


async def test_closing_a_stream_ends_the_generation(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(SLOW)
    stream = await sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Count."}],
        stream=True,
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    assert provider.open_streams == 0


async def test_leaving_before_the_answer_ends_the_generation(
    sdk: AsyncOpenAI, provider: ProviderServer
) -> None:
    aborts = provider.aborts
    provider.script(SLOW)
    asking = asyncio.create_task(ask(sdk, "Count.", extra_body={}))
    await provider.wait_until(lambda: provider.open_streams == 1)
    asking.cancel()
    await provider.wait_until(lambda: provider.aborts == aborts + 1)
    assert provider.open_streams == 0
