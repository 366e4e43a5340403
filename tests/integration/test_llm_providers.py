"""The contract of the remote adapters, against a real HTTP server that speaks both formats."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import pytest

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import (
    ChatRequest,
    EmbeddingProvider,
    Finish,
    FinishReason,
    LLMProvider,
    Message,
    Purpose,
    Role,
    TextDelta,
    Timeouts,
    Usage,
)
from app.llm.providers.ollama import OllamaEmbedding, OllamaProvider
from app.llm.providers.openai import (
    COMPATIBLE_DIALECT,
    OPENAI_DIALECT,
    OpenAIEmbedding,
    OpenAIProvider,
)
from tests.provider_server import DEFAULT_ANSWER, DIMENSIONS, Failure, ProviderServer, Reply

KEY = "sk-test-key"
# Short enough to wait for, long enough for a busy machine in the cases that must not time out.
PATIENT = Timeouts(first_content_s=20, idle_s=20, total_s=40, embed_batch_s=20)
IMPATIENT = Timeouts(connect_s=0.3, first_content_s=0.3, idle_s=0.3, total_s=30, embed_batch_s=0.3)

MakeProvider = Callable[[str, Timeouts], LLMProvider]
MakeEmbedding = Callable[[str, Timeouts], EmbeddingProvider]


def make_openai(url: str, timeouts: Timeouts) -> LLMProvider:
    return OpenAIProvider(
        api_key=KEY, base_url=f"{url}/v1", timeouts=timeouts, dialect=OPENAI_DIALECT
    )


def make_compatible(url: str, timeouts: Timeouts) -> LLMProvider:
    return OpenAIProvider(api_key=KEY, base_url=f"{url}/v1", timeouts=timeouts)


def make_ollama(url: str, timeouts: Timeouts) -> LLMProvider:
    return OllamaProvider(base_url=url, timeouts=timeouts)


def make_openai_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return OpenAIEmbedding(
        api_key=KEY,
        base_url=f"{url}/v1",
        model="text-embedding-3-small",
        timeouts=timeouts,
        dialect=OPENAI_DIALECT,
    )


def make_compatible_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return OpenAIEmbedding(api_key=KEY, base_url=f"{url}/v1", model="bge", timeouts=timeouts)


def make_ollama_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return OllamaEmbedding(base_url=url, model="nomic-embed-text", timeouts=timeouts)


chat_providers = pytest.mark.parametrize("make", [make_openai, make_compatible, make_ollama])
embeddings = pytest.mark.parametrize(
    "make", [make_openai_embedding, make_compatible_embedding, make_ollama_embedding]
)


@dataclass
class Outcome:
    text: str = ""
    deltas: int = 0
    finish: Finish | None = None
    error: ProviderError | None = None


def ask(*, model: str = "m", max_tokens: int = 256, content: str = "Hi there?") -> ChatRequest:
    messages = (Message(Role.SYSTEM, "Answer."), Message(Role.USER, content))
    return ChatRequest(model, messages, temperature=0.5, max_tokens=max_tokens)


async def consume(provider: LLMProvider, request: ChatRequest | None = None) -> Outcome:
    """Read a stream to its end, and check the order of what comes."""
    outcome = Outcome()
    try:
        async for item in provider.stream(request or ask()):
            assert outcome.finish is None
            if isinstance(item, TextDelta):
                assert item.text
                outcome.text += item.text
                outcome.deltas += 1
            else:
                outcome.finish = item
    except ProviderError as error:
        assert outcome.finish is None
        outcome.error = error
    finally:
        await provider.aclose()
    assert (outcome.finish is None) != (outcome.error is None)
    return outcome


@chat_providers
async def test_answer_is_deltas_then_one_finish_with_usage(
    make: MakeProvider, server: ProviderServer
) -> None:
    outcome = await consume(make(server.url, PATIENT))

    assert outcome.text == DEFAULT_ANSWER
    assert outcome.deltas > 3
    assert outcome.finish == Finish(FinishReason.STOP, Usage(3, 9), "m")


K = ProviderErrorKind
CHAT_FAILURES = [
    (Reply(failure=Failure.STATUS, status=401), K.AUTH),
    (Reply(failure=Failure.STATUS, status=402), K.QUOTA),
    (Reply(failure=Failure.STATUS, status=404), K.MODEL_NOT_FOUND),
    (Reply(failure=Failure.STATUS, status=429), K.RATE_LIMITED),
    (
        Reply(failure=Failure.STATUS, status=429, code="insufficient_quota", error="billing"),
        K.QUOTA,
    ),
    (Reply(failure=Failure.STATUS, status=400), K.BAD_REQUEST),
    (
        Reply(failure=Failure.STATUS, status=400, error="exceeds the context length"),
        K.CONTEXT_LENGTH,
    ),
    (Reply(failure=Failure.STATUS, status=500), K.OVERLOADED),
    (Reply(failure=Failure.STATUS, status=503), K.OVERLOADED),
    (Reply(failure=Failure.RESET_EARLY), K.UNREACHABLE),
    (Reply(failure=Failure.CUT), K.TRUNCATED),
    (Reply(failure=Failure.CUT_BODY), K.TRUNCATED),
    (Reply(failure=Failure.RESET), K.TRUNCATED),
    (Reply(failure=Failure.MALFORMED), K.PROTOCOL),
    (Reply(failure=Failure.WRONG_SHAPE), K.PROTOCOL),
    (Reply(failure=Failure.HTML), K.PROTOCOL),
    (Reply(failure=Failure.INLINE_ERROR), K.OVERLOADED),
    # In the stream's own words, before its first one.
    (Reply(text="", failure=Failure.INLINE_ERROR), K.OVERLOADED),
    (Reply(text="", failure=Failure.MALFORMED), K.PROTOCOL),
    (Reply(text="", failure=Failure.CUT), K.TRUNCATED),
]


@chat_providers
@pytest.mark.parametrize(
    ("reply", "kind"), CHAT_FAILURES, ids=lambda v: getattr(v, "failure", v).value
)
async def test_failure_is_one_error_of_its_kind_in_our_words(
    make: MakeProvider, reply: Reply, kind: ProviderErrorKind, server: ProviderServer
) -> None:
    server.script(reply)

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.error is not None
    assert outcome.error.kind is kind
    assert "sk-" not in outcome.error.message
    assert len(server.calls) == 1  # never retries


@chat_providers
@pytest.mark.parametrize(
    "failure", [Failure.HANG, Failure.HANG_CONTENT, Failure.STALL, Failure.STALL_COMMENTS]
)
async def test_silence_is_a_timeout_and_closes_the_socket(
    make: MakeProvider, failure: Failure, server: ProviderServer
) -> None:
    """Comments are silence too."""
    server.script(Reply(failure=failure))

    outcome = await consume(make(server.url, IMPATIENT))

    assert outcome.error is not None
    assert outcome.error.kind is K.TIMEOUT
    assert bool(outcome.text) is (failure in {Failure.STALL, Failure.STALL_COMMENTS})
    await server.wait_until(lambda: server.aborts == 1 and server.open_streams == 0)


@chat_providers
async def test_total_deadline_ends_an_answer_that_keeps_coming(
    make: MakeProvider, server: ProviderServer
) -> None:
    server.script(Reply(text="word " * 2000, chunk_delay_s=0.02))

    outcome = await consume(make(server.url, Timeouts(total_s=0.6)))

    assert outcome.error is not None
    assert outcome.error.kind is K.TIMEOUT
    assert outcome.text


@chat_providers
async def test_no_listener_is_unreachable(make: MakeProvider, server: ProviderServer) -> None:
    await server.__aexit__()

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.error is not None
    assert outcome.error.kind is K.UNREACHABLE


@chat_providers
async def test_closing_the_iterator_closes_the_socket(
    make: MakeProvider, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.STALL))
    provider = make(server.url, PATIENT)

    async with aclosing(provider.stream(ask())) as stream:  # type: ignore[type-var]  # a generator
        await anext(stream)
    await server.wait_until(lambda: server.aborts == 1 and server.open_streams == 0)

    await provider.aclose()


@chat_providers
async def test_cancelling_the_reader_closes_the_socket(
    make: MakeProvider, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.STALL))
    provider = make(server.url, PATIENT)
    reader = asyncio.create_task(consume(provider))
    await server.wait_until(lambda: server.open_streams == 1)

    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await server.wait_until(lambda: server.aborts == 1 and server.open_streams == 0)


@chat_providers
async def test_connection_serves_the_next_answer_too(
    make: MakeProvider, server: ProviderServer
) -> None:
    provider = make(server.url, PATIENT)
    for _ in range(3):
        assert [item async for item in provider.stream(ask())]
    await provider.aclose()

    assert len({call.peer for call in server.calls}) == 1


@chat_providers
async def test_missing_usage_is_estimated(make: MakeProvider, server: ProviderServer) -> None:
    server.script(Reply(has_usage=False))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.usage.is_estimated
    assert outcome.finish.usage.input_tokens > 0
    assert outcome.finish.usage.output_tokens > 5


@chat_providers
@pytest.mark.parametrize("text", ["", " \n "])
async def test_empty_answer_is_an_error(
    make: MakeProvider, text: str, server: ProviderServer
) -> None:
    server.script(Reply(text=text))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.error is not None
    assert outcome.error.kind is K.PROTOCOL
    assert "empty answer" in outcome.error.message


@chat_providers
async def test_answer_cut_before_its_first_word_is_a_finish_alone(
    make: MakeProvider, server: ProviderServer
) -> None:
    """As a thinking model's that thought for as long as it was allowed to write."""
    server.script(Reply(text="", finish_reason="length"))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.LENGTH
    assert outcome.deltas == 0


