"""The embedding model in several precisions, for comparison within one run."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from app.llm.base import FloatMatrix
from app.llm.minilm import verified_weights
from app.llm.minilm_build import build_scheme, calibration_ids
from app.llm.minilm_graph import FP32, INT8, INT8_FP32_OUT, INT8_PLAIN
from app.llm.minilm_session import MiniLMSession

SCHEMES = {"fp32": FP32, "int8-plain": INT8_PLAIN, "int8-fp32-out": INT8_FP32_OUT, "int8": INT8}
CHOSEN = "int8"

IdLists = Sequence[NDArray[np.int64]]


def open_variants() -> dict[str, MiniLMSession]:
    """Build and load every variant; fp32, the reference, comes first."""
    path = verified_weights()
    weights, texts = load_file(path), calibration_ids()
    return {
        name: MiniLMSession(build_scheme(weights, scheme, texts), path)
        for name, scheme in SCHEMES.items()
    }


def embed_ids(session: MiniLMSession, ids: IdLists, *, threads: int) -> FloatMatrix:
    """Embed texts side by side, the longest first; rows in the order of `ids`."""
    order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
    with ThreadPoolExecutor(threads) as pool:
        vectors = list(pool.map(session.vector, [ids[index] for index in order]))
    matrix = np.empty((len(ids), vectors[0].shape[0]), dtype=np.float32)
    matrix[order] = vectors
    return matrix
