"""Coordinates, velocities, motion and spectra of trajectories, against what is known exactly."""

from __future__ import annotations

from dataclasses import replace

import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.data import atomic_masses
from harmonic_ethanol import harmonic_ethanol, wavenumbers
from rdkit import Chem
from rdkit.Chem import AllChem

from ase_atom.analysis import Segment, Trajectory, compare
from ase_atom.analysis.inputs.velocities import step_ratio, with_velocities
from ase_atom.analysis.measures.motion import rotational_freedom, split_motion, temperatures
from ase_atom.analysis.measures.pathwise import climate, first_passage
from ase_atom.analysis.measures.relaxation import correlation_time
from ase_atom.analysis.measures.spectra import (
    autocorrelation,
    find_bands,
    power_spectrum,
    time_scale,
)
from ase_atom.analysis.molecule.coordinates import perceive
from ase_atom.units import AMU_A2_FS2_IN_EV, KB


def embedded(smiles: str) -> Atoms:
    """Any conformer of a molecule."""
    found = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(found, randomSeed=1)
    numbers = [atom.GetAtomicNum() for atom in found.GetAtoms()]
    return Atoms(numbers, positions=found.GetConformer().GetPositions())


def test_the_coordinates_of_ethanol(ethanol):
    found = perceive(ethanol.numbers, ethanol.positions[None])
    sizes = {
        kind: sorted(len(c.atoms) for c in found.of_kind(kind))
        for kind in ("bond", "angle", "torsion")
    }
    assert sizes == {
        "bond": [1, 1, 1, 2, 3],
        "angle": [1, 1, 1, 2, 2, 3, 3],
        "torsion": [1, 2, 3, 6],
    }
    assert len(found.relabellings) == 12
    assert not found.chiral
    assert all(c.mirrored for c in found.of_kind("torsion"))


@pytest.mark.parametrize(
    ("smiles", "chiral"), [("CC(O)F", True), ("CCO", False), ("C1CCCCC1", False), ("C=C", False)]
)
def test_mirror_images_are_pooled_only_without_stereocentres(smiles, chiral):
    atoms = embedded(smiles)
    found = perceive(atoms.numbers, atoms.positions[None])
    assert found.chiral is chiral
    assert all(c.mirrored is not chiral for c in found.of_kind("torsion"))


def test_values_are_those_of_mdtraj():
    atoms = embedded("CC(O)F")
    random = np.random.default_rng(0)
    positions = atoms.positions + 0.1 * random.normal(size=(20, len(atoms), 3))
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for number in atoms.numbers:
        topology.add_atom("A", mdtraj.element.Element.getByAtomicNumber(int(number)), residue)
    frames = mdtraj.Trajectory(positions / 10, topology)
    measures = {
        "bond": lambda p: 10 * mdtraj.compute_distances(frames, p, periodic=False),
        "angle": lambda p: np.degrees(mdtraj.compute_angles(frames, p, periodic=False)),
        "torsion": lambda p: np.degrees(mdtraj.compute_dihedrals(frames, p, periodic=False)),
    }
    for one in perceive(atoms.numbers, positions).classes:
        np.testing.assert_allclose(one.values(positions), measures[one.kind](one.atoms), atol=2e-3)


def test_rates_are_derivatives(ethanol):
    run = harmonic_ethanol(1, 50, 0.02)
    segment = run.segments[0]
    for one in perceive(run.numbers, segment.positions).classes:
        values = one.values(segment.positions)
        slope = (values[2:] - values[:-2]) / 0.04
        slope = (slope + 180 / 0.04) % (360 / 0.04) - 180 / 0.04
        rates = one.rates(segment.positions, segment.velocities)[1:-1]
        np.testing.assert_allclose(rates, slope, atol=2e-3 * np.abs(rates).max())


def bare(trajectory: Trajectory) -> Trajectory:
    runs = tuple(replace(run, velocities=None) for run in trajectory)
    return replace(trajectory, segments=runs, velocity_source="")


def test_velocities_are_differentiated_where_frames_are_close():
    exact = harmonic_ethanol(2, 200, 1.0)
    found, reason = with_velocities(bare(exact))
    assert not reason
    assert found.velocity_source == "differentiated"
    assert found.frames == exact.frames - 16
    error = found.pooled("velocities") - np.concatenate([run.velocities[4:-4] for run in exact])
    assert np.abs(error).max() < 1e-3 * np.abs(exact.pooled("velocities")).max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: bare(harmonic_ethanol(2, 200, 4.0)), "4 fs apart are too far"),
        (
            lambda t: replace(
                bare(t),
                segments=tuple(Segment(run.positions.round(2), times=run.times) for run in t),
            ),
            "rounded to 0.01 Å",
        ),
        (
            lambda t: replace(bare(t), segments=tuple(Segment(run.positions) for run in t)),
            "times are unknown",
        ),
    ],
)
def test_velocities_are_not_made_up(change, words):
    given = change(harmonic_ethanol(2, 200, 1.0))
    found, reason = with_velocities(given)
    assert words in reason
    assert not found.has_velocities


