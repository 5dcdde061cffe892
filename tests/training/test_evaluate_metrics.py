"""Errors, intervals, baselines and statistics of an evaluation, against what is known exactly."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule as ase_molecule
from scipy.spatial.transform import Rotation
from springs import SpringOperator

from ase_atom.analysis.molecule.harmonic import (
    HarmonicGuess,
    NormalModes,
    finite_difference_hessian,
    rotate_freely,
)
from ase_atom.analysis.molecule.symmetry import automorphisms, bond_classes
from ase_atom.analysis.statistics import block_average, slopes
from ase_atom.errors import DataError
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator.scaling import thermal_speeds
from ase_atom.propagation import sample_velocities
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.data.burst import Burst
from training.evaluation.accuracy import (
    chain_lags,
    group_by_molecule,
    lag_errors,
    lag_frames,
    start_frames,
)
from training.evaluation.metrics import bootstrap_by_burst
from training.evaluation.observables import Observables
from training.evaluation.predictors import ballistic, chained, direct, harmonic, stay

STIFFNESS, LENGTH = 40.0, 1.17  # eV/Å² and Å of the springs in a carbon dioxide


def carbon_dioxide() -> Atoms:
    return Atoms("OCO", positions=[[-LENGTH, 0, 0], [0, 0, 0], [LENGTH, 0, 0]])


def spring_forces(positions: np.ndarray) -> np.ndarray:
    """Forces of E = k/2 Σ (r − r₀)² over the two bonds, [K, 3, 3]."""
    forces = np.zeros_like(positions)
    for i, j in ((0, 1), (1, 2)):
        separation = positions[:, i] - positions[:, j]
        length = np.linalg.norm(separation, axis=-1, keepdims=True)
        pull = -STIFFNESS * (length - LENGTH) * separation / length
        forces[:, i] += pull
        forces[:, j] -= pull
    return forces


def linear_modes() -> NormalModes:
    atoms = carbon_dioxide()
    hessian = finite_difference_hessian(spring_forces, atoms.positions)
    return NormalModes.from_hessian(atoms.get_masses(), atoms.positions, hessian)


def springs_burst(
    operator: SpringOperator, temperature: float, seed: int, frames: int = 65
) -> Burst:
    """A burst of the exact motion of atoms on springs, with frames every fs."""
    atoms = operator.reference_atoms
    state = PhaseState.from_atoms(atoms)
    state = sample_velocities(state, temperature, torch.Generator().manual_seed(seed))
    positions, velocities = operator(state, torch.arange(frames, dtype=torch.float64))
    return Burst(
        key=f"ethanol/{seed:05d}",
        smiles="CCO",
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        positions=positions[0].numpy(),
        velocities=velocities[0].numpy(),
        energies=np.zeros(frames),
        forces=np.zeros((frames, len(atoms), 3)),
        interval=1.0,
        temperature_K=temperature,
        seed=seed,
    )


@pytest.fixture
def springs(ethanol: Atoms) -> SpringOperator:
    operator = SpringOperator(ethanol, stiffness=1.0)
    operator.reference_atoms = ethanol
    return operator


@pytest.fixture
def bursts(springs: SpringOperator) -> list[Burst]:
    return [springs_burst(springs, kelvin, seed) for seed, kelvin in enumerate((300, 500, 300))]


def errors_of(bursts: list[Burst], lags: list[float], **predictors):
    keys = group_by_molecule(bursts)
    return lag_errors(bursts, dict.fromkeys(keys, predictors), lags, starts_per_burst=5)


def test_an_exact_operator_has_no_error_and_staying_has_one(
    bursts: list[Burst], springs: SpringOperator
) -> None:
    found = errors_of(bursts, [8.0, 32.0], operator=direct(springs), stay=stay)
    assert found.starts == 15
    exact, still = found.overall("operator"), found.overall("stay")
    assert exact.position.max() < 1e-10
    assert exact.velocity.max() < 1e-10
    for values in vars(still).values():
        assert values == pytest.approx(np.ones(2))
    assert set(found.by_element("stay")) == {1, 6, 8}
    assert set(found.by_temperature("stay")) == {300.0, 500.0}


def test_ballistic_flight_is_right_at_first_and_wrong_later(
    bursts: list[Burst], springs: SpringOperator
) -> None:
    found = errors_of(bursts, [1.0, 16.0], ballistic=ballistic)
    position = found.overall("ballistic").position
    assert 0.01 < position[0] < 0.2 < position[1]


def test_errors_are_the_ratio_of_root_mean_squares(bursts: list[Burst]) -> None:
    lag = 16
    found = errors_of(bursts, [float(lag)], ballistic=ballistic)
    wrong, moved, slow, speed = 0.0, 0.0, 0.0, 0.0
    for burst in bursts:
        for start in start_frames(len(burst.positions), lag, 5):
            x, v = burst.positions, burst.velocities
            wrong += ((x[start] + lag * v[start] - x[start + lag]) ** 2).sum()
            moved += ((x[start + lag] - x[start]) ** 2).sum()
            slow += ((v[start] - v[start + lag]) ** 2).sum()
            speed += (v[start + lag] ** 2).sum()
    interval = found.overall("ballistic")
    assert interval.position[0] == pytest.approx(np.sqrt(wrong / moved))
    assert interval.velocity[0] == pytest.approx(np.sqrt(slow / speed))


def test_chained_jumps_meet_the_single_one(bursts: list[Burst], springs: SpringOperator) -> None:
    found = errors_of(bursts, [32.0, 64.0], operator=chained(springs, 16.0))
    assert found.overall("operator").position.max() < 1e-9
    heating = SpringOperator(springs.reference_atoms, stiffness=1.0, heating=1e-3)
    grown = errors_of(bursts, [16.0, 64.0], operator=chained(heating, 16.0)).overall("operator")
    assert 0 < grown.velocity[0] < grown.velocity[1]
    shared = errors_of(bursts, [16.0, 64.0], operator=chained(heating, 16.0, reversible=True))
    assert shared.overall("operator").velocity[1] < 0.7 * grown.velocity[1]


def test_chains_end_where_the_shortest_burst_does(bursts: list[Burst]) -> None:
    assert chain_lags(bursts, 8.0) == [16.0, 32.0, 64.0]
    assert chain_lags(bursts, 60.0) == []


@pytest.mark.parametrize(("lag", "reason"), [(2.5, "multiples"), (65.0, "lasts 64 fs")])
def test_lags_must_fit_the_frames(bursts: list[Burst], lag: float, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        lag_frames(bursts[0], [lag])


# -- intervals -------------------------------------------------------------------------------------


def test_bootstrap_draws_whole_bursts() -> None:
    good, bad = [0.01, 1.0, 0.04, 1.0], [0.09, 1.0, 0.16, 1.0]
    sums = np.array([[good], [bad]] * 2)
    found = bootstrap_by_burst(sums)
    assert found.position[0] == pytest.approx(np.sqrt(0.05))
    # Four draws of two kinds: all alike once in sixteen times on either side.
    assert found.position_low[0] == pytest.approx(0.1)
    assert found.position_high[0] == pytest.approx(0.3)
    assert found.velocity_high[0] == pytest.approx(0.4)


def test_bootstrap_of_equal_bursts_has_no_width() -> None:
    found = bootstrap_by_burst(np.full((5, 2, 4), 0.3))
    assert found.position_low == pytest.approx(found.position_high)


def test_one_burst_has_no_interval() -> None:
    found = bootstrap_by_burst(np.full((1, 1, 4), 0.3)).as_dict()
    assert found["position"] == [1.0]
    assert found["position_low"] == [None]


def test_block_averages_see_correlation() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=2**14)
    _, white = block_average(noise)
    assert white == pytest.approx(1 / 128, rel=0.3)
    # x_n = a x_(n−1) + noise has a standard error of the mean of 1/((1 − a) √n).
    red = np.zeros_like(noise)
    for n in range(1, len(noise)):
        red[n] = 0.9 * red[n - 1] + noise[n]
    assert block_average(red)[1] == pytest.approx(10 / 128, rel=0.4)


def test_slopes_leave_out_what_is_missing() -> None:
    times = np.arange(4.0)
    series = np.stack([2 * times, np.where(times < 2, -times, np.nan), np.full(4, np.nan)], axis=1)
    found = slopes(times, series)
    assert found[:2] == pytest.approx([2.0, -1.0])
    assert np.isnan(found[2])


# -- the harmonic guess ----------------------------------------------------------------------------


def test_wavenumbers_of_carbon_dioxide() -> None:
    oxygen, carbon = carbon_dioxide().get_masses()[:2]
    modes = linear_modes()
    assert len(modes.squares) == 4  # two stretches, two bends that these springs do not resist
    stretches = np.array([1 / oxygen, 1 / oxygen + 2 / carbon]) * STIFFNESS / AMU_A2_FS2_IN_EV
    assert modes.squares[2:] == pytest.approx(stretches, rel=1e-4)
    assert modes.squares[:2] == pytest.approx([0, 0], abs=1e-6)
    # 1 rad/fs is 5308.8 cm⁻¹.
    assert modes.wavenumbers[2:] == pytest.approx(5308.84 * np.sqrt(stretches), rel=1e-4)


def stretching_start() -> tuple[np.ndarray, np.ndarray]:
    """Displacements and velocities along the axis, about a centre of mass at rest."""
    masses = carbon_dioxide().get_masses()
    x, v = np.array([0.05, -0.02, 0.03]), np.array([0.004, 0.002, -0.005])
    x, v = x - masses @ x / masses.sum(), v - masses @ v / masses.sum()
    along = np.array([1.0, 0, 0])
    return carbon_dioxide().positions + x[:, None] * along, v[:, None] * along


def integrate(x: np.ndarray, v: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Velocity Verlet with a step so short that its error does not count."""
    steps = 4000
    h = time / steps
    masses = carbon_dioxide().get_masses()[:, None] * AMU_A2_FS2_IN_EV
    force = spring_forces(x[None])[0]
    for _ in range(steps):
        v = v + 0.5 * h * force / masses
        x = x + h * v
        force = spring_forces(x[None])[0]
        v = v + 0.5 * h * force / masses
    return x, v


