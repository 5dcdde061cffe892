"""The OpenMM integrator: the same physics as everywhere, in stock Simulations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from ase.build import molecule
from openmm import unit
from openmm_systems import LANGEVIN, Springs, bare_system, march, phase, simulate

from ase_atom import NVE, Bussi, Langevin, PhaseState, Propagator, load_operator
from ase_atom.errors import BrokenStateError
from ase_atom.io.topology import openmm_topology
from ase_atom.openmm.jumps import KeyedNoise
from ase_atom.openmm.program import SEED
from ase_atom.propagation import Step, advance, sample_velocities
from ase_atom.units import KB, KJ_MOL

BUSSI = {"temperature": 300 * unit.kelvin, "taut": 20 * unit.femtosecond}


@pytest.fixture(params=["Reference", "CPU"])
def platform(request) -> str:
    return request.param


@pytest.fixture
def springs(ethanol) -> Springs:
    return Springs(ethanol)


@pytest.mark.parametrize("correction", [False, True])
def test_the_trajectory_is_the_propagators(ethanol, platform, correction):
    operator = load_operator("ethanol-gfn2", engine="auto")
    state = PhaseState.from_atoms(ethanol)
    state = sample_velocities(state, 300.0, torch.Generator().manual_seed(1))
    propagator = Propagator(operator, state, NVE(correction, reversible=True), 16.0, 0.5)
    frames = list(propagator.run(100.0))
    expected = torch.stack(
        [torch.cat([f.positions[0] for f in frames]), torch.cat([f.velocities[0] for f in frames])],
        dim=1,
    )[1:]

    simulation = simulate(
        ethanol,
        "ethanol-gfn2",
        platform,
        stride=16.0,
        velocities=state.velocities[0].numpy(),
        energy_correction=correction,
    )
    found = march(simulation, 200)
    assert np.abs(found - expected.numpy()).max() < 1e-8  # Å and Å/fs
    assert simulation.context.getState().getTime() / unit.femtosecond == pytest.approx(100.0)
    simulation.minimizeEnergy()
    simulation.step(1)


@pytest.mark.parametrize(
    ("settings", "ensemble"),
    [
        (LANGEVIN, Langevin(300.0, 0.01, energy_correction=True)),
        (BUSSI, Bussi(300.0, 20.0, energy_correction=True, reversible=True)),
    ],
)
def test_a_jump_is_the_step_of_the_ensemble(ethanol, springs, settings, ensemble):
    velocities = 0.001 * ethanol.positions
    state = PhaseState.from_atoms(ethanol)
    state = ensemble.prepare(state.replace(velocities=torch.from_numpy(velocities)[None]))
    simulation = simulate(ethanol, springs, velocities=velocities, **settings)
    found = march(simulation, 8)

    noise = KeyedNoise().of(int(simulation.context.getParameters()[SEED]))
    offsets = torch.arange(1, 9, dtype=torch.float64) * 0.5
    expected = advance(springs, ensemble, state, offsets, Step(4.0, noise, springs.energy))
    assert np.abs(found - torch.stack(expected, dim=2)[0].numpy()).max() < 1e-12


def test_langevin_dynamics_keep_the_canonical_distribution():
    water = molecule("H2O")
    springs = Springs(water)
    simulation = simulate(
        water, springs, timestep=16.0, stride=16.0, energy_correction=False, **LANGEVIN
    )
    simulation.step(50)
    state = PhaseState.from_atoms(water)
    positions, velocities = torch.from_numpy(march(simulation, 600)).unbind(1)
    states = state.repeat(600).replace(positions=positions, velocities=velocities)
    assert states.linear_momentum().abs().max() < 1e-12
    # Six degrees of freedom move against the centre of mass, and springs bind all of them.
    expected = 3 * KB * 300.0
    correlation = 4.0  # friction forgets in 100 fs, of which half is in either energy
    deviation = expected * (correlation * 2 / 6 / 600) ** 0.5
    for energies in (states.kinetic_energy(), springs.energy(states)):
        assert abs(energies.mean() - expected) < 3.5 * deviation
        assert energies.var() == pytest.approx(expected**2 / 3, rel=0.3)


@pytest.mark.parametrize("settings", [{}, LANGEVIN, BUSSI])
def test_a_run_may_be_cut_anywhere(ethanol, springs, settings):
    whole = simulate(ethanol, springs, **settings)
    whole.step(40)
    parts = simulate(ethanol, springs, **settings)
    for steps in (3, 5, 1, 12, 19):
        parts.integrator.step(steps)
    assert np.array_equal(phase(whole), phase(parts))


@pytest.mark.parametrize("settings", [{}, LANGEVIN, BUSSI])
@pytest.mark.parametrize("steps", [5, 8, 13])
def test_a_checkpoint_continues_to_the_last_bit(ethanol, springs, platform, settings, steps):
    first = simulate(ethanol, springs, platform, **settings)
    first.step(steps)
    checkpoint = first.context.createCheckpoint()
    expected = march(first, 20)

    fresh = simulate(ethanol, Springs(ethanol), platform, seed=9, **settings)
    fresh.context.loadCheckpoint(checkpoint)
    assert np.array_equal(march(fresh, 20), expected)

    first.context.loadCheckpoint(checkpoint)  # back in time: frames of a later jump are there
    assert np.array_equal(march(first, 20), expected)


def test_checkpoints_of_checkpoints_continue_to_the_last_bit(ethanol, springs):
    first = simulate(ethanol, springs, **LANGEVIN)
    first.step(9)
    checkpoint = first.context.createCheckpoint()
    expected = march(first, 30)
    for steps in range(3):  # each a step further into the same jump
        fresh = simulate(ethanol, springs, seed=7 + steps, **LANGEVIN)
        fresh.context.loadCheckpoint(checkpoint)
        fresh.step(1)
        checkpoint = fresh.context.createCheckpoint()
    assert np.array_equal(march(fresh, 27), expected[3:])


def test_a_saved_state_continues_its_jump_and_then_has_noise_of_its_own(ethanol, springs, tmp_path):
    first = simulate(ethanol, springs, **LANGEVIN)
    first.step(5)
    first.saveState(str(tmp_path / "state.xml"))
    expected = march(first, 11)
    fresh = simulate(ethanol, springs, seed=9, **LANGEVIN)
    fresh.loadState(str(tmp_path / "state.xml"))
    found = march(fresh, 11)
    assert np.array_equal(found[:3], expected[:3])
    assert np.abs(found[-1] - expected[-1]).max() > 1e-3


def test_without_noise_a_saved_state_continues_to_the_last_bit(ethanol, springs, tmp_path):
    first = simulate(ethanol, springs)
    first.step(5)
    first.saveState(str(tmp_path / "state.xml"))
    fresh = simulate(ethanol, springs)
    fresh.loadState(str(tmp_path / "state.xml"))
    assert np.array_equal(march(fresh, 20), march(first, 20))


def test_seeds_decide_the_noise(ethanol, springs):
    start = 0.001 * np.ones((9, 3))
    ends = []
    for seed in (1, 1, 2):
        simulation = simulate(ethanol, springs, seed=seed, velocities=start, **LANGEVIN)
        simulation.step(16)
        ends.append(phase(simulation))
    assert np.array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


def test_what_is_changed_from_outside_is_where_the_next_step_starts(ethanol, springs):
    state = PhaseState.from_atoms(ethanol)
    simulation = simulate(ethanol, springs)
    simulation.step(3)
    positions, velocities = phase(simulation)
    positions[0] += 0.05
    velocities[3] *= 0.5
    simulation.context.setPositions(positions * unit.angstrom)
    simulation.context.setVelocities(velocities * unit.angstrom / unit.femtosecond)
    start = state.replace(
        positions=torch.from_numpy(positions)[None], velocities=torch.from_numpy(velocities)[None]
    )
    # The grid stays: five steps are left of the stride.
    expected, _ = springs(start, torch.arange(1, 6, dtype=torch.float64) * 0.5)
    assert np.abs(march(simulation, 5)[:, 0] - expected[0].numpy()).max() < 1e-12


def test_nothing_restarts_a_jump_that_was_only_looked_at(ethanol, springs):
    quiet, watched = (simulate(ethanol, springs) for _ in range(2))
    quiet.step(20)
    for _ in range(20):
        watched.step(1)
        state = watched.context.getState(positions=True, velocities=True, forces=True, energy=True)
        watched.context.setPositions(state.getPositions())
        watched.context.setVelocities(state.getVelocities())
    assert np.array_equal(phase(quiet), phase(watched))


def test_a_new_temperature_holds_from_the_next_jump_on(ethanol, springs):
    settings = {"temperature": 300, "friction": 500, "energy_correction": False}
    simulation = simulate(ethanol, springs, timestep=16.0, stride=16.0, **settings)
    simulation.step(20)
    simulation.integrator.setTemperature(900 * unit.kelvin)
    assert simulation.integrator.getTemperature() == 900 * unit.kelvin
    simulation.step(10)
    state = PhaseState.from_atoms(ethanol)
    temperatures = [
        float(state.replace(velocities=torch.from_numpy(frame[1])[None]).temperature(24))
        for frame in march(simulation, 80)
    ]
    assert np.mean(temperatures) == pytest.approx(900, rel=0.1)


def test_energies_are_the_operators_and_minimisation_works(ethanol, springs, platform):
    simulation = simulate(ethanol, springs, platform)
    simulation.step(30)
    state = PhaseState.from_atoms(ethanol)
    now = state.replace(positions=torch.from_numpy(phase(simulation)[0])[None])
    energy, forces = springs.energy_and_forces(now)
    found = simulation.context.getState(energy=True, forces=True)
    assert found.getPotentialEnergy()._value == pytest.approx(float(energy) / KJ_MOL, rel=1e-9)
    wanted = forces[0].numpy() * 10 / KJ_MOL
    assert np.allclose(found.getForces(asNumpy=True)._value, wanted, rtol=1e-6, atol=1e-6)

    before = float(energy)
    simulation.minimizeEnergy(tolerance=0.01)
    now = state.replace(positions=torch.from_numpy(phase(simulation)[0])[None])
    assert float(springs.energy(now)) < 1e-6 * before
    simulation.context.setVelocitiesToTemperature(300 * unit.kelvin, 3)
    simulation.step(20)


def test_a_force_field_that_is_there_for_reporters_reports_its_own_energy(ethanol, springs):
    system = bare_system(openmm_topology(ethanol))
    bond = openmm.HarmonicBondForce()
    bond.addBond(0, 1, 0.15, 1000.0)
    system.addForce(bond)
    simulation = simulate(ethanol, springs, system=system, system_forces="report")
    free = simulate(ethanol, springs)
    for each in (simulation, free):
        each.step(11)
    assert np.array_equal(phase(simulation), phase(free))
    positions = phase(simulation)[0]
    length = np.linalg.norm(positions[0] - positions[1]) / 10
    found = simulation.context.getState(energy=True).getPotentialEnergy()._value
    assert found == pytest.approx(500.0 * (length - 0.15) ** 2, rel=1e-9)


def test_a_molecule_that_breaks_leaves_its_last_good_frame(ethanol, platform):
    hot = Springs(ethanol, stiffness=0.01, heating=0.0)
    velocities = np.zeros((9, 3))
    velocities[2] = [0.3, 0.1, 0.0]  # a hydrogen flies off
    simulation = simulate(ethanol, hot, platform, velocities=velocities, energy_correction=False)
    good = []
    with pytest.raises(BrokenStateError, match=r"the bond of .* times its") as caught:
        for _ in range(200):
            simulation.step(1)
            good.append(phase(simulation))
    steps = simulation.context.getStepCount()
    assert steps == len(good) > 0
    assert caught.value.time == pytest.approx(0.5 * (steps + 1))
    assert np.array_equal(phase(simulation), good[-1])
    # The Context is in order: energies can be asked for, and a mended molecule goes on.
    assert np.isfinite(simulation.context.getState(energy=True).getPotentialEnergy()._value)
    with pytest.raises(BrokenStateError):
        simulation.step(1)
    simulation.context.setPositions(ethanol.positions * unit.angstrom)
    simulation.context.setVelocitiesToTemperature(1 * unit.kelvin, 1)
    simulation.step(10)


@pytest.mark.parametrize("together", [3, 7, 500])
def test_many_steps_end_where_single_ones_break(ethanol, platform, together):
    """Frames at which nobody looks are passed over, but not those past the last good one."""
    hot = Springs(ethanol, stiffness=0.01, heating=0.0)
    velocities = np.zeros((9, 3))
    velocities[2] = [0.3, 0.1, 0.0]
    ends = []
    for steps in (1, together):
        simulation = simulate(
            ethanol, hot, platform, velocities=velocities, stride=16.0, energy_correction=False
        )
        with pytest.raises(BrokenStateError) as caught:
            for _ in range(200):
                simulation.integrator.step(steps)
        ends.append((simulation.context.getStepCount(), caught.value.time, phase(simulation)))
        with pytest.raises(BrokenStateError):  # it stays where it is
            simulation.integrator.step(2)
        assert np.array_equal(phase(simulation), ends[-1][-1])
    assert ends[0][0] % 32 > 1  # inside a stride
    assert ends[0][:2] == ends[1][:2]
    assert np.array_equal(ends[0][2], ends[1][2])


@pytest.mark.parametrize("settings", [{}, LANGEVIN])
def test_an_interruption_after_frames_at_which_nobody_looked(ethanol, springs, settings):
    expected = march(simulate(ethanol, springs, **settings), 16)
    simulation = simulate(ethanol, springs, **settings)
    simulation.integrator.step(9)
    callback = simulation.integrator._callback
    answer, calls = callback._answer, 0

    def interrupted(state):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return answer(state)

    callback._answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        simulation.integrator.step(5)  # of which the last alone asks the callback
    del callback._answer
    assert simulation.context.getStepCount() == 13
    assert np.array_equal(phase(simulation), expected[12])
    assert np.array_equal(march(simulation, 3), expected[13:])  # to the end of the stride


def test_an_interruption_takes_the_step_back(ethanol):
    class Interrupted(Springs):
        armed = True

        def __call__(self, state, times):
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            return super().__call__(state, times)

    expected = march(simulate(ethanol, Springs(ethanol)), 10)
    simulation = simulate(ethanol, Interrupted(ethanol))
    start = phase(simulation)
    with pytest.raises(KeyboardInterrupt):
        simulation.step(10)
    assert np.array_equal(phase(simulation), start)
    assert np.array_equal(march(simulation, 10), expected)


def test_many_steps_leave_memory_flat(ethanol, springs):
    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / 2**20

    simulation = simulate(ethanol, springs, stride=16.0, **LANGEVIN)
    simulation.step(2000)
    before = resident()
    simulation.step(10_000)
    assert resident() - before < 1.0  # MiB: a leak of one frame a step would take four
