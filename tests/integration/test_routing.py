"""Which models a question goes to, who takes over, and what the breaker and the meter are told.

Real adapters against a stand-in of the vendors, with a real Redis and Postgres.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.config import Settings
from app.core.db import Database
from app.core.errors import (
    AppError,
    BudgetExceeded,
    Conflict,
    InvalidRequest,
    NotFound,
    ProviderError,
    ProviderErrorKind,
    Unavailable,
)
from app.llm.attempts import MAX_ATTEMPTS, SKIPPED, Attempts, Prompt
from app.llm.base import ChatRequest, Finish, Message, Role, Source, TextDelta, Usage
from app.llm.breaker import BreakerState, CircuitBreaker, breaker_key
from app.llm.metering import CallMeter, CallResult, ModelCall, Unmetered
from app.llm.model_aliases import Alias, AliasDirectory, AliasTarget
from app.llm.provider_health import read_health
from app.llm.registry import open_models
from app.llm.routing import (
    CHAT_POLICY,
    PROBE_INTERVAL_S,
    Candidate,
    Chain,
    Deployments,
    ModelRouter,
    draw_order,
)
from app.llm.wire import provider_error
from tests.provider_server import Failure, ProviderServer, Reply

K = ProviderErrorKind
EXTRACTIVE_ID = "extractive/extractive"
ANSWER = "Seven zebras [1]."


class Routing:
    """One process's routing over the shared Redis and database."""

    def __init__(self, router: ModelRouter) -> None:
        self.router = router

    async def ids(self, model_id: str | None, **options: object) -> list[str]:
        chain = await self.router.route(model_id, **options)  # type: ignore[arg-type]  # per test
        return [candidate.model_id for candidate in chain]

    async def chain(self, *model_ids: str) -> Chain:
        found = [await self.router.models.resolve(model_id) for model_id in model_ids]
        return tuple(Candidate(provider, model) for provider, model in found)

    def attempts(self, meter: CallMeter | None = None, *, total_s: float = 30.0) -> Attempts:
        return Attempts(self.router.deployments, meter or Unmetered(), total_s)


class Processes:
    """Makes processes: each knows of the others only what Redis and the database hold."""

    def __init__(
        self,
        stack: AsyncExitStack,
        server: ProviderServer,
        db: Database,
        redis: Redis,
        folder: Path,
    ) -> None:
        self._stack, self._server, self._db = stack, server, db
        self._redis, self._folder = redis, folder

    async def start(self, **changes: object) -> Routing:
        values: dict[str, object] = {
            "openai_api_key": "sk-test",
            "openai_base_url": self._server.openai_url,
            "ollama_base_url": self._server.url,
            "model_first_content_timeout_s": 5.0,
        }
        settings = Settings(_env_file=None, data_dir=self._folder, **values | changes)  # type: ignore[arg-type]  # pydantic converts
        models = await self._stack.enter_async_context(open_models(settings))
        return Routing(
            ModelRouter(
                models, AliasDirectory(self._db), Deployments(settings, self._redis), total_s=30
            )
        )


@pytest.fixture
async def processes(
    server: ProviderServer, db: Database, redis: Redis, tmp_path: Path
) -> AsyncIterator[Processes]:
    server.default = Reply(text=ANSWER)
    async with AsyncExitStack() as stack:
        yield Processes(stack, server, db, redis, tmp_path)


@pytest.fixture
async def routing(processes: Processes) -> Routing:
    return await processes.start()


@pytest.fixture
async def aliases(db: Database) -> AsyncIterator[AliasDirectory]:
    """Of the deployment, so there are none of them before and after."""
    directory = AliasDirectory(db)
    yield directory
    left = await directory.list_all()
    while left:
        for alias in left:
            try:
                await directory.delete(alias.name)
            except Conflict:
                continue
        left = await directory.list_all()


def alias_of(name: str, *targets: str | tuple[str, int], allow_extractive: bool = False) -> Alias:
    found = [(each, 0) if isinstance(each, str) else each for each in targets]
    return Alias(name, "", tuple(AliasTarget(*each) for each in found), allow_extractive)


async def prompt_for(candidate: Candidate) -> Prompt:
    messages = (Message(Role.USER, "How many zebras?"),)
    source = Source(1, "The zoo keeps seven zebras.", "zoo.pdf")
    request = ChatRequest(
        candidate.model, messages, 0.0, 64, question="How many zebras?", sources=(source,)
    )
    return Prompt(request, 10)


