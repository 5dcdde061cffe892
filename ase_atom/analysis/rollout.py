"""An operator started from frames of a reference, as a trajectory to be compared with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms

from ase_atom.analysis.inputs.learned import unseen
from ase_atom.analysis.inputs.trajectory import Segment, Trajectory
from ase_atom.analysis.inputs.velocities import with_velocities
from ase_atom.analysis.measures.motion import (
    nominal_temperature,
    rotational_freedom,
    split_motion,
    temperatures,
)
from ase_atom.analysis.measures.thermodynamics import ensemble_of
from ase_atom.analysis.molecule.coordinates import typical_frame
from ase_atom.analysis.statistics import LEAST_BLOCKS
from ase_atom.errors import ConfigError, DataError
from ase_atom.molecules.catalogue import operator_for
from ase_atom.operator import OperatorLike
from ase_atom.propagation import Propagator, Settings, roll_out
from ase_atom.propagation.stepwise import Stepwise
from ase_atom.state import PhaseState
from ase_atom.units import format_time

ENSEMBLES = ("nve", "langevin", "bussi")
_STARTS = 32
_LEAST_FRAMES = 20  # of one start's reference path


class OperatorRun(NamedTuple):
    """A reference cut into runs, the operator's runs from their starts, and the operator."""

    reference: Trajectory
    trajectory: Trajectory
    operator: OperatorLike


