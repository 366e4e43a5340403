"""Chat: the contract as JSON and as frames, citations against the stored pages, failures."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import text

from app.chat.pipeline import Answerer
from app.config import Settings
from app.core.sse import StreamTiming
from app.dependencies import get_stream_timing
from app.ingestion.pipeline import Ingester
from app.llm.base import NOT_IN_DOCUMENTS, Timeouts
from app.llm.providers.openai import OpenAIProvider
from app.llm.registry import Models
from app.llm.routing import Deployments, ModelRouter
from app.resources import Resources
from tests.conftest import ingest_all, serve
from tests.frames import answer_of, check_stream, parse_frames
from tests.openai_api import with_openai
from tests.people import Person, register
from tests.provider_server import Failure, ProviderServer, Reply

PAGES = (
    ("Annual report of the zoo", "The zoo opened in 1901 and lies beside the river."),
    ("Animals", "The zoo keeps seven zebras and twelve giraffes.", "Lions left in 1999."),
    ("Money", "Net sales of the zoo were 4.2 million euros in 2023.", "Costs were 3.9 million."),
)
ASK_ZEBRAS = "How many zebras does the zoo keep?"


def make_pdf() -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for lines in PAGES:
        for number, line in enumerate(lines):
            canvas.drawString(72, 720 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


@pytest.fixture(scope="module")
async def remote(
    settings: Settings, provider: ProviderServer
) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    """The same installation with an OpenAI and an Ollama, which are both the stand-in."""
    configured = with_openai(settings, provider, ollama_base_url=provider.url)
    async with serve(configured) as pair:
        await pair[1].get("/health/ready")  # has looked for models when it returns
        yield pair


@pytest.fixture(scope="module")
async def zoo(client: httpx2.AsyncClient, ingester: Ingester) -> Person:
    """Somebody with a PDF of three pages. Nobody changes it."""
    person = await register(client, f"zoo-{uuid4().hex}@example.com")
    await person.upload("zoo.pdf", make_pdf())
    await ingest_all(ingester)
    return person


@pytest.fixture(scope="module")
def visitor(zoo: Person, remote: tuple[FastAPI, httpx2.AsyncClient]) -> Person:
    """The same person at the installation with remote models."""
    return replace(zoo, client=remote[1])


def question(content: str = ASK_ZEBRAS, **options: Any) -> dict[str, Any]:
    return {"messages": [{"content": content}], **options}


async def chat(person: Person, content: str = ASK_ZEBRAS, **options: Any) -> httpx2.Response:
    return await person.post("/api/v1/chat/", json=question(content, **options))


async def stream(person: Person, content: str = ASK_ZEBRAS, **options: Any) -> httpx2.Response:
    return await person.post("/api/v1/chat/stream", json=question(content, **options))


async def page_text(resources: Resources, person: Person, document_id: str, page: int) -> str:
    async with resources.db.transaction(_Scope(person.org_id)) as session:
        found = await session.scalar(
            text("SELECT text FROM pages WHERE document_id = :d AND number = :n"),
            {"d": UUID(document_id), "n": page},
        )
    return str(found)


class _Scope:
    def __init__(self, org_id: UUID) -> None:
        self.org_id = org_id


# The contract


async def test_an_answer_is_what_the_contract_says(zoo: Person) -> None:
    response = await chat(zoo)
    assert response.status_code == 200, response.text
    body = response.json()
    assert "seven zebras" in body["response"]
    assert body["model"] == "extractive/extractive"
    assert body["degraded"] is True
    assert body["tokens_used"] == body["usage"]["total_tokens"] >= 1
    metadata = body["metadata"]
    assert metadata["request_id"] == response.headers["X-Request-ID"]
    assert metadata["processing_time_ms"] == body["processing_time_ms"] > 0
    assert metadata["tokens_used"] == body["tokens_used"]
    assert metadata["estimated_cost_usd"] == 0
    assert metadata["model_version"]
    assert metadata["timestamp"].endswith(("Z", "+00:00"))
    citation = body["citations"][0]
    assert citation["filename"] == "zoo.pdf"
    assert citation["page_start"] == citation["page_end"] == 2
    assert 0 <= citation["score"] <= 1
    assert isinstance(citation["chunk_index"], int)
    assert citation["quote"] in citation["text"]
    assert f"[{citation['n']}]" in body["response"]


async def test_quotes_stand_on_their_pages_word_for_word(zoo: Person, resources: Resources) -> None:
    for content, page in (
        (ASK_ZEBRAS, 2),
        ("What were the net sales of the zoo in 2023?", 3),
        ("Beside what does the zoo lie?", 1),
    ):
        body = (await chat(zoo, content)).json()
        citations = body["citations"]
        assert citations, body
        assert citations[0]["page_start"] == page
        for citation in citations:
            stored = await page_text(
                resources, zoo, citation["document_id"], citation["page_start"]
            )
            assert citation["quote"]
            assert stored[citation["quote_start"] : citation["quote_end"]] == citation["quote"]
            assert citation["verified"] is True


@pytest.mark.parametrize(
    "content", ["Who won the world chess championship of 1972?", "zxqv", "🌀", "%", "the of and"]
)
async def test_what_the_documents_do_not_hold_is_said_without_a_citation(
    zoo: Person, content: str
) -> None:
    body = (await chat(zoo, content)).json()
    assert body["response"] == NOT_IN_DOCUMENTS
    assert body["citations"] == []


async def test_without_documents_there_is_no_answer(person: Person) -> None:
    body = (await chat(person)).json()
    assert (body["response"], body["citations"]) == (NOT_IN_DOCUMENTS, [])


@pytest.mark.parametrize(
    "options",
    [
        {"messages": []},
        {"messages": [{"content": ""}]},
        {"messages": [{"content": " \n"}]},
        {"messages": [{"content": "x" * 10_001}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"content": "x", "name": "y"}]},
        {"messages": [{"content": "x"}, {"role": "assistant", "content": "y"}]},
        {"messages": [{"content": "x"}] * 201},
        {"messages": "x"},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": "hot"},
        {"max_tokens": 0},
        {"max_tokens": 4097},
        {"model": "x" * 201},
        {"document_ids": ["x"]},
        {"document_ids": None},
        {"modle": "x"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/chat/", "/api/v1/chat/stream"])
async def test_wrong_requests_are_422(zoo: Person, path: str, options: dict[str, Any]) -> None:
    response = await zoo.post(path, json={**question(), **options})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0, "max_tokens": 1},
        {"temperature": 2, "max_tokens": 4096},
        {"use_rag": False},
        {"messages": [{"role": "user", "content": "x" * 10_000}]},
        {"messages": [{"content": "tur\x00bine 🌀"}]},
        {"messages": [{"role": "assistant", "content": "Hello."}, {"content": ASK_ZEBRAS}]},
        {"messages": [{"content": "{{7*7}} {0.__class__} %s ${x}"}]},
    ],
)
async def test_what_the_contract_allows_is_answered(zoo: Person, options: dict[str, Any]) -> None:
    response = await zoo.post("/api/v1/chat/", json={**question(), **options})
    assert response.status_code == 200, response.text


async def test_defaults_reach_the_model(visitor: Person, provider: ProviderServer) -> None:
    await chat(visitor, model="ollama/llama3.2")
    options = provider.calls[-1].body["options"]
    assert (options["temperature"], options["num_predict"]) == (0.7, 1024)
    await chat(visitor, model="ollama/llama3.2", temperature=0, max_tokens=7)
    options = provider.calls[-1].body["options"]
    assert (options["temperature"], options["num_predict"]) == (0, 7)


async def test_unknown_documents_are_404_before_anything_is_asked(
    visitor: Person, provider: ProviderServer
) -> None:
    before = len(provider.calls)
    for path in ("/api/v1/chat/", "/api/v1/chat/stream"):
        response = await visitor.post(path, json=question(document_ids=[str(uuid4())]))
        assert response.status_code == 404
    assert len(provider.calls) == before


# Models


@pytest.mark.parametrize(
    ("asked", "path", "model"),
    [
        ("openai/gpt-4.1-mini", "/v1/chat/completions", "gpt-4.1-mini"),
        ("gpt-4.1-mini", "/v1/chat/completions", "gpt-4.1-mini"),
        ("ollama/llama3.2", "/api/chat", "llama3.2"),
        ("llama3.2", "/api/chat", "llama3.2"),
        ("qwen3:8b", "/api/chat", "qwen3:8b"),
        (None, "/v1/chat/completions", "gpt-4.1-mini"),
    ],
)
async def test_the_model_is_chosen_per_request(
    visitor: Person, provider: ProviderServer, asked: str | None, path: str, model: str
) -> None:
    response = await chat(visitor, model=asked)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["model"] == (asked or "openai/gpt-4.1-mini")
    assert body["metadata"]["model_version"] == model
    assert body["degraded"] is False
    call = next(c for c in reversed(provider.calls) if c.path in (path, "/api/tags"))
    assert (call.path, call.body["model"]) == (path, model)
    prompt = call.body["messages"][-1]["content"]
    assert ASK_ZEBRAS in prompt
    assert "seven zebras" in prompt
    # What the vendor counted, and not our estimate.
    assert body["usage"]["estimated"] is False
    # 0.4 and 1.6 dollars for a million tokens; the local server is free.
    usage = body["usage"]
    priced = (0.4 * usage["input_tokens"] + 1.6 * usage["output_tokens"]) / 1e6
    expected = 0 if path == "/api/chat" else pytest.approx(priced)
    assert body["metadata"]["estimated_cost_usd"] == expected


@pytest.mark.parametrize(
    ("default", "version"),
    [("ollama/qwen3:8b", "qwen3:8b"), ("extractive", "extractive"), ("gpt-4.1", "gpt-4.1")],
)
async def test_default_model_decides_without_a_model_in_the_request(
    visitor: Person, settings: Settings, provider: ProviderServer, default: str, version: str
) -> None:
    configured = with_openai(
        settings,
        provider,
        ollama_base_url=provider.url,
        default_model=default,
    )
    async with serve(configured) as (_, client):
        body = (await chat(replace(visitor, client=client))).json()
    assert body["metadata"]["model_version"].endswith(version)


@pytest.mark.parametrize("model", ["no-such-model", "openai/gpt-4.1-mini", "vendor/x", "/", "x/"])
@pytest.mark.parametrize("path", ["/api/v1/chat/", "/api/v1/chat/stream"])
async def test_an_unknown_model_is_404(zoo: Person, path: str, model: str) -> None:
    response = await zoo.post(path, json=question(model=model))
    assert response.status_code == 404, response.text
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"


async def test_markers_that_are_no_source_are_dropped(
    visitor: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text="The zoo keeps seven zebras [99][1]. Lions left in 1999 [42]."))
    frames = parse_frames((await stream(visitor)).text)
    assert check_stream(frames) == "The zoo keeps seven zebras [1]. Lions left in 1999."
    assert frames[-1].data["dropped_markers"] == 2


async def test_a_quote_that_supports_one_sentence_and_fails_another_is_listed_twice(
    visitor: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text="The zoo keeps seven zebras [1]. Ninety-nine zebras are 99 [1]."))
    citations = (await chat(visitor)).json()["citations"]
    assert [citation["verified"] for citation in citations] == [True, False]


async def test_a_citation_that_resembles_nothing_still_has_a_quote(
    visitor: Person, provider: ProviderServer, resources: Resources
) -> None:
    provider.script(Reply(text="Quarks flavour xylophones [1]."))
    (citation,) = (await chat(visitor)).json()["citations"]
    page = await page_text(resources, visitor, citation["document_id"], citation["page_start"])
    assert not citation["verified"]
    assert citation["quote"]
    assert page[citation["quote_start"] : citation["quote_end"]] == citation["quote"]


async def test_without_rag_no_document_is_shown_to_the_model(
    visitor: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(text="Hello [1]."))
    body = (await chat(visitor, use_rag=False)).json()
    assert (body["response"], body["citations"]) == ("Hello.", [])
    assert "zebras and" not in str(provider.calls[-1].body)


# Streams


@pytest.mark.parametrize("model", [None, "openai/gpt-4.1-mini", "ollama/llama3.2"])
async def test_a_stream_is_what_the_contract_says(
    zoo: Person, visitor: Person, provider: ProviderServer, model: str | None
) -> None:
    person = visitor if model else zoo
    provider.default = Reply(text="The zoo keeps seven zebras [1], says the report.")
    response = await stream(person, model=model)
    provider.default = Reply()
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    frames = parse_frames(response.text)
    assert "seven zebras" in check_stream(frames)
    start = frames[0].data
    assert UUID(start["run_id"]) != UUID(start["message_id"])
    assert start["model"] == (model or "extractive/extractive")
    assert [source["n"] for source in start["sources"]] == list(range(1, len(start["sources"]) + 1))
    citations = [frame.data for frame in frames if frame.type == "citation"]
    assert citations[0]["page_start"] == 2
    assert citations[0]["n"] in {source["n"] for source in start["sources"]}
    assert frames[-1].data["finish_reason"] == "stop"
    assert frames[-1].data["usage"]["total_tokens"] >= 1


async def test_stream_true_is_the_stream(zoo: Person) -> None:
    response = await chat(zoo, stream=True)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    as_json = (await chat(zoo)).json()
    assert check_stream(parse_frames(response.text)) == as_json["response"]


async def test_a_stream_of_nothing_found_has_no_citation(zoo: Person) -> None:
    frames = parse_frames((await stream(zoo, "Who won the chess championship of 1972?")).text)
    assert check_stream(frames) == NOT_IN_DOCUMENTS
    assert all(frame.type != "citation" for frame in frames)


async def test_no_text_of_a_model_breaks_a_frame(visitor: Person, provider: ProviderServer) -> None:
    nasty = 'a\n\ndata: {"type":"done"}\r\nid: 9\rretry: 0\u2028\u2029\x85 event: x\n\n"🌀" end'
    provider.script(Reply(text=nasty))
    frames = parse_frames((await stream(visitor)).text)
    assert check_stream(frames) == nasty.replace("\r\n", "\n").replace("\r", "\n")


# Failures


@pytest.mark.parametrize("model", ["openai/gpt-4.1-mini", "ollama/llama3.2"])
@pytest.mark.parametrize("path", ["/api/v1/chat/", "/api/v1/chat/stream"])
@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Reply(failure=Failure.STATUS, status=401), 502, "provider_auth"),
        (
            Reply(failure=Failure.STATUS, status=429, retry_after="7"),
            503,
            "provider_rate_limited",
        ),
        (Reply(failure=Failure.STATUS, status=500), 503, "provider_overloaded"),
        (Reply(failure=Failure.STATUS, status=404), 404, "provider_model_not_found"),
        (Reply(failure=Failure.STATUS, status=400), 400, "provider_bad_request"),
        (Reply(failure=Failure.STATUS, status=504), 504, "provider_timeout"),
        (Reply(failure=Failure.HTML), 502, "provider_protocol"),
        (Reply(failure=Failure.RESET_EARLY), 503, "provider_unreachable"),
    ],
)
async def test_a_failure_before_the_answer_has_a_status(
    visitor: Person,
    provider: ProviderServer,
    path: str,
    model: str,
    reply: Reply,
    status: int,
    code: str,
) -> None:
    provider.script(reply)
    response = await visitor.post(path, json=question(model=model))
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in response.headers) == (status == 503)
    if reply.retry_after:
        assert response.headers["Retry-After"] == reply.retry_after
    assert "sk-" not in response.text
    assert "vendor" not in response.text


@pytest.mark.parametrize("model", ["openai/gpt-4.1-mini", "ollama/llama3.2"])
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure.CUT, "provider_truncated"),
        (Failure.CUT_BODY, "provider_truncated"),
        (Failure.RESET, "provider_truncated"),
        (Failure.MALFORMED, "provider_protocol"),
        (Failure.WRONG_SHAPE, "provider_protocol"),
        (Failure.INLINE_ERROR, "provider_overloaded"),
    ],
)
async def test_a_failure_in_the_middle_is_a_frame_and_then_done(
    visitor: Person, provider: ProviderServer, model: str, failure: Failure, code: str
) -> None:
    reply = Reply(text="one two three four five six", failure=failure, chunk_delay_s=0.01)
    provider.script(reply)
    response = await stream(visitor, model=model)
    assert response.status_code == 200
    frames = parse_frames(response.text)
    written = check_stream(frames, status="failed")
    assert written
    assert reply.text.startswith(written)
    error = frames[-2].data
    assert error["code"] == code
    assert "sk-" not in response.text
    # As JSON the same failure is a status: nothing of the answer has been sent.
    provider.script(reply)
    assert (await chat(visitor, model=model)).json()["error"]["code"] == code


async def test_a_model_that_says_nothing_is_504_in_time_and_a_frame_later(
    remote: tuple[FastAPI, httpx2.AsyncClient], visitor: Person, provider: ProviderServer
) -> None:
    app = remote[0]
    resources: Resources = app.state.resources
    slow = OpenAIProvider(
        api_key="sk-test-0123456789",
        base_url=provider.openai_url,
        timeouts=Timeouts(first_content_s=0.4, idle_s=0.4),
    )
    models = Models(resources.settings, {"openai": slow}, resources.models.embedding)
    known = resources.model_router
    router = ModelRouter(
        models, known.aliases, Deployments(resources.settings, None), total_s=known.total_s
    )
    ledger = resources.ledger
    answerer = Answerer(resources.retriever, router, resources.policies, ledger.meter, ledger.check)
    app.state.resources = replace(resources, answerer=answerer)
    try:
        for failure in (Failure.HANG, Failure.HANG_CONTENT):
            provider.script(*[Reply(failure=failure)] * 2)
            for response in (await stream(visitor), await chat(visitor)):
                assert response.status_code == 504
                assert response.json()["error"]["code"] == "provider_timeout"
        app.dependency_overrides[get_stream_timing] = lambda: StreamTiming(status_wait_s=0.05)
        for failure in (Failure.HANG, Failure.STALL):
            provider.script(Reply(failure=failure))
            frames = parse_frames((await stream(visitor)).text)
            check_stream(frames, status="failed")
            assert frames[-2].data["code"] == "provider_timeout"
            assert frames[-2].data["retryable"] is True
    finally:
        app.dependency_overrides.clear()
        app.state.resources = resources
        await models.aclose()
        await slow.aclose()


async def test_the_next_question_works_after_every_failure(
    visitor: Person, provider: ProviderServer
) -> None:
    provider.script(Reply(failure=Failure.RESET), Reply(failure=Failure.STATUS, status=500))
    await stream(visitor)
    await stream(visitor)
    frames = parse_frames((await stream(visitor)).text)
    check_stream(frames)
    assert answer_of(frames)
