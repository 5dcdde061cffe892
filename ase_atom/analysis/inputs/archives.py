"""npz archives: MD17, rMD17, and plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory, split_runs
from ase_atom.errors import DataError
from ase_atom.io.guard import reading
from ase_atom.io.labels import symbols_of
from ase_atom.io.npz import PlainArchive
from ase_atom.io.stated_units import unit_factor

MD17_INTERVAL = 0.5
"""fs, of the trajectories that MD17 and rMD17 are taken from (Chmiela et al., Sci. Adv. 3,
e1603015 (2017))."""

_FAR = 0.5  # of the spread of frames: a step as long as this is no step of one path

_NAMES = {
    "numbers": ("numbers", "atomic_numbers", "nuclear_charges", "z", "symbols", "elements"),
    "positions": ("positions", "coords", "R"),
    "velocities": ("velocities",),
    "times": ("times",),
    "energies": ("energies", "E"),
    "dipoles": ("dipoles",),
}


def read_npz(path: Path, assume_times: bool = True) -> Trajectory:
    """Read an archive; one of MD17's kind without steps has MD17's times, if they are assumed."""
    with reading(path, what="is no npz archive of arrays"), PlainArchive(path) as archive:
        held, objects = dict(archive), archive.objects
    with reading(path):
        return _trajectory(path, held, objects, assume_times)


def _trajectory(
    path: Path, held: dict[str, np.ndarray], objects: list[str], assume_times: bool
) -> Trajectory:
    found = {what: next((held[n] for n in n_s if n in held), None) for what, n_s in _NAMES.items()}
    if found["numbers"] is None or found["positions"] is None:
        raise DataError(
            f"{path} should hold numbers and positions (or z and R, or nuclear_charges and "
            f"coords), and holds {', '.join(sorted(held)) or 'nothing'}"
            + (f"; {', '.join(objects)}, of Python objects, cannot be read" if objects else "")
        )
    if not len(found["positions"]):
        raise DataError(f"{path} holds no frame")
    numbers, masses = _identity(path, np.asarray(found["numbers"]))
    is_md17 = "R" in held or "coords" in held
    length = _factor(held.get("r_unit"), "length", "angstrom", path)
    energy = _factor(held.get("e_unit"), "energy", "kcal/mol" if is_md17 else "ev", path)
    positions = np.asarray(found["positions"], dtype=np.float64) * length
    energies = None
    if found["energies"] is not None:
        energies = np.asarray(found["energies"], dtype=np.float64).reshape(-1) * energy
    times = None if found["times"] is None else np.asarray(found["times"], dtype=np.float64)
    facts: dict[str, str] = {}
    notes: list[str] = []
    for name in ("theory", "name"):
        if name in held:
            facts[name] = str(np.asarray(held[name]).item())
    if times is None and is_md17 and (assume_times or "old_indices" in held):
        times, note = _md17_times(positions, held.get("old_indices"))
        notes.append(note)
    velocities = found["velocities"]
    order: slice | np.ndarray = slice(None)
    if times is not None and (np.diff(times) <= 0).any():
        order = np.argsort(times, kind="stable")
    whole = Segment(
        positions,
        None if velocities is None else np.asarray(velocities, dtype=np.float64),
        times,
        energies=energies,
        dipoles=None
        if found["dipoles"] is None
        else np.asarray(found["dipoles"], dtype=np.float64),
        name=str(path),
    )[order]
    Trajectory(str(path), numbers, masses, (whole,)).checked()
    runs, more = split_runs(whole)
    return Trajectory(
        str(path),
        numbers,
        masses,
        tuple(runs),
        facts,
        (*notes, *more),
        stated_charge=_whole_charge(path, held),
    )


def _whole_charge(path: Path, held: dict[str, np.ndarray]) -> int | None:
    if "charge" not in held:
        return None
    charge = float(np.asarray(held["charge"]).reshape(-1)[0])
    if not charge.is_integer():
        raise DataError(f"the charge in {path} is {charge:g} e, and should be a whole number")
    return int(charge)


def _identity(path: Path, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers and masses in amu, ``[N]``, from numbers or symbols.

    Raises
    ------
    DataError
        If frames differ, or there are no such elements.
    """
    if found.ndim == 2:  # one row a frame, in some archives
        if (found != found[0]).any():
            raise DataError(f"{path} holds different molecules")
        found = found[0]
    if found.dtype.kind in "US":
        labels = [str(label) for label in found.astype("U").reshape(-1)]
        try:
            symbols, masses = symbols_of(labels)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        numbers = np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)
        return numbers, atomic_masses[numbers] if masses is None else masses
    numbers = found.astype(np.int64)
    wrong = (numbers != found) | (numbers < 1) | (numbers >= len(atomic_masses))
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise DataError(f"{path}: atom {atom + 1} has the atomic number {found[atom]}")
    return numbers, atomic_masses[numbers]


def _md17_times(positions: np.ndarray, indices: np.ndarray | None) -> tuple[np.ndarray | None, str]:
    """Times of MD17's frames: steps of 0.5 fs where they follow each other, else unknown."""
    if indices is not None:
        return MD17_INTERVAL * np.asarray(indices, dtype=np.float64), (
            f"times are those of the steps of {MD17_INTERVAL} fs that MD17 says frames come from"
        )
    some = positions[np.linspace(0, len(positions) - 1, 200).astype(int)]
    spread = np.sqrt(((some - some.mean(0)) ** 2).mean())
    step = np.sqrt((np.diff(positions[:1000], axis=0) ** 2).mean())
    if step > _FAR * spread:
        return None, "its frames do not follow each other in time: they were taken without times"
    return MD17_INTERVAL * np.arange(len(positions)), (
        f"its frames were taken as {MD17_INTERVAL} fs apart, as those of MD17 are"
    )


def _factor(stated: np.ndarray | None, kind: str, default: str, path: Path) -> float:
    """Return what makes a unit that an archive states, or its kind has, the package's own."""
    try:
        return unit_factor(default if stated is None else str(np.asarray(stated).item()), kind)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
