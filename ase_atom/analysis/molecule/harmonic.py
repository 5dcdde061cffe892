"""Normal modes of a relaxed molecule, and the guess that they make of its future."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ase_atom.superposition import superposing_rotations
from ase_atom.units import AMU_A2_FS2_IN_EV

_SPEED_OF_LIGHT = 2.99792458e-5  # cm/fs
_LONGEST_STEP = 1.0  # fs, of the integration of a rigid rotation
_STRAIGHT = (
    1e-2  # relative extent about an axis of a linear molecule, which no relaxation puts at 0
)

#: Forces in eV/Å of ``[K, N, 3]`` positions in Å.
ForceFunction = Callable[[np.ndarray], np.ndarray]


def finite_difference_hessian(
    forces: ForceFunction, positions: np.ndarray, step: float = 0.005
) -> np.ndarray:
    """Second derivatives of the energy by central differences of forces.

    Parameters
    ----------
    forces
        Maps ``[K, N, 3]`` positions to forces; called once.
    positions
        Å, ``[N, 3]``.
    step
        Displacement of each coordinate, Å.

    Returns
    -------
    eV/Å², ``[3N, 3N]``, symmetric.
    """
    size = positions.size
    steps = step * np.eye(size).reshape(size, *positions.shape)
    displaced = np.concatenate([positions + steps, positions - steps])
    plus, minus = forces(displaced).reshape(2, size, size)
    hessian = -(plus - minus) / (2 * step)
    return 0.5 * (hessian + hessian.T)


@dataclass(frozen=True)
class NormalModes:
    """Vibrations about a minimum, free of translation and rotation.

    Attributes
    ----------
    masses
        amu, ``[N]``.
    positions
        The minimum, centred on its centre of mass, Å, ``[N, 3]``.
    squares
        ω², (rad/fs)², ascending, ``[M]`` with M = 3N − 6 (3N − 5 if linear).
    vectors
        Orthonormal mass-weighted displacements, ``[3N, M]``.
    energy
        eV.
    """

    masses: np.ndarray
    positions: np.ndarray
    squares: np.ndarray
    vectors: np.ndarray
    energy: float = 0.0

    @classmethod
    def from_hessian(
        cls, masses: ArrayLike, positions: np.ndarray, hessian: np.ndarray, energy: float = 0.0
    ) -> NormalModes:
        """Diagonalise a Hessian (eV/Å²) in the space of internal displacements."""
        masses = np.asarray(masses, dtype=float)
        centred = positions - masses @ positions / masses.sum()
        roots = np.sqrt(masses)
        translations = np.einsum("n,xy->nxy", roots, np.eye(3)).reshape(-1, 3)
        rotations = np.stack([np.cross(axis, centred) for axis in np.eye(3)], axis=-1)
        rotations = (roots[:, None, None] * rotations).reshape(-1, 3)
        rigid = np.concatenate([translations, rotations], axis=1)
        left, singular, _ = np.linalg.svd(rigid, full_matrices=True)
        internal = left[:, int((singular > _STRAIGHT * singular[0]).sum()) :]
        scale = np.repeat(1 / roots, 3)
        weighted = scale[:, None] * hessian * scale / AMU_A2_FS2_IN_EV
        squares, mixing = np.linalg.eigh(internal.T @ weighted @ internal)
        return cls(masses, centred, squares, internal @ mixing, energy)

    @property
    def wavenumbers(self) -> np.ndarray:
        """Harmonic frequencies in cm⁻¹, negative for imaginary ones, ``[M]``."""
        omega = np.sign(self.squares) * np.sqrt(np.abs(self.squares))
        found: np.ndarray = omega / (2 * np.pi * _SPEED_OF_LIGHT)
        return found

    @property
    def inertia(self) -> np.ndarray:
        """Inertia tensor about the centre of mass, amu Å², ``[3, 3]``."""
        return _inertia(self.masses, self.positions, self.positions)

    def in_eckart_frame(
        self, positions: np.ndarray, velocities: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Split the motion of structures that lie on the minimum into vibration and rotation.

        Parameters
        ----------
        positions, velocities
            About the centre of mass at rest, along the minimum's axes, Å and Å/fs, ``[S, N, 3]``.

        Returns
        -------
        Displacements and vibrational velocities, ``[S, N, 3]``, and the angular velocity of the
        Eckart frame in rad/fs, ``[S, 3]``.
        """
        # What is left by the frame's own angular velocity obeys Σ m r₀ × u = 0, so the modes
        # carry all of it.
        moment = np.einsum("n,snx->sx", self.masses, np.cross(self.positions, velocities))
        mixed = _inertia(self.masses, self.positions, positions)
        spin = np.einsum("sxy,sy->sx", np.linalg.pinv(mixed, rcond=1e-9), moment)
        internal = velocities - np.cross(spin[:, None], positions)
        return positions - self.positions, internal, spin

    def propagate(
        self, displacement: np.ndarray, velocity: np.ndarray, times: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Internal displacements and velocities at ``times``, exact for a quadratic energy.

        Parameters
        ----------
        displacement, velocity
            Å and Å/fs in the frame of the minimum, ``[S, N, 3]``.
        times
            fs, ``[L]``.

        Returns
        -------
        Each ``[S, L, N, 3]``.
        """
        roots = np.repeat(np.sqrt(self.masses), 3)
        amplitude = (displacement.reshape(len(displacement), -1) * roots) @ self.vectors
        speed = (velocity.reshape(len(velocity), -1) * roots) @ self.vectors
        # A flat or saddle-like direction is left to drift: no restoring force, no explosion.
        omega = np.sqrt(np.clip(self.squares, 0, None))
        phase = times[:, None] * omega
        sine = np.sinc(phase / np.pi) * times[:, None]
        path = amplitude[:, None] * np.cos(phase) + speed[:, None] * sine
        rate = speed[:, None] * np.cos(phase) - amplitude[:, None] * omega * np.sin(phase)
        shape = (len(displacement), len(times), -1, 3)
        back = self.vectors.T / roots
        return (path @ back).reshape(shape), (rate @ back).reshape(shape)


class HarmonicGuess:
    """Future of a state if the molecule vibrated harmonically about its nearest minimum.

    Each start is compared with every minimum under every relabelling that keeps the bonds, and
    under reflection, by a mass-weighted Kabsch alignment, which leaves it in the minimum's Eckart
    frame (Eckart, Phys. Rev. 47, 552 (1935)). From there the modes run exactly, while the frame
    turns as a free rigid body with the minimum's principal moments of inertia.

    Parameters
    ----------
    minima
        Relaxed structures with their modes, atoms in the same order.
    relabellings
        ``[P, N]`` as from `ase_atom.analysis.molecule.symmetry.automorphisms`.
    """

    def __init__(self, minima: Sequence[NormalModes], relabellings: np.ndarray) -> None:
        self.minima = list(minima)
        relabellings, masses = np.asarray(relabellings), self.minima[0].masses
        same = np.isclose(masses[relabellings], masses).all(1)  # isotopes are not equivalent
        self.relabellings = relabellings[same]

    def __call__(
        self, positions: np.ndarray, velocities: np.ndarray, times: ArrayLike
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities ``[S, L, N, 3]`` of starts ``[S, N, 3]`` at ``times`` ``[L]``.

        Units are Å, Å/fs and fs.
        """
        times = np.asarray(times, dtype=float)
        masses = self.minima[0].masses
        weights = masses / masses.sum()
        centre = np.einsum("n,snx->sx", weights, positions)[:, None]
        drift = np.einsum("n,snx->sx", weights, velocities)[:, None]
        x, v = positions - centre, velocities - drift
        choice, relabelling, sign, frame, _ = self.nearest(x)
        out_x = np.empty((len(x), len(times), *x.shape[1:]))
        out_v = np.empty_like(out_x)
        for index, minimum in enumerate(self.minima):
            rows = np.flatnonzero(choice == index)
            if not len(rows):
                continue
            order = relabelling[rows]
            flip = sign[rows, None, None]
            there = np.take_along_axis(x[rows], order[:, :, None], 1) * flip
            going = np.take_along_axis(v[rows], order[:, :, None], 1) * flip
            path, rate = _swing(minimum, frame[rows], there, going, times)
            back = np.argsort(order, axis=1)[:, None, :, None]
            out_x[rows] = np.take_along_axis(path, back, 2) * flip[:, None]
            out_v[rows] = np.take_along_axis(rate, back, 2) * flip[:, None]
        moved = centre[:, None] + drift[:, None] * times[:, None, None]
        return out_x + moved, out_v + drift[:, None]

    def nearest(
        self, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which minimum each structure lies nearest to, and how it lies upon it.

        Parameters
        ----------
        x
            Positions about the centre of mass, Å, ``[S, N, 3]``.

        Returns
        -------
        Index of the minimum, relabelling ``[S, N]``, −1 for a reflection, rotation ``[S, 3, 3]``
        and mass-weighted root mean square distance in Å.
        """
        count = len(x)
        best = np.full(count, np.inf)
        choice = np.zeros(count, dtype=int)
        order = np.tile(np.arange(x.shape[1]), (count, 1))
        sign = np.ones(count)
        frame = np.tile(np.eye(3), (count, 1, 1))
        for index, minimum in enumerate(self.minima):
            for relabelling in self.relabellings:
                for flip in (1.0, -1.0):
                    rotation, misfit = superposing_rotations(
                        flip * x[:, relabelling], minimum.positions, minimum.masses
                    )
                    better = misfit < best - 1e-9
                    best[better] = misfit[better]
                    choice[better], sign[better] = index, flip
                    order[better] = relabelling
                    frame[better] = rotation[better]
        total = self.minima[0].masses.sum()
        return choice, order, sign, frame, np.sqrt(np.clip(best, 0, None) / total)


def _swing(
    minimum: NormalModes, frame: np.ndarray, x: np.ndarray, v: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vibrate in the turning Eckart frame; ``x`` and ``v`` about the centre of mass, at rest."""
    displacement, internal, spin = minimum.in_eckart_frame(x @ frame, v @ frame)
    path, rate = minimum.propagate(displacement, internal, times)
    path = path + minimum.positions
    frames, spins = rotate_freely(minimum.inertia, frame, spin, times)
    rate = rate + np.cross(spins[:, :, None], path)
    turned = np.swapaxes(frames, -1, -2)
    return path @ turned, rate @ turned


def _inertia(masses: np.ndarray, reference: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Σ m [(r₀·r) 1 − r r₀ᵀ], the map from ω to Σ m r₀ × (ω × r), ``[..., 3, 3]``."""
    inner = np.einsum("n,nx,...nx->...", masses, reference, positions)
    outer = np.einsum("n,...nx,ny->...xy", masses, positions, reference)
    inertia: np.ndarray = inner[..., None, None] * np.eye(3) - outer
    return inertia


def rotate_freely(
    inertia: np.ndarray, frame: np.ndarray, spin: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Orientations and body-frame angular velocities of free rigid bodies.

    Integrates Euler's equations, I dω/dt = −ω × Iω and dR/dt = R [ω]×, by fourth-order
    Runge–Kutta steps of at most 1 fs.

    Parameters
    ----------
    inertia
        amu Å², in the body frame, ``[3, 3]``.
    frame, spin
        Initial orientations ``[S, 3, 3]`` and body-frame angular velocities in rad/fs ``[S, 3]``.
    times
        fs, ascending, ``[L]``.

    Returns
    -------
    ``[S, L, 3, 3]`` and ``[S, L, 3]``.
    """
    inverse = np.linalg.pinv(inertia, rcond=1e-9)
    axes = np.eye(3)

    def rates(rotation: np.ndarray, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turning = np.stack([np.cross(omega, axis) for axis in axes], axis=-1)
        return rotation @ turning, -np.cross(omega, omega @ inertia) @ inverse

    frames, spins, now = [], [], 0.0
    for time in times:
        steps = max(1, int(np.ceil((time - now) / _LONGEST_STEP)))
        h = (time - now) / steps
        for _ in range(steps if time > now else 0):
            a = rates(frame, spin)
            b = rates(frame + h / 2 * a[0], spin + h / 2 * a[1])
            c = rates(frame + h / 2 * b[0], spin + h / 2 * b[1])
            d = rates(frame + h * c[0], spin + h * c[1])
            frame = frame + h / 6 * (a[0] + 2 * b[0] + 2 * c[0] + d[0])
            spin = spin + h / 6 * (a[1] + 2 * b[1] + 2 * c[1] + d[1])
        now = max(now, time)
        frames.append(frame)
        spins.append(spin)
    return np.stack(frames, axis=1), np.stack(spins, axis=1)
