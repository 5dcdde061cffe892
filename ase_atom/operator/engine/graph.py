"""Expressions over arrays, written down as an ONNX graph, with their gradients.

Sizes are whole numbers, or names where they are free. A gradient is one more expression, made by
the chain rule backwards from a sum (reverse mode; Griewank and Walther, Evaluating Derivatives,
2008, chapter 3), so that one session of the runtime returns values and gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_atom.operator.engine import protobuf

Size = int | str
Backward = Callable[["Value"], list[tuple["Value", "Value"]]]
"""From the gradient of an operation's result to those of its operands."""


@dataclass(frozen=True, eq=False)
class Value:
    """An array in a graph: an input, a constant, or what an operation gives."""

    graph: Graph
    name: str
    shape: tuple[Size, ...]
    dtype: np.dtype[Any]

    def __add__(self, other: Value | float) -> Value:
        return self.graph.add(self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.graph.subtract(self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.graph.multiply(self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.graph.divide(self, other)

    def __matmul__(self, other: Value | NDArray[Any]) -> Value:
        return self.graph.matmul(self, other)

    def __neg__(self) -> Value:
        return self.graph.multiply(self, -1.0)


@dataclass(frozen=True)
class _Step:
    operator: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attributes: dict[str, Any]
    backward: Callable[..., list[tuple[Value, Value]]] | None


class Graph:
    """A graph under construction."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self._steps: list[_Step] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._shapes: dict[tuple[tuple[Size, ...], int], Value] = {}
        self._count = 0

    # -- leaves ------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[Size], dtype: Any = np.float32) -> Value:
        """An array that is given to each run."""
        value = Value(self, name, tuple(shape), np.dtype(dtype))
        self.inputs.append(value)
        return value

    def constant(self, array: Any, dtype: Any = np.float32) -> Value:
        """An array that is part of the graph."""
        array = np.asarray(array, dtype)
        name = f"c{len(self._constants)}"
        self._constants[name] = array
        return Value(self, name, array.shape, array.dtype)

    # -- arithmetic --------------------------------------------------------------------------------

    def add(self, a: Value, b: Value | float) -> Value:
        """a + b, broadcast."""
        b = self._like(b, a)
        return self._broadcast("Add", a, b, lambda g: [(a, g), (b, g)])

    def subtract(self, a: Value, b: Value | float) -> Value:
        """a − b, broadcast."""
        b = self._like(b, a)
        return self._broadcast("Sub", a, b, lambda g: [(a, g), (b, -g)])

    def multiply(self, a: Value, b: Value | float) -> Value:
        """a · b, broadcast."""
        b = self._like(b, a)
        return self._broadcast("Mul", a, b, lambda g: [(a, g * b), (b, g * a)])

    def divide(self, a: Value, b: Value | float) -> Value:
        """a / b, broadcast."""
        b = self._like(b, a)
        result = self._broadcast("Div", a, b, lambda g: [(a, g / b), (b, -(g * result) / b)])
        return result

    def square(self, a: Value) -> Value:
        """a²."""
        two = self.constant(2.0, a.dtype)
        return self._apply("Pow", (a, two), a.shape, lambda g: [(a, g * a * 2.0)])

    def sqrt(self, a: Value) -> Value:
        """The square root."""
        result = self._apply("Sqrt", (a,), a.shape, lambda g: [(a, g / result * 0.5)])
        return result

    def exp(self, a: Value) -> Value:
        """The exponential."""
        result = self._apply("Exp", (a,), a.shape, lambda g: [(a, g * result)])
        return result

    def cos(self, a: Value) -> Value:
        """The cosine."""

        def backward(g: Value) -> list[tuple[Value, Value]]:
            return [(a, -(g * self._apply("Sin", (a,), a.shape, None)))]

        return self._apply("Cos", (a,), a.shape, backward)

    def minimum(self, a: Value, b: Value | float) -> Value:
        """The lesser, broadcast; the gradient is a's where that is less."""
        b = self._like(b, a)

        def backward(g: Value) -> list[tuple[Value, Value]]:
            less = self._apply("Less", (a, b), a.shape, None, np.bool_)
            return [(a, g * self.cast(less, a.dtype))]

        return self._apply("Min", (a, b), a.shape, backward)

    def sigmoid(self, a: Value) -> Value:
        """1 / (1 + e^(−a))."""
        gate = self._apply("Sigmoid", (a,), a.shape, lambda g: [(a, g * (gate - gate * gate))])
        return gate

    def silu(self, a: Value) -> Value:
        """a / (1 + e^(−a))."""
        return a * self.sigmoid(a)

    def gelu(self, a: Value) -> Value:
        """a times the normal distribution's integral up to a."""

        def backward(g: Value) -> list[tuple[Value, Value]]:
            bell = self.exp(self.square(a) * -0.5) * (1 / math.sqrt(2 * math.pi))
            return [(a, g * (below + a * bell))]

        erf = self._apply("Erf", (a * math.sqrt(0.5),), a.shape, None)
        below = erf * 0.5 + 0.5
        return self._apply("Mul", (a, below), a.shape, backward)

    def softmax(self, a: Value) -> Value:
        """Over the last axis."""

        def backward(g: Value) -> list[tuple[Value, Value]]:
            weighed = g * result
            return [(a, weighed - result * self.sum(weighed, [-1]))]

        result = self._apply("Softmax", (a,), a.shape, backward, axis=-1)
        return result

    def rms_norm(self, a: Value, epsilon: float) -> Value:
        """a over its root mean square along the last axis."""
        return a / self.sqrt(self.mean(self.square(a)) + epsilon)

    def cast(self, a: Value, dtype: Any) -> Value:
        """In another precision; without gradients."""
        kind = protobuf.tensor_type(dtype)
        return self._apply("Cast", (a,), a.shape, None, dtype, to=kind)

    # -- sums and products -------------------------------------------------------------------------

    def sum(self, a: Value, axes: Sequence[int]) -> Value:
        """Over some axes, which stay with size 1."""
        axes = [axis % len(a.shape) for axis in axes]
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(a.shape))
        if shape == a.shape:
            return a
        which = self.constant(axes, np.int64)
        return self._apply(
            "ReduceSum", (a, which), shape, lambda g: [(a, self._expand(g, a))], keepdims=1
        )

    def mean(self, a: Value) -> Value:
        """Over the last axis, which stays with size 1."""
        size = a.shape[-1]
        assert isinstance(size, int)
        return self._apply(
            "ReduceMean", (a,), (*a.shape[:-1], 1),
            lambda g: [(a, self._expand(g * (1 / size), a))], axes=[-1], keepdims=1,
        )  # fmt: skip

    def matmul(self, a: Value, b: Value | NDArray[Any]) -> Value:
        """Matrix product over the last two axes."""
        b = b if isinstance(b, Value) else self.constant(b)
        flat = len(b.shape) == 2
        shape = (*a.shape[:-1], b.shape[-1])

        def backward(g: Value) -> list[tuple[Value, Value]]:
            if b.name in self._constants:
                return [(a, g @ self._constants[b.name].T)] if flat else [(a, g @ self.swap(b))]
            return [(a, g @ self.swap(b)), (b, self.swap(a) @ g)]

        return self._apply("MatMul", (a, b), shape, backward)

    def affine(self, a: Value, weight: NDArray[Any], bias: NDArray[Any]) -> Value:
        """Matrix product and a bias, in one pass over the rows of a large array."""
        rows = self.constant([-1, len(weight)], np.int64)
        flat = self._apply("Reshape", (a, rows), ("rows", len(weight)), None)
        given = (flat, self.constant(weight), self.constant(bias))
        product = self._apply("Gemm", given, ("rows", len(bias)), None)
        key = a.shape[:-1], len(bias)
        if key not in self._shapes:
            leading = self._apply("Shape", (a,), (len(a.shape) - 1,), None, np.int64, end=-1)
            width = self.constant([len(bias)], np.int64)
            shape = self._apply("Concat", (leading, width), (len(a.shape),), None, axis=0)
            self._shapes[key] = shape
        shape = self._shapes[key]
        return self._apply(
            "Reshape", (product, shape), (*a.shape[:-1], len(bias)), lambda g: [(a, g @ weight.T)]
        )

    # -- shapes ------------------------------------------------------------------------------------

    def swap(self, a: Value) -> Value:
        """The last two axes swapped."""
        order = list(range(len(a.shape)))
        order[-2:] = order[-1], order[-2]
        return self.transpose(a, order)

    def transpose(self, a: Value, order: Sequence[int]) -> Value:
        """Axes in another order."""
        back = [list(order).index(axis) for axis in range(len(order))]
        return self._apply(
            "Transpose", (a,), tuple(a.shape[axis] for axis in order),
            lambda g: [(a, self.transpose(g, back))], perm=list(order),
        )  # fmt: skip

    def reshape(self, a: Value, shape: Sequence[Size]) -> Value:
        """Other sizes; free ones stay at their places, before those that change."""
        if tuple(shape) == a.shape:
            return a
        sizes = [size if isinstance(size, int) else 0 for size in shape]
        kept = all(now == new for now, new in zip(a.shape, shape, strict=False)
                   if isinstance(new, str))  # fmt: skip
        assert kept
        return self._apply(
            "Reshape", (a, self.constant(sizes, np.int64)), tuple(shape),
            lambda g: [(a, self.reshape(g, a.shape))],
        )  # fmt: skip

    def unsqueeze(self, a: Value, axis: int) -> Value:
        """One more axis of size 1."""
        shape = (*a.shape[:axis], 1, *a.shape[axis:])
        where = self.constant([axis], np.int64)

        def backward(g: Value) -> list[tuple[Value, Value]]:
            return [(a, self._apply("Squeeze", (g, where), a.shape, None))]

        return self._apply("Unsqueeze", (a, where), shape, backward)

    def concat(self, parts: Sequence[Value], axis: int = -1) -> Value:
        """Side by side along an axis of whole sizes."""
        sizes = [part.shape[axis] for part in parts]
        shape = list(parts[0].shape)
        shape[axis] = sum(size for size in sizes if isinstance(size, int))

        def backward(g: Value) -> list[tuple[Value, Value]]:
            pieces = self.split(g, [int(size) for size in sizes], axis)
            return list(zip(parts, pieces, strict=True))

        return self._apply("Concat", tuple(parts), tuple(shape), backward, axis=axis)

    def split(self, a: Value, sizes: Sequence[int], axis: int = -1) -> list[Value]:
        """Pieces along an axis."""
        shapes = []
        for size in sizes:
            shape = list(a.shape)
            shape[axis] = size
            shapes.append(tuple(shape))
        results = tuple(self._fresh(shape, a.dtype) for shape in shapes)

        def backward(*gradients: Value | None) -> list[tuple[Value, Value]]:
            filled = [part * 0.0 if g is None else g
                      for part, g in zip(results, gradients, strict=True)]  # fmt: skip
            return [(a, self.concat(filled, axis))]

        given = (a, self.constant(list(sizes), np.int64))
        self._steps.append(_Step("Split", given, results, {"axis": axis}, backward))
        return list(results)

    def halves(self, a: Value, axis: int, size: Size) -> tuple[Value, Value]:
        """Both halves along an axis of a free size; without gradients."""
        shape = list(a.shape)
        shape[axis] = size
        both = tuple(self._fresh(tuple(shape), a.dtype) for _ in range(2))
        self._steps.append(_Step("Split", (a,), both, {"axis": axis}, None))
        return both

    # -- gradients and output ----------------------------------------------------------------------

    def gradient(self, total: Value, of: Value) -> Value:
        """Gradient of the sum of an array's elements."""
        found: dict[str, Value] = {total.name: self._expand(self.constant(1.0), total)}
        for step in reversed(self._steps[:]):
            gradients = [found.get(result.name) for result in step.outputs]
            if step.backward is None or all(each is None for each in gradients):
                continue
            for operand, part in step.backward(*gradients):
                if operand.name in self._constants:
                    continue
                part = self._reduced(part, operand.shape)
                before = found.get(operand.name)
                found[operand.name] = part if before is None else before + part
        return found[of.name]

    def model(self, outputs: dict[str, Value]) -> bytes:
        """The part of the graph that outputs need, as the bytes of an ONNX model."""
        needed = {value.name for value in outputs.values()}
        steps = []
        for step in reversed(self._steps):
            if any(result.name in needed for result in step.outputs):
                steps.append(step)
                needed.update(value.name for value in step.inputs)
        nodes = [
            protobuf.node(
                step.operator, [value.name for value in step.inputs],
                [value.name for value in step.outputs], step.attributes,
            )
            for step in reversed(steps)
        ]  # fmt: skip
        nodes += [protobuf.node("Identity", [v.name], [name], {}) for name, v in outputs.items()]
        graph = protobuf.graph(
            "network",
            nodes,
            [protobuf.constant(n, array) for n, array in self._constants.items() if n in needed],
            [protobuf.value(v.name, v.dtype, v.shape) for v in self.inputs if v.name in needed],
            [protobuf.value(name, v.dtype, v.shape) for name, v in outputs.items()],
        )
        return protobuf.model(graph)

    def _like(self, b: Value | float, a: Value) -> Value:
        return b if isinstance(b, Value) else self.constant(b, a.dtype)

    def _broadcast(self, operator: str, a: Value, b: Value, backward: Backward) -> Value:
        rank = max(len(a.shape), len(b.shape))
        wide = [(1,) * (rank - len(v.shape)) + v.shape for v in (a, b)]
        shape = tuple(right if left == 1 else left for left, right in zip(*wide, strict=True))
        return self._apply(operator, (a, b), shape, backward)

    def _apply(
        self,
        operator: str,
        inputs: tuple[Value, ...],
        shape: tuple[Size, ...],
        backward: Backward | None,
        dtype: Any = None,
        **attributes: Any,
    ) -> Value:
        result = self._fresh(shape, inputs[0].dtype if dtype is None else np.dtype(dtype))
        self._steps.append(_Step(operator, inputs, (result,), attributes, backward))
        return result

    def _fresh(self, shape: tuple[Size, ...], dtype: np.dtype[Any]) -> Value:
        self._count += 1
        return Value(self, f"v{self._count}", shape, dtype)

    def _expand(self, a: Value, like: Value) -> Value:
        """Broadcast to the shape of another."""
        if a.shape == like.shape:
            return a
        sizes = self._apply("Shape", (like,), (len(like.shape),), None, np.int64)
        return self._apply("Expand", (a, sizes), like.shape, None)

    def _reduced(self, a: Value, shape: tuple[Size, ...]) -> Value:
        """Summed over the axes along which a shape was broadcast."""
        more = len(a.shape) - len(shape)
        wide = (1,) * more + shape
        axes = [axis for axis, size in enumerate(wide) if size == 1 and a.shape[axis] != 1]
        a = self.sum(a, axes) if axes else a
        if not more:
            return a
        which = self.constant(list(range(more)), np.int64)
        return self._apply("Squeeze", (a, which), shape, None)