def cut_runs(reference: Trajectory, starts: int | None, length: float) -> Trajectory:
    """Cut a reference into pieces, so that there are several starts and paths from them.

    Parameters
    ----------
    reference
        With velocities and times.
    starts
        Wanted; a reference of so many runs or more is left as it is, but for the number of them.
        None takes the runs as they are, or 32 pieces where they are too few for statistics.
    length
        Least length of a piece in fs.

    Raises
    ------
    DataError
        If the reference has no velocities or no times.
    """
    if not reference.has_velocities or reference.interval is None:
        lacks = "times" if reference.interval is None else "velocities"
        raise DataError(f"{reference.name} has no {lacks}: no operator can start from its frames")
    count = len(reference.segments)
    if starts is None:
        starts = count if count >= LEAST_BLOCKS else _STARTS
    if count >= starts:
        picks = np.unique(np.linspace(0, count - 1, starts).astype(int))
        return replace(reference, segments=tuple(reference.segments[k] for k in picks))
    least = max(_LEAST_FRAMES, math.ceil(length / reference.interval))
    pieces = []
    for run in reference:
        here = max(1, min(math.ceil(starts / count), len(run) // least))
        size = len(run) // here
        pieces += [run[k * size : (k + 1) * size] for k in range(here)]
    return replace(reference, segments=tuple(pieces))


def run_operator(
    operator: str | OperatorLike,
    reference: Trajectory,
    starts: int | None,
    settings: dict[str, Any],
) -> OperatorRun:
    """Start an operator from frames of a reference.

    Parameters
    ----------
    operator
        Name, file or operator.
    reference
        As it was read.
    starts
        How many, see `cut_runs`.
    settings
        Of `run_from`, None standing for not said; the ensemble is the reference's by default.

    Raises
    ------
    AtomError
        If the reference lacks velocities or times, the operator has learned from all of it or does
        not cover the molecule, or the settings are impossible.
    """
    reference, lack = with_velocities(reference)
    if lack:
        raise ConfigError(f"no operator can start from frames of the reference: {lack}")
    model = operator_for(typical_atoms(reference), operator)
    reference = unseen(reference, model)
    cut = cut_runs(reference, starts, 4 * model.horizon)
    kind = ensemble_of(reference, reference.kinetic_energies())
    chosen = {name: value for name, value in settings.items() if value is not None}
    chosen.setdefault("ensemble", "langevin" if kind == "canonical" else "nve")
    if chosen["ensemble"] == "nve":
        _check_nve(reference, chosen)
    else:
        turning = rotational_freedom(reference)
        motions = [split_motion(run, reference.masses, turning) for run in reference]
        chosen = {
            "friction": float(reference.facts.get("friction_per_fs", 0.01)),
            "fix_com": temperatures(reference, motions).com_fixed,
        } | chosen
    return OperatorRun(cut, run_from(model, cut, **chosen), model)


def with_notes_of_run(reference: Trajectory, run: OperatorRun) -> Trajectory:
    """The reference with what is to be said of the operator's runs beside a trajectory's."""
    own = [note for note in run.reference.notes if note not in reference.notes]
    about = (f"of {run.trajectory.name}: {note}" for note in run.trajectory.notes)
    return reference.noting(*own, *about)


def run_from(
    operator: OperatorLike,
    reference: Trajectory,
    *,
    ensemble: str = "nve",
    temperature: float | None = None,
    friction: float = 0.01,
    fix_com: bool = True,
    stride: float | None = None,
    duration: float | None = None,
    energy_correction: bool = True,
    reversible: bool | None = None,
    seed: int = 0,
) -> Trajectory:
    """Start an operator from the first frame of each of a reference's runs.

    Parameters
    ----------
    operator
        See `ase_atom.operator.load_operator`.
    reference
        With velocities; its frame interval is taken over.
    ensemble
        ``nve``, ``langevin`` or ``bussi``.
    temperature, friction
        Of the thermostat, K and 1/fs; the time constant of Bussi's is one over the friction. By
        default the temperature is that which the reference's file states, else the mean of the
        reference's vibration; a note says which.
    fix_com
        Whether a thermostat leaves the centre of mass out.
    stride
        fs, by default as the operator's card recommends.
    duration
        fs, by default as long as the reference's longest run.
    energy_correction
        Keep the operator's own energy over each jump.
    reversible
        Make jumps reversible in time, see `ase_atom.ATOMPropagator`.
    seed
        Of the thermostat's noise.

    Returns
    -------
    One run for each start; one that breaks ends before its first bad frame.

    Raises
    ------
    AtomError
        If the operator does not cover the molecule or the settings are impossible.
    """
    if ensemble not in ENSEMBLES:
        raise ConfigError(f"unknown ensemble {ensemble!r}: there are {', '.join(ENSEMBLES)}")
    card = operator.card
    name = card.name if card else type(operator).__name__
    if duration is None:
        if reference.interval is None:
            raise ConfigError(
                f"frames of {reference.short_name} are not evenly spaced in time: give the duration"
            )
        duration = reference.interval * (max(len(run) for run in reference) - 1)
    state = _states(reference)
    notes = [
        f"it was started from the {len(reference.segments)} first frames of "
        f"{reference.short_name}'s runs"
    ]
    if ensemble != "nve" and temperature is None:
        temperature, said = _temperature(reference)
        notes.append(f"its thermostat is at {temperature:.4g} K, {said}")
    settings = Settings(
        kind=ensemble,
        temperature=None if ensemble == "nve" else temperature,
        own={
            "friction": friction if ensemble == "langevin" else None,
            "taut": (1 / friction if friction else math.inf) if ensemble == "bussi" else None,
        },
        fix_com=None if ensemble == "nve" else fix_com,
        energy_correction=energy_correction,
        reversible=reversible,
        stride=stride,
    )
    made, stride = settings.ensemble(operator), settings.choose_stride(operator)
    march = Propagator(
        operator, state, made, stride, reference.interval, seed=seed, drop_broken=True
    )
    runs = _runs(march, duration, name)
    if isinstance(operator, Stepwise):
        theory = f"{name}, steps by its forces of {format_time(operator.timestep)}"
    else:
        theory = f"{name}, {'reversible ' if made.reversible else ''}jumps of {format_time(stride)}"
        theory += "" if energy_correction else ", uncorrected"
    facts = {"ensemble": ensemble, "theory": theory}
    if ensemble != "nve":
        facts |= {"temperature_K": f"{temperature:g}", "friction_per_fs": f"{friction:g}"}
    if march.broken:
        facts["broken runs"] = (
            f"{len(march.broken)} of {len(runs)}, the first so: {march.broken[0]}"
        )
    made_of = Trajectory(
        name,
        reference.numbers,
        reference.masses,
        tuple(runs),
        facts,
        tuple(notes),
        stated_charge=reference.stated_charge,
    )
    return made_of.checked()


def _check_nve(reference: Trajectory, chosen: dict[str, Any]) -> None:
    """Refuse a thermostat's settings, but for a temperature that may have chosen among bursts."""
    of_bursts = any(run.key for run in reference)
    for name in ("friction", *(() if of_bursts else ("temperature",))):
        if name in chosen:
            raise ConfigError(
                f"a {name} goes with ensemble langevin or bussi, and the operator's run is nve"
            )


def typical_atoms(reference: Trajectory) -> Atoms:
    """The molecule as in a typical frame, from which its bonds are perceived."""
    atoms = reference.atoms()
    atoms.positions = typical_frame(reference.pooled("positions", 200))
    return atoms


def _temperature(reference: Trajectory) -> tuple[float, str]:
    """Temperature of a thermostat like the reference, and where it is from."""
    stated = nominal_temperature(reference)
    if stated is not None:
        return stated, f"as {reference.short_name} states"
    turning = rotational_freedom(reference)
    motions = [split_motion(run, reference.masses, turning) for run in reference]
    measured = temperatures(reference, motions).mean_vibration
    return measured, f"the mean of {reference.short_name}, which states none"


def _states(reference: Trajectory) -> PhaseState:
    firsts = [run[:1] for run in reference]
    count = len(firsts)
    return PhaseState(
        torch.from_numpy(np.tile(reference.numbers, (count, 1))),
        torch.from_numpy(np.tile(reference.masses.astype(float), (count, 1))),
        torch.from_numpy(np.concatenate([run.positions for run in firsts])),
        torch.from_numpy(np.concatenate([run.velocities for run in firsts])),
        torch.full((count,), reference.charge),
    )


def _runs(march: Propagator, duration: float, name: str) -> list[Segment]:
    """Frames of each replica up to where it breaks."""
    parts = list(roll_out(march, duration))
    x, v, good = (
        np.concatenate([getattr(part, side).numpy() for part in parts], axis=1)
        for side in ("positions", "velocities", "valid")
    )
    times = np.concatenate([part.times.numpy() for part in parts])
    lengths = good.sum(1)  # what is broken stays so
    return [
        Segment(
            np.asarray(x[row, :length], dtype=np.float64),
            np.asarray(v[row, :length], dtype=np.float64),
            times[:length],
            name=f"{name} {row}",
        )
        for row, length in enumerate(lengths.tolist())
    ]