@pytest.mark.parametrize("factor", [1.0, 1.3, 0.25])
@pytest.mark.parametrize("interval", [1.0, 4.0])
def test_motion_is_held_against_velocities(factor, interval):
    exact = harmonic_ethanol(3, 500, interval)
    runs = tuple(replace(run, velocities=run.velocities / factor) for run in exact)
    found = step_ratio(replace(exact, segments=runs))
    assert found.value == pytest.approx(factor, rel=5e-3)


def thermal(numbers: np.ndarray, positions: np.ndarray, frames: int, kelvin: float) -> Trajectory:
    """One structure with velocities from Maxwell and Boltzmann."""
    masses = atomic_masses[numbers]
    speed = np.sqrt(KB * kelvin / AMU_A2_FS2_IN_EV / masses)[:, None]
    velocities = speed * np.random.default_rng(0).normal(size=(frames, len(numbers), 3))
    return Trajectory.from_arrays(numbers, np.tile(positions, (frames, 1, 1)), velocities)


@pytest.mark.parametrize("name", ["CH3CH2OH", "CO2", "H2O"])
def test_all_parts_of_thermal_motion_have_one_temperature(name):
    atoms = molecule(name)
    given = thermal(atoms.numbers, atoms.positions, 20000, 300.0)
    found = temperatures(
        given, [split_motion(given.segments[0], given.masses, rotational_freedom(given))]
    )
    linear = name == "CO2"
    assert found.turning == (2 if linear else 3)
    assert found.freedom == 3 * len(atoms)
    for series in (
        found.overall,
        found.vibration,
        found.rotation,
        found.translation,
        *found.elements.values(),
    ):
        assert np.mean(series[0]) == pytest.approx(300.0, rel=0.025)


@pytest.mark.parametrize("name", ["CO2", "HCN", "C2H2"])
def test_a_linear_molecule_that_bends_has_one_temperature(name):
    """No frame is straight; bending still is vibration, and not rotation about the axis."""
    atoms = molecule(name)
    given = thermal(atoms.numbers, atoms.positions, 20000, 300.0)
    run = given.segments[0]
    noise = 0.06 * np.random.default_rng(3).normal(size=run.positions.shape)
    given = replace(given, segments=(replace(run, positions=run.positions + noise),))
    turning = rotational_freedom(given)
    assert turning == 2
    found = temperatures(given, [split_motion(given.segments[0], given.masses, turning)])
    assert (found.inner, found.freedom) == (3 * len(atoms) - 5, 3 * len(atoms))
    parts = (found.overall, found.vibration, found.rotation, *found.elements.values())
    for series in parts:
        assert np.mean(series[0]) == pytest.approx(300.0, rel=0.025)


