"""all-MiniLM-L6-v2's six layers as an ONNX graph, in single precision or in eight bits.

Made from the published weights with numpy alone: no exporter, no torch. Looking tokens up happens
outside (skills/minilm.py); the mean over tokens is inside.

The eight-bit graph multiplies int8 weights (a scale per column) by uint8 activations (a range per
call). Left at that it drifts, because a few dimensions of BERT's activations are twenty times
larger than the others, and in one place a few tokens than the rest. Two things keep it true:

* What goes into a product is divided, and the rows of its weights multiplied, by a factor per
  dimension that splits the range between the two: SmoothQuant, arXiv:2211.10438, equation 4,
  with alpha 1/2. Ranges are recorded by a single-precision graph that was made to (``watch``).
* What goes into the second feed-forward product is divided, token by token, by its largest entry,
  and what comes out is multiplied by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skills.onnx_file import CONTRIB, Graph, Tensor

EMBEDDED, MEAN, REACH_OF = "embedded", "mean", "reach of "
WIDTH = 384
_N_LAYERS, _N_HEADS = 6, 12
_EPSILON = 1e-12
_LEAST_REACH = 1e-3

Weights = Mapping[str, np.ndarray]
Reach = Mapping[str, np.ndarray]
"""By product: the largest absolute value of each dimension that went into it, (n_in,)."""


def single_graph(weights: Weights, *, watch: bool = False) -> bytes:
    """An ONNX file that maps ``embedded``, (1, n_tokens, 384), to ``mean``, (1, 384).

    weights: as in the checkpoint, by name. ``embedded`` is the sum of the three embeddings before
    their layer norm; ``mean`` is that of the last hidden states, not normalised. With ``watch``
    the reach of each product comes out, too, as ``reach of`` and the product's name.
    """
    return _Single(weights, watch=watch).build()


def int8_graph(weights: Weights, reach: Reach) -> bytes:
    """The same map with eight-bit products; a quarter of the size."""
    return _Int8(weights, reach).build()


class _Single:
    """Lays out the layers; how a product is made is for ``_Int8`` to change."""

    def __init__(self, weights: Weights, *, watch: bool = False) -> None:
        self.weights, self.watch = weights, watch
        self.graph = Graph()
        self.watched: list[Tensor] = []

    def build(self) -> bytes:
        x = self.norm("embeddings.LayerNorm", EMBEDDED)
        for i in range(_N_LAYERS):
            layer = f"encoder.layer.{i}."
            attended = self.attention(layer, x)
            x = self.norm(f"{layer}attention.output.LayerNorm", attended)
            x = self.norm(f"{layer}output.LayerNorm", self.feed_forward(layer, x))
        self.graph.node("ReduceMean", [x, self.axis(1)], [MEAN], keepdims=0)
        return self.graph.model(
            [Tensor(EMBEDDED, (1, "n_tokens", WIDTH))], [Tensor(MEAN, (1, WIDTH)), *self.watched]
        )

    def norm(self, name: str, x: str) -> str:
        inputs = [x, self.array(f"{name}.weight"), self.array(f"{name}.bias")]
        # After an Add this takes 26 microseconds for 26 tokens; the contributed operator that does
        # both takes 80 (ONNX Runtime 1.31).
        return self.graph.node("LayerNormalization", inputs, [name], axis=-1, epsilon=_EPSILON)

    def attention(self, layer: str, x: str) -> str:
        """Residual included."""
        parts = [self.dense(f"{layer}attention.self.{p}") for p in ("query", "key", "value")]
        weight = np.concatenate([w for w, _ in parts], axis=1)
        bias = np.concatenate([b for _, b in parts])
        together = self.product(f"{layer}qkv", x, weight, bias)
        sizes = self.graph.constant(f"{layer}sizes", np.array([WIDTH] * 3))
        names = [f"{layer}{p}" for p in ("query", "key", "value")]
        self.graph.node("Split", [together, sizes], names, axis=2)
        context = self.graph.node(
            "MultiHeadAttention", names, [f"{layer}context"], domain=CONTRIB, num_heads=_N_HEADS
        )
        weight, bias = self.dense(f"{layer}attention.output.dense")
        attended = self.product(f"{layer}attended", context, weight, bias)
        return self.graph.node("Add", [x, attended], [f"{attended} and x"])

    def feed_forward(self, layer: str, x: str) -> str:
        """Residual included."""
        inner = self.product(f"{layer}inner", x, *self.dense(f"{layer}intermediate.dense"))
        inner = self.graph.node("Gelu", [inner], [f"{layer}gelu"], domain=CONTRIB)
        outer = self.product_by_token(f"{layer}outer", inner, *self.dense(f"{layer}output.dense"))
        return self.graph.node("Add", [x, outer], [f"{outer} and x"])

    def product(self, name: str, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """``x @ weight + bias``, (n_in, n_out) and (n_out,)."""
        if self.watch:
            absolute = self.graph.node("Abs", [x], [f"{name} absolute"])
            reach = f"{REACH_OF}{name}"
            self.graph.node("ReduceMax", [absolute, self.axis(0, 1)], [reach], keepdims=0)
            self.watched.append(Tensor(reach, (len(weight),)))
        multiplied = self.graph.node(
            "MatMul", [x, self.graph.constant(f"{name}.weight", weight)], [f"{name} without bias"]
        )
        return self.plus(name, multiplied, bias)

    product_by_token = product

    def plus(self, name: str, x: str, bias: np.ndarray) -> str:
        return self.graph.node("Add", [x, self.graph.constant(f"{name}.bias", bias)], [name])

    def dense(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The checkpoint has weights transposed."""
        return self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"]

    def array(self, name: str) -> str:
        return self.graph.constant(name, self.weights[name])

    def axis(self, *axes: int) -> str:
        return self.graph.constant(f"axes {axes} {self.graph.n_nodes}", np.array(axes))


