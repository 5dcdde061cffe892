"""Settings for little data of one molecule, and errors on what was held out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from ase_atom.errors import ConfigError, DataError
from ase_atom.operator import Operator
from training.data.frames import EnergyOffsets, FrameData
from training.data.split import split_bursts
from training.data.store import Burst
from training.learning.config import TrainingConfig, explain
from training.learning.validation import Validation

LAGS = (8.0, 16.0, 32.0)
"""Lags at which errors are reported, fs."""


def make_config(
    parent: Operator,
    checkpoint: str,
    data: Path,
    name: str,
    *,
    steps: int = 1500,
    held_out: float = 0.25,
    from_scratch: bool = False,
    seed: int = 0,
    rate: float = 1.0,
    threads: int | None = None,
    compiled: bool = False,
    displaced: Path | None = None,
) -> TrainingConfig:
    """Settings for little data of one molecule.

    Parameters
    ----------
    parent, checkpoint
        The operator to start from, and its name or path.
    data
        Reference bursts.
    name
        Of the new operator.
    steps
        Optimiser steps; the rate falls to zero over them.
    held_out
        Share of the bursts, or number of bursts, on which errors are measured and nothing is
        learned.
    from_scratch
        Start from random weights in place of the operator's: what the data alone teach.
    seed
        Of windows, of the division and of random weights.
    rate
        Factor on the learning rates.
    threads, compiled
        As ``threads`` and ``compile`` of `training.learning.config.TrainerConfig`.
    displaced
        More energies and forces, of geometries that are no path.

    Raises
    ------
    ConfigError
        If one of them is out of range.
    """
    # A trained operator needs smaller steps than a new one: large ones forget what it knows.
    lr, muon_lr = (1.5e-3, 0.012) if from_scratch else (4e-4, 0.003)
    every = max(1, steps // 5)
    start = {} if from_scratch else {"start_from": checkpoint, "refit_energies": True}
    sizes = parent.config.model_dump()
    if from_scratch and "force_input" in sizes:
        sizes["force_input"] = False  # the potential whose forces it hears is the parent's
    settings = {
        "name": name,
        "stride": parent.card.stride_fs,
        **start,
        "notes": _provenance(parent, checkpoint, from_scratch),
        "operator": sizes,
        "data": {
            "paths": [str(data.absolute())],
            "displaced": [] if displaced is None else [str(displaced.absolute())],
            "validation": held_out,
            "test": 0,
            "split_seed": seed,
        },
        "optimiser": {
            "name": "muon",
            "lr": lr * rate,
            "muon_lr": muon_lr * rate,
            "warmup": min(100, steps // 10),
            "ema": 0.99,
        },
        "loss": {
            "force": 0.2,
            "energy": 0.005,
            "force_batch": 8 if parent.potential is None else 32,
        }
        if parent.has_energy
        else {"force": 0, "energy": 0},
        "trainer": {
            "steps": steps,
            "batch_size": 64,
            "seed": seed,
            "threads": threads,
            "compile": compiled,
            "checkpoint_every": every,
            "validate_every": every,
            "log_every": min(50, every),
            "validate_starts": 32,
        },
    }
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(explain(error, name)) from error


def shortened(
    bursts: Sequence[Burst], length: float, held_out: float, seed: int, shortest: float = 80.0
) -> list[Burst]:
    """Less to learn from, and the same held out: what a point of a learning curve needs.

    Parameters
    ----------
    bursts
        Reference bursts.
    length
        Of what is left to learn from, fs: whole bursts, and a part of the last one.
    held_out, seed
        As for `make_config`; the same ones hold out the same bursts.
    shortest
        Shortest part of a burst, fs.

    Returns
    -------
    Bursts with the attribute ``part``, see `training.data.split.split_bursts`.

    Raises
    ------
    DataError
        If there is less than that to learn from, or it is too short.
    """
    split = split_bursts(bursts, held_out, 0, seed)
    found, left = [], length
    order = np.random.default_rng(seed).permutation(split["train"]).tolist()
    for burst in sorted(bursts, key=lambda one: one.key):
        if burst.key in split["validation"]:
            found.append(replace(burst, attrs=burst.attrs | {"part": "validation"}))
    by_key = {burst.key: burst for burst in bursts}
    for key in order:
        if left < shortest:
            break
        burst = by_key[key]
        frames = min(round(left / burst.interval) + 1, len(burst.energies))
        found.append(burst.cut(0, frames, part="train"))
        left -= (frames - 1) * burst.interval
    if left > shortest or left == length:
        there = sum((len(by_key[key].energies) - 1) * by_key[key].interval for key in order)
        raise DataError(
            f"{length:g} fs to learn from: the data have {there:g} beside what is held out, and "
            f"less than {shortest:g} are too few"
        )
    return found


def held_out_errors(
    operator: Operator, bursts: Sequence[Burst], lags: Sequence[float] = LAGS, starts: int = 64
) -> dict[str, float]:
    """Errors of an operator on bursts, by the names of `Validation.metrics`.

    Parameters
    ----------
    operator
        With its energies in the zero of the bursts' level of theory.
    bursts
        Reference bursts.
    lags
        fs; those beyond the operator's horizon or the shortest burst are left out.
    starts
        States of each burst.

    Raises
    ------
    DataError
        If a burst is shorter than the first lag.
    """
    offsets = EnergyOffsets.from_operator(operator)
    data = FrameData.from_bursts(bursts, offsets)
    longest = max(min(operator.horizon, data.longest), min(lags))
    frames = [data.frames_of(lag, "lag") for lag in lags if lag <= longest]
    held_out = Validation(data, frames, starts)
    held_out.reset(next(operator.parameters()).device)
    with torch.no_grad():
        for batch in range(held_out.batches):
            held_out.add(operator, batch)
    return held_out.metrics(held_out.sums)


def table(rows: dict[str, dict[str, float]]) -> str:
    """Errors of several operators as lines of text."""
    lags = [f"{lag:g}fs" for lag in LAGS]
    heads = [f"{lag[:-2]} fs" for lag in lags] + ["v 16 fs", "force", "energy"]
    width = max(len(name) for name in rows)
    lines = [" " * width + "".join(f"{head:>10}" for head in heads)]
    for name, found in rows.items():
        keys = [f"position_{lag}" for lag in lags] + ["velocity_16fs", "force_meV_A", "energy_meV"]
        cells = [_cell(found.get(key), key) for key in keys]
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None, key: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key.endswith(("_A", "_meV")) else f"{value:.4f}"


def _provenance(parent: Operator, checkpoint: str, from_scratch: bool) -> str:
    card = parent.card
    if from_scratch:
        return f"trained from random weights, with the architecture of {card.name}"
    return (
        f"fine-tuned from {card.name} ({checkpoint}), which was trained on {card.level_of_theory}, "
        f"data {card.data_fingerprint[:16]}"
    )
