"""npz archives: MD17, rMD17, and plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import atomic_masses
from ase.units import kcal, mol
from numpy.typing import NDArray

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory, split_runs
from ase_atom.errors import DataError
from ase_atom.io.guard import reading
from ase_atom.io.npz import PlainArchive

MD17_INTERVAL = 0.5
"""fs, of the trajectories that MD17 and rMD17 are taken from (Chmiela et al., Sci. Adv. 3,
e1603015 (2017))."""

_FAR = 0.5  # of the spread of frames: a step as long as this is no step of one path

_NAMES = {
    "numbers": ("numbers", "atomic_numbers", "nuclear_charges", "z"),
    "positions": ("positions", "coords", "R"),
    "velocities": ("velocities",),
    "times": ("times",),
    "energies": ("energies", "E"),
    "dipoles": ("dipoles",),
}
_ENERGY_UNITS = {"ev": 1.0, "kcal/mol": kcal / mol}
_LENGTH_UNITS = {"ang": 1.0, "angstrom": 1.0, "å": 1.0, "nm": 10.0, "bohr": 0.529177210903}


def read_npz(path: Path, assume_times: bool = True) -> Trajectory:
    """Read an archive; one of MD17's kind without steps has MD17's times, if they are assumed."""
    with reading(path, what="is no npz archive of arrays"), PlainArchive(path) as archive:
        held, objects = dict(archive), archive.objects
    with reading(path):
        return _trajectory(path, held, objects, assume_times)


def _trajectory(
    path: Path, held: dict[str, NDArray], objects: list[str], assume_times: bool
) -> Trajectory:
    found = {what: next((held[n] for n in n_s if n in held), None) for what, n_s in _NAMES.items()}
    if found["numbers"] is None or found["positions"] is None:
        raise DataError(
            f"{path} should hold numbers and positions (or z and R, or nuclear_charges and "
            f"coords), and holds {', '.join(sorted(held)) or 'nothing'}"
            + (f"; {', '.join(objects)}, of Python objects, cannot be read" if objects else "")
        )
    numbers = np.asarray(found["numbers"], dtype=np.int64)
    if numbers.ndim == 2:  # one row a frame, in some archives
        if (numbers != numbers[0]).any():
            raise DataError(f"{path} holds different molecules")
        numbers = numbers[0]
    is_md17 = "R" in held or "coords" in held
    length = _unit(held.get("r_unit"), _LENGTH_UNITS, "ang", path)
    energy = _unit(held.get("e_unit"), _ENERGY_UNITS, "kcal/mol" if is_md17 else "ev", path)
    positions = np.asarray(found["positions"], dtype=np.float64) * length
    energies = None
    if found["energies"] is not None:
        energies = np.asarray(found["energies"], dtype=np.float64).reshape(-1) * energy
    times = None if found["times"] is None else np.asarray(found["times"], dtype=np.float64)
    facts, notes = {}, []
    for name in ("theory", "name"):
        if name in held:
            facts[name] = str(np.asarray(held[name]).item())
    if times is None and is_md17 and (assume_times or "old_indices" in held):
        times, note = _md17_times(positions, held.get("old_indices"))
        notes.append(note)
    velocities = found["velocities"]
    order = slice(None)
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
    Trajectory(str(path), numbers, atomic_masses[numbers], (whole,)).checked()
    runs, more = split_runs(whole)
    return Trajectory(
        str(path), numbers, atomic_masses[numbers], tuple(runs), facts, (*notes, *more)
    )


def _md17_times(positions: NDArray, indices: NDArray | None) -> tuple[NDArray | None, str]:
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


def _unit(stated: NDArray | None, known: dict[str, float], default: str, path: Path) -> float:
    name = default if stated is None else str(np.asarray(stated).item()).strip().lower()
    if name not in known:
        raise DataError(f"{path} has the unit {name!r}; one of {', '.join(known)} is understood")
    return known[name]
