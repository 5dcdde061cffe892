"""The trunk compiled by Numba: `lifting`, `blocks` and `energy`, a molecule at a time.

The numbers are those of the torch modules, up to rounding. Pairs of an atom with itself and padding
do not occur, so that there are no masks: row i (n − 1) + r of a pair array is the r-th other atom's
message to atom i. Pairs go through a block in tiles of whole receivers, which stay in the cache
from their norm to their sums. Products are BLAS's, exponentials polynomials that vectorise.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ase_atom.operator.numba_settings import SETTINGS, compiled
from ase_atom.operator.trunk.lifting import RELATIVE_SPEED_SCALE, SPEED_FLOOR
from ase_atom.operator.trunk.packing import KEYS

TILE = 128
"""Pairs in a tile, about."""

_EPSILON = np.float32(np.finfo(np.float32).eps)  # of torch's RMSNorm, where none is given
_ONE, _HALF = np.float32(1.0), np.float32(0.5)
_SPEED, _FLOOR = np.float32(1 / RELATIVE_SPEED_SCALE), np.float32(SPEED_FLOOR)
_CROWD = np.float32(1 / 8)
_SMALL = np.float32(1e-6)


@njit(inline="always", **SETTINGS)
def exponential(x):
    """e^x in single precision (Cody and Waite's reduction, and the polynomial of Cephes).

    Beyond ±60 it stays as it is: products of smaller numbers would be denormal, and slow.
    """
    x = min(max(x, np.float32(-60.0)), np.float32(60.0))
    whole = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = (np.int32(whole) + np.int32(127)) << np.int32(23)
    return (p * r * r + r + np.float32(1.0)) * np.int32(power).view(np.float32)


@njit(inline="always", **SETTINGS)
def silu(x):
    """x / (1 + e^(−x))."""
    return x / (np.float32(1.0) + exponential(-x))


@compiled
def product(a, b, out):
    """Matrix product by BLAS."""
    np.dot(a, b, out)


@compiled
def silu_of(a, bias):
    """Add a bias to rows and put them through `silu`."""
    for i in range(len(a)):
        row = a[i]
        for j in range(len(bias)):
            row[j] = silu(row[j] + bias[j])


@compiled
def rms_norm(a, out):
    """Write rows over their root mean square into the first columns of others."""
    width = a.shape[1]
    for i in range(len(a)):
        row, to = a[i], out[i]
        total = np.float32(0.0)
        for j in range(width):
            total += row[j] * row[j]
        scale = np.float32(1.0) / np.sqrt(total / np.float32(width) + _EPSILON)
        for j in range(width):
            to[j] = row[j] * scale


@compiled
def lift(w, x, v, forces, weights, gate, force_gate, receiver, sender):
    """See `Lift`.

    Parameters
    ----------
    w
        `Lifting`.
    x, v
        Positions in Å and velocities in Å/fs of a molecule, ``[n, 3]``, in double precision; no
        velocities of atoms at rest, ``[0, 3]``.
    forces
        eV/Å, ``[n, 3]``, or ``[0, 3]`` where none are heard.
    weights
        Mass fractions, ``[n]``.
    gate, force_gate, receiver, sender
        What the kinds of the atoms give; see `ase_atom.operator.trunk.graph.constants`.

    Returns
    -------
    Vectors ``[3 n, C]``, pairs ``[n (n - 1), p]``, and directions and relative velocities,
    ``[n (n - 1), 3]``.
    """
    n, more, moving = len(x), len(x) - 1, len(v) > 0
    count, width, channels = len(w.centres), w.pair_in.shape[1], gate.shape[1]
    place, speed = np.empty((n, 3), np.float32), np.zeros((n, 3), np.float32)
    for k in range(3):
        mean, drift = 0.0, 0.0
        for i in range(n):
            mean += weights[i] * x[i, k]
            if moving:
                drift += weights[i] * v[i, k]
        for i in range(n):
            place[i, k] = x[i, k] - mean
            if moving:
                speed[i, k] = v[i, k] - drift
    vectors = np.empty((3 * n, channels), np.float32)
    for i in range(n):
        for k in range(3):
            for c in range(channels):
                vectors[3 * i + k, c] = speed[i, k] * gate[i, c]
    for i in range(len(forces)):
        for k in range(3):
            for c in range(channels):
                vectors[3 * i + k, c] += forces[i, k] * force_gate[i, c]
    pairs = np.empty((n * more, w.pair_out.shape[1]), np.float32)
    directions, relative = np.empty((n * more, 3), np.float32), np.empty((n * more, 3), np.float32)
    receivers = max(1, TILE // max(1, more))
    features = np.empty((receivers * more, w.pair_in.shape[0]), np.float32)
    hidden = np.empty((receivers * more, width), np.float32)
    for begin in range(0, n if more else 0, receivers):
        end = min(begin + receivers, n)
        rows, before = (end - begin) * more, begin * more
        for i in range(begin, end):
            for r in range(more):
                j, p = r + (r >= i), i * more + r
                a, b, c = (
                    place[i, 0] - place[j, 0], place[i, 1] - place[j, 1], place[i, 2] - place[j, 2],
                )  # fmt: skip
                distance = np.sqrt(a * a + b * b + c * c)
                direction, row = directions[p], features[p - before]
                direction[0], direction[1], direction[2] = a / distance, b / distance, c / distance
                for g in range(count):
                    away = distance * w.widths[g] - w.centres[g]
                    row[g] = exponential(-away * away)
                row[count] = _ONE / (distance + _HALF)
                radial, square = np.float32(0.0), np.float32(0.0)
                for k in range(3):
                    change = (speed[i, k] - speed[j, k]) * _SPEED
                    relative[p, k] = change
                    radial += change * direction[k]
                    square += change * change
                row[count + 1], row[count + 2] = radial, np.sqrt(square + _FLOOR)
        product(features[:rows], w.pair_in, hidden[:rows])
        for i in range(begin, end):
            ours = receiver[i]
            for r in range(more):
                row, theirs = hidden[i * more + r - before], sender[r + (r >= i)]
                for c in range(width):
                    row[c] = silu(row[c] + ours[c] + theirs[c] + w.pair_in_bias[c])
        here = pairs[before : before + rows]
        product(hidden[:rows], w.pair_out, here)
        for p in range(rows):
            row = here[p]
            for c in range(len(row)):
                row[c] += w.pair_out_bias[c]
    return vectors, pairs, directions, relative


@compiled
def run_blocks(w, heads, limit, moving, first, vectors, pairs, directions):
    """See `Trunk`: bring features through the blocks; vectors and pairs in place.

    Returns scalars ``[n, width]`` and each atom's sums over its pairs ``[n, p]``. Where nothing is
    ``moving``, vectors are zero at first.
    """
    n, width = first.shape
    scalars, sums = first.copy(), np.empty((n, pairs.shape[1]), np.float32)
    channels, narrow = vectors.shape[1], pairs.shape[1]
    radial, angles = w.filters.shape[2] - 2 * heads, w.probes.shape[2] // 4
    own, each = width // heads, channels // heads
    normed = np.empty((n, width), np.float32)
    ends = np.empty((n, w.ends.shape[2]), np.float32)
    attend = np.empty((n, w.attend.shape[2]), np.float32)
    probes = np.empty((3 * n, w.probes.shape[2]), np.float32)
    carrying = np.zeros((3 * n, channels), np.float32)
    weights = np.zeros((heads, n, n), np.float32)
    values = np.empty((n, own + 3 * each), np.float32)
    attended = np.empty((n, own + 3 * each), np.float32)
    mixing = np.empty((3 * n, 2 * channels + radial), np.float32)
    mixed = np.empty((3 * n, 3 * channels), np.float32)
    joined = np.empty((n, w.node_in.shape[1]), np.float32)
    hidden = np.empty((n, w.node_in.shape[2]), np.float32)
    update = np.empty((n, width + channels), np.float32)
    for index in range(len(w.ends)):
        moves = moving or index > 0
        rms_norm(scalars, normed)
        product(normed, w.ends[index], ends)
        product(normed, w.attend[index], attend)
        if moves:
            product(vectors, w.probes[index], probes)
            product(vectors, w.values[index], carrying)
        for i in range(n):
            for c in range(2 * narrow):
                ends[i, c] += w.ends_bias[index, c]
        for i in range(3 * n):
            for c in range(channels):
                mixing[i, c] = vectors[i, c]
        exchange(
            w.pair_in[index][: narrow + 3 * angles * moves], w.pair_out[index],
            w.pair_out_bias[index], w.filters[index], w.filters_bias[index], moves, ends, attend,
            probes, pairs, directions, weights, mixing, sums,
        )  # fmt: skip
        for h in range(heads):
            for j in range(n):
                for c in range(own):
                    values[j, c] = attend[j, 2 * KEYS * heads + h * own + c]
                for k in range(3):
                    for c in range(each):
                        values[j, own + k * each + c] = carrying[3 * j + k, h * each + c]
            product(weights[h], values, attended)
            for i in range(n):
                for c in range(own):
                    joined[i, width + h * own + c] = attended[i, c]
                for k in range(3):
                    for c in range(each):
                        mixing[3 * i + k, channels + h * each + c] = attended[i, own + k * each + c]
        product(mixing, w.mix[index], mixed)
        for i in range(n):
            row, at = joined[i], 2 * width + narrow
            for c in range(width):
                row[c] = normed[i, c]
            for c in range(narrow):
                row[2 * width + c] = sums[i, c] * _CROWD
            for c in range(channels):
                along, square = np.float32(0.0), np.float32(0.0)
                for k in range(3):
                    left = mixed[3 * i + k, c]
                    along += left * mixed[3 * i + k, channels + c]
                    square += left * left
                row[at + c], row[at + channels + c] = along, np.sqrt(square + _SMALL)
        product(joined, w.node_in[index], hidden)
        silu_of(hidden, w.node_in_bias[index])
        product(hidden, w.node_out[index], update)
        bias = w.node_out_bias[index]
        for i in range(n):
            for c in range(width):
                scalars[i, c] += update[i, c] + bias[c]
            for k in range(3):
                row, change = vectors[3 * i + k], mixed[3 * i + k]
                for c in range(channels):
                    opened = _ONE + update[i, width + c] + bias[width + c]
                    row[c] += change[2 * channels + c] * opened
            if limit:
                a, b, d = vectors[3 * i], vectors[3 * i + 1], vectors[3 * i + 2]
                for c in range(channels):
                    excess = (a[c] * a[c] + b[c] * b[c] + d[c] * d[c]) / np.float32(limit * limit)
                    factor = _ONE / np.sqrt(np.sqrt(_ONE + excess * excess))
                    a[c] *= factor
                    b[c] *= factor
                    d[c] *= factor
    return scalars, sums


@compiled
def exchange(
    pair_in, pair_out, pair_out_bias, filters_of, filters_bias, moving, ends, attend, probes, pairs,
    directions, weights, mixing, sums,
):  # fmt: skip
    """The pair stream's part of a block, tile by tile.

    It fills in the weights of attention, ``[heads, n, n]``, the pushes along directions in the last
    columns of ``mixing``, and the sums over pairs.
    """
    n, more, narrow, heads = len(ends), len(ends) - 1, pairs.shape[1], len(weights)
    angles, double = probes.shape[1] // 4, 2 * narrow
    radial = filters_of.shape[1] - 2 * heads
    pushes = mixing.shape[1] - radial
    receivers = max(1, TILE // max(1, more))
    most = receivers * more
    joined = np.empty((most, len(pair_in)), np.float32)
    hidden = np.empty((most, double), np.float32)
    update = np.empty((most, narrow), np.float32)
    filters = np.empty((most, 2 * heads + radial), np.float32)
    logits = np.empty((most, heads), np.float32)
    top, total = np.empty(heads, np.float32), np.empty(heads, np.float32)
    sums[:] = np.float32(0.0)
    mixing[:, pushes:] = np.float32(0.0)
    for begin in range(0, n if more else 0, receivers):
        end = min(begin + receivers, n)
        rows, before = (end - begin) * more, begin * more
        here = pairs[before : before + rows]
        rms_norm(here, joined)
        if moving:
            for i in range(begin, end):
                i0, i1, i2 = probes[3 * i], probes[3 * i + 1], probes[3 * i + 2]
                for r in range(more):
                    j, p = r + (r >= i), i * more + r
                    row = joined[p - before]
                    a, b, c = directions[p, 0], directions[p, 1], directions[p, 2]
                    j0, j1, j2 = probes[3 * j], probes[3 * j + 1], probes[3 * j + 2]
                    for q in range(angles):
                        s, t, u = q + angles, q + 2 * angles, q + 3 * angles
                        row[narrow + q] = a * i0[q] + b * i1[q] + c * i2[q]
                        row[narrow + s] = a * j0[s] + b * j1[s] + c * j2[s]
                        row[narrow + t] = i0[t] * j0[u] + i1[t] * j1[u] + i2[t] * j2[u]
        product(joined[:rows], pair_in, hidden[:rows])
        for i in range(begin, end):
            ours = ends[i]
            for r in range(more):
                row, theirs = hidden[i * more + r - before], ends[r + (r >= i)]
                for c in range(double):
                    row[c] = silu(row[c] + ours[c] + theirs[double + c])
        product(hidden[:rows], pair_out, update[:rows])
        for i in range(begin, end):
            summed = sums[i]
            for r in range(more):
                row, change = pairs[i * more + r], update[i * more + r - before]
                for c in range(narrow):
                    row[c] += change[c] + pair_out_bias[c]
                    summed[c] += row[c]
        rms_norm(here, update)
        product(update[:rows], filters_of, filters[:rows])
        for i in range(begin, end):
            query = attend[i]
            p0, p1, p2 = mixing[3 * i], mixing[3 * i + 1], mixing[3 * i + 2]
            for h in range(heads):
                top[h], total[h] = np.float32(-1e30), np.float32(0.0)
            for r in range(more):
                p = i * more + r
                key, row = attend[r + (r >= i)], filters[p - before]
                for q in range(len(filters_bias)):
                    row[q] += filters_bias[q]
                for h in range(heads):
                    value = row[h]
                    for k in range(h * KEYS, h * KEYS + KEYS):
                        value += query[k] * key[heads * KEYS + k]
                    logits[r, h] = value
                    top[h] = max(top[h], value)
                a, b, c = directions[p, 0], directions[p, 1], directions[p, 2]
                for q in range(radial):
                    message = row[2 * heads + q]
                    p0[pushes + q] += a * message
                    p1[pushes + q] += b * message
                    p2[pushes + q] += c * message
            for r in range(more):
                for h in range(heads):
                    logits[r, h] = exponential(logits[r, h] - top[h])
                    total[h] += logits[r, h]
            for r in range(more):
                row, j = filters[i * more + r - before], r + (r >= i)
                for h in range(heads):
                    weights[h, i, j] = logits[r, h] / total[h] * row[heads + h]


@compiled
def energy_of(w, scalars, sums):
    """See `read_energy`: the dimensionless energy of a molecule."""
    n = len(scalars)
    normed = np.empty_like(scalars)
    hidden = np.empty((n, w.hidden.shape[1]), np.float32)
    rms_norm(scalars, normed)
    product(normed, w.hidden, hidden)
    silu_of(hidden, w.hidden_bias)
    total = n * w.atoms_bias[0]
    for i in range(n):
        for c in range(len(w.atoms)):
            total += hidden[i, c] * w.atoms[c, 0]
        for c in range(len(w.pairs)):
            total += sums[i, c] * w.pairs[c, 0]
    return total