async def run(attempts: Attempts, chain: Chain) -> tuple[list[str], str]:
    """Ask a chain. Returns who was asked in order, and the whole text."""
    asked: list[str] = []
    texts: list[str] = []
    finishes = 0
    async with aclosing(attempts.ask(chain, prompt_for)) as told:
        async for each in told:
            match each:
                case Candidate():
                    assert not texts, "another model after the first text"
                    asked.append(each.model_id)
                case TextDelta():
                    texts.append(each.text)
                case Finish():
                    finishes += 1
    assert finishes == 1
    return asked, "".join(texts)


def outcomes(attempts: Attempts) -> list[tuple[str, str]]:
    return [(each.candidate.model, each.outcome) for each in attempts.made]


class Ledger:
    """A meter that keeps what it is told, and refuses from call `refuses_from` on."""

    def __init__(self, *, refuses_from: int = 99) -> None:
        self.calls: list[tuple[ModelCall, CallResult]] = []
        self._refuses_from = refuses_from

    @asynccontextmanager
    async def measure(self, call: ModelCall) -> AsyncIterator[CallResult]:
        if call.attempt >= self._refuses_from:
            raise BudgetExceeded("The money is spent.")
        result = CallResult()
        self.calls.append((call, result))
        try:
            yield result
        finally:
            result.cost_nano = 7


# From a name to a chain


async def test_who_is_named_answers_alone(routing: Routing) -> None:
    assert await routing.ids("openai/gpt-4.1", with_documents=True) == ["openai/gpt-4.1"]
    assert await routing.ids("llama3.2", with_documents=True) == ["ollama/llama3.2"]


async def test_behind_the_default_come_quotes_where_there_are_documents(routing: Routing) -> None:
    assert await routing.ids(None, with_documents=True) == ["openai/gpt-4.1-mini", EXTRACTIVE_ID]
    assert await routing.ids(None) == ["openai/gpt-4.1-mini"]


async def test_a_default_that_nobody_has_leaves_quotes_alone(processes: Processes) -> None:
    routing = await processes.start(default_model="no-such-model")
    assert await routing.ids(None, with_documents=True) == [EXTRACTIVE_ID]
    with pytest.raises(NotFound) as caught:
        await routing.ids(None)
    assert caught.value.code == "model_not_found"


async def test_an_alias_stands_for_its_targets_in_order(
    processes: Processes, aliases: AliasDirectory
) -> None:
    await aliases.put(alias_of("inner", "ollama/qwen3:8b", "openai/gpt-4.1"))
    await aliases.put(
        alias_of(
            "outer",
            *("openai/gpt-4.1", "inner", "anthropic/not-configured", "ollama/llama3.2"),
            allow_extractive=True,
        )
    )
    await aliases.put(alias_of("gpt-4.1", "ollama/llama3.2"))
    routing = await processes.start()

    targets = ["openai/gpt-4.1", "ollama/qwen3:8b", "ollama/llama3.2"]
    assert await routing.ids("outer", with_documents=True) == [*targets, EXTRACTIVE_ID]
    assert await routing.ids("outer") == targets
    # An alias goes before a model of the same bare name.
    assert await routing.ids("gpt-4.1", with_documents=True) == ["ollama/llama3.2"]


async def test_an_alias_of_models_that_are_not_there_is_not_found(
    processes: Processes, aliases: AliasDirectory
) -> None:
    await aliases.put(alias_of("gone", "anthropic/claude", allow_extractive=True))
    routing = await processes.start()
    with pytest.raises(NotFound):
        await routing.ids("gone", with_documents=True)


async def test_the_default_may_be_an_alias(processes: Processes, aliases: AliasDirectory) -> None:
    await aliases.put(alias_of("fast", "ollama/llama3.2", "openai/gpt-4.1"))
    routing = await processes.start(default_model="fast")

    chain = ["ollama/llama3.2", "openai/gpt-4.1"]
    assert await routing.ids(None, with_documents=True) == [*chain, EXTRACTIVE_ID]
    assert await routing.ids(None) == chain
    assert await routing.router.find_default() == "fast"


