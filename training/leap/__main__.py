"""Leaps for an operator: ``ase-atom leap-train OPERATOR [MOLECULE ...] -o FILE``.

The operator teaches: Langevin trajectories of it, then a decoder that draws from what they do in
picoseconds, then one file with both. With ``--trajectory FILE`` somebody else's trajectory teaches;
without an operator for the molecule the file holds leaps alone.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import CheckpointError, ConfigError
from ase_atom.io.registry import check_free
from ase_atom.molecules.catalogue import operator_for
from ase_atom.operator import load_leaps, load_operator, save_leaps, save_operator
from ase_atom.operator.leap import LeapDecoder
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import PS, format_time, parse_time
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
from training.leap.trajectory import Source, read_source, train_on

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    operator: Annotated[
        str | None,
        typer.Argument(help="Name of a shipped operator, or a file; optional with --trajectory."),
    ] = None,
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
    trajectory: Annotated[
        list[Path] | None,
        typer.Option(help="Learn from positions of this file instead; may be repeated."),
    ] = None,
    topology: Annotated[
        Path | None, typer.Option(help="Its elements, where the format has none: .pdb, .psf, ...")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(help="Between its frames, such as 1ps, if the file does not say.")
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Of it, K; once, or once for each --trajectory.")
    ] = None,
    friction: Annotated[float | None, typer.Option(help="Of its thermostat, 1/ps.")] = None,
    thermostat: Annotated[
        str | None, typer.Option(help="What it was, for the card, if not Langevin's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of trajectories and training.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Train leaps from the operator's own or other trajectories; the same command goes on."""
    set_threads(threads)
    parent = None if start is None else _leaps_of(start)
    config = LeapTrainingConfig(steps=max(1, steps), seed=seed, threads=threads)
    if parent is not None:
        config = config.started(parent.config)
    plan = Plan(config, parent, steps, output, folder, overwrite)
    told = (topology, interval, temperature or None, friction, thermostat)
    if trajectory:
        if molecules or first is not None or share != 1.0:
            raise ConfigError("--trajectory takes no molecules, --first or --share: files teach")
        learn_from_files(plan, operator, trajectory, *told)
        return
    for name, value in zip(_OF_FILES, told, strict=True):
        if value is not None:
            raise ConfigError(f"{name} describes a --trajectory, and none is given")
    if operator is None:
        raise ConfigError("name an operator, or a --trajectory to learn from")
    learn_from_operator(plan, operator, molecules or [], first, share)


_OF_FILES = ("--topology", "--interval", "--temperature", "--friction", "--thermostat")


class Plan(NamedTuple):
    """What both ways to leaps are told."""

    config: LeapTrainingConfig
    parent: LeapDecoder | None
    steps: int
    output: Path | None
    folder: Path | None
    overwrite: bool

    @property
    def command(self) -> str:
        """For the card."""
        return f"ase-atom leap-train {shlex.join(sys.argv[1:])}"


def learn_from_operator(
    plan: Plan, operator: str, molecules: Sequence[str], first: int | None, share: float
) -> None:
    """Make the operator's trajectories, train, and write operator and leaps."""
    teacher, found = load_operator(operator, "auto"), load_operator(operator)
    if not found.has_energy:
        raise ConfigError(f"{operator} has no energy head, by which leaps are judged")
    path = plan.output or Path(f"{found.name}-leaps.safetensors")
    check_free(path, plan.overwrite)
    schedules = [
        each._replace(replicas=max(2, round(each.replicas * share)))
        for each in (MANY if any(map(is_list, molecules)) else STANDARD)
    ]
    known = list(compounds(teacher, molecules, first))
    jobs = assignments(known, schedules, 10.0 / PS, plan.config.seed)
    place = plan.folder or data_folder() / "leaps" / found.name
    if not plan.steps:
        made_runs(teacher, jobs, place)
        return
    found.leaps = train_leaps(found, teacher, jobs, plan.config, place, plan.command, plan.parent)
    save_operator(found, path)
    print(f"operator with leaps: {path}")


def learn_from_files(
    plan: Plan,
    operator: str | None,
    files: Sequence[Path],
    topology: Path | None,
    interval: str | None,
    temperatures: Sequence[float] | None,
    friction: float | None,
    thermostat: str | None,
) -> None:
    """Check trajectories, train on them, and write the operator with leaps, or leaps alone."""
    if friction is None:
        raise ConfigError("positions do not say their friction: give --friction in 1/ps")
    if not plan.steps:
        raise ConfigError("--steps 0 makes an operator's trajectories; a --trajectory is made")
    found = None if operator is None else load_operator(operator)
    path = plan.output or Path(f"{found.name if found else files[0].stem}-leaps.safetensors")
    check_free(path, plan.overwrite)
    apart = None if interval is None else parse_time(interval)
    source = Source(files, temperatures or (), friction / PS, topology, apart, thermostat)
    learnable = read_source(source)
    if found is not None:
        if not found.has_energy:
            raise ConfigError(f"{operator} has no energy head, by which leaps are judged")
        operator_for(learnable.atoms, found)
    low, high = learnable.lags
    print(f"lags: {format_time(low)} to {format_time(high)}", flush=True)
    place = plan.folder or data_folder() / "leaps" / path.stem
    leaps = train_on(source, learnable, plan.config, place, plan.command, plan.parent)
    if found is None:
        save_leaps(leaps, path)
        print(f"leaps alone, to be settled by a calculator or OpenMM: {path}")
    else:
        found.leaps = leaps
        save_operator(found, path)
        print(f"operator with leaps: {path}")
    print(f"held out: {place / 'held-out'}")


def _leaps_of(name: str) -> LeapDecoder:
    try:
        return load_leaps(name)
    except CheckpointError as error:
        raise ConfigError(f"--start {name}: {error}") from error


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    stopped = "the same command goes on from the last checkpoint"
    sys.exit(run_command(app, "python -m training.leap", stopped=stopped))


if __name__ == "__main__":
    main()
