"""The leap decoder's network and flow compiled by Numba, a molecule at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ase_atom.operator.engine.compiled import Arrays, Kernel
from ase_atom.operator.leap.config import LeapConfig
from ase_atom.operator.leap.flow import LEAST
from ase_atom.operator.leap.network import SOFT, LeapLift
from ase_atom.operator.numba_settings import compiled
from ase_atom.operator.trunk.kernels import (
    exponential,
    product,
    rms_norm,
    run_blocks,
    silu,
    silu_of,
)
from ase_atom.operator.trunk.lifting import scaled_gaussians
from ase_atom.operator.trunk.packing import Array, Weights

_ONE, _HALF, _SOFT = np.float32(1.0), np.float32(0.5), np.float32(SOFT)
_FLOOR = np.float32(1e-8)  # square of a length whose root is to have a gradient, in torch


class LeapWeights(NamedTuple):
    """Weights of lift and readout, and the lift's Gaussians as those of `Lifting`.

    ``pair_in`` is for what a pass changes, ``pair_start`` for what the start alone says.
    """

    pair_in: Array
    pair_start: Array
    pair_in_bias: Array
    pair_out: Array
    pair_out_bias: Array
    centres: Array
    widths: Array
    displaced: Array
    vector_gate: Array
    vector_gate_bias: Array
    gate: Array
    gate_bias: Array
    vector_out: Array
    pair_hidden: Array
    pair_hidden_bias: Array
    messages: Array
    messages_bias: Array


def leap_weights(read: Weights) -> LeapWeights:
    """Those of a network."""
    widths, centres = scaled_gaussians(LeapLift.grid())
    count, pair_in = len(widths), read.linear("lift.pair_in")
    # As `LeapLift` has them: Gaussians of both distances, their reciprocals, what differs.
    here, before = np.arange(count), np.arange(count, 2 * count)
    moving = np.concatenate([here, 2 * count + np.array([0, 2, 3])])
    still = np.concatenate([before, [2 * count + 1]])
    return LeapWeights(
        pair_in[moving], pair_in[still], read.bias("lift.pair_in"),
        read.linear("lift.pair_out"), read.bias("lift.pair_out"), centres, widths,
        read.linear("lift.displaced")[0],
        read.linear("lift.vector_gate"), read.bias("lift.vector_gate"),
        read.linear("gate", "norm_scalars"), read.bias("gate"), read.linear("vector_out")[:, 0],
        read.linear("pair_hidden", "norm_pairs"), read.bias("pair_hidden"),
        read.linear("pair_out"), read.bias("pair_out"),
    )  # fmt: skip


class LeapKernel(Kernel):
    """Follows the flow from noise to a sample, `ase_atom.operator.leap.flow.sampled`.

    Of the molecules it takes the first ``scalars`` and what ``receiver`` and ``sender`` give to
    pairs, with the mask ``atoms``; besides the ``start`` and the noise ``x``, ``[B, N, 3]``, the
    noise ``levels`` of the passes, ``[P + 1]``, in double precision, and what the network hears of
    them under K kinds of conditions, ``heard`` ``[K, P, width]`` and ``of_pairs`` ``[K, P, 2 p]``,
    with each molecule's ``kind``, ``[B]``.
    """

    def __init__(self, config: LeapConfig, weights: Mapping[str, Array], threads: int) -> None:
        super().__init__(threads)
        read = Weights(weights, config)
        self._weights, self._blocks = leap_weights(read), read.blocks(config.blocks)
        self._settings = config.heads, float(config.vector_limit), float(config.scale)

    def outputs(self, constant: Arrays, moving: Arrays) -> list[Array]:
        """Samples, ``[B, N, 3]``, zero for now."""
        return [np.zeros_like(moving["x"])]

    def prepare(self, constant: Arrays, row: int) -> tuple[Any, ...]:
        """Atoms of a molecule, first scalars, and what its elements give to pairs."""
        n = int(constant["atoms"][row].sum())
        return n, *(constant[name][row, :n] for name in ("scalars", "receiver", "sender"))

    def evaluate(self, given: tuple[Any, ...], moving: Arrays, row: int, out: list[Array]) -> None:
        """Fill in the sample of one molecule."""
        n, *elements = given
        start, first = moving["start"][row, :n], moving["x"][row, :n]
        kind = moving["kind"][row]
        out[0][row, :n] = follow(
            self._weights, self._blocks, *self._settings, *elements, start, first,
            moving["levels"], moving["heard"][kind], moving["of_pairs"][kind],
        )  # fmt: skip


@compiled
def follow(  # type: ignore[no-untyped-def]
    w, blocks, heads, limit, scale, scalars, receiver, sender, start, first, levels, heard,
    of_pairs,
):  # fmt: skip
    """See `sampled` and `LeapKernel`; ``levels`` ends with 0. Returns the sample, ``[n, 3]``."""
    n = len(start)
    lengths, known = of_start(w, start, receiver, sender)
    x, change = first.copy(), np.empty((n, 3), np.float32)
    end, earlier = np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
    centre(x)
    for index in range(len(heard)):
        now, then = levels[index], levels[index + 1]
        size = np.float32(scale * max(now, LEAST))
        guess(
            w, blocks, heads, limit, scalars, start, x, lengths, known, heard[index],
            of_pairs[index], change,
        )  # fmt: skip
        for i in range(n):
            for k in range(3):
                end[i, k] = x[i, k] + change[i, k] * size
        centre(end)
        ratio, bend, back = np.float32(then / now), np.float32(0.0), np.float32(1.0)
        if index > 0:
            logarithm = then * np.log(now / then) if then > 0 else 0.0
            bend = np.float32(logarithm - (now - then))
            back = np.float32(now - levels[index - 1])
        for i in range(n):
            for k in range(3):
                moved = end[i, k] + (x[i, k] - end[i, k]) * ratio
                if index > 0:
                    moved += (end[i, k] - earlier[i, k]) / back * bend
                x[i, k], earlier[i, k] = moved, end[i, k]
        centre(x)
    return x


@compiled
def of_start(w, start, receiver, sender):  # type: ignore[no-untyped-def]
    """What the start and the elements give to pairs in all passes.

    Returns lengths ``[n (n - 1)]`` and their part of the hidden features, ``[n (n - 1), 2 p]``.
    """
    n, more, count = len(start), len(start) - 1, len(w.centres)
    lengths = np.empty(n * more, np.float32)
    features = np.empty((n * more, count + 1), np.float32)
    hidden = np.empty((n * more, w.pair_in.shape[1]), np.float32)
    for i in range(n):
        for r in range(more):
            j, p = r + (r >= i), i * more + r
            a, b, c = (
                start[i, 0] - start[j, 0], start[i, 1] - start[j, 1], start[i, 2] - start[j, 2],
            )  # fmt: skip
            lengths[p] = np.sqrt(a * a + b * b + c * c)
            radial_basis(w, lengths[p], features[p])
            features[p, count] = _ONE / (lengths[p] + _HALF)
    product(features, w.pair_start, hidden)
    for i in range(n):
        for r in range(more):
            row, theirs = hidden[i * more + r], sender[r + (r >= i)]
            for c in range(len(row)):
                row[c] += receiver[i, c] + theirs[c] + w.pair_in_bias[c]
    return lengths, hidden


@compiled
def radial_basis(w, distance, row):  # type: ignore[no-untyped-def]
    """Gaussians of a distance, into the first columns."""
    for g in range(len(w.centres)):
        away = distance * w.widths[g] - w.centres[g]
        row[g] = exponential(-away * away)


@compiled
def guess(  # type: ignore[no-untyped-def]
    w, blocks, heads, limit, kinds, start, x, lengths, known, heard, of_pairs, change
):
    """See `LeapNetwork`: fill in the change of a noisy structure, before its scale."""
    scalars, vectors, pairs, directions, relative = lift(
        w, kinds, start, x, lengths, known, heard, of_pairs
    )
    scalars, _ = run_blocks(blocks, heads, limit, True, scalars, vectors, pairs, directions)
    read_change(w, scalars, vectors, pairs, directions, relative, change)


@compiled
def lift(w, kinds, start, x, lengths, known, heard, of_pairs):  # type: ignore[no-untyped-def]
    """See `LeapLift`, and `ase_atom.operator.trunk.kernels.lift` for what it returns."""
    n, more, count, channels = len(x), len(x) - 1, len(w.centres), len(w.vector_gate_bias)
    scalars, gate = np.empty_like(kinds), np.empty((n, channels), np.float32)
    vectors, away = np.empty((3 * n, channels), np.float32), np.empty((n, 3), np.float32)
    for i in range(n):
        square = _FLOOR
        for k in range(3):
            away[i, k] = start[i, k] - x[i, k]
            square += away[i, k] * away[i, k]
        length = np.sqrt(square)
        for c in range(scalars.shape[1]):
            scalars[i, c] = kinds[i, c] + heard[c] + w.displaced[c] * length
    product(scalars, w.vector_gate, gate)
    for i in range(n):
        for k in range(3):
            for c in range(channels):
                vectors[3 * i + k, c] = away[i, k] * (gate[i, c] + w.vector_gate_bias[c])
    directions, relative = np.empty((n * more, 3), np.float32), np.empty((n * more, 3), np.float32)
    features = np.empty((n * more, count + 3), np.float32)
    hidden = np.empty((n * more, w.pair_in.shape[1]), np.float32)
    pairs = np.empty((n * more, w.pair_out.shape[1]), np.float32)
    for i in range(n):
        for r in range(more):
            j, p = r + (r >= i), i * more + r
            a, b, c = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
            distance, row = np.sqrt(a * a + b * b + c * c), features[p]
            direction, other = directions[p], relative[p]
            inverse = _ONE / (distance + _SOFT)
            direction[0], direction[1], direction[2] = a * inverse, b * inverse, c * inverse
            other[0] = start[i, 0] - start[j, 0] - a
            other[1] = start[i, 1] - start[j, 1] - b
            other[2] = start[i, 2] - start[j, 2] - c
            radial_basis(w, distance, row)
            row[count], row[count + 1] = _ONE / (distance + _HALF), distance - lengths[p]
            square = other[0] * other[0] + other[1] * other[1] + other[2] * other[2]
            row[count + 2] = np.sqrt(square + _FLOOR)
    product(features, w.pair_in, hidden)
    for p in range(n * more):
        row, here = hidden[p], known[p]
        for c in range(len(row)):
            row[c] = silu(row[c] + here[c] + of_pairs[c])
    product(hidden, w.pair_out, pairs)
    for p in range(n * more):
        row = pairs[p]
        for c in range(len(row)):
            row[c] += w.pair_out_bias[c]
    return scalars, vectors, pairs, directions, relative


@compiled
def read_change(  # type: ignore[no-untyped-def]
    w, scalars, vectors, pairs, directions, relative, change
):
    """See `LeapNetwork.forward`: fill in what the trunk's features say, ``[n, 3]``."""
    n, more = len(scalars), len(scalars) - 1
    normed, gate = np.empty_like(scalars), np.empty((n, vectors.shape[1]), np.float32)
    rms_norm(scalars, normed)
    product(normed, w.gate, gate)
    normed_pairs = np.empty_like(pairs)
    hidden = np.empty((n * more, w.pair_hidden.shape[1]), np.float32)
    messages = np.empty((n * more, 2), np.float32)
    rms_norm(pairs, normed_pairs)
    product(normed_pairs, w.pair_hidden, hidden)
    silu_of(hidden, w.pair_hidden_bias)
    product(hidden, w.messages, messages)
    for i in range(n):
        for c in range(gate.shape[1]):
            gate[i, c] = (_ONE + gate[i, c] + w.gate_bias[c]) * w.vector_out[c]
        for k in range(3):
            total, row = np.float32(0.0), vectors[3 * i + k]
            for c in range(len(row)):
                total += row[c] * gate[i, c]
            for p in range(i * more, i * more + more):
                total += directions[p, k] * (messages[p, 0] + w.messages_bias[0])
                total += relative[p, k] * (messages[p, 1] + w.messages_bias[1])
            change[i, k] = total


@compiled
def centre(x):  # type: ignore[no-untyped-def]
    """See `centred`; in place."""
    for k in range(3):
        mean = 0.0
        for i in range(len(x)):
            mean += x[i, k]
        mean /= len(x)
        for i in range(len(x)):
            x[i, k] -= mean
