"""Motion split into that of the centre of mass, rotation as a whole, and vibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ase_atom.analysis.trajectory import Segment, Trajectory
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_FLAT = 1e-9  # relative; an axis without inertia is that of a linear molecule
_STILL = 0.02  # of the vibrational temperature, below which a kind of motion counts as removed


@dataclass(frozen=True)
class Motion:
    """The parts of one run's motion.

    Attributes
    ----------
    drift
        Velocity of the centre of mass, Å/fs, ``[T, 3]``.
    angular_momentum
        About the centre of mass, amu Å²/fs, ``[T, 3]``.
    rotational_energy
        ½ L·I⁻¹·L with the instantaneous inertia tensor I, eV, ``[T]``.
    vibration
        Velocities without either, Å/fs, ``[T, N, 3]``.
    freedom
        Share of each atom in the vibrational degrees of freedom, ``[T, N]``: three less its part in
        translation and rotation, so that at equilibrium Σ m v² over any atoms is kT times the sum
        of theirs.
    thermal_momentum
        Σ of the principal moments of inertia, amu Å², ``[T]``: kT times it is the mean L².
    """

    drift: NDArray
    angular_momentum: NDArray
    rotational_energy: NDArray
    vibration: NDArray
    freedom: NDArray
    thermal_momentum: NDArray


def split_motion(run: Segment, masses: NDArray) -> Motion:
    """Split the velocities of a run."""
    total = masses.sum()
    weights = masses / total
    centre = np.einsum("n,tnx->tx", weights, run.positions)
    drift = np.einsum("n,tnx->tx", weights, run.velocities)
    r = run.positions - centre[:, None]
    u = run.velocities - drift[:, None]
    momentum = np.einsum("n,tnx->tx", masses, np.cross(r, u))
    outer = np.einsum("n,tnx,tny->txy", masses, r, r)
    size = np.trace(outer, axis1=1, axis2=2)
    inertia = size[:, None, None] * np.eye(3) - outer
    inverse = np.linalg.pinv(inertia, rcond=_FLAT, hermitian=True)
    spin = np.einsum("txy,ty->tx", inverse, momentum)
    rotation = np.cross(spin[:, None], r)
    squares = np.einsum("tnx,tnx->tn", r, r)
    along = np.einsum("tnx,txy,tny->tn", r, inverse, r)
    turning = masses * (squares * np.trace(inverse, axis1=1, axis2=2)[:, None] - along)
    return Motion(
        drift,
        momentum,
        0.5 * AMU_A2_FS2_IN_EV * (momentum * spin).sum(1),
        u - rotation,
        3.0 - 3.0 * weights - turning,
        2.0 * size,
    )


@dataclass(frozen=True)
class Temperatures:
    """Kinetic temperatures of every run, K, each ``[T]``.

    Attributes
    ----------
    translation, rotation, vibration
        Of the parts.
    elements
        Of the vibration of each element's atoms, by atomic number.
    inner, turning
        Degrees of freedom of vibration, and of rotation: 3, or 2 if linear.
    com_fixed, rotation_fixed
        Whether the centre of mass, or rotation, stands still.
    """

    translation: list[NDArray]
    rotation: list[NDArray]
    vibration: list[NDArray]
    elements: dict[int, list[NDArray]]
    inner: int
    turning: int
    com_fixed: bool
    rotation_fixed: bool

    @property
    def freedom(self) -> int:
        """Degrees of freedom of all motion that is thermal."""
        return self.inner + 3 * (not self.com_fixed) + self.turning * (not self.rotation_fixed)

    @property
    def overall(self) -> list[NDArray]:
        """Temperature of all motion that is thermal."""
        energies = self.kinetic_energy(not self.com_fixed, not self.rotation_fixed)
        return [2 * energy / (KB * self.freedom) for energy in energies]

    @property
    def mean_vibration(self) -> float:
        """Mean temperature of the vibration over all runs, K."""
        return float(np.concatenate(self.vibration).mean())

    def kinetic_energy(self, translation: bool, rotation: bool) -> list[NDArray]:
        """Kinetic energy of the vibration and, if asked for, of the other parts, eV."""
        parts = zip(self.translation, self.rotation, self.vibration, strict=True)
        return [
            0.5 * KB * (self.inner * v + self.turning * rotation * r + 3 * translation * t)
            for t, r, v in parts
        ]

    def counted(self) -> str:
        """Say which degrees of freedom were counted."""
        com = "fixed" if self.com_fixed else "free"
        tail = ", no rotation" if self.rotation_fixed else ""
        return f"N_f = {self.freedom}, centre of mass {com}{tail}"


def nominal_temperature(trajectory: Trajectory) -> float | None:
    """Temperature in K that a trajectory's file states, or None."""
    try:
        return float(trajectory.facts["temperature_K"])
    except (KeyError, ValueError):
        return None


def temperatures(trajectory: Trajectory, motions: list[Motion]) -> Temperatures:
    """Kinetic temperatures of a trajectory with velocities.

    Whether the centre of mass and the rotation are thermal or were removed is found from their
    mean temperatures beside that of the vibration.
    """
    masses, numbers = trajectory.masses, trajectory.numbers
    unit = AMU_A2_FS2_IN_EV / KB
    turning = 0 if len(numbers) == 1 else 2 if _is_linear(trajectory) else 3
    inner = 3 * len(numbers) - 3 - turning
    translation = [unit * masses.sum() * (m.drift**2).sum(1) / 3 for m in motions]
    rotation = [2 * m.rotational_energy / (KB * max(turning, 1)) for m in motions]
    by_atom = [unit * masses * (m.vibration**2).sum(2) for m in motions]
    vibration = [square.sum(1) / max(inner, 1) for square in by_atom]
    elements = {
        int(number): [
            square[:, numbers == number].sum(1) / m.freedom[:, numbers == number].sum(1)
            for square, m in zip(by_atom, motions, strict=True)
        ]
        for number in np.unique(numbers)
    }
    still = _STILL * _mean(vibration)
    return Temperatures(
        translation,
        rotation,
        vibration,
        elements,
        inner,
        turning,
        com_fixed=_mean(translation) < still,
        rotation_fixed=turning > 0 and _mean(rotation) < still,
    )


def _mean(series: list[NDArray]) -> float:
    return float(np.concatenate(series).mean())


def _is_linear(trajectory: Trajectory) -> bool:
    """Whether all atoms lie on one line in a typical frame."""
    from ase_atom.analysis.coordinates import typical_frame

    frame = typical_frame(trajectory.pooled("positions", 50))
    spread = np.linalg.svd(frame - frame.mean(0), compute_uv=False)
    return len(frame) < 3 or bool(spread[1] < 0.05 * spread[0])
