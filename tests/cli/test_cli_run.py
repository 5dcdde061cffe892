"""``ase-atom run``: what a chemist is told, of one molecule and of several."""

import re

import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from conftest import CALM, ETHANOL, make_card, make_operator

from ase_atom.cli import main
from ase_atom.operator import save_operator

LINEAR_N2O = Atoms("NNO", [[0, 0, 0], [0, 0, 1.128], [0, 0, 2.312]])

# Atom names as force fields have them, in the order of the file.
NAMED_PDB = """\
ATOM      1  CB  EOH A   1       0.007  -0.569   0.000  1.00  0.00           C
ATOM      2  CA  EOH A   1      -1.285   0.250   0.000  1.00  0.00           C
ATOM      3  OH  EOH A   1       1.130   0.315   0.000  1.00  0.00           O
ATOM      4  HO  EOH A   1       1.927  -0.221   0.000  1.00  0.00           H
ATOM      5  HA1 EOH A   1       0.039  -1.202   0.890  1.00  0.00           H
ATOM      6  HA2 EOH A   1       0.039  -1.202  -0.890  1.00  0.00           H
ATOM      7  HB1 EOH A   1      -1.328   0.885   0.885  1.00  0.00           H
ATOM      8  HB2 EOH A   1      -1.328   0.885  -0.885  1.00  0.00           H
ATOM      9  HB3 EOH A   1      -2.154  -0.410   0.000  1.00  0.00           H
END
"""


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs words of a command, into ``tmp_path / "t.xyz"`` and the like."""

    def go(*words: object, output: str = "t.xyz"):
        code = main(["run", *map(str, words), "-o", str(tmp_path / output)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.strip().splitlines()

    return go


@pytest.fixture
def two(tmp_path):
    """An operator for ethanol and water, with next to no forces."""
    operator = make_operator(strength=0.003)
    operator.card = make_card(smiles=["CCO", "O"])
    return save_operator(operator, tmp_path / "two.safetensors")


# -- time and start --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "interval", "frames"), [("81fs", "2fs", 42), ("80fs", "7fs", 13), ("80fs", "2fs", 41)]
)
def test_the_time_is_at_least_what_was_asked_for(go, out, time, interval, frames):
    code, text, notes = go(
        *CALM[:2], "--stride", "2fs", "--time", time, "--frame-interval", interval
    )
    assert code == 0
    last = (frames - 1) * float(interval[:-2])
    assert f"simulated               {last:g} fs in {frames} frames" in text
    assert mdtraj.load(out / "t.dcd", top=out / "t.pdb").n_frames == frames
    assert ("(whole frames)" in notes[-1]) == (last != float(time[:-2]))


def test_a_structure_at_rest_is_equilibrated_and_no_frame_shows_it(run, tmp_path):
    code, text, notes = run(ETHANOL, "--time", "160fs")
    assert code == 0
    assert not any("warning" in note for note in notes)
    assert notes[0].startswith("expected error of a 16 fs jump: ")
    assert notes[1].startswith(
        "equilibration: 1.008 ps of Langevin dynamics at 300 K and 20 per ps"
    )
    frames = read(tmp_path / "t.xyz", ":")
    assert len(frames) == 11
    start = read(ETHANOL)
    assert np.abs(frames[0].get_all_distances() - start.get_all_distances()).max() > 0.02
    assert re.search(r"temperature +\d+\.\d ± \d+\.\d K mean over N_f = 24", text)
    # Deviations are from the structure, which only the equilibration has seen.
    bond = re.search(r"(\w+)-(\w+) from (\d\.\d+) to", text)
    names = ["C1", "C2", "O1", "H1", "H2", "H3", "H4", "H5", "H6"]
    length = start.get_distance(names.index(bond[1]), names.index(bond[2]))
    assert float(bond[3]) == pytest.approx(length, abs=6e-4)


def test_nve_starts_in_equilibrium_too(run):
    """Without, half of the kinetic energy would go into the potential: 150 K."""
    options = ("--ensemble", "nve", "--single-pass", "--replicas", "12", "--time", "160fs")
    means = []
    for more in ((), ("--no-equilibration", "--overwrite")):
        code, text, _ = run(ETHANOL, *options, *more)
        assert code == 0
        means.append(float(re.search(r"temperature +(\d+\.\d)", text)[1]))
    assert means[0] > 240
    assert means[1] < 220


def test_velocities_in_the_structure_are_where_it_starts(go, tmp_path, ethanol, out):
    ethanol.set_momenta(0.001 * np.random.default_rng(1).normal(size=(9, 3)))
    ethanol.write(tmp_path / "moving.extxyz")
    words = ("--equilibration", "64fs", *CALM)
    assert go(*CALM, structure=tmp_path / "moving.extxyz", output="a.xyz")[0] == 0
    np.testing.assert_allclose(read(out / "a.xyz", 0).positions, ethanol.positions, atol=1e-6)
    code, _, notes = go(*words, structure=tmp_path / "moving.extxyz", output="b.xyz")
    assert code == 0
    assert any("equilibration: 64 fs" in note for note in notes)
    assert np.abs(read(out / "b.xyz", 0).positions - ethanol.positions).max() > 1e-3


@pytest.mark.parametrize("option", ["--no-equilibration", "--keep-zero-velocities"])
def test_equilibration_and_none_contradict(go, out, option):
    code, _, notes = go("--equilibration", "1ps", option)
    assert (code, len(notes)) == (2, 1)
    assert f"--equilibration and {option} contradict each other" in notes[0]
    assert not list(out.iterdir())


def test_what_breaks_in_equilibration_writes_nothing(go, out):
    code, text, notes = go("--equilibration", "10ps", "--temperature", "500")
    assert (code, text) == (3, "")
    assert "ase-atom: in equilibration, the molecule broke at" in notes[-1]
    assert "nothing of it is written" in notes[-1]
    assert not list(out.iterdir())


# -- temperature -----------------------------------------------------------------------------------


def test_an_operator_out_of_its_depth_is_called_so(run, tmp_path):
    LINEAR_N2O.write(tmp_path / "N2O.xyz")
    words = (tmp_path / "N2O.xyz", "--operator", "tg80-gfn2", "--time", "4ps", "--replicas", "8")
    code, text, notes = run(*words)
    assert (code, text) == (2, "")
    assert "N2O is out of the depth of tg80-gfn2: expected error of a 16 fs jump" in notes[-1]
    assert not list(tmp_path.glob("t-*"))
    code, text, notes = run(*words, "--accept-error")
    assert code == 4
    assert re.search(r"temperature +\d{3}\.\d ± ", text)
    assert re.search(
        r"^ase-atom: N2O\.xyz: the mean temperature, \d+ ± \d+ K, is \d+ standard errors from the "
        r"thermostat's 300 K: do not trust this trajectory, tg80-gfn2 does not describe N2O well",
        notes[-1],
    )
    assert len(list(tmp_path.glob("t-*.xyz"))) == 8


# -- names -----------------------------------------------------------------------------------------


def test_atoms_have_the_names_of_the_structure(run, tmp_path, tiny_checkpoint):
    structure = tmp_path / "named.pdb"
    structure.write_text(NAMED_PDB)
    words = (structure, "--operator", tiny_checkpoint, "--uncorrected", "--no-equilibration")
    code, text, _ = run(*words, *CALM, output="t.dcd")
    assert code == 0
    names = {line[12:16].strip() for line in NAMED_PDB.splitlines() if line.startswith("ATOM")}
    bond = re.search(r"largest bond deviation +\S+ Å, (\w+)-(\w+) from", text)
    assert set(bond.groups()) <= names
    topology = mdtraj.load(tmp_path / "t.pdb").topology
    assert {atom.name for atom in topology.atoms} == names
    code, _, notes = run(*words, "--time", "10ps", "--temperature", "500", output="u.dcd")
    assert code == 3
    bond = re.search(
        r"the molecule broke at .* of (\w+) and (\w+) is|: (\w+) and (\w+) are", notes[-1]
    )
    assert {name for name in bond.groups() if name} <= names


def test_atoms_have_the_names_of_the_pdb_file_that_is_there(go, out):
    """A topology of the molecule that lies beside already is kept, and so are its names."""
    out.mkdir()
    (out / "t.pdb").write_text(re.sub(r"([CHO])([1-6])  MOL", r"\1X\2 MOL", _pdb_of(ETHANOL)))
    code, text, _ = go(*CALM)
    assert code == 0
    assert re.search(r"largest bond deviation +\S+ Å, [CHO]X\d-[CHO]X\d from", text)


def _pdb_of(path) -> str:
    lines = []
    counts: dict[str, int] = {}
    for atom in read(path):
        counts[atom.symbol] = counts.get(atom.symbol, 0) + 1
        name = f"{atom.symbol}{counts[atom.symbol]}"
        x, y, z = atom.position
        lines.append(
            f"ATOM  {len(lines) + 1:5d}  {name}  MOL A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
            f"  1.00  0.00          {atom.symbol:>2}"
        )
    return "\n".join([*lines, "END", ""])


# -- several molecules -----------------------------------------------------------------------------


def _structures(tmp_path) -> list:
    molecule("H2O").write(tmp_path / "water.xyz")
    radical = molecule("CH3CH2OH")
    del radical[-1]
    radical.write(tmp_path / "radical.xyz")
    close = molecule("H2O")
    close.positions[1] = close.positions[0] + 0.1
    close.write(tmp_path / "close.xyz")
    names = ["water.xyz", "radical.xyz", "missing.xyz", "close.xyz"]
    return [*(tmp_path / name for name in names), ETHANOL]


def test_a_bad_file_does_not_take_the_others_down(run, tmp_path, two):
    words = ("--operator", two, "--uncorrected", "--no-equilibration", *CALM)
    code, text, notes = run(*_structures(tmp_path), *words)
    assert code == 2
    left = [line for line in notes if line.endswith("; it is left out")]
    assert [
        name for name in ("radical", "missing", "close") for line in left if f"{name}.xyz" in line
    ] == [
        "radical",
        "missing",
        "close",
    ]
    assert notes[-1] == "ase-atom: not simulated: radical.xyz, missing.xyz, close.xyz"
    rows = text.strip().splitlines()[-5:]
    assert [row.split()[0] for row in rows] == [
        "water.xyz",
        "radical.xyz",
        "missing.xyz",
        "close.xyz",
        "ethanol.xyz",
    ]
    assert [row.split()[1] for row in (rows[0], rows[4])] == ["6", "24"]
    assert all("not simulated" in row for row in rows[1:4])
    assert "replica" not in text
    # Files keep the numbers of their structures.
    assert sorted(path.name for path in tmp_path.glob("t-*.xyz")) == ["t-0.xyz", "t-4.xyz"]


def test_unless_it_is_asked_to(run, tmp_path, two):
    words = ("--operator", two, "--uncorrected", "--no-equilibration", *CALM, "--stop-on-error")
    code, text, notes = run(*_structures(tmp_path), *words)
    assert (code, text, len(notes)) == (2, "", 1)
    assert "radical.xyz: no closed-shell molecule" in notes[0]
    assert not list(tmp_path.glob("t-*.xyz"))


def test_none_that_can_be_simulated(run, tmp_path, two):
    code, text, notes = run(*_structures(tmp_path)[1:4], "--operator", two)
    assert (code, text) == (2, "")
    assert [line.split("warning: ")[-1].split(".xyz")[0].split("/")[-1] for line in notes] == [
        "radical",
        "missing",
        "close",
    ]
    assert not list(tmp_path.glob("t-*.xyz"))


def test_files_of_one_name_are_told_apart(run, tmp_path, two):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        molecule("H2O").write(tmp_path / folder / "water.xyz")
    words = ("--operator", two, "--uncorrected", "--no-equilibration", *CALM)
    code, text, _ = run(tmp_path / "a" / "water.xyz", tmp_path / "b" / "water.xyz", *words)
    assert code == 0
    rows = text.strip().splitlines()[-2:]
    assert [row.split()[0] for row in rows] == [
        str(tmp_path / folder / "water.xyz") for folder in ("a", "b")
    ]


def test_help_is_in_groups_with_examples(capsys):
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    for title in ("Molecules and operator", "Time and frames", "Dynamics", "Start", "Machine"):
        assert title in text
    assert "ase-atom run ethanol.xyz -o ethanol.dcd" in text
    assert "4  the mean temperature is not the thermostat's" in text


def test_constant_energy_by_jumps_of_several_passes_names_the_better_way(run):
    nve = ("--smiles", "O", "--ensemble", "nve", "--time", "16fs", "--equilibration", "16fs")
    hint = "--timestep 1fs, by which each vibration keeps its energy"
    for n, (more, said) in enumerate(
        (((), True), (("--reversible",), False), (("--timestep", "1fs"), False))
    ):
        code, _, notes = run(*nve, *more, output=f"{n}.dcd")
        assert code == 0
        assert any(hint in line for line in notes) == said, more
    # Jumps of one pass are faster than steps, and a thermostat takes and gives energy.
    for more in (("--stride", "32fs", "--time", "32fs"), ("--ensemble", "bussi")):
        code, _, notes = run(ETHANOL, *nve[2:], *more, output=f"{more[1]}.dcd")
        assert code == 0
        assert not any(hint in line for line in notes), more