@chat_providers
async def test_length_is_the_finish_reason(make: MakeProvider, server: ProviderServer) -> None:
    server.script(Reply(finish_reason="length"))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.LENGTH


@chat_providers
async def test_text_in_any_script_arrives_whole(make: MakeProvider, server: ProviderServer) -> None:
    text = 'Übergrößen "quoted" 売上高は\u2028減少した [1]。 😀\n\nدخل'
    server.script(Reply(text=text))

    assert (await consume(make(server.url, PATIENT))).text == text


@chat_providers
@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7.0), (None, None), ("soon", None)])
async def test_retry_after_is_passed_on(
    make: MakeProvider, retry_after: str | None, seconds: float | None, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.STATUS, status=429, retry_after=retry_after))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.error is not None
    assert outcome.error.retry_after_s == seconds


@pytest.mark.parametrize("reply", [Reply(finish_reason="content_filter"), Reply(is_refusal=True)])
async def test_refusal_is_content_filter(reply: Reply, server: ProviderServer) -> None:
    server.script(reply)

    outcome = await consume(make_openai(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert outcome.text == DEFAULT_ANSWER


async def test_filtered_answer_may_be_empty(server: ProviderServer) -> None:
    server.script(Reply(text="", finish_reason="content_filter"))

    outcome = await consume(make_compatible(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert outcome.deltas == 0


async def test_only_openai_itself_must_send_done(server: ProviderServer) -> None:
    server.script(Reply(failure=Failure.NO_DONE), Reply(failure=Failure.NO_DONE))

    strict = await consume(make_openai(server.url, PATIENT))
    lenient = await consume(make_compatible(server.url, PATIENT))

    assert strict.error is not None
    assert strict.error.kind is K.TRUNCATED
    assert lenient.finish is not None
    assert lenient.text == DEFAULT_ANSWER


@pytest.mark.parametrize(
    ("model", "has_temperature"),
    [
        ("gpt-4.1-mini", True),
        ("gpt-4o", True),
        ("gpt-5-chat-latest", True),
        ("gpt-5-mini", False),
        ("o3", False),
        ("openai/o4-mini", False),
    ],
)
async def test_reasoning_models_get_no_temperature(
    model: str, has_temperature: bool, server: ProviderServer
) -> None:
    await consume(make_openai(server.url, PATIENT), ask(model=model))

    body = server.calls[0].body
    assert ("temperature" in body) is has_temperature
    assert body["max_completion_tokens"] == 256
    assert "max_tokens" not in body


async def test_compatible_servers_get_the_old_fields(server: ProviderServer) -> None:
    await consume(make_compatible(server.url, PATIENT))

    body = server.calls[0].body
    assert body["max_tokens"] == 256
    assert body["stream_options"] == {"include_usage": True}
    assert "max_completion_tokens" not in body


async def test_environment_identity_reaches_no_server(
    server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-leak")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-leak")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-leak")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-leak-admin")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: leak\nAuthorization: Bearer leak")

    for make in (make_openai, make_compatible, make_ollama):
        await consume(make(server.url, PATIENT))
    for make_embedding in (make_openai_embedding, make_ollama_embedding):
        embedding = make_embedding(server.url, PATIENT)
        await embedding.embed(["text"], purpose=Purpose.QUERY)
        await embedding.aclose()

    assert len(server.calls) == 5
    for call in server.calls:
        assert "leak" not in str(call.headers)
        is_openai = call.path.startswith("/v1/")
        assert call.headers.get("authorization") == (f"Bearer {KEY}" if is_openai else None)
        assert not {"openai-organization", "openai-project", "x-team"} & call.headers.keys()


async def test_ollama_gets_a_window_that_holds_the_prompt(server: ProviderServer) -> None:
    await consume(make_ollama(server.url, PATIENT), ask(max_tokens=500))
    await consume(make_ollama(server.url, PATIENT), ask(content="word " * 9000))

    small, large = (call.body["options"] for call in server.calls)
    assert small == {"num_ctx": 4096, "num_predict": 500, "temperature": 0.5}
    assert large["num_ctx"] == 16384


async def test_missing_ollama_model_says_how_to_pull_it(server: ProviderServer) -> None:
    server.script(Reply(failure=Failure.STATUS, status=404, error="model 'm' not found"))

    outcome = await consume(make_ollama(server.url, PATIENT))

    assert outcome.error is not None
    assert "ollama pull m" in outcome.error.message


async def test_models_are_listed(server: ProviderServer) -> None:
    openai, ollama = make_openai(server.url, PATIENT), make_ollama(server.url, PATIENT)

    assert await openai.list_models() == sorted(server.openai_models)
    assert await ollama.list_models() == list(server.ollama_models)

    await openai.aclose()
    await ollama.aclose()


TEXTS = ["Net sales fell in Europe.", "The board has nine members.", "Sales in Europe"]


@embeddings
async def test_embeddings_are_unit_rows_in_order(
    make: MakeEmbedding, server: ProviderServer
) -> None:
    embedding = make(server.url, PATIENT)

    vectors = await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT)
    await embedding.aclose()

    assert vectors.shape == (3, DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[2] @ vectors[0] > vectors[2] @ vectors[1]


@embeddings
@pytest.mark.parametrize(
    "failure",
    [
        Failure.SHORT_BATCH,
        Failure.UNEVEN,
        Failure.NAN,
        Failure.ZERO,
        Failure.MALFORMED,
        Failure.HTML,
    ],
)
async def test_bad_vectors_are_a_protocol_error(
    make: MakeEmbedding, failure: Failure, server: ProviderServer
) -> None:
    server.script(Reply(failure=failure))
    embedding = make(server.url, PATIENT)

    with pytest.raises(ProviderError) as caught:
        await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT)
    await embedding.aclose()

    assert caught.value.kind is K.PROTOCOL


@embeddings
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(failure=Failure.STATUS, status=401), K.AUTH),
        (Reply(failure=Failure.STATUS, status=429), K.RATE_LIMITED),
        (Reply(failure=Failure.STATUS, status=402), K.QUOTA),
        (Reply(failure=Failure.STATUS, status=403), K.AUTH),
        (Reply(failure=Failure.STATUS, status=413), K.CONTEXT_LENGTH),
        (
            Reply(failure=Failure.STATUS, status=400, error="input length exceeds context length"),
            K.CONTEXT_LENGTH,
        ),
        (Reply(failure=Failure.INLINE_ERROR, error="model not found"), K.MODEL_NOT_FOUND),
        (Reply(failure=Failure.RESET_EARLY), K.UNREACHABLE),
    ],
)
async def test_failed_embedding_has_its_kind(
    make: MakeEmbedding, reply: Reply, kind: ProviderErrorKind, server: ProviderServer
) -> None:
    server.script(reply)
    embedding = make(server.url, PATIENT)

    with pytest.raises(ProviderError) as caught:
        await embedding.embed(TEXTS, purpose=Purpose.QUERY)
    await embedding.aclose()

    assert caught.value.kind is kind


