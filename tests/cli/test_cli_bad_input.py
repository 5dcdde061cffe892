"""Bad input on the command line: one line, exit code 2, nothing written."""

import resource
from pathlib import Path

import mdtraj
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from conftest import CALM, ETHANOL, make_card, make_operator

from ase_atom.cli import main
from ase_atom.operator import save_operator


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
    "radical": (lambda f: _saved(f, molecule("CH3CH2O")), "radicals and triplets are not covered"),
    "several molecules": (lambda f: _saved(f, _two()), "2 molecules (C2H6O, C2H6O)"),
    "mass": (lambda f: _saved(f, _deuterated()), "H1 has a mass of 2.014 amu"),
    "charge": (lambda f: _saved(f, _ethanol(charge=-1)), "total charge of -1"),
    "no charge": (lambda f: _saved(f, _ethanol(charge=float("nan"))), "is nan, not a whole number"),
    "periodic": (lambda f: _saved(f, _periodic()), "periodic cell"),
    "overlapping": (lambda f: _saved(f, _overlapping()), "H5 and H6 are 0.173 Å apart"),
}


@pytest.mark.parametrize("case", BAD_STRUCTURES)
def test_bad_structures(go, tmp_path, out, case):
    make, message = BAD_STRUCTURES[case]
    # Of the formats that hold masses, cells and charges, .traj holds all.
    ending = "xyz" if case in ("not a structure", "empty") else "traj"
    file = make(tmp_path / f"bad.{ending}")
    if "charge" in case:
        file = make(tmp_path / "bad.extxyz")
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
        (["--stride", "soon"], "--stride 'soon' is not a time; give a number followed by fs"),
        (["--time", "0ps"], "--time must be above zero, not 0ps"),
        (["--time", "-1ps"], "--time must be above zero, not -1ps"),
        (["--time", "8fs"], "--time 8 fs is shorter than one frame interval of 16 fs"),
        (["--frame-interval", "-1"], "--frame-interval must be above zero"),
        (["--temperature", "0"], "--temperature must be above zero, not 0 K"),
        (["--temperature", "-300"], "--temperature must be above zero, not -300 K"),
        (["--temperature", "nan"], "--temperature must be above zero, not nan K"),
        (["--temperature", "warm"], "Invalid value for '--temperature'"),
        (["--friction", "0"], "--friction must be above zero"),
        (
            ["--friction", "0.01", "--ensemble", "nve"],
            "--friction 0.01 goes with --ensemble langevin, not nve",
        ),
        (
            ["--friction", "10", "--ensemble", "bussi"],
            "--friction 10 goes with --ensemble langevin, not bussi",
        ),
        (["--taut", "100fs"], "--taut 100fs goes with --ensemble bussi, not langevin"),
        (
            ["--taut", "2ps", "--ensemble", "nve"],
            "--taut 2ps goes with --ensemble bussi, not nve",
        ),
        (
            ["--temperature", "1", "--ensemble", "nve", "--keep-zero-velocities"],
            "no effect with --ensemble nve and --keep-zero-velocities",
        ),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--threads", "100000"], "the number of this machine's processors"),
        (["--replicas", "1000000000"], "--replicas must be at most 100000"),
        (["--time", "1e15ns"], "at most 1e+10 can be asked for"),
        (["--time", "10ns", "--frame-interval", "1e-15fs"], "at most 1e+10 can be asked for"),
        (["--equilibration", "1e15ns"], "at most 1e+10 can be asked for"),
        (["--time", "150us", "--replicas", "3000"], "or more, and"),
        (["--ensemble", "npt"], "Invalid value for '--ensemble'"),
        (["--timestep", "3fs"], "--timestep must be from 0.001 to 2 fs, not 3 fs"),
        (
            ["--timestep", "0.7fs"],
            "no multiple of the time step of 0.7 fs; near ones are 15.4 fs or 16.1 fs; --stride",
        ),
        (
            ["--timestep", "1fs", "--frame-interval", "2.5fs"],
            "a frame interval of 2.5 fs is no multiple of the time step of 1 fs; near ones are",
        ),
        (["--timestep", "1fs", "--stride", "4ps"], "--stride must be at most 16 fs with"),
        (["--timestep", "1fs", "--single-pass"], "--single-pass is for jumps, and --timestep"),
        (["--timestep", "1fs", "--reversible"], "--reversible is for jumps, and --timestep"),
        (["--timestep", "1fs", "--uncorrected"], "--uncorrected is for jumps"),
        (["--timestep", "1fs", "--tolerance", "0.1"], "--tolerance is for jumps"),
        (["--timestep", "1fs", "--fallback", "gfn2"], "--fallback is for jumps"),
        (["--timestep", "1fs", "--accept-error"], "--accept-error is for jumps"),
        (["--timestep", "1e-9fs"], "--timestep must be from 0.001 to 2 fs, not 1e-09 fs"),
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
    code, _, notes = go(output="t.pdb")
    assert code == 2
    assert len(notes) == 1
    assert "one of .dcd, .xtc, .trr, .nc, .h5, .xyz, .extxyz, .traj" in notes[0]
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
    assert "exists and is kept; --overwrite" in notes[0]
    assert (out / "t.dcd").read_text() == "precious"
    assert [file.name for file in out.iterdir()] == ["t.dcd"]
    assert go(*CALM, "--overwrite")[0] == 0
    assert (out / "t.dcd").stat().st_size > 1000


def test_the_input_is_never_replaced(go, out):
    out.mkdir()
    structure = _saved(out / "t.xyz", _ethanol())
    before = structure.read_bytes()
    code, _, notes = go(*CALM, "--overwrite", structure=structure, output="t.xyz")
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
    structure = _saved(tmp_path / "silane.xyz", molecule("SiH4"))
    out.mkdir()
    assert main(["run", str(structure), "--output", str(out / "t.dcd")]) == 2
    notes = capsys.readouterr().err.strip().splitlines()
    assert len(notes) == 1
    assert "no shipped operator was trained for [SiH4] (H4Si)" in notes[0]
    assert list(out.iterdir()) == []


def test_force_turns_a_refusal_into_a_warning(tmp_path, capsys):
    """Of a molecule that is not on the card; the elements must be."""
    file = save_operator(make_operator(strength=0.003), tmp_path / "mine.safetensors")
    structure = _saved(tmp_path / "ether.xyz", molecule("CH3OCH3"))
    words = ["run", str(structure), "-o", str(tmp_path / "t.xyz"), "--time", "16fs"]
    words += ["--uncorrected", "--no-equilibration"]
    assert main([*words, "--operator", str(file)]) == 2
    assert "was not trained for COC" in capsys.readouterr().err
    assert not (tmp_path / "t.xyz").exists()
    assert main([*words, "--operator", str(file), "--force"]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "COC" in line]
    assert warning.startswith("ase-atom: warning: ")
    assert (tmp_path / "t.xyz").exists()
    assert main([*words, "--force", "--overwrite"]) == 2
    assert "--force goes with --operator" in capsys.readouterr().err


def test_of_several_structures_the_one_at_fault_is_named(tmp_path, capsys):
    file = save_operator(make_operator(), tmp_path / "mine.safetensors")
    radical = molecule("CH3CH2OH")
    del radical[-1]
    structures = [str(ETHANOL), str(_saved(tmp_path / "radical.xyz", radical))]
    words = ["run", *structures, "-o", str(tmp_path / "t.dcd"), "--operator", str(file)]
    assert main([*words, "--stop-on-error"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{structures[1]}: no closed-shell molecule" in line
    assert "an ion, or a radical, or an atom is missing" in line


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