class _Int8(_Single):
    def __init__(self, weights: Weights, reach: Reach) -> None:
        super().__init__(weights)
        self.reach = reach

    def product(self, name: str, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        inputs = [*self.quantized(name, x, weight), "", self.graph.constant(f"{name}.bias", bias)]
        return self.graph.node("DynamicQuantizeMatMul", inputs, [name], domain=CONTRIB)

    def product_by_token(self, name: str, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        smooth, *rest = self.quantized(name, x, weight)
        # Of fifteen hundred GELUs the largest is positive.
        largest = self.graph.node("ReduceMax", [smooth, self.axis(-1)], [f"{name} largest"])
        unit = self.graph.node("Div", [smooth, largest], [f"{name} unit"])
        product = self.graph.node(
            "DynamicQuantizeMatMul", [unit, *rest], [f"{name} of unit"], domain=CONTRIB
        )
        back = self.graph.node("Mul", [product, largest], [f"{name} without bias"])
        return self.plus(name, back, bias)

    def quantized(self, name: str, x: str, weight: np.ndarray) -> list[str]:
        """Inputs of the product: x over the factor, and weight times it, in int8 and scales."""
        reach = np.maximum(self.reach[name], _LEAST_REACH)
        factor = np.sqrt(reach / np.abs(weight).max(axis=1)).astype(np.float32)
        inverse = self.graph.constant(f"{name}.inverse", 1 / factor)
        rows = weight.T * factor  # in the checkpoint's layout, twice as fast
        scale = np.abs(rows).max(axis=1) / 127
        rows /= scale[:, None]
        return [
            self.graph.node("Mul", [x, inverse], [f"{name} smooth"]),
            self.graph.constant(f"{name}.weight", np.rint(rows, out=rows).astype(np.int8).T),
            self.graph.constant(f"{name}.scale", scale),
        ]