def test_the_guess_is_exact_for_an_oscillator() -> None:
    x, v = stretching_start()
    guess = HarmonicGuess([linear_modes()], np.array([[0, 1, 2], [2, 1, 0]]))
    path, rate = guess(x[None], v[None], np.array([0.0, 16.0]))
    assert path[0, 0] == pytest.approx(x, abs=1e-12)
    assert rate[0, 0] == pytest.approx(v, abs=1e-12)
    after_x, after_v = integrate(x, v, 16.0)
    moved = np.abs(after_x - x).max()
    assert np.abs(path[0, 1] - after_x).max() < 1e-3 * moved
    assert np.abs(rate[0, 1] - after_v).max() < 1e-3 * np.abs(after_v).max()


def test_the_guess_moves_with_its_start() -> None:
    """Rotated, moved, boosted and with its oxygens exchanged, a start gives the same path."""
    x, v = stretching_start()
    guess = HarmonicGuess([linear_modes()], np.array([[0, 1, 2], [2, 1, 0]]))
    times = np.array([4.0, 16.0])
    path, rate = guess(x[None], v[None], times)
    turn = Rotation.from_euler("xyz", [0.4, 1.0, -2.0]).as_matrix().T
    order, shift, boost = [2, 1, 0], np.array([1.0, -2, 3]), np.array([0.01, 0.02, 0.0])
    other_path, other_rate = guess((x[order] @ turn + shift)[None], (v[order] @ turn + boost)[None],
                                   times)  # fmt: skip
    wanted = path[:, :, order] @ turn + shift + boost * times[:, None, None]
    assert other_path == pytest.approx(wanted, abs=1e-9)
    assert other_rate == pytest.approx(rate[:, :, order] @ turn + boost, abs=1e-9)


