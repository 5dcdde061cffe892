"""From what a user sets, and an operator, to ensemble, stride, defaults and warnings.

All front ends go through here: the rules stand once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import known_fields
from ase_atom.errors.values import check_flag
from ase_atom.molecules.coverage import temperature_warning, untrained_molecule_warning
from ase_atom.molecules.structure import Structure
from ase_atom.operator.card import OperatorCard
from ase_atom.operator.protocol import OperatorLike
from ase_atom.propagation.adaptive import LONGEST
from ase_atom.propagation.ensembles import (
    NVE,
    Ensemble,
    Thermostat,
    ensemble_with,
    ensembles,
    find_ensemble,
)
from ase_atom.propagation.stepwise import Stepwise, suited
from ase_atom.state import PhaseState

DEFAULT_STRIDE = 16.0
"""fs, for operators without a card and with a horizon of at least as long."""

HOT, COLD = 0.05, 0.005
"""How likely velocities are to be so hot, or so cold, at the edge of the trained range.

Heat is what breaks molecules, and a start that is cold by chance is common.
"""


def is_reversible(ensemble: type[Ensemble], asked: bool | None) -> bool | None:
    """Say whether jumps are made reversible in time: as asked for, else as the ensemble has it.

    None stands for reversible on average.
    """
    return ensemble.reversible_by_default if asked is None else bool(asked)


@known_fields
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user says of the dynamics.

    Parameters
    ----------
    kind
        Name of the ensemble; by default the one that has the settings in ``own``, and NVE where
        there is neither one of these nor a temperature.
    temperature
        Of a thermostat, K.
    own
        Settings that one ensemble alone has, in the units of its `Parameter`: ``friction``, 1/fs,
        for Langevin, ``taut``, fs, for Bussi. None stands for not said.
    fix_com
        Whether a thermostat holds the centre of mass; by default it does.
    energy_correction
        Whether jumps keep the total energy.
    reversible
        Whether jumps are reversible in time, see `is_reversible`.
    stride
        Length of a jump in fs; see `choose_stride`.
    names
        What the front end calls these settings, where it is something else.
    """

    kind: str | None = None
    temperature: float | None = None
    own: Mapping[str, float | None] = field(default_factory=dict)
    fix_com: bool | None = None
    energy_correction: bool = True
    reversible: bool | None = None
    stride: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def ensemble(self, operator: OperatorLike | None = None) -> Ensemble:
        """Return the ensemble that the settings describe.

        Parameters
        ----------
        operator
            Moves the molecules: the ensemble is `suited` to it.

        Raises
        ------
        ConfigError
            For settings that contradict each other, have no effect, or have impossible values.
        """
        kind = self._kind()
        check_flag(self._name("energy_correction"), self.energy_correction)
        for name in ("fix_com", "reversible"):
            check_flag(self._name(name), getattr(self, name), or_none=True)
        values: dict[str, Any] = {
            name: parameter.check(self._name(name), self._number(name, parameter.unit))
            for name, parameter in kind.parameters.items()
            if self.own.get(name) is not None
        }
        values["energy_correction"] = self.energy_correction
        values["reversible"] = is_reversible(kind, self.reversible)
        temperature = self._name("temperature")
        if issubclass(kind, Thermostat):
            if self.temperature is None:
                said = next((self._name(n) for n in self._said()), f"the ensemble {kind.name}")
                raise ConfigError(f"{said} makes a thermostat, which needs {temperature} as well")
            values["temperature_K"] = self._number("temperature", "K")
            values["fix_com"] = self.fix_com is not False
        elif self.temperature is not None:
            raise ConfigError(
                f"{temperature}={self._number('temperature', 'K'):g} needs a thermostat, and "
                f"{kind.title} has none"
            )
        elif self.fix_com is not None:
            raise ConfigError(
                f"{self._name('fix_com')} is a setting of thermostats and changes nothing in "
                "microcanonical dynamics, where the centre of mass keeps its motion"
            )
        make: Callable[..., Ensemble] = kind
        made = make(**values)
        if operator is None:
            return made
        if self.reversible is not None and isinstance(operator, Stepwise):
            raise ConfigError(
                f"{self._name('reversible')} is for jumps, and steps by forces retrace their path "
                "by themselves: leave it out"
            )
        return suited(made, operator)

    def _said(self) -> list[str]:
        return [name for name, value in self.own.items() if value is not None]

    def _kind(self) -> type[Ensemble]:
        """Return the one ensemble that has the settings that were said."""
        owners: dict[str, type[Ensemble]] = {}
        for name in self._said():
            owners[self._name(name)] = ensemble_with(name)
        if self.kind is not None:
            chosen = find_ensemble(self.kind)
            for name, owner in owners.items():
                if owner is not chosen:
                    raise ConfigError(f"{name} is a setting of {owner.title}, not {chosen.title}")
            return chosen
        if len(set(owners.values())) > 1:
            said = " and ".join(f"{name} is {owner.title}'s" for name, owner in owners.items())
            raise ConfigError(f"{said}: give one of them")
        if owners:
            return next(iter(owners.values()))
        if self.temperature is None:
            return NVE
        ways = sorted(
            f"{self._name(setting)}= for {ensemble.title} dynamics"
            for ensemble in ensembles().values()
            for setting in ensemble.parameters
        )
        raise ConfigError(
            f"{self._name('temperature')}={self._number('temperature', 'K'):g} needs a "
            f"thermostat: {', or '.join(ways)}"
        )

    def choose_stride(self, operator: OperatorLike, divided: bool = False) -> float:
        """Return the stride in fs that is asked for, else the operator's `default_stride`.

        Of a stride that is ``divided`` where jumps err too much, the default is `LONGEST`, or the
        horizon.
        """
        if self.stride is not None:
            return self._number("stride", "fs")
        return min(LONGEST, operator.horizon) if divided else default_stride(operator)

    def _name(self, setting: str) -> str:
        return self.names.get(setting, setting)

    def _number(self, setting: str, unit: str) -> float:
        value: Any = self.own[setting] if setting in self.own else getattr(self, setting)
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError) as error:
            name = self._name(setting)
            raise ConfigError(f"{name} is a number ({unit}), not {value!r}") from error


