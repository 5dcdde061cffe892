"""Mechanics of a batch of molecules in numpy.

What happens between two jumps is some hundred operations on a few dozen numbers. Numpy starts one
in a tenth of the time that torch takes; gradients are not wanted here. All is in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV

Array = NDArray[Any]

LINEAR_TOLERANCE = 1e-3
"""Principal moments of inertia below this fraction of the largest count as zero.

About such an axis a linear, or very nearly linear, molecule has next to no inertia; a rigid
rotation there would need huge angular velocities to carry a small angular momentum, so that
component is left alone.
"""

TINY = float(np.finfo(np.float32).tiny)
"""eV. A vibration of less kinetic energy is none."""

_HALF = 0.5 * AMU_A2_FS2_IN_EV

# ε_ijk in two shapes: from Σ m x_i v_j, as nine numbers, to the angular momentum; and from an
# angular velocity to the matrix that takes r, as a row, to ω × r.
_EPSILON = np.zeros((3, 3, 3))
_EPSILON[[0, 1, 2], [1, 2, 0], [2, 0, 1]] = 1.0
_EPSILON[[0, 1, 2], [2, 0, 1], [1, 2, 0]] = -1.0
_CROSS = _EPSILON.reshape(9, 3)
_TURN = _EPSILON.reshape(3, 9)
# From Σ m x_i x_j to the inertia tensor, both as nine numbers.
_INERTIA = np.outer(np.eye(3).ravel(), np.eye(3).ravel()) - np.eye(9)


def array(values: Tensor) -> Array:
    """Return a tensor's numbers in double precision; memory is shared where it can be."""
    if values.requires_grad:
        values = values.detach()
    if values.dtype is not torch.float64 or not values.is_cpu:
        values = values.double().cpu()
    found: Array = values.numpy()
    return found


def set_last(frames: Tensor, values: Tensor) -> None:
    """Overwrite the last of frames ``[B, T, N, 3]`` by ``[B, N, 3]``."""
    if frames.dtype is torch.float64 and frames.is_cpu and not frames.requires_grad:
        frames.numpy()[:, -1] = array(values)
    else:
        frames[:, -1] = values


def tensor(values: Array, like: Tensor) -> Tensor:
    """Return an array as a tensor of another's type and device."""
    found = torch.from_numpy(values)
    return found if found.dtype is like.dtype and like.is_cpu else found.to(like)


