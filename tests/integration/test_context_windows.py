"""How much a model takes: asked from a real HTTP server, remembered, or taken from a table."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.chat.assembly import assemble, outline_prompt
from app.config import Settings
from app.core.errors import ProviderError, ProviderErrorKind
from app.llm.base import ChatRequest, LLMProvider, Message, Role, Timeouts
from app.llm.context_windows import (
    DEFAULT_CONTEXT_WINDOW,
    Remembered,
    find_published_window,
    read_listed_windows,
)
from app.llm.providers.extractive import ExtractiveProvider
from app.llm.providers.ollama import MAX_CONTEXT_TOKENS, OllamaProvider
from app.llm.providers.openai import OPENAI_DIALECT, Dialect, OpenAIProvider
from app.llm.registry import open_models, timeouts_of
from app.llm.vocabularies import CL100K, Vocabularies
from tests.provider_server import Failure, ProviderServer, Reply


@asynccontextmanager
async def open_openai(
    server: ProviderServer, dialect: Dialect | None = None
) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(api_key="k", base_url=server.openai_url, dialect=dialect)
    yield provider
    await provider.aclose()


@asynccontextmanager
async def open_ollama(server: ProviderServer) -> AsyncIterator[OllamaProvider]:
    provider = OllamaProvider(base_url=server.url)
    yield provider
    await provider.aclose()


def show(context_length: Any, parameters: str = "", architecture: str = "qwen3") -> dict[str, Any]:
    info = {"general.architecture": "qwen3", f"{architecture}.context_length": context_length}
    return {"model_info": info, "parameters": parameters}


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-4.1-mini", 1_047_576),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo-2024-04-09", 128_000),
        ("gpt-4o-mini", 128_000),
        ("ft:gpt-4o-mini:acme::1", 128_000),
        ("gpt-5-mini-2025-08-07", 400_000),
        ("gpt-5.1", 400_000),
        ("gpt-5.1-chat-latest", 128_000),
        ("gpt-5.5-pro", 1_050_000),
        ("gpt-5.4-nano", 400_000),
        ("openai/o3-mini", 200_000),
        ("o1-mini", 128_000),
        ("llama3.2", None),
        ("", None),
    ],
)
def test_longest_prefix_of_the_table_counts(model: str, window: int | None) -> None:
    assert find_published_window(model) == window


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"max_model_len": 32_768}, 32_768),  # vLLM
        ({"context_length": 200_000}, 200_000),  # OpenRouter
        ({"context_window": 131_072}, 131_072),  # Groq
        ({"meta": {"n_ctx_train": 131_072}}, 131_072),  # llama.cpp
        ({"meta": {"n_ctx_train": 131_072, "n_ctx": 4_096}}, 4_096),
        ({"meta": {"n_ctx_train": 131_072, "n_ctx": 0}}, 131_072),
        ({"max_model_len": None, "meta": None}, DEFAULT_CONTEXT_WINDOW),
        ({"max_model_len": "many"}, DEFAULT_CONTEXT_WINDOW),
        ({"max_model_len": -1}, DEFAULT_CONTEXT_WINDOW),
        ({"max_model_len": True}, DEFAULT_CONTEXT_WINDOW),
        ({}, DEFAULT_CONTEXT_WINDOW),
    ],
)
async def test_compatible_servers_tell_in_their_lists(
    fields: dict[str, Any], window: int, server: ProviderServer
) -> None:
    server.openai_models = ("other", "meta/llama")
    server.openai_fields = {"meta/llama": fields, "other": {"max_model_len": 777}}
    async with open_openai(server) as provider:
        windows = [await provider.context_window(model) for model in ("meta/llama", "other")]

    # Only where one window is all that a server tells, it is anybody's.
    assert windows == [window if window != DEFAULT_CONTEXT_WINDOW else 777, 777]
    assert len(server.calls) == 1


async def test_unlisted_model_is_looked_up_in_the_table(server: ProviderServer) -> None:
    server.openai_models = ("a", "b")
    server.openai_fields = {"a": {"max_model_len": 1000}, "b": {"max_model_len": 2000}}
    async with open_openai(server) as provider:
        assert await provider.context_window("openai/gpt-4o") == 128_000
        assert await provider.context_window("nobody/knows") == DEFAULT_CONTEXT_WINDOW


async def test_aliases_and_odd_entries_are_read() -> None:
    models = [
        None,
        "model",
        {"id": "a", "aliases": ["b", "c"], "max_model_len": 5},
        {"id": "d", "aliases": "no", "meta": {"n_ctx": 6}},
        {"id": "e"},
    ]

    assert read_listed_windows(models) == {"a": 5, "b": 5, "c": 5, "d": 6}
    with pytest.raises(TypeError):
        read_listed_windows({"a": 1})


async def test_openai_itself_is_not_asked(server: ProviderServer) -> None:
    async with open_openai(server, OPENAI_DIALECT) as provider:
        assert await provider.context_window("gpt-4.1") == 1_047_576
        assert await provider.context_window("gpt-99") == DEFAULT_CONTEXT_WINDOW

    assert not server.calls


@pytest.mark.parametrize(
    ("shown", "window"),
    [
        (show(40_960), 40_960),
        (show(40_960, "stop    x\nnum_ctx                        16384"), 16_384),
        (show(2_048, "num_ctx 16384\n"), 2_048),
        (show(None, "num_ctx 6000"), 6_000),
        (show(10_000_000), MAX_CONTEXT_TOKENS),
        (show(40_960, "num_ctx zero"), 40_960),
        (show(40_960, "num_ctx 0"), 40_960),
        (show("many"), DEFAULT_CONTEXT_WINDOW),
        (show(40_960, architecture="clip"), DEFAULT_CONTEXT_WINDOW),
        ({"model_info": [], "parameters": {}}, DEFAULT_CONTEXT_WINDOW),
        ({}, DEFAULT_CONTEXT_WINDOW),
    ],
)
async def test_ollama_shows_its_models(
    shown: dict[str, Any], window: int, server: ProviderServer
) -> None:
    server.ollama_shows = {"qwen3:8b": shown}
    async with open_ollama(server) as provider:
        assert await provider.context_window("qwen3:8b") == window
        assert await provider.context_window("qwen3:8b") == window

    assert [call.body for call in server.calls] == [{"model": "qwen3:8b"}]


async def test_extractive_takes_anything() -> None:
    assert await ExtractiveProvider().context_window("extractive") >= 1_000_000
    assert await ExtractiveProvider().tokenizer("extractive") is None


FAILURES = [
    Reply(failure=Failure.STATUS, status=500),
    Reply(failure=Failure.STATUS, status=404),
    Reply(failure=Failure.RESET_EARLY),
    Reply(failure=Failure.HTML),
    Reply(failure=Failure.HANG),
]


@pytest.mark.parametrize("reply", FAILURES, ids=lambda reply: reply.failure.value)
async def test_failure_is_the_table_or_the_default(reply: Reply, server: ProviderServer) -> None:
    server.looks = reply
    async with open_openai(server) as openai, open_ollama(server) as ollama:
        windows = await asyncio.gather(
            openai.context_window("gpt-4o"),
            openai.context_window("llama"),
            ollama.context_window("llama3.2"),
            ollama.context_window("llama3.2"),
        )
        again = await ollama.context_window("llama3.2")

    assert list(windows) == [128_000, *[DEFAULT_CONTEXT_WINDOW] * 3]
    assert again == DEFAULT_CONTEXT_WINDOW
    # One look each: questions share it, and the next one does not try again at once.
    assert len(server.calls) == 2


async def test_no_listener_is_the_default(server: ProviderServer) -> None:
    await server.__aexit__()
    async with open_openai(server) as openai, open_ollama(server) as ollama:
        assert await openai.context_window("llama") == DEFAULT_CONTEXT_WINDOW
        assert await ollama.context_window("llama3.2") == DEFAULT_CONTEXT_WINDOW


async def test_questions_at_once_share_one_look(server: ProviderServer) -> None:
    server.delay_s = 0.1
    async with open_ollama(server) as provider:
        windows = await asyncio.gather(*(provider.context_window("llama3.2") for _ in range(20)))

    assert set(windows) == {131_072}
    assert len(server.calls) == 1


async def test_slow_look_is_not_waited_for_and_serves_the_next_question() -> None:
    may_answer, has_answered = asyncio.Event(), asyncio.Event()

    async def ask(key: str) -> str:
        await may_answer.wait()
        has_answered.set()
        return f"window of {key}"

    remembered = Remembered(ask)
    assert await remembered.get("a") is None
    assert await remembered.get("a") is None  # at once: the time to wait is over
    may_answer.set()
    await has_answered.wait()
    await asyncio.sleep(0)

    assert await remembered.get("a") == "window of a"
    assert await remembered.get("b") == "window of b"
    await remembered.aclose()


async def test_old_answer_is_used_while_a_new_one_is_fetched_and_when_there_is_none() -> None:
    answers: asyncio.Queue[int | ProviderError] = asyncio.Queue()
    answers.put_nowait(1)

    async def ask(_key: str) -> int:
        answer = await answers.get()
        answers.task_done()
        if isinstance(answer, ProviderError):
            raise answer
        return answer

    remembered = Remembered(ask, fresh_s=0)
    assert await remembered.get("a") == 1
    await asyncio.sleep(0)  # the look is put away
    assert await remembered.get("a") == 1  # begins a look, and does not wait for it
    answers.put_nowait(2)
    await answers.join()
    await asyncio.sleep(0)
    assert remembered.peek("a") == 2

    assert await remembered.get("a") == 2
    answers.put_nowait(ProviderError("Gone.", kind=ProviderErrorKind.UNREACHABLE, provider="o"))
    await answers.join()
    await asyncio.sleep(0)
    assert await remembered.get("a") == 2
    await remembered.aclose()


async def test_cancelled_question_leaves_the_look_to_the_others() -> None:
    has_begun, may_answer = asyncio.Event(), asyncio.Event()

    async def ask(_key: str) -> int:
        has_begun.set()
        await may_answer.wait()
        return 7

    remembered = Remembered(ask)
    first = asyncio.create_task(remembered.get("a"))
    await has_begun.wait()
    second = asyncio.create_task(remembered.get("a"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    may_answer.set()

    assert await second == 7
    await remembered.aclose()


async def test_only_so_many_keys_are_remembered() -> None:
    async def ask(key: str) -> str:
        return key

    remembered = Remembered(ask)
    for n in range(300):
        await remembered.get(str(n))

    assert remembered.peek("0") is None
    assert remembered.peek("299") == "299"
    await remembered.aclose()


async def test_closing_ends_a_look(server: ProviderServer) -> None:
    server.looks = Reply(failure=Failure.HANG)
    async with open_ollama(server) as provider:
        question = asyncio.create_task(provider.context_window("llama3.2"))
        await server.wait_until(lambda: server.open_streams == 1)

    assert await question == DEFAULT_CONTEXT_WINDOW
    await server.wait_until(lambda: server.open_streams == 0)


@pytest.mark.parametrize("window", [2_048, 4_096, 6_000, 8_192, 20_000, 131_072])
@pytest.mark.parametrize("words", [10, 1_000])
@pytest.mark.parametrize("max_tokens", [50, 1_024, 4_096])
async def test_ollama_is_asked_for_a_window_that_holds_what_was_planned(
    window: int, words: int, max_tokens: int, server: ProviderServer
) -> None:
    server.ollama_shows = {"m": show(window)}
    history = [Message(role, "word " * words) for role in (Role.USER, Role.ASSISTANT)] * 20
    async with open_ollama(server) as provider:
        prompt = await outline_prompt(
            provider,
            "m",
            history=history,
            question="How were sales?",
            with_sources=True,
            max_tokens=max_tokens,
        )
        assembled = await assemble(prompt)
        request = ChatRequest("m", assembled.messages, 0.0, assembled.budget.answer)
        async for _ in provider.stream(request):
            pass

    options = server.calls[-1].body["options"]
    used = assembled.budget.total
    assert used <= options["num_ctx"] <= window
    assert options["num_ctx"] in {window, 4_096, 8_192, 16_384, 32_768, 65_536}
    assert options["num_predict"] == assembled.budget.answer


async def test_which_servers_models_are_counted_by_openais_vocabularies(
    server: ProviderServer, tmp_path: Path
) -> None:
    class Found(Exception):
        pass

    class Spy(Vocabularies):
        async def find(self, model: str) -> None:
            raise Found(model)

    def open_one(dialect: Dialect | None) -> LLMProvider:
        return OpenAIProvider(
            api_key="k",
            base_url=server.openai_url,
            dialect=dialect,
            vocabularies=Spy(tmp_path, {"": CL100K}),
        )

    ours, others = open_one(OPENAI_DIALECT), open_one(None)
    with pytest.raises(Found):
        await ours.tokenizer("gpt-4o")
    with pytest.raises(Found):
        await others.tokenizer("openai/gpt-4o")
    # Many servers call a model of their own by such a name.
    assert await others.tokenizer("gpt-4o") is None

    await ours.aclose()
    await others.aclose()


def settings_with(tmp_path: Path, **values: Any) -> Settings:
    given: dict[str, Any] = {"ollama_base_url": "", "openai_api_key": "", "data_dir": tmp_path}
    return Settings(_env_file=None, **given | values)


def test_settings_are_the_timeouts(tmp_path: Path) -> None:
    assert timeouts_of(settings_with(tmp_path)) == Timeouts()
    given = {
        "model_connect_timeout_s": 1,
        "model_first_content_timeout_s": 2,
        "model_idle_timeout_s": 3,
        "model_total_timeout_s": 4,
    }
    assert timeouts_of(settings_with(tmp_path, **given)) == Timeouts(1, 2, 3, 4)


@pytest.mark.parametrize("model", ["openai/gpt-4o", "ollama/llama3.2"])
@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("model_first_content_timeout_s", Reply(failure=Failure.HANG)),
        ("model_idle_timeout_s", Reply(failure=Failure.STALL)),
        ("model_total_timeout_s", Reply(text="word " * 4000, chunk_delay_s=0.01)),
    ],
)
async def test_settings_reach_the_models(
    model: str, name: str, reply: Reply, tmp_path: Path, server: ProviderServer
) -> None:
    settings = settings_with(
        tmp_path,
        openai_api_key="k",
        openai_base_url=server.openai_url,
        ollama_base_url=server.url,
        **{name: 1 if name == "model_total_timeout_s" else 0.2},
    )
    server.script(reply)
    async with open_models(settings) as models:
        provider, vendors = await models.resolve(model)
        request = ChatRequest(vendors, (Message(Role.USER, "Hi"),), 0.0, 100)
        with pytest.raises(ProviderError) as caught:
            async for _ in provider.stream(request):
                pass

    assert caught.value.kind is ProviderErrorKind.TIMEOUT


@pytest.fixture
def unaccepting_url() -> Iterator[str]:
    """A listener whose queue is full: further connections are never taken."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse at once")
