"""The command line, end to end."""

import json
import resource
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from conftest import ETHANOL, make_card, make_operator

import ase_atom
from ase_atom import units
from ase_atom.cli import main
from ase_atom.operator import list_operators, save_operator

# With next to no forces a molecule coasts; at 1 K it holds together for a while.
CALM = ["--temperature", "1", "--time", "80fs", "--stride", "2fs"]


@pytest.fixture
def go(tmp_path, tiny_checkpoint, capsys):
    """Return a function that runs ``ase-atom run`` into an empty folder: code, out, err lines."""

    def run(*options: object, structure: Path = ETHANOL, output: str = "t.dcd", operator=None):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        arguments = ["run", structure, "--output", folder / output]
        arguments += ["--operator", operator or tiny_checkpoint, *options]
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip().splitlines()

    return run


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


# -- what it does --------------------------------------------------------------------------------


def test_from_structure_to_trajectory(go, out):
    code, text, notes = go(*CALM, "--frame-interval", "1fs")
    assert code == 0
    assert "holds no velocities: sampled at 1 K" in notes[0]
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
    # The bond named in the summary is the one that strayed furthest in the file.
    name = text.split("largest bond deviation")[1].split(" Å, ")[1].split()[0]
    i, j = (int("".join(filter(str.isdigit, part))) for part in name.split("-"))
    bonds = np.array([[b[0].index, b[1].index] for b in trajectory.topology.bonds])
    stray = abs(np.diff(mdtraj.compute_distances(trajectory, bonds)[[0, -1]], axis=0)).max()
    lengths = 10 * mdtraj.compute_distances(trajectory, np.array([[i, j]]))[:, 0]
    assert abs(lengths - lengths[0]).max() >= 10 * stray - 1e-5


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
        *CALM, "--ensemble", "nve", structure=tmp_path / "moving.extxyz", output="t.traj"
    )
    assert code == 0
    assert len(notes) == 1  # what is run, and no warning
    frames = read(out / "t.traj", ":")
    drift = frames[-1].get_center_of_mass() - frames[0].get_center_of_mass()
    np.testing.assert_allclose(drift, [0.08, 0.0, 0.0], atol=1e-9)


def test_starting_from_rest_if_told(go, out):
    code, _, notes = go(*CALM, "--keep-zero-velocities", "--ensemble", "nve", output="t.traj")
    assert code == 0
    assert len(notes) == 1
    assert abs(read(out / "t.traj", 0).get_velocities()).max() == 0.0


def test_a_temperature_outside_the_range_is_a_warning(go):
    code, _, notes = go("--time", "4fs", "--stride", "2fs", "--temperature", "0.5")
    assert code == 0
    assert notes[0] == (
        "ase-atom: warning: 0.5 K is outside the range 1 to 500 K that tiny was trained for; "
        "its errors there are not known"
    )


def test_a_broken_simulation_keeps_the_good_frames(go, out):
    code, text, notes = go("--time", "10ps", "--temperature", "500", "--frame-interval", "1fs")
    assert (code, text) == (3, "")
    assert "the molecule broke at" in notes[-1]
    kept = mdtraj.load(out / "t.dcd", top=out / "t.pdb")
    assert f"holds the good frames, {kept.n_frames} up to {kept.n_frames - 1} fs" in notes[-1]
    assert kept.n_frames > 1


