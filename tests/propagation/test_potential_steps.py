"""Steps by an operator's own forces in place of its jumps: velocity Verlet, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from springs import SpringOperator

from ase_atom import (
    NVE,
    ATOMCalculator,
    ATOMPropagator,
    ATOMVerlet,
    Bussi,
    Langevin,
    PhaseState,
    PotentialSteps,
    Propagator,
    load_operator,
    simulate,
)
from ase_atom.errors import ConfigError, CoverageError, HorizonError
from ase_atom.operator import check_operator
from ase_atom.propagation import sample_velocities


def thermal(name: str, count: int = 1, seed: int = 3) -> PhaseState:
    state = PhaseState.from_atoms([molecule(name)] * count)
    return sample_velocities(state, 300.0, torch.Generator().manual_seed(seed))


def springs() -> SpringOperator:
    return SpringOperator(molecule("CH3CH2OH"), stiffness=20.0)


def last_of(run: Propagator, time: float) -> PhaseState:
    for _ in run.run(time):
        pass
    return run.state


@pytest.mark.parametrize("name", ["organic-wb97m", "ethanol-gfn2"])
def test_the_path_is_that_of_ases_velocity_verlet(name):
    state = thermal("CH3CH2OH", 2)
    steps = PotentialSteps(load_operator(name), 0.5)
    check_operator(steps)
    x, v = steps(state, torch.tensor([16.0, 0.0, 4.0], dtype=torch.float64))
    assert steps.leaps is steps.operator.leaps
    for row, atoms in enumerate(state.to_atoms()):
        atoms.calc = ATOMCalculator(name)
        for count, place in ((8, 2), (24, 0)):
            VelocityVerlet(atoms, 0.5 * units.fs).run(count)
            # Forces are computed in single precision.
            assert np.abs(x[row, place].numpy() - atoms.positions).max() < 1e-5
            ase = atoms.get_velocities() * units.fs
            assert np.abs(v[row, place].numpy() - ase).max() < 1e-5
    assert torch.equal(x[:, 1], state.positions)
    assert torch.equal(v[:, 1], state.velocities)


@pytest.mark.parametrize("ensemble", [NVE(), Bussi(300.0, 100.0), Langevin(300.0, 0.01)])
def test_steps_are_not_corrected(ensemble):
    """However a front end asks: the path between two thermostats is that of the forces alone."""
    calls = []

    class Counted(SpringOperator):
        def energy_and_forces(self, state):
            calls.append(len(state.positions))
            return super().energy_and_forces(state)

    steps = PotentialSteps(Counted(molecule("CH3CH2OH"), stiffness=20.0), 0.5)
    run = Propagator(steps, thermal("CH3CH2OH"), ensemble, 16.0)
    last_of(run, 16.0)
    calls.clear()  # the first answer may be for a warning of where the run begins
    last_of(run, 48.0)
    # One at the start of each jump, and one a step.
    assert len(calls) == 3 * 33
    assert not run.ensemble.reversible
    assert not run.ensemble.energy_correction


def test_energy_oscillates_about_what_it_keeps_and_a_path_retraces_itself():
    steps = PotentialSteps(load_operator("ethanol-gfn2")).in_double_precision()
    state = thermal("CH3CH2OH")
    run = Propagator(steps, state, NVE(), 16.0, 1.0)
    flat = [part.flat() for part in run.run(256.0)]
    total = torch.cat([steps.energy(each) + each.kinetic_energy() for each in flat]).numpy()
    kinetic = float(state.kinetic_energy())
    # A jump would end with the energy of its start to rounding.
    assert 1e-5 < np.std(total[::16]) / kinetic < 0.03
    early, late = (part.mean() for part in np.array_split(total, 2))
    assert abs(late - early) < 0.01 * kinetic
    back = run.state.replace(velocities=-run.state.velocities)
    home = last_of(Propagator(steps, back, NVE(), 16.0), 256.0)
    assert float((home.positions - state.positions).abs().max()) < 1e-9
    assert float((home.velocities + state.velocities).abs().max()) < 1e-9


def test_each_vibration_of_sulfur_dioxide_keeps_its_energy():
    """Where jumps meet a beat of two vibrations, see docs/general-operator.md."""
    from ase_atom.analysis.molecule.minima import modes_at
    from benchmarks.mode_temperatures import minimum_of, temperatures

    operator = load_operator("organic-wb97m", engine="auto")
    minimum = minimum_of(operator, "O=S=O")
    modes = modes_at(minimum)
    state = PhaseState.from_atoms(minimum).repeat(3)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(2))
    run = Propagator(PotentialSteps(operator, 1.0), state, NVE(), 16.0)
    kelvin = np.array([temperatures(modes, run.state) for _ in run.run(1600.0)])
    early, late = (part.mean(0)[:, 1:] for part in np.array_split(kelvin, 2))
    assert np.abs(late - early).max() < 0.25 * early.mean()


def test_ases_integrator_of_jumps_takes_steps_as_well():
    (atoms,) = thermal("CH3CH2OH").to_atoms()
    other, operator = atoms.copy(), load_operator("ethanol-gfn2")
    ATOMVerlet(atoms, units.fs, operator=PotentialSteps(operator)).run(40)
    other.calc = ATOMCalculator(operator)
    VelocityVerlet(other, units.fs).run(40)
    assert np.abs(atoms.positions - other.positions).max() < 1e-5


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_an_integrator_says_what_its_path_is(ensemble):
    (atoms,) = thermal("CH3CH2OH").to_atoms()
    steps = PotentialSteps(load_operator("ethanol-gfn2"))
    heat = {"temperature_K": 300, "friction": 0.01 / units.fs} if ensemble == "langevin" else {}
    dyn = ATOMPropagator(atoms, units.fs, operator=steps, **heat)
    assert not dyn.ensemble.reversible
    assert not dyn.ensemble.energy_correction


def test_what_is_for_jumps_is_refused_before_a_file_is_touched(tmp_path):
    (atoms,) = thermal("CH3CH2OH").to_atoms()
    steps = PotentialSteps(load_operator("ethanol-gfn2"))
    kept = tmp_path / "kept.traj"
    kept.write_bytes(b"somebody's")
    for options, message in (
        ({"timestep": 0.5 * units.fs}, r"0\.5 fs is no multiple of the time step of 1 fs"),
        ({"reversible": True}, "reversible is for jumps"),
        ({"energy_correction": ATOMCalculator("ethanol-gfn2")}, "energy jumps are to keep"),
        ({"tolerance": 0.1}, "a tolerance or a fallback is for jumps"),
    ):
        asked = {"timestep": units.fs, "operator": steps, "trajectory": str(kept), **options}
        with pytest.raises(ConfigError, match=message):
            ATOMVerlet(atoms, **asked)
    assert kept.read_bytes() == b"somebody's"
    state = PhaseState.from_atoms([atoms])
    for grid in ({"stride": 4.5}, {"frame_interval": 2.5}):
        with pytest.raises(ConfigError, match="no multiple of the time step of 1 fs; near ones"):
            Propagator(steps, state, **grid)
    with pytest.raises(ConfigError, match="another potential's energy"):
        Propagator(steps, state, potential=steps.operator.energy)


@dataclass(frozen=True)
class Own(NVE):
    """As a plugin might have it, without a way to switch corrections off."""

    reversible: bool = field(default=True, init=False)


def test_an_ensemble_that_cannot_be_had_without_corrections_is_refused():
    steps = PotentialSteps(springs())
    with pytest.raises(ConfigError, match="the ensemble NVE corrects jumps"):
        Propagator(steps, thermal("CH3CH2OH"), Own())


def test_molecules_of_a_batch_do_not_touch_each_other():
    operator = load_operator("organic-wb97m")
    atoms = [molecule("H2O"), molecule("CH3CH2OH")]
    state = PhaseState.from_atoms(atoms)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(1))
    steps, times = PotentialSteps(operator), torch.tensor([8.0], dtype=torch.float64)
    x, v = steps(state, times)
    alone = PhaseState.from_atoms(atoms[0])
    alone = alone.replace(velocities=state.velocities[:1, :3])
    own_x, own_v = steps(alone, times)
    assert float((x[0, :, :3] - own_x[0]).abs().max()) < 1e-6
    assert float((v[0, :, :3] - own_v[0]).abs().max()) < 1e-6
    assert not bool(v[0, :, 3:].any())


def test_a_simulation_by_steps_says_what_the_operator_covers():
    steps = PotentialSteps(load_operator("organic-wb97m"))
    run = simulate("O", "64 fs", operator=steps, ensemble="nve", equilibration="0 ps")
    assert run.operator == "organic-wb97m"
    assert run.expectation is None  # of jumps, which it does not make
    kinetic = np.array([run[n].get_kinetic_energy() for n in range(len(run))])
    total = run.energies + kinetic
    assert np.abs(total - total[0]).max() < 0.1 * kinetic.max()
    with pytest.raises(CoverageError, match="B"):
        simulate(molecule("BF3"), "64 fs", operator=steps, ensemble="nve")


def test_what_steps_cannot_do_is_refused():
    operator = springs()
    for timestep in (0.0, -1.0, 1e-9, 2.5, float("nan")):
        with pytest.raises(ConfigError, match=r"timestep must be from 0\.001 to 2 fs, not"):
            PotentialSteps(operator, timestep)
    for timestep in ("1fs", None, True):
        with pytest.raises(ConfigError, match="timestep is a number in fs, not"):
            PotentialSteps(operator, timestep)
    for time, error in ((0.5, ConfigError), (65.0, HorizonError)):
        with pytest.raises(error):
            PotentialSteps(operator)(thermal("CH3CH2OH"), torch.tensor([time]))

    class Mute(SpringOperator):
        has_energy = False

    with pytest.raises(ConfigError, match="no energy head, so it has no forces"):
        PotentialSteps(Mute(molecule("CH3CH2OH")))
    with pytest.raises(ConfigError, match="is no operator"):
        PotentialSteps("organic-wb97m")
