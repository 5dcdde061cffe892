"""Forces as an operator: the path is that of velocity Verlet, and leaps settle by it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import openmm
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from leaping import untrained_leaps

from ase_atom import CalculatorSteps, Langevin, OpenMMSteps, PhaseState, Propagator
from ase_atom.errors import ConfigError, HorizonError
from ase_atom.molecules.atoms import total_charge
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import check_operator
from ase_atom.propagation import sample_velocities
from ase_atom.propagation.stepwise import Stepwise


def start(count: int = 1) -> PhaseState:
    state = PhaseState.from_atoms([molecule("CH3CH2OH")] * count)
    return sample_velocities(state, 300.0, torch.Generator().manual_seed(3))


def springs(constraints: bool = False) -> openmm.System:
    """Ethanol with stiff springs between all bonded atoms, and soft ones between all others."""
    atoms = molecule("CH3CH2OH")
    system, bonded = openmm.System(), set(perceive_bonds(atoms.numbers, atoms.positions))
    for mass in atoms.get_masses():
        system.addParticle(mass)
    force = openmm.HarmonicBondForce()
    for i in range(len(atoms)):
        for j in range(i + 1, len(atoms)):
            stiffness = 250_000.0 if (i, j) in bonded else 5_000.0
            force.addBond(i, j, atoms.get_distance(i, j) / 10, stiffness)
    system.addForce(force)
    if constraints:
        system.addConstraint(0, 1, 0.15)
    return system


def test_a_calculators_path_is_that_of_ase():
    state = start()
    operator = CalculatorSteps(EMT(), 0.5)
    check_operator(operator)
    x, v = operator(state, torch.tensor([16.0, 0.0, 4.0], dtype=torch.float64))
    (atoms,) = state.to_atoms()
    atoms.calc = EMT()
    seen = {}
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    dyn.attach(lambda: seen.update({dyn.nsteps: (atoms.positions.copy(), atoms.get_velocities())}))
    dyn.run(32)
    for place, step in enumerate((32, 0, 8)):
        assert np.abs(x[0, place].numpy() - seen[step][0]).max() < 1e-10
        assert np.abs(v[0, place].numpy() - seen[step][1] * units.fs).max() < 1e-12
    energy, forces = operator.energy_and_forces(state)
    atoms.positions = state.positions[0].numpy()
    assert float(energy[0]) == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert np.abs(forces[0].numpy() - atoms.get_forces()).max() < 1e-12


def test_an_openmm_path_is_that_of_its_forces():
    operator = OpenMMSteps(springs(), 0.5)
    state = start(2)
    times = torch.tensor([8.0, 16.0], dtype=torch.float64)
    x, v = operator(state, times)
    slow = Stepwise.__call__(operator, state, times)
    for fast, each in zip((x, v), slow, strict=True):
        assert float((fast - each).abs().max()) < 1e-9
    first = operator.energy(state) + state.kinetic_energy()
    last = state.replace(positions=x[:, -1], velocities=v[:, -1])
    drift = (operator.energy(last) + last.kinetic_energy() - first).abs().max()
    assert float(drift) < 0.01 * float(state.kinetic_energy()[0])


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_molecules_of_a_batch_are_followed_one_after_the_other(precision):
    """A program that starts from its last answer finds one of the same molecule."""
    asked = []

    class Heard(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            asked.append(len(atoms))
            super().calculate(atoms, properties, system_changes)

    state = PhaseState.from_atoms([molecule("H2O"), molecule("CH3CH2OH")])
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(3))
    state = state.replace(
        masses=state.masses.to(precision),
        positions=state.positions.to(precision),
        velocities=state.velocities.to(precision),
    )
    x, _ = CalculatorSteps(Heard(), 0.5)(state, torch.tensor([8.0], dtype=torch.float64))
    assert x.dtype == precision
    assert asked == sorted(asked)
    assert not bool(x[0, :, 3:].any())


def test_leaps_settle_by_forces():
    operator = OpenMMSteps(springs(), 0.5, untrained_leaps())
    propagator = Propagator(operator, start(4), Langevin(300.0, 0.01), stride=1000.0, seed=5)
    for _ in propagator.run(3000.0):
        pass
    tally = propagator.leaping.tally
    assert tally.kept == 12
    # 21 harmonic vibrations have 21/2 k_BT, scattered by a tenth over twelve samples.
    assert tally.settled / tally.expected == pytest.approx(1.0, abs=0.35)


def test_what_forces_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="1 constraints, of which leaps know nothing"):
        OpenMMSteps(springs(constraints=True))
    with pytest.raises(ConfigError, match="time step of 0 fs"):
        CalculatorSteps(EMT(), 0.0)
    with pytest.raises(ConfigError, match="OpenMM: "):
        OpenMMSteps(springs(), platform="Abacus")
    operator = OpenMMSteps(springs(), 0.5)
    with pytest.raises(ConfigError, match=r"0\.7 fs is no multiple of the time step of 0\.5 fs"):
        operator(start(), torch.tensor([0.7], dtype=torch.float64))
    with pytest.raises(HorizonError, match="is not in a jump of up to 16 fs"):
        operator(start(), torch.tensor([17.0], dtype=torch.float64))
    other = PhaseState.from_atoms([molecule("CH3OH")])
    with pytest.raises(ConfigError, match="has 6 atoms, and the System 9 particles"):
        operator.energy(other)
    turned = PhaseState.from_atoms([molecule("CH3CH2OH")[::-1]])
    with pytest.raises(ConfigError, match="another order of atoms"):
        operator(turned, torch.tensor([1.0], dtype=torch.float64))


class Summing(Calculator):
    """The sum of the charges of the atoms, and what ``info`` states, are one."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        summed = float(self.atoms.get_initial_charges().sum())
        assert summed == pytest.approx(total_charge(self.atoms))
        self.results = {"energy": summed, "forces": np.zeros((len(self.atoms), 3))}


def test_a_calculator_hears_of_the_charge_of_an_ion() -> None:
    operator = CalculatorSteps(Summing())
    numbers, x = np.array([6, 8, 8, 1]), np.eye(4, 3)
    for charge in (-1, 0, 1):
        energy, _ = operator.evaluate(numbers, charge, x)
        assert energy == pytest.approx(charge)