def test_an_interrupted_run_keeps_its_frames(tmp_path, tiny_checkpoint):
    output = tmp_path / "t.dcd"
    command = [sys.executable, "-m", "ase_atom", "run", ETHANOL, "--output", output]
    command += ["--operator", tiny_checkpoint, "--keep-zero-velocities", "--ensemble", "nve"]
    command += ["--time", "100fs", "--stride", "0.001fs"]  # a hundred thousand jumps
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None and not (output.exists() and output.stat().st_size > 2000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, notes = process.communicate()
    assert (process.returncode, text) == (130, ""), notes
    count = mdtraj.load(output, top=output.with_suffix(".pdb")).n_frames
    assert f"interrupted; {output} holds the good frames, {count} up to" in notes


def test_operators_are_listed_with_their_facts(capsys):
    assert main(["operators", "--json"]) == 0
    cards = json.loads(capsys.readouterr().out)
    assert [card["name"] for card in cards] == [card.name for card in list_operators()]
    assert main(["operators"]) == 0
    text = capsys.readouterr().out
    for card in cards:
        assert card["name"] in text
        assert card["smiles"][0] in text


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


# -- bad input -----------------------------------------------------------------------------------


def _saved(path: Path, atoms: Atoms) -> Path:
    atoms.write(path)
    return path


def _ethanol(**info: object) -> Atoms:
    atoms = read(ETHANOL)
    atoms.info.update(info)
    return atoms


def _deuterated() -> Atoms:
    atoms = _ethanol()
    masses = atoms.get_masses()
    masses[3] = 2.014
    atoms.set_masses(masses)
    return atoms


def _periodic() -> Atoms:
    atoms = _ethanol()
    atoms.set_cell([20, 20, 20])
    atoms.pbc = True
    return atoms


def _two() -> Atoms:
    other = _ethanol()
    other.positions += 8.0
    return _ethanol() + other


def _overlapping() -> Atoms:
    atoms = _ethanol()
    atoms.positions[8] = atoms.positions[7] + 0.1
    return atoms


BAD_STRUCTURES = {
    "not a structure": (lambda f: f.write_text("9\n\nC one two") and f, "no structure that ASE"),
    "empty": (lambda f: f.write_text("") or f, "no structure that ASE"),
    "missing": (lambda f: f, "does not exist"),
    "element": (lambda f: _saved(f, molecule("CH3SH")), "element S; it knows H, C, O"),
    "molecule": (lambda f: _saved(f, molecule("CH3OCH3")), "not trained for COC (C2H6O)"),
    "radical": (lambda f: _saved(f, molecule("CH3CH2O")), "no closed-shell molecule"),
    "several molecules": (lambda f: _saved(f, _two()), "2 molecules (C2H6O, C2H6O)"),
    "mass": (lambda f: _saved(f, _deuterated()), "H3 has a mass of 2.014 amu"),
    "charge": (lambda f: _saved(f, _ethanol(charge=-1)), "total charge of -1"),
    "periodic": (lambda f: _saved(f, _periodic()), "periodic cell"),
    "overlapping": (lambda f: _saved(f, _overlapping()), "H7 and H8 are 0.173 Å apart"),
}


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_bad_structures(go, tmp_path, out, case):
    make, message = BAD_STRUCTURES[case]
    # Of the formats that hold masses, cells and charges, .traj holds all.
    ending = "xyz" if case in ("not a structure", "empty") else "traj"
    file = make(tmp_path / f"bad.{ending}")
    if case == "charge":
        file = _saved(tmp_path / "bad.extxyz", _ethanol(charge=-1))
    code, text, notes = go(structure=file)
    assert (code, text) == (2, "")
    assert len(notes) == 1, notes
    assert notes[0].startswith("ase-atom: ")
    assert message in notes[0]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stride", "40fs"], "--stride 40 fs is beyond the horizon of tiny: at most 32 fs"),
        (["--stride", "0"], "--stride must be above zero, not 0"),
        (["--stride", "soon"], "--stride 'soon' is no time; give a number followed by fs"),
        (["--time", "0ps"], "--time must be above zero, not 0ps"),
        (["--time", "-1ps"], "--time must be above zero, not -1ps"),
        (["--time", "8fs"], "--time 8 fs is shorter than one frame interval of 16 fs"),
        (["--frame-interval", "-1"], "--frame-interval must be above zero"),
        (["--temperature", "0"], "--temperature must be above zero, not 0 K"),
        (["--temperature", "-300"], "--temperature must be above zero, not -300 K"),
        (["--temperature", "nan"], "--temperature must be above zero, not nan K"),
        (["--temperature", "warm"], "Invalid value for '--temperature'"),
        (["--friction", "0"], "--friction must be above zero"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--ensemble", "npt"], "Invalid value for '--ensemble'"),
        (["--speed", "9"], "No such option"),
    ],
)
def test_bad_options(go, out, options, message):
    code, text, notes = go(*options)
    assert (code, text) == (2, "")
    assert len(notes) == 1, notes
    assert message in notes[0]
    assert list(out.iterdir()) == []