@pytest.mark.parametrize("model", ["openai/gpt-4o", "ollama/llama3.2"])
async def test_setting_bounds_the_wait_for_a_connection(
    model: str, tmp_path: Path, unaccepting_url: str
) -> None:
    settings = settings_with(
        tmp_path,
        openai_api_key="k",
        openai_base_url=f"{unaccepting_url}/v1",
        ollama_base_url=unaccepting_url,
        model_connect_timeout_s=0.2,
        model_first_content_timeout_s=600,
    )
    async with open_models(settings) as models, asyncio.timeout(30):
        provider, vendors = await models.resolve(model)
        with pytest.raises(ProviderError) as caught:
            await anext(provider.stream(ChatRequest(vendors, (Message(Role.USER, "Hi"),), 0.0, 9)))

    assert caught.value.kind is ProviderErrorKind.TIMEOUT


async def test_warming_up_looks_at_the_default_model(
    tmp_path: Path, server: ProviderServer
) -> None:
    settings = settings_with(
        tmp_path,
        ollama_base_url=server.url,
        default_model="ollama/llama3.2",
        embedding_model="ollama/nomic-embed-text",
    )
    async with open_models(settings) as models:
        await models.warm_up()
        provider, model = await models.resolve(None)
        before = len(server.calls)
        assert await provider.context_window(model) == 131_072
        assert len(server.calls) == before
