"""What ASE scripts say, in the terms of propagation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor

from ase_atom.ase.calculator import ATOMCalculator
from ase_atom.errors import ConfigError
from ase_atom.errors.values import whole_number
from ase_atom.molecules.atoms import STATED, fixes_centre_of_mass
from ase_atom.molecules.catalogue import operator_for
from ase_atom.propagation import OperatorLike, Potential, Settings, check_abilities
from ase_atom.propagation.ensembles import own_settings, unit_of
from ase_atom.propagation.stepwise import Stepwise
from ase_atom.state import PhaseState
from ase_atom.units import FS

ASE_TIME = "ASE's unit of time is not the fs: half a femtosecond is 0.5 * ase.units.fs"
"""For messages about times that cannot be meant."""

ROUNDING = 1e-10
"""Relative change of positions or momenta up to which an observer has changed nothing."""


def choose_operator(atoms: Atoms, operator: str | Path | OperatorLike | None) -> OperatorLike:
    """Return the operator that moves the atoms, checked to be trained for them.

    Parameters
    ----------
    atoms
        The molecule; `ase_atom.molecules.atoms.fixes_centre_of_mass` judges its constraints.
    operator
        A name, a file or an operator; by default that of an `ATOMCalculator` on the atoms.

    Raises
    ------
    ConfigError
        If there is none, or one that predicts positions alone.
    CheckpointError, CoverageError
        As `operator_for`.
    """
    check_atoms_object(atoms)
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
    found = operator_for(bare, operator, engine="auto")
    check_abilities(found, energy_correction=False)
    return found


def check_atoms_object(atoms: Any) -> None:
    """Check that what a script calls a molecule is an `ase.Atoms`.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if not isinstance(atoms, Atoms):
        raise ConfigError(
            f"a molecule is an ase.Atoms, not a {type(atoms).__name__}: ase.io.read makes one from "
            "a file, and propagate_replicas takes a list of several"
        )


def ase_settings(
    atoms: Atoms,
    *,
    stride: float | None,
    temperature_K: float | None,
    friction: float | None,
    taut: float | None,
    settings: Mapping[str, float] | None,
    fixcm: bool | None,
    energy_correction: bool | GetPropertiesMixin,
    reversible: bool | None,
) -> Settings:
    """Return what an ASE script says, in ASE's units, as settings of propagation.

    Raises
    ------
    ConfigError
        For what is no number, or a setting that no ensemble has.
    CoverageError
        For constraints other than ``FixCom``.
    """
    check_atoms_object(atoms)
    return Settings(
        temperature=temperature_K,
        own={
            name: in_fs(name, value, FS if unit_of(name) == "1/fs" else 1 / FS)
            for name, value in own_settings(settings, friction=friction, taut=taut).items()
        },
        # The constraint FixCom holds the centre of mass whatever the thermostat is told.
        fix_com=fixcm if fixcm is None else fixcm or fixes_centre_of_mass(atoms),
        energy_correction=energy_correction is not False,
        reversible=reversible,
        stride=in_fs("stride", stride, 1 / FS),
        names={"temperature": "temperature_K", "fix_com": "fixcm"},
    )


def in_fs(name: str, value: float | None, unit: float) -> float | None:
    """Convert a number that a script gave in ASE's units, of which ``unit`` is the size.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if value is None:
        return None
    try:
        return float(value) * unit
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} is a number in ASE's units, not {value!r}") from error


def ase_time(name: str, value: float) -> float:
    """Convert a time from ASE's unit to fs.

    Raises
    ------
    ConfigError
        If it is no number.
    """
    time = in_fs(name, value, 1 / FS)
    if time is None:
        raise ConfigError(f"{name} is a number in ASE's units, not None")
    return time


def check_interval(name: str, steps: Any) -> None:
    """Check the number of steps between two calls of an observer.

    ASE calls it at one step alone if the number is zero or negative.

    Raises
    ------
    ConfigError
        If it is no whole number: between steps no observer is called.
    """
    negative = isinstance(steps, int | float | np.number) and steps < 0
    whole_number(name, -steps if negative else steps)


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
        check_abilities(operator, energy_correction)
        return operator.energy
    if isinstance(operator, Stepwise):
        raise ConfigError(
            "energy_correction is a calculator whose energy jumps are to keep, and steps by forces "
            "are not corrected: leave it out"
        )
    if isinstance(energy_correction, SinglePointCalculator):
        raise ConfigError(
            "energy_correction is a calculator that holds the energy of one frame and computes no "
            "other: give True, False or a calculator that computes"
        )
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


def computes(atoms: Atoms) -> bool:
    """Say whether the atoms' calculator computes energies.

    Frames read from files have one that holds results of this frame alone.
    """
    return atoms.calc is not None and not isinstance(atoms.calc, SinglePointCalculator)


def stated(atoms: Atoms) -> tuple[bytes, ...]:
    """Return what the atoms say of their electrons, to be compared."""
    arrays = (atoms.get_initial_charges(), atoms.get_initial_magnetic_moments())
    info = (repr(atoms.info.get(key)).encode() for key in STATED)
    return *(array.tobytes() for array in arrays), *info


def differs(now: np.ndarray, left: np.ndarray) -> bool:
    """Say whether an array was changed by more than rounding."""
    if now.tobytes() == left.tobytes():
        return False
    return now.shape != left.shape or not bool(
        np.abs(now - left).max() <= ROUNDING * (1.0 + np.abs(left).max())
    )


def momenta_of(atoms: Atoms) -> np.ndarray:
    """Return the array of the atoms' momenta: zeros if it was deleted, as ASE has it."""
    if not atoms.has("momenta"):
        atoms.new_array("momenta", np.zeros((len(atoms), 3)))
    found: np.ndarray = atoms.arrays["momenta"]
    return found


