"""Whether a trajectory can be what it is said to be: units, time step, jumps, chemistry."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_atom.errors import CoverageError, DataError
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.molecules.lengths import neighbour_ratio, other_unit
from ase_atom.molecules.structure import check_elements, check_one
from ase_atom.molecules.topology import atom_label, perceive_bonds, perceive_smiles, radii
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.importing.reading import Frames

_JUMP, _USUAL = 0.01, 15
_ENERGIES = {
    "hartree": 1 / units.Hartree,
    "rydberg": 1 / units.Rydberg,
    "kcal/mol": units.mol / units.kcal,
    "kJ/mol": units.mol / units.kJ,
}
_FORCES = {"hartree/bohr": units.Bohr / units.Hartree, "rydberg/bohr": units.Bohr / units.Rydberg}
_FORCES |= {f"{unit}/Å": factor for unit, factor in _ENERGIES.items()}


def accelerations(frames: Frames) -> NDArray:
    """F/m in Å/fs², ``[T, N, 3]``."""
    return frames.forces / (frames.masses[:, None] * AMU_A2_FS2_IN_EV)


def check_geometry(frames: Frames) -> str:
    """Check lengths of bonds, masses, and that the molecule stays what it is.

    Returns
    -------
    Its canonical SMILES, without stereochemistry.

    Raises
    ------
    DataError
        Naming the frame or atom at fault.
    """
    name, numbers = frames.name, frames.numbers
    for what in ("positions", "forces", "energies"):
        if not np.isfinite(getattr(frames, what)).all():
            raise DataError(f"{name}: its {what} hold a value that is not finite")
    check_masses(name, numbers, frames.masses)
    if frames.charge:
        raise DataError(f"{name} has a total charge of {frames.charge:+d}; only neutral molecules")
    if len(numbers) > 1:
        check_lengths(name, numbers, frames.positions)
    names = []
    for frame in (0, len(frames.positions) - 1):
        positions = frames.positions[frame]
        try:
            check_elements(numbers)
            check_one(numbers, positions)
            names.append(perceive_smiles(numbers, positions)[1])
        except CoverageError as error:
            raise DataError(f"{name}, frame {frame}: {error}") from error
    if names[0] != names[1]:
        raise DataError(f"{name} begins as {names[0]} and ends as {names[1]}: a reaction")
    return names[0]


def check_masses(name: str, numbers: NDArray, masses: NDArray) -> None:
    """Check masses in amu against the standard ones, both ``[N]``.

    Raises
    ------
    DataError
        Naming the first atom with another.
    """
    standard = Atoms(numbers).get_masses()
    if (wrong := np.abs(masses - standard) > MASS_TOLERANCE).any():
        atom = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{name}: atom {atom_label(numbers, atom)} has a mass of {masses[atom]:.3f} "
            f"amu, not {standard[atom]:.3f}: operators are for standard atomic masses"
        )


def check_lengths(name: str, numbers: NDArray, positions: NDArray) -> None:
    """Check that positions ``[T, N, 3]`` are in Å, and that no bond of the first frame breaks.

    Raises
    ------
    DataError
        Naming the unit that they seem to be in, or the bond.
    """
    start = positions[0]
    radius = radii(numbers)
    ratio = neighbour_ratio(numbers, start)
    if (what := other_unit(ratio)) is not None:
        raise DataError(
            f"{name}: atoms are {ratio:.2f} times a bond's length apart: positions seem to be in "
            f"{what}"
        )
    if not 0.75 < ratio < 1.25:
        raise DataError(
            f"{name}: the nearest atoms are {ratio:.2f} times a bond's length apart: not a "
            "molecule in Å"
        )
    pairs = np.array(perceive_bonds(numbers, start))
    lengths = np.linalg.norm(positions[:, pairs[:, 0]] - positions[:, pairs[:, 1]], axis=-1) / (
        radius[pairs].sum(1)
    )
    frame, bond = np.unravel_index(int(np.argmax(lengths)), lengths.shape)
    if lengths[frame, bond] > 1.6:
        ends = "-".join(atom_label(numbers, int(atom)) for atom in pairs[bond])
        raise DataError(
            f"{name}: in frame {frame} the bond {ends} is {lengths[frame, bond]:.2f} times "
            "its length: it broke, frames are missing, or a cell without pbc has cut the molecule"
        )


def check_motion(frames: Frames, interval: float) -> None:
    """Check forces and energies against the motion: m a = F and dE = −F·dx.

    Parameters
    ----------
    frames
        The trajectory.
    interval
        Between frames, fs.

    Raises
    ------
    DataError
        For a jump, or a time step, unit of force or unit of energy that cannot be right.
    """
    name, x, pull = frames.name, frames.positions, accelerations(frames)
    measured = x[2:] - 2 * x[1:-1] + x[:-2]
    # Numerov's mean of three accelerations is exact to the fourth order.
    expected = (pull[2:] + 10 * pull[1:-1] + pull[:-2]) / 12
    size = float((expected**2).sum())
    if not size:
        raise DataError(f"{name}: all forces are zero")
    # The median over frames: a jump has no say.
    slopes = (measured * expected).sum((1, 2)) / np.maximum((expected**2).sum((1, 2)), 1e-30)
    slope = float(np.median(slopes))
    likeness = (measured * expected).sum((1, 2)) / np.sqrt(
        np.maximum((measured**2).sum((1, 2)) * (expected**2).sum((1, 2)), 1e-30)
    )
    if np.median(likeness) < 0.8:
        raise DataError(
            f"{name}: its forces do not drive its motion (correlation "
            f"{np.median(likeness):.2f}, not near 1): frames are too far apart, in another order, "
            "or forces are of another molecule"
        )
    fitting = np.sqrt(max(slope, 0.0))
    if abs(fitting / interval - 1) > 0.1:
        factor = (interval / fitting) ** 2 if fitting else float("nan")
        near = _nearest(factor, _FORCES)
        unit = f"they seem to be in {near}" if near else f"now {factor:.3g} times what fits"
        raise DataError(
            f"{name}: by its forces frames are {fitting:.3g} fs apart, not {interval:.3g}: correct "
            f"the time between frames, or the unit of the forces ({unit})"
        )
    strayed = np.linalg.norm(measured - slope * expected, axis=-1)
    if strayed.max() > max(_JUMP, _USUAL * float(np.median(strayed.max(1)))):
        frame, atom = np.unravel_index(int(np.argmax(strayed)), strayed.shape)
        raise DataError(
            f"{name}: atom {atom_label(frames.numbers, int(atom))} jumps by {strayed.max():.2f} Å "
            f"at frame {frame + 1}: frames are missing, or several runs follow one another (give "
            "each as a file of its own)"
        )
    work = -(0.5 * (frames.forces[1:] + frames.forces[:-1]) * np.diff(x, axis=0)).sum((1, 2))
    change = np.diff(frames.energies)
    factor = float((change * work).sum() / max((work**2).sum(), 1e-30))
    if abs(factor - 1) > 0.15:
        near = _nearest(factor, _ENERGIES)
        unit = f"they seem to be in {near}" if near else "they must be potential energies in eV"
        raise DataError(
            f"{name}: its energies change by {factor:.3g} times the work of its forces: {unit}"
        )


def _nearest(factor: float, known: dict[str, float]) -> str | None:
    """The unit whose numbers are so many times those of the right one."""
    return next((unit for unit, value in known.items() if abs(factor / value - 1) < 0.15), None)


def check_temperature(name: str, velocities: NDArray, masses: NDArray) -> float:
    """Check the mean kinetic temperature, with 3N − 3 degrees of freedom.

    Parameters
    ----------
    name
        For the message.
    velocities
        Å/fs, ``[T, N, 3]``, about a centre of mass at rest.
    masses
        amu.

    Returns
    -------
    K.

    Raises
    ------
    DataError
        If it lies outside 20 to 3000 K.
    """
    kinetic = 0.5 * AMU_A2_FS2_IN_EV * (velocities**2 * masses[:, None]).sum((1, 2)).mean()
    temperature = float(2 * kinetic / (KB * max(3 * len(masses) - 3, 1)))
    if not 20 < temperature < 3000:
        raise DataError(
            f"{name}: a kinetic temperature of {temperature:.3g} K cannot be right: check the time "
            "between frames"
        )
    return temperature


def thermostat_share(energies: NDArray, kinetic: NDArray, lag: int) -> float:
    """What a thermostat does within one jump, beside what the molecule does by itself.

    RMS change of the total energy over ``lag`` frames, over that of the kinetic energy.
    """
    total = energies + kinetic
    return float(
        np.sqrt(
            np.mean((total[lag:] - total[:-lag]) ** 2)
            / max(np.mean((kinetic[lag:] - kinetic[:-lag]) ** 2), 1e-30)
        )
    )
