"""The contract of the remote adapters, against a real HTTP server that speaks their formats."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest

from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import (
    ChatOption,
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
from app.llm.providers.anthropic import AnthropicProvider
from app.llm.providers.azure import AzureEmbedding, AzureProvider
from app.llm.providers.compatible import CompatibleEmbedding, CompatibleProvider
from app.llm.providers.gemini import GeminiEmbedding, GeminiProvider
from app.llm.providers.ollama import OllamaEmbedding, OllamaProvider
from app.llm.providers.openai import (
    COMPATIBLE_DIALECT,
    OPENAI_DIALECT,
    OpenAIEmbedding,
    OpenAIProvider,
)
from app.llm.providers.openrouter import OpenRouterProvider
from tests.provider_server import (
    ANTHROPIC_MODELS,
    DEFAULT_ANSWER,
    DIMENSIONS,
    OPENROUTER_MODELS,
    Call,
    Failure,
    ProviderServer,
    Reply,
)

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


def make_azure(url: str, timeouts: Timeouts) -> LLMProvider:
    return AzureProvider(
        endpoint=url,
        api_key=KEY,
        api_version="2024-10-21",
        deployments=("o3-prod", "m"),
        timeouts=timeouts,
    )


def make_compatible(url: str, timeouts: Timeouts) -> LLMProvider:
    return CompatibleProvider(api_key=KEY, base_url=f"{url}/v1", timeouts=timeouts)


def make_openrouter(url: str, timeouts: Timeouts) -> LLMProvider:
    return OpenRouterProvider(api_key=KEY, base_url=f"{url}/openrouter/v1", timeouts=timeouts)


def make_anthropic(url: str, timeouts: Timeouts) -> LLMProvider:
    return AnthropicProvider(api_key=KEY, base_url=f"{url}/anthropic", timeouts=timeouts)


def make_gemini(url: str, timeouts: Timeouts) -> LLMProvider:
    return GeminiProvider(api_key=KEY, base_url=f"{url}/gemini", timeouts=timeouts)


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


def make_azure_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return AzureEmbedding(
        endpoint=url,
        api_key=KEY,
        api_version="2024-10-21",
        deployment="text-embedding-3-small",
        timeouts=timeouts,
    )


def make_compatible_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return CompatibleEmbedding(api_key=KEY, base_url=f"{url}/v1", model="bge", timeouts=timeouts)


def make_gemini_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return GeminiEmbedding(
        api_key=KEY, base_url=f"{url}/gemini", model="gemini-embedding-001", timeouts=timeouts
    )


def make_ollama_embedding(url: str, timeouts: Timeouts) -> EmbeddingProvider:
    return OllamaEmbedding(base_url=url, model="nomic-embed-text", timeouts=timeouts)


CHAT = (
    *(make_openai, make_azure, make_compatible, make_openrouter),
    *(make_anthropic, make_gemini, make_ollama),
)
EMBEDDINGS = (
    *(make_openai_embedding, make_azure_embedding, make_compatible_embedding),
    *(make_gemini_embedding, make_ollama_embedding),
)
chat_providers = pytest.mark.parametrize("make", CHAT)
embeddings = pytest.mark.parametrize("make", EMBEDDINGS)


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
    cost_usd = Decimal("0.00042") if make is make_openrouter else None
    assert outcome.finish == Finish(FinishReason.STOP, Usage(3, 9), "m", cost_usd)


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


@chat_providers
@pytest.mark.parametrize("reply", [Reply(finish_reason="content_filter"), Reply(is_refusal=True)])
async def test_refusal_is_content_filter(
    make: MakeProvider, reply: Reply, server: ProviderServer
) -> None:
    if make is make_ollama:
        pytest.skip("Ollama filters nothing.")
    server.script(reply)

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert outcome.text == DEFAULT_ANSWER


@pytest.mark.parametrize("make", [*CHAT[:3], make_openrouter, make_anthropic, make_gemini])
async def test_blocked_prompt_is_a_filtered_answer_without_a_word(
    make: MakeProvider, server: ProviderServer
) -> None:
    """Not an error of the provider: another model would be asked the same."""
    server.script(Reply(failure=Failure.BLOCKED))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert outcome.deltas == 0


async def test_azure_filter_may_end_an_answer_in_the_middle(server: ProviderServer) -> None:
    server.script(Reply(failure=Failure.INLINE_BLOCKED))

    outcome = await consume(make_azure(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert DEFAULT_ANSWER.startswith(outcome.text)
    assert outcome.text


@chat_providers
async def test_filtered_answer_may_be_empty(make: MakeProvider, server: ProviderServer) -> None:
    if make is make_ollama:
        pytest.skip("Ollama filters nothing.")
    server.script(Reply(text="", finish_reason="content_filter"))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.reason is FinishReason.CONTENT_FILTER
    assert outcome.deltas == 0


@chat_providers
async def test_cached_tokens_are_part_of_the_input(
    make: MakeProvider, server: ProviderServer
) -> None:
    if make is make_ollama:
        pytest.skip("Ollama does not tell.")
    server.script(Reply(cached_tokens=2))

    outcome = await consume(make(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.usage == Usage(3, 9, cached_input_tokens=2)


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(0, Decimal(0)), (1.25, Decimal("1.25")), (1e-7, Decimal("1E-7"))]
    + [(odd, None) for odd in (None, -1, "1.0", True)],
)
async def test_openrouter_says_what_the_call_cost(
    cost: object, expected: Decimal | None, server: ProviderServer
) -> None:
    server.script(replace(Reply(), cost=cost))  # type: ignore[arg-type]  # vendors send anything

    outcome = await consume(make_openrouter(server.url, PATIENT))

    assert outcome.finish is not None
    assert outcome.finish.cost_usd == expected


async def test_openrouter_keeps_prompts_from_those_who_train_on_them(
    server: ProviderServer,
) -> None:
    await consume(make_openrouter(server.url, PATIENT))
    url = f"{server.url}/openrouter/v1"
    await consume(OpenRouterProvider(api_key=KEY, base_url=url, data_collection="allow"))

    denied, allowed = server.calls
    assert denied.body["provider"] == {"data_collection": "deny"}
    assert allowed.body["provider"] == {"data_collection": "allow"}
    assert denied.headers["x-openrouter-title"] == "Footnote"


SENT_OPTIONS: dict[MakeProvider, Callable[[Call], dict[str, object]]] = {
    **dict.fromkeys(CHAT[:4], lambda call: call.body),
    make_anthropic: lambda call: {
        "stop": call.body.get("stop_sequences"),
        "user": (call.body.get("metadata") or {}).get("user_id"),
    },
    make_gemini: lambda call: {
        "stop": call.body["generationConfig"].get("stopSequences"),
        "seed": call.body["generationConfig"].get("seed"),
        "top_p": call.body["generationConfig"].get("topP"),
        "temperature": call.body["generationConfig"].get("temperature"),
    },
    make_ollama: lambda call: call.body["options"],
}


@chat_providers
async def test_options_are_sent_where_they_are_supported(
    make: MakeProvider, server: ProviderServer
) -> None:
    given = {"stop": ("END",), "seed": 7, "top_p": 0.25, "user": "u-1"}
    provider = make(server.url, PATIENT)
    await consume(provider, replace(ask(), **given))  # type: ignore[arg-type]  # of many types
    bare = make(server.url, PATIENT)
    await consume(bare)

    expected = {"temperature": 0.5} | given | {"stop": ["END"]}
    sent, plain = (SENT_OPTIONS[make](call) for call in server.calls)
    taken = provider.supports(ask().model)
    for option in ChatOption:
        value = expected[option.value] if option in taken else None
        assert sent.get(option.value) == value, option
        if option is not ChatOption.TEMPERATURE:
            assert plain.get(option.value) is None


@chat_providers
async def test_no_prompt_and_no_key_goes_where_another_host_sends_it(
    make: MakeProvider, server: ProviderServer
) -> None:
    async with ProviderServer() as other:
        for status in (302, 307, 308):
            server.script(
                Reply(failure=Failure.STATUS, status=status, location=f"{other.url}/v1/messages")
            )
            outcome = await consume(make(server.url, PATIENT))
            assert outcome.error is not None
        assert other.calls == []
    assert len(server.calls) == 3


@embeddings
async def test_no_text_to_embed_goes_where_another_host_sends_it(
    make: MakeEmbedding, server: ProviderServer
) -> None:
    async with ProviderServer() as other:
        server.script(
            Reply(failure=Failure.STATUS, status=307, location=f"{other.url}/v1/embeddings")
        )
        provider = make(server.url, PATIENT)
        try:
            with pytest.raises(ProviderError) as caught:
                await provider.embed(["text"], purpose=Purpose.DOCUMENT)
        finally:
            await provider.aclose()
        assert caught.value.kind is ProviderErrorKind.PROTOCOL
        assert other.calls == []


@pytest.mark.parametrize("make", [make_anthropic, make_gemini])
async def test_system_words_stand_apart_and_roles_take_turns(
    make: MakeProvider, server: ProviderServer
) -> None:
    said = [
        *((Role.SYSTEM, "Answer."), (Role.USER, "One."), (Role.USER, "Two.")),
        *((Role.ASSISTANT, "Yes."), (Role.SYSTEM, "Briefly."), (Role.USER, "Three.")),
    ]
    messages = tuple(Message(role, content) for role, content in said)
    await consume(make(server.url, PATIENT), replace(ask(), messages=messages))

    body = server.calls[0].body
    if make is make_anthropic:
        assert body["system"] == "Answer.\n\nBriefly."
        turns = [(turn["role"], turn["content"]) for turn in body["messages"]]
    else:
        assert body["systemInstruction"]["parts"] == [{"text": "Answer.\n\nBriefly."}]
        turns = [
            (turn["role"], "\n\n".join(part["text"] for part in turn["parts"]))
            for turn in body["contents"]
        ]
    answerer = "assistant" if make is make_anthropic else "model"
    assert turns == [("user", "One.\n\nTwo."), (answerer, "Yes."), ("user", "Three.")]


async def test_anthropic_gets_no_temperature(server: ProviderServer) -> None:
    """Its newer models refuse one, and its SDK has no such parameter."""
    await consume(make_anthropic(server.url, PATIENT))

    body = server.calls[0].body
    assert body["max_tokens"] == 256
    assert not {"temperature", "top_p", "top_k"} & body.keys()


async def test_gemini_limit_per_minute_is_no_empty_account(server: ProviderServer) -> None:
    words = "You exceeded your current quota, please check your plan and billing details."
    limit = Reply(failure=Failure.STATUS, status=429, error=words)
    server.script(replace(limit, retry_after="17.5"), limit)

    limited = await consume(make_gemini(server.url, PATIENT))
    empty = await consume(make_gemini(server.url, PATIENT))

    assert limited.error is not None
    assert (limited.error.kind, limited.error.retry_after_s) == (K.RATE_LIMITED, 17.5)
    assert empty.error is not None
    assert empty.error.kind is K.QUOTA


async def test_gemini_key_that_is_none_is_refused(server: ProviderServer) -> None:
    server.script(Reply(failure=Failure.STATUS, status=400, code="API_KEY_INVALID"))

    outcome = await consume(make_gemini(server.url, PATIENT))

    assert outcome.error is not None
    assert outcome.error.kind is K.AUTH


async def test_deployments_are_azures_models(server: ProviderServer) -> None:
    await consume(make_azure(server.url, PATIENT), ask(model="o3-prod"))
    provider = make_azure(server.url, PATIENT)
    listed = await provider.list_models()
    window = await provider.context_window("gpt-4.1-eu")
    await provider.aclose()

    assert listed == ["m", "o3-prod"]
    assert window == 1_047_576
    (call,) = server.calls
    assert call.path == "/openai/deployments/o3-prod/chat/completions"
    assert "temperature" not in call.body


async def test_server_without_a_key_gets_none(server: ProviderServer) -> None:
    await consume(CompatibleProvider(api_key="", base_url=server.openai_url, timeouts=PATIENT))

    assert "authorization" not in server.calls[0].headers


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


# What the SDKs look for in the environment, and what belongs to other programs of the same vendors.
CANARIES = {
    "OPENAI_API_KEY": "leak-openai",
    "OPENAI_ADMIN_KEY": "leak-admin",
    "OPENAI_ORG_ID": "leak-org",
    "OPENAI_PROJECT_ID": "leak-project",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/leak",
    "OPENAI_API_VERSION": "leak-version",
    "OPENAI_CUSTOM_HEADERS": "X-Team: leak\nAuthorization: Bearer leak",
    "AZURE_OPENAI_API_KEY": "leak-azure",
    "AZURE_OPENAI_AD_TOKEN": "leak-ad",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9/leak",
    "ANTHROPIC_API_KEY": "leak-anthropic",
    "ANTHROPIC_AUTH_TOKEN": "leak-token",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9/leak",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Team: leak\nAuthorization: Bearer leak",
    "ANTHROPIC_PROFILE": "leak",
    "GEMINI_API_KEY": "leak-gemini",
    "GOOGLE_API_KEY": "leak-google",
    "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9/leak",
    "GOOGLE_VERTEX_BASE_URL": "http://127.0.0.1:9/leak",
    "GOOGLE_GENAI_USE_VERTEXAI": "true",
    "GOOGLE_GENAI_USE_ENTERPRISE": "true",
    "GOOGLE_GENAI_API_VERSION": "leak",
    "GOOGLE_CLOUD_PROJECT": "leak-cloud",
    "GOOGLE_CLOUD_LOCATION": "leak-location",
    "OPENROUTER_API_KEY": "leak-openrouter",
}
BEARER = ("authorization", f"Bearer {KEY}")
CREDENTIALS: dict[object, tuple[str, str] | None] = {
    make_azure: ("api-key", KEY),
    make_azure_embedding: ("api-key", KEY),
    make_gemini: ("x-goog-api-key", KEY),
    make_gemini_embedding: ("x-goog-api-key", KEY),
    make_ollama: None,
    make_ollama_embedding: None,
}
CREDENTIAL_HEADERS = {"authorization", "api-key", "x-api-key", "x-goog-api-key"}
IDENTITY_HEADERS = {"openai-organization", "openai-project", "x-team", "x-goog-user-project"}


def plant_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


def check_own_credentials(call: Call, credentials: tuple[str, str] | None) -> None:
    assert "leak" not in f"{call.path} {call.headers} {call.body}"
    sent = {(name, call.headers[name]) for name in CREDENTIAL_HEADERS & call.headers.keys()}
    assert sent == ({credentials} if credentials else set())
    assert not IDENTITY_HEADERS & call.headers.keys()


@chat_providers
async def test_nothing_of_the_environment_reaches_a_chat_server(
    make: MakeProvider, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_canaries(monkeypatch)

    provider = make(server.url, PATIENT)
    await provider.list_models()
    outcome = await consume(provider)

    assert outcome.finish is not None
    assert len(server.calls) == (1 if make is make_azure else 2)
    for call in server.calls:
        check_own_credentials(call, CREDENTIALS.get(make, BEARER))


@embeddings
async def test_nothing_of_the_environment_reaches_an_embedding_server(
    make: MakeEmbedding, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_canaries(monkeypatch)

    embedding = make(server.url, PATIENT)
    await embedding.embed(["text"], purpose=Purpose.QUERY)
    await embedding.aclose()

    (call,) = server.calls
    check_own_credentials(call, CREDENTIALS.get(make, BEARER))


@chat_providers
@pytest.mark.parametrize(
    "reply",
    [
        Reply(failure=Failure.STATUS, status=401, error=f"Incorrect API key provided: {KEY}"),
        Reply(failure=Failure.INLINE_ERROR, error=f"Incorrect API key provided: {KEY}"),
        Reply(),
    ],
    ids=["refused", "inline", "answered"],
)
async def test_no_key_and_no_prompt_in_an_error_or_a_log(
    make: MakeProvider,
    reply: Reply,
    server: ProviderServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even when the vendor repeats the key in its answer."""
    server.script(reply)
    with caplog.at_level(logging.INFO):
        outcome = await consume(make(server.url, PATIENT), ask(content="my secret question"))

    assert (outcome.error is None) is (reply.failure is Failure.NONE)
    seen = f"{outcome.error!r} {outcome.error} {caplog.text}"
    if outcome.error:
        seen += f" {outcome.error.message} {outcome.error.details}"
    assert KEY not in seen
    assert "secret question" not in seen


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


