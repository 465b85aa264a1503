"""ONNX files, written by hand: what the encoder's graph needs of the format, and no more.

The package ``onnx`` would do it too, for 20 MB and half a second of import; a protobuf message is
length-prefixed fields, and a graph of some hundred nodes needs a dozen of them. Field numbers are
those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, IR version 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

_IR_VERSION, _OPSET = 9, 18
CONTRIB = "com.microsoft"
"""Domain of ONNX Runtime's own operators (docs/ContribOperators.md there)."""
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}
_TYPES[np.dtype(np.int64)] = 7
_FLOAT, _INT = 1, 2  # AttributeProto.AttributeType


@dataclass(slots=True)
class Graph:
    """Nodes and constants in the order in which they are added; names are the caller's."""

    _nodes: list[bytes] = field(default_factory=list)
    _constants: list[bytes] = field(default_factory=list)

    @property
    def n_nodes(self) -> int:
        return len(self._nodes)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds an initializer of float32, int8, uint8 or int64; returns its name."""
        dims = b"".join(_number(1, n) for n in value.shape)
        raw = np.ascontiguousarray(value).tobytes()
        self._constants.append(
            dims + _number(2, _TYPES[value.dtype]) + _text(8, name) + _bytes(9, raw)
        )
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        **attributes: float,
    ) -> str:
        """Adds an operator; an input left out is ``""``. Returns the first output's name."""
        body = b"".join(_text(1, name) for name in inputs)
        body += b"".join(_text(2, name) for name in outputs)
        body += _text(3, f"{outputs[0]}:{op}") + _text(4, op)
        body += b"".join(_bytes(5, _attribute(k, v)) for k, v in attributes.items())
        self._nodes.append(body + _text(7, domain))
        return outputs[0]

    def model(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bytes:
        """The file: a ModelProto with this graph, float32 inputs and outputs."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "graph")
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        graph += b"".join(_bytes(11, t.info()) for t in inputs)
        graph += b"".join(_bytes(12, t.info()) for t in outputs)
        opsets = _bytes(8, _text(1, "") + _number(2, _OPSET))
        opsets += _bytes(8, _text(1, CONTRIB) + _number(2, 1))
        return _number(1, _IR_VERSION) + _bytes(7, graph) + opsets


@dataclass(frozen=True, slots=True)
class Tensor:
    """A float32 input or output; a dimension given by name may have any size."""

    name: str
    shape: tuple[int | str, ...]

    def info(self) -> bytes:
        """ValueInfoProto."""
        dims = b"".join(
            _bytes(1, _text(2, d) if isinstance(d, str) else _number(1, d)) for d in self.shape
        )
        tensor = _number(1, _TYPES[np.dtype(np.float32)]) + _bytes(2, dims)
        return _text(1, self.name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: float) -> bytes:
    if isinstance(value, float):
        single = np.float32(value).tobytes()
        return _text(1, name) + _varint(2 << 3 | 5) + single + _number(20, _FLOAT)
    return _text(1, name) + _number(3, value) + _number(20, _INT)


def _number(key: int, value: int) -> bytes:
    return _varint(key << 3) + _varint(value)


def _text(key: int, value: str) -> bytes:
    return _bytes(key, value.encode())


def _bytes(key: int, value: bytes) -> bytes:
    return _varint(key << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; a negative number as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
