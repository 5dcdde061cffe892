"""Comparisons as a whole: sound trajectories, known diseases, operators, bad input."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from harmonic_ethanol import harmonic_ethanol, modes, wavenumbers
from springs import SpringOperator

from ase_atom.analysis import Segment, Tolerances, Trajectory, Verdict, compare
from ase_atom.analysis.comparison import Comparison
from ase_atom.analysis.measures.infrared import infrared_spectrum
from ase_atom.analysis.rollout import run_operator
from ase_atom.errors import ConfigError, DataError
from ase_atom.units import AMU_A2_FS2_IN_EV, FS

METHYL_SWAP = [1, 0, 2, 3, 4, 5, 6, 7, 8]  # C1 and C2 change places
MIXED = [0, 1, 2, 6, 4, 5, 3, 7, 8]  # the hydroxyl hydrogen and one of the methyl group do


@pytest.fixture(scope="module")
def reference() -> Trajectory:
    """Springs at 300 K."""
    return harmonic_ethanol()


@pytest.fixture(scope="module")
def sound(reference) -> Comparison:
    """Another sample of the same."""
    return compare(harmonic_ethanol(seed=1), reference)


def changed(trajectory: Trajectory, **fields) -> Trajectory:
    """The same with functions of each run in the place of some of its arrays."""
    runs = tuple(
        replace(run, **{name: make(run) for name, make in fields.items()}) for run in trajectory
    )
    return replace(trajectory, segments=runs)


def names(found: Comparison) -> list[str]:
    return [finding.name for finding in found.findings]


def test_two_samples_of_one_ensemble_do_not_differ(sound):
    assert sound.count(Verdict.DIFFERS) == 0
    assert not sound.findings
    assert sound.count(Verdict.AGREES) > 0.5 * len(sound.lines)
    assert set(sound.sections) == {"structure", "dynamics", "thermodynamics", "conservation"}
    for line in sound.lines:
        assert np.isfinite(line.deviation), line.name


def test_a_trajectory_agrees_with_itself(reference):
    found = compare(reference, reference)
    assert found.count(Verdict.DIFFERS) == 0
    assert not found.findings
    path = found.line("position error after 100 fs")
    assert path.deviation == pytest.approx(0.0, abs=1e-6)
    assert path.verdict is Verdict.AGREES


def test_every_line_knows_its_uncertainty(sound):
    for line in sound.lines:
        assert np.isfinite(line.error), line.name
        assert line.samples > 0 or line.verdict is Verdict.UNCLEAR, line.name


@pytest.mark.parametrize("factor", [1.1, 0.5])
def test_scaled_velocities_are_named(reference, factor):
    given = changed(harmonic_ethanol(seed=1), velocities=lambda run: factor * run.velocities)
    found = compare(given, reference)
    assert names(found) == ["scaled velocities"]
    assert f"{max(factor, 1 / factor):.3g} times too" in found.findings[0].text


def test_the_unit_of_velocities_is_recognised(reference):
    given = changed(harmonic_ethanol(seed=1), velocities=lambda run: run.velocities / FS)
    finding = compare(given, reference).findings[0]
    assert finding.name == "scaled velocities"
    assert "ASE's unit" in finding.text


def test_scaled_velocities_are_named_where_frames_are_far_apart(reference):
    given = changed(
        harmonic_ethanol(interval=20.0, seed=1),
        velocities=lambda run: 1.2 * run.velocities,
    )
    assert names(compare(given, reference)) == ["scaled velocities"]


def test_a_hotter_trajectory_is_not_taken_for_scaled_velocities(reference):
    found = compare(harmonic_ethanol(seed=1, temperature=450.0), reference)
    assert names(found) == ["another temperature"]
    assert "1.5 times" in found.findings[0].text


def rigid(run: Segment) -> np.ndarray:
    """Positions whose hydrogens keep their distance from the atom that they are bonded to."""
    minimum, _, _ = modes()
    out = run.positions.copy()
    for heavy, hydrogens in ((2, [3]), (1, [4, 5]), (0, [6, 7, 8])):
        bond = out[:, hydrogens] - out[:, [heavy]]
        length = np.linalg.norm(minimum[hydrogens] - minimum[heavy], axis=-1)[:, None]
        out[:, hydrogens] = out[:, [heavy]] + bond * (
            length / np.linalg.norm(bond, axis=-1, keepdims=True)
        )
    return out


def test_constrained_hydrogens_are_named(reference):
    given = changed(harmonic_ethanol(seed=1), positions=rigid)
    found = compare(given, reference)
    assert "frozen hydrogens" in names(found)
    (finding,) = [one for one in found.findings if one.name == "frozen hydrogens"]
    assert "SHAKE" in finding.text


def test_hydrogens_that_do_not_move_are_named(reference):
    hydrogen = (reference.numbers == 1)[:, None]
    given = changed(
        harmonic_ethanol(seed=1),
        positions=lambda run: np.where(hydrogen, run.positions[0], run.positions),
        velocities=lambda run: np.where(hydrogen, 1e-9, run.velocities),
    )
    assert "frozen hydrogens" in names(compare(given, reference))


@pytest.mark.parametrize("factor", [2.0, 0.8])
def test_a_wrong_time_step_is_named(reference, factor):
    given = changed(harmonic_ethanol(seed=1), times=lambda run: factor * run.times)
    found = compare(given, reference)
    assert names(found) == ["wrong time step"]
    assert f"2 fs apart and not {2 * factor:g} fs" in found.findings[0].text


def test_a_wrong_time_step_is_named_without_velocities(reference):
    """Played at 1 fs a frame where frames are 0.5 fs apart."""
    given = harmonic_ethanol(frames=1500, interval=0.5, seed=1)
    given = changed(given, velocities=lambda run: None, times=lambda run: 2 * run.times)
    found = compare(replace(given, velocity_source=""), reference)
    assert names(found) == ["wrong time step"]
    assert "0.5 fs apart and not 1 fs" in found.findings[0].text


@pytest.mark.parametrize("order", [METHYL_SWAP, MIXED])
def test_mixed_up_atoms_are_named_and_put_in_order(reference, order):
    given = harmonic_ethanol(seed=1).reordered(order)
    found = compare(given, reference)
    assert "mixed-up atoms" in names(found)
    assert "--reorder" in found.findings[0].text
    assert found.count(Verdict.DIFFERS) > 0
    mended = compare(given, reference, reorder=True)
    assert not mended.findings
    assert mended.count(Verdict.DIFFERS) == 0


def test_atoms_that_change_places_on_the_way_are_named(reference):
    def swap(run: Segment) -> np.ndarray:
        out = run.positions.copy()
        out[300:] = out[300:, MIXED]
        return out

    found = compare(changed(harmonic_ethanol(seed=1), positions=swap), reference)
    assert names(found)[0] == "mixed-up atoms"
    assert "frame 300 (600 fs)" in found.findings[0].text


def test_a_drifting_centre_of_mass_is_named(reference):
    def shifted(run: Segment) -> np.ndarray:
        return run.positions + 1e-3 * run.times[:, None, None] * np.array([1.0, 0.0, 0.0])

    found = compare(changed(harmonic_ethanol(seed=1), positions=shifted), reference)
    assert "drifting centre of mass" in names(found)
    text = next(f.text for f in found.findings if f.name == "drifting centre of mass")
    assert "1 Å/ps" in text
    assert "positions were shifted" in text


def test_a_centre_of_mass_that_drifts_with_its_velocity_is_named(reference):
    drift = np.array([2e-3, 0.0, 0.0])
    given = changed(
        harmonic_ethanol(seed=1),
        positions=lambda run: run.positions + run.times[:, None, None] * drift,
        velocities=lambda run: run.velocities + drift,
    )
    found = compare(given, reference)
    assert names(found) == ["drifting centre of mass"]
    assert "positions were shifted" not in found.findings[0].text


def test_a_drifting_energy_is_named(reference):
    def energies(run: Segment) -> np.ndarray:
        kinetic = harmonic_ethanol(seed=1).kinetic_energies()[0].mean()
        return np.full(len(run), kinetic) + 0.05 * run.times / 1000

    steady = changed(reference, energies=lambda run: np.zeros(len(run)))
    given = changed(harmonic_ethanol(seed=1), energies=energies)
    found = compare(given, steady, tolerances=Tolerances(drift=2.0))
    assert "drifting energy" in names(found)
    assert found.line("drift of the total energy").deviation == pytest.approx(50 / 9, rel=0.3)


def cooled(trajectory: Trajectory, factor: float, which: slice) -> Trajectory:
    """The same with some of the modes' amplitudes and speeds multiplied by a factor."""
    minimum, _, shapes = modes()
    mass = trajectory.masses[:, None]

    def part(field: np.ndarray) -> np.ndarray:
        along = np.einsum("mnx,tnx->tm", shapes[which] * mass, field)
        return np.einsum("tm,mnx->tnx", along, shapes[which])

    return changed(
        trajectory,
        positions=lambda run: run.positions + (factor - 1) * part(run.positions - minimum),
        velocities=lambda run: run.velocities + (factor - 1) * part(run.velocities),
    )


