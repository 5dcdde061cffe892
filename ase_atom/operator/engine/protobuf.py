"""ONNX models as bytes, in the wire format of protocol buffers.

Of the format a network needs a dozen fields; the package `onnx`, which has all of them, is three
times as slow to import as the runtime that reads the result. Field numbers are those of
``onnx.proto`` of ONNX 1.12 (IR version 8, operator set 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IR_VERSION, OPERATOR_SET = 8, 17
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float64): 11}
_FLOAT, _INT, _INTS = 1, 2, 7  # AttributeProto.AttributeType


def tensor_type(dtype: Any) -> int:
    """Number that ONNX has for a type of numpy."""
    return _TYPES[np.dtype(dtype)]


def model(graph: bytes) -> bytes:
    """A ModelProto around a graph."""
    operators = _field(1, b"") + _field(2, OPERATOR_SET)
    return _field(1, IR_VERSION) + _field(2, b"ase-atom") + _field(7, graph) + _field(8, operators)


def graph(
    name: str,
    nodes: Iterable[bytes],
    constants: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
) -> bytes:
    """A GraphProto."""
    parts = [_field(1, node) for node in nodes]
    parts.append(_field(2, name.encode()))
    parts += [_field(5, constant) for constant in constants]
    parts += [_field(11, value) for value in inputs]
    parts += [_field(12, value) for value in outputs]
    return b"".join(parts)


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]
) -> bytes:
    """A NodeProto; attributes are whole numbers, lists of them, or floats."""
    parts = [_field(1, name.encode()) for name in inputs]
    parts += [_field(2, name.encode()) for name in outputs]
    parts.append(_field(4, operator.encode()))
    parts += [_field(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts)


def constant(name: str, array: NDArray[Any]) -> bytes:
    """A TensorProto with a name."""
    array = np.ascontiguousarray(array)
    parts = [_field(1, size) for size in array.shape]
    parts += [_field(2, tensor_type(array.dtype)), _field(8, name.encode())]
    parts.append(_field(9, array.astype(array.dtype.newbyteorder("<")).tobytes()))
    return b"".join(parts)


def value(name: str, dtype: Any, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto; a size that is a name is free."""
    sizes = [_field(1, size) if isinstance(size, int) else _field(2, size.encode())
             for size in shape]  # fmt: skip
    shape_proto = b"".join(_field(1, size) for size in sizes)
    tensor = _field(1, tensor_type(dtype)) + _field(2, shape_proto)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        content = bytes([2 << 3 | 5]) + np.array(value, "<f4").tobytes() + _field(20, _FLOAT)
    elif isinstance(value, int):
        content = _field(3, value) + _field(20, _INT)
    else:
        content = b"".join(_field(8, item) for item in value) + _field(20, _INTS)
    return _field(1, name.encode()) + content


def _field(number: int, content: int | bytes) -> bytes:
    """A field of whole numbers, or one with a length before it."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= 2**64 - 1  # below zero: as two's complement
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
