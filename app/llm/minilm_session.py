"""Running all-MiniLM-L6-v2: word pieces in, unit vectors out. Needs the optional packages."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.llm.base import FloatMatrix
from app.llm.minilm import DIMENSIONS, WORD_TABLE, ensure_graph, verified_weights


class MiniLMSession:
    """One text's ids to its vector. Safe to call from several threads; onnxruntime drops the GIL.

    One thread inside a run: two texts side by side are faster than two threads on one text.
    """

    def __init__(self, graph: Path | bytes, weights: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Beyond BASIC it would fuse LayerNormalization into a slower kernel.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 3
        source = graph if isinstance(graph, bytes) else str(graph)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._words = map_tensor(weights, WORD_TABLE)

    def vector(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embed the word pieces of one text, shape (n,) with 1 <= n <= 256: shape (384,)."""
        outputs = self._session.run(None, {"word_vectors": self._words[ids]})
        vector: NDArray[np.float32] = outputs[0]
        return vector


def open_session(cache_dir: Path) -> MiniLMSession:
    """Load the model, building its graph first if need be. Blocks. Raises ProviderError."""
    weights = verified_weights()
    return MiniLMSession(ensure_graph(cache_dir), weights)


def map_tensor(path: Path, name: str) -> FloatMatrix:
    """Map one float32 matrix of a safetensors file, without reading it into memory."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_bytes))[name]
    rows, columns = entry["shape"]
    if entry["dtype"] != "F32" or columns != DIMENSIONS:
        raise ValueError(f"{name} is not a float32 matrix of {DIMENSIONS} columns")
    offset = 8 + header_bytes + entry["data_offsets"][0]
    return np.memmap(path, np.float32, "r", offset=offset, shape=(rows, columns))
