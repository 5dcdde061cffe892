"""What a task's models learn from and are tested on, from its trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ase_atom.errors import DataError
from training.benchmarks.models import Setting, elements_of
from training.benchmarks.samples import PARTS, Samples, make_samples, split_starts
from training.benchmarks.sources import is_public, load_trajectory
from training.benchmarks.suites import Task


@dataclass(frozen=True)
class Loaded:
    """Samples of a task under one split, and what models must know of it."""

    parts: dict[str, Samples]
    setting: Setting
    sources: list[str]
    public: bool


def load_task(task: Task, split: str, data: Path | None = None, device: str = "cpu") -> Loaded:
    """Read a task's trajectories and draw its samples under a split.

    Raises
    ------
    DataError
        If a trajectory is missing, damaged or too short.
    """
    compounds = task.compounds[split]
    order = compounds.every
    # Several runs of one molecule, seed-1/NAME and so on, are the same molecule's.
    molecules = list(dict.fromkeys(Path(name).name for name in order))
    numbers: dict[int, NDArray] = {}
    parts: dict[str, list[Samples]] = {part: [] for part in PARTS}
    sources, public, intervals = [], True, set()
    # As published.
    shares = (0.2, 0.1, 0.1) if task.layout == "tg80" else (0.1, 0.05, 0.05)
    for name in order:
        trajectory = load_trajectory(task.layout, name, task.atoms == "heavy", data)
        if len(trajectory.numbers) == 0:
            raise DataError(f"{name} has no heavy atoms")
        index = molecules.index(Path(name).name)
        if not np.array_equal(numbers.setdefault(index, trajectory.numbers), trajectory.numbers):
            raise DataError(
                f"{trajectory.source} has other atoms, or in another order, than the run of "
                f"{molecules[index]} before it"
            )
        sources.append(trajectory.source)
        public = public and is_public(Path(trajectory.source))
        intervals.add(trajectory.interval)
        counts = task.counts.as_tuple()
        own = [part for part in PARTS if name in getattr(compounds, part)]
        only = own[0] if len(own) == 1 else None
        starts = split_starts(trajectory, task.window, task.margin, counts, split, only, shares)
        for part, those in zip(PARTS, starts, strict=True):
            if part in own:
                parts[part].append(make_samples(trajectory, those, task.window, index))
    if len(intervals) > 1:
        raise DataError(f"{task.name}: frames are {sorted(intervals)} fs apart, not alike")
    joined = {part: Samples.join(several) for part, several in parts.items()}
    interval = intervals.pop()
    lags = torch.arange(1, task.timesteps + 1, dtype=torch.float64) * task.delta / task.timesteps
    elements = elements_of(list(joined.values()))
    setting = Setting(elements, lags * interval, interval, task.atoms == "heavy")
    joined = {part: samples.to(torch.device(device)) for part, samples in joined.items()}
    return Loaded(joined, setting, sources, public)
