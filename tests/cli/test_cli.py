"""The command line, end to end."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import ase.units
import MDAnalysis
import mdtraj
import numpy as np
import pytest
from ase.constraints import FixCom
from ase.io import read
from conftest import BRIEF, CALM, ETHANOL

import ase_atom
from ase_atom import units
from ase_atom.cli import main
from ase_atom.operator import list_operators


def test_from_structure_to_trajectory(go, out):
    code, text, notes = go(*CALM, "--frame-interval", "1fs")
    assert code == 0
    assert notes[0] == "velocities are drawn at 1 K, without equilibration"
    assert sorted(file.name for file in out.iterdir()) == ["t.dcd", "t.pdb"]

    trajectory = mdtraj.load(out / "t.dcd", top=out / "t.pdb")
    assert trajectory.n_frames == 81
    np.testing.assert_allclose(10 * trajectory.xyz[0], read(ETHANOL).positions, atol=1e-5)
    assert np.isfinite(trajectory.xyz).all()
    assert abs(trajectory.xyz[-1] - trajectory.xyz[0]).max() > 1e-3
    universe = MDAnalysis.Universe(out / "t.pdb", out / "t.dcd")
    assert 1000 * universe.trajectory[-1].time == pytest.approx(80.0, rel=1e-5)
    assert len(universe.atoms.bonds) == 8

    for fact in (
        "simulated               80 fs in 81 frames",
        "ns/day",
        "K mean over N_f = 24 degrees of freedom",
        "largest bond deviation",
        str(out / "t.dcd"),
        str(out / "t.pdb"),
    ):
        assert fact in text
    # The bond named in the summary, as in the PDB file, is the one that strayed furthest.
    name = text.split("largest bond deviation")[1].split(" Å, ")[1].split()[0]
    names = [atom.name for atom in trajectory.topology.atoms]
    i, j = (names.index(part) for part in name.split("-"))
    bonds = np.array([[b[0].index, b[1].index] for b in trajectory.topology.bonds])
    stray = abs(np.diff(mdtraj.compute_distances(trajectory, bonds)[[0, -1]], axis=0)).max()
    lengths = 10 * mdtraj.compute_distances(trajectory, np.array([[i, j]]))[:, 0]
    assert abs(lengths - lengths[0]).max() >= 10 * stray - 1e-5


@pytest.mark.parametrize("constraint", [None, FixCom()])
def test_fixcom_in_the_structure_stops_its_drift(go, out, ethanol, tmp_path, constraint):
    ethanol.set_momenta(np.outer(ethanol.get_masses(), [0.01, 0, 0]))
    ethanol.rattle(0.02, seed=1)
    ethanol.set_constraint(constraint)
    structure = tmp_path / "drifting.traj"
    ethanol.write(structure)
    options = ("--keep-zero-velocities", "--ensemble", "nve", *BRIEF)
    assert go(*options, structure=structure, output="t.xyz")[0] == 0
    first, last = (read(out / "t.xyz", index).get_center_of_mass() for index in (0, -1))
    moved = float(np.linalg.norm(last - first))
    drifted = 0.01 * 80 * ase.units.fs
    assert moved == pytest.approx(0.0 if constraint else drifted, abs=0.02 * drifted)


@pytest.mark.parametrize("output", ["t.xyz", "t.traj"])
def test_velocities_reach_the_file(go, out, output):
    code, _, _ = go(*CALM, output=output)
    assert code == 0
    frames = read(out / output, ":")
    assert len(frames) == 41
    # Within a jump velocities are derivatives: displacements over 2 fs follow their mean.
    x = np.array([frame.positions for frame in frames])
    v = np.array([units.velocities_from_ase(frame.get_velocities()) for frame in frames])
    step, mean = x[1:] - x[:-1], v[1:] + v[:-1]
    assert np.corrcoef(step.ravel(), mean.ravel())[0, 1] > 0.9


def test_a_pdb_of_the_molecule_is_the_topology_beside(go, out):
    out.mkdir()
    structure = out / "t.pdb"
    structure.write_bytes(ETHANOL.with_suffix(".pdb").read_bytes())
    before = structure.read_bytes()
    assert go(*CALM, structure=structure, output="t.dcd")[0] == 0
    assert structure.read_bytes() == before
    assert mdtraj.load(out / "t.dcd", top=structure).n_atoms == 9
    # Asked for once more, the trajectory is in the way and the topology is not.
    code, _, notes = go(*CALM, structure=structure, output="t.dcd")
    assert (code, "t.dcd exists" in notes[0]) == (2, True)
    assert go(*CALM, "--overwrite", structure=structure, output="t.dcd")[0] == 0
    assert structure.read_bytes() == before


def test_the_same_seed_gives_the_same_file(go, out):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert go(*CALM, "--seed", seed, output=f"{name}.xyz")[0] == 0
    a, b, c = ((out / f"{name}.xyz").read_text() for name in "abc")
    assert a == b != c


def test_nve_from_given_velocities(go, tmp_path, out):
    atoms = read(ETHANOL)
    atoms.set_velocities(units.velocities_to_ase(np.full((9, 3), [0.001, 0.0, 0.0])))
    atoms.write(tmp_path / "moving.extxyz")
    code, _, notes = go(
        *BRIEF, "--ensemble", "nve", structure=tmp_path / "moving.extxyz", output="t.traj"
    )
    assert code == 0
    assert len(notes) == 1  # what is run, and no warning
    frames = read(out / "t.traj", ":")
    drift = frames[-1].get_center_of_mass() - frames[0].get_center_of_mass()
    np.testing.assert_allclose(drift, [0.08, 0.0, 0.0], atol=1e-9)


def test_a_temperature_that_nothing_takes_is_refused(go, tmp_path, out):
    atoms = read(ETHANOL)
    atoms.set_velocities(units.velocities_to_ase(np.full((9, 3), [0.001, 0.0, 0.0])))
    atoms.write(tmp_path / "moving.extxyz")
    code, _, notes = go(*CALM, "--ensemble", "nve", structure=tmp_path / "moving.extxyz")
    assert code == 2
    assert len(notes) == 1
    assert "--temperature 1 has no effect with --ensemble nve" in notes[0]
    assert "--ensemble nve and velocities in the structures" in notes[0]
    assert not list(out.iterdir())
    # At rest it is that of the velocities to begin with.
    assert go(*CALM, "--ensemble", "nve", output="t.xyz")[0] == 0


def test_starting_from_rest_if_told(go, out):
    code, _, notes = go(*BRIEF, "--keep-zero-velocities", "--ensemble", "nve", output="t.traj")
    assert code == 0
    assert len(notes) == 1
    assert abs(read(out / "t.traj", 0).get_velocities()).max() == 0.0


def test_a_temperature_outside_the_range_is_a_warning(go):
    code, _, notes = go("--time", "4fs", "--stride", "2fs", "--temperature", "0.5")
    assert code == 0
    assert notes[0] == (
        "ase-atom: warning: 0.5 K is outside the range 1 to 500 K that tiny was trained for"
    )


def test_a_broken_simulation_keeps_the_good_frames(go, out):
    code, text, notes = go("--time", "10ps", "--temperature", "500", "--frame-interval", "1fs")
    assert (code, text) == (3, "")
    assert "the molecule broke at" in notes[-1]
    kept = mdtraj.load(out / "t.dcd", top=out / "t.pdb")
    assert f"holds the good frames, {kept.n_frames} up to {kept.n_frames - 1} fs" in notes[-1]
    assert kept.n_frames > 1


def test_operators_are_listed_with_their_facts(capsys):
    assert main(["operators", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == [card.name for card in list_operators()]
    assert main(["operators"]) == 0
    text = capsys.readouterr().out
    for card in cards:
        assert card["name"] in text
        general = f"any of up to {card['largest_molecule']} atoms; trained on {len(card['smiles'])}"
        assert (general if card["largest_molecule"] else card["smiles"][0]) in text


def test_the_installed_script_answers():
    script = Path(sysconfig.get_path("scripts")) / "ase-atom"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"ase-atom {ase_atom.__version__}"


def test_help_does_not_wait_for_the_heavy_libraries():
    code = (
        "import sys; from ase_atom.cli import main; code = main(['run', '--help']);"
        "heavy = {'torch', 'openmm', 'rdkit', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--frame-interval" in done.stdout


def test_an_ensemble_of_another_package_runs(tmp_path, monkeypatch, capsys):
    """It names itself in the registry, and the command line knows it and its settings."""
    from dataclasses import dataclass

    from ase_atom.propagation import Langevin
    from ase_atom.propagation.ensembles import Parameter, ensembles, register, registry

    monkeypatch.setattr(registry, "_KNOWN", ensembles())

    @register
    @dataclass(frozen=True)
    class Slow(Langevin):
        name = "slow"
        title = "Slow"
        parameters = {"drag": Parameter("1/fs", "half the friction", "0.001 to 0.1")}  # noqa: RUF012
        drag: float = 0.005

        def __post_init__(self):
            object.__setattr__(self, "friction", 2 * self.drag)

    words = ["run", str(ETHANOL), "--time", "96fs", "--no-equilibration"]
    slow = [*words, "-o", str(tmp_path / "slow.dcd"), "--ensemble", "slow", "--setting", "drag=4"]
    assert main(slow) == 0
    assert "Slow at 300 K and 4 per ps" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "langevin.dcd"), "--friction", "8"]) == 0
    assert (tmp_path / "slow.dcd").read_bytes() == (tmp_path / "langevin.dcd").read_bytes()
    for option in ("friction=3", "drag=fast", "drag"):
        assert (
            main([*words, "-o", str(tmp_path / "x.dcd"), "--ensemble", "slow", "--setting", option])
            == 2
        )
        assert "--setting" in capsys.readouterr().err
