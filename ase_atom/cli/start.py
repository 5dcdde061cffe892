"""Where a run starts: velocities where there are none, and thermal equilibrium."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ase_atom.cli.messages import Note, say, say_warning
from ase_atom.cli.report import Row
from ase_atom.cli.request import RunRequest
from ase_atom.errors import BrokenStateError, ConfigError
from ase_atom.molecules.atoms import structure_of
from ase_atom.molecules.coverage import as_covered, temperature_warning
from ase_atom.operator import OperatorLike
from ase_atom.propagation import (
    Ensemble,
    Guard,
    default_stride,
    equilibrate,
    reservations,
    sample_velocities,
)
from ase_atom.propagation.equilibration import DURATION, FRICTION
from ase_atom.propagation.leaps import is_leap
from ase_atom.state import PhaseState
from ase_atom.units import PS, format_time

_MOVING = 1e-6  # K, below which a molecule's atoms stand still beside each other


@dataclass(frozen=True)
class Plan:
    """How the molecules are to move.

    Parameters
    ----------
    operator, name
        Moves them, and what it is called.
    ensemble
        Dynamics.
    stride, interval, duration
        Of a jump, between frames, and up to the last frame, fs.
    usual
        Stride whose error is said beforehand, fs: where strides are divided, the recommended one.
    """

    operator: OperatorLike
    name: str
    ensemble: Ensemble
    stride: float
    interval: float
    duration: float
    usual: float

    @property
    def leaps(self) -> bool:
        """Whether the stride is a leap's."""
        return is_leap(self.operator, self.stride)

    @property
    def jump(self) -> float:
        """Length of a jump, as equilibration makes them also before leaps, fs."""
        return default_stride(self.operator) if self.leaps else self.stride


@dataclass(frozen=True)
class Start:
    """Where the rows of a run start.

    Parameters
    ----------
    rows
        Those that start, without any that broke before.
    structures
        As in their files, ``[B, N]``.
    state
        Where the run starts, ``[B, N]``.
    equilibrated
        Whether all of them are in equilibrium.
    broken
        Errors of those that broke on the way there.
    """

    rows: list[Row]
    structures: PhaseState
    state: PhaseState
    equilibrated: bool
    broken: list[BrokenStateError]


def prepare(request: RunRequest, plan: Plan, rows: list[Row], notes: Sequence[Note] = ()) -> Start:
    """Return where the rows start, with velocities and in equilibrium as the request has it.

    Notes are said once all is checked.

    Raises
    ------
    ConfigError
        For a temperature that nothing takes, or replicas that would be one trajectory.
    BrokenStateError
        If every row breaks before equilibrium.
    """
    structures = PhaseState.from_atoms([row.atoms for row in rows])
    if request.force and plan.operator.card:
        structures = as_covered(structures, plan.operator.card)
    resting = ~structures.velocities.flatten(1).any(dim=1)
    if request.keep_zero_velocities:
        resting[:] = False
    chosen = resting.clone()
    if request.no_equilibration:
        chosen[:] = False
    elif request.equilibration is not None:
        chosen[:] = True
    if not request.has_thermostat:
        _check_nve(request, resting | chosen, rows)
    for note in notes:
        note.say()
    _warn(request, plan, structures, resting, rows)
    if bool(resting.any()) and request.no_equilibration:
        say(f"velocities are drawn at {request.kelvin:g} K, without equilibration")
    noise = torch.Generator().manual_seed(seeds(request)[0])
    sampled = sample_velocities(structures, request.kelvin, noise)
    velocities = torch.where(resting[:, None, None], sampled.velocities, structures.velocities)
    state = structures.replace(velocities=velocities)
    broken: dict[int, BrokenStateError] = {}
    if bool(chosen.any()):
        state, broken = _equilibrate(request, plan, structures, state, chosen, rows)
    alive = [row for row in range(len(rows)) if row not in broken]
    picked = torch.tensor(alive)
    return Start(
        [rows[row] for row in alive],
        structures.select(picked),
        state.select(picked),
        bool(chosen.all()),
        list(broken.values()),
    )


