"""Trajectories from files: those of ase_atom.io, bursts, npz archives, folders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.data import atomic_masses
from ase.units import kcal, mol
from harmonic_bursts import hydrogen_bursts, water_bursts
from harmonic_ethanol import harmonic_ethanol

from ase_atom.analysis import Trajectory, load_trajectory
from ase_atom.analysis.inputs.checks import with_masses_noted
from ase_atom.analysis.measures.motion import split_motion, temperatures
from ase_atom.analysis.molecule.coordinates import perceive
from ase_atom.analysis.reference_engines import make_calculator
from ase_atom.errors import AtomError, ConfigError, DataError, TrajectoryError
from ase_atom.io import open_trajectory
from ase_atom.units import AMU_A2_FS2_IN_EV, KB
from training.data.store import write_bursts


def written(path, trajectory: Trajectory, run: int = 0) -> None:
    """Write one run to a file of any format."""
    segment = trajectory.segments[run]
    with open_trajectory(path, trajectory.atoms()) as writer:
        writer.write_frames(segment.positions, segment.velocities, segment.times)


@pytest.mark.parametrize(
    ("ending", "moving", "error"),
    [(".dcd", False, 2e-6), (".xtc", False, 6e-3), (".extxyz", True, 1e-7), (".traj", True, 1e-9)],
)
def test_what_is_written_is_loaded(tmp_path, ending, moving, error):
    given = harmonic_ethanol(1, 40)
    written(tmp_path / f"t{ending}", given)
    found = load_trajectory(tmp_path / f"t{ending}")
    assert found.interval == pytest.approx(2.0, rel=1e-4)
    assert found.has_velocities is moving
    assert np.array_equal(found.numbers, given.numbers)
    np.testing.assert_allclose(found.segments[0].positions, given.segments[0].positions, atol=error)
    if moving:
        np.testing.assert_allclose(
            found.segments[0].velocities, given.segments[0].velocities, atol=1e-7
        )


@pytest.mark.parametrize("ending", [".dcd", ".xtc", ".extxyz"])
def test_a_molecule_in_a_cell_is_made_whole(tmp_path, ending):
    """Wrapped atom by atom, as many programs write it: else bonds and velocities would be wrong."""
    given = harmonic_ethanol(1, 40)
    path, atoms = tmp_path / f"t{ending}", given.atoms()
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    atoms.positions += 2.0
    with open_trajectory(path, atoms, frame_interval=2.0) as writer:
        for n, x in enumerate(given.segments[0].positions):
            atoms.positions[:] = x + 0.1 * n
            atoms.wrap()
            writer.write(atoms)
    found = load_trajectory(path)
    x = found.segments[0].positions
    there = given.segments[0].positions + 0.1 * np.arange(40)[:, None, None]
    np.testing.assert_allclose(x - x[0, 0], there - there[0, 0], atol=1e-2)
    assert any("walls of its cell" in note for note in found.notes)


def test_isotopes_are_loaded(tmp_path):
    """Deuterium of 300 K has that temperature; what files lack, a topology gives."""
    atoms = molecule("CH3CH2OH")
    masses = atoms.get_masses()
    masses[atoms.numbers == 1] = 2.014
    atoms.set_masses(masses)
    rng = np.random.default_rng(1)
    spread = np.sqrt(KB * 300 / (AMU_A2_FS2_IN_EV * masses))[:, None]
    velocities = spread * rng.standard_normal((2000, len(atoms), 3))
    positions = atoms.positions + 0.02 * rng.standard_normal(velocities.shape)
    for name in ("t.extxyz", "t.traj", "t.nc"):
        with open_trajectory(tmp_path / name, atoms, frame_interval=1.0) as writer:
            writer.write_frames(positions, velocities)
        topology = atoms if name == "t.nc" else None
        found = load_trajectory(tmp_path / name, topology)
        np.testing.assert_allclose(found.masses, masses)
        parts = temperatures(found, [split_motion(run, found.masses, 3) for run in found])
        assert parts.elements[1][0].mean() == pytest.approx(300, rel=0.03)
    bare = load_trajectory(tmp_path / "t.nc")
    np.testing.assert_allclose(bare.masses, atomic_masses[atoms.numbers])
    told = with_masses_noted(bare, found).notes[-1]
    assert "atom H1 has 1.008 amu, and 2.014 amu there" in told
    assert with_masses_noted(found, found) is found
    with pytest.raises(DataError, match="hold different isotopes"):
        load_trajectory(tmp_path)


def test_a_folder_holds_runs(tmp_path):
    given = harmonic_ethanol(3, 30)
    for run in range(3):
        written(tmp_path / f"{run}.dcd", given, run)
    found = load_trajectory(tmp_path)
    assert len(found.segments) == 3
    np.testing.assert_allclose(found.segments[2].positions, given.segments[2].positions, atol=2e-6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no trajectory"):
        load_trajectory(tmp_path / "empty")


def test_runs_that_were_appended_are_told_apart(tmp_path):
    given = harmonic_ethanol(2, 30)
    segments = given.segments
    path = tmp_path / "t.extxyz"
    with open_trajectory(path, given.atoms()) as writer:
        for run in segments:
            writer.write_frames(run.positions, run.velocities, run.times)
    found = load_trajectory(path)
    assert [len(run) for run in found] == [30, 30]
    assert "taken as 2 runs" in found.notes[0]
    assert found.interval == pytest.approx(2.0)


def test_stated_intervals_are_for_files_without_times(tmp_path):
    given = harmonic_ethanol(1, 30)
    x = given.segments[0].positions
    np.savez(tmp_path / "bare.npz", numbers=given.numbers, positions=x)
    np.savez(tmp_path / "md17.npz", z=given.numbers, R=x)  # times are assumed where none are told
    for name in ("bare.npz", "md17.npz"):
        found = load_trajectory(tmp_path / name, frame_interval=2.0)
        assert found.interval == pytest.approx(2.0)
        assert found.notes == ("frames were taken as 2 fs apart, as given",)


def test_stated_intervals_may_not_gainsay_a_file(tmp_path):
    written(tmp_path / "t.dcd", harmonic_ethanol(1, 30))
    found = load_trajectory(tmp_path / "t.dcd", frame_interval=2.0)
    assert found.interval == pytest.approx(2.0, rel=1e-4)
    assert not any("as given" in note for note in found.notes)
    with pytest.raises(
        DataError, match=r"t\.dcd are 2 fs apart by its own times, not 0\.5 fs as given"
    ):
        load_trajectory(tmp_path / "t.dcd", frame_interval=0.5)


def test_bursts(tmp_path):
    bursts = water_bursts(4)
    path = tmp_path / "water.h5"
    write_bursts(path, bursts)
    found = load_trajectory(path)
    assert len(found.segments) == 4
    assert found.interval == 1.0
    assert found.facts["ensemble"] == "nve"
    assert "mixes bursts of 300, 500 K" in found.notes[0]
    for run, burst in zip(found, bursts, strict=True):
        np.testing.assert_array_equal(run.positions, burst.positions)
        np.testing.assert_array_equal(run.velocities, burst.velocities)
        np.testing.assert_array_equal(run.energies, burst.energies)
    warm = load_trajectory(path, temperature=500.0)
    assert len(warm.segments) == 2
    assert warm.facts["temperature_K"] == "500"
    with pytest.raises(DataError, match="no burst at 350 K, but at 300, 500 K"):
        load_trajectory(path, temperature=350.0)


def test_bursts_of_several_molecules_are_chosen_by_name(tmp_path):
    path = tmp_path / "both.h5"
    write_bursts(path, water_bursts(1) + hydrogen_bursts(1))
    with pytest.raises(DataError, match="bursts of hydrogen, water: choose one"):
        load_trajectory(path)
    assert len(load_trajectory(path, molecule="hydrogen").numbers) == 2
    with pytest.raises(DataError, match="no bursts of 'methane'"):
        load_trajectory(path, molecule="methane")


def test_md17(tmp_path):
    given = harmonic_ethanol(1, 200, 0.5)
    x = given.segments[0].positions
    energies = np.linspace(-97000, -96990, 200)[:, None]
    np.savez(tmp_path / "md17.npz", z=given.numbers, R=x, E=energies, F=0 * x, name="ethanol")
    found = load_trajectory(tmp_path / "md17.npz")
    assert found.interval == 0.5
    assert "0.5 fs apart, as those of MD17" in found.notes[0]
    np.testing.assert_allclose(found.segments[0].energies, energies[:, 0] * kcal / mol)
    np.savez(tmp_path / "mixed.npz", z=given.numbers, R=np.random.default_rng(0).permutation(x))
    found = load_trajectory(tmp_path / "mixed.npz")
    assert found.interval is None
    assert "do not follow each other" in found.notes[0]


def test_rmd17(tmp_path):
    given = harmonic_ethanol(1, 400, 0.5)
    picks = np.random.default_rng(0).permutation(400)[:150]
    np.savez(
        tmp_path / "rmd17.npz",
        nuclear_charges=given.numbers,
        coords=given.segments[0].positions[picks],
        energies=np.zeros(150),
        old_indices=picks,
    )
    found = load_trajectory(tmp_path / "rmd17.npz")
    assert found.interval is None
    np.testing.assert_array_equal(
        found.segments[0].positions, given.segments[0].positions[np.sort(picks)]
    )
    assert any("unevenly spaced" in note for note in found.notes)


def test_plain_arrays(tmp_path):
    given = harmonic_ethanol(1, 40)
    run = given.segments[0]
    np.savez(
        tmp_path / "mine.npz",
        numbers=given.numbers,
        positions=run.positions / 10,
        velocities=run.velocities,
        times=run.times,
        r_unit="nm",
    )
    found = load_trajectory(tmp_path / "mine.npz")
    np.testing.assert_allclose(found.segments[0].positions, run.positions)
    assert found.velocity_source == "given"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"R": np.zeros((3, 2, 3))}, "should hold numbers and positions"),
        ({"z": [1, 1], "R": np.zeros((30, 3, 3))}, r"positions of .* are \[30, 3, 3\]"),
        ({"z": [1, 1], "R": np.zeros((30, 2, 3)), "r_unit": "mile"}, "unit 'mile'"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, arrays, words):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load_trajectory(tmp_path / "bad.npz")


def test_what_is_no_archive(tmp_path):
    (tmp_path / "bad.npz").write_text("nothing")
    with pytest.raises(TrajectoryError, match="no npz archive"):
        load_trajectory(tmp_path / "bad.npz")
    with pytest.raises(TrajectoryError, match="does not exist"):
        load_trajectory(tmp_path / "nowhere.dcd")
    (tmp_path / "t.log").write_text("nothing")
    with pytest.raises(AtomError, match="ending must be one of"):
        load_trajectory(tmp_path / "t.log")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_archives_that_were_not_fetched_whole(tmp_path, content):
    path = tmp_path / "half.npz"
    path.write_bytes(content)
    with pytest.raises(TrajectoryError, match=r"half\.npz is no npz archive"):
        load_trajectory(path)


def test_a_calculator_that_lacks_its_program_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="orca:ORCA cannot be made without arguments"):
        make_calculator("ase.calculators.orca:ORCA")


def test_the_start_can_be_discarded():
    given = harmonic_ethanol(2, 100)
    found = given.discarding(50.0)
    assert [len(run) for run in found] == [75, 75]
    assert found.segments[0].times[0] == 50.0
    with pytest.raises(DataError, match="shorter than the discarded"):
        given.discarding(1000.0)
    bare = replace(given, segments=tuple(replace(run, times=None) for run in given))
    with pytest.raises(DataError, match="times of springs are unknown"):
        bare.discarding(50.0)


@pytest.mark.parametrize(
    ("labels", "masses"),
    [("OHH", None), (["8", "1", "1"], None), (["o", "H1", "D"], [15.999, 1.008, 2.014])],
)
@pytest.mark.parametrize("name", ["z", "symbols"])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_element_symbols_of_an_archive(tmp_path, labels, masses, name, as_bytes):
    x = molecule("H2O").positions + np.zeros((5, 1, 1))
    given = np.array(list(labels), dtype="S2" if as_bytes else "U2")
    np.savez(tmp_path / "t.npz", R=x, **{name: given})
    found = load_trajectory(tmp_path / "t.npz")
    assert found.numbers.tolist() == [8, 1, 1]
    expected = atomic_masses[[8, 1, 1]] if masses is None else masses
    np.testing.assert_allclose(found.masses, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (["O", "H", "Q"], "atom 3 is called 'Q'"),
        ([8, 1, 0], "atom 3 has the atomic number 0"),
        ([8, 1, 1.5], r"atom 3 has the atomic number 1\.5"),
        ([8, 1, 300], "atom 3 has the atomic number 300"),
    ],
)
def test_what_are_no_elements_of_an_archive_is_one_line(tmp_path, numbers, message):
    np.savez(tmp_path / "t.npz", z=numbers, R=np.zeros((5, 3, 3)))
    with pytest.raises(DataError, match=message):
        load_trajectory(tmp_path / "t.npz")


def test_an_archive_without_frames_is_one_line(tmp_path):
    np.savez(tmp_path / "t.npz", z=[8, 1, 1], R=np.zeros((0, 3, 3)), E=np.zeros(0))
    with pytest.raises(DataError, match=r"t\.npz holds no frame$"):
        load_trajectory(tmp_path / "t.npz")


@pytest.mark.parametrize("missing", ["velocities", "energies"])
def test_what_only_some_frames_hold_is_noted_and_not_filled_in(tmp_path, missing):
    given = harmonic_ethanol(1, 10)
    run = given.segments[0]
    with open_trajectory(tmp_path / "t.traj", given.atoms()) as writer:
        for frame in range(10):
            part = slice(frame, frame + 1)
            held = frame < 5
            writer.write_frames(
                run.positions[part],
                run.velocities[part] if held or missing == "energies" else None,
                run.times[part],
                energies=np.zeros(1) if held or missing == "velocities" else None,
            )
    found = load_trajectory(tmp_path / "t.traj")
    assert getattr(found.segments[0], missing) is None
    assert any(f"only some of its frames have {missing}" in note for note in found.notes)


def test_an_interval_where_stored_times_do_not_increase(tmp_path):
    given = harmonic_ethanol(1, 10)
    for ending in (".nc", ".xyz", ".traj"):
        with open_trajectory(tmp_path / f"t{ending}", given.atoms()) as writer:
            writer.write_frames(given.segments[0].positions, times=np.zeros(10))
        found = load_trajectory(tmp_path / f"t{ending}", frame_interval=0.5)
        assert found.interval == pytest.approx(0.5)


def test_atoms_are_called_as_in_the_pdb_file_beside(ethanol, tmp_path):
    """The names of a structure that came as a PDB file stay with its trajectory."""
    names = ["CB", "CA", "OG", "HG", "HA2", "HA3", "HB1", "HB2", "HB3"]
    with open_trajectory(tmp_path / "run.dcd", ethanol, frame_interval=1.0) as writer:
        for shift in (0.0, 0.01, 0.02):
            writer.write_frames(ethanol.positions[None] + shift)
    beside = tmp_path / "run.pdb"
    lines = beside.read_text().splitlines()
    left = iter(names)
    for index, line in enumerate(lines):
        if line.startswith("HETATM"):
            lines[index] = f"{line[:12]} {next(left):<3s}{line[16:]}"
    beside.write_text("\n".join(lines) + "\n")
    found = load_trajectory(tmp_path / "run.dcd")
    assert list(found.names) == names

    def bonds(called=None):
        coordinates = perceive(found.numbers, found.pooled("positions"), called)
        return {each.label for each in coordinates.of_kind("bond")}

    assert bonds(found.names) == {"CB–CA", "CA–OG", "OG–HG", "CA–HA2,3", "CB–HB1,2,3"}
    assert bonds() == {"C1–C2", "C2–O1", "O1–H1", "C2–H2,3", "C1–H4,5,6"}