@pytest.mark.parametrize(
    ("make", "models"),
    [
        (make_openai, ["gpt-4.1-mini", "text-embedding-3-small"]),
        (make_compatible, ["gpt-4.1-mini", "text-embedding-3-small"]),
        (make_openrouter, list(OPENROUTER_MODELS)),
        (make_anthropic, list(ANTHROPIC_MODELS)),
        (make_gemini, ["gemini-3.8-flash", "gemini-3.8-pro", "gemini-embedding-001"]),
        (make_ollama, ["nomic-embed-text:latest", "qwen3:8b", "llama3.2:latest"]),
    ],
)
async def test_models_are_listed(
    make: MakeProvider, models: list[str], server: ProviderServer
) -> None:
    provider = make(server.url, PATIENT)

    assert await provider.list_models() == models

    await provider.aclose()


@pytest.mark.parametrize(
    ("make", "model", "window"),
    [
        (make_openrouter, "anthropic/claude-sonnet-5", 200_000),
        (make_anthropic, "claude-sonnet-5", 500_000),
        (make_anthropic, "claude-unheard-of", 200_000),
        (make_gemini, "gemini-3.8-pro", 1_064_000),
        (make_gemini, "gemini-unheard-of", 8_192),
    ],
)
async def test_windows_are_what_the_vendor_lists(
    make: MakeProvider, model: str, window: int, server: ProviderServer
) -> None:
    provider = make(server.url, PATIENT)

    assert await provider.context_window(model) == window

    await provider.aclose()


@chat_providers
async def test_a_list_that_fails_has_its_kind(make: MakeProvider, server: ProviderServer) -> None:
    if make is make_azure:
        pytest.skip("Its list is a setting.")
    server.looks = Reply(failure=Failure.STATUS, status=401)
    provider = make(server.url, PATIENT)

    with pytest.raises(ProviderError) as caught:
        await provider.list_models()
    await provider.aclose()

    assert caught.value.kind is K.AUTH


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