def test_bad_outputs(go, out, tmp_path):
    code, _, notes = go(output="t.trr")
    assert code == 2
    assert len(notes) == 1
    assert "one of .dcd, .xtc, .xyz, .extxyz, .traj" in notes[0]
    code, _, notes = go(output="missing/t.dcd")
    assert code == 2
    assert "does not exist" in notes[0]
    assert list(out.iterdir()) == []


def test_an_existing_output_is_kept(go, out):
    out.mkdir()
    (out / "t.dcd").write_text("precious")
    code, _, notes = go(*CALM)
    assert code == 2
    assert len(notes) == 1
    assert "exists and is kept; --overwrite replaces it" in notes[0]
    assert (out / "t.dcd").read_text() == "precious"
    assert [file.name for file in out.iterdir()] == ["t.dcd"]
    assert go(*CALM, "--overwrite")[0] == 0
    assert (out / "t.dcd").stat().st_size > 1000


def test_the_input_is_never_replaced(go, out):
    out.mkdir()
    structure = _saved(out / "t.pdb", _ethanol())
    before = structure.read_bytes()
    code, _, notes = go(*CALM, "--overwrite", structure=structure, output="t.dcd")
    assert code == 2
    assert "would replace the input structure" in notes[0]
    assert structure.read_bytes() == before


def test_bad_checkpoints(go, out, tmp_path, tiny_checkpoint):
    whole = tiny_checkpoint.read_bytes()
    altered = bytearray(whole)
    altered[-20] ^= 1
    for name, content, message in (
        ("cut", whole[: len(whole) // 2], "truncated"),
        ("altered", bytes(altered), "altered"),
        ("text", b"no operator", "truncated or no ase-atom operator"),
    ):
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(content)
        code, _, notes = go(operator=file)
        assert code == 2
        assert len(notes) == 1, notes
        assert message in notes[0]
    code, _, notes = go(operator="ethanol-gfn3")
    assert code == 2
    assert "no operator named 'ethanol-gfn3'" in notes[0]
    assert list(out.iterdir()) == []


def test_no_operator_for_the_molecule(go, tmp_path, out, capsys):
    structure = _saved(tmp_path / "furan.xyz", molecule("C4H4O"))
    out.mkdir()
    assert main(["run", str(structure), "--output", str(out / "t.dcd")]) == 2
    notes = capsys.readouterr().err.strip().splitlines()
    assert len(notes) == 1
    assert "no shipped operator was trained for c1ccoc1 (C4H4O)" in notes[0]
    assert list(out.iterdir()) == []


def test_an_element_of_the_card_alone_does_not_do(go, tmp_path):
    operator = make_operator()
    operator.card = make_card(elements=[1, 6], masses={1: 1.008, 6: 12.011}, smiles=["CC"])
    file = save_operator(operator, tmp_path / "alkanes.safetensors")
    code, _, notes = go(operator=file)
    assert code == 2
    assert "element O; it knows H, C" in notes[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk_is_one_line_and_keeps_the_good_frames(go, out):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3001, hard))
    try:
        code, text, notes = go(*CALM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, text) == (2, "")
    kept = mdtraj.load(out / "t.dcd", top=out / "t.pdb").n_frames
    assert 2 < kept < 41
    assert notes[-1].startswith(f"ase-atom: cannot write {out / 't.dcd'}: ")
    assert notes[-1].endswith(f"its first {kept} frames are kept")
