"""A graph opened by ONNX Runtime, with its constant inputs kept where the runtime finds them."""

from __future__ import annotations

import math
import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_CACHE = 2**20
"""Bytes of hidden features of pairs that go through a graph together."""

_MOST_BOUND = 32
"""Sets of constant inputs that are kept."""


class Evaluator(Protocol):
    """Evaluates a batch: a `Session`, or a `ase_atom.operator.engine.compiled.Kernel`."""

    def rows(self, shape: tuple[int, ...]) -> int: ...

    def __call__(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]: ...


class Session:
    """A graph that is run many times with some inputs the same.

    Parameters
    ----------
    model
        Bytes of the graph.
    threads
        How many it may use.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors, which are raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # The fused norm rounds otherwise, and is not to be had where a gradient needs its parts: an
        # energy is to be the same with forces and without.
        self._session = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SimplifiedLayerNormFusion"],
        )
        self._names = [each.name for each in self._session.get_inputs()]
        self._bound: dict[tuple[int, tuple[int, ...]], _Bound] = {}
        self._lock = threading.Lock()

    def rows(self, shape: tuple[int, ...]) -> int:
        """How many molecules to give to a call, from the shape of the features of all pairs.

        So many that these stay in the cache.
        """
        return max(1, _CACHE // (4 * math.prod(shape[1:])))

    def __call__(self, constant: Arrays, moving: Arrays) -> list[NDArray[Any]]:
        """Run the graph.

        Parameters
        ----------
        constant
            Inputs by name, in a dictionary that is the same object whenever these are the same.
        moving
            All others, among them positions ``x``.
        """
        # The dictionary is kept with its binding, so that no other can have its identity.
        key = id(constant), moving["x"].shape
        with self._lock:
            bound = self._bound.get(key)
            if bound is not None:
                return bound.run(moving)
            found = self.once(constant | moving)
            if len(self._bound) >= _MOST_BOUND:
                self._bound.clear()
            self._bound[key] = _Bound(self._session, self._names, constant, moving, found)
            return found

    def once(self, feed: Arrays) -> list[NDArray[Any]]:
        """Run the graph with inputs of which nothing is kept."""
        found: list[NDArray[Any]] = self._session.run(
            None, {name: feed[name] for name in self._names}
        )
        return found


class _Bound:
    """Inputs and outputs of a graph at places in memory that the runtime knows already."""

    def __init__(
        self,
        session: Any,
        names: list[str],
        constant: Arrays,
        moving: Arrays,
        answer: list[NDArray[Any]],
    ) -> None:
        from onnxruntime import OrtValue

        self._session, self._constant = session, constant
        self._moving = {name: each.copy() for name, each in moving.items() if name in names}
        self._outputs = [each.copy() for each in answer]
        self._binding = session.io_binding()
        inputs = constant | self._moving
        for name in names:
            value = OrtValue.ortvalue_from_numpy(inputs[name])
            self._binding.bind_ortvalue_input(name, value)
        for each, output in zip(session.get_outputs(), self._outputs, strict=True):
            value = OrtValue.ortvalue_from_numpy(output)
            self._binding.bind_ortvalue_output(each.name, value)

    def run(self, moving: Arrays) -> list[NDArray[Any]]:
        for name, place in self._moving.items():
            np.copyto(place, moving[name])
        self._session.run_with_iobinding(self._binding)
        return [output.copy() for output in self._outputs]
