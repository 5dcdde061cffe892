"""`Bodies` with its mechanics compiled by Numba, a molecule at a time.

The numbers are those of `ase_atom.propagation.mechanics`, up to rounding, and do not depend on the
other molecules of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ase_atom.operator.numba_settings import compiled
from ase_atom.propagation.mechanics import (
    LINEAR_TOLERANCE,
    TINY,
    Array,
    Bodies,
)
from ase_atom.units import AMU_A2_FS2_IN_EV

_HALF = 0.5 * AMU_A2_FS2_IN_EV
_SWEEPS = 16
_ROUNDED = 1e-32
"""An inertia tensor's off-diagonal part over its diagonal, squared, below which it is none."""


@dataclass(frozen=True)
class CompiledBodies(Bodies):
    """What has one compiled function for each of an ensemble's acts.

    Attributes
    ----------
    counts
        Atoms of each molecule, ``[B]``.
    """

    counts: Array

    def ornstein_uhlenbeck(
        self, v: Array, keep: float, strength: float, noise: Array, rest: bool
    ) -> Array:
        """See `Bodies.ornstein_uhlenbeck`."""
        found: Array = kick(*self._atoms(v), self.slowness, keep, strength, _solid(noise), rest)
        return found

    def rescaled(
        self, v: Array, freedom: Array, numbers: Array, keep: float, unit: float, rest: bool
    ) -> Array:
        """See `Bodies.rescaled`."""
        found: Array = rescale(
            *self._atoms(v), self.masses, freedom, _solid(numbers), keep, unit, rest
        )
        return found

    def kept(
        self, x: Array, v: Array, x0: Array, v0: Array, gain: Array | None, turn: bool
    ) -> Array:
        """See `Bodies.kept`."""
        scale = gain is not None
        found: Array = conserve(
            *self._atoms(v), self.masses, _solid(x), _solid(x0), _solid(v0),
            np.asarray(gain, dtype=float) if scale else _NOTHING, turn, scale,
        )  # fmt: skip
        return found

    def are_finite(self, x: Array, v: Array) -> bool:
        """See `Bodies.are_finite`."""
        return bool(finite(_solid(x), _solid(v)))

    def first_outside(self, x: Array, v: Array, limits: tuple[Array, ...]) -> Array:
        """See `Bodies.first_outside`."""
        found: Array = outside(_solid(x), _solid(v), *limits)
        return found

    def _atoms(self, v: Array) -> tuple[Array, Array, Array]:
        return self.counts, self.fractions, _solid(v)


_NOTHING = np.empty(0)


def _solid(values: Array) -> Array:
    """Return numbers one behind the other in memory: each other order would be compiled anew."""
    return values if values.flags.c_contiguous else np.ascontiguousarray(values)


@compiled
def mean(n: int, fractions: Array, values: Array) -> Any:
    """Mass-weighted mean of ``n`` vectors."""
    a = b = c = 0.0
    for i in range(n):
        share = fractions[0, i]
        a += share * values[i, 0]
        b += share * values[i, 1]
        c += share * values[i, 2]
    return a, b, c


@compiled
def kinetic(n: int, masses: Array, v: Array) -> float:
    """Kinetic energy in eV."""
    twice = 0.0
    for i in range(n):
        a, b, c = v[i, 0], v[i, 1], v[i, 2]
        twice += masses[i, 0] * (a * a + b * b + c * c)
    return _HALF * twice


@compiled
def momentum(n: int, fractions: Array, masses: Array, x: Array, v: Array) -> Any:
    """Angular momentum about the centre of mass in amu Å²/fs."""
    cx, cy, cz = mean(n, fractions, x)
    a = b = c = 0.0
    for i in range(n):
        m, px, py, pz = masses[i, 0], x[i, 0] - cx, x[i, 1] - cy, x[i, 2] - cz
        a += m * (py * v[i, 2] - pz * v[i, 1])
        b += m * (pz * v[i, 0] - px * v[i, 2])
        c += m * (px * v[i, 1] - py * v[i, 0])
    return a, b, c