def test_failing_equipartition_is_named(reference):
    """All stretches of hydrogens have a sixth of their energy."""
    found = compare(cooled(harmonic_ethanol(seed=1), 0.4, slice(-6, None)), reference)
    assert {"cold stretches", "failure of equipartition"} <= set(names(found))
    assert found.line("temperature of H over all").verdict is Verdict.DIFFERS
    cold = next(one.text for one in found.findings if one.name == "cold stretches")
    for bond in ("O1–H1", "C2–H2,3", "C1–H4,5,6"):
        assert f"{bond} has 0." in cold
    assert "C1–C2" not in cold


def test_the_one_stretch_that_lost_its_energy_is_named(reference):
    _, _, shapes = modes()
    change = [np.linalg.norm(one[3] - one[2]) for one in shapes]
    k = int(np.argmax(np.where(wavenumbers() > 2500, change, 0)))
    found = compare(cooled(harmonic_ethanol(seed=1), 0.4, slice(k, k + 1)), reference)
    (cold,) = [one.text for one in found.findings if one.name == "cold stretches"]
    assert cold.startswith("O1–H1 has 0.")
    assert cold.count("reference's kinetic energy") == 1


def test_what_the_reference_lacks_too_is_not_named(reference):
    """Microcanonical runs keep the energies of their starts."""
    uneven = cooled(reference, 0.4, slice(-6, None))
    found = compare(cooled(harmonic_ethanol(seed=1), 0.4, slice(-6, None)), uneven)
    assert not found.findings
    assert found.line("temperature of H over all").trajectory.value < 0.95
    assert found.count(Verdict.DIFFERS) == 0