def default_stride(operator: OperatorLike) -> float:
    """Return the stride in fs that the operator's card recommends, or without one 16 fs.

    No longer than the horizon.
    """
    card = operator.card
    return card.stride_fs if card is not None else min(DEFAULT_STRIDE, operator.horizon)


def check_abilities(operator: OperatorLike, energy_correction: bool) -> None:
    """Check that an operator can propagate, and with an energy to keep if one is to be kept.

    Raises
    ------
    ConfigError
        If it predicts positions alone, or has no energy head.
    """
    if not operator.predicts_velocities:
        raise ConfigError("the operator predicts no velocities, so it cannot propagate a molecule")
    if energy_correction and not operator.has_energy:
        raise ConfigError(
            "the operator has no energy head to keep the energy with: give energy_correction=False"
        )


def reservations(
    card: OperatorCard | None,
    molecules: Iterable[Structure] = (),
    ensemble: Ensemble | None = None,
    start: PhaseState | None = None,
) -> list[str]:
    """Return lines of warning about what an operator was not trained for, each once.

    Parameters
    ----------
    card
        The operator's; without one nothing is known.
    molecules
        Those that it is to move; the same one may be there several times.
    ensemble
        Its temperature, if it has one, is compared with the trained range.
    start
        Where it starts, with the ensemble: so is the temperature of its velocities.
    """
    if card is None:
        return []
    found = [untrained_molecule_warning(structure, card) for structure in molecules]
    if isinstance(ensemble, Thermostat):
        found.append(temperature_warning(ensemble.temperature_K, card))
    if ensemble is not None and start is not None:
        found.append(_start_warning(start, ensemble, card))
    return list(dict.fromkeys(line for line in found if line))


def _start_warning(start: PhaseState, ensemble: Ensemble, card: OperatorCard) -> str | None:
    """Return a warning of velocities that are hotter or colder than chance makes them.

    The kinetic temperature of one state scatters as χ² over N_f does. A thermostat warms a cold
    molecule up, so that there only heat counts.
    """
    from scipy.special import chdtri  # quantiles of χ² from above

    low, high = card.temperature_range_K
    freedom = ensemble.degrees_of_freedom(start).double()
    found = ensemble.temperature(start).double()
    for row, (kelvin, count) in enumerate(zip(found.tolist(), freedom.tolist(), strict=True)):
        if count < 1 or not math.isfinite(kelvin):
            continue
        hot = kelvin > high * chdtri(count, HOT / len(found)) / count
        cold = kelvin < low * chdtri(count, 1 - COLD / len(found)) / count
        if hot or (cold and not isinstance(ensemble, Thermostat)):
            who = "the molecule" if len(found) == 1 else f"molecule {row}"
            return (
                f"{who} starts with velocities of {kelvin:.4g} K, outside the range {low:g} to "
                f"{high:g} K that {card.name} was trained for"
            )
    return None