def test_weights_are_shares_of_the_first_place() -> None:
    targets = [
        AliasTarget("last"),
        AliasTarget("heavy", 3),
        AliasTarget("light", 1),
        AliasTarget("very last"),
    ]
    drawn = [tuple(each.model for each in draw_order(targets)) for _ in range(4000)]

    assert {each[2:] for each in drawn} == {("last", "very last")}
    firsts = Counter(each[0] for each in drawn)
    assert set(firsts) == {"heavy", "light"}
    # Five standard deviations around three quarters.
    assert 2860 < firsts["heavy"] < 3140


@pytest.mark.parametrize("model_id", ["openai/gpt-4.1", "llama3.2", "fast", None])
async def test_what_is_not_allowed_is_as_unknown_to_the_key(
    processes: Processes, aliases: AliasDirectory, model_id: str | None
) -> None:
    await aliases.put(alias_of("fast", "openai/gpt-4.1-nano"))
    routing = await processes.start()

    allowed = frozenset({"openai/gpt-4.1-nano"})
    with pytest.raises(NotFound) as unknown:
        await routing.ids("no-such-model", allowed=allowed)
    with pytest.raises(NotFound) as refused:
        await routing.ids(model_id, allowed=allowed, with_documents=True)

    assert "this API key may not use it" in unknown.value.message
    expected = unknown.value.message.replace("no-such-model", model_id or "that is the default")
    remedy = "" if model_id else "; name one that it may use"
    assert refused.value.message == f"{expected.removesuffix('.')}{remedy}."
    assert refused.value.code == unknown.value.code == "model_not_found"


async def test_a_bare_id_is_the_allowed_one_of_several_that_have_it(
    processes: Processes, server: ProviderServer
) -> None:
    routing = await processes.start(
        azure_openai_api_key="k",
        azure_openai_endpoint=server.url,
        azure_openai_deployments="gpt-4.1-mini",
    )
    allowed = frozenset({"azure/gpt-4.1-mini"})
    assert await routing.ids("gpt-4.1-mini") == ["openai/gpt-4.1-mini"]
    assert await routing.ids("gpt-4.1-mini", allowed=allowed) == ["azure/gpt-4.1-mini"]
    assert await routing.router.name_in_full("gpt-4.1-mini") == "openai/gpt-4.1-mini"
    assert await routing.router.name_in_full("gpt-4.1-mini", allowed=allowed) == (
        "azure/gpt-4.1-mini"
    )


async def test_latest_is_what_a_name_without_a_tag_means(routing: Routing) -> None:
    for allowed in ("ollama/llama3.2", "ollama/llama3.2:latest"):
        for model_id in ("llama3.2", "llama3.2:latest", "ollama/llama3.2"):
            assert await routing.ids(model_id, allowed=frozenset({allowed}))
    with pytest.raises(NotFound):
        await routing.ids("qwen3:8b", allowed=frozenset({"ollama/qwen3"}))


async def test_what_is_allowed_and_not_there_is_not_blamed_on_the_key(
    processes: Processes, aliases: AliasDirectory
) -> None:
    await aliases.put(alias_of("gone", "anthropic/claude"))
    routing = await processes.start()
    for model_id in ("gone", "no-such-model", "anthropic/claude"):
        with pytest.raises(NotFound) as caught:
            await routing.ids(model_id, allowed=frozenset({model_id}))
        assert "API key" not in caught.value.message


async def test_what_is_allowed_is_by_id_or_alias(
    processes: Processes, aliases: AliasDirectory
) -> None:
    await aliases.put(alias_of("fast", "openai/gpt-4.1-nano"))
    routing = await processes.start()
    allowed = frozenset({"ollama/llama3.2", "fast", "openai/gpt-4.1-mini"})

    assert await routing.ids("llama3.2", allowed=allowed) == ["ollama/llama3.2"]
    assert await routing.ids("fast", allowed=allowed) == ["openai/gpt-4.1-nano"]
    # Quotes are not among them.
    assert await routing.ids(None, allowed=allowed, with_documents=True) == ["openai/gpt-4.1-mini"]


