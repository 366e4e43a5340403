"""The circuit breaker on a real Redis: embedders that share a model stand for as many workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx2
import numpy as np
import pytest
import structlog
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.redis import open_redis
from app.llm.base import Purpose, Timeouts
from app.llm.breaker import BREAKER_EVENTS, MAX_HOLD_S, CircuitBreaker, breaker_key
from app.llm.dimensions import dimensions_key
from app.llm.embedder import Embedder, RetryPolicy
from app.llm.model_names import LOCAL, OPENAI
from app.llm.providers.openai import OpenAIEmbedding
from app.llm.wire import provider_error
from tests.provider_server import CHAOS, DIMENSIONS, Failure, ProviderServer, Reply, embed_words

K = ProviderErrorKind
NEVER_S = 3600.0
QUICK = RetryPolicy(base_s=0.001, max_wait_s=0.002, deadline_s=NEVER_S)
IMPATIENT = Timeouts(embed_batch_s=0.5)
BROKEN = Reply(failure=Failure.STATUS, status=500)


@pytest.fixture
def model() -> str:
    """A model of its own for each test: what Redis knows of a model is shared."""
    return f"m-{uuid4().hex}"


class Fleet:
    """Makes workers: each has connections of its own, and none is told of the others."""

    def __init__(
        self, stack: AsyncExitStack, server: ProviderServer, redis_url: str, model: str
    ) -> None:
        self._stack, self._server = stack, server
        self._redis_url, self._model = redis_url, model

    def redis(self) -> Redis:
        redis = open_redis(self._redis_url)
        self._stack.push_async_callback(redis.aclose, close_connection_pool=True)
        return redis

    def breaker(self, *, probe_interval_s: float = NEVER_S) -> CircuitBreaker:
        return CircuitBreaker(
            self.redis(), provider=OPENAI, model=self._model, probe_interval_s=probe_interval_s
        )

    def worker(
        self, *, probe_interval_s: float, retries: RetryPolicy = QUICK, cache_ttl_s: int = 0
    ) -> Embedder:
        provider = OpenAIEmbedding(
            api_key="k", base_url=self._server.openai_url, model=self._model, timeouts=IMPATIENT
        )
        self._stack.push_async_callback(provider.aclose)
        return Embedder(
            provider,
            self.redis(),
            cache_ttl_s=cache_ttl_s,
            document_retries=retries,
            query_retries=QUICK,
            probe_interval_s=probe_interval_s,
        )


@pytest.fixture
async def fleet(server: ProviderServer, redis_url: str, model: str) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack, server, redis_url, model)


def failure(kind: ProviderErrorKind, retry_after_s: float | None = None) -> ProviderError:
    return provider_error(kind, OPENAI, retry_after_s=retry_after_s)


async def open_for_long(fleet: Fleet, kind: ProviderErrorKind = K.OVERLOADED) -> CircuitBreaker:
    breaker = fleet.breaker()
    for _ in range(5):
        await breaker.report_failure(failure(kind))
    assert await breaker.admit()
    return breaker


def count_event(event: str) -> float:
    return float(BREAKER_EVENTS.labels(provider=OPENAI, event=event)._value.get())


# The breaker


@pytest.mark.parametrize("kind", [K.OVERLOADED, K.UNREACHABLE, K.TIMEOUT, K.TRUNCATED])
async def test_the_fifth_outage_in_a_row_opens_it_whoever_met_them(
    kind: ProviderErrorKind, fleet: Fleet
) -> None:
    breakers = [fleet.breaker() for _ in range(5)]

    for breaker in breakers:
        assert [await each.admit() for each in breakers] == [None] * 5
        await breaker.report_failure(failure(kind))

    refusals = [await breaker.admit() for breaker in breakers]
    assert [refusal and refusal.kind for refusal in refusals] == [kind] * 5


async def test_a_success_in_between_starts_the_count_anew(fleet: Fleet) -> None:
    breaker = fleet.breaker()
    for _ in range(4):
        await breaker.report_failure(failure(K.OVERLOADED))
    await fleet.breaker().report_success()
    for _ in range(4):
        await breaker.report_failure(failure(K.OVERLOADED))

    assert await breaker.admit() is None


@pytest.mark.parametrize(
    "kind", [K.AUTH, K.QUOTA, K.PROTOCOL, K.CONTEXT_LENGTH, K.BAD_REQUEST, K.MODEL_NOT_FOUND]
)
async def test_an_answer_is_no_outage(kind: ProviderErrorKind, fleet: Fleet) -> None:
    breaker = fleet.breaker()
    for _ in range(9):
        await breaker.report_failure(failure(kind))

    assert await breaker.admit() is None


@pytest.mark.parametrize(("retry_after_s", "wait_s"), [(20.0, 20.0), (7200.0, MAX_HOLD_S)])
async def test_a_limit_with_a_time_opens_it_at_once_for_that_time(
    retry_after_s: float, wait_s: float, fleet: Fleet
) -> None:
    breaker = fleet.breaker(probe_interval_s=0.001)
    await breaker.report_failure(failure(K.RATE_LIMITED, retry_after_s))

    refusal = await fleet.breaker(probe_interval_s=0.001).admit()

    assert refusal is not None
    assert refusal.kind is K.RATE_LIMITED
    assert wait_s - 10 < refusal.wait_s <= wait_s


async def test_each_turn_at_an_open_breaker_goes_to_one(
    fleet: Fleet, redis: Redis, model: str
) -> None:
    await open_for_long(fleet)
    breakers = [fleet.breaker() for _ in range(20)]

    for _ in range(3):
        await redis.hset(breaker_key(OPENAI, model), "turn_at", "0")  # a turn is due
        answers = await asyncio.gather(*(breaker.admit() for breaker in breakers))
        assert answers.count(None) == 1


async def test_a_late_failure_brings_no_turn_forward(fleet: Fleet) -> None:
    breaker = await open_for_long(fleet)
    await breaker.report_failure(failure(K.TIMEOUT))

    refusal = await breaker.admit()

    assert refusal is not None
    assert refusal.kind is K.TIMEOUT
    assert refusal.wait_s > NEVER_S / 2


async def test_one_success_closes_it_for_all(fleet: Fleet) -> None:
    await open_for_long(fleet)
    others = [fleet.breaker() for _ in range(3)]

    await others[0].report_success()

    assert [await breaker.admit() for breaker in others] == [None] * 3


async def test_a_success_before_the_named_time_closes_nothing(
    fleet: Fleet, redis: Redis, model: str
) -> None:
    breaker = fleet.breaker()
    await breaker.report_failure(failure(K.RATE_LIMITED, 30.0))
    await breaker.report_success()
    assert await breaker.admit()

    await redis.hset(breaker_key(OPENAI, model), "held_until", "0")  # the time is over
    await breaker.report_success()

    assert await breaker.admit() is None


async def test_what_redis_keeps_of_it_expires(fleet: Fleet, redis: Redis, model: str) -> None:
    key = breaker_key(OPENAI, model)
    breaker = fleet.breaker()
    for _ in range(6):
        await breaker.report_failure(failure(K.OVERLOADED))
        assert 0 < await redis.ttl(key) <= 600
    await redis.hset(key, "turn_at", "0")
    assert await breaker.admit() is None
    assert 0 < await redis.ttl(key) <= 600
    await breaker.report_success()
    assert not await redis.exists(key)


async def test_a_wiped_redis_means_closed(fleet: Fleet, redis: Redis, model: str) -> None:
    breaker = await open_for_long(fleet)

    await redis.delete(breaker_key(OPENAI, model))
    await redis.script_flush()

    assert await breaker.admit() is None


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's own may be bound to what an app of another test has configured."""
    monkeypatch.setattr("app.llm.breaker.log", structlog.get_logger())