@compiled
def spin(n: int, fractions: Array, masses: Array, x: Array, a: float, b: float, c: float) -> Any:
    """Angular velocity I⁺ L in rad/fs that carries an angular momentum L.

    Moments and axes of inertia by Jacobi's rotations (Golub and Van Loan, Matrix Computations,
    section 8.5).
    """
    cx, cy, cz = mean(n, fractions, x)
    tensor, axes = np.zeros((3, 3)), np.eye(3)
    for i in range(n):
        m, px, py, pz = masses[i, 0], x[i, 0] - cx, x[i, 1] - cy, x[i, 2] - cz
        tensor[0, 0] += m * (py * py + pz * pz)
        tensor[1, 1] += m * (px * px + pz * pz)
        tensor[2, 2] += m * (px * px + py * py)
        tensor[0, 1] -= m * px * py
        tensor[0, 2] -= m * px * pz
        tensor[1, 2] -= m * py * pz
    for _ in range(_SWEEPS):
        off = tensor[0, 1] ** 2 + tensor[0, 2] ** 2 + tensor[1, 2] ** 2
        on = tensor[0, 0] ** 2 + tensor[1, 1] ** 2 + tensor[2, 2] ** 2
        if not off > _ROUNDED * on:
            break
        for p in range(2):
            for q in range(p + 1, 3):
                between = tensor[p, q]
                if between == 0.0:
                    continue
                half = (tensor[q, q] - tensor[p, p]) / (2.0 * between)
                t = 1.0 / (abs(half) + np.sqrt(half * half + 1.0))
                if half < 0.0:
                    t = -t
                cosine = 1.0 / np.sqrt(t * t + 1.0)
                sine = t * cosine
                tensor[p, p] -= t * between
                tensor[q, q] += t * between
                tensor[p, q] = 0.0
                r = 3 - p - q  # the third one; the upper triangle alone is kept
                rp, rq = (min(r, p), max(r, p)), (min(r, q), max(r, q))
                with_p, with_q = tensor[rp], tensor[rq]
                tensor[rp] = cosine * with_p - sine * with_q
                tensor[rq] = sine * with_p + cosine * with_q
                for k in range(3):
                    of_p, of_q = axes[k, p], axes[k, q]
                    axes[k, p] = cosine * of_p - sine * of_q
                    axes[k, q] = sine * of_p + cosine * of_q
    largest = max(tensor[0, 0], tensor[1, 1], tensor[2, 2])
    wx = wy = wz = 0.0
    for k in range(3):
        moment = tensor[k, k]
        if moment > LINEAR_TOLERANCE * largest:
            about = (axes[0, k] * a + axes[1, k] * b + axes[2, k] * c) / moment
            wx += about * axes[0, k]
            wy += about * axes[1, k]
            wz += about * axes[2, k]
    return wx, wy, wz


@compiled
def stop(n: int, fractions: Array, v: Array) -> None:
    """Bring the centre of mass to rest."""
    a, b, c = mean(n, fractions, v)
    for i in range(n):
        v[i, 0] -= a
        v[i, 1] -= b
        v[i, 2] -= c


@compiled
def kick(
    counts: Array, fractions: Array, v: Array, slowness: Array,
    keep: float, strength: float, noise: Array, rest: bool,
) -> Array:  # fmt: skip
    """See `Bodies.ornstein_uhlenbeck`."""
    out = np.zeros_like(v)
    for row in range(len(v)):
        n = counts[row]
        for i in range(n):
            width = strength * slowness[row, i, 0]
            for k in range(3):
                out[row, i, k] = keep * v[row, i, k] + width * noise[row, i, k]
        if rest:
            stop(n, fractions[row], out[row])
    return out