# Aliases


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        (alias_of("openai/fast", "openai/gpt-4.1"), "invalid_alias_name"),
        (alias_of("Fast", "openai/gpt-4.1"), "invalid_alias_name"),
        (alias_of("", "openai/gpt-4.1"), "invalid_alias_name"),
        (alias_of("extractive", "openai/gpt-4.1"), "invalid_alias_name"),
        (alias_of("openai", "openai/gpt-4.1"), "invalid_alias_name"),
        (alias_of("fast", "nobody/gpt-4.1"), "invalid_target"),
        (alias_of("fast", "openai/"), "invalid_target"),
        (alias_of("fast", "gpt-4.1"), "invalid_target"),
        (alias_of("fast", "openai/gpt-4.1", "openai/gpt-4.1"), "invalid_target"),
        (alias_of("fast", "fast"), "alias_cycle"),
    ],
)
async def test_an_alias_that_can_not_be_is_refused(
    alias: Alias, code: str, aliases: AliasDirectory
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await aliases.put(alias)
    assert caught.value.code == code
    assert await aliases.list_all() == []


async def test_aliases_may_not_lead_back_to_themselves(aliases: AliasDirectory) -> None:
    await aliases.put(alias_of("a", "openai/gpt-4.1"))
    await aliases.put(alias_of("b", "a"))
    await aliases.put(alias_of("c", "b", "ollama/llama3.2"))
    with pytest.raises(InvalidRequest) as caught:
        await aliases.put(alias_of("a", "ollama/llama3.2", "c"))
    assert caught.value.code == "alias_cycle"


async def test_what_another_alias_needs_stays(aliases: AliasDirectory) -> None:
    assert await aliases.put(alias_of("a", "openai/gpt-4.1")) is True
    assert await aliases.put(alias_of("a", "openai/gpt-4.1", ("ollama/llama3.2", 7))) is False
    await aliases.put(alias_of("b", "a"))
    with pytest.raises(Conflict) as caught:
        await aliases.delete("a")
    assert caught.value.code == "alias_in_use"
    assert (await aliases.get("a")).targets[1] == AliasTarget("ollama/llama3.2", 7)
    await aliases.delete("b")
    await aliases.delete("a")
    with pytest.raises(NotFound):
        await aliases.get("a")
    assert await aliases.find_all() == {}


# Who takes over


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(failure=Failure.STATUS, status=401), K.AUTH),
        (Reply(failure=Failure.STATUS, status=402), K.QUOTA),
        (Reply(failure=Failure.STATUS, status=429), K.RATE_LIMITED),
        (Reply(failure=Failure.STATUS, status=500), K.OVERLOADED),
        (Reply(failure=Failure.STATUS, status=504), K.TIMEOUT),
        (Reply(failure=Failure.STATUS, status=404), K.MODEL_NOT_FOUND),
        (Reply(failure=Failure.RESET_EARLY), K.UNREACHABLE),
        (Reply(failure=Failure.HTML), K.PROTOCOL),
        (Reply(text="", failure=Failure.CUT), K.TRUNCATED),
    ],
)
async def test_another_model_takes_over_before_the_first_text(
    routing: Routing, server: ProviderServer, reply: Reply, kind: ProviderErrorKind
) -> None:
    server.by_model["first"] = reply
    attempts = routing.attempts()

    asked, text = await run(attempts, await routing.chain("openai/first", "ollama/llama3.2"))

    assert asked == ["openai/first", "ollama/llama3.2"]
    assert text == ANSWER
    assert outcomes(attempts) == [("first", f"provider_{kind}"), ("llama3.2", "completed")]


@pytest.mark.parametrize(
    "failure", [Failure.CUT, Failure.RESET, Failure.MALFORMED, Failure.INLINE_ERROR]
)
async def test_after_the_first_text_nobody_takes_over(
    routing: Routing, server: ProviderServer, failure: Failure
) -> None:
    server.by_model["first"] = Reply(text="one two three four", failure=failure, chunk_delay_s=0.01)
    attempts = routing.attempts()

    with pytest.raises(ProviderError):
        await run(attempts, await routing.chain("openai/first", "ollama/llama3.2"))

    assert attempts.calls == 1
    assert "".join(attempts.made[0].texts).startswith("one")


async def test_a_bad_request_is_nobody_elses(routing: Routing, server: ProviderServer) -> None:
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=400)
    attempts = routing.attempts()

    with pytest.raises(ProviderError) as caught:
        await run(attempts, await routing.chain("openai/first", "ollama/llama3.2", "extractive"))

    assert caught.value.kind is K.BAD_REQUEST
    assert attempts.calls == 1


async def test_what_is_too_long_for_one_goes_to_a_larger_window(
    routing: Routing, server: ProviderServer
) -> None:
    too_long = Reply(failure=Failure.STATUS, status=400, code="context_length_exceeded")
    server.by_model["gpt-4"] = too_long
    chain = await routing.chain(
        *("openai/gpt-4", "openai/gpt-4-0613", "openai/gpt-4.1", "extractive")
    )
    attempts = routing.attempts()

    assert (await run(attempts, chain))[0] == ["openai/gpt-4", "openai/gpt-4.1"]

    server.by_model["gpt-4.1"] = too_long
    with pytest.raises(ProviderError) as caught:  # quotes are for when models fail
        await run(routing.attempts(), chain)
    assert caught.value.kind is K.CONTEXT_LENGTH


