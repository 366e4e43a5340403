"""What a vector looks like in the cache, and under which key."""

from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from app.llm.base import EmbeddingProvider
from app.llm.embedding_cache import pack_vector, query_key, space_name, unpack_vector
from app.llm.providers.ollama import OllamaEmbedding
from app.llm.providers.openai import OpenAIEmbedding

DIMENSIONS = 384


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4")
    return units


def passages_and_questions() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors like those of real models: all in one cone, in topics, their axes uneven."""
    random = np.random.default_rng(2026)
    axes = 1 / np.sqrt(1 + np.arange(DIMENSIONS))
    topics = random.normal(size=(40, DIMENSIONS)) * axes + 0.1
    passages = topics[random.integers(40, size=4000)] + 0.7 * axes * random.normal(
        size=(4000, DIMENSIONS)
    )
    asked = random.integers(4000, size=300)
    questions = passages[asked] + 0.5 * axes * random.normal(size=(300, DIMENSIONS))
    return unit_rows(passages), unit_rows(questions)


def through_the_cache(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    found = unpack_vector("key", pack_vector("key", vector))
    assert found is not None
    return found


def test_float16_changes_no_ranking_that_anybody_notices() -> None:
    passages, questions = passages_and_questions()
    kept = np.stack([through_the_cache(question) for question in questions])

    exact, rounded = questions @ passages.T, kept @ passages.T

    assert np.abs(exact - rounded).max() < 2e-4
    best, best_kept = np.argsort(-exact)[:, :10], np.argsort(-rounded)[:, :10]
    overlap = np.mean([len(set(a) & set(b)) for a, b in zip(best, best_kept, strict=True)]) / 10
    assert overlap > 0.995
    # Where two change places they were as good as equal.
    pairs = np.take_along_axis(exact, best, 1) - np.take_along_axis(exact, best_kept, 1)
    assert np.abs(pairs).max() < 2e-4


@pytest.mark.parametrize("dimensions", [8, 384, 4096])
def test_what_comes_out_is_a_read_only_unit_vector_of_half_the_size(dimensions: int) -> None:
    rows = np.random.default_rng(1).normal(size=(1, dimensions))
    vector = unit_rows(rows)[0]

    found = through_the_cache(vector)

    assert len(pack_vector("key", vector)) == 32 + 2 * dimensions
    assert found.dtype == np.float32
    assert abs(np.linalg.norm(found.astype(np.float64)) - 1) < 1e-6
    assert not found.flags.writeable


def test_a_value_of_another_key_or_length_is_none() -> None:
    vector = unit_rows(np.random.default_rng(1).normal(size=(1, 384)))[0]
    value = pack_vector("key", vector)

    assert unpack_vector("other", value) is None
    assert unpack_vector("key", value[:-1]) is None
    assert unpack_vector("key", value[:32]) is None
    assert unpack_vector("key", None) is None


def space(**changes: Any) -> str:
    made_of: dict[str, Any] = {
        "provider": "openai",
        "model": "m",
        "endpoint": "http://one.example/v1",
        "dimensions": 384,
    }
    return space_name(**(made_of | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "ollama"},
        {"model": "n"},
        {"endpoint": "http://two.example/v1"},
        {"dimensions": 768},
        {"dimensions": None},
    ],
)
def test_another_space_has_another_name(changes: dict[str, Any]) -> None:
    assert space(**changes) != space()


def test_another_organization_or_text_has_another_key() -> None:
    keys = {query_key(UUID(int=n), space(), text) for n in (1, 2) for text in ("t", "t ", "T")}

    assert len(keys) == 6


def test_a_key_shows_neither_the_text_nor_the_address() -> None:
    endpoint = "http://user:secret@one.example/v1"

    key = query_key(uuid4(), space(endpoint=endpoint), "Whose is it?")

    for told in ("secret", "example", "Whose"):
        assert told not in key


async def test_providers_say_where_they_are() -> None:
    urls = ("http://one.example/v1", "http://two.example/v1/")
    providers: list[EmbeddingProvider] = [
        *(OpenAIEmbedding(api_key="k", base_url=url, model="m") for url in urls),
        *(OllamaEmbedding(base_url=url, model="m") for url in urls),
    ]

    assert [provider.endpoint for provider in providers] == [
        "http://one.example/v1",
        "http://two.example/v1",
    ] * 2
    for provider in providers:
        await provider.aclose()
