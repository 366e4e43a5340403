"""Several processes that want one vector: one of them makes it, the others wait and take it."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from uuid import UUID, uuid4

import httpx2
import numpy as np
import pytest
from redis.asyncio import Redis

from app.core.errors import ProviderError
from app.core.metrics import EMBEDDING_CACHE
from app.core.redis import open_redis
from app.llm.dimensions import dimensions_key
from app.llm.embedder import Embedder, RetryPolicy
from app.llm.embedding_cache import EmbeddingCache, query_key, space_name
from app.llm.providers.openai import OpenAIEmbedding
from tests.provider_server import DIMENSIONS, Failure, ProviderServer, Reply

PROCESSES, ASKERS = 2, 10
ONCE = RetryPolicy(attempts=1)
QUESTION = "What fell?"
VECTOR = np.full(DIMENSIONS, DIMENSIONS**-0.5, dtype=np.float32)


@pytest.fixture
def org_id() -> UUID:
    return uuid4()


@pytest.fixture
async def model(redis: Redis) -> str:
    """A model of its own for each test, whose width is known."""
    model = f"m-{uuid4().hex}"
    await redis.set(dimensions_key("openai", model), DIMENSIONS)
    return model


@pytest.fixture
async def open_embedder(
    server: ProviderServer, redis_url: str, model: str
) -> AsyncIterator[Callable[[], Embedder]]:
    """Opens embedders that share nothing but the servers, as those of several processes do."""
    opened: list[tuple[OpenAIEmbedding, Redis]] = []

    def open_embedder() -> Embedder:
        provider = OpenAIEmbedding(api_key="k", base_url=server.openai_url, model=model)
        opened.append((provider, open_redis(redis_url)))
        return Embedder(provider, opened[-1][1], cache_ttl_s=60, query_retries=ONCE)

    yield open_embedder
    for provider, redis in opened:
        await provider.aclose()
        await redis.aclose(close_connection_pool=True)


@pytest.fixture
def key(server: ProviderServer, model: str, org_id: UUID) -> str:
    space = space_name("openai", model, endpoint=server.openai_url, dimensions=DIMENSIONS)
    return query_key(org_id, space, QUESTION)


def count_outcomes() -> dict[str, float]:
    return {
        outcome: float(EMBEDDING_CACHE.labels(outcome=outcome)._value.get())
        for outcome in ("hit", "shared", "miss", "error")
    }


# What the processes of a pool get when they start: a barrier cannot be sent to them later.
_barrier: Barrier


def _keep_barrier(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603
    _barrier = barrier


def _ask_in_this_process(redis_url: str, openai_url: str, model: str, org_id: UUID) -> list[bytes]:
    return asyncio.run(_ask(redis_url, openai_url, model, org_id))


async def _ask(redis_url: str, openai_url: str, model: str, org_id: UUID) -> list[bytes]:
    provider = OpenAIEmbedding(api_key="k", base_url=openai_url, model=model)
    async with open_redis(redis_url) as redis:
        embedder = Embedder(provider, redis, cache_ttl_s=60)
        await asyncio.to_thread(_barrier.wait, 60)
        vectors = await asyncio.gather(
            *(embedder.embed_query(org_id, QUESTION) for _ in range(ASKERS))
        )
        await provider.aclose()
    return [vector.tobytes() for vector in vectors]


async def test_twenty_who_ask_at_once_in_two_processes_make_one_call(
    server: ProviderServer, redis_url: str, model: str, org_id: UUID
) -> None:
    server.delay_s = 0.5
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    arguments = (redis_url, server.openai_url, model, org_id)
    with ProcessPoolExecutor(
        PROCESSES, context, initializer=_keep_barrier, initargs=(context.Barrier(PROCESSES),)
    ) as pool:
        answers = await asyncio.gather(
            *(
                loop.run_in_executor(pool, _ask_in_this_process, *arguments)
                for _ in range(PROCESSES)
            )
        )
    async with httpx2.AsyncClient(base_url=server.url) as client:
        stats = (await client.get("/_stats")).json()

    assert stats["embedding_calls"] == stats["embedding_inputs"] == 1
    vectors = [vector for answer in answers for vector in answer]
    assert len(vectors) == PROCESSES * ASKERS
    assert len(set(vectors)) == 1


async def test_another_process_takes_what_the_first_one_made(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 0.3
    before = count_outcomes()
    first = asyncio.create_task(open_embedder().embed_query(org_id, QUESTION))
    await server.wait_until(lambda: len(server.calls) == 1)

    second = await open_embedder().embed_query(org_id, QUESTION)

    assert np.array_equal(await first, second)
    assert len(server.calls) == 1
    grown = {outcome: count - before[outcome] for outcome, count in count_outcomes().items()}
    assert grown == {"hit": 0, "shared": 1, "miss": 1, "error": 0}


async def test_a_failure_lets_the_next_process_try(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID, redis: Redis
) -> None:
    server.delay_s = 0.2
    server.script(Reply(failure=Failure.STATUS, status=401))
    first = asyncio.create_task(open_embedder().embed_query(org_id, QUESTION))
    await server.wait_until(lambda: len(server.calls) == 1)

    assert (await open_embedder().embed_query(org_id, QUESTION)).shape == (DIMENSIONS,)

    with pytest.raises(ProviderError):
        await first
    assert len(server.calls) == 2
    assert await redis.keys(f"*{org_id}*:flight") == []


async def test_a_caller_who_leaves_lets_the_next_process_try(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID, redis: Redis
) -> None:
    server.script(Reply(failure=Failure.HANG))
    first = asyncio.create_task(open_embedder().embed_query(org_id, QUESTION))
    await server.wait_until(lambda: server.open_streams == 1)
    second = asyncio.create_task(open_embedder().embed_query(org_id, QUESTION))

    first.cancel()

    assert (await second).shape == (DIMENSIONS,)
    assert await redis.keys(f"*{org_id}*:flight") == []


async def test_a_process_that_died_is_not_waited_for_longer_than_its_turn_lasts(
    open_embedder: Callable[[], Embedder],
    server: ProviderServer,
    redis: Redis,
    org_id: UUID,
    key: str,
) -> None:
    await redis.set(f"{key}:flight", "whoever died", px=200)

    assert (await open_embedder().embed_query(org_id, QUESTION)).shape == (DIMENSIONS,)
    assert len(server.calls) == 1
    assert await redis.exists(key)


async def test_nobody_waits_for_ever(redis: Redis) -> None:
    cache = EmbeddingCache(redis, ttl_s=60, flight_s=0.05)
    key = f"test:{uuid4()}"
    await redis.set(f"{key}:flight", "who never ends", ex=60)

    async with cache.turn([key]) as turn:
        assert turn.mine == [key]

    assert await redis.get(f"{key}:flight") == b"who never ends"


async def test_who_took_too_long_does_not_end_the_turn_of_the_next(redis: Redis) -> None:
    slow, next_one = (EmbeddingCache(redis, ttl_s=60, flight_s=s) for s in (0.05, 30))
    key = f"test:{uuid4()}"
    async with slow.turn([key]):
        async with next_one.turn([key]) as turn:
            assert turn.mine == [key]
            mine = await redis.get(f"{key}:flight")
            async with slow.turn([key]):
                pass
            assert await redis.get(f"{key}:flight") == mine
        assert not await redis.exists(f"{key}:flight")


async def test_a_damaged_value_is_made_again(redis: Redis) -> None:
    cache = EmbeddingCache(redis, ttl_s=60)
    key = f"test:{uuid4()}"
    await redis.set(key, b"rubbish")

    async with cache.turn([key]) as turn:
        assert turn.mine == [key]
        made = await cache.store({key: VECTOR})

    found = await cache.find([key])
    assert np.array_equal(made[key], found[key])


async def test_a_turn_needs_no_redis() -> None:
    async with open_redis("redis://127.0.0.1:9/0") as nowhere:
        for cache in (EmbeddingCache(nowhere, ttl_s=60), EmbeddingCache(None, ttl_s=60)):
            async with cache.turn(["key", "other"]) as turn:
                assert turn.mine == ["key", "other"]
                stored = await cache.store({"key": VECTOR.copy()})
                assert stored["key"].shape == (DIMENSIONS,)


async def test_queries_asked_together_are_one_call(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID
) -> None:
    before = count_outcomes()
    alone = await open_embedder().embed_query(org_id, "What rose?")

    texts = ["What fell?", "What rose?", "Who leads?", "What fell?"]
    vectors = await open_embedder().embed_queries(org_id, texts)

    assert [call.body["input"] for call in server.calls] == [
        ["What rose?"],
        ["What fell?", "Who leads?"],
    ]
    assert np.array_equal(vectors[1], alone)
    assert np.array_equal(vectors[0], vectors[3])
    assert not np.array_equal(vectors[0], vectors[2])
    grown = {outcome: count - before[outcome] for outcome, count in count_outcomes().items()}
    assert grown == {"hit": 1, "shared": 0, "miss": 3, "error": 0}


async def test_processes_that_share_a_query_do_not_wait_for_each_other_in_a_circle(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 0.1
    pairs = (["a", "b"], ["b", "c"], ["c", "a"])
    found = await asyncio.gather(
        *(open_embedder().embed_queries(org_id, pair) for pair in pairs for _ in range(2))
    )

    asked = [text for call in server.calls for text in call.body["input"]]
    assert sorted(asked) == ["a", "b", "c"]
    by_text: dict[str, bytes] = {}
    for pair, vectors in zip([pair for pair in pairs for _ in range(2)], found, strict=True):
        for text, vector in zip(pair, vectors, strict=True):
            assert by_text.setdefault(text, vector.tobytes()) == vector.tobytes()


async def test_who_leaves_a_shared_call_leaves_the_others_their_queries(
    open_embedder: Callable[[], Embedder], server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 0.2
    embedder = open_embedder()
    first = asyncio.create_task(embedder.embed_queries(org_id, ["a", "b"]))
    await server.wait_until(lambda: len(server.calls) == 1)
    second = asyncio.create_task(embedder.embed_queries(org_id, ["b", "c"]))
    await server.wait_until(lambda: len(server.calls) == 2)

    first.cancel()

    assert len(await second) == 2
    assert [call.body["input"] for call in server.calls] == [["a", "b"], ["c"]]
