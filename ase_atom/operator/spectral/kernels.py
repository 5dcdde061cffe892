"""The spectral operator compiled by Numba, with the interface of a `Session`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ase_atom.operator.engine.compiled import Arrays, Kernel
from ase_atom.operator.numba_settings import compiled
from ase_atom.operator.spectral.config import SpectralConfig
from ase_atom.operator.trunk.kernels import (
    TILE,
    energy_of,
    lift,
    product,
    rms_norm,
    run_blocks,
    silu_of,
)
from ase_atom.operator.trunk.packing import Array, Weights


class Decoding(NamedTuple):
    """Weights of the decoder."""

    gate: Array
    gate_bias: Array
    vectors: Array
    hidden: Array
    hidden_bias: Array
    pairs: Array
    pairs_bias: Array


class _SpectralKernel(Kernel):
    """Lift and blocks of one molecule after another."""

    def __init__(
        self, config: SpectralConfig, weights: Mapping[str, Array], depth: int, threads: int
    ) -> None:
        super().__init__(threads)
        self.weights = Weights(weights, config)
        self._lifting, self._blocks = self.weights.lifting(), self.weights.blocks(depth)
        self._settings = config.heads, float(config.vector_limit)

    def prepare(self, constant: Arrays, row: int) -> tuple[Any, ...]:
        """Atoms of a molecule, first scalars, mass fractions, and what its elements give to pairs.

        See `lift`.
        """
        n = int(constant["atoms"][row].sum())
        return (
            n, constant["scalars"][row, :n], constant["weights"][row, :n, 0],
            constant["gate"][row, :n, 0],
            constant["force_gate"][row, :n, 0] if "force_gate" in constant else _UNHEARD,
            constant["receiver"][row], constant["sender"][row],
        )  # fmt: skip

    def features(
        self, scalars: Array, elements: Sequence[Array], x: Array, v: Array, forces: Array
    ) -> Any:
        """Scalars, sums over pairs, vectors, pairs, directions and relative velocities."""
        lifted = lift(self._lifting, x, v, forces, *elements)
        return *run_blocks(self._blocks, *self._settings, len(v) > 0, scalars, *lifted[:3]), *lifted


class PathKernel(_SpectralKernel):
    """One piece of the path, `SpectralOperator.segment`."""

    def __init__(self, config: SpectralConfig, weights: Mapping[str, Array], threads: int) -> None:
        super().__init__(config, weights, config.blocks, threads)
        read, name = self.weights, "decoder."
        self._decoding = Decoding(
            read.linear(name + "gate", name + "norm_scalars"), read.bias(name + "gate"),
            read.linear(name + "from_vectors"),
            read.linear(name + "pair_hidden", name + "norm_pairs"), read.bias(name + "pair_hidden"),
            read.linear(name + "from_pairs"), read.bias(name + "from_pairs"),
        )  # fmt: skip

    def outputs(self, constant: Arrays, moving: Arrays) -> list[Array]:
        """Positions and velocities, ``[b, T, n, 3]``, zero for now."""
        x = moving["x"]
        shape = len(x), len(constant["t"]), *x.shape[1:]
        return [np.zeros(shape), np.zeros(shape)]

    def prepare(self, constant: Arrays, row: int) -> tuple[Any, ...]:
        """Besides, thermal speeds, and the times with the basis there."""
        n, scalars, *elements = super().prepare(constant, row)
        times = constant["basis"], constant["t"][:, 0, 0]
        # In double precision, in which the centre of mass is to move exactly.
        speeds = constant["speeds"][row, :n, 0, 0].astype(np.float64)
        return n, scalars, elements, (speeds, elements[0], *times)

    def evaluate(self, given: tuple[Any, ...], moving: Arrays, row: int, out: list[Array]) -> None:
        """Fill in the path of one molecule."""
        n, scalars, elements, decoding = given
        x, v = moving["x"][row, :n], moving["v"][row, :n]
        forces = moving["f"][row, :n] if "f" in moving else _UNHEARD
        scalars, _, *rest = self.features(scalars, elements, x, v, forces)
        decode(self._decoding, scalars, *rest, *decoding, x, v, out[0][row], out[1][row])


class EnergyKernel(_SpectralKernel):
    """The energy head, `SpectralOperator.energy_output`."""

    def __init__(self, config: SpectralConfig, weights: Mapping[str, Array], threads: int) -> None:
        super().__init__(config, weights, config.energy_blocks, threads)
        self._readout = self.weights.readout()

    def outputs(self, constant: Arrays, moving: Arrays) -> list[Array]:
        """Energies, ``[b, 1, 1]``."""
        return [np.zeros((len(moving["x"]), 1, 1))]

    def evaluate(self, given: tuple[Any, ...], moving: Arrays, row: int, out: list[Array]) -> None:
        """Fill in the energy of one molecule."""
        n, scalars, *elements = given
        at = moving["x"][row, :n]
        scalars, sums, *_ = self.features(scalars, elements, at, _AT_REST, _UNHEARD)
        out[0][row] = energy_of(self._readout, scalars, sums)


_AT_REST = np.empty((0, 3))
_UNHEARD = np.empty((0, 3), np.float32)


@compiled
def decode(  # type: ignore[no-untyped-def]
    w, scalars, vectors, pairs, directions, relative, speeds, weights, basis, times, x, v,
    positions, velocities,
):  # fmt: skip
    """See `SpectralOperator.segment`: fill in the path of ``n`` atoms, ``[T, N, 3]``.

    The vectors are used up.
    """
    n, more = len(scalars), len(scalars) - 1
    normed = np.empty_like(scalars)
    gate = np.empty((n, vectors.shape[1]), np.float32)
    found = np.empty((3 * n, w.vectors.shape[1]), np.float32)
    rms_norm(scalars, normed)
    product(normed, w.gate, gate)
    for i in range(n):
        for k in range(3):
            row = vectors[3 * i + k]
            for c in range(len(row)):
                row[c] *= np.float32(1.0) + gate[i, c] + w.gate_bias[c]
    product(vectors, w.vectors, found)
    size, receivers = found.shape[1], max(1, TILE // max(1, more))
    normed_pairs = np.empty((receivers * more, pairs.shape[1]), np.float32)
    hidden = np.empty((receivers * more, w.hidden.shape[1]), np.float32)
    messages = np.empty((receivers * more, 2 * size), np.float32)
    for begin in range(0, n if more else 0, receivers):
        end = min(begin + receivers, n)
        rows, before = (end - begin) * more, begin * more
        rms_norm(pairs[before : before + rows], normed_pairs)
        product(normed_pairs[:rows], w.hidden, hidden[:rows])
        silu_of(hidden[:rows], w.hidden_bias)
        product(hidden[:rows], w.pairs, messages[:rows])
        for i in range(begin, end):
            for p in range(i * more, i * more + more):
                message = messages[p - before]
                for c in range(2 * size):
                    message[c] += w.pairs_bias[c]
                for k in range(3):
                    along, across, row = directions[p, k], relative[p, k], found[3 * i + k]
                    for c in range(size):
                        row[c] += along * message[c] + across * message[size + c]
    count = len(times)
    shifts = np.empty((3 * n, 2 * count), np.float32)
    product(found, basis, shifts)
    for t in range(count):
        for k in range(3):
            mean_x, mean_v = 0.0, 0.0
            for i in range(n):
                mass = weights[i] * speeds[i]
                mean_x += mass * shifts[3 * i + k, t]
                mean_v += mass * shifts[3 * i + k, count + t]
            for i in range(n):
                row = shifts[3 * i + k]
                positions[t, i, k] = x[i, k] + v[i, k] * times[t] + speeds[i] * row[t] - mean_x
                velocities[t, i, k] = v[i, k] + speeds[i] * row[count + t] - mean_v