async def test_there_are_three_attempts_and_the_last_one_is_the_quotes(
    routing: Routing, server: ProviderServer
) -> None:
    broken = [f"openai/m{n}@500" for n in range(4)]
    attempts = routing.attempts()
    with pytest.raises(ProviderError):
        await run(attempts, await routing.chain(*broken))
    assert attempts.calls == MAX_ATTEMPTS == 3

    attempts = routing.attempts()
    asked, text = await run(attempts, await routing.chain(*broken, "extractive"))
    assert asked == [*broken[:2], EXTRACTIVE_ID]
    assert "seven zebras" in text


async def test_one_deadline_holds_for_all_attempts(
    routing: Routing, server: ProviderServer
) -> None:
    """Each alone would wait for 5 s."""
    server.by_model["first"] = server.by_model["second"] = Reply(failure=Failure.HANG)
    attempts = routing.attempts(total_s=0.4)
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(ProviderError) as caught:
        await run(attempts, await routing.chain("openai/first", "openai/second", "ollama/llama3.2"))

    assert caught.value.kind is K.TIMEOUT
    assert loop.time() - began < 5
    await server.wait_until(lambda: server.open_streams == 0)


async def test_when_the_time_is_over_no_other_model_is_asked_and_blamed(
    processes: Processes, server: ProviderServer
) -> None:
    routing = await processes.start(
        model_first_content_timeout_s=1.0,
        azure_openai_api_key="k",
        azure_openai_endpoint=server.url,
    )
    server.by_model |= {f"hang-{n}": Reply(failure=Failure.HANG) for n in (1, 2)}
    chain = await routing.chain("openai/hang-1", "ollama/hang-2", "azure/gpt-4.1-mini")
    attempts = routing.attempts(total_s=1.7)

    with pytest.raises(ProviderError) as caught:
        await run(attempts, chain)

    assert caught.value.provider == "ollama"
    assert outcomes(attempts) == [("hang-1", "provider_timeout"), ("hang-2", "provider_timeout")]
    assert not [call for call in server.calls if call.path.startswith("/openai/deployments")]
    untouched = await routing.router.deployments.get(chain[2]).look()
    assert (untouched.state, untouched.kind) == (BreakerState.CLOSED, None)


async def test_quotes_are_left_when_models_took_all_of_the_time(
    routing: Routing, server: ProviderServer
) -> None:
    server.by_model["first"] = Reply(failure=Failure.HANG)
    asked, text = await run(
        routing.attempts(total_s=0.3), await routing.chain("openai/first", "extractive")
    )
    assert asked == ["openai/first", EXTRACTIVE_ID]
    assert "seven zebras" in text


async def test_who_leaves_closes_the_socket_and_gives_the_turn_back(
    routing: Routing, server: ProviderServer
) -> None:
    server.by_model["slow"] = Reply(text="one two three " * 50, chunk_delay_s=0.2)
    chain = await routing.chain("openai/slow")
    ledger = Ledger()
    attempts = routing.attempts(ledger)
    async with aclosing(attempts.ask(chain, prompt_for)) as told:
        async for each in told:
            if isinstance(each, TextDelta):
                break
    await server.wait_until(lambda: server.open_streams == 0)
    [(_, result)] = ledger.calls
    assert result.usage is not None
    assert result.usage.output_tokens > 0
    assert result.usage.is_estimated
    assert result.error_code == "interrupted"
    assert routing.router.deployments.get(chain[0]).in_flight == 0


# The meter


