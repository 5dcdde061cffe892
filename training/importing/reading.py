"""Frames of an ab initio trajectory, from whatever ASE reads and from CP2K's sets of files."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import read
from numpy.typing import NDArray

from ase_atom.errors import CoverageError, DataError, TrajectoryError, TrajectoryWarning
from ase_atom.errors.warning import warn
from ase_atom.io.ase_frames import time_of
from ase_atom.io.dialects import step_of_cp2k
from ase_atom.io.guard import reading
from ase_atom.io.labels import symbols_of
from ase_atom.io.xyz import XYZImages
from ase_atom.molecules.atoms import open_shell, total_charge
from ase_atom.molecules.whole import made_whole
from ase_atom.units import format_charge, velocities_from_ase

_POTIM = re.compile(r'<i name="POTIM">\s*([\d.Ee+-]+)\s*</i>')
_PAIRED = 0.1  # μB, which smearing may leave of paired electrons
# Times in atomic units of velocity: bohr over ħ/hartree, in Å/fs.
_CP2K_VELOCITY = units.Bohr / (units._hbar / units._e / units.Hartree * 1e15)


@dataclass
class Frames:
    """A trajectory as it was found.

    Attributes
    ----------
    name
        Of the file, for messages, or of the compound.
    numbers, masses
        ``[N]``; amu.
    positions, forces
        Å and eV/Å, ``[T, N, 3]``.
    energies
        Potential, eV, ``[T]``.
    velocities
        Å/fs, ``[T, N, 3]``, or None.
    interval
        Between frames as the file has it, fs, or None.
    charge
        Total charge that the file states, e.
    """

    name: str
    numbers: NDArray
    masses: NDArray
    positions: NDArray
    forces: NDArray
    energies: NDArray
    velocities: NDArray | None = None
    interval: float | None = None
    charge: int = 0


def read_frames(path: Path, format: str | None = None) -> Frames:
    """Read a trajectory.

    Parameters
    ----------
    path
        Any file of several frames with energies and forces that ASE reads, such as extended XYZ, an
        ASE ``.traj``, VASP's ``vasprun.xml`` or ``OUTCAR``; or CP2K's ``*-pos-1.xyz``, with
        ``*-frc-1.xyz`` (and, if there, ``*-vel-1.xyz``) beside it, in CP2K's default units.
    format
        ASE's name of the format, where the file's name does not tell.

    Raises
    ------
    DataError
        If it cannot be read, or lacks frames, energies or forces, or frames differ in their atoms.
    """
    if not path.is_file():
        raise DataError(f"there is no trajectory {path}")
    with reading(path, DataError):
        if format is None and (found := _cp2k(path)) is not None:
            return found
        return _made_of(path, _frames(path, format))


def _made_of(path: Path, frames: list[Atoms]) -> Frames:
    if len(frames) < 3:
        raise DataError(f"{path} holds {len(frames)} frames: a trajectory has at least three")
    numbers = frames[0].numbers
    for count, atoms in enumerate(frames):
        if not np.array_equal(atoms.numbers, numbers):
            raise DataError(f"{path}: frame {count} holds other atoms than frame 0")
    return Frames(
        name=str(path),
        numbers=numbers,
        masses=frames[0].get_masses(),
        positions=_whole(frames),
        forces=np.array([_forces(path, n, atoms) for n, atoms in enumerate(frames)]),
        energies=np.array([_energy(path, n, atoms) for n, atoms in enumerate(frames)]),
        velocities=_velocities(frames),
        interval=_interval(path, frames),
        charge=_charge(path, frames),
    )


def _charge(path: Path, frames: Sequence[Atoms]) -> int:
    """Total charge in e of a molecule that is a closed shell in all frames."""
    charges = set()
    for count, atoms in enumerate(frames):
        try:
            if "charge" in atoms.info or atoms.has("initial_charges"):
                charges.add(total_charge(atoms))
        except CoverageError as error:
            raise DataError(f"{path}: frame {count}: {error}") from error
        unpaired = open_shell(atoms)
        computed = getattr(atoms.calc, "results", {}).get("magmom") or 0.0
        if unpaired is None and abs(computed) > _PAIRED:
            unpaired = f"a magnetic moment of {computed:.3g} μB"
        if unpaired is not None:
            raise DataError(
                f"{path}: frame {count} has {unpaired}: operators are for closed shells, and "
                "radicals and triplets are not covered"
            )
    if len(charges) > 1:
        raise DataError(
            f"{path}: the charge differs from frame to frame: {format_charge(sorted(charges))}"
        )
    return charges.pop() if charges else 0


def _frames(path: Path, format: str | None) -> list[Atoms]:
    """Frames by the package's reader of XYZ files, by ASE of others."""
    if format is None and path.suffix.lower() in (".xyz", ".extxyz"):
        try:
            with XYZImages(path) as reader:
                return list(reader.images())
        except TrajectoryError as error:
            raise DataError(str(error)) from error
    with reading(path, DataError, what="cannot be read by ASE"):
        if path.suffix == ".xml" and format in (None, "vasp-xml"):
            return read(_whole_steps(path), index=":", format="vasp-xml")
        return read(path, index=":", format=format)


