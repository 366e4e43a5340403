"""The ONNX graph of all-MiniLM-L6-v2, written node by node from the weights.

A graph takes the word vectors of ONE text, shape (tokens, 384), and returns its unit vector,
shape (384,). One text a run means no padding, so no mask, and an int8 result that depends on
nothing else in the batch. The look-up of the word vectors stays outside: half of the weights are
that table, and mapped from the weights' file it is shared by all processes.

Written for onnxruntime's CPU kernels as measured (1.31): Add + LayerNormalization costs 0.06 ms
where the fused SkipLayerNormalization costs 0.45, and plain MatMul and Softmax beat
MultiHeadAttention. Sessions must not fuse them back: load with ORT_ENABLE_BASIC.

What makes int8 lose little (1 - cosine falls from 0.0049 to 0.0008 against plain dynamic int8):
- A few channels of the hidden states are 10 times as large as the rest, and one scale for all of
  them leaves the rest few levels. The LayerNorm in front divides every such channel by a constant
  and centers it; the weights behind it multiply by the same constant, so nothing else changes.
- The input of the feed-forward's second half gets one scale per token (`minilm_products`).
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from app.llm.minilm import DIMENSIONS, MAX_INPUT_TOKENS
from app.llm.minilm_products import ORT_DOMAIN, Array, GraphBuilder, Precision, product

Weights = dict[str, Array]
Ranges = dict[str, tuple[Array, Array]]  # name of a hidden state -> its channels' minima, maxima

LAYERS, HEADS, HEAD_SIZE = 6, 12, 32
EPSILON = 1e-12
OPSET, IR_VERSION = 20, 9
INPUT, OUTPUT = "word_vectors", "vector"

# A channel is scaled down to this many times the median channel's range, by the layer it feeds.
ATTENTION_HEADROOM = 1.0
FEED_FORWARD_HEADROOM = 3.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """The precision of each product with weights; `is_smoothed` scales outlier channels down."""

    attention: Precision
    feed_forward_in: Precision
    feed_forward_out: Precision
    is_smoothed: bool = False


FP32 = Scheme(Precision.FLOAT, Precision.FLOAT, Precision.FLOAT)
INT8 = Scheme(Precision.INT8, Precision.INT8, Precision.INT8_BY_ROW, is_smoothed=True)
# Kept for comparison: what `quantize_dynamic` makes, and the same with the last product in fp32.
INT8_PLAIN = Scheme(Precision.INT8, Precision.INT8, Precision.INT8)
INT8_FP32_OUT = Scheme(Precision.INT8, Precision.INT8, Precision.FLOAT)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A LayerNorm's output x as two tensors: `scaled` feeds products, `residual` the next sum.

    x = scaled * scale + shift = residual + shift, channel by channel.
    """

    scaled: str
    residual: str
    scale: Array
    shift: Array


def hidden_names() -> list[str]:
    """Names of the hidden states that products with weights read: calibration measures them."""
    return [f"{kind}{layer}" for layer in range(LAYERS) for kind in ("state", "middle")]


def build_graph(
    weights: Weights, *, scheme: Scheme, ranges: Ranges | None = None, with_hidden: bool = False
) -> bytes:
    """Serialize the graph. A smoothed scheme needs the `ranges` of all `hidden_names()`.

    `with_hidden` adds the hidden states as outputs, which is right only without smoothing.
    """
    graph = GraphBuilder()
    network = _Network(graph, weights, scheme, ranges if scheme.is_smoothed and ranges else {})
    state = network.embeddings()
    for layer in range(LAYERS):
        state = network.feed_forward(layer, network.attention(layer, state))
    mean = graph.node(
        "ReduceMean", [state.residual, graph.constant("axis0", np.array([0]))], "mean", keepdims=0
    )
    graph.node("LpNormalization", [mean], OUTPUT, axis=-1, p=2)
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [DIMENSIONS])]
    for name in hidden_names() if with_hidden else ():
        shape: list[str | int | None] = ["tokens", DIMENSIONS]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    proto = helper.make_graph(
        graph.nodes,
        "minilm",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["tokens", DIMENSIONS])],
        outputs,
        list(graph.constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ORT_DOMAIN, 1)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