async def test_a_redis_that_is_down_means_closed_and_is_logged_once(model: str) -> None:
    before = count_event("unguarded")
    async with open_redis("redis://127.0.0.1:9/0") as nowhere:
        breaker = CircuitBreaker(nowhere, provider=OPENAI, model=model)
        with structlog.testing.capture_logs() as lines:
            for _ in range(9):
                await breaker.report_failure(failure(K.OVERLOADED))
                assert await breaker.admit() is None
                await breaker.report_success()

    assert [line["event"] for line in lines] == ["provider_breaker_unavailable"]
    assert count_event("unguarded") > before


async def test_opening_and_closing_are_told_once(fleet: Fleet) -> None:
    opened, closed = count_event("opened"), count_event("closed")
    breakers = [fleet.breaker() for _ in range(4)]
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            await asyncio.gather(*(b.report_failure(failure(K.UNREACHABLE)) for b in breakers))
        await asyncio.gather(*(b.report_success() for b in breakers))

    events = ["provider_breaker_opened", "provider_breaker_closed"]
    assert [line["event"] for line in lines] == events
    assert (count_event("opened") - opened, count_event("closed") - closed) == (1, 1)


# Workers behind it


async def test_a_fleet_hardly_calls_a_dead_provider_and_flows_when_it_is_back(
    fleet: Fleet, server: ProviderServer
) -> None:
    interval_s = 0.25
    workers = [fleet.worker(probe_interval_s=interval_s) for _ in range(8)]
    server.default = BROKEN
    loop = asyncio.get_running_loop()
    started = loop.time()
    tasks = [
        asyncio.create_task(worker.embed_documents([f"topic{number}"]))
        for number, worker in enumerate(workers)
    ]
    await asyncio.sleep(2.0)
    probes = (loop.time() - started) / interval_s
    # Five that open it; the others may have been on their way.
    assert 5 < server.embedding_calls <= 5 + 7 + 1 + probes

    server.default = Reply()
    vectors = await asyncio.gather(*tasks)

    for number, vector in enumerate(vectors):
        assert np.allclose(vector[0], embed_words(f"topic{number}"), atol=1e-5)


