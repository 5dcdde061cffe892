"""Operator jumps in the place of ASE's integrators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from numpy.typing import NDArray

from ase_atom.ase.calculator import ATOMCalculator
from ase_atom.ase.leaps import stride_in_steps
from ase_atom.ase.marching import MarchingDynamics
from ase_atom.ase.settings import (
    ase_settings,
    ase_time,
    check_interval,
    choose_noise,
    choose_operator,
    choose_potential,
    computes,
    momenta_of,
    stated,
)
from ase_atom.ase.trajectory import is_for_ase
from ase_atom.errors import ConfigError, StateError
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.values import check_flag
from ase_atom.errors.warning import warn
from ase_atom.files import RESTART_INTERVAL
from ase_atom.molecules.atoms import fixes_centre_of_mass, structure_of, total_charge
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.molecules.topology import atom_label
from ase_atom.operator import OperatorCard, OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Adaptive, Langevin, Thermostat, look_ahead, reservations
from ase_atom.propagation import Path as JumpPath
from ase_atom.propagation.adaptive import refuse_leaps
from ase_atom.propagation.cold_start import cold_start
from ase_atom.propagation.divided_path import DividedPath
from ase_atom.propagation.leaps import LeapPath
from ase_atom.state import PhaseState
from ase_atom.units import FS

OF_ASE = ("trajectory", "logfile", "loginterval", "append_trajectory", "comm", "master")
"""Keywords of `ase.md` that are handed on."""


class ATOMPropagator(MarchingDynamics):
    """Molecular dynamics by jumps of an operator, with the interface of `ase.md`.

    One forward pass covers a stride. The frames in between are decoded from it, so that after
    each time step the atoms hold the positions and momenta of that time, and observers, loggers
    and trajectories see what they saw with a step-by-step integrator. Energy and forces are
    computed only at steps where an observer is due.

    Strides are on a grid of multiples of ``stride`` from step 0. The grid does not depend on how a
    run is divided into calls of `run`, `irun` or `step`. On the grid the atoms hold the state of
    the ensemble, after its thermostat. Between grid points they follow the path of the jump. If an
    observer changes positions or momenta, the next step starts from the changed values: the rest of
    the jump is decoded again from there.

    The temperature that ASE's loggers print divides by 3N degrees of freedom. With a fixed centre
    of mass N_f is 3N - 3 (see `degrees_of_freedom` and `get_temperature`); set the constraint
    ``ase.constraints.FixCom()`` on the atoms for ASE to count the same.

    Parameters
    ----------
    atoms
        One isolated molecule. The only constraint that is supported is ``FixCom``.
    timestep
        Time between frames, in ASE's unit.
    stride
        Length of a jump in ASE's unit, a multiple of the time step; the card's recommendation
        (16 fs in general) by default. From 0.5 ps on it is a leap's, and the time step is the
        stride: between leaps there is nothing.
    operator
        A shipped operator's name, an operator file, or an operator. By default the operator of
        ``atoms.calc`` if that is an `ATOMCalculator`.
    temperature_K, friction
        Langevin dynamics at a temperature in K with a friction in ASE's inverse unit of time.
    taut
        Stochastic velocity rescaling (Bussi) with this relaxation time in ASE's unit, instead of
        ``friction``.
    settings
        Those of another ensemble by name, in ASE's units: ``{"collision_rate": 0.01 / units.fs}``
        makes Andersen's thermostat.
    fixcm
        Fix the centre of mass, with a thermostat; this is its default. Unlike in ASE's Langevin,
        the noise is not rescaled.
    energy_correction
        True scales the vibrational momenta at the end of each jump, so that the total energy with
        the operator's own potential is conserved. An ASE calculator conserves the energy with its
        potential instead. False switches the correction off.
    reversible
        Make jumps reversible in time, at the cost of three to seven jumps; see
        `ase_atom.propagation.reversible_jump`. This is the default in microcanonical and Bussi
        dynamics, where nothing else returns the energy that single vibrations lose in jumps. By
        default in Langevin and Andersen dynamics jumps of several passes are reversible on
        average, at the cost of a jump and a half. False: each jump is a single one.
    evaluate
        True: ``atoms.calc`` computes energy and forces at steps where an observer is called, so
        that trajectories hold them. False: they are computed only if an observer asks for them.
    rng
        Source of the thermostat's noise, with numpy's ``standard_normal``; ``numpy.random`` by
        default, as in ASE.
    seed
        Seed of a separate source of noise, instead of ``rng``.
    threads
        Number of torch threads while the operator computes; None keeps the script's setting.
    restart
        A file with everything that the rest of the run depends on. If it exists, the run continues
        from it: the atoms get its positions and momenta, ``nsteps`` gets its value, ``trajectory``
        and ``logfile`` are appended to, and nothing is written twice. All other settings must be
        the same. The script's own observers are not restored.
    restart_interval
        Number of jumps after which that file is replaced. It is also written at the end of each
        `run`.
    accept_error
        Go on where the jumps' expected error is so large that the run would be refused.
    tolerance, fallback
        Divide strides where jumps are expected to err more, and move the molecule with the forces
        of an ASE calculator, which needs a thermostat, where even short jumps do; see
        `ase_atom.propagation.Adaptive`. The default of ``stride`` is then the longest, 64 fs or the
        operator's horizon.
    **kwargs
        ``trajectory``, ``logfile``, ``loginterval`` and so on, as in `ase.md`. The ending of
        ``trajectory`` sets its format, see `ase_atom.io.open_trajectory`.

    Attributes
    ----------
    adaptive
        Divides the strides, and counts how: its `sentence` is logged at the end of each `run`. None
        without ``tolerance`` and ``fallback``.

    Raises
    ------
    ConfigError
        For a stride that is not a multiple of the time step, times in another unit, and settings
        that are unknown, contradict each other or have no effect; for a restart file of another
        molecule or with other settings.
    FileFormatError
        For a restart file that is damaged, or not written by this class.
    CoverageError
        For a molecule, element, mass, charge, cell or constraint that the operator does not cover.
    FallbackError
        In a run, if the calculator fails; observers have seen all frames before.
    HorizonError
        For a stride beyond the operator's horizon.
    StateError
        For a molecule that is broken before the first step.
    TrustError
        For jumps that are expected to err too much, see `ase_atom.propagation.look_ahead`.
    TrajectoryError
        For a trajectory with an unknown ending, or that cannot be written.

    Warns
    -----
    CoverageWarning, TrustWarning
        For a molecule, a thermostat's temperature or a temperature of the first momenta outside
        the operator's training; for jumps that are expected to err much.
    UserWarning
        For Bussi's thermostat with a structure near a minimum, see `ase_atom.equilibrate`.
    """

    @known_keywords(*OF_ASE)
    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        *,
        stride: float | None = None,
        operator: str | Path | OperatorLike | None = None,
        temperature_K: float | None = None,
        friction: float | None = None,
        taut: float | None = None,
        settings: Mapping[str, float] | None = None,
        fixcm: bool | None = None,
        energy_correction: bool | GetPropertiesMixin = True,
        reversible: bool | None = None,
        evaluate: bool = True,
        rng: Any = None,
        seed: int | None = None,
        threads: int | None = 1,
        restart: str | Path | None = None,
        restart_interval: int = RESTART_INTERVAL,
        accept_error: bool = False,
        tolerance: float | None = None,
        fallback: Any = None,
        **kwargs: Any,
    ) -> None:
        is_for_ase(kwargs.get("trajectory"))  # raises for an ending that stands for no format
        check_interval("loginterval", kwargs.get("loginterval", 1))
        for name, flag in {"evaluate": evaluate, "accept_error": accept_error}.items():
            check_flag(name, flag)
        chosen = ase_settings(
            atoms,
            stride=stride,
            temperature_K=temperature_K,
            friction=friction,
            taut=taut,
            settings=settings,
            fixcm=fixcm,
            energy_correction=energy_correction,
            reversible=reversible,
        )
        self.operator = choose_operator(atoms, operator)
        self.ensemble = chosen.ensemble(self.operator)
        self.adaptive = Adaptive.asked(tolerance, fallback)
        step_length = ase_time("timestep", timestep)
        self.steps_per_stride, leaps = stride_in_steps(
            self.operator, chosen, step_length, self.adaptive is not None
        )
        self._noise = choose_noise(rng, seed, isinstance(self.ensemble, Thermostat))
        potential = choose_potential(energy_correction, self.operator, atoms)
        self.evaluate = evaluate
        if kwargs.get("logfile") and not computes(atoms):
            has = "results of one frame alone" if atoms.calc else "no calculator"
            raise ConfigError(
                f"logfile needs energies, and the atoms have {has}: set atoms.calc = "
                "ATOMCalculator(...), or leave logfile out"
            )
        start = PhaseState.from_atoms(atoms)
        start = start.without_drift() if fixes_centre_of_mass(atoms) else start
        state = self.ensemble.prepare(start)
        make: Callable[..., JumpPath] = JumpPath
        if leaps:
            refuse_leaps(self.adaptive)
            make = LeapPath
        elif self.adaptive is not None:
            self.adaptive.check(self.operator, self.ensemble, state)
            make = partial(DividedPath, adaptive=self.adaptive)
        self._path = make(
            self.operator,
            self.ensemble,
            state,
            step_length,
            self.steps_per_stride,
            potential=potential,
            threads=threads,
        )
        goes_on = self._find_restart(
            restart, restart_interval, state, step_length, energy_correction, kwargs
        )
        begins = None if goes_on else start
        self._warn(reservations(self._card, [structure_of(atoms)], self.ensemble, begins), atoms)
        if not goes_on:
            if not leaps:
                accepts = accept_error or fallback is not None
                usual = chosen.choose_stride(self.operator)
                look_ahead(self.operator, state, self.ensemble, usual, accepts)
            if cold := cold_start(self.operator, self.ensemble, state):
                warn(cold)
        # All is checked: only now files are opened and momenta changed.
        self._open_files(atoms, timestep, kwargs)
        self._dt = self.dt
        for name in ("positions", "momenta"):  # numbers of single precision hold no path
            atoms.arrays[name] = np.asarray(atoms.arrays[name], dtype=float)
        self._template = state
        self._stated = stated(atoms)
        self._fixed = fixes_centre_of_mass(atoms)
        self._mass_over_fs = atoms.get_masses()[:, None] / FS
        atoms.arrays["momenta"][...] = state.velocities[0].numpy() * self._mass_over_fs
        # The frames of the path under way, and what the atoms were left as.
        self._positions = self._path.positions.numpy()
        self._momenta = self._path.velocities.numpy() * self._mass_over_fs
        self._left = atoms.get_positions(), atoms.get_momenta()
        self._go_on()

    @property
    def degrees_of_freedom(self) -> int:
        """N_f, the number of thermal degrees of freedom."""
        return int(self.ensemble.degrees_of_freedom(PhaseState.from_atoms(self.atoms))[0])

    def get_temperature(self) -> float:
        """Return the kinetic temperature in K that goes with `degrees_of_freedom`."""
        return float(self.ensemble.temperature(PhaseState.from_atoms(self.atoms))[0])

    def set_temperature(self, temperature_K: float) -> None:
        """Set the thermostat's temperature in K, from the next thermostat step on.

        Raises
        ------
        ConfigError
            If there is no thermostat, or for a temperature that is not above zero.
        """
        if not isinstance(self.ensemble, Thermostat):
            raise ConfigError("microcanonical dynamics have no temperature to set")
        self.ensemble = replace(self.ensemble, temperature_K=temperature_K)
        self._warn(reservations(self._card, ensemble=self.ensemble), self.atoms)

    def set_friction(self, friction: float) -> None:
        """Set the friction in ASE's inverse unit of time, from the next thermostat step on.

        Raises
        ------
        ConfigError
            Unless this is Langevin dynamics, or for a friction that is not above zero.
        """
        if not isinstance(self.ensemble, Langevin):
            thermostatted = isinstance(self.ensemble, Thermostat)
            kind = f"{self.ensemble.title}'s" if thermostatted else "microcanonical"
            raise ConfigError(f"{kind} dynamics have no friction: only Langevin dynamics have one")
        self.ensemble = replace(self.ensemble, friction=friction * FS)

    def todict(self) -> dict[str, Any]:
        """Return what trajectory files note about the dynamics."""
        card = self._card
        noted: dict[str, Any] = super().todict()
        return (
            noted
            | {
                "stride": self.steps_per_stride * self.dt,
                "operator": card.name if card else "unnamed",
                "ensemble": repr(self.ensemble),
            }
            | ({} if self.adaptive is None else self.adaptive.settings())
        )

    @property
    def _card(self) -> OperatorCard | None:
        return self.operator.card

    def _warn(self, lines: list[str], atoms: Atoms) -> None:
        """Warn, also for the atoms' calculator, if it is of the same operator."""
        for line in lines:
            warn(line, CoverageWarning)
        if isinstance(atoms.calc, ATOMCalculator) and atoms.calc.operator is self.operator:
            atoms.calc.said.update(lines)

    @own_torch()
    def _state(self) -> PhaseState:
        """Return the state of the atoms, to whom observers may have done anything.

        Raises
        ------
        StateError
            If they are other atoms now, or a number is not finite.
        CoverageError
            If their masses, cell or constraints have become ones that the operator does not know.
        """
        atoms = self.atoms
        if not np.array_equal(atoms.numbers, self._template.numbers[0].numpy()):
            raise StateError(
                f"the molecule has become {atoms.get_chemical_formula()}, or its atoms are in "
                "another order: make a new propagator for it"
            )
        if (
            atoms.pbc.any()
            or not np.array_equal(atoms.get_masses(), self.masses[:, 0])
            or self._stated != stated(atoms)
        ):
            choose_operator(atoms, self.operator)  # which says what it does not cover
            if total_charge(atoms) != int(self._template.charge):
                raise StateError(
                    f"the molecule's total charge has become {total_charge(atoms):+d}: make a new "
                    "propagator for it"
                )
            self._stated = stated(atoms)
        self._fixed = fixes_centre_of_mass(atoms)
        velocities = momenta_of(atoms) / self._mass_over_fs
        for name, values in (("position", atoms.positions), ("momentum", velocities)):
            finite = np.isfinite(values)
            if not finite.all():
                label = atom_label(atoms.numbers, int(np.flatnonzero(~finite.all(axis=1))[0]))
                raise StateError(f"the {name} of atom {label} is not finite at step {self.nsteps}")
        if self._fixed and isinstance(self.ensemble, Thermostat) and not self.ensemble.fix_com:
            self.ensemble = replace(self.ensemble, fix_com=True)
        return self._state_of(atoms.positions, velocities)

    def _state_of(
        self, positions: NDArray[np.float64], velocities: NDArray[np.float64]
    ) -> PhaseState:
        state = self._template.replace(
            positions=torch.from_numpy(positions.copy())[None],
            velocities=torch.from_numpy(velocities.copy())[None],
        )
        return state.without_drift() if self._fixed else state