class _Network:
    """BERT's blocks on a builder."""

    def __init__(
        self, graph: GraphBuilder, weights: Weights, scheme: Scheme, ranges: Ranges
    ) -> None:
        self.graph, self.weights, self.scheme, self.ranges = graph, weights, scheme, ranges

    def embeddings(self) -> _Hidden:
        graph, weights = self.graph, self.weights
        table = weights["embeddings.position_embeddings.weight"][:MAX_INPUT_TOKENS]
        # Every token is of type 0, so that vector is part of every position's.
        table = table + weights["embeddings.token_type_embeddings.weight"][0]
        tokens = graph.node("Shape", [INPUT], "tokens", start=0, end=1)
        zero = graph.constant("axis0", np.array([0]))
        positions = graph.node(
            "Slice", [graph.constant("positions", table), zero, tokens, zero], "positions_used"
        )
        total = graph.node("Add", [INPUT, positions], "embedded")
        return self._layer_norm(total, "embeddings.LayerNorm", "state0", ATTENTION_HEADROOM)

    def attention(self, layer: int, state: _Hidden) -> _Hidden:
        """Multi-head self-attention, residual and LayerNorm."""
        graph, prefix = self.graph, f"encoder.layer.{layer}.attention"
        weight = np.concatenate([self._weight(f"{prefix}.self.{k}") for k in _QKV], axis=1)
        bias = np.concatenate([self.weights[f"{prefix}.self.{k}.bias"] for k in _QKV])
        # 1/sqrt(head size) of the scores goes into the query's weights.
        weight[:, :DIMENSIONS] /= np.sqrt(HEAD_SIZE)
        bias[:DIMENSIONS] /= np.sqrt(HEAD_SIZE)
        qkv = self._product_of(state, weight, bias, f"qkv{layer}", self.scheme.attention)

        shape = graph.constant("qkv_shape", np.array([0, 3, HEADS, HEAD_SIZE]))
        parts = graph.node("Reshape", [qkv, shape], f"parts{layer}")
        by_head = graph.node("Transpose", [parts], f"by_head{layer}", perm=[1, 2, 0, 3])
        query, key, value = (f"{kind}{layer}" for kind in _QKV)
        graph.nodes.append(
            helper.make_node("Split", [by_head], [query, key, value], axis=0, num_outputs=3)
        )
        scores = graph.node("FusedMatMul", [query, key], f"scores{layer}", transB=1)
        shares = graph.node("Softmax", [scores], f"shares{layer}", axis=-1)
        mixed = graph.node("MatMul", [shares, value], f"mixed{layer}")
        by_token = graph.node("Transpose", [mixed], f"by_token{layer}", perm=[0, 2, 1, 3])
        flat = graph.constant("flat_shape", np.array([-1, DIMENSIONS]))
        context = graph.node("Reshape", [by_token, flat], f"context{layer}")

        output = product(
            graph,
            context,
            self._weight(f"{prefix}.output.dense"),
            self.weights[f"{prefix}.output.dense.bias"] + state.shift,
            f"attended{layer}",
            self.scheme.attention,
        )
        total = graph.node("Add", [output, state.residual], f"attention_sum{layer}")
        norm = f"{prefix}.output.LayerNorm"
        return self._layer_norm(total, norm, f"middle{layer}", FEED_FORWARD_HEADROOM)

    def feed_forward(self, layer: int, state: _Hidden) -> _Hidden:
        """Two dense layers with a GELU between, residual and LayerNorm."""
        graph, prefix = self.graph, f"encoder.layer.{layer}"
        inner = self._product_of(
            state,
            self._weight(f"{prefix}.intermediate.dense"),
            self.weights[f"{prefix}.intermediate.dense.bias"],
            f"inner{layer}",
            self.scheme.feed_forward_in,
        )
        output = product(
            graph,
            graph.node("Gelu", [inner], f"gelu{layer}"),
            self._weight(f"{prefix}.output.dense"),
            self.weights[f"{prefix}.output.dense.bias"] + state.shift,
            f"outer{layer}",
            self.scheme.feed_forward_out,
        )
        total = graph.node("Add", [output, state.residual], f"feed_forward_sum{layer}")
        norm = f"{prefix}.output.LayerNorm"
        return self._layer_norm(total, norm, f"state{layer + 1}", ATTENTION_HEADROOM)

    def _weight(self, name: str) -> Array:
        """A dense layer's matrix, inputs by outputs."""
        return self.weights[f"{name}.weight"].T.copy()

    def _layer_norm(self, total: str, source: str, name: str, headroom: float) -> _Hidden:
        gamma, beta = self.weights[f"{source}.weight"], self.weights[f"{source}.bias"]
        scale, shift = np.ones_like(gamma), np.zeros_like(beta)
        if name in self.ranges:
            low, high = self.ranges[name]
            two = np.float32(2)
            shift, half = (low + high) / two, (high - low) / two
            limit = np.float32(headroom * np.median(half))
            scale = np.maximum(np.float32(1), half / limit)
        gain = self.graph.constant(f"{name}_gain", gamma / scale)
        offset = self.graph.constant(f"{name}_offset", (beta - shift) / scale)
        self.graph.node("LayerNormalization", [total, gain, offset], name, axis=-1, epsilon=EPSILON)
        residual = name
        if name in self.ranges:
            factor = self.graph.constant(f"{name}_scale", scale)
            residual = self.graph.node("Mul", [name, factor], f"{name}_residual")
        return _Hidden(scaled=name, residual=residual, scale=scale, shift=shift)

    def _product_of(
        self, state: _Hidden, weight: Array, bias: Array, name: str, precision: Precision
    ) -> str:
        """x @ weight + bias for a hidden state x that is held scaled and shifted."""
        return product(
            self.graph,
            state.scaled,
            weight * state.scale[:, np.newaxis],
            bias + state.shift @ weight,
            name,
            precision,
        )


_QKV = ("query", "key", "value")
