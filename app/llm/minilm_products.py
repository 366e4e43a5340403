"""Products with constant weights in an ONNX graph, in fp32 or int8."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[np.float32]

ORT_DOMAIN = "com.microsoft"
_ORT_OPS = frozenset({"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "FusedMatMul"})

# A GELU is never below -0.17, so a row's 255 levels need not be split evenly around zero.
GELU_MIN = 0.17
NEGATIVE_LEVELS = 20
# Not all 127: without VNNI a processor adds two products in 16 bits, which saturate. The lowest
# cosine to fp32 seen there: 0.993 with 127 levels, 0.997 with 95, 0.994 with 63.
WEIGHT_LEVELS = 95


class Precision(StrEnum):
    FLOAT = "float"
    INT8 = "int8"  # one activation scale for the whole text
    INT8_BY_ROW = "int8_by_row"  # a scale for each token; only for what is never below -GELU_MIN


class GraphBuilder:
    """Collects the nodes and constants of a graph. A tensor is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(
        self, op: str, inputs: list[str], output: str, **attributes: int | float | list[int]
    ) -> str:
        domain = ORT_DOMAIN if op in _ORT_OPS else ""
        # The stub takes every keyword for one of its four named text parameters.
        made = helper.make_node(op, inputs, [output], domain=domain, **attributes)  # type: ignore[arg-type]
        self.nodes.append(made)
        return output


def product(
    graph: GraphBuilder, x: str, weight: Array, bias: Array, name: str, precision: Precision
) -> str:
    """Add x @ weight + bias to the graph; returns the name of the result."""
    addend = graph.constant(f"{name}_bias", bias.astype(np.float32))
    if precision is Precision.FLOAT:
        return graph.node("Gemm", [x, graph.constant(f"{name}_weight", weight), addend], name)
    quantized, scale = quantize_columns(weight)
    matrix = graph.constant(f"{name}_weight", quantized)
    column_scale = graph.constant(f"{name}_weight_scale", scale)
    if precision is Precision.INT8:
        inputs = [x, matrix, column_scale, "", addend]
        return graph.node("DynamicQuantizeMatMul", inputs, name)
    levels, row_scale = _quantize_rows(graph, x, name)
    one = graph.constant("one", np.array(1, np.float32))
    zero_point = graph.constant("negative_levels", np.array(NEGATIVE_LEVELS, np.uint8))
    summed = graph.node(
        "MatMulIntegerToFloat", [levels, matrix, one, column_scale, zero_point], f"{name}_sum"
    )
    axis = graph.constant("axis1", np.array([1]))
    column = graph.node("Unsqueeze", [row_scale, axis], f"{name}_row_scale")
    scaled = graph.node("Mul", [summed, column], f"{name}_product")
    return graph.node("Add", [scaled, addend], name)


def _quantize_rows(graph: GraphBuilder, x: str, name: str) -> tuple[str, str]:
    """uint8 levels of x with one scale per row, wide enough for -GELU_MIN; and the scales."""
    axis = graph.constant("axis1", np.array([1]))
    highest = graph.node("ReduceMax", [x, axis], f"{name}_max", keepdims=0)
    per_level = graph.constant("per_level", np.array(1 / (255 - NEGATIVE_LEVELS), np.float32))
    wanted = graph.node("Mul", [highest, per_level], f"{name}_wanted")
    least = graph.constant("least_scale", np.array(GELU_MIN / NEGATIVE_LEVELS, np.float32))
    scale = graph.node("Max", [wanted, least], f"{name}_scale")
    point = graph.constant("zero_point", np.array([NEGATIVE_LEVELS], np.uint8))
    points = graph.node("Expand", [point, "tokens"], f"{name}_points")
    levels = graph.node("QuantizeLinear", [x, scale, points], f"{name}_levels", axis=0)
    return levels, scale


def quantize_columns(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Return int8 levels and one scale per column, so that levels * scale is near `weight`."""
    scale = (np.abs(weight).max(axis=0) / WEIGHT_LEVELS).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale
