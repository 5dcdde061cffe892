"""Leaps for an operator: ``ase-atom leap-train OPERATOR [MOLECULE ...] -o FILE``.

The operator teaches: Langevin trajectories of it, then a decoder that draws from what they do in
picoseconds, then one file with both.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.io.registry import check_free
from ase_atom.operator import load_operator, save_operator
from ase_atom.operator.leap import LeapDecoder
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import PS
from training.data.store import data_folder
from training.leap.command import (
    MANY,
    STANDARD,
    assignments,
    compounds,
    is_list,
    made_runs,
    train_leaps,
)
from training.leap.config import LeapTrainingConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    operator: Annotated[str, typer.Argument(help="Name of a shipped operator, or a file.")],
    molecules: Annotated[
        list[str] | None,
        typer.Argument(
            help="Structure files, SMILES, or lists (.csv, .smi); by default those on the card."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File of operator and leaps; default: NAME-leaps."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Begin with the leaps of this operator; name or file."),
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=1, help="Learn from so many molecules of a list.")
    ] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Optimiser steps; with 0, make the trajectories alone.")
    ] = 7500,
    share: Annotated[
        float, typer.Option(min=0.001, help="Teacher's replicas, as a share of the standard.")
    ] = 1.0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Of trajectories and checkpoints; default: leaps/NAME, data folder."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of trajectories and training.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Train leaps from the operator's own trajectories; the same command goes on."""
    set_threads(threads)
    teacher = load_operator(operator, "auto")
    found = load_operator(operator)
    if not found.has_energy:
        raise ConfigError(f"{operator} has no energy head, by which leaps are judged")
    parent = None if start is None else _leaps_of(start)
    path = output or Path(f"{found.name}-leaps.safetensors")
    check_free(path, overwrite)
    named = molecules or []
    schedules = [
        each._replace(replicas=max(2, round(each.replicas * share)))
        for each in (MANY if any(map(is_list, named)) else STANDARD)
    ]
    friction = 10.0 / PS
    jobs = assignments(list(compounds(teacher, named, first)), schedules, friction, seed)
    place = folder or data_folder() / "leaps" / found.name
    if not steps:
        made_runs(teacher, jobs, place)
        return
    config = LeapTrainingConfig(steps=steps, seed=seed, threads=threads)
    if parent is not None:
        config = config.started(parent.config)
    command = f"ase-atom leap-train {shlex.join(sys.argv[1:])}"
    found.leaps = train_leaps(found, teacher, jobs, config, place, command, parent)
    save_operator(found, path)
    print(f"operator with leaps: {path}")


def _leaps_of(name: str) -> LeapDecoder:
    leaps = load_operator(name).leaps
    if not isinstance(leaps, LeapDecoder):
        raise ConfigError(f"--start {name}: this operator has no leaps to begin with")
    return leaps


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    stopped = "the same command goes on from the last checkpoint"
    sys.exit(run_command(app, "python -m training.leap", stopped=stopped))


if __name__ == "__main__":
    main()
