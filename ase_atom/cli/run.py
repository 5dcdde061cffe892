"""``ase-atom run``: from a structure file to a trajectory file."""

from __future__ import annotations

import math
import sys
import time as clock
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ase_atom.errors import BrokenStateError, ConfigError, HorizonError
from ase_atom.units import PS, format_time, parse_time

if TYPE_CHECKING:
    from ase import Atoms

    from ase_atom.io import TrajectoryWriter
    from ase_atom.operator import Operator
    from ase_atom.propagation import Ensemble, Propagator
    from ase_atom.summary import RunSummary


INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


class EnsembleName(StrEnum):
    """Choices of ``--ensemble``."""

    langevin = "langevin"
    nve = "nve"


def run(
    structure: Path = typer.Argument(help="Structure file, anything that ASE reads."),
    output: Path = typer.Option(
        ...,
        "--output",
        "-o",
        help="Trajectory file: .dcd, .xtc, .trr, .nc, .h5, .xyz, .extxyz or .traj.",
    ),
    operator: str | None = typer.Option(
        None, help="Name or file of an operator.", show_default="the one for the molecule"
    ),
    time: str = typer.Option("10ps", help="Time to simulate, in fs, ps or ns."),
    temperature: float = typer.Option(300.0, help="Temperature in K."),
    stride: str = typer.Option("16fs", help="Length of one jump."),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames.", show_default="the stride"
    ),
    ensemble: EnsembleName = typer.Option(EnsembleName.langevin, help="Dynamics."),
    friction: float = typer.Option(10.0, help="Langevin friction in 1/ps."),
    uncorrected: bool = typer.Option(
        False, "--uncorrected", help="Do not restore the operator's energy after each jump."
    ),
    seed: int = typer.Option(0, help="Seed of noise and sampled velocities."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    keep_zero_velocities: bool = typer.Option(
        False, "--keep-zero-velocities", help="Start from rest if the structure is at rest."
    ),
    threads: int = typer.Option(1, help="CPU threads; small molecules gain from one only."),
) -> None:
    """Simulate a molecule and write its trajectory.

    Exit codes: 0 done; 2 bad input, or a file that cannot be read or written; 3 the simulation
    broke, and the good frames before are in the file.
    """
    duration = _positive_time(time, "--time")
    jump = _positive_time(stride, "--stride")
    interval = (
        jump if frame_interval is None else _positive_time(frame_interval, "--frame-interval")
    )
    if interval > duration:
        raise ConfigError(
            f"--time {format_time(duration)} is shorter than one frame interval of "
            f"{format_time(interval)}"
        )
    _check_numbers(temperature, friction, seed, threads)

    import numpy as np
    import torch

    from ase_atom.cli.report import report
    from ase_atom.coverage import temperature_warning
    from ase_atom.io import check_output, open_trajectory, read_structure
    from ase_atom.propagation import NVE, Langevin, Propagator, sample_velocities
    from ase_atom.state import PhaseState
    from ase_atom.summary import RunSummary

    torch.set_num_threads(threads)
    check_output(output, overwrite, inputs=(structure,))
    atoms = read_structure(structure)
    model = _load(operator, atoms)
    card = model.card
    name = card.name if card else str(operator)
    if jump > model.horizon:
        raise HorizonError(
            f"--stride {format_time(jump)} is beyond the horizon of {name}: "
            f"at most {format_time(model.horizon)}"
        )
    state = PhaseState.from_atoms(atoms)
    chosen: Ensemble = NVE(energy_correction=not uncorrected)
    if ensemble is EnsembleName.langevin:
        chosen = Langevin(temperature, friction / PS, energy_correction=not uncorrected)
    # Two streams, so that the first velocities do not correlate with the thermostat's noise.
    start_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    sample = not bool(state.velocities.any()) and not keep_zero_velocities
    warnings = []
    if card and (sample or ensemble is EnsembleName.langevin):
        warnings.append(temperature_warning(temperature, card))
    if sample:
        warnings.append(
            f"{structure} holds no velocities: sampled at {temperature:g} K "
            "(--keep-zero-velocities starts from rest)"
        )
        source = torch.Generator().manual_seed(start_seed)
        state = sample_velocities(state, temperature, source)
    propagator = Propagator(model, state, chosen, jump, interval, noise_seed)
    summary = RunSummary(propagator.state, chosen)

    for warning in filter(None, warnings):
        _say(f"ase-atom: warning: {warning}")
    _say(
        f"{atoms.get_chemical_formula()} with {name}: {format_time(duration)} "
        f"in jumps of {format_time(jump)}, {_describe(ensemble, temperature, friction)}"
    )
    started = clock.perf_counter()
    with open_trajectory(
        output, atoms, "w" if overwrite else "x", frame_interval=interval
    ) as writer:
        try:
            _march(propagator, duration, writer, summary)
        except KeyboardInterrupt as error:
            _say(f"ase-atom: interrupted; {_kept(writer, summary)}")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenStateError as error:
            raise BrokenStateError(
                f"{error}; {_kept(writer, summary)}",
                replica=error.replica,
                time=error.time,
                atoms=error.atoms,
                frames_written=writer.frames,
            ) from error
    report(summary, clock.perf_counter() - started, atoms, output)


def _positive_time(text: str, option: str) -> float:
    """Read a time in fs, above zero."""
    try:
        value = parse_time(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is no time; give {error}") from error
    if value <= 0:
        raise ConfigError(f"{option} must be above zero, not {text}")
    return value


def _check_numbers(temperature: float, friction: float, seed: int, threads: int) -> None:
    for option, value, unit in (("temperature", temperature, "K"), ("friction", friction, "1/ps")):
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"--{option} must be above zero, not {value:g} {unit}")
    if seed < 0:
        raise ConfigError(f"--seed must be at least 0, not {seed}")
    if threads < 1:
        raise ConfigError(f"--threads must be at least 1, not {threads}")


def _load(name: str | None, atoms: Atoms) -> Operator:
    """Load the named operator, or the shipped one for the molecule, checked for coverage."""
    from ase_atom.coverage import check_atoms, find_card
    from ase_atom.operator import list_operators, load_operator

    if name is None:
        return load_operator(find_card(atoms, list_operators()).name)
    model = load_operator(name)
    if model.card is not None:
        check_atoms(atoms, model.card)
    return model


def _kept(writer: TrajectoryWriter, summary: RunSummary) -> str:
    return (
        f"{writer.path} holds the good frames, {writer.frames} up to "
        f"{format_time(summary.last_time)}"
    )


def _describe(ensemble: EnsembleName, temperature: float, friction: float) -> str:
    if ensemble is EnsembleName.nve:
        return "NVE"
    return f"Langevin at {temperature:g} K and {friction:g} per ps"


def _march(
    propagator: Propagator, duration: float, writer: TrajectoryWriter, summary: RunSummary
) -> None:
    """Write the frames as they come, under a progress bar where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ase_atom.cli.report import ns_per_day

    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    started = clock.perf_counter()
    with progress:
        task = progress.add_task("", total=duration, rate="")
        for frames in propagator.run(duration):
            writer.write_frames(
                frames.positions[0].cpu().numpy(),
                frames.velocities[0].cpu().numpy(),
                frames.times.tolist(),
            )
            summary.add(frames)
            now = summary.last_time
            progress.update(
                task,
                completed=now,
                description=f"{format_time(now)} of {format_time(duration)}",
                rate=f"{ns_per_day(now, clock.perf_counter() - started):.3g} ns/day",
            )


def _say(message: str) -> None:
    print(message, file=sys.stderr)
