"""Whether a stride means leaps, and whether these can be had."""

from __future__ import annotations

from dataclasses import replace

import torch

from ase_atom.errors import ConfigError, CoverageError
from ase_atom.molecules.topology import drawn, perceive_smiles
from ase_atom.operator.leap.card import LeapCard
from ase_atom.operator.protocol import Leap, OperatorLike
from ase_atom.propagation.ensembles import Ensemble, Langevin
from ase_atom.propagation.grid import TOLERANCE, steps_per_stride
from ase_atom.state import PhaseState
from ase_atom.units import PS, format_time

LEAST_LAG = 500.0
"""fs. Strides beyond the horizon mean leaps from here on: the velocities are forgotten."""

SETTLING_STRIDE = 16.0
"""fs."""


def is_leap(operator: OperatorLike, stride: float) -> bool:
    """Say whether a stride in fs means a leap: no jump, as it is beyond the horizon."""
    return stride > operator.horizon and stride >= LEAST_LAG * (1 - TOLERANCE)


def check_leap(
    operator: OperatorLike, ensemble: Ensemble, stride: float, interval: float | None = None
) -> Leap:
    """Return what draws leaps, if they are as the operator has learned them.

    Parameters
    ----------
    operator
        That is to leap.
    ensemble
        Whose samples are wanted.
    stride
        Length of a leap, fs.
    interval
        Time between frames, observers or reports, fs; by default the stride.

    Raises
    ------
    ConfigError
        If the operator has no leaps; for another ensemble than Langevin's, another friction, lag
        or temperature than it learned; or for frames between leaps, naming an interval that fits.
    """
    leaps, lag = operator.leaps, format_time(stride)
    name = operator.card.name if operator.card else "this operator"
    if leaps is None:
        raise ConfigError(
            f"a stride of {lag} means leaps, and {name} has none: ase-atom leap-train {name} "
            f"trains them; jumps are at most {format_time(operator.horizon)} long"
        )
    if not isinstance(ensemble, Langevin):
        raise ConfigError(
            f"a stride of {lag} means leaps, which are samples of Langevin dynamics, not of "
            f"{ensemble.title}: choose Langevin dynamics, or a stride of at most "
            f"{format_time(operator.horizon)}"
        )
    card = leaps.card
    card.check(stride, ensemble.temperature_K)
    if abs(ensemble.friction - card.friction) > TOLERANCE * card.friction:
        raise ConfigError(
            f"the leaps of {name} are those of a friction of {card.friction * PS:g} per ps, not "
            f"{ensemble.friction * PS:g}"
        )
    if stride <= settling_time(card, operator):
        raise ConfigError(f"a leap of {lag} is no longer than its settling")
    if interval is not None:
        check_interval(stride, interval)
    return leaps


def check_interval(stride: float, interval: float, what: str = "a frame interval") -> None:
    """Check that times at an interval, both in fs, fall on leaps.

    Raises
    ------
    ConfigError
        If not: a path filled in would not end at the next sample.
    """
    ratio = interval / stride
    if ratio < 0.5 or abs(ratio - round(ratio)) > TOLERANCE * ratio:
        near = max(1, round(ratio)) * stride
        raise ConfigError(
            f"{what} of {format_time(interval)} falls between leaps of {format_time(stride)}, "
            f"where there is nothing: {format_time(near)} fits"
        )


def check_molecules(card: LeapCard, state: PhaseState) -> None:
    """Check that leaps were trained for the molecules of a state.

    Raises
    ------
    CoverageError
        Naming the first that they were not trained for.
    """
    seen = set()
    known = {drawn(smiles) for smiles in card.smiles}
    for row in range(state.batch_size):
        kind = (*state.numbers[row].tolist(), int(state.charge[row]))
        if kind in seen:
            continue
        seen.add(kind)
        atoms = state.select(torch.tensor([row])).to_atoms()[0]
        found, plain = perceive_smiles(atoms.numbers, atoms.positions, int(state.charge[row]))
        if card.largest_molecule is None and not known & {found, plain}:
            raise CoverageError(
                f"leaps were trained for {', '.join(card.smiles[:6])}, not for {found}"
            )
        if card.largest_molecule is None:
            continue
        if len(atoms) > card.largest_molecule:
            raise CoverageError(
                f"leaps are for molecules of up to {card.largest_molecule} atoms, and {found} has "
                f"{len(atoms)}"
            )
        # What draws them hears elements and places: another charge would be drawn as if learned.
        if int(state.charge[row]) not in card.charges:
            raise CoverageError(
                f"leaps were learned from molecules of charge {card.charges_in_words}, and {found} "
                f"has {int(state.charge[row]):+d}: jumps of this operator may be for it"
            )


def settling_stride(operator: OperatorLike) -> float:
    """Length of the jumps of settling, fs."""
    return min(SETTLING_STRIDE, operator.horizon)


def settling_time(card: LeapCard, operator: OperatorLike) -> float:
    """How much of a leap its settling stands for, fs.

    What was measured, if it was. Else as if torsions diffused with 1/γ, which those of heavy groups
    do under strong friction: settling at ten times the friction then adds a tenth of its time.
    """
    if card.settling_fs is not None:
        return card.settling_fs
    time = card.settling_jumps * settling_stride(operator)
    return time * min(1.0, card.friction / card.settling_friction)


def settling_ensemble(ensemble: Langevin, card: LeapCard) -> Langevin:
    """Return the ensemble in which stiff vibrations forget the sample within its settling.

    Energies are not corrected: the thermostat leaves a fifth of the velocities over a jump, so that
    what a jump loses cannot add up. For the same reason jumps are single.
    """
    return replace(
        ensemble, friction=card.settling_friction, energy_correction=False, reversible=False
    )


def stride_in_steps(
    operator: OperatorLike, ensemble: Ensemble, stride: float, timestep: float, units: str = ""
) -> tuple[int, bool]:
    """Return how many time steps a stride has, and whether it is a leap's, which has one.

    Parameters
    ----------
    operator
        That jumps or leaps.
    ensemble
        Whose samples are wanted.
    stride, timestep
        fs.
    units
        As in `ase_atom.propagation.grid.check_time`.

    Raises
    ------
    ConfigError, HorizonError
        As `steps_per_stride` and `check_leap`; or for time steps between leaps.
    """
    if not is_leap(operator, stride):
        return steps_per_stride(stride, timestep, operator.horizon, units), False
    check_leap(operator, ensemble, stride)
    if steps_per_stride(stride, timestep, units=units) > 1:
        raise ConfigError(
            f"time steps of {format_time(timestep)} fall between leaps of {format_time(stride)}, "
            f"where there is nothing: a timestep of {format_time(stride)} fits, and observers, "
            "reporters and trajectories count in leaps"
        )
    return 1, True