def choose_noise(rng: Any, seed: int | None, thermostatted: bool) -> NumpyNoise:
    """Return the noise of a thermostat: from a seed, else from a generator, else from numpy.random.

    Raises
    ------
    ConfigError
        For both, a seed of dynamics without noise, or something that gives no random numbers.
    """
    if seed is None:
        return NumpyNoise(np.random if rng is None else rng)
    if rng is not None:
        raise ConfigError(
            "rng and seed are both given, and each sets the random noise: give one of them"
        )
    if not thermostatted:
        raise ConfigError(
            "seed has no effect in microcanonical dynamics, which have no noise: leave it out"
        )
    return NumpyNoise(np.random.default_rng(whole_number("seed", seed)))


class NumpyNoise:
    """Noise from whatever has numpy's ``standard_normal``.

    The state of a `numpy.random.Generator`, a `numpy.random.RandomState` and of `numpy.random`
    itself can be kept.

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

    def __getstate__(self) -> dict[str, Any]:
        """Stand for ``numpy.random`` by None: a module can be neither copied nor pickled."""
        return {"_rng": None if self._rng is np.random else self._rng}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._rng = np.random if state["_rng"] is None else state["_rng"]

    def __call__(self, shape: torch.Size) -> Tensor:
        """Draw standard normal numbers of a shape."""
        return torch.from_numpy(np.asarray(self._rng.standard_normal(tuple(shape)), dtype=float))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator, as plain values.

        Raises
        ------
        ConfigError
            For a source that cannot tell its state.
        """
        return {name: _plain(each) for name, each in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a generator of the same kind was.

        Raises
        ------
        ConfigError
            If this is no state of such a generator, which stays as it was.
        """
        now = self._state()
        kind, before = now["bit_generator"], state.get("bit_generator")
        if kind != before:
            raise ConfigError(f"the noise came from numpy's {before} and now comes from {kind}")
        try:
            fitted = _like(now, state)
            if isinstance(self._rng, np.random.Generator):
                self._rng.bit_generator.state = fitted
            else:
                self._rng.set_state(fitted)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"this is no state of numpy's {kind}") from error

    def _state(self) -> dict[str, Any]:
        if isinstance(self._rng, np.random.Generator):
            return dict(self._rng.bit_generator.state)
        if self._rng is np.random or isinstance(self._rng, np.random.RandomState):
            return dict(self._rng.get_state(legacy=False))
        raise ConfigError(
            f"rng is a {type(self._rng).__name__}, whose state a restart file cannot hold: give "
            "seed=, or a numpy generator as rng="
        )


def _plain(value: Any) -> Any:
    """Return nested dictionaries with arrays and numbers of numpy's as lists and plain numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _like(pattern: Any, plain: Any) -> Any:
    """Return plain values as what they were made from, which a pattern shows.

    Raises
    ------
    KeyError, TypeError, ValueError, OverflowError
        If they are something else.
    """
    if isinstance(pattern, Mapping):
        return {name: _like(each, plain[name]) for name, each in pattern.items()}
    if isinstance(pattern, np.ndarray):
        array = np.array(plain, dtype=pattern.dtype)
        if array.shape != pattern.shape:
            raise ValueError("another shape")
        return array
    if isinstance(pattern, str) != isinstance(plain, str):
        raise TypeError("text in the place of a number")
    return plain