def test_a_free_top_keeps_its_angular_momentum_and_energy(ethanol: Atoms) -> None:
    centred = ethanol.positions - ethanol.get_center_of_mass()
    modes = NormalModes.from_hessian(ethanol.get_masses(), centred, np.eye(27))
    assert len(modes.squares) == 21
    spin = np.array([[0.01, -0.02, 0.015]])
    frames, spins = rotate_freely(modes.inertia, np.eye(3)[None], spin, np.array([0.0, 64.0]))
    momenta = np.einsum("lxy,ly->lx", frames[0], spins[0] @ modes.inertia)
    assert momenta[1] == pytest.approx(momenta[0], rel=1e-8)
    energies = np.einsum("lx,xy,ly->l", spins[0], modes.inertia, spins[0])
    assert energies[1] == pytest.approx(energies[0], rel=1e-8)
    assert np.abs(spins[0, 1] - spins[0, 0]).max() > 1e-3  # it does tumble
    assert frames[0, 1] @ frames[0, 1].T == pytest.approx(np.eye(3), abs=1e-8)


def test_a_small_rigid_start_turns_rigidly(ethanol: Atoms) -> None:
    centred = ethanol.positions - ethanol.get_center_of_mass()
    modes = NormalModes.from_hessian(ethanol.get_masses(), centred, np.eye(27))
    spin = np.array([0.002, 0.001, -0.003])
    guess = HarmonicGuess([modes], np.arange(9)[None])
    path, _ = guess(centred[None], np.cross(spin, centred)[None], np.array([32.0]))
    frames, _ = rotate_freely(modes.inertia, np.eye(3)[None], spin[None], np.array([32.0]))
    assert path[0, 0] == pytest.approx(centred @ frames[0, 0].T, abs=1e-9)


