"""Conservation laws and the thermostat, against exact results."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from springs import SpringOperator

from ase_atom.errors import ConfigError, HorizonError, StateError
from ase_atom.propagation import (
    NVE,
    Bussi,
    CachedPotential,
    Langevin,
    Propagator,
    Step,
    jump,
    ornstein_uhlenbeck,
    rescale_kinetic_energy,
    restore_angular_momentum,
    restore_energy,
    sample_velocities,
    steps_per_stride,
    torch_noise,
)
from ase_atom.propagation.conservation import inertia_tensor
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def thermal(atoms: Atoms | list[Atoms], copies: int = 1, seed: int = 0) -> PhaseState:
    state = PhaseState.from_atoms(atoms).repeat(copies)
    return sample_velocities(state, 300.0, generator(seed))


# -- the Ornstein-Uhlenbeck map ------------------------------------------------------------------


def test_ornstein_uhlenbeck_has_the_exact_mean_and_variance():
    state = PhaseState.from_atoms(Atoms("HO", positions=[[0, 0, 0], [0, 0, 1]])).repeat(40_000)
    start = torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64).expand_as(state.velocities)
    noise = torch.randn(start.shape, generator=generator(1), dtype=torch.float64)
    after = ornstein_uhlenbeck(state.replace(velocities=start), 300.0, 0.02, 30.0, noise).velocities
    keep = math.exp(-0.02 * 30.0)
    for atom in range(2):
        variance = (1 - keep**2) * KB * 300.0 / (AMU_A2_FS2_IN_EV * float(state.masses[0, atom]))
        mean = after[:, atom].mean(dim=0)
        error = math.sqrt(variance / 40_000)
        assert float((mean - keep * start[0, atom]).abs().max()) < 4 * error
        sample = after[:, atom] - keep * start[:, atom]
        assert float(sample.pow(2).mean()) == pytest.approx(variance, rel=0.02)


def test_ornstein_uhlenbeck_without_noise_only_damps_and_keeps_small_steps_exact():
    state = thermal(molecule("H2O"))
    still = ornstein_uhlenbeck(state, 300.0, 0.01, 50.0, torch.zeros_like(state.velocities))
    torch.testing.assert_close(still.velocities, math.exp(-0.5) * state.velocities)
    # The strength of the noise of a tiny step is sqrt(2 γ t), not lost to rounding.
    tiny = ornstein_uhlenbeck(
        state.replace(velocities=torch.zeros_like(state.velocities)),
        300.0,
        1e-12,
        1e-6,
        torch.ones_like(state.velocities),
    )
    expected = math.sqrt(2e-18 * KB * 300.0 / (AMU_A2_FS2_IN_EV * 1.008))
    assert float(tiny.velocities[0, 1, 0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("fixed", "dof"), [(True, 24), (False, 27)])
def test_sampled_velocities_have_the_temperature_of_their_degrees_of_freedom(fixed, dof, ethanol):
    state = PhaseState.from_atoms(ethanol).repeat(2000)
    state = sample_velocities(state, 300.0, generator(), fix_com=fixed)
    assert float(state.temperature(dof).mean()) == pytest.approx(300.0, rel=0.02)
    assert (float(state.linear_momentum().abs().max()) < 1e-12) == fixed


def test_padding_is_never_kicked():
    state = thermal([molecule("CH3CH2OH"), molecule("H2O")])
    assert float(state.velocities[1, 3:].abs().max()) == 0.0
    step = Step(16.0, torch_noise(0), SpringOperator(molecule("CH3CH2OH")).energy)
    stepped = Langevin().enter(state, step)
    assert float(stepped.velocities[1, 3:].abs().max()) == 0.0


# -- Langevin dynamics ---------------------------------------------------------------------------


@pytest.mark.parametrize(("fixed", "dof"), [(True, 6), (False, 9)])
def test_langevin_samples_the_canonical_distribution(fixed, dof):
    """With an exact Φ the splitting is exact: both energies have their equipartition values."""
    atoms = molecule("H2O")
    operator = SpringOperator(atoms)
    ensemble = Langevin(300.0, 0.02, fix_com=fixed, energy_correction=False)
    state = PhaseState.from_atoms(atoms).repeat(400)
    propagator = Propagator(operator, state, ensemble, stride=16.0, seed=2)
    kinetic, potential, drift = [], [], []
    for frames in propagator.run(2400.0):
        if float(frames.times[-1]) > 400.0:
            now = frames.state(-1)
            kinetic.append(ensemble.temperature(now).mean())
            potential.append(operator.energy(now).mean())
            _, v_cm = now.center_of_mass()
            drift.append((now.masses.sum(dim=1) * v_cm.pow(2).sum(dim=1)).mean())
    assert ensemble.degrees_of_freedom(state).tolist()[0] == dof
    assert float(torch.stack(kinetic).mean()) == pytest.approx(300.0, rel=0.01)
    # Six internal modes whether the centre of mass is free or not.
    assert float(torch.stack(potential).mean()) == pytest.approx(3 * KB * 300.0, rel=0.02)
    drift = float(torch.stack(drift).mean()) * AMU_A2_FS2_IN_EV
    assert drift == pytest.approx(0.0 if fixed else 3 * KB * 300.0, rel=0.1, abs=1e-20)


def test_a_fixed_centre_of_mass_stays_where_it_is():
    atoms = molecule("H2O")
    operator = SpringOperator(atoms)
    state = thermal(atoms)
    moving = state.replace(velocities=state.velocities + 0.01)
    propagator = Propagator(operator, moving, Langevin(), stride=16.0)
    *_, last = propagator.run(1600.0)
    before, after = moving.center_of_mass()[0], last.state(-1).center_of_mass()[0]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature_K": 0.0}, "above 0 K"),
        ({"temperature_K": -5.0}, "above 0 K"),
        ({"temperature_K": math.nan}, "above 0 K"),
        ({"friction": 0.0}, "friction must be above 0"),
        ({"friction": -1.0}, "friction must be above 0"),
        ({"friction": math.inf}, "friction must be above 0"),
        ({"friction": 10.0}, r"friction cannot be 10 1/fs: .* check its unit"),
    ],
)
def test_impossible_thermostats_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Langevin(**settings)


# -- microcanonical dynamics ---------------------------------------------------------------------


def test_nve_keeps_both_momenta_and_moves_the_centre_of_mass_exactly(tiny_operator, ethanol):
    state = thermal(ethanol, copies=3)
    state = state.replace(velocities=0.1 * state.velocities + 0.002)
    x_cm, v_cm = state.center_of_mass()
    # The bare operator does not keep the angular momentum: there is something to correct.
    ends = jump(tiny_operator, state, torch.tensor([4.0]))
    bare = state.replace(positions=ends[0][:, 0], velocities=ends[1][:, 0])
    lost = (bare.angular_momentum() - state.angular_momentum()).abs().max()
    assert float(lost) > 1e-6

    propagator = Propagator(tiny_operator, state, NVE(False, False), stride=4.0, frame_interval=2.0)
    for frames in propagator.run(40.0):
        for index, time in enumerate(frames.times.tolist()):
            now = frames.state(index)
            torch.testing.assert_close(
                now.center_of_mass()[0], x_cm + v_cm * time, rtol=0, atol=1e-12
            )
            torch.testing.assert_close(
                now.linear_momentum(), state.linear_momentum(), rtol=0, atol=1e-12
            )
        torch.testing.assert_close(
            frames.state(-1).angular_momentum(), state.angular_momentum(), rtol=0, atol=1e-12
        )


def test_inertia_tensor_against_ase(ethanol):
    batch = [ethanol, molecule("H2O")]
    ours = torch.linalg.eigvalsh(inertia_tensor(PhaseState.from_atoms(batch)))
    for row, atoms in enumerate(batch):
        np.testing.assert_allclose(ours[row], atoms.get_moments_of_inertia(), rtol=1e-10)


@pytest.mark.parametrize("name", ["CO2", "N2", "C2H2"])
def test_angular_momentum_of_a_linear_molecule(name):
    state = thermal(molecule(name))
    target = torch.tensor([[0.2, -0.1, 0.0]], dtype=torch.float64)  # the molecules lie along z
    after = restore_angular_momentum(state, target)
    torch.testing.assert_close(after.angular_momentum(), target, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.linear_momentum(), state.linear_momentum(), atol=1e-12, rtol=0)
    assert bool(torch.isfinite(after.velocities).all())


def test_rotating_a_lone_atom_changes_nothing():
    state = thermal(Atoms("Ar", positions=[[1.0, 2.0, 3.0]]))
    after = restore_angular_momentum(state, torch.ones((1, 3), dtype=torch.float64))
    torch.testing.assert_close(after.velocities, state.velocities)


def test_restoring_the_energy_keeps_both_momenta(ethanol):
    state = thermal(ethanol, copies=4)
    state = state.replace(velocities=state.velocities + 0.003)
    potential = torch.linspace(-1.0, 1.0, 4, dtype=torch.float64)
    total = state.kinetic_energy() + potential + torch.tensor([0.2, 0.0, -0.1, 0.1])
    after = restore_energy(state, potential, total)
    torch.testing.assert_close(after.kinetic_energy() + potential, total)
    for name in ("linear_momentum", "angular_momentum"):
        torch.testing.assert_close(
            getattr(after, name)(), getattr(state, name)(), rtol=0, atol=1e-12
        )


def test_an_energy_out_of_reach_stops_the_vibration_only(ethanol):
    state = thermal(ethanol)
    after = restore_energy(state, torch.zeros(1), torch.full((1,), -1.0))
    assert 0 < float(after.kinetic_energy()) < float(state.kinetic_energy())
    torch.testing.assert_close(
        after.angular_momentum(), state.angular_momentum(), rtol=0, atol=1e-12
    )


def test_energy_correction_keeps_the_energy_that_the_operator_loses(ethanol):
    operator = SpringOperator(ethanol, heating=1e-3)
    state = thermal(ethanol, copies=2)
    start = state.kinetic_energy() + operator.energy(state)

    def drift(ensemble: NVE) -> float:
        propagator = Propagator(operator, state, ensemble, stride=16.0)
        for frames in propagator.run(160.0):
            last = frames.state(-1)
        return float((last.kinetic_energy() + operator.energy(last) - start).abs().max())

    assert drift(NVE(False, False)) > 0.01
    assert drift(NVE(True, False)) < 1e-10


def test_energies_in_double_leave_a_state_its_single_precision(ethanol):
    """As trained operators give them: positions in single precision, energies in double."""
    state = thermal(ethanol, copies=2)
    x, v, masses = (side.float() for side in (state.positions, state.velocities, state.masses))
    single = PhaseState(state.numbers, masses, x, v)
    after = restore_energy(single, torch.zeros(2).double(), 1.1 * state.kinetic_energy())
    assert after.dtype == torch.float32
    torch.testing.assert_close(
        after.kinetic_energy().double(), 1.1 * state.kinetic_energy(), rtol=1e-5, atol=0
    )


def test_energy_correction_leaves_the_thermostat_nothing_to_replace(ethanol):
    operator = SpringOperator(ethanol, heating=1e-3)
    state = thermal(ethanol, copies=2).without_drift()
    start = state.kinetic_energy() + operator.energy(state)

    def drift(corrected: bool) -> float:
        ensemble = Langevin(300.0, 1e-12, energy_correction=corrected)
        propagator = Propagator(operator, state, ensemble, stride=16.0, seed=1)
        for frames in propagator.run(160.0):
            last = frames.state(-1)
        return float((last.kinetic_energy() + operator.energy(last) - start).abs().max())

    assert drift(False) > 0.01
    assert drift(True) < 1e-4


# -- stochastic velocity rescaling ----------------------------------------------------------------


def test_rescaling_has_the_exact_mean_and_variance_of_the_kinetic_energy():
    """Equations of Bussi et al. for the first two moments after a time t from a given K."""
    start = thermal(molecule("H2O")).repeat(40_000)
    kinetic = start.kinetic_energy()
    dof, tau, t = 6, 50.0, 30.0
    noise = torch_noise(3)(torch.Size((40_000, 9)))
    after = rescale_kinetic_energy(start, torch.full((40_000,), dof), 300.0, tau, t, noise)
    keep, unit = math.exp(-t / tau), 0.5 * KB * 300.0
    mean = keep * kinetic[0] + (1 - keep) * dof * unit
    variance = (1 - keep) ** 2 * 2 * dof * unit**2 + 4 * keep * (1 - keep) * kinetic[0] * unit
    sample = after.kinetic_energy()
    assert float(sample.mean()) == pytest.approx(
        float(mean), abs=4 * float((variance / 4e4).sqrt())
    )
    assert float(sample.var()) == pytest.approx(float(variance), rel=0.04)
    # Nothing but the size of the velocities has changed.
    factors = after.velocities / start.velocities
    torch.testing.assert_close(factors, factors[:, :1, :1].expand_as(factors))


@pytest.mark.parametrize(("fixed", "dof"), [(True, 6), (False, 9)])
def test_bussi_samples_the_canonical_kinetic_energy(fixed, dof):
    atoms = molecule("H2O")
    ensemble = Bussi(300.0, 40.0, fixed, energy_correction=False, reversible=False)
    propagator = Propagator(SpringOperator(atoms), thermal(atoms, 600), ensemble, 16.0, seed=2)
    temperatures = torch.stack(
        [ensemble.temperature(frames.state(-1)) for frames in propagator.run(2400.0)][30:]
    )
    assert ensemble.degrees_of_freedom(propagator.state).tolist()[0] == dof
    assert float(temperatures.mean()) == pytest.approx(300.0, rel=0.01)
    # Of a chi-square distribution of N_f degrees of freedom.
    assert float(temperatures.std()) == pytest.approx(300.0 * math.sqrt(2 / dof), rel=0.03)


def test_bussi_leaves_the_direction_of_the_angular_momentum(ethanol):
    """The springs themselves do not."""
    state = thermal(ethanol).without_drift()
    propagator = Propagator(SpringOperator(ethanol), state, Bussi(300.0, 50.0), stride=4.0)
    *_, last = propagator.run(40.0)
    before, after = state.angular_momentum(), last.state(-1).angular_momentum()
    cosine = torch.nn.functional.cosine_similarity(before, after)
    assert abs(float(cosine)) == pytest.approx(1.0, abs=1e-12)
    assert float((after - before).norm()) > 1e-3 * float(before.norm())


def test_bussi_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="taut must be above 0"):
        Bussi(taut=0.0)
    with pytest.raises(ConfigError, match=r"taut cannot be 0.1 fs: .* check its unit"):
        Bussi(taut=0.1)
    with pytest.raises(StateError, match="molecule 0 is at rest"):
        Bussi().prepare(PhaseState.from_atoms(molecule("H2O")))


# -- the potential that remembers ------------------------------------------------------------------


def test_a_cached_potential_computes_only_what_moved(ethanol):
    asked = []

    def potential(state: PhaseState) -> torch.Tensor:
        asked.append(state.batch_size)
        return state.positions.sum(dim=(1, 2))

    cached = CachedPotential(potential)
    state = thermal(ethanol, copies=3)
    moved = state.positions.clone()
    moved[1] += 0.1
    for each in (
        state,
        state.replace(velocities=2 * state.velocities),
        state.replace(positions=moved),
    ):
        torch.testing.assert_close(cached(each), each.positions.sum(dim=(1, 2)))
    assert asked == [3, 1]
    torch.testing.assert_close(
        cached(state.select(torch.tensor([0, 2]))), state.positions.sum(dim=(1, 2))[[0, 2]]
    )


def test_a_corrected_run_evaluates_the_energy_once_a_jump(ethanol):
    operator = SpringOperator(ethanol)
    count = 0

    def potential(state: PhaseState) -> torch.Tensor:
        nonlocal count
        count += 1
        return operator.energy(state)

    for ensemble in (
        NVE(True, False),
        Langevin(energy_correction=True),
        Bussi(energy_correction=True),
    ):
        count = 0
        propagator = Propagator(operator, thermal(ethanol, 2), ensemble, 16.0, potential=potential)
        list(propagator.run(160.0))
        assert count == 11


# -- strides in whole steps ------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "timestep", "steps"), [(16, 0.5, 32), (0.3, 0.1, 3), (5, 5, 1)])
def test_steps_of_a_stride(stride, timestep, steps):
    assert steps_per_stride(stride, timestep) == steps


@pytest.mark.parametrize(
    ("stride", "timestep", "error", "message"),
    [
        (16.0, 0.7, ConfigError, r"no multiple .* of 0\.7 fs; near ones are 15\.4 fs or 16\.1 fs"),
        (0.2, 0.5, ConfigError, r"near ones are 0\.5 fs"),
        (128.0, 0.5, HorizonError, "beyond the operator's horizon of 64 fs"),
        (math.nan, 0.5, ConfigError, "stride must be above 0"),
        (16.0, -0.5, ConfigError, "time step must be above 0"),
    ],
)
def test_strides_that_do_not_fit_are_refused(stride, timestep, error, message):
    with pytest.raises(error, match=message):
        steps_per_stride(stride, timestep, horizon=64.0)