@embeddings
@pytest.mark.parametrize("purpose", list(Purpose))
async def test_hanging_embedding_is_a_timeout(
    make: MakeEmbedding, purpose: Purpose, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.HANG))
    embedding = make(server.url, IMPATIENT)

    with pytest.raises(ProviderError) as caught:
        await embedding.embed(TEXTS, purpose=purpose)
    await embedding.aclose()

    assert caught.value.kind is K.TIMEOUT
    await server.wait_until(lambda: server.aborts == 1)


@embeddings
async def test_batch_must_hold_at_least_one_text_and_at_most_what_the_provider_takes(
    make: MakeEmbedding, server: ProviderServer
) -> None:
    embedding = make(server.url, PATIENT)

    for count in (0, embedding.max_batch + 1):
        with pytest.raises(ValueError, match=f"1 to {embedding.max_batch} texts"):
            await embedding.embed(["text"] * count, purpose=Purpose.DOCUMENT)
    await embedding.aclose()

    assert not server.calls


async def test_openai_vectors_are_sorted_by_index(server: ProviderServer) -> None:
    server.script(Reply(), Reply(failure=Failure.SHUFFLED), Reply(failure=Failure.DOUBLE_INDEX))
    embedding = make_openai_embedding(server.url, PATIENT)
    expected = await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT)

    assert np.array_equal(await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT), expected)
    with pytest.raises(ProviderError):
        await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT)
    await embedding.aclose()


@pytest.mark.parametrize(
    ("make", "encoding_format"),
    [
        (make_openai_embedding, OPENAI_DIALECT.encoding_format),
        (make_compatible_embedding, COMPATIBLE_DIALECT.encoding_format),
    ],
)
async def test_encoding_format_is_always_explicit(
    make: MakeEmbedding, encoding_format: str, server: ProviderServer
) -> None:
    embedding = make(server.url, PATIENT)
    await embedding.embed(TEXTS, purpose=Purpose.DOCUMENT)
    await embedding.aclose()

    assert server.calls[0].body["encoding_format"] == encoding_format


async def test_nomic_gets_its_prefixes_and_no_silent_cut(server: ProviderServer) -> None:
    embedding = make_ollama_embedding(server.url, PATIENT)
    await embedding.embed(["a"], purpose=Purpose.DOCUMENT)
    await embedding.embed(["b"], purpose=Purpose.QUERY)
    await embedding.aclose()

    document, query = (call.body for call in server.calls)
    assert document["input"] == ["search_document: a"]
    assert query["input"] == ["search_query: b"]
    assert document["truncate"] is False