async def test_each_attempt_is_measured(routing: Routing, server: ProviderServer) -> None:
    server.by_model |= {
        "away": Reply(failure=Failure.STATUS, status=503),
        "garbled": Reply(failure=Failure.HTML),
    }
    ledger = Ledger()
    attempts = routing.attempts(ledger)

    await run(attempts, await routing.chain("openai/away", "openai/garbled", "ollama/llama3.2"))

    seen = [(call.provider, call.model, call.attempt, r.error_code) for call, r in ledger.calls]
    assert seen == [
        ("openai", "away", 1, "provider_overloaded"),
        ("openai", "garbled", 2, "provider_protocol"),
        ("ollama", "llama3.2", 3, None),
    ]
    away, garbled, answered = (result for _, result in ledger.calls)
    assert away.usage == Usage(0, 0)
    assert garbled.usage is None  # the vendor may have worked
    assert answered.usage is not None
    assert answered.usage.output_tokens > 0
    assert [attempt.cost_nano for attempt in attempts.made] == [7, 7, 7]
    assert {(call.input_tokens, call.max_output_tokens) for call, _ in ledger.calls} == {(10, 64)}


@pytest.mark.parametrize("refuses_from", [1, 2])
async def test_who_has_no_money_gets_no_other_model(
    routing: Routing, server: ProviderServer, refuses_from: int
) -> None:
    attempts = routing.attempts(Ledger(refuses_from=refuses_from))
    chain = await routing.chain("openai/x@500", "ollama/llama3.2", "extractive")
    with pytest.raises(BudgetExceeded):
        await run(attempts, chain)
    assert attempts.calls == refuses_from - 1
    assert len(server.calls) == refuses_from - 1
    assert attempts.made[-1].outcome == "budget_exceeded"


# The breaker


async def fail(routing: Routing, chain: Chain, times: int) -> None:
    for _ in range(times):
        with pytest.raises(AppError):
            await run(routing.attempts(), chain)


async def make_due(redis: Redis, model: str) -> None:
    async for key in redis.scan_iter(f"{breaker_key('openai', model)}#*"):
        await redis.hset(key, "turn_at", "0")


async def test_a_model_that_is_known_to_fail_is_passed_over_everywhere(
    processes: Processes, server: ProviderServer
) -> None:
    here, there = await processes.start(), await processes.start()
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=500)
    await fail(here, await here.chain("openai/first"), 5)
    calls = len(server.calls)

    attempts = there.attempts()
    chain = await there.chain("openai/first", "ollama/llama3.2")
    asked, _ = await run(attempts, chain)

    assert asked == ["ollama/llama3.2"]
    assert outcomes(attempts) == [("first", SKIPPED), ("llama3.2", "completed")]
    assert len(server.calls) == calls + 1


async def test_when_all_are_known_to_fail_it_says_when_to_come_again(
    routing: Routing, server: ProviderServer
) -> None:
    chain = await routing.chain("openai/first@500")
    await fail(routing, chain, 5)
    calls = len(server.calls)

    with pytest.raises(Unavailable) as caught:
        await run(routing.attempts(), chain)

    assert caught.value.code == "no_provider_available"
    assert caught.value.retry_after_s is not None
    assert 1 <= caught.value.retry_after_s <= PROBE_INTERVAL_S
    assert len(server.calls) == calls


async def test_one_probe_goes_out_and_its_first_word_lets_all_through(
    processes: Processes, server: ProviderServer, redis: Redis
) -> None:
    routing = await processes.start()
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=500)
    chain = await routing.chain("openai/first", "extractive")
    await fail(routing, chain[:1], 5)
    await make_due(redis, "first")
    server.by_model["first"] = Reply(text="one two three", chunk_delay_s=0.3)
    calls = len(server.calls)

    first_places = [await_first(each, chain) for each in [routing.attempts() for _ in range(6)]]
    asked = await asyncio.gather(*first_places)

    assert Counter(asked) == {"openai/first": 1, EXTRACTIVE_ID: 5}
    assert len(server.calls) == calls + 1
    assert (await run(routing.attempts(), chain))[0] == ["openai/first"]


async def await_first(attempts: Attempts, chain: Chain) -> str:
    """Return who is asked first, and hear all of the answer."""
    return (await run(attempts, chain))[0][0]


async def test_the_pause_doubles_up_to_a_minute(redis: Redis) -> None:
    model = f"m-{uuid4().hex}"
    breaker = CircuitBreaker(
        redis,
        provider="openai",
        model=model,
        probe_interval_s=PROBE_INTERVAL_S,
        policy=CHAT_POLICY,
        scope="s",
    )
    error = provider_error(K.OVERLOADED, "openai")
    for _ in range(5):
        await breaker.report_failure(error)

    waits = [(await breaker.look()).wait_s]
    for _ in range(5):
        await make_due(redis, model)
        assert (await breaker.look()).state is BreakerState.HALF_OPEN
        assert (await breaker.ask()).is_probe
        await breaker.report_failure(error)
        await breaker.report_failure(error)  # a call that was on its way is no second probe
        waits.append((await breaker.look()).wait_s)

    expected = [5, 10, 20, 40, 60, 60]
    assert all(most - 4 < wait <= most for wait, most in zip(waits, expected, strict=True)), waits
    await breaker.report_success()
    assert (await breaker.look()).state is BreakerState.CLOSED


