"""XYZ files as other programs write them: labels, units, cells, times, energies, columns."""

import re
import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.io import write as ase_write

from ase_atom.cli import main
from ase_atom.errors import TrajectoryError
from ase_atom.io import TrajectoryWarning, convert_trajectory, read_structure, read_trajectory

WATER = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])  # Å


def frame(comment="", labels="OHH", positions=WATER, ending="\n", more="") -> str:
    """Return one frame of an XYZ file."""
    rows = [
        f"{label:6s}{x:14.8f}{y:14.8f}{z:14.8f}{more}"
        for label, (x, y, z) in zip(labels, positions, strict=True)
    ]
    return ending.join([str(len(rows)), comment, *rows, ""])


@pytest.fixture
def xyz(tmp_path):
    def write(*frames: str, name: str = "t.xyz", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes("".join(frames).encode(encoding))
        return path

    return write


def block_of(path):
    """Return all frames of a file, which hold the same, and the messages of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with read_trajectory(path) as reader:
            (block,) = reader
    return block, [str(one.message) for one in caught]


def symbols_of(path) -> list[str]:
    with read_trajectory(path) as reader:
        symbols = reader.atoms.get_chemical_symbols()
    assert read_structure(path).get_chemical_symbols() == symbols
    return symbols


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "symbols"),
    [
        (["8", "1", "1"], "OHH"),
        (["o", "h", "h"], "OHH"),
        (["O1", "H1", "H2"], "OHH"),
        (["O_w", "H_w", "H_w"], "OHH"),
        (["O1", "H_w", "H"], "OHH"),
        (["CL", "NA", "BR"], ["Cl", "Na", "Br"]),
        (["CL1", "SI2", "BR3"], ["Cl", "Si", "Br"]),
        (["17", "H", "Ca"], ["Cl", "H", "Ca"]),
        (["Ca", "C1", "He"], ["Ca", "C", "He"]),
        (["CA", "H", "H"], ["Ca", "H", "H"]),  # no atom has a name: symbols in capitals
    ],
)
@pytest.mark.parametrize("comment", ["", "Properties=species:S:1:pos:R:3"])
def test_labels_that_are_elements(xyz, labels, symbols, comment):
    assert symbols_of(xyz(frame(comment, labels))) == list(symbols)


def test_labels_in_another_column(xyz):
    rows = "\n".join(
        f"{x} {y} {z} {s}" for s, (x, y, z) in zip(["O1", "8", "h"], WATER, strict=True)
    )
    path = xyz(f"3\nProperties=pos:R:3:species:S:1\n{rows}\n")
    assert symbols_of(path) == ["O", "O", "H"]
    np.testing.assert_allclose(block_of(path)[0].positions[0], WATER)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("X", "dummy or ghost atom"),
        ("Xx", "dummy or ghost atom"),
        ("0", "dummy or ghost atom"),
        ("Bq", "dummy or ghost atom"),
        ("H-Bq", "dummy or ghost atom"),
        ("Gh(H)", "dummy or ghost atom"),
        ("H:", "dummy or ghost atom"),
        ("Du", "dummy or ghost atom"),
        ("OW", "which is no element"),
        ("119", "which is no element"),
        ("J", "which is no element"),
        ("CA", "may be Ca or C"),
        ("HO", "may be Ho or H"),
        ("ca", "may be Ca or C"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(xyz, label, message):
    path = xyz(frame("", ["O1", "H", label]))
    for reader in (read_trajectory, read_structure):
        with pytest.raises(TrajectoryError, match=rf"frame 1: atom 3 is called .*{message}"):
            reader(path)


def test_dummies_by_number_are_refused(xyz):
    rows = "\n".join(f"{z} {x[0]} {x[1]} {x[2]}" for z, x in zip((8, 1, 0), WATER, strict=True))
    with pytest.raises(TrajectoryError, match="atom 3 is a dummy or ghost atom"):
        read_trajectory(xyz(f"3\nProperties=Z:I:1:pos:R:3\n{rows}\n"))


def test_types_of_lammps_are_no_elements(xyz):
    with pytest.raises(TrajectoryError, match="LAMMPS's types of atoms, which say no elements"):
        read_trajectory(xyz(frame("Atoms. Timestep: 0", "211")))
    assert symbols_of(xyz(frame("Atoms. Timestep: 0"))) == ["O", "H", "H"]


@pytest.mark.parametrize(("label", "mass"), [("D", 2.014), ("T", 3.016)])
def test_heavy_hydrogen(xyz, tmp_path, label, mass):
    path = xyz(frame("", ["O", label, "H"]))
    convert_trajectory(path, tmp_path / "out.traj", frame_interval=1.0)
    for atoms in (read_structure(path), read(tmp_path / "out.traj")):
        assert str(atoms.symbols) == "OH2"
        np.testing.assert_allclose(atoms.get_masses(), [15.999, mass, 1.008], atol=1e-3)


# ---- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("comment", ["", "a comment's \"end", "x = y = z", "energy", "Größe 3 Å"])
def test_plain_text_of_any_kind(xyz, encoding, ending, comment):
    path = xyz(
        *[frame(comment, ending=ending, positions=WATER + i) for i in range(3)], encoding=encoding
    )
    block, notes = block_of(path)
    np.testing.assert_allclose(block.positions, [WATER + i for i in range(3)])
    assert (block.times, block.energies, block.cells, notes) == (None, None, None, [])
    with read_trajectory(path) as reader:
        assert len(reader) == 3


def test_a_structure_that_ends_in_part_of_a_frame_is_refused(xyz):
    path = xyz(frame(), frame()[:30])
    with pytest.raises(TrajectoryError, match="ends in a frame that is not whole"):
        read_structure(path)


# ---- comments of programs ------------------------------------------------------------------------

BOHR = units.Bohr


@pytest.mark.parametrize(
    ("comment", "length", "edge"),
    [
        ("CELL(abcABC): 30 30 30 90 90 90 Step: 0 Bead: 0 positions{atomic_unit} cell{atomic_unit}",
         BOHR, 30 * BOHR),
        ("CELL(abcABC): 30.0 30.0 30.0 90.0 90.0 90.0 positions{angstrom}  cell{angstrom}", 1, 30),
        ("CELL(abcABC): 30 30 30 90 90 90 Traj: positions{nanometer} cell{angstrom}", 10, 30),
        ("CELL(abcABC): 30 30 30 90 90 90 x_centroid{angstrom} cell{atomic_unit}", 1, 30 * BOHR),
        ("CELL(H): 30 0 0 0 30 0 0 0 30 positions{angstrom} cell{angstrom}", 1, 30),
    ],
)  # fmt: skip
def test_units_and_cells_of_ipi(xyz, comment, length, edge):
    block, notes = block_of(xyz(*[frame(f"# {comment}")] * 2))
    np.testing.assert_allclose(block.positions[1], WATER * length)
    np.testing.assert_allclose(block.cells, np.repeat(edge * np.eye(3)[None], 2, 0), atol=1e-9)
    assert notes == []


def test_cell_vectors_of_ipi_are_columns(xyz):
    block, _ = block_of(
        xyz(frame("# CELL{H}: 10 1 2 0 11 3 0 0 12 positions{angstrom} cell{angstrom}"))
    )
    np.testing.assert_allclose(block.cells[0], [[10, 0, 0], [1, 11, 0], [2, 3, 12]])


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("# CELL(abcABC): 30 30 30 90 90 90 Step: 0", "should state the units"),
        ("# CELL(abcABC): 30 30 30 90 90 90 positions{angstrom}", "should state the units"),
        ("# CELL(abcABC): 30 30 30 90 90 90 positions{mile} cell{angstrom}", "unit 'mile' is none"),
        ("# CELL(abcABC): 30 30 30 90 90 90 velocities{atomic_unit} cell{angstrom}",
         "velocities of i-PI, not positions"),
        ("# CELL(abcABC): 30 30 30 90 90 90 f_centroid{angstrom} cell{angstrom}", "not positions"),
        ("# CELL(abcABC): 30 30 30 90 90 190 positions{angstrom} cell{angstrom}", "impossible"),
        ("# ORCA AIMD Velocity Step 1, t=0.50 fs, E_Pot=-76.1 Hartree, Unit is Angstrom/fs",
         "ORCA calls Velocity, not positions"),
    ],
)  # fmt: skip
def test_comments_that_say_something_else_are_refused(xyz, comment, message):
    with pytest.raises(TrajectoryError, match=rf"t\.xyz cannot be read: frame 1: .*{message}"):
        read_trajectory(xyz(frame(comment)))


HARTREE = units.Hartree


@pytest.mark.parametrize(
    ("comment", "times", "energy"),
    [
        (" i = {i:8d}, time = {t:12.3f}, E = {e:20.10f}", True, HARTREE),  # CP2K
        (" i = {i:8d}, E = {e:20.10f}", False, HARTREE),  # CP2K, optimising
        ("# ORCA AIMD Position Step {i}, t={t:.2f} fs, E_Pot={e:.8f} Hartree, Unit is Angstrom",
         True, HARTREE),
        ("# ORCA AIMD Position Step {i}, t={t:.2f} fs, E_Pot={e:.8f} kJ/mol, Unit is Angstrom",
         True, units.kJ / units.mol),
        ("Coordinates from ORCA-job water E {e:.12f}", False, HARTREE),
        (" energy: {e:.12f} gnorm: 0.000312 xtb: 6.7.1 (edcfbbe)", False, HARTREE),
    ],
)  # fmt: skip
def test_times_and_energies_in_comments(xyz, comment, times, energy):
    text = [frame(comment.format(i=i, t=0.5 * i, e=-17.25 + i)) for i in range(3)]
    block, notes = block_of(xyz(*text, name="w-pos-1.xyz"))
    np.testing.assert_allclose(block.positions, [WATER] * 3)
    np.testing.assert_allclose(block.energies, energy * np.array([-17.25, -16.25, -15.25]))
    if times:
        np.testing.assert_allclose(block.times, [0, 0.5, 1.0])
    else:
        assert block.times is None
    assert notes == []


@pytest.mark.parametrize("name", ["w-vel-1.xyz", "w-frc-1.xyz"])
def test_velocities_and_forces_of_cp2k_are_no_positions(xyz, name):
    with pytest.raises(TrajectoryError, match="velocities or forces of CP2K"):
        read_trajectory(xyz(frame("i = 0, time = 0.000, E = -17.2"), name=name))


# ---- columns and keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["REF_", "dft_", "MACE_", ""])
def test_energies_and_forces_of_training_sets(xyz, prefix):
    head = f"Properties=species:S:1:pos:R:3:{prefix}forces:R:3 {prefix}energy=-2081.5"
    block, notes = block_of(xyz(*[frame(head, more=" 0.1 -0.2 0.3")] * 2, name="t.extxyz"))
    np.testing.assert_allclose(block.energies, [-2081.5] * 2)
    np.testing.assert_allclose(block.forces, np.tile([0.1, -0.2, 0.3], (2, 3, 1)))
    assert notes == []


def test_of_several_energies_none_is_chosen(xyz):
    head = "Properties=species:S:1:pos:R:3 REF_energy=-1.0 dft_energy=-2.0"
    block, notes = block_of(xyz(frame(head)))
    assert block.energies is None
    assert len(notes) == 1
    assert "these are not read: REF_energy, dft_energy" in notes[0]


def test_a_reference_is_read_and_not_what_a_model_predicts_of_it(xyz):
    head = "Properties=species:S:1:pos:R:3 REF_energy=-1.0 MACE_energy=-2.0"
    block, notes = block_of(xyz(frame(head)))
    np.testing.assert_allclose(block.energies, [-1.0])
    assert len(notes) == 1
    assert "these are not read: MACE_energy" in notes[0]


@pytest.mark.parametrize("column", ["vel", "velo", "velocities", "my_column"])
def test_columns_of_no_known_unit_are_named_once(xyz, column):
    head = f"Properties=species:S:1:pos:R:3:{column}:R:3 Time={{}} config=a"
    frames = [frame(head.format(0.5 * i), more=" 0.1 0.2 0.3") for i in range(5)]
    block, notes = block_of(xyz(*frames))
    assert block.velocities is None
    assert block.times is None
    assert len(notes) == 1
    assert f"t.xyz these are not read: {column}, Time, config" in notes[0]


def test_columns_without_a_name_are_mentioned(xyz):
    _, notes = block_of(xyz(*[frame("water", more=" 0.1 0.2 0.3")] * 2))
    assert len(notes) == 1
    assert "not read: columns that its comment does not name" in notes[0]


@pytest.mark.parametrize("key", ['lattice="9 0 0 0 9 0 0 0 9"', "spin=1", "time=2.0"])
def test_keys_of_a_plain_comment_that_mean_something_are_named(xyz, key):
    _, notes = block_of(xyz(frame(f"mine {key}")))
    assert len(notes) == 1
    assert f"not read: {key.partition('=')[0]}" in notes[0]


@pytest.mark.parametrize(
    ("comment", "unit"),
    [
        ("water, coordinates in bohr", "bohr"),
        ("Bohr", "Bohr"),
        ("units: a.u.", "units: a.u."),
        ("positions are in atomic units", "positions are in atomic units"),
        ("cell 2 nm", "nm"),
    ],
)
def test_units_in_prose_are_named_once(xyz, comment, unit):
    path = xyz(frame(comment), frame(comment))
    block, notes = block_of(path)
    np.testing.assert_allclose(block.positions, [WATER, WATER])
    assert notes == [
        f"of {path} these are not read: a unit in the comment ({unit}): "
        "positions are taken to be in Å"
    ]
    with pytest.warns(TrajectoryWarning, match=re.escape(unit)):
        read_structure(path)


@pytest.mark.parametrize(
    "comment", ["E = -76.4 a.u.", "forces in hartree/bohr", "gradient 0.1 Eh/bohr", "Bohrium"]
)
def test_other_prose_says_nothing_of_lengths(xyz, comment):
    assert "Å" not in "".join(block_of(xyz(frame(comment)))[1])


def test_a_frame_without_atoms_is_refused(xyz):
    for path in (xyz("0\n\n", name="a.xyz"), xyz("0\nProperties=species:S:1:pos:R:3\n")):
        for reader in (read_trajectory, read_structure):
            with pytest.raises(TrajectoryError, match="frame 1: it has no atoms"):
                reader(path)


def test_a_lattice_beside_a_dialect(xyz):
    block, _ = block_of(xyz(frame('i = 1, time = 0.5, E = -17.1, Lattice="9 0 0 0 9 0 0 0 9"')))
    np.testing.assert_allclose(block.cells[0], 9 * np.eye(3))
    assert list(block.times) == [0.5]


def test_an_energy_of_a_plain_comment_has_no_unit(xyz):
    block, notes = block_of(xyz(frame("energy=-76.3 time_fs=2")))
    assert block.energies is None
    assert list(block.times) == [2.0]
    assert len(notes) == 1
    assert "not read: energy" in notes[0]


def test_what_ase_writes_and_is_not_read_is_named(tmp_path, ethanol):
    ethanol.calc = SinglePointCalculator(
        ethanol, energy=-1.0, forces=np.zeros((9, 3)), stress=np.zeros(6), dipole=np.ones(3)
    )
    ethanol.info["time_fs"] = 0.0
    ethanol.set_tags(range(9))
    for ending in (".extxyz", ".traj"):
        ase_write(tmp_path / f"t{ending}", ethanol)
        block, notes = block_of(tmp_path / f"t{ending}")
        assert block.energies == [-1.0]
        assert len(notes) == 1, notes
        for name in ("tags", "stress", "dipole"):
            assert name in notes[0]


@pytest.mark.parametrize(
    ("key", "time"),
    [("time_fs=2", 2), ('time_fs="2 fs"', 2), ('time="2.0 fs"', 2), ('Time="0.002 ps"', 2),
     ("time_ps=0.002", 2), ("time=2.0", None)],
)  # fmt: skip
def test_times_with_a_unit_are_read(xyz, key, time):
    block, notes = block_of(xyz(frame(f"Properties=species:S:1:pos:R:3 {key}")))
    assert block.times is None if time is None else list(block.times) == [pytest.approx(time)]
    assert len(notes) == (time is None)


def test_the_command_line_names_a_column_of_velocities(xyz, tmp_path, capsys):
    path = xyz(frame("Properties=species:S:1:pos:R:3:vel:R:3", more=" 0.1 0.2 0.3"))
    assert main(["convert", str(path), str(tmp_path / "out.dcd")]) == 0
    assert "ase-atom: warning: of" in capsys.readouterr().err
    with pytest.warns(TrajectoryWarning, match="not read: vel"):
        assert not read_structure(path).has("momenta")


def test_structures_keep_what_ase_finds(tmp_path):
    atoms = Atoms("OHH", WATER, info={"charge": 1, "spin": 2})
    atoms.set_velocities(np.full((3, 3), 0.01))
    ase_write(tmp_path / "t.extxyz", [atoms, atoms])
    found = read_structure(tmp_path / "t.extxyz")
    assert (found.info["charge"], found.info["spin"]) == (1, 2)
    np.testing.assert_allclose(found.get_velocities(), atoms.get_velocities(), atol=1e-7)


def test_a_prediction_beside_a_reference_is_not_mixed_with_it(tmp_path):
    file = tmp_path / "both.extxyz"
    for keys, energy in (
        ("dft_energy=-1.0 MACE_energy=-2.0", -1.0),
        ("MACE_energy=-2.0", None),
    ):
        file.write_text(
            f"1\nProperties=species:S:1:pos:R:3:dft_forces:R:3 {keys}\nAr 0 0 0 0.5 0 0\n"
        )
        with pytest.warns(TrajectoryWarning, match="MACE_energy"), read_trajectory(file) as source:
            (frames,) = list(source)
        assert frames.forces[0, 0, 0] == 0.5
        assert (None if frames.energies is None else frames.energies[0]) == energy
