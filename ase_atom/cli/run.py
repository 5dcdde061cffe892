"""``ase-atom run``: from structure files to trajectory files."""

from __future__ import annotations

import sys
import time as clock
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ase_atom.cli.options import check_belongs, check_positive, read_time
from ase_atom.commandline import INTERRUPTED
from ase_atom.errors import BrokenStateError, ConfigError, HorizonError
from ase_atom.units import PS, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from ase_atom.operator import Operator
    from ase_atom.propagation import Ensemble
    from ase_atom.replicas import ReplicaFiles
    from ase_atom.state import PhaseState
    from ase_atom.summary import RunSummary


_TEMPERATURE, _FRICTION, _TAUT = 300.0, 10.0, "100fs"  # K, 1/ps


class EnsembleName(StrEnum):
    """Choices of ``--ensemble``."""

    langevin = "langevin"
    bussi = "bussi"
    nve = "nve"


def run(
    structures: list[Path] = typer.Argument(help="Structure files, anything that ASE reads."),
    output: Path = typer.Option(
        ...,
        "--output",
        "-o",
        help="Trajectory file: .dcd, .xtc, .trr, .nc, .h5, .xyz, .extxyz or .traj. Several "
        "molecules or replicas get numbers: out-0.dcd, out-1.dcd.",
    ),
    operator: str | None = typer.Option(
        None, help="Name or file of an operator.", show_default="the one for the molecule"
    ),
    force: bool = typer.Option(
        False,
        "--force",
        help="Warn, in place of refusing, of a molecule that --operator was not trained for.",
    ),
    time: str = typer.Option(
        "10ps",
        help="Time to simulate, in fs, ps or ns, up to its last frame.",
    ),
    temperature: float | None = typer.Option(
        None, help="Temperature in K, of the thermostat and of new velocities.", show_default="300"
    ),
    stride: str | None = typer.Option(
        None, help="Length of one jump.", show_default="the operator's, 16fs in general"
    ),
    frame_interval: str | None = typer.Option(
        None, help="Time between frames.", show_default="the stride"
    ),
    ensemble: EnsembleName = typer.Option(EnsembleName.langevin, help="Dynamics."),
    friction: float | None = typer.Option(
        None, help="Langevin friction in 1/ps.", show_default="10"
    ),
    taut: str | None = typer.Option(
        None, help="Relaxation time of the bussi thermostat.", show_default="100fs"
    ),
    replicas: int = typer.Option(
        1, help="Copies of each structure, marched in one batch with noise of their own."
    ),
    uncorrected: bool = typer.Option(
        False, "--uncorrected", help="Do not restore the operator's energy after each jump."
    ),
    reversible: bool | None = typer.Option(
        None,
        "--reversible/--single-pass",
        help="Make jumps reversible in time, at three passes of the operator instead of one.",
        show_default="reversible for nve and bussi",
    ),
    seed: int = typer.Option(0, help="Seed of noise and sampled velocities."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace output files."),
    keep_zero_velocities: bool = typer.Option(
        False, "--keep-zero-velocities", help="Start from rest if the structure is at rest."
    ),
    threads: int = typer.Option(1, help="CPU threads; single molecules gain from one only."),
) -> None:
    """Simulate molecules and write their trajectories.

    Exit codes: 0 done; 2 bad input, or a file that cannot be read or written; 3 a simulation
    broke, and its good frames before are in the file.
    """
    duration = read_time(time, "--time")
    jump = None if stride is None else read_time(stride, "--stride")
    interval = None if frame_interval is None else read_time(frame_interval, "--frame-interval")
    check_belongs("--friction", friction, EnsembleName.langevin, ensemble)
    check_belongs("--taut", taut, EnsembleName.bussi, ensemble)
    kelvin = _TEMPERATURE if temperature is None else temperature
    friction = _FRICTION if friction is None else friction
    relaxation = read_time(_TAUT if taut is None else taut, "--taut")
    _check_numbers(kelvin, friction, seed, threads, replicas)

    import numpy as np
    import torch

    from ase_atom.cli.march import march
    from ase_atom.cli.report import report
    from ase_atom.coverage import as_covered, strange_molecule_warning, temperature_warning
    from ase_atom.io import check_output, read_structure
    from ase_atom.propagation import NVE, Bussi, Langevin, Propagator
    from ase_atom.replicas import ReplicaFiles, numbered_files
    from ase_atom.state import PhaseState
    from ase_atom.summary import RunSummary

    torch.set_num_threads(threads)
    files = numbered_files(output, len(structures) * replicas)
    molecules = [_without_constraint(read_structure(structure)) for structure in structures]
    atoms = [molecule for molecule in molecules for _ in range(replicas)]
    for file, molecule in zip(files, atoms, strict=True):
        check_output(file, overwrite, tuple(structures), molecule)
    if force and operator is None:
        raise ConfigError("--force goes with --operator: name the operator to use all the same")
    model = _load(operator, molecules, structures, force)
    card = model.card
    name = card.name if card else str(operator)
    for molecule in molecules:
        _warn(strange_molecule_warning(molecule, card) if card else None)
    if jump is None:
        jump = card.stride_fs if card else model.horizon
    if jump > model.horizon:
        raise HorizonError(
            f"--stride {format_time(jump)} is beyond the horizon of {name}: "
            f"at most {format_time(model.horizon)}"
        )
    interval = jump if interval is None else interval
    if interval > duration:
        raise ConfigError(
            f"--time {format_time(duration)} is shorter than one frame interval of "
            f"{format_time(interval)}"
        )
    chosen: Ensemble = {
        EnsembleName.nve: lambda: NVE(not uncorrected, reversible is not False),
        EnsembleName.langevin: lambda: Langevin(
            kelvin,
            friction / PS,
            energy_correction=not uncorrected,
            reversible=bool(reversible),
        ),
        EnsembleName.bussi: lambda: Bussi(
            kelvin,
            relaxation,
            energy_correction=not uncorrected,
            reversible=reversible is not False,
        ),
    }[ensemble]()
    # Two streams, so that the first velocities do not correlate with the thermostat's noise.
    start_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    given = PhaseState.from_atoms(atoms)
    if force and card:
        given = as_covered(given, card)
    state, resting = _start(given, keep_zero_velocities, kelvin, start_seed)
    if ensemble is EnsembleName.nve and temperature is not None and not any(resting):
        start = "--keep-zero-velocities" if keep_zero_velocities else "velocities in the structures"
        raise ConfigError(
            f"--temperature {temperature:g} goes with a thermostat, or with structures at rest, "
            f"which get velocities, not with --ensemble nve and {start}"
        )
    if ensemble is EnsembleName.nve and replicas > 1 and not all(resting):
        which = structures[resting.index(False) // replicas]
        raise ConfigError(
            f"--replicas {replicas} of {which} would be one trajectory {replicas} times: it holds "
            "velocities, and NVE adds no noise"
        )
    propagator = Propagator(
        model, state, chosen, jump, interval, noise_seed, drop_broken=len(atoms) > 1
    )
    summary = RunSummary(propagator.state, chosen)

    if card and (any(resting) or ensemble is not EnsembleName.nve):
        _warn(temperature_warning(kelvin, card))
    for index, structure in enumerate(structures):
        if resting[index * replicas]:
            _warn(
                f"{structure} holds no velocities: sampled at {kelvin:g} K "
                "(--keep-zero-velocities starts from rest)"
            )
    thermostat = {
        EnsembleName.nve: "NVE",
        EnsembleName.langevin: f"Langevin at {kelvin:g} K and {friction:g} per ps",
        EnsembleName.bussi: f"Bussi at {kelvin:g} K with {format_time(relaxation)}",
    }[ensemble]
    _say(
        f"{_formulas(molecules, replicas)} with {name}: {format_time(duration)} "
        f"in jumps of {format_time(jump)}, {thermostat}"
    )
    started = clock.perf_counter()
    with ReplicaFiles(files, atoms, interval, overwrite) as writers:
        try:
            march(propagator, duration, writers, summary)
        except KeyboardInterrupt as error:
            _say(f"ase-atom: interrupted; {_kept(writers, summary)}")
            raise typer.Exit(INTERRUPTED) from error
        except BrokenStateError as error:
            raise _finished(error, writers, summary) from error
    report(summary, clock.perf_counter() - started, atoms, files)
    if propagator.broken:
        first = propagator.broken[0]
        raise _finished(
            first, writers, summary, f"{len(propagator.broken)} of {len(atoms)} broke; "
        )


def _check_numbers(
    temperature: float, friction: float, seed: int, threads: int, replicas: int
) -> None:
    check_positive("--temperature", temperature, "K")
    check_positive("--friction", friction, "1/ps")
    if seed < 0:
        raise ConfigError(f"--seed must be at least 0, not {seed}")
    for option, count in (("threads", threads), ("replicas", replicas)):
        if count < 1:
            raise ConfigError(f"--{option} must be at least 1, not {count}")


def _without_constraint(atoms: Atoms) -> Atoms:
    """The molecule, with ``FixCom`` kept by a centre of mass at rest, which a jump leaves there.

    Raises
    ------
    CoverageError
        For any other constraint.
    """
    from ase_atom.coverage import fixes_centre_of_mass

    if fixes_centre_of_mass(atoms):
        atoms.set_momenta(atoms.get_momenta())  # the constraint takes the drift out
    atoms.set_constraint()
    return atoms


def _load(
    name: str | None, molecules: Sequence[Atoms], structures: Sequence[Path], force: bool
) -> Operator:
    """Return the one operator for all molecules."""
    import warnings

    from ase_atom.coverage import CoverageWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        model = _one_for_all(name, molecules, structures, force)
    for each in caught:
        if issubclass(each.category, CoverageWarning):
            _warn(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return model


def _one_for_all(
    name: str | None, molecules: Sequence[Atoms], structures: Sequence[Path], force: bool
) -> Operator:
    from ase_atom.catalogue import operator_for
    from ase_atom.errors import CoverageError

    def found(number: int, operator: str | Operator | None) -> Operator:
        try:
            return operator_for(molecules[number], operator, force=force)
        except CoverageError as error:
            if len(molecules) == 1:
                raise
            raise CoverageError(f"{structures[number]}: {error}") from error

    model = found(0, name)
    for number, structure in enumerate(structures[1:], start=1):
        if name is not None:
            found(number, model)
        elif (other := found(number, None)).card.name != model.card.name:
            raise ConfigError(
                f"{structures[0]} is for {model.card.name} and {structure} for {other.card.name}: "
                "run them one by one, or name one operator with --operator"
            )
    return model


def _start(
    state: PhaseState, keep_rest: bool, temperature: float, seed: int
) -> tuple[PhaseState, list[bool]]:
    """Return the state with velocities for the molecules at rest, and which those are."""
    import torch

    from ase_atom.propagation import sample_velocities

    if keep_rest:
        return state, [False] * state.batch_size
    resting = ~state.velocities.flatten(1).any(dim=1)
    sampled = sample_velocities(state, temperature, torch.Generator().manual_seed(seed))
    velocities = torch.where(resting[:, None, None], sampled.velocities, state.velocities)
    return state.replace(velocities=velocities), resting.tolist()


def _formulas(molecules: Sequence[Atoms], replicas: int) -> str:
    names = [atoms.get_chemical_formula() for atoms in molecules]
    text = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return text if replicas == 1 else f"{replicas} replicas of {text}"


def _finished(
    error: BrokenStateError, writers: ReplicaFiles, summary: RunSummary, before: str = ""
) -> BrokenStateError:
    """Return the error with what is left of the run."""
    return BrokenStateError(
        f"{before}{error}; {_kept(writers, summary)}",
        replica=error.replica,
        time=error.time,
        atoms=error.atoms,
        frames_written=writers.frames[error.replica],
    )


def _kept(writers: ReplicaFiles, summary: RunSummary) -> str:
    if len(writers.writers) > 1:
        first, last = writers.writers[0].path, writers.writers[-1].path
        return f"{first} to {last.name} hold the good frames"
    (writer,) = writers.writers
    return (
        f"{writer.path} holds the good frames, {writer.frames} up to "
        f"{format_time(summary.last_time)}"
    )


def _warn(message: str | None) -> None:
    if message:
        _say(f"ase-atom: warning: {message}")


def _say(message: str) -> None:
    print(message, file=sys.stderr)