async def test_a_probe_that_was_left_is_the_next_ones_turn(redis: Redis) -> None:
    model = f"m-{uuid4().hex}"
    breaker = CircuitBreaker(redis, provider="openai", model=model, policy=CHAT_POLICY, scope="s")
    for _ in range(5):
        await breaker.report_failure(provider_error(K.TIMEOUT, "openai"))
    await make_due(redis, model)

    assert (await breaker.ask()).is_probe
    refused = await breaker.ask()
    assert refused.refusal is not None
    assert refused.refusal.wait_s > PROBE_INTERVAL_S  # a probe may take its time
    await breaker.release()

    assert (await breaker.ask()).is_probe


@pytest.mark.parametrize(
    ("status", "kind"), [(401, K.AUTH), (402, K.QUOTA), (404, K.MODEL_NOT_FOUND)]
)
async def test_wrong_settings_hold_for_minutes_but_not_against_who_names_the_model(
    routing: Routing, server: ProviderServer, status: int, kind: ProviderErrorKind
) -> None:
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=status)
    chain = await routing.chain("openai/first", "extractive")
    await run(routing.attempts(), chain)

    report = await routing.router.deployments.get(chain[0]).look()
    assert (report.state, report.kind) == (BreakerState.OPEN, kind)
    assert 290 < report.wait_s <= 300
    assert (await run(routing.attempts(), chain))[0] == [EXTRACTIVE_ID]

    del server.by_model["first"]
    assert (await run(routing.attempts(), chain[:1]))[0] == ["openai/first"]
    # And what works is used again at once.
    assert (await run(routing.attempts(), chain))[0] == ["openai/first"]


async def test_another_key_is_another_deployment(
    processes: Processes, server: ProviderServer
) -> None:
    before = await processes.start(openai_api_key="sk-old")
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=401)
    chain = await before.chain("openai/first", "extractive")
    await run(before.attempts(), chain)
    del server.by_model["first"]

    after = await processes.start(openai_api_key="sk-new")
    chain = await after.chain("openai/first", "extractive")
    assert (await run(after.attempts(), chain))[0] == ["openai/first"]


async def test_a_limit_holds_as_long_as_the_vendor_says(
    routing: Routing, server: ProviderServer
) -> None:
    server.by_model["first"] = Reply(failure=Failure.STATUS, status=429, retry_after="42")
    chain = await routing.chain("openai/first", "extractive")
    await run(routing.attempts(), chain)

    report = await routing.router.deployments.get(chain[0]).look()
    assert report.kind is K.RATE_LIMITED
    assert 35 < report.wait_s <= 42


# What is shown of it


async def test_health_tells_of_each_deployment(
    processes: Processes, server: ProviderServer, aliases: AliasDirectory
) -> None:
    await aliases.put(alias_of("fast", "ollama/llama3.2"))
    routing = await processes.start()
    server.by_model["gpt-4.1-mini"] = Reply(failure=Failure.STATUS, status=401)
    await run(routing.attempts(), await routing.chain("gpt-4.1-mini", "extractive"))
    await run(routing.attempts(), await routing.chain("openai/secret-project"))

    shown = await read_health(routing.router)
    by_model = {each.model: each for each in shown if each.model}
    assert set(by_model) == {"gpt-4.1-mini", "extractive", "llama3.2"}
    default = by_model["gpt-4.1-mini"]
    assert (default.state, default.last_error, default.in_flight) == ("open", "auth", 0)
    assert default.retry_in_s is not None
    assert default.retry_in_s > 0
    assert by_model["llama3.2"].state == by_model["extractive"].state == "ok"
    states = {each.provider: each.state for each in shown if each.model is None}
    assert states["anthropic"] == "unconfigured"

    everything = await read_health(routing.router, shows_all=True)
    assert "secret-project" in {each.model for each in everything}
    nothing: Sequence[str] = [
        each.model or ""
        for each in await read_health(routing.router, allowed=frozenset({"ollama/llama3.2"}))
    ]
    assert not any(nothing)
