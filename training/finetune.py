"""Fine-tune an operator: ``python -m training.finetune CHECKPOINT DATA``.

A few picoseconds of one molecule at the user's level of theory turn an operator of another level
of theory into one of that level.
"""

from __future__ import annotations

import errno
import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import h5py
import torch
import typer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ase_atom.errors import AtomError, ConfigError
from ase_atom.operator import Operator, load_operator
from ase_atom.operator.checkpoint import SUFFIX
from training.config import TrainingConfig
from training.data import FrameData
from training.export import find_data
from training.import_trajectory import described, import_all
from training.importing.bursts import divide
from training.run import RunFolder, load_reference, make_module, make_operator, refit_energies
from training.store import Burst, read_bursts, write_bursts
from training.train import train
from training.validation import Validation

LAGS = (8.0, 16.0, 32.0)
"""Lags at which errors are reported, fs."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


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
        As ``threads`` and ``compile`` of `training.config.TrainerConfig`.
    """
    # A trained operator needs smaller steps than a new one: large ones forget what it knows.
    lr, muon_lr = (1.5e-3, 0.012) if from_scratch else (4e-4, 0.003)
    every = max(1, steps // 5)
    start = {} if from_scratch else {"start_from": checkpoint, "refit_energies": True}
    return TrainingConfig.model_validate(
        {
            "name": name,
            "stride": parent.card.stride_fs,
            **start,
            "notes": _provenance(parent, checkpoint, from_scratch),
            "operator": parent.config.model_dump(),
            "data": {
                "paths": [str(data.absolute())],
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
            "loss": {"force": 0.2, "energy": 0.005, "force_batch": 8}
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
    )


def held_out_errors(
    operator: Operator, bursts: Sequence[Burst], lags: Sequence[float] = LAGS, starts: int = 64
) -> dict[str, float]:
    """Errors of an operator on bursts, named as in `training.validation.Validation.metrics`.

    Parameters
    ----------
    operator
        With its energies in the zero of the bursts' level of theory.
    bursts
        Reference bursts.
    lags
        fs; those beyond the operator's horizon are left out.
    starts
        States of each burst.
    """
    numbers = operator.config.elements
    offsets = {number: float(operator.energy_offsets[number]) for number in numbers}
    data = FrameData.from_bursts(bursts, offsets)
    frames = [data.frames_of(lag, "lag") for lag in lags if lag <= operator.horizon]
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


def check_elements(parent: Operator, bursts: Sequence[Burst]) -> None:
    """Check that an operator can learn the bursts' molecules.

    Raises
    ------
    ConfigError
        For elements that it does not know.
    """
    present = {int(number) for burst in bursts for number in burst.numbers}
    strange = sorted(present - set(parent.config.elements))
    if strange:
        raise ConfigError(
            f"{parent.name} knows atomic numbers {sorted(parent.config.elements)}, but the data "
            f"holds {strange}: start from an operator that knows them"
        )


def read_data(
    data: Path, held_out: float, interval: float | None = None, theory: str | None = None
) -> tuple[list[Burst], bool]:
    """Reference bursts from a file or folder of them, or from a trajectory of another program.

    A single burst is divided in time, see `training.importing.bursts.divide`.

    Returns
    -------
    The bursts, and whether they are others than those in the file.

    Raises
    ------
    DataError
        If it cannot be read, or cannot be what it is said to be.
    """
    if data.is_dir() or h5py.is_hdf5(data):
        if interval is not None or theory is not None:
            raise ConfigError("--interval and --theory are for trajectories of other programs")
        bursts = read_bursts(data)
        if len(bursts) > 1:
            return bursts, False
        return divide(bursts[0], held_out if held_out < 1 else 0.25), True
    share = held_out if held_out < 1 else 0.25
    bursts = import_all([data], data.stem, held_out=share, interval=interval, theory=theory)
    print(described(bursts))
    return bursts, True


def time_per_step(config: TrainingConfig, folder: RunFolder) -> float:
    """Seconds that one step takes, forward, backward and optimiser."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    reference = load_reference(config, folder)
    operator = make_operator(config, reference.part("train"))
    module = make_module(config, reference, operator)
    optimiser = module.configure_optimizers()["optimizer"]
    times = []
    for step in range(6):
        begun = time.perf_counter()
        optimiser.zero_grad()
        module.loss_of_step(step)["loss"].backward()
        optimiser.step()
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[2]


@app.command()
def run(
    checkpoint: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    data: Annotated[Path, typer.Argument(help="Reference bursts, or an ab initio trajectory.")],
    output: Annotated[
        Path | None, typer.Option(help="File of the new operator; default: NAME.safetensors.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the new operator; default: the output's, or the data's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps; default: 1500.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Minutes to train, in place of --steps.")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0, help="Share of the bursts to measure errors on, or a count.")
    ] = 0.25,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Random weights: what the data alone teach.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(help="Time between frames of a trajectory in fs, if it has none."),
    ] = None,
    theory: Annotated[
        str | None, typer.Option(help="Level of theory of a trajectory, for the operator's card.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Factor on the learning rates.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the division and of what is drawn.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: PyTorch's choice.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Some minutes at the start, then faster steps.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the operator and its run, if there.")
    ] = False,
) -> None:
    """Fine-tune an operator on a few picoseconds of one molecule at another level of theory."""
    if steps is not None and budget is not None:
        raise ConfigError("give --steps or --budget, not both")
    if budget is not None and not 0 < budget < math.inf:
        raise ConfigError(f"--budget takes minutes above 0, not {budget:g}")
    if not 0 < rate < math.inf:
        raise ConfigError(f"--rate takes a factor above 0, not {rate:g}")
    parent = load_operator(checkpoint)
    data = find_data(data)
    name = name or (output.stem if output else data.stem + ("-scratch" if from_scratch else ""))
    output = output or Path(f"{name}{SUFFIX}")
    if output.suffix != SUFFIX:
        raise ConfigError(f"an operator's file ends in {SUFFIX}: {output} does not")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: give another --output, or --overwrite")
    folder = RunFolder(output.with_name(f"{output.stem}.run"))
    bursts, imported = read_data(data, held_out, interval, theory)
    check_elements(parent, bursts)
    if held_out < 1 and held_out * len(bursts) < 1:
        held_out = 1.0
    if imported:
        data = folder.path / "data.h5"
        write_bursts(data, bursts)

    def settings(steps: int) -> TrainingConfig:
        return make_config(
            parent,
            checkpoint,
            data,
            name,
            steps=steps,
            held_out=held_out,
            from_scratch=from_scratch,
            seed=seed,
            rate=rate,
            threads=threads,
            compiled=compiled,
        )

    if steps is None:
        steps = 1500
        if budget is not None:
            each = time_per_step(settings(steps), folder)
            steps = max(10, round(60 * budget / each))
            print(f"{1000 * each:.0f} ms a step: {steps} steps in {budget:g} minutes")
    config = settings(steps)
    reference = load_reference(config, folder)
    taught, held = reference.part("train"), reference.part("validation")
    length = sum((len(burst.energies) - 1) * burst.interval for burst in taught) / 1000
    print(f"{len(taught)} bursts to learn from ({length:g} ps), {len(held)} held out")
    rows = {}
    if parent.has_energy:
        refit_energies(parent, taught)
    rows[f"before: {parent.name}"] = held_out_errors(parent, held)
    print(table(rows), flush=True)
    command = f"python -m training.finetune {shlex.join(sys.argv[1:])}"
    path = train(config, folder.path, command=command, restart=overwrite)
    path.replace(output)
    rows[f"after: {name}"] = held_out_errors(load_operator(output), held)
    print(table(rows))
    print(f"operator: {output}")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    try:
        app()
    except (AtomError, MisconfigurationException) as error:
        message = str(error)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        name = f"{error.filename}: " if error.filename else ""
        message = f"{name}{error.strerror}; free some space and give the same command to go on"
    else:
        return
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