def _whole_steps(path: Path) -> io.StringIO:
    """The text of a ``vasprun.xml``, without a step in which it is cut.

    Warns
    -----
    TrajectoryWarning
        If it is cut.
    """
    text = path.read_text(errors="replace")
    if "</modeling>" in text:
        return io.StringIO(text)
    whole, end, rest = text.rpartition("</calculation>")
    if end:
        count = whole.count("</calculation>") + 1
        where = "in the next step" if "<calculation>" in rest else "after them"
        warn(f"{path} is cut {where}: its {count} whole steps are read", TrajectoryWarning)
    return io.StringIO(f"{whole}{end}</modeling>")


def _energy(path: Path, frame: int, atoms: Atoms) -> float:
    try:
        # What the forces are the gradient of, where a program smears the occupation.
        return float(atoms.get_potential_energy(force_consistent=True))
    except (PropertyNotImplementedError, RuntimeError):
        pass
    try:
        return float(atoms.get_potential_energy())
    except (PropertyNotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: frame {frame} has no energy; a trajectory to learn from has energies and "
            "forces in every frame"
        ) from error


def _forces(path: Path, frame: int, atoms: Atoms) -> NDArray:
    try:
        return atoms.get_forces(apply_constraint=False)
    except (PropertyNotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: frame {frame} has no forces; a trajectory to learn from has energies and "
            "forces in every frame"
        ) from error


def _velocities(frames: Sequence[Atoms]) -> NDArray | None:
    if not all(atoms.has("momenta") for atoms in frames):
        return None
    found = np.array([velocities_from_ase(atoms.get_velocities()) for atoms in frames])
    return found if np.abs(found).max() > 0 else None


def _interval(path: Path, frames: Sequence[Atoms]) -> float | None:
    if path.suffix == ".xml":
        found = _POTIM.search(path.read_text(errors="replace"))
        return float(found.group(1)) if found else None
    try:
        times = [time_of(atoms) for atoms in frames]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if all(time is None for time in times):
        return None
    if any(time is None for time in times):
        raise DataError(f"{path}: frame {times.index(None)} has no time, and others have")
    steps = np.diff(np.array(times, float))
    if np.ptp(steps) > 1e-3 * abs(steps).max() or steps.min() <= 0:
        raise DataError(f"{path}: its times do not rise evenly")
    return float(steps.mean())


def _whole(frames: Sequence[Atoms]) -> NDArray:
    """Positions of a molecule that a periodic cell may have cut, made whole and followed."""
    positions = np.array([atoms.positions for atoms in frames])
    periodic = np.array([atoms.pbc for atoms in frames])
    if not periodic.any():
        return positions
    return made_whole(positions, np.array([atoms.cell.array for atoms in frames]), periodic)


def _cp2k(path: Path) -> Frames | None:
    """CP2K's files, if this is the one of positions."""
    if path.suffix != ".xyz" or "-pos-" not in path.name:
        return None
    symbols, positions, heads = _blocks(path)
    if heads is None:
        return None
    others = {}
    for kind, wanted in (("frc", True), ("vel", False)):
        beside = path.with_name(path.name.replace("-pos-", f"-{kind}-"))
        if not beside.is_file():
            if wanted:
                raise DataError(
                    f"{path} needs {beside.name} beside it: let CP2K print FORCES as often as "
                    "TRAJECTORY"
                )
            continue
        names, values, marks = _blocks(beside)
        if names != symbols or marks is None or not np.array_equal(marks[:, 0], heads[:, 0]):
            raise DataError(f"{beside} does not hold the atoms and steps of {path.name}")
        others[kind] = values
    steps = np.diff(heads[:, 1])
    if len(heads) < 3 or np.ptp(steps) > 1e-3 * abs(steps).max():
        raise DataError(f"{path}: its times do not rise evenly, or there are fewer than three")
    try:
        elements, masses = symbols_of(symbols)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    atoms = Atoms(elements, masses=masses)
    velocities = others.get("vel")
    return Frames(
        name=str(path),
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        positions=positions,
        forces=others["frc"] * units.Hartree / units.Bohr,
        energies=heads[:, 2],
        velocities=None if velocities is None else velocities * _CP2K_VELOCITY,
        interval=float(steps.mean()),
        charge=0,
    )


def _blocks(path: Path) -> tuple[list[str], NDArray, NDArray | None]:
    """Labels, values ``[T, N, 3]``, and step, fs and eV ``[T, 3]`` of a file of CP2K.

    The last are None for a file of another program, or without times.
    """
    lines = path.read_text(errors="replace").splitlines()
    try:
        count = int(lines[0])
        blocks = [lines[n : n + count + 2] for n in range(0, len(lines) - count - 1, count + 2)]
        symbols = [line.split()[0] for line in blocks[0][2:]]
        values = [[line.split()[1:4] for line in block[2:]] for block in blocks]
        heads = [step_of_cp2k(block[1]) for block in blocks]
        if any(head is None or head[1] is None for head in heads):
            return symbols, np.array(values, float), None
        return symbols, np.array(values, float), np.array(heads, float)
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged, or no XYZ file of CP2K") from error