@dataclass(frozen=True)
class Bodies:
    """What mechanics needs of the atoms of a batch.

    Attributes
    ----------
    masses
        amu, ``[B, N, 1]``.
    fractions
        Mass of each atom over that of its molecule, ``[B, 1, N]``.
    total
        Mass of each molecule in amu, ``[B, 1, 1]``.
    slowness
        1/√m, zero on padding, ``[B, N, 1]``.
    mask
        One for atoms and zero on padding, ``[B, N, 1]``; None without padding.
    """

    masses: Array
    fractions: Array
    total: Array
    slowness: Array
    mask: Array | None

    @staticmethod
    def of(state: PhaseState) -> Bodies:
        """Those of a state, worked out once for all states of the same atoms."""
        found: Bodies | None = state.known.get("bodies")
        if found is None:
            found = state.known["bodies"] = Bodies.made(state)
        return found

    @classmethod
    def made(cls, state: PhaseState, **more: Array) -> Self:
        """Those of a state, worked out anew; fields of a derived class come by name."""
        masses, there = array(state.masses)[..., None], array(state.mask)[..., None]
        total = masses.sum(1, keepdims=True)
        slowness = np.zeros_like(masses)
        np.divide(1.0, np.sqrt(masses), out=slowness, where=there > 0)
        fractions = np.ascontiguousarray((masses / total).swapaxes(1, 2))
        mask = None if there.all() else there
        return cls(masses, fractions, total, slowness, mask, **more)

    def masked(self, values: Array) -> Array:
        """Return values ``[B, N, 3]`` with zeros on padding."""
        return values if self.mask is None else values * self.mask

    def mean(self, values: Array) -> Array:
        """Return the mass-weighted mean over the atoms: of ``[B, N, 3]``, ``[B, 1, 3]``."""
        found: Array = self.fractions @ values
        return found

    def without_drift(self, v: Array) -> Array:
        """Return velocities with the centre of mass at rest."""
        return self.masked(v - self.mean(v))

    def kinetic_energy(self, v: Array) -> Array:
        """Return the kinetic energy in eV, ``[B]``."""
        found: Array = _HALF * (self.masses * v * v).sum((1, 2))
        return found

    def arms(self, x: Array) -> tuple[Array, Array]:
        """Return positions about the centre of mass, and those times the masses.

        The first are arbitrary on padding.
        """
        about = x - self.mean(x)
        return about, self.masses * about

    def angular_momentum(self, x: Array, v: Array) -> Array:
        """Return the angular momentum about the centre of mass in amu Å²/fs, ``[B, 3]``."""
        return angular_momentum(self.arms(x)[1], v)

    def ornstein_uhlenbeck(
        self, v: Array, keep: float, strength: float, noise: Array, rest: bool
    ) -> Array:
        """Return velocities c v + s ξ/√m, without their drift if the centre is to be at rest."""
        found = keep * v + (strength * self.slowness) * noise
        return self.without_drift(found) if rest else found

    def with_angular_momentum(self, x: Array, v: Array, target: Array) -> Array:
        """Return velocities with an angular momentum, see `conservation`."""
        about, weighted = self.arms(x)
        omega = spin(inertia(about, weighted), target - angular_momentum(weighted, v))
        found: Array = v + self.masked(rotation(omega, about))
        return found

    def with_kinetic_energy(self, x: Array, v: Array, target: Array) -> Array:
        """Return velocities with a kinetic energy in eV, ``[B]``, see `conservation`."""
        about, weighted = self.arms(x)
        omega = spin(inertia(about, weighted), angular_momentum(weighted, v))
        rigid = self.masked(rotation(omega, about) + self.mean(v))
        vibration = v - rigid
        available = np.maximum(target - self.kinetic_energy(rigid), 0.0)
        present = self.kinetic_energy(vibration)
        moving = present > TINY
        factor = np.where(moving, np.sqrt(available / np.where(moving, present, 1.0)), 1.0)
        found: Array = rigid + factor[:, None, None] * vibration
        return found

    def rescaled(
        self, v: Array, freedom: Array, numbers: Array, keep: float, unit: float, rest: bool
    ) -> Array:
        """Return velocities times one random factor; see `stochastic.rescale_kinetic_energy`.

        ``freedom`` is N_f, int64 ``[B]``, ``unit`` the mean kinetic energy over N_f in eV. The
        drift is taken out first if the centre is to be at ``rest``.
        """
        v = self.without_drift(v) if rest else v
        kinetic = np.maximum(self.kinetic_energy(v), TINY)
        squares = (numbers * numbers * (np.arange(numbers.shape[1]) < freedom[:, None])).sum(1)
        ratio = (1.0 - keep) * unit / kinetic
        root = np.sqrt(keep * ratio)
        squared = keep + ratio * squares + 2.0 * numbers[:, 0] * root
        factor = np.copysign(np.sqrt(np.maximum(squared, 0.0)), numbers[:, 0] * ratio + root)
        found: Array = factor[:, None, None] * v
        return found

    def kept(
        self, x: Array, v: Array, x0: Array, v0: Array, gain: Array | None, turn: bool
    ) -> Array:
        """Return the velocities at a jump's end with what it is to keep of its start.

        Parameters
        ----------
        x, v, x0, v0
            Its end and its start, ``[B, N, 3]``.
        gain
            Kinetic energy that the end has more than the start in eV, ``[B]``; None if the energy
            is not kept.
        turn
            Whether the angular momentum is kept.
        """
        if turn:
            v = self.with_angular_momentum(x, v, self.angular_momentum(x0, v0))
        if gain is not None:
            v = self.with_kinetic_energy(x, v, self.kinetic_energy(v0) + gain)
        return v

    def are_finite(self, x: Array, v: Array) -> bool:
        """Whether all numbers are finite."""
        return math.isfinite(np.add.reduce(x, None) + np.add.reduce(v, None))

    def first_outside(self, x: Array, v: Array, limits: tuple[Array, ...]) -> Array:
        """Return each molecule's first broken frame of ``[B, T, N, 3]``; see `guard.Guard`.

        The limits are both atoms of each pair, ``[P]``, and the least and the greatest square of
        their distance, ``[B, P]``.
        """
        first, second, least, most = limits
        # With the atoms in front, what belongs to one is copied in one piece.
        ahead = np.ascontiguousarray(x.transpose(2, 3, 0, 1))
        apart = ahead.take(first, 0)
        apart -= ahead.take(second, 0)
        squared = np.einsum("pkbt,pkbt->pbt", apart, apart)
        inside = (squared >= least.T[..., None]) & (squared <= most.T[..., None])
        if inside.all() and self.are_finite(x, v):
            return np.full(len(x), x.shape[1])
        good = inside.all(0) & np.isfinite(x).all((2, 3)) & np.isfinite(v).all((2, 3))
        found: Array = good.cumprod(1).sum(1)
        return found


def angular_momentum(weighted: Array, v: Array) -> Array:
    """Return Σ m x × v, ``[B, 3]``, of weighted arms and velocities."""
    found: Array = (weighted.swapaxes(1, 2) @ v).reshape(-1, 9) @ _CROSS
    return found


def inertia(about: Array, weighted: Array) -> Array:
    """Return the inertia tensor in amu Å², ``[B, 3, 3]``."""
    found: Array = (weighted.swapaxes(1, 2) @ about).reshape(-1, 9) @ _INERTIA
    return found.reshape(-1, 3, 3)


def spin(tensors: Array, momentum: Array) -> Array:
    """Return the angular velocity ω = I⁺ L in rad/fs, ``[B, 3]``, see `LINEAR_TOLERANCE`."""
    moments, axes = np.linalg.eigh(tensors)
    inverse = np.zeros_like(moments)
    np.divide(1.0, moments, out=inverse, where=moments > LINEAR_TOLERANCE * moments[:, -1:])
    about = (momentum[:, None] @ axes) * inverse[:, None]
    found: Array = (about @ axes.swapaxes(1, 2))[:, 0]
    return found


def rotation(omega: Array, about: Array) -> Array:
    """Return the velocities ω × r, ``[B, N, 3]``."""
    found: Array = about @ (omega @ _TURN).reshape(-1, 3, 3)
    return found
