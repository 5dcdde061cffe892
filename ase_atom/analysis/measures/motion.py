"""Motion split into that of the centre of mass, rotation as a whole, and vibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.units import AMU_A2_FS2_IN_EV, KB

_FLAT = 1e-9  # relative; an axis without inertia is that of a linear molecule
_STRAIGHT = 150.0  # degrees; the least angle at an atom of a linear molecule, in the median
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
        ½ L·I⁻¹·L with the instantaneous inertia tensor I, eV, ``[T]``; of a linear molecule, which
        bends, without the part about its axis: that is vibration.
    vibration
        Velocities without either, Å/fs, ``[T, N, 3]``.
    freedom
        Share of each atom in the vibrational degrees of freedom, ``[T, N]``: three less its part in
        translation and rotation, so that at equilibrium Σ m v² over any atoms is kT times the sum
        of theirs.
    turning
        Degrees of freedom of rotation, as it was split off.
    thermal_momentum
        Σ of the principal moments of inertia, amu Å², ``[T]``: kT times it is the mean L².
    """

    drift: np.ndarray
    angular_momentum: np.ndarray
    rotational_energy: np.ndarray
    vibration: np.ndarray
    freedom: np.ndarray
    turning: int
    thermal_momentum: np.ndarray


def rotational_freedom(trajectory: Trajectory) -> int:
    """Return the degrees of freedom of rotation, see `rotational_freedom_of`."""
    return rotational_freedom_of(trajectory.numbers, trajectory.pooled("positions", 200))


def rotational_freedom_of(numbers: np.ndarray, frames: np.ndarray) -> int:
    """Return the degrees of freedom of rotation: 0 of an atom, 2 of a linear molecule, else 3.

    Linear is a chain of atoms, in one typical frame, whose angles are near 180° in the median of
    frames: at no instant is it straight.

    Parameters
    ----------
    numbers
        Atomic numbers, ``[N]``.
    frames
        Positions in Å, ``[T, N, 3]``.
    """
    from ase_atom.analysis.molecule.coordinates import connectivity, typical_frame

    atoms = len(numbers)
    if atoms < 3:
        return 2 * (atoms - 1)
    bonds = connectivity(numbers, typical_frame(frames))
    neighbours = [
        np.concatenate([bonds[bonds[:, 0] == n, 1], bonds[bonds[:, 1] == n, 0]])
        for n in range(atoms)
    ]
    if sorted(map(len, neighbours)) != [1, 1] + [2] * (atoms - 2):
        return 3
    for middle, ends in enumerate(neighbours):
        if len(ends) == 2:
            arms = frames[:, ends] - frames[:, [middle]]
            arms /= np.linalg.norm(arms, axis=2, keepdims=True)
            cosine = float(np.median((arms[:, 0] * arms[:, 1]).sum(1)))
            if np.degrees(np.arccos(np.clip(cosine, -1, 1))) < _STRAIGHT:
                return 3
    return 2


def inverse_inertia(inertia: np.ndarray, turning: int) -> np.ndarray:
    """Return inverses of inertia tensors ``[T, 3, 3]`` for so many degrees of freedom of rotation.

    With two of them, about the two axes of the largest moments. What turns about the third is a
    bend of a molecule that is linear at rest.
    """
    moments, axes = np.linalg.eigh(inertia)  # ascending
    turns = moments > _FLAT * moments[:, -1:]
    turns[:, : 3 - turning] = False
    weights = np.where(turns, 1 / np.where(turns, moments, 1), 0)
    return np.einsum("txk,tk,tyk->txy", axes, weights, axes)


def split_motion(run: Segment, masses: np.ndarray, turning: int) -> Motion:
    """Split the velocities of a run.

    Parameters
    ----------
    run
        With velocities.
    masses
        amu, ``[N]``.
    turning
        Degrees of freedom of rotation, see `rotational_freedom`: the same for all runs of a
        molecule.
    """
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
    inverse = inverse_inertia(inertia, turning)
    spin = np.einsum("txy,ty->tx", inverse, momentum)
    rotation = np.cross(spin[:, None], r)
    squares = np.einsum("tnx,tnx->tn", r, r)
    along = np.einsum("tnx,txy,tny->tn", r, inverse, r)
    share = masses * (squares * np.trace(inverse, axis1=1, axis2=2)[:, None] - along)
    return Motion(
        drift,
        momentum,
        0.5 * AMU_A2_FS2_IN_EV * (momentum * spin).sum(1),
        u - rotation,
        3.0 - 3.0 * weights - share,
        turning,
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

    translation: list[np.ndarray]
    rotation: list[np.ndarray]
    vibration: list[np.ndarray]
    elements: dict[int, list[np.ndarray]]
    inner: int
    turning: int
    com_fixed: bool
    rotation_fixed: bool

    @property
    def freedom(self) -> int:
        """Degrees of freedom of all motion that is thermal."""
        return self.inner + 3 * (not self.com_fixed) + self.turning * (not self.rotation_fixed)

    @property
    def overall(self) -> list[np.ndarray]:
        """Temperature of all motion that is thermal."""
        energies = self.kinetic_energy(not self.com_fixed, not self.rotation_fixed)
        return [2 * energy / (KB * self.freedom) for energy in energies]

    @property
    def mean_vibration(self) -> float:
        """Mean temperature of the vibration over all runs, K."""
        return float(np.concatenate(self.vibration).mean())

    def kinetic_energy(self, translation: bool, rotation: bool) -> list[np.ndarray]:
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


def part_temperatures(
    motion: Motion, masses: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinetic temperatures of translation, rotation and vibration, K, each ``[T]``.

    Zero where a part has no degrees of freedom.
    """
    unit = AMU_A2_FS2_IN_EV / KB
    inner = 3 * len(masses) - 3 - motion.turning
    return (
        unit * masses.sum() * (motion.drift**2).sum(1) / 3,
        2 * motion.rotational_energy / (KB * max(motion.turning, 1)),
        unit * (masses * (motion.vibration**2).sum(2)).sum(1) / max(inner, 1),
    )


def temperatures(trajectory: Trajectory, motions: list[Motion]) -> Temperatures:
    """Kinetic temperatures of a trajectory with velocities.

    Whether the centre of mass and the rotation are thermal or were removed is found from their
    mean temperatures beside that of the vibration.
    """
    masses, numbers = trajectory.masses, trajectory.numbers
    turning = motions[0].turning
    inner = 3 * len(numbers) - 3 - turning
    parts = [part_temperatures(m, masses) for m in motions]
    translation, rotation, vibration = ([*part] for part in zip(*parts, strict=True))
    by_atom = [AMU_A2_FS2_IN_EV / KB * masses * (m.vibration**2).sum(2) for m in motions]
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


def _mean(series: list[np.ndarray]) -> float:
    return float(np.concatenate(series).mean())
