"""Files of reference bursts, as ``training.generate`` makes them, as trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.errors import DataError
from ase_atom.io.bounds import Budget
from ase_atom.io.bursts import Attributes, BurstFile
from ase_atom.io.guard import reading

_ARRAYS = ("masses", "positions", "velocities", "energies")
_FACTS = ("ensemble", "theory", "friction_per_fs", "timestep_fs")


def read_bursts(path: Path, molecule: str | None, temperature: float | None) -> Trajectory:
    """Read the bursts of a molecule, those of one temperature in K or all, as runs."""
    with reading(path), BurstFile(path) as file:
        chosen = _choose(path, file.molecules(), molecule)
        every = {key: file.attributes(key) for key in file.keys()}  # noqa: SIM118
        own = {key: about for key, about in every.items() if key.rpartition("/")[0] == chosen}
        warmth = {key: _number(about, "temperature_K") for key, about in own.items()}
        kept = [key for key in own if temperature is None or abs(warmth[key] - temperature) <= 0.5]
        if not kept:
            known = ", ".join(f"{value:g}" for value in sorted(set(warmth.values())))
            raise DataError(f"{path} holds no burst at {temperature:g} K, but at {known} K")
        runs: list[Segment] = []
        numbers = masses = np.empty(0)
        budget = Budget(path.stat().st_size)
        for key in kept:
            arrays = file.arrays(key, ("numbers", *_ARRAYS), budget=budget)
            if runs and not np.array_equal(arrays["numbers"], numbers):
                raise DataError(f"bursts of {chosen} in {path} hold different atoms")
            numbers = arrays["numbers"].astype(np.int64)
            masses, *rest = (arrays[name].astype(np.float64) for name in _ARRAYS)
            runs.append(_segment(path, key, own[key], *rest))
    facts, note = _facts([own[key] for key in kept], {warmth[key] for key in kept})
    return Trajectory(
        str(path),
        numbers,
        masses,
        tuple(runs),
        facts,
        (note,) if note else (),
        checksums={k: str(about["checksum"]) for k, about in every.items() if "checksum" in about},
        stated_charge=int(own[kept[0]].get("charge") or 0),  # only ions say it
    )


def _choose(path: Path, names: list[str], molecule: str | None) -> str:
    if molecule is None and len(names) > 1:
        raise DataError(f"{path} holds bursts of {', '.join(names)}: choose one by its name")
    if not names:
        raise DataError(f"{path} holds no bursts")
    if molecule not in (None, *names):
        raise DataError(f"{path} holds no bursts of {molecule!r}, but of {', '.join(names)}")
    return names[0] if molecule is None else molecule


def _segment(
    path: Path,
    key: str,
    about: Attributes,
    positions: np.ndarray,
    velocities: np.ndarray,
    energies: np.ndarray,
) -> Segment:
    return Segment(
        positions,
        velocities,
        _number(about, "interval") * np.arange(len(energies)),
        energies=energies,
        name=f"{key} of {path.name}",
        key=key,
        theory=str(about.get("theory", "unknown")),
    )


def _number(about: Attributes, name: str) -> float:
    """Return an attribute of a burst; anything that is no number is a ValueError."""
    value = about[name]
    if value is None:
        raise ValueError(f"its attribute {name} is empty")
    return float(value)


def _facts(bursts: list[Attributes], temperatures: set[float]) -> tuple[dict[str, str], str]:
    """What all bursts have in common, and a note where their temperatures differ."""
    facts = {
        name: str(bursts[0][name])
        for name in _FACTS
        if name in bursts[0] and all(about.get(name) == bursts[0][name] for about in bursts)
    }
    if len(temperatures) == 1:
        return facts | {"temperature_K": f"{temperatures.pop():g}"}, ""
    listed = ", ".join(f"{value:g}" for value in sorted(temperatures))
    return facts, f"it mixes bursts of {listed} K; choose one by its temperature"