def test_canonical_trajectories_are_held_against_equipartition(reference):
    """Where the reference is compatible with it; else against the reference's own."""
    even, uneven = (
        replace(one, facts={"ensemble": "langevin"})
        for one in (reference, cooled(reference, 0.4, slice(-6, None)))
    )
    for given, theirs in ((even, 1.0), (uneven, None)):
        line = compare(given, given).line("temperature of H over all")
        assert line.verdict is not Verdict.DIFFERS
        assert (line.reference.value == 1.0) is (theirs == 1.0)


def test_an_operator_is_started_from_the_reference(ethanol):
    springs = SpringOperator(ethanol, 30.0)
    random = np.random.default_rng(0)
    runs = []
    for _ in range(10):
        start = Atoms(ethanol)
        start.rattle(0.03, rng=random)
        runs.append(_march(springs, start, 300, 2.0))
    reference = Trajectory.from_arrays(
        ethanol.numbers,
        np.stack([x for x, _ in runs]),
        np.stack([v for _, v in runs]),
        2.0 * np.arange(300),
        facts={"ensemble": "nve"},
    )
    settings = {"stride": 16.0, "energy_correction": False}
    found = compare(None, reference, operator=springs, rollout=settings)
    assert found.trajectory.frames == reference.frames
    # The exact map, but for the angular momentum, which its springs do not keep and NVE restores.
    assert found.line("position error after 100 fs").verdict is Verdict.AGREES
    assert any(what.startswith("S2S") for _, what, _ in found.facts)
    both = compare(reference, harmonic_reference(reference), operator=springs, rollout=settings)
    assert any("Paths are those of" in text for _, text in both.remarks)
    assert any("of SpringOperator: it was started from" in note for note in both.reference.notes)