def seeds(request: RunRequest) -> list[int]:
    """Of first velocities, the run and the equilibration, so that none correlates with another."""
    found: list[int] = np.random.SeedSequence(request.seed).generate_state(3).tolist()
    return found


def _check_nve(request: RunRequest, drawn: torch.Tensor, rows: Sequence[Row]) -> None:
    """Refuse a temperature that nothing takes, and replicas that nothing tells apart."""
    if request.temperature is not None and not bool(drawn.any()):
        kept = request.keep_zero_velocities
        start = "--keep-zero-velocities" if kept else "velocities in the structures"
        raise ConfigError(
            f"--temperature {request.temperature:g} has no effect with --ensemble nve and {start}: "
            "it sets a thermostat, or the velocities of structures without velocities; leave it out"
        )
    if request.replicas > 1 and not bool(drawn.all()):
        which = request.names[rows[drawn.tolist().index(False)].molecule.place]
        raise ConfigError(
            f"--replicas {request.replicas} of {which} would give one trajectory "
            f"{request.replicas} times: the structure has velocities, and NVE has no random noise; "
            "give --replicas 1, or a thermostat"
        )


def _warn(
    request: RunRequest,
    plan: Plan,
    structures: PhaseState,
    resting: torch.Tensor,
    rows: Sequence[Row],
) -> None:
    """Say what the operator was not trained for."""
    card = plan.operator.card
    lines = []
    moving = ~resting & (plan.ensemble.temperature(structures) > _MOVING)
    for index in range(0, len(rows), request.replicas):
        start = structures.select(torch.tensor([index])) if moving[index] else None
        for line in reservations(card, [structure_of(rows[index].atoms)], plan.ensemble, start):
            several = len(request.names) > 1 and line.startswith("the molecule")
            name = rows[index].molecule.name
            lines.append(line.replace("the molecule", name, 1) if several else line)
    if card and bool(resting.any()) and (drawn := temperature_warning(request.kelvin, card)):
        lines.append(drawn)
    for line in dict.fromkeys(lines):
        say_warning(line)


def _equilibrate(
    request: RunRequest,
    plan: Plan,
    structures: PhaseState,
    state: PhaseState,
    chosen: torch.Tensor,
    rows: Sequence[Row],
) -> tuple[PhaseState, dict[int, BrokenStateError]]:
    """Return the state with the chosen rows in equilibrium, and the errors of those that broke."""
    duration = DURATION if request.equilibration is None else request.equilibration
    duration = math.ceil(round(duration / plan.jump, 6)) * plan.jump
    say(
        f"equilibration: {format_time(duration)} of Langevin dynamics at {request.kelvin:g} K and "
        f"{FRICTION * PS:g} per ps, not included in files and means (--no-equilibration omits it)"
    )
    picked = chosen.nonzero().flatten()
    places: list[int] = picked.tolist()
    done = equilibrate(
        plan.operator,
        state.select(picked),
        request.kelvin,
        duration=duration,
        stride=plan.jump,
        energy_correction=not request.uncorrected,
        seed=seeds(request)[2],
        guard=Guard.watch(structures.select(picked), [rows[row].label for row in places]),
        adaptive=request.adaptive(),
    )
    broken = {
        places[error.replica]: BrokenStateError(
            f"in equilibration, {error}; nothing of it is written",
            time=error.time,
            atoms=error.atoms,
        )
        for error in done.broken
    }
    if len(broken) == len(rows):
        raise next(iter(broken.values()))
    positions, velocities = state.positions.clone(), state.velocities.clone()
    positions[picked], velocities[picked] = done.state.positions, done.state.velocities
    return state.replace(positions=positions, velocities=velocities), broken
