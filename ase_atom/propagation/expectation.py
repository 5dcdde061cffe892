"""What error a run's jumps are expected to have, found out before the run."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ase_atom.errors import TrustError
from ase_atom.errors.warning import warn
from ase_atom.operator.protocol import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.operator.trust import round_trip
from ase_atom.propagation.ensembles import Ensemble, Thermostat
from ase_atom.propagation.stochastic import sample_velocities
from ase_atom.state import PhaseState
from ase_atom.units import format_time

STATES = 8
"""Thermal states of each molecule that are looked at."""

DOUBTFUL = 0.12
"""Expected error from which a run is warned of."""

HOPELESS = 0.2
"""Expected error from which a run is refused. Molecules beyond drift by tens of kelvin and more
under a thermostat (docs/trust.md)."""

_TOGETHER = 64  # states that are looked at in one batch

_log = logging.getLogger("ase_atom")


class TrustWarning(UserWarning):
    """A run whose jumps are expected to err far more than those of trained molecules."""


@dataclass(frozen=True)
class Expectation:
    """The error to expect of one molecule's jumps.

    Parameters
    ----------
    operator
        What the operator is called.
    stride
        fs.
    error
        RMS over thermal states of the expected error, itself RMS position error over RMS
        displacement.
    usual
        Range of the estimate for molecules that the operator was trained for.
    several
        Whether it was trained for several.
    """

    operator: str
    stride: float
    error: float
    usual: tuple[float, float]
    several: bool

    def __str__(self) -> str:
        jump = f"a {format_time(self.stride)} jump"
        low, high = (percent(each) for each in self.usual)
        usual = low if low == high else f"{low.removesuffix(' %')} to {high}"
        whose = "trained molecules" if self.several else "where it was trained"
        return f"expected error of {jump}: {percent(self.error)} ({whose}: {usual})"

    @property
    def is_doubtful(self) -> bool:
        """Whether a run is to be warned of."""
        return not self.error < DOUBTFUL

    @property
    def is_hopeless(self) -> bool:
        """Whether a run is to be refused."""
        return not self.error < HOPELESS


def percent(value: float) -> str:
    """Write a part as a percentage, to two digits below ten and to one place from there."""
    if not math.isfinite(value):
        return "more than can be told"
    hundred = 100 * value
    return f"{hundred:.1g} %" if hundred < 1 else f"{hundred:.0f} %"


@own_torch()
@torch.no_grad()
def expect(
    operator: OperatorLike,
    state: PhaseState,
    stride: float,
    temperature_K: float,
    states: int = STATES,
) -> list[Expectation]:
    """Return the error to expect of each molecule's jumps.

    From a few thermal states of each: velocities drawn anew, and positions after one jump. Four
    passes of the operator over so many states.

    Parameters
    ----------
    operator
        Moves the molecules.
    state
        The molecules where a run starts, ``[B, N]``; velocities are not looked at.
    stride
        Of the run, fs.
    temperature_K
        K.
    states
        Thermal states of each molecule.

    Returns
    -------
    One for each molecule; none for an operator that was never calibrated.
    """
    card = operator.card
    calibration = None if card is None else card.calibration
    if card is None or calibration is None:
        return []
    draw = torch.Generator().manual_seed(0)
    copies = state.select(torch.arange(state.batch_size).repeat_interleave(states))
    copies = sample_velocities(copies, temperature_K, draw)
    features = []
    for first in range(0, copies.batch_size, _TOGETHER):
        part = copies.select(torch.arange(first, min(first + _TOGETHER, copies.batch_size)))
        on_the_way = round_trip(operator, part, stride).end
        moved = sample_velocities(on_the_way, temperature_K, draw)
        features.append(round_trip(operator, moved, stride).features)
    rows = torch.cat(features).view(state.batch_size, states, -1)
    found = []
    for row in rows:
        error = float(calibration.error(row).square().mean().sqrt())
        usual = calibration.usual(stride)
        found.append(Expectation(card.name, stride, error, usual, len(card.smiles) > 1))
    return found


def temperature_of(ensemble: Ensemble, state: PhaseState, otherwise: float = 300.0) -> float:
    """Return the temperature in K of a run: its thermostat's, or that of its first velocities.

    Parameters
    ----------
    ensemble
        The dynamics.
    state
        Where they start.
    otherwise
        For molecules at rest.
    """
    if isinstance(ensemble, Thermostat):
        return ensemble.temperature_K
    hottest = float(ensemble.temperature(state).nan_to_num(0.0, 0.0).max())
    return hottest if hottest > 1.0 else otherwise


def refuse_hopeless(
    found: Expectation, who: str = "the molecule", advice: str = "accept_error=True goes on"
) -> None:
    """Refuse a run whose jumps are expected to err too much.

    Raises
    ------
    TrustError
        With the estimate, and what can be done.
    """
    if found.is_hopeless:
        raise TrustError(f"{who} is out of the depth of {found.operator}: {found}; {advice}")


def look_ahead(
    operator: OperatorLike,
    state: PhaseState,
    ensemble: Ensemble,
    stride: float,
    accept_error: bool = False,
    names: Sequence[str] | None = None,
) -> list[Expectation]:
    """Say what error to expect of a script's run: one line a molecule in the log ``ase_atom``.

    Parameters
    ----------
    operator, state, stride
        As in `expect`; of copies of one molecule the first is looked at.
    ensemble
        The dynamics.
    accept_error
        Warn of what would be refused.
    names
        What the molecules are called.

    Raises
    ------
    TrustError
        From `HOPELESS` on.

    Warns
    -----
    TrustWarning
        From `DOUBTFUL` on.
    """
    kinds = [tuple(row) for row in state.numbers.tolist()]
    first = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    chosen = state.select(torch.tensor(first))
    found = expect(operator, chosen, stride, temperature_of(ensemble, chosen))
    for row, each in zip(first, found, strict=False):  # none of an uncalibrated operator
        who = names[row] if names is not None else "the molecule"
        if len(first) > 1 and names is None:
            who = f"molecule {row}"
        if not accept_error:
            refuse_hopeless(each, who)
        if each.is_doubtful:
            warn(f"{who}: {each}", TrustWarning)
        else:
            _log.info("%s: %s", who, each)
    return found