@pytest.mark.parametrize(
    ("facts", "kelvin", "said"),
    [({"temperature_K": "450"}, 450.0, "as hot states"), ({}, 150.0, "mean of hot, which states")],
)
def test_a_thermostat_is_as_warm_as_the_reference(facts, kelvin, said):
    hot = harmonic_ethanol(4, 40, temperature=150.0)
    hot = replace(hot, name="hot", facts={"ensemble": "nve"} | facts)
    operator = SpringOperator(hot.atoms())
    for ensemble in ("langevin", "bussi"):
        settings = {"ensemble": ensemble, "stride": 4.0, "energy_correction": False}
        _, made, _ = run_operator(operator, hot, None, settings)
        assert float(made.facts["temperature_K"]) == pytest.approx(kelvin, rel=0.25)
        assert any("its thermostat is at" in note and said in note for note in made.notes)
    for name in ("friction", "temperature"):
        with pytest.raises(ConfigError, match=f"a {name} goes with ensemble langevin or bussi"):
            run_operator(operator, hot, None, {"ensemble": "nve", name: 0.1})
    settings["temperature"] = 77.0
    _, made, _ = run_operator(operator, hot, None, settings)
    assert made.facts["temperature_K"] == "77"
    assert not any("thermostat" in note for note in made.notes)


def harmonic_reference(reference: Trajectory) -> Trajectory:
    """The same runs, each from its tenth frame on, so that starts are no common ones."""
    return replace(reference, segments=tuple(run[10:] for run in reference))


def _march(springs: SpringOperator, atoms: Atoms, frames: int, interval: float):
    import torch

    from ase_atom.state import PhaseState

    state = PhaseState.from_atoms(atoms)
    times = interval * torch.arange(frames, dtype=torch.float64)
    positions, velocities = springs(state, times)
    return positions[0].numpy(), velocities[0].numpy()