async def test_one_hang_costs_a_call_and_no_document(
    fleet: Fleet, server: ProviderServer, redis: Redis, model: str
) -> None:
    await redis.set(dimensions_key(OPENAI, model), DIMENSIONS)
    server.script(Reply(failure=Failure.HANG))

    vectors = await fleet.worker(probe_interval_s=NEVER_S).embed_documents(["a"])

    assert vectors.shape == (1, DIMENSIONS)
    assert server.embedding_calls == 2


async def test_a_document_that_waits_in_vain_ends_in_the_kind_that_opened_it(
    fleet: Fleet, server: ProviderServer
) -> None:
    await open_for_long(fleet, K.UNREACHABLE)
    worker = fleet.worker(
        probe_interval_s=NEVER_S, retries=RetryPolicy(base_s=0.001, deadline_s=0.2)
    )

    with pytest.raises(ProviderError) as caught:
        await worker.embed_documents(["a"])

    assert caught.value.kind is K.UNREACHABLE
    assert server.embedding_calls == 0


async def test_a_query_does_not_wait_at_an_open_breaker(
    fleet: Fleet, server: ProviderServer
) -> None:
    worker = fleet.worker(probe_interval_s=NEVER_S, cache_ttl_s=60)
    org_id = uuid4()
    known = await worker.embed_query(org_id, "What rose?")
    await open_for_long(fleet, K.TIMEOUT)

    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(20):  # of the hour that its own retries would allow
            await worker.embed_query(org_id, "What fell?")

    assert caught.value.kind is K.TIMEOUT
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    assert server.embedding_calls == 1
    # What is cached needs no provider.
    assert np.array_equal(await worker.embed_query(org_id, "What rose?"), known)


async def test_a_limit_holds_back_documents_and_no_query(
    fleet: Fleet, server: ProviderServer
) -> None:
    breaker = fleet.breaker()
    await breaker.report_failure(failure(K.RATE_LIMITED, 30.0))
    worker = fleet.worker(
        probe_interval_s=NEVER_S, retries=RetryPolicy(base_s=0.001, deadline_s=0.2)
    )

    await worker.embed_query(uuid4(), "What fell?")
    with pytest.raises(ProviderError) as caught:
        await worker.embed_documents(["a"])

    assert caught.value.kind is K.RATE_LIMITED
    assert server.embedding_calls == 1


async def test_a_query_whose_turn_it_is_can_close_it(
    fleet: Fleet, redis: Redis, model: str
) -> None:
    breaker = await open_for_long(fleet)
    await redis.hset(breaker_key(OPENAI, model), "turn_at", "0")

    await fleet.worker(probe_interval_s=NEVER_S).embed_query(uuid4(), "What fell?")

    assert await breaker.admit() is None


