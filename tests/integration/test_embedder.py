"""The embedder over a real adapter, a real HTTP server and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID, uuid4

import numpy as np
import pytest
from redis.asyncio import Redis

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.metrics import EMBEDDING_CACHE
from app.core.redis import open_redis
from app.llm.base import EmbeddingProvider
from app.llm.dimensions import dimensions_key
from app.llm.embedder import Embedder, RetryPolicy
from app.llm.embedding_cache import EmbeddingCache, query_key, space_name
from app.llm.providers.openai import OpenAIEmbedding
from app.llm.single_flight import SingleFlight
from app.llm.wire import provider_error
from tests.provider_server import DIMENSIONS, Failure, ProviderServer, Reply

QUICK = RetryPolicy(base_s=0.001, max_wait_s=0.002)
QUICK_QUERY = RetryPolicy(attempts=3, base_s=0.001, max_wait_s=0.002)
LIMITED = Reply(failure=Failure.STATUS, status=429)
BROKEN = Reply(failure=Failure.STATUS, status=500)


@pytest.fixture
async def provider(server: ProviderServer) -> AsyncIterator[EmbeddingProvider]:
    """A model of its own for each test: what Redis knows of a model is shared."""
    provider = OpenAIEmbedding(api_key="k", base_url=server.openai_url, model=f"m-{uuid4().hex}")
    yield provider
    await provider.aclose()


@pytest.fixture
def org_id() -> UUID:
    return uuid4()


@pytest.fixture
async def embedder(provider: EmbeddingProvider, redis: Redis) -> Embedder:
    """An embedder of a model whose width is known."""
    await redis.set(dimensions_key(provider.name, provider.model), DIMENSIONS)
    return Embedder(
        provider,
        redis,
        cache_ttl_s=60,
        document_retries=QUICK,
        query_retries=QUICK_QUERY,
        probe_interval_s=0.01,
    )


def key_of(provider: EmbeddingProvider, org_id: UUID, text: str) -> str:
    space = space_name(
        provider.name, provider.model, endpoint=provider.endpoint, dimensions=DIMENSIONS
    )
    return query_key(org_id, space, text)


def count_outcome(outcome: str) -> float:
    return float(EMBEDDING_CACHE.labels(outcome=outcome)._value.get())


async def test_documents_go_in_batches_and_come_back_in_order(
    embedder: Embedder, server: ProviderServer
) -> None:
    texts = [f"topic{number} text" for number in range(250)]

    vectors = await embedder.embed_documents(texts)

    assert vectors.shape == (250, DIMENSIONS)
    assert [len(call.body["input"]) for call in server.calls] == [100, 100, 50]
    alone = await embedder.embed_documents([texts[170]])
    assert np.allclose(vectors[170], alone[0], atol=1e-6)


async def test_what_may_pass_is_tried_again(embedder: Embedder, server: ProviderServer) -> None:
    server.script(LIMITED, Reply(failure=Failure.RESET_EARLY), Reply(failure=Failure.SHORT_BATCH))

    assert (await embedder.embed_documents(["a", "b"])).shape == (2, DIMENSIONS)
    assert len(server.calls) == 4


async def test_the_third_failure_of_a_query_is_the_last(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    server.default = LIMITED

    with pytest.raises(ProviderError) as caught:
        await embedder.embed_query(org_id, "What fell?")

    assert caught.value.kind is ProviderErrorKind.RATE_LIMITED
    assert len(server.calls) == 3


async def test_a_document_sits_out_any_number_of_failures_before_its_deadline(
    embedder: Embedder, server: ProviderServer
) -> None:
    server.script(*[BROKEN, LIMITED, Reply(failure=Failure.RESET_EARLY)] * 7)

    assert (await embedder.embed_documents(["a"])).shape == (1, DIMENSIONS)
    assert len(server.calls) == 22


async def test_an_outage_beyond_the_deadline_ends_in_what_it_began_with(
    provider: EmbeddingProvider, redis: Redis, server: ProviderServer
) -> None:
    server.default = BROKEN
    patience = replace(QUICK, deadline_s=0.3)
    embedder = Embedder(provider, redis, document_retries=patience, probe_interval_s=60)

    with pytest.raises(ProviderError) as caught:
        await embedder.embed_documents(["a"])

    assert caught.value.kind is ProviderErrorKind.OVERLOADED
    assert len(server.calls) == 5


@pytest.mark.parametrize(
    "garbage",
    [
        Failure.SHORT_BATCH,
        Failure.WRONG_DIMENSION,
        Failure.UNEVEN,
        Failure.NAN,
        Failure.ZERO,
        Failure.MALFORMED,
        Failure.DOUBLE_INDEX,
        Failure.HTML,
    ],
)
async def test_the_third_unusable_answer_is_the_last(
    garbage: Failure, embedder: Embedder, server: ProviderServer
) -> None:
    server.script(*[Reply(failure=garbage)] * 2)
    assert (await embedder.embed_documents(["a", "b"])).shape == (2, DIMENSIONS)

    server.script(*[Reply(failure=garbage)] * 9)
    with pytest.raises(ProviderError) as caught:
        await embedder.embed_documents(["a", "b"])

    assert caught.value.kind is ProviderErrorKind.PROTOCOL
    assert len(server.calls) == 3 + 3


async def test_an_unusable_answer_in_an_outage_counts_alone(
    embedder: Embedder, server: ProviderServer
) -> None:
    server.script(*[BROKEN, Reply(failure=Failure.NAN), BROKEN, Reply(failure=Failure.NAN), BROKEN])

    assert (await embedder.embed_documents(["a"])).shape == (1, DIMENSIONS)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(failure=Failure.STATUS, status=401), ProviderErrorKind.AUTH),
        (Reply(failure=Failure.STATUS, status=402), ProviderErrorKind.QUOTA),
        (Reply(failure=Failure.STATUS, status=403), ProviderErrorKind.AUTH),
        (
            Reply(failure=Failure.STATUS, status=429, code="insufficient_quota", retry_after="1"),
            ProviderErrorKind.QUOTA,
        ),
    ],
)
async def test_what_cannot_pass_is_not_tried_again_and_opens_no_breaker(
    reply: Reply, kind: ProviderErrorKind, embedder: Embedder, server: ProviderServer
) -> None:
    for _ in range(6):
        server.script(reply)
        with pytest.raises(ProviderError) as caught:
            await embedder.embed_documents(["a"])
        assert caught.value.kind is kind

    assert len(server.calls) == 6
    assert (await embedder.embed_documents(["a"])).shape == (1, DIMENSIONS)


@pytest.mark.parametrize("hours", [0.5, 24])
async def test_a_long_retry_after_is_not_waited_for(
    hours: float, embedder: Embedder, server: ProviderServer
) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
    server.script(Reply(failure=Failure.STATUS, status=429, retry_after=at))

    with pytest.raises(ProviderError) as caught:
        await embedder.embed_documents(["a"])

    assert caught.value.kind is ProviderErrorKind.RATE_LIMITED
    assert caught.value.retry_after_s == pytest.approx(hours * 3600, abs=30)
    assert len(server.calls) == 1


def limited_for(retry_after_s: float | None) -> ProviderError:
    return provider_error(ProviderErrorKind.RATE_LIMITED, "p", retry_after_s=retry_after_s)


def test_waits_never_fall_below_retry_after() -> None:
    policy = RetryPolicy()

    waits = [policy.wait_s(limited_for(12.0), failed=n, garbage=0) for n in range(1, 2000)]

    assert all(wait is not None and 12.0 <= wait <= 20.0 for wait in waits)
    assert policy.wait_s(limited_for(60.5), failed=1, garbage=0) is None


def test_waits_are_drawn_from_a_range_that_doubles_up_to_its_limit() -> None:
    policy = RetryPolicy(base_s=1.0, max_wait_s=4.0)

    for failed, most_s in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0)):
        waits = [policy.wait_s(limited_for(None), failed=failed, garbage=0) for _ in range(200)]
        drawn = [wait for wait in waits if wait is not None]
        assert len(drawn) == 200
        assert max(drawn) <= most_s
        assert min(drawn) < most_s / 4 < most_s * 3 / 4 < max(drawn)


async def test_a_batch_that_is_too_large_is_halved(
    embedder: Embedder, server: ProviderServer
) -> None:
    too_large = Reply(failure=Failure.STATUS, status=400, error="maximum context length")
    server.script(too_large, too_large)
    texts = [f"topic{number}" for number in range(8)]

    vectors = await embedder.embed_documents(texts)

    assert [len(call.body["input"]) for call in server.calls] == [8, 4, 2, 2, 4]
    assert np.allclose(vectors, await embedder.embed_documents(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (413, "input batch size 8 > maximum allowed batch size 4"),
        (422, "batch size 8 > maximum allowed batch size 4"),
        (400, "Too many inputs in request, split into more batches."),
        (400, "batch size is invalid, it should not be larger than 4"),
        (400, "Requested 300001 tokens, max 300000 tokens: max_tokens_per_request"),
        (429, "Request too large for m on tokens per min (TPM): Limit 1000, Requested 6000."),
        (500, "the input is too large to process. increase the physical batch size"),
    ],
)
async def test_too_large_is_told_from_the_vendors_words(
    status: int, error: str, embedder: Embedder, server: ProviderServer
) -> None:
    server.script(Reply(failure=Failure.STATUS, status=status, error=error))

    assert (await embedder.embed_documents(["a"] * 8)).shape == (8, DIMENSIONS)
    assert [len(call.body["input"]) for call in server.calls] == [8, 4, 4]


async def test_one_text_that_is_too_long_is_an_error_after_one_call_at_each_size(
    embedder: Embedder, server: ProviderServer
) -> None:
    server.default = Reply(failure=Failure.STATUS, status=413)

    with pytest.raises(ProviderError) as caught:
        await embedder.embed_documents(["a"] * 8)

    assert caught.value.kind is ProviderErrorKind.CONTEXT_LENGTH
    assert [len(call.body["input"]) for call in server.calls] == [8, 4, 2, 1]


async def test_second_query_comes_from_the_cache(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    hits, misses = count_outcome("hit"), count_outcome("miss")

    first = await embedder.embed_query(org_id, "What fell?")
    second = await embedder.embed_query(org_id, "What fell?")

    assert len(server.calls) == 1
    assert first.shape == (DIMENSIONS,)
    assert np.array_equal(first, second)
    assert (count_outcome("hit") - hits, count_outcome("miss") - misses) == (1, 1)


async def test_what_was_just_asked_stays_at_hand_without_redis(
    embedder: Embedder, server: ProviderServer, redis: Redis, org_id: UUID
) -> None:
    first = await embedder.embed_query(org_id, "What fell?")
    keys = await redis.keys(f"*{org_id}*")
    assert len(keys) == 1
    await redis.delete(*keys)

    assert np.array_equal(first, await embedder.embed_query(org_id, "What fell?"))
    assert len(server.calls) == 1


async def test_what_is_at_hand_is_bounded(
    redis: Redis, org_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.llm.embedding_cache.MAX_RECENT", 3)
    cache = EmbeddingCache(redis, ttl_s=60)
    vector = np.full(4, 0.5, dtype=np.float32)
    for number in range(10):
        await cache.store({f"test:{org_id}:{number}": vector})

    assert len(cache._recent) <= 3
    # What went is in Redis still.
    assert len(await cache.find([f"test:{org_id}:0"])) == 1


async def test_second_query_comes_from_redis_in_another_process(
    embedder: Embedder,
    provider: EmbeddingProvider,
    server: ProviderServer,
    redis: Redis,
    org_id: UUID,
) -> None:
    hits = count_outcome("hit")
    first = await embedder.embed_query(org_id, "What fell?")

    second = await Embedder(provider, redis, cache_ttl_s=60).embed_query(org_id, "What fell?")

    assert np.array_equal(first, second)
    assert len(server.calls) == 1
    assert count_outcome("hit") - hits == 1


async def test_cache_is_per_organization_and_text(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    await embedder.embed_query(org_id, "What fell?")
    await embedder.embed_query(uuid4(), "What fell?")
    await embedder.embed_query(org_id, "What fell? ")

    assert len(server.calls) == 3


async def test_cached_vector_expires(
    embedder: Embedder, provider: EmbeddingProvider, redis: Redis, org_id: UUID
) -> None:
    await embedder.embed_query(org_id, "What fell?")

    assert 0 < await redis.ttl(key_of(provider, org_id, "What fell?")) <= 60


@pytest.mark.parametrize("damage", ["another query's value", "a flipped byte", "rubbish", "empty"])
async def test_value_that_is_not_this_querys_is_a_miss(
    damage: str,
    embedder: Embedder,
    provider: EmbeddingProvider,
    server: ProviderServer,
    redis: Redis,
    org_id: UUID,
) -> None:
    right = await embedder.embed_query(org_id, "What fell?")
    await embedder.embed_query(org_id, "Who leads?")
    key = key_of(provider, org_id, "What fell?")
    stored = await redis.get(key)
    assert isinstance(stored, bytes)
    other = await redis.get(key_of(provider, org_id, "Who leads?"))
    assert isinstance(other, bytes)
    damaged = {
        "another query's value": other,
        "a flipped byte": stored[:-1] + bytes([stored[-1] ^ 1]),
        "rubbish": b"rubbish",
        "empty": b"",
    }
    await redis.set(key, damaged[damage])

    another = Embedder(provider, redis, cache_ttl_s=60)
    assert np.array_equal(await another.embed_query(org_id, "What fell?"), right)
    assert len(server.calls) == 3


async def test_without_a_ttl_nothing_is_kept(
    provider: EmbeddingProvider, server: ProviderServer, redis: Redis, org_id: UUID
) -> None:
    embedder = Embedder(provider, redis, cache_ttl_s=0)

    await embedder.embed_query(org_id, "What fell?")
    await embedder.embed_query(org_id, "What fell?")

    assert len(server.calls) == 2
    assert await redis.keys(f"*{org_id}*") == []


async def test_query_is_answered_while_redis_is_down(
    provider: EmbeddingProvider, server: ProviderServer, org_id: UUID
) -> None:
    async with open_redis("redis://127.0.0.1:9/0") as nowhere:
        embedder = Embedder(provider, nowhere, cache_ttl_s=60)
        errors = count_outcome("error")

        assert (await embedder.embed_query(org_id, "What fell?")).shape == (DIMENSIONS,)
        assert count_outcome("error") > errors


async def test_query_is_answered_while_redis_hangs(
    provider: EmbeddingProvider, server: ProviderServer, org_id: UUID
) -> None:
    release = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent, open_redis(f"redis://127.0.0.1:{port}/0") as redis:
        embedder = Embedder(provider, redis, cache_ttl_s=60)

        assert (await embedder.embed_query(org_id, "What fell?")).shape == (DIMENSIONS,)
        release.set()


async def test_same_query_at_once_is_one_call(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 0.1

    vectors = await asyncio.gather(*(embedder.embed_query(org_id, "What fell?") for _ in range(20)))

    assert len(server.calls) == 1
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)


async def test_cancelled_caller_leaves_the_others_alone(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 1.0
    shared_before = count_outcome("shared")
    first = asyncio.create_task(embedder.embed_query(org_id, "What fell?"))
    second = asyncio.create_task(embedder.embed_query(org_id, "What fell?"))
    await server.wait_until(lambda: len(server.calls) == 1)
    # The call may be under way before the second one has joined it.
    while count_outcome("shared") == shared_before:
        await asyncio.sleep(0.005)

    first.cancel()

    assert (await second).shape == (DIMENSIONS,)
    assert first.cancelled()
    assert len(server.calls) == 1


async def test_last_cancelled_caller_ends_the_call_and_the_next_starts_anew(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    server.script(Reply(failure=Failure.HANG))
    callers = [asyncio.create_task(embedder.embed_query(org_id, "What fell?")) for _ in range(2)]
    await server.wait_until(lambda: server.open_streams == 1)

    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    assert (await embedder.embed_query(org_id, "What fell?")).shape == (DIMENSIONS,)
    await server.wait_until(lambda: server.aborts == 1)


async def test_shared_failure_reaches_every_caller_and_is_not_kept(
    embedder: Embedder, server: ProviderServer, org_id: UUID
) -> None:
    server.delay_s = 0.1
    server.script(Reply(failure=Failure.STATUS, status=401))

    asked = (embedder.embed_query(org_id, "What fell?") for _ in range(3))
    results = await asyncio.gather(*asked, return_exceptions=True)

    assert all(isinstance(result, ProviderError) for result in results)
    assert (await embedder.embed_query(org_id, "What fell?")).shape == (DIMENSIONS,)


async def test_single_flight_forgets_what_has_landed() -> None:
    flights = SingleFlight[int]()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        return runs

    assert [await flights.run("key", work) for _ in range(3)] == [1, 2, 3]
