"""Files of reference bursts, as ``training.generate`` makes them, as trajectories."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.errors import DataError
from ase_atom.io.bounds import Budget
from ase_atom.io.guard import reading
from ase_atom.io.plain_hdf5 import attribute, children, dataset, open_plain, read_whole, subgroup

BURST_FORMAT = "ase-atom bursts 1"
_FACTS = ("ensemble", "theory", "friction_per_fs", "timestep_fs")


def is_bursts(path: Path) -> bool:
    if not h5py.is_hdf5(path):
        return False
    with reading(path), open_plain(path) as file:
        return attribute(file, "format") == BURST_FORMAT


def read_bursts(path: Path, molecule: str | None, temperature: float | None) -> Trajectory:
    with reading(path), open_plain(path) as file:
        return _read(file, path, molecule, temperature)


def _read(
    file: h5py.File, path: Path, molecule: str | None, temperature: float | None
) -> Trajectory:
    runs, facts, present, temperatures = [], [], [], set()
    numbers = masses = None
    names = children(file)
    if molecule is None and len(names) > 1:
        raise DataError(f"{path} holds bursts of {', '.join(names)}: choose one by its name")
    if not names:
        raise DataError(f"{path} holds no bursts")
    chosen = names[0] if molecule is None else molecule
    if chosen not in names:
        raise DataError(f"{path} holds no bursts of {chosen!r}, but of {', '.join(names)}")
    parent = subgroup(file, chosen)
    budget = Budget(file.id.get_filesize())
    for key in children(parent):
        group = subgroup(parent, key)
        about = {name: attribute(group, name) for name in group.attrs}
        present.append(float(about["temperature_K"]))
        if temperature is not None and abs(present[-1] - temperature) > 0.5:
            continue
        temperatures.add(present[-1])
        arrays = {
            name: read_whole(dataset(group, name), budget).astype(np.float64)
            for name in ("masses", "positions", "velocities", "energies")
        }
        own = read_whole(dataset(group, "numbers"), budget).astype(np.int64)
        if numbers is not None and not np.array_equal(own, numbers):
            raise DataError(f"bursts of {chosen} in {path} hold different atoms")
        numbers, masses = own, arrays["masses"]
        runs.append(
            Segment(
                arrays["positions"],
                arrays["velocities"],
                float(about["interval"]) * np.arange(len(arrays["energies"])),
                arrays["energies"],
                name=f"{chosen}/{key} of {path.name}",
                key=f"{chosen}/{key}",
                theory=str(about.get("theory", "unknown")),
            )
        )
        facts.append({name: str(about[name]) for name in _FACTS if name in about})
    checksums = _checksums(file)
    if not runs:
        known = ", ".join(f"{value:g}" for value in sorted(set(present)))
        raise DataError(f"{path} holds no burst at {temperature:g} K, but at {known} K")
    shared = {k: v for k, v in facts[0].items() if all(f.get(k) == v for f in facts)}
    notes = []
    if len(temperatures) == 1:
        shared["temperature_K"] = f"{temperatures.pop():g}"
    else:
        listed = ", ".join(f"{value:g}" for value in sorted(temperatures))
        notes.append(f"it mixes bursts of {listed} K; choose one by its temperature")
    return Trajectory(
        str(path), numbers, masses, tuple(runs), shared, tuple(notes), checksums=checksums
    )


def _checksums(file: h5py.File) -> dict[str, str]:
    """Checksums of all bursts of a file by key."""
    found = {}
    for molecule in children(file):
        parent = subgroup(file, molecule)
        for key in children(parent):
            checksum = attribute(subgroup(parent, key), "checksum")
            if checksum is not None:
                found[f"{molecule}/{key}"] = str(checksum)
    return found