class Straight(Calculator):
    """CO2 with springs along its bonds, and one that holds it straight."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        steps = 1e-4 * np.eye(9).reshape(9, 3, 3)
        ahead, behind = self.energy(x + steps), self.energy(x - steps)
        self.results = {
            "energy": float(self.energy(x[None])[0]),
            "forces": (behind - ahead).reshape(3, 3) / 2e-4,
        }

    @staticmethod
    def energy(x):
        arms = x[:, 1:] - x[:, :1]
        lengths = np.linalg.norm(arms, axis=2)
        cosine = (arms[:, 0] * arms[:, 1]).sum(1) / lengths.prod(1)
        return 30 * ((lengths - 1.16) ** 2).sum(1) + 5 * (1 + cosine)


def test_the_modes_of_a_linear_molecule_have_one_temperature():
    """The bend has two of them, also at a minimum that is not relaxed to the last digit."""
    atoms = molecule("CO2")
    sides = []
    for seed in range(2):
        given = thermal(atoms.numbers, atoms.positions, 4000, 300.0)
        noise = 0.03 * np.random.default_rng(seed).normal(size=(4000, 3, 3))
        run = given.segments[0]
        sides.append(replace(given, segments=(replace(run, positions=run.positions + noise),)))
    found = compare(*sides, energy=Straight(), energy_frames=20)
    modes = [line for line in found.lines if line.group == "equipartition between modes"]
    assert len(modes) == 4
    for line in modes:
        assert line.reference.value == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("name", ["H2O", "HOCl", "H2O2", "C2H4", "C3H4_D2d", "CH3CN"])
def test_what_is_not_linear_turns_about_three_axes(name):
    atoms = molecule(name)
    noise = 0.06 * np.random.default_rng(3).normal(size=(100, len(atoms), 3))
    assert rotational_freedom(Trajectory.from_arrays(atoms.numbers, atoms.positions + noise)) == 3


def test_motion_that_was_removed_is_not_counted(ethanol):
    given = thermal(ethanol.numbers, ethanol.positions, 2000, 300.0)
    parts = split_motion(given.segments[0], given.masses, 3)
    still = replace(
        given,
        segments=(replace(given.segments[0], velocities=parts.vibration),),
    )
    found = temperatures(still, [split_motion(still.segments[0], still.masses, 3)])
    assert found.com_fixed
    assert found.rotation_fixed
    assert found.freedom == 21
    assert np.mean(found.overall[0]) == pytest.approx(300.0, rel=0.05)
    assert "N_f = 21, centre of mass fixed, no rotation" in found.counted()


def test_bands_are_where_oscillators_are():
    lines = np.array([312.0, 1234.5, 1301.0, 2950.0])  # cm⁻¹
    times = 2.0 * np.arange(4000)
    random = np.random.default_rng(0)
    phases = random.uniform(0, 2 * np.pi, (10, 1, 4))
    runs = np.cos(2 * np.pi * 2.99792458e-5 * lines * times[:, None] + phases)
    spectrum = power_spectrum(list(runs), 2.0, 5000.0, 4000.0)
    assert spectrum.resolution == pytest.approx(1.44 / 2.99792458e-5 / 5000)
    found = [band.position for band in find_bands(spectrum, random)]
    np.testing.assert_allclose(found, lines, atol=0.5)
    assert (spectrum.power.sum() * 1.0) == pytest.approx(1.0)


def test_the_spectrum_of_springs_is_that_of_their_modes():
    given = harmonic_ethanol(10, 2500, 2.0)
    signals = [
        (run.velocities * np.sqrt(given.masses)[:, None]).reshape(len(run), -1) for run in given
    ]
    spectrum = power_spectrum(signals, 2.0, 5000.0, 4000.0)
    bands = find_bands(spectrum, np.random.default_rng(0))
    assert len(bands) >= 8
    known = wavenumbers()
    for band in bands:
        # Modes closer than the smoothing merge into one band.
        assert np.abs(known - band.position).min() < 8.0
    doubled = power_spectrum(signals, 4.0, 10000.0, 4000.0)
    scale, overlap = time_scale(doubled, spectrum)
    assert scale == pytest.approx(2.0, rel=0.01)
    assert overlap > 0.9


def test_the_autocorrelation_of_an_oscillator_is_a_cosine():
    times = np.arange(2000.0)
    phases = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    runs = [np.cos(0.1 * times + phase)[:, None] for phase in phases]
    np.testing.assert_allclose(autocorrelation(runs, 100), np.cos(0.1 * times[:100]), atol=1e-3)


def test_the_correlation_time_of_a_random_walk_with_memory():
    random = np.random.default_rng(0)
    memory, steps = 0.95, 40000
    kicks = random.normal(size=steps)
    series = np.empty(steps)
    series[0] = 0.0
    for k in range(1, steps):
        series[k] = memory * series[k - 1] + kicks[k]
    found = correlation_time([series[:, None]], 2.0)
    exact = 2.0 * 0.5 * (1 + memory) / (1 - memory)
    assert found.value == pytest.approx(exact, abs=4 * found.error)
    assert found.error < 0.2 * exact
    assert correlation_time([series[:60, None]], 2.0).samples < 10


def test_the_level_of_two_random_frames_and_its_error():
    """Runs about structures of their own: what level is found scatters as its error says."""
    random = np.random.default_rng(0)
    numbers = np.array([6, 1, 1, 1, 1])
    base = 2.0 * random.normal(size=(5, 3))

    def level(runs: int, seed: int) -> tuple[float, float]:
        own = np.random.default_rng(seed)
        places = base + 0.3 * own.normal(size=(runs, 1, 5, 3))
        frames = places + 0.02 * own.normal(size=(runs, 50, 5, 3))
        return climate(Trajectory.from_arrays(numbers, frames), own)

    found = np.array([level(8, seed) for seed in range(40)])
    many, error = level(400, 99)
    assert found[:, 0].mean() == pytest.approx(many, rel=0.05)
    assert error < 0.3 * found[:, 1].mean()
    assert 0.5 < found[:, 1].mean() / found[:, 0].std() < 2.0


def test_first_passages():
    times = np.array([0.0, 1.0, 2.0, 3.0])
    errors = np.array([[0.0, 0.2, 0.1, 0.3], [0.0, 0.1, 0.1, 0.1]])
    assert first_passage(times, errors, 0.15).tolist() == [1.0, np.inf]
