"""Operator jumps in the place of OpenMM's integrators."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import openmm
from openmm import unit
from openmm.app import Topology

from ase_atom.errors import ConfigError, StateError
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.values import check_flag
from ase_atom.errors.warning import warn
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.openmm.checks import (
    FORCE_NAME,
    SystemForces,
    check_kinds,
    check_molecule,
    check_system,
)
from ase_atom.openmm.jumps import JumpCallback
from ase_atom.openmm.molecule import molecule_bonds
from ase_atom.openmm.plan import Plan
from ase_atom.openmm.program import AHEAD, TARGET, parameters, write_program
from ase_atom.openmm.quantities import PLAIN, Quantity, plain_number, settings_of
from ase_atom.openmm.restart import (
    FORMAT,
    MADE_BY,
    MARK,
    RESTART,
    differences,
    mark_of,
    record_of,
)
from ase_atom.openmm.source import OperatorSource
from ase_atom.operator import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Thermostat, check_abilities, reservations
from ase_atom.propagation.leaps import LeapTally, stride_in_steps
from ase_atom.units import PS, fs_to_ps

_UNDIVIDED = (
    "OpenMM saves the start of a jump, from which its frames follow, and has no place for how the "
    "jumps before it were judged, so no checkpoint could go on; ATOMPropagator and ase-atom run "
    "take it"
)
"""Why strides are not divided here."""


class ATOMIntegrator(openmm.CustomIntegrator):
    """Molecular dynamics by jumps of an operator, with the interface of OpenMM's integrators.

    A step is one frame that is decoded from a jump, and a jump covers ``stride``. Jumps are on a
    grid of multiples of the stride from the first step. The grid does not depend on how `step` is
    called. On the grid the Context holds the state of the ensemble, after its thermostat. Between
    grid points it follows the path of the jump. If a script sets positions or velocities, the next
    step starts from them: the rest of the jump is decoded again from there.

    The integrator adds to the System:

    - a force, through which the operator's results reach OpenMM;
    - bonds with zero force constant, so that OpenMM treats the atoms as one molecule when it wraps
      positions;
    - a `CMMotionRemover`, if the centre of mass is fixed and the System has none, so that OpenMM's
      reporters count 3N - 3 degrees of freedom.

    For a System without other forces, energy and forces are those of the operator, so
    `minimizeEnergy` works. For an operator without an energy head they are zero.

    Parameters
    ----------
    system
        One isolated molecule. The integrator adds forces to it.
    topology
        Topology of the System.
    operator
        A shipped operator's name, an operator file, or an operator.
    timestep
        Time step, the time between frames; in ps without a unit.
    stride
        Length of a jump, a multiple of the time step; by default the card's recommendation. From
        0.5 ps on that of a leap, where the operator has leaps. The time step is then the stride.
    temperature, friction
        Temperature and friction of Langevin dynamics; in K and 1/ps without a unit.
    taut
        Relaxation time of stochastic velocity rescaling (Bussi), instead of ``friction``.
    fix_com
        Fix the centre of mass. This is the default with a thermostat, and for a System that has a
        `CMMotionRemover`.
    energy_correction
        Scale the vibrational velocities at the end of each jump, so that the total energy with the
        operator's own potential is conserved.
    reversible
        Make jumps reversible in time, at the cost of three to seven jumps; see
        `ase_atom.propagation.reversible_jump`. This is the default in microcanonical and Bussi
        dynamics, where nothing else returns the energy that single vibrations lose in jumps. By
        default in Langevin and Andersen dynamics jumps of several passes are reversible on
        average, at the cost of a jump and a half. False: each jump is a single one.
    system_forces
        "refuse" refuses a System with forces, since they have no effect on jumps. "report" accepts
        a force field, which reporters then evaluate. Biases, restraints and barostats are always
        refused.
    settings
        Settings of another ensemble by name: ``{"collision_rate": 10 / picosecond}`` makes
        Andersen's thermostat.
    accept_error
        Go on where the jumps' expected error is so large that the first step would refuse.

    Raises
    ------
    ConfigError
        For a stride that is not a multiple of the time step, settings that contradict each other,
        forces that must act on the molecule, or an operator without what a setting needs.
    CoverageError
        For a molecule, element, mass, box, constraint or particle that the operator does not cover.
    HorizonError
        For a stride beyond the operator's horizon.
    StateError
        For a System and a topology that do not match.
    """

    @known_keywords(refused={"tolerance": _UNDIVIDED, "fallback": _UNDIVIDED})
    @own_torch()
    def __init__(
        self,
        system: openmm.System,
        topology: Topology,
        operator: str | Path | OperatorLike,
        timestep: Quantity,
        stride: Quantity | None = None,
        temperature: Quantity | None = None,
        friction: Quantity | None = None,
        taut: Quantity | None = None,
        fix_com: bool | None = None,
        energy_correction: bool = True,
        reversible: bool | None = None,
        system_forces: SystemForces = "refuse",
        settings: Mapping[str, Quantity] | None = None,
        accept_error: bool = False,
    ) -> None:
        check_kinds(system, topology)
        check_flag("accept_error", accept_error)
        step_length = plain_number("timestep", timestep, unit.picosecond) * PS
        chosen = settings_of(
            temperature, friction, taut, settings, stride, fix_com, energy_correction, reversible
        )
        source = OperatorSource(operator)
        ensemble = chosen.ensemble(source.operator)
        thermostatted = isinstance(ensemble, Thermostat)
        held = _is_held(system, fix_com, thermostatted)
        check_abilities(source.operator, energy_correction)
        length = chosen.choose_stride(source.operator)
        frames, leaps = stride_in_steps(source.operator, ensemble, length, step_length, PLAIN)
        molecule = check_molecule(topology, source.operator)
        check_system(system, molecule, system_forces)
        group = _free_group(system)

        super().__init__(fs_to_ps(step_length))
        target = ensemble.temperature_K if isinstance(ensemble, Thermostat) else 0.0
        for line in reservations(source.operator.card, ensemble=ensemble):
            warn(line, CoverageWarning)
        own_energy = source.operator.has_energy and system_forces == "refuse"
        still = held and not thermostatted  # thermostats see to it themselves
        plan = Plan(ensemble, step_length, frames, still, own_energy, accept_error, leaps)
        self._callback = JumpCallback(source, molecule, plan)
        self._record = record_of(plan, held, source.fingerprint(with_leaps=leaps))
        self._mark, self._target = mark_of(self._record, target), target
        write_program(self, frames, group, target, self._record)
        force = openmm.PythonForce(self._callback, parameters())
        force.setForceGroup(group)
        force.setName(FORCE_NAME)
        if held and not _has_remover(system):
            system.addForce(openmm.CMMotionRemover())
        system.addForce(molecule_bonds(range(len(molecule.numbers))))
        system.addForce(force)
        # Weak, and so shared with copies, which work with the same System's force.
        self._system, self._finished = weakref.ref(system), _contents(system)

    def step(self, steps: int) -> None:
        """Advance by some time steps.

        Raises
        ------
        BrokenStateError
            At the first step whose state is no molecule any more; the Context keeps the last good
            one.
        ConfigError
            If the System was changed after the integrator was made.
        StateError
            For positions or velocities that were set to what is no number, or after another
            integrator's checkpoint was loaded.
        CoverageError
            For positions of a molecule that the operator was not trained for.
        TrustError
            At the first step, for jumps that are expected to err too much.
        """
        system = self._system()
        if system is not None and _contents(system) != self._finished:
            raise ConfigError(
                "forces, constraints or masses of the System were changed after the integrator was "
                "made, and this has no effect on jumps: make the integrator last"
            )
        self._look_at_settings()
        self._callback.take_error()  # an older one, of a question for the energy
        self.setGlobalVariableByName(AHEAD, max(steps - 1, 0))
        try:
            super().step(steps)
        except openmm.OpenMMException as message:
            error = self._callback.take_error()
            if error is None:
                raise
            raise error from message
        error = self._callback.take_error()
        if error is not None:  # an interruption in the last step
            raise error

    @property
    def leaps(self) -> LeapTally | None:
        """What leaps came to in this process: samples kept and drawn again; None of jumps."""
        return self._callback.tally

    def getTemperature(self) -> unit.Quantity:
        """Return the thermostat's temperature.

        Raises
        ------
        ConfigError
            If there is no thermostat.
        """
        self._need_thermostat()
        return self._target * unit.kelvin

    def setTemperature(self, temperature: Quantity) -> None:
        """Set the thermostat's temperature, from the next jump on.

        Warns of one that the operator was not trained for.

        Raises
        ------
        ConfigError
            If there is no thermostat, or for a temperature that is not above zero.
        """
        self._need_thermostat()
        value = plain_number("temperature", temperature, unit.kelvin)
        ensemble = replace(cast(Any, self._callback.plan.ensemble), temperature_K=value)
        for line in reservations(self._callback.source.operator.card, ensemble=ensemble):
            warn(line, CoverageWarning)
        self._target = value
        self.setGlobalVariableByName(TARGET, value)

    def setStepSize(self, size: Quantity) -> None:
        """Refuse another time step than the one that jumps are divided by.

        Raises
        ------
        ConfigError
            For another time step.
        """
        value = plain_number("the time step", size, unit.picosecond)
        present = self.getStepSize()._value
        if abs(value - present) > 1e-9 * present:
            raise ConfigError(
                f"jumps are divided into time steps of {present * PS:g} fs, not {value * PS:g} fs: "
                "make a new integrator"
            )

    def _look_at_settings(self) -> None:
        """See to it that our own settings hold, and say where those of a loaded state differ.

        Raises
        ------
        StateError
            If what was loaded is another integrator's.
        """
        target = self.getGlobalVariableByName(TARGET)
        mark = self.getGlobalVariableByName(MARK)
        if mark in (self._mark, RESTART) and target == self._target:
            return
        loaded = {name: self.getGlobalVariableByName(name) for name in self._record}
        if loaded[MADE_BY] != FORMAT:
            self._keep(RESTART)
            raise StateError(
                "a checkpoint of another integrator was loaded, which knows nothing of jumps: copy "
                "positions and velocities instead, with context.setPositions and setVelocities"
            )
        found = differences(self._record, self._target, loaded, target)
        self._keep(self._mark if loaded == self._record else RESTART)
        if found:
            warn(
                "the loaded state was written with other settings; this integrator uses its own: "
                f"{'; '.join(found)}"
            )

    def _keep(self, mark: float) -> None:
        """Set the variables to our own settings."""
        for name, value in self._record.items():
            self.setGlobalVariableByName(name, value)
        self.setGlobalVariableByName(TARGET, self._target)
        self.setGlobalVariableByName(MARK, mark)

    def _need_thermostat(self) -> None:
        if not isinstance(self._callback.plan.ensemble, Thermostat):
            raise ConfigError("the integrator is microcanonical and has no temperature to set")


def _has_remover(system: openmm.System) -> bool:
    return any(type(force) is openmm.CMMotionRemover for force in system.getForces())


def _is_held(system: openmm.System, fix_com: bool | None, thermostatted: bool) -> bool:
    """Say whether the centre of mass is held."""
    removes = _has_remover(system)
    if removes and fix_com is False:
        raise ConfigError(
            "the System has a CMMotionRemover, and fix_com=False asks for a free centre of mass: "
            "leave one of them out"
        )
    return removes or thermostatted if fix_com is None else fix_com


def _free_group(system: openmm.System) -> int:
    """Return a force group that no force of the System is in."""
    taken = {force.getForceGroup() for force in system.getForces()}
    free = [group for group in range(32) if group not in taken]
    if not free:
        raise ConfigError("the System's forces take all 32 force groups: leave one for the jumps")
    return free[-1]


def _contents(system: openmm.System) -> tuple[Any, ...]:
    """Return what a jump cannot follow if it changes."""
    count = system.getNumParticles()
    masses = tuple(system.getParticleMass(index)._value for index in range(count))
    return system.getNumForces(), system.getNumConstraints(), masses