class SpringEnergy(Calculator):
    """The energy that the trajectories move in."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        minimum, omega, shapes = modes()
        masses = atoms.get_masses()[:, None]
        along = np.einsum("mnx,nx->m", shapes * masses, atoms.positions - minimum)
        pull = omega**2 * along * AMU_A2_FS2_IN_EV
        forces = -np.einsum("m,mnx->nx", pull, shapes) * masses
        self.results = {"energy": float(0.5 * (pull * along).sum()), "forces": forces}


def test_energies_and_modes_come_from_a_calculator(reference):
    found = compare(harmonic_ethanol(seed=1), reference, energy=SpringEnergy(), energy_frames=100)
    line = found.line("mean potential energy, from the reference's")
    assert abs(line.deviation) < 5 * line.error
    drift = found.line("drift of the total energy")
    assert drift.deviation == pytest.approx(0.0, abs=1e-6)
    assert {plot.name for plot in found.plots} >= {"potential-energy", "total-energy", "modes"}
    ratios = [line for line in found.lines if line.group == "equipartition between modes"]
    known = wavenumbers()
    assert len(ratios) == len(known) == 21
    for line, wavenumber in zip(ratios, known, strict=True):
        stated = float(re.search(r"([\d.]+) cm⁻¹", line.name)[1])
        assert stated == pytest.approx(wavenumber, abs=2.0)
        # A slow mode swings but a few times in a run.
        assert line.trajectory.value == pytest.approx(1.0, abs=0.02 if wavenumber > 1000 else 0.3)


def test_infrared_spectra_where_there_are_dipoles(reference):
    charges = np.array([-0.3, 0.2, -0.6, 0.4, 0.0, 0.0, 0.1, 0.1, 0.1])

    def polar(trajectory: Trajectory) -> Trajectory:
        return changed(trajectory, dipoles=lambda run: charges @ run.positions)

    assert not any(plot.name == "infrared" for plot in compare(reference, reference).plots)
    found = compare(polar(harmonic_ethanol(seed=1)), polar(reference))
    assert any(plot.name == "infrared" for plot in found.plots)
    # Charges that stand still in the modes' frame: strength is |Σ q x|² of each mode.
    _, _, shapes = modes()
    strength = ((charges @ shapes) ** 2).sum(1)
    spectrum = infrared_spectrum(polar(harmonic_ethanol(20, 2000)), 3900.0, 4000.0)
    for k in np.argsort(strength)[-3:]:
        near = np.abs(spectrum.wavenumbers - wavenumbers()[k]) < 25
        others = np.abs(wavenumbers() - wavenumbers()[k]) < 25
        expected = strength[others].sum() / strength.sum()
        assert spectrum.power[near].sum() == pytest.approx(expected, rel=0.1)


def test_infrared_spectra_want_a_calculator_with_dipoles(reference):
    with pytest.raises(ConfigError, match="--energy"):
        compare(reference, reference, infrared=True)
    with pytest.raises(ConfigError, match="has dipoles"):
        compare(reference, reference, energy=SpringEnergy(), infrared=True)


def test_runs_that_break_are_named(reference):
    runs = (reference.segments[0][:3], *reference.segments[1:])
    given = replace(
        reference, segments=runs, facts={"ensemble": "nve", "broken runs": "1 of 10, by hand"}
    )
    found = compare(given, reference)
    assert names(found) == ["broken runs"]
    assert any("1 runs that end before" in text for _, text in found.remarks)


def short(trajectory: Trajectory, frames: int) -> Trajectory:
    return replace(trajectory, segments=(trajectory.segments[0][:frames],))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: short(t, 12), "12 frames"),
        (lambda t: changed(t, positions=lambda run: run.positions / 10), "nm read as Å"),
        (lambda t: changed(t, positions=lambda run: run.positions / 0.529), "bohr read as Å"),
        (lambda t: changed(t, positions=lambda run: run.positions * 30), "not in Å"),
        (
            lambda t: t.reordered([2, 1, 0, 3, 4, 5, 6, 7, 8]),
            "in the order 2 1 0 3 4 5 6 7 8 they fit",
        ),
        (
            lambda t: replace(t, numbers=np.array([6, 6, 7, 1, 1, 1, 1, 1, 1])),
            "different molecules",
        ),
    ],
)
def test_what_cannot_be_compared(reference, change, words):
    with pytest.raises(DataError, match=words):
        compare(change(reference), reference)


def test_isomers_are_different_molecules(reference):
    ether = Atoms(
        "CCOH6",
        positions=[
            [-1.16, -0.2, 0.0],
            [1.16, -0.2, 0.0],
            [0.0, 0.59, 0.0],
            [-2.02, 0.48, 0.0],
            [-1.21, -0.83, 0.89],
            [-1.21, -0.83, -0.89],
            [2.02, 0.48, 0.0],
            [1.21, -0.83, 0.89],
            [1.21, -0.83, -0.89],
        ],
    )
    frames = np.tile(ether.positions, (30, 1, 1))
    with pytest.raises(DataError, match="different isomers of C2H6O"):
        compare(Trajectory.from_arrays(ether.numbers, frames), reference)


def test_nothing_to_compare(reference):
    with pytest.raises(ConfigError, match="name a trajectory or an operator"):
        compare(None, reference)


def test_missing_velocities_leave_lines_out_and_say_so(reference):
    given = changed(harmonic_ethanol(interval=4.0, seed=1), velocities=lambda run: None)
    found = compare(replace(given, velocity_source=""), reference)
    reasons = {one.name: one.reason for one in found.missing}
    assert "4 fs apart are too far" in reasons["vibrational spectrum"]
    assert "temperatures" in reasons
    assert found.line("bond C2–O1: mean").verdict is Verdict.AGREES


def test_a_moment_shows_no_difference():
    """A hundred femtoseconds of one run are one sample, however many frames they have."""
    found = compare(harmonic_ethanol(1, 60, seed=1), harmonic_ethanol(1, 60))
    assert found.count(Verdict.DIFFERS) == 0
    assert not found.findings


def test_frames_too_far_apart_for_a_spectrum_leave_it_out(reference):
    found = compare(harmonic_ethanol(frames=300, interval=10.0, seed=1), reference)
    (reason,) = [m.reason for m in found.missing if m.name == "vibrational spectrum"]
    assert "frame every 10 fs" in reason
    assert "1668 cm⁻¹" in reason


def test_different_frame_intervals_are_compared_at_common_times(reference):
    """The same starts, every second frame; and frames that never fall together."""
    found = compare(harmonic_ethanol(frames=250, interval=4.0), reference)
    assert found.line("position error after 100 fs").deviation == pytest.approx(0.0, abs=1e-6)
    assert any("4 fs apart, those of the reference 2 fs" in n for n in found.trajectory.notes)
    odd = compare(harmonic_ethanol(frames=30, interval=2.0 / 31), reference)
    assert any("times in common" in one.reason for one in odd.missing)


def test_frames_that_are_not_finite_are_refused():
    given = harmonic_ethanol(2, 40)
    given.segments[1].positions[7, 2, 0] = np.nan
    with pytest.raises(DataError, match=r"positions of frame 7 of springs 1 are not finite"):
        given.checked()
