"""What ASE scripts say, in the terms of propagation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from torch import Tensor

from ase_atom.calculator import ATOMCalculator
from ase_atom.catalogue import operator_for
from ase_atom.coverage import temperature_warning
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, OperatorCard
from ase_atom.propagation import NVE, Bussi, Ensemble, Langevin, OperatorLike, Potential
from ase_atom.state import PhaseState
from ase_atom.units import FS

DEFAULT_STRIDE = 16.0
"""fs, for operators without a card."""


def choose_operator(atoms: Atoms, operator: str | Path | Operator | None) -> Operator:
    """Return the operator that moves the atoms, checked to be trained for them.

    Parameters
    ----------
    atoms
        The molecule; its constraints are for `ase_atom.coverage.fixes_centre_of_mass` to judge.
    operator
        A name, a file or an operator; by default that of an `ATOMCalculator` on the atoms.

    Raises
    ------
    ConfigError
        If there is none, or one that predicts positions alone.
    CheckpointError, CoverageError
        As `operator_for`.
    """
    bare = atoms.copy()
    bare.set_constraint()
    if operator is None:
        if not isinstance(atoms.calc, ATOMCalculator):
            has = type(atoms.calc).__name__ if atoms.calc is not None else "no calculator"
            raise ConfigError(
                f"the atoms have {has}: set atoms.calc = ATOMCalculator(...), or name the operator "
                "that moves them with operator="
            )
        operator = atoms.calc.operator
    found = operator_for(bare, operator)
    if not getattr(found, "predicts_velocities", True):
        raise ConfigError("the operator predicts no velocities, so it cannot propagate a molecule")
    return found


def choose_ensemble(
    temperature_K: float | None,
    friction: float | None,
    taut: float | None,
    *,
    fix_com: bool,
    energy_correction: bool,
    reversible: bool | None = None,
) -> Ensemble:
    """Return the ensemble that goes with a thermostat's settings, all in ASE's units.

    Jumps of `Langevin` are reversible only if asked for, see `ase_atom.ATOMPropagator`.

    Raises
    ------
    ConfigError
        For settings that contradict each other, or have impossible values.
    """
    if friction is not None and taut is not None:
        raise ConfigError("friction is Langevin's and taut is Bussi's: give one of them")
    if temperature_K is None:
        if friction is not None or taut is not None:
            name = "friction" if taut is None else "taut"
            raise ConfigError(f"{name} makes a thermostat, which needs temperature_K as well")
        return NVE(energy_correction, reversible is not False)
    if friction is not None:
        rate = float(friction) * FS
        return Langevin(temperature_K, rate, fix_com, energy_correction, bool(reversible))
    if taut is not None:
        tau = float(taut) / FS
        return Bussi(temperature_K, tau, fix_com, energy_correction, reversible is not False)
    raise ConfigError(
        f"temperature_K={temperature_K:g} needs a thermostat: friction= for Langevin dynamics, or "
        "taut= for stochastic velocity rescaling"
    )


def choose_potential(
    energy_correction: bool | GetPropertiesMixin,
    operator: OperatorLike,
    molecule: Atoms | None = None,
) -> Potential:
    """Return the potential energy that a correction keeps: a calculator's, or the operator's.

    A calculator sees the molecule that is given, with charges, spins and whatever else it carries,
    moved to where its energy is wanted; of a batch, atoms and masses alone.

    Raises
    ------
    ConfigError
        For something else, or an operator without an energy.
    """
    if isinstance(energy_correction, bool):
        if energy_correction and not getattr(operator, "has_energy", True):
            raise ConfigError(
                "the operator has no energy head to keep the energy with: give "
                "energy_correction=False, or an ASE calculator"
            )
        return operator.energy
    if not hasattr(energy_correction, "get_potential_energy"):
        raise ConfigError(
            "energy_correction is True, False or an ASE calculator, not "
            f"{type(energy_correction).__name__}"
        )

    def potential(state: PhaseState) -> Tensor:
        asked = state.to_atoms()
        if molecule is not None:
            positions = asked[0].positions
            asked = [molecule.copy()]
            asked[0].set_positions(positions, apply_constraint=False)
        energies = [energy_correction.get_potential_energy(atoms) for atoms in asked]
        return torch.tensor(energies, dtype=state.dtype, device=state.device)

    return potential


class NumpyNoise:
    """Noise from whatever has numpy's ``standard_normal``.

    Raises
    ------
    ConfigError
        If it has none.
    """

    def __init__(self, rng: Any) -> None:
        if not callable(getattr(rng, "standard_normal", None)):
            raise ConfigError(
                f"rng must have numpy's standard_normal, as np.random.default_rng({rng!r}) has"
            )
        self._rng = rng

    def __call__(self, shape: torch.Size) -> Tensor:
        """Draw standard normal numbers of a shape."""
        return torch.as_tensor(self._rng.standard_normal(tuple(shape)), dtype=torch.float64)


def warn_of_temperature(temperature_K: float | None, card: OperatorCard | None) -> None:
    """Warn of a temperature in K that the operator was not trained for."""
    if temperature_K is not None and card is not None:
        message = temperature_warning(temperature_K, card)
        if message:
            warnings.warn(message, stacklevel=3)