async def test_a_model_in_the_process_has_no_breaker(
    fleet: Fleet, server: ProviderServer, redis: Redis
) -> None:
    class InProcess(OpenAIEmbedding):
        name = LOCAL

    model = f"m-{uuid4().hex}"
    provider = InProcess(api_key="k", base_url=server.openai_url, model=model)
    server.script(*[BROKEN] * 9)

    vectors = await Embedder(provider, redis, document_retries=QUICK).embed_documents(["a"])
    await provider.aclose()

    assert vectors.shape == (1, DIMENSIONS)
    assert server.embedding_calls == 10
    assert not await redis.exists(breaker_key(LOCAL, model), dimensions_key(LOCAL, model))


# The width of vectors


async def test_a_first_answer_of_the_wrong_width_is_not_believed(
    fleet: Fleet, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.WRONG_DIMENSION))

    first = await fleet.worker(probe_interval_s=NEVER_S).embed_documents(["a", "b"])
    # The batch, the question whether it is right, both anew.
    assert (first.shape, server.embedding_calls) == ((2, DIMENSIONS), 4)

    server.script(Reply(failure=Failure.WRONG_DIMENSION))
    newcomer = fleet.worker(probe_interval_s=NEVER_S)
    # It was told the width: no question, for queries neither.
    assert (await newcomer.embed_documents(["a", "b"])).shape == (2, DIMENSIONS)
    assert server.embedding_calls == 6
    server.script(Reply(failure=Failure.WRONG_DIMENSION))
    assert (await newcomer.embed_query(uuid4(), "What fell?")).shape == (DIMENSIONS,)


async def test_a_model_that_changed_its_width_for_good_is_believed_after_one_document(
    fleet: Fleet, server: ProviderServer, redis: Redis, model: str
) -> None:
    worker = fleet.worker(probe_interval_s=NEVER_S)
    await worker.embed_documents(["a"])
    assert 0 < await redis.ttl(dimensions_key(OPENAI, model)) <= 24 * 3600
    server.dimensions = 96

    with pytest.raises(ProviderError) as caught:
        await worker.embed_documents(["a"])

    assert caught.value.kind is K.PROTOCOL
    assert not await redis.exists(dimensions_key(OPENAI, model))
    assert (await worker.embed_documents(["a"])).shape == (1, 96)


# The stand-in's chaos


async def test_chaos_costs_no_document_and_lets_no_bad_vector_through(
    fleet: Fleet, server: ProviderServer
) -> None:
    server.chaos(seed=3, share=0.1)
    workers = [fleet.worker(probe_interval_s=0.05) for _ in range(4)]
    documents = [[f"topic{d} part{n}" for n in range(3)] for d in range(60)]

    async def work(worker: Embedder, mine: list[list[str]]) -> None:
        for texts in mine:
            vectors = await worker.embed_documents(texts)
            assert np.allclose(vectors, [embed_words(text) for text in texts], atol=1e-5)

    await asyncio.gather(*(work(worker, documents[n::4]) for n, worker in enumerate(workers)))

    assert sum(server.by_failure.values()) > 0
    assert len(documents) < server.embedding_calls <= 1.5 * len(documents)
    assert not server.calls


async def test_chaos_repeats_itself_and_can_be_counted(server: ProviderServer, model: str) -> None:
    async def outcomes() -> list[str]:
        seen = []
        for _ in range(40):
            try:
                await provider.embed(["a", "b"], purpose=Purpose.DOCUMENT)
                seen.append("ok")
            except ProviderError as error:
                seen.append(error.kind.value)
        return seen

    impatient = Timeouts(embed_batch_s=0.2)
    provider = OpenAIEmbedding(
        api_key="k", base_url=server.openai_url, model=model, timeouts=impatient
    )
    async with httpx2.AsyncClient(base_url=server.url) as client:
        runs = []
        for _ in range(2):
            await client.post("/_chaos", json={"seed": 5, "share": 0.5})
            runs.append(await outcomes())
        stats = (await client.get("/_stats")).json()
        await client.post("/_chaos", json={"seed": 0, "share": 0})
        assert set(await outcomes()) == {"ok"}
    await provider.aclose()

    assert runs[0] == runs[1]
    assert (stats["embedding_calls"], stats["embedding_inputs"]) == (80, 160)
    assert len(stats["by_failure"]) == len(CHAOS)
    # A wrong width shows only beside a right one.
    failed = sum(stats["by_failure"].values()) - stats["by_failure"]["wrong_dimension"]
    assert failed == 80 - 2 * runs[0].count("ok")
