"""Files of reference bursts, as ``training.generate`` makes them, as trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tables import File, is_hdf5_file, open_file

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.errors import DataError

BURST_FORMAT = "ase-atom bursts 1"


def is_bursts(path: Path) -> bool:
    if not is_hdf5_file(str(path)):
        return False
    with open_file(str(path)) as file:
        return str(getattr(file.root._v_attrs, "format", "")) == BURST_FORMAT


def read_bursts(path: Path, molecule: str | None, temperature: float | None) -> Trajectory:
    runs, facts, present, temperatures = [], [], [], set()
    numbers = masses = None
    with open_file(str(path)) as file:
        names = sorted(file.root._v_children)
        if molecule is None and len(names) > 1:
            raise DataError(f"{path} holds bursts of {', '.join(names)}: choose one by its name")
        chosen = names[0] if molecule is None else molecule
        if chosen not in names:
            raise DataError(f"{path} holds no bursts of {chosen!r}, but of {', '.join(names)}")
        parent = file.root._v_children[chosen]  # PyTables holds its children by weak references
        for key in sorted(parent._v_children):
            group = parent._v_children[key]
            about = group._v_attrs
            present.append(float(about.temperature_K))
            if temperature is not None and abs(present[-1] - temperature) > 0.5:
                continue
            temperatures.add(present[-1])
            own = np.asarray(group.numbers[:], dtype=np.int64)
            if numbers is not None and not np.array_equal(own, numbers):
                raise DataError(f"bursts of {chosen} in {path} hold different atoms")
            numbers, masses = own, np.asarray(group.masses[:], dtype=np.float64)
            count = len(group.energies)
            runs.append(
                Segment(
                    np.asarray(group.positions[:], dtype=np.float64),
                    np.asarray(group.velocities[:], dtype=np.float64),
                    float(about.interval) * np.arange(count),
                    np.asarray(group.energies[:], dtype=np.float64),
                    name=f"{chosen}/{key} of {path.name}",
                    key=f"{chosen}/{key}",
                    theory=str(about["theory"]) if "theory" in about else "unknown",
                )
            )
            facts.append(
                {
                    name: str(about[name])
                    for name in ("ensemble", "theory", "friction_per_fs", "timestep_fs")
                    if name in about
                }
            )
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


def _checksums(file: File) -> dict[str, str]:
    """Checksums of all bursts of a file by key."""
    found = {}
    for molecule, parent in file.root._v_children.items():
        for key, group in parent._v_children.items():
            if "checksum" in group._v_attrs:
                found[f"{molecule}/{key}"] = str(group._v_attrs.checksum)
    return found
