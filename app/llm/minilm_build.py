"""`python -m app.llm.minilm_build CACHE_DIR`: build the int8 graph and put it into the cache.

A process of its own: the peak of 400 MB ends with it.
"""

import fcntl
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import load_file

from app.core.process import die_with_parent
from app.llm.minilm import WORD_TABLE, graph_path, model_dir, verified_weights
from app.llm.minilm_graph import (
    FP32,
    INPUT,
    INT8,
    Ranges,
    Scheme,
    Weights,
    build_graph,
    hidden_names,
)
from app.llm.minilm_session import MiniLMSession
from app.llm.wordpiece import WordPieceTokenizer

# Below this against fp32 the processor's int8 products saturate (no VNNI), and fp32 is used.
MIN_COSINE = 0.99
CALIBRATION_WORDS = 120  # words of a text, so that its word pieces fit

IdLists = list[NDArray[np.int64]]


def build_into(cache_dir: Path) -> Path:
    """Build the graph unless it is there. Returns its path; waits while another process builds.

    Raises ProviderError when the weights are missing or are not the expected ones.
    """
    path = graph_path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _write_atomically(path, best_graph(verified_weights()))
    return path


def best_graph(weights_path: Path) -> bytes:
    """Return the int8 graph, or the fp32 one where int8 strays too far on this processor."""
    weights = load_file(weights_path)
    texts = calibration_ids()
    quantized = build_scheme(weights, INT8, texts)
    exact = build_graph(weights, scheme=FP32)
    cosine = lowest_cosine(
        MiniLMSession(quantized, weights_path), MiniLMSession(exact, weights_path), texts
    )
    return quantized if cosine >= MIN_COSINE else exact


def build_scheme(weights: Weights, scheme: Scheme, texts: IdLists) -> bytes:
    """Build one variant, measuring the channels' ranges on `texts` if it needs them."""
    ranges = channel_ranges(weights, texts) if scheme.is_smoothed else None
    return build_graph(weights, scheme=scheme, ranges=ranges)


def channel_ranges(weights: Weights, texts: IdLists) -> Ranges:
    """Minimum and maximum of each hidden state's channels over all tokens of the texts."""
    graph = build_graph(weights, scheme=FP32, with_hidden=True)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = hidden_names()
    runs = [session.run(names, {INPUT: weights[WORD_TABLE][ids]}) for ids in texts]
    ranges: Ranges = {}
    for index, name in enumerate(names):
        low = np.min([states[index].min(axis=0) for states in runs], axis=0)
        high = np.max([states[index].max(axis=0) for states in runs], axis=0)
        ranges[name] = (low, high)
    return ranges


def calibration_ids() -> IdLists:
    """Word pieces of the model card that comes with the weights: prose, names, numbers, markup."""
    words = (model_dir() / "README.md").read_text(encoding="utf-8").split()
    starts = range(0, len(words), CALIBRATION_WORDS)
    tokenizer = WordPieceTokenizer()
    return [tokenizer.ids(" ".join(words[start : start + CALIBRATION_WORDS])) for start in starts]


def lowest_cosine(one: MiniLMSession, other: MiniLMSession, texts: IdLists) -> float:
    """The lowest cosine between the two models' vectors of the same text."""
    return min(float(one.vector(ids) @ other.vector(ids)) for ids in texts)


def _write_atomically(path: Path, content: bytes) -> None:
    # One name is enough under the lock, and a killed build's leftover is overwritten by the next.
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    # A build takes seconds, and a stack that was killed must not leave it behind.
    die_with_parent()
    build_into(Path(sys.argv[1]))
