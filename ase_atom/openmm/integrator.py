"""Operator jumps in the place of OpenMM's integrators."""

from __future__ import annotations

import warnings
import weakref
from pathlib import Path

import openmm
from openmm import unit
from openmm.app import Topology

from ase_atom.coverage import temperature_warning
from ase_atom.errors import ConfigError, StateError
from ase_atom.openmm.bonds import molecule_bonds
from ase_atom.openmm.checks import FORCE_NAME, SystemForces, check_molecule, check_system
from ase_atom.openmm.jumps import JumpCallback, Plan
from ase_atom.openmm.program import TARGET, parameters, write_program
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
from ase_atom.operator import Operator
from ase_atom.propagation import NVE, Bussi, Ensemble, Langevin, Thermostat, steps_per_stride
from ase_atom.units import PS, fs_to_ps

Quantity = unit.Quantity | float
"""With a unit, or a plain number in OpenMM's: ps, K, 1/ps."""


class ATOMIntegrator(openmm.CustomIntegrator):
    """Molecular dynamics by jumps of an operator, with the interface of OpenMM's integrators.

    A step is one frame that is decoded from a jump, and a jump spans ``stride``. Jumps lie on a
    grid of multiples of the stride from the first step, however `step` is called. On the grid the
    Context holds the state of the ensemble, after its thermostat; between, the path of the jump.
    Positions or velocities that are set from outside are where the next step starts: the rest of
    the jump is then decoded anew from there.

    The System gets a force through which the operator answers, bonds of zero strength, by which
    OpenMM knows that the atoms are one molecule and keeps it whole where it wraps positions, and,
    if the centre of mass is held and it has none, a `CMMotionRemover`, by which OpenMM's reporters
    know that the molecule has 3N - 3 degrees of freedom. A System without forces of its own reports
    the operator's energy and forces, so `minimizeEnergy` works on it; with an operator that has no
    energy head they are zero.

    Parameters
    ----------
    system
        One isolated molecule; gets the integrator's force.
    topology
        What the System was made from.
    operator
        A shipped operator's name, a checkpoint file, or an operator.
    timestep
        Time between frames.
    stride
        Length of a jump, a multiple of the time step; the card's recommendation by default.
    temperature, friction
        Langevin dynamics.
    taut
        Stochastic velocity rescaling (Bussi) with this relaxation time, instead of ``friction``.
    fix_com
        Hold the centre of mass. By default thermostatted dynamics do, and microcanonical ones if
        the System has a `CMMotionRemover`.
    energy_correction
        Scale the vibrational velocities at the end of each jump so that the total energy with the
        operator's own potential is kept.
    reversible
        Make jumps reversible in time, at three passes of the operator instead of one; see
        `ase_atom.propagation.reversible_jump`. By default in microcanonical and Bussi dynamics,
        where nothing else gives back what single vibrations lose to the operator's error.
    system_forces
        "refuse" a System with forces, which do not act on jumps; "report" says that its force
        field is there for reporters to evaluate. Biases, restraints and barostats are refused
        even so.

    Raises
    ------
    ConfigError
        For a stride that is no multiple of the time step, settings that contradict each other,
        forces that would have to act, or an operator that cannot do what is asked.
    CoverageError
        For a molecule, element, mass, box, constraint or particle that the operator cannot serve.
    HorizonError
        For a stride past the operator's horizon.
    StateError
        For a System and a topology that do not go together.
    """

    def __init__(
        self,
        system: openmm.System,
        topology: Topology,
        operator: str | Path | Operator,
        timestep: Quantity,
        stride: Quantity | None = None,
        temperature: Quantity | None = None,
        friction: Quantity | None = None,
        taut: Quantity | None = None,
        fix_com: bool | None = None,
        energy_correction: bool = True,
        reversible: bool | None = None,
        system_forces: SystemForces = "refuse",
    ) -> None:
        step_length = _value(timestep, unit.picosecond) * PS
        removes = any(type(force) is openmm.CMMotionRemover for force in system.getForces())
        if fix_com is None:
            fix_com = removes or temperature is not None
        elif removes and not fix_com:
            raise ConfigError(
                "the System has a CMMotionRemover, and fix_com=False asks for a free centre of "
                "mass: leave one of them out"
            )
        ensemble = _ensemble(temperature, friction, taut, fix_com, energy_correction, reversible)
        source = OperatorSource(operator)
        has_energy = getattr(source.operator, "has_energy", True)
        if not getattr(source.operator, "predicts_velocities", True):
            raise ConfigError("the operator predicts no velocities, so it moves no molecule")
        if energy_correction and not has_energy:
            raise ConfigError(
                "the operator has no energy head to keep the energy with: give "
                "energy_correction=False"
            )
        card = getattr(source.operator, "card", None)
        if stride is None and card is None:
            raise ConfigError("an operator without a card recommends no stride: give stride=")
        length = card.stride_fs if stride is None else _value(stride, unit.picosecond) * PS
        frames = steps_per_stride(length, step_length, source.operator.horizon)
        numbers, masses = check_molecule(topology, source.operator)
        check_system(system, numbers, masses, system_forces)
        group = _free_group(system)

        super().__init__(fs_to_ps(step_length))
        self._thermostatted = isinstance(ensemble, Thermostat)
        target = ensemble.temperature_K if self._thermostatted else 0.0
        if self._thermostatted and card and (warning := temperature_warning(target, card)):
            warnings.warn(warning, stacklevel=2)
        still = fix_com and not self._thermostatted  # thermostats see to it themselves
        own_energy = has_energy and system_forces == "refuse"
        plan = Plan(ensemble, step_length, frames, still, own_energy)
        self._callback = JumpCallback(source, numbers, masses, plan)
        force = openmm.PythonForce(self._callback, parameters())
        force.setForceGroup(group)
        force.setName(FORCE_NAME)
        self._record = record_of(
            ensemble, fix_com, step_length, frames * step_length, source.checksum
        )
        self._mark, self._target = mark_of(self._record, target), target
        write_program(self, frames, group, target, self._record)
        if fix_com and not removes:
            system.addForce(openmm.CMMotionRemover())
        system.addForce(molecule_bonds(range(len(numbers))))
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
        """
        system = self._system()
        if system is not None and _contents(system) != self._finished:
            raise ConfigError(
                "the System was given forces, constraints or masses after the integrator was made, "
                "and none of that acts on jumps: make the integrator last"
            )
        self._look_at_settings()
        self._callback.take_error()  # an older one, of a question for the energy
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
        value = _value(temperature, unit.kelvin)
        Langevin(value)  # which refuses impossible ones
        card = getattr(self._callback.source.operator, "card", None)
        if card and (warning := temperature_warning(value, card)):
            warnings.warn(warning, stacklevel=2)
        self._target = value
        self.setGlobalVariableByName(TARGET, value)

    def setStepSize(self, size: Quantity) -> None:
        """Refuse another time step than the one that jumps are divided by.

        Raises
        ------
        ConfigError
            For another time step.
        """
        value, present = _value(size, unit.picosecond), self.getStepSize()._value
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
            warnings.warn(
                "the state that was loaded was written with other settings, and those of this "
                f"integrator hold: {'; '.join(found)}",
                stacklevel=3,
            )

    def _keep(self, mark: float) -> None:
        """Set the variables to our own settings."""
        for name, value in self._record.items():
            self.setGlobalVariableByName(name, value)
        self.setGlobalVariableByName(TARGET, self._target)
        self.setGlobalVariableByName(MARK, mark)

    def _need_thermostat(self) -> None:
        if not self._thermostatted:
            raise ConfigError("the integrator is microcanonical and has no temperature to set")


def _value(quantity: Quantity, wanted: unit.Unit) -> float:
    """Return a number in OpenMM's unit.

    Raises
    ------
    ConfigError
        For a quantity of another dimension.
    """
    if not unit.is_quantity(quantity):
        return float(quantity)
    try:
        return float(quantity.value_in_unit(wanted))
    except TypeError as error:
        raise ConfigError(f"{quantity} cannot be given in {wanted}") from error


def _ensemble(
    temperature: Quantity | None,
    friction: Quantity | None,
    taut: Quantity | None,
    fix_com: bool,
    energy_correction: bool,
    reversible: bool | None,
) -> Ensemble:
    if friction is not None and taut is not None:
        raise ConfigError("friction is Langevin's and taut is Bussi's: give one of them")
    if temperature is None:
        if friction is not None or taut is not None:
            name = "friction" if taut is None else "taut"
            raise ConfigError(f"{name} makes a thermostat, which needs a temperature as well")
        return NVE(energy_correction, reversible is not False)
    kelvin = _value(temperature, unit.kelvin)
    if friction is not None:
        rate = _value(friction, unit.picosecond**-1) / PS
        return Langevin(kelvin, rate, fix_com, energy_correction, bool(reversible))
    if taut is not None:
        tau = _value(taut, unit.picosecond) * PS
        return Bussi(kelvin, tau, fix_com, energy_correction, reversible is not False)
    raise ConfigError(
        f"a temperature of {kelvin:g} K needs a thermostat: friction= for Langevin dynamics, or "
        "taut= for stochastic velocity rescaling"
    )


def _free_group(system: openmm.System) -> int:
    """Return a force group that no force of the System is in."""
    taken = {force.getForceGroup() for force in system.getForces()}
    free = [group for group in range(32) if group not in taken]
    if not free:
        raise ConfigError("the System's forces take all 32 force groups: leave one for the jumps")
    return free[-1]


def _contents(system: openmm.System) -> tuple:
    """Return what a jump cannot follow if it changes."""
    count = system.getNumParticles()
    masses = tuple(system.getParticleMass(index)._value for index in range(count))
    return system.getNumForces(), system.getNumConstraints(), masses