@compiled
def rescale(
    counts: Array, fractions: Array, v: Array, masses: Array, freedom: Array, numbers: Array,
    keep: float, unit: float, rest: bool,
) -> Array:  # fmt: skip
    """See `Bodies.rescaled`."""
    out = v.copy()
    for row in range(len(v)):
        n = counts[row]
        if rest:
            stop(n, fractions[row], out[row])
        ratio = (1.0 - keep) * unit / max(kinetic(n, masses[row], out[row]), TINY)
        squares = 0.0
        for i in range(freedom[row]):
            squares += numbers[row, i] * numbers[row, i]
        root = np.sqrt(keep * ratio)
        squared = keep + ratio * squares + 2.0 * numbers[row, 0] * root
        factor = np.copysign(np.sqrt(max(squared, 0.0)), numbers[row, 0] * ratio + root)
        for i in range(n):
            for k in range(3):
                out[row, i, k] *= factor
    return out


@compiled
def conserve(
    counts: Array, fractions: Array, v: Array, masses: Array, x: Array, x0: Array, v0: Array,
    gain: Array, turn: bool, scale: bool,
) -> Array:  # fmt: skip
    """See `Bodies.kept`."""
    out = v.copy()
    for row in range(len(v)):
        n, shares, heavy = counts[row], fractions[row], masses[row]
        here, to = x[row], out[row]
        cx, cy, cz = mean(n, shares, here)
        if turn:
            a, b, c = momentum(n, shares, heavy, x0[row], v0[row])
            d, e, f = momentum(n, shares, heavy, here, to)
            wx, wy, wz = spin(n, shares, heavy, here, a - d, b - e, c - f)
            for i in range(n):
                px, py, pz = here[i, 0] - cx, here[i, 1] - cy, here[i, 2] - cz
                to[i, 0] += wy * pz - wz * py
                to[i, 1] += wz * px - wx * pz
                to[i, 2] += wx * py - wy * px
        if scale:
            a, b, c = momentum(n, shares, heavy, here, to)
            wx, wy, wz = spin(n, shares, heavy, here, a, b, c)
            d, e, f = mean(n, shares, to)
            rigid = np.empty((n, 3))
            for i in range(n):
                px, py, pz = here[i, 0] - cx, here[i, 1] - cy, here[i, 2] - cz
                rigid[i, 0] = wy * pz - wz * py + d
                rigid[i, 1] = wz * px - wx * pz + e
                rigid[i, 2] = wx * py - wy * px + f
                for k in range(3):
                    to[i, k] -= rigid[i, k]
            present = kinetic(n, heavy, to)
            free = kinetic(n, heavy, v0[row]) + gain[row] - kinetic(n, heavy, rigid)
            factor = np.sqrt(max(free, 0.0) / present) if present > TINY else 1.0
            for i in range(n):
                for k in range(3):
                    to[i, k] = rigid[i, k] + factor * to[i, k]
    return out


@compiled
def finite(x: Array, v: Array) -> bool:
    """Whether all numbers are finite, of ``[B, N, 3]``."""
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            for k in range(3):
                if not (np.isfinite(x[row, i, k]) and np.isfinite(v[row, i, k])):
                    return False
    return True


@compiled
def outside(x: Array, v: Array, first: Array, second: Array, least: Array, most: Array) -> Array:
    """See `Bodies.first_outside`."""
    found = np.full(x.shape[0], x.shape[1])
    for row in range(x.shape[0]):
        for t in range(x.shape[1]):
            good = finite(x[row, t : t + 1], v[row, t : t + 1])
            for p in range(len(first)):
                i, j = first[p], second[p]
                a, b, c = (
                    x[row, t, i, 0] - x[row, t, j, 0],
                    x[row, t, i, 1] - x[row, t, j, 1],
                    x[row, t, i, 2] - x[row, t, j, 2],
                )
                squared = a * a + b * b + c * c
                good = good and least[row, p] <= squared <= most[row, p]
            if not good:
                found[row] = t
                break
    return found