def test_the_guess_serves_as_a_predictor() -> None:
    x, v = stretching_start()
    atoms = carbon_dioxide()
    state = PhaseState.from_atoms(atoms).replace(
        positions=torch.from_numpy(x)[None], velocities=torch.from_numpy(v)[None]
    )
    guess = HarmonicGuess([linear_modes()], np.arange(3)[None])
    path, rate = harmonic(guess)(state, torch.tensor([0.0, 8.0], dtype=torch.float64))
    assert path.shape == rate.shape == (1, 2, 3, 3)
    assert torch.allclose(path[0, 0], state.positions[0], atol=1e-12)


# -- molecules and statistics ----------------------------------------------------------------------


def test_equivalent_bonds_of_ethanol(ethanol: Atoms) -> None:
    pairs = perceive_bonds(ethanol.numbers, ethanol.positions)
    classes = bond_classes(ethanol.numbers, pairs)
    sizes: dict[str, list[int]] = {}
    for group in classes:
        sizes.setdefault(re.sub(r"[\d,]", "", group.label), []).append(len(group.pairs))
    assert {label: sorted(counts) for label, counts in sizes.items()} == {
        "C–C": [1],
        "C–O": [1],
        "C–H": [2, 3],
        "O–H": [1],
    }
    found = automorphisms(ethanol.numbers, pairs)
    assert len(found) == 12  # 3! of the methyl group times 2! of the methylene group
    assert found[0].tolist() == list(range(9))
    assert len(automorphisms(ethanol.numbers, pairs, at_most=5)) == 1


def test_running_statistics_are_those_of_all_samples() -> None:
    atoms = ase_molecule("H2O")
    random = np.random.default_rng(0)
    paths = atoms.positions + 0.05 * random.normal(size=(20, 4, 3, 3))  # samples, replicas
    speeds = 0.01 * random.normal(size=paths.shape)
    classes = bond_classes(atoms.numbers, perceive_bonds(atoms.numbers, atoms.positions))
    watch = Observables(classes, 3, 4, 300.0)
    base = PhaseState.from_atoms(atoms).repeat(4)
    for n in range(20):
        rows = torch.arange(4) if n < 10 else torch.tensor([0, 3])  # two replicas break
        state = base.replace(
            positions=torch.from_numpy(paths[n]), velocities=torch.from_numpy(speeds[n])
        )
        watch.add(state.select(rows), rows)
    used_x = np.concatenate([paths[:10].reshape(-1, 3, 3), paths[10:, [0, 3]].reshape(-1, 3, 3)])
    used_v = np.concatenate([speeds[:10].reshape(-1, 3, 3), speeds[10:, [0, 3]].reshape(-1, 3, 3)])
    (bond,) = watch.bond_lengths()
    lengths = np.linalg.norm(used_x[:, 1:] - used_x[:, :1], axis=-1)
    assert bond["mean_angstrom"] == pytest.approx(lengths.mean())
    assert bond["width_angstrom"] == pytest.approx(lengths.std())
    assert watch.bond_counts.sum() == pytest.approx(len(lengths))
    masses = atoms.get_masses()[:, None]
    internal = used_v - (masses * used_v).sum(1, keepdims=True) / masses.sum()
    energy = 0.5 * AMU_A2_FS2_IN_EV * (masses * internal**2).sum((1, 2))
    parts = watch.temperatures()
    assert parts["internal"]["degrees_of_freedom"] == 6
    share = watch.heat_sums[:, 0].sum() / watch.samples.sum()
    assert float(share) == pytest.approx((2 * energy / (6 * KB)).mean())
    assert parts["rotation"]["degrees_of_freedom"] == parts["vibration"]["degrees_of_freedom"] == 3
    density = watch.temperature_density() @ np.diff(watch.temperature_edges)
    assert density == pytest.approx(1.0)


def test_each_elements_atoms_have_a_temperature_of_their_own(ethanol: Atoms) -> None:
    generator = torch.Generator().manual_seed(0)
    state = PhaseState.from_atoms([ethanol] * 4000)
    noise = torch.randn(state.velocities.shape, generator=generator, dtype=torch.float64)
    speeds = thermal_speeds(state.masses, 300.0)
    warm = state.replace(velocities=noise * speeds).without_drift()
    watch = Observables([], 9, 4000, 300.0)
    watch.add(warm, torch.arange(4000))
    found = watch.element_temperatures()
    assert set(found) == {"H", "C", "O"}
    for mean, error in found.values():
        assert error < 4.0
        assert mean == pytest.approx(300.0, abs=4 * error)
    hot = torch.where(state.numbers == 1, 2.0, 1.0).sqrt().unsqueeze(-1)
    watch = Observables([], 9, 4000, 300.0)
    watch.add(state.replace(velocities=noise * speeds * hot), torch.arange(4000))
    assert watch.element_temperatures()["H"][0] > 560
