"""PDB files: elements by columns, names and residues, cells, locations, models."""

import io
import warnings

import MDAnalysis
import mdtraj
import numpy as np
import pytest
from ase import Atoms
from ase.io import write as ase_write
from openmm import unit
from openmm.app import PDBFile
from rdkit import Chem
from rdkit.Chem import AllChem

from ase_atom.cli import main
from ase_atom.errors import TrajectoryError
from ase_atom.io import TrajectoryWarning, read_structure, read_trajectory
from ase_atom.io.topology import openmm_topology


def line(name, residue="MOL", element="", number=1, x=0.0, record="ATOM", serial="    1", alt=" "):
    """Return one atom's line; the name as it stands in its four columns."""
    place = f"{number:4d} " if isinstance(number, int) else f"{number:5}"
    return (
        f"{record:6}{serial:5} {name:4}{alt}{residue:<4}A{place}   "
        f"{x:8.3f}{0:8.3f}{0:8.3f}  1.00  0.00          {element:>2}\n"
    )


@pytest.fixture
def pdb(tmp_path):
    def write(*lines: str, name: str = "t.pdb"):
        path = tmp_path / name
        path.write_text("".join(lines))
        return path

    return write


def symbols(path) -> str:
    """Return the elements of a PDB file, as a trajectory and as a structure."""
    with read_trajectory(path) as reader:
        found = "".join(reader.atoms.get_chemical_symbols())
    assert "".join(read_structure(path).get_chemical_symbols()) == found
    return found


ETHANOL = [" CA ", " CD ", " O  ", " HO ", " H2 ", " H3 ", " H4 ", " H5 ", " H6 "]


def test_names_that_begin_in_the_second_column_are_of_one_letter(pdb):
    rows = [line(name, x=2.0 * i) for i, name in enumerate(ETHANOL)]
    assert symbols(pdb(*rows, "END\n")) == "CCOHHHHHH"
    short = [row[:66].rstrip() + "\n" for row in rows]  # no columns for an element at all
    assert symbols(pdb(*short, "END\n")) == "CCOHHHHHH"


@pytest.mark.parametrize("residue", ["ALA", "HIE", "HOH", "DA", "U", "NALA", "A3", "MSE"])
@pytest.mark.parametrize(
    ("name", "symbol"),
    [(" CA ", "C"), ("CA  ", "C"), ("CD1 ", "C"), ("1HB ", "H"), ("HG11", "H"), ("HG  ", "H"),
     ("OXT ", "O"), ("NE2 ", "N"), ("HO5'", "H"), (" P  ", "P"), ("SD  ", "S"), ("H5''", "H")],
)  # fmt: skip
def test_residues_decide(pdb, residue, name, symbol):
    other = line("O   ", residue)  # not in its column, so that columns say nothing
    assert symbols(pdb(line(name, residue), other)) == symbol + "O"


@pytest.mark.parametrize(
    ("name", "residue", "symbol"),
    [("CA  ", "CA", "Ca"), (" CA ", "CA", "Ca"), ("NA  ", "NA", "Na"), ("NA+ ", "NA+", "Na"),
     (" SOD", "SOD", "Na"), ("CLA ", "CLA", "Cl"), ("CL- ", "CL-", "Cl"), ("ZN  ", "ZN2", "Zn"),
     ("HG  ", "HG", "Hg"), (" K  ", "K", "K"), ("CAL ", "CAL", "Ca"), ("MG  ", "MG", "Mg")],
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2])
def test_ions_are_what_their_residue_says(pdb, name, residue, symbol, count):
    rows = [line(name, residue, number=1, record="HETATM", x=4.0 * i) for i in range(count)]
    water = [line(n, "HOH", number=9, x=9.0) for n in (" O  ", " H1 ", " H2 ")]
    assert symbols(pdb(*rows, *water)) == symbol * count + "OHH"


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("CL1 ", "Cl"), ("BR  ", "Br"), ("SI1 ", "Si"), ("FE  ", "Fe"), ("ZN  ", "Zn"), ("Cl1 ", "Cl"),
     (" NA ", "N"), ("C10A", "C"), ("1H2A", "H"), (" D1 ", "H"), ("   C", "C"), (" HG1", "H"),
     ("HO11", "H"), (" F1 ", "F"), (" OXT", "O")],
)  # fmt: skip
def test_names_that_keep_to_the_columns(pdb, name, symbol):
    assert symbols(pdb(line(name), line(" C1 "))) == symbol + "C"


@pytest.mark.parametrize(
    ("name", "readings"),
    [(" CL1", "Cl or C"), (" BR ", "Br or B"), ("CA  ", "Ca or C"), ("HG  ", "Hg or H"),
     (" NI ", "Ni or N"), ("CL12", "Cl or C"), (" SE ", "Se or S")],
)  # fmt: skip
@pytest.mark.parametrize("other", [" C1 ", "C1  "])
def test_names_with_two_readings_are_refused(pdb, name, readings, other):
    path = pdb(line(other), line(name))
    for reader in (read_trajectory, read_structure):
        with pytest.raises(
            TrajectoryError,
            match=rf"atom 2, '{name.strip()}' of residue 'MOL', .* its name it may be {readings}",
        ):
            reader(path)


@pytest.mark.parametrize(("name", "residue"), [(" MW ", "SOL"), (" LP1", "MOL"), (" X  ", "MOL")])
def test_dummies_are_refused(pdb, name, residue):
    with pytest.raises(TrajectoryError, match=r"atom 2, .*dummy atom: write the elements"):
        read_structure(pdb(line(" O  ", residue), line(name, residue)))


@pytest.mark.parametrize(
    ("stated", "symbol"),
    [("C", "C"), ("CA", "Ca"), ("cl", "Cl"), ("BR", "Br"), ("D", "H"), ("N1+", "N"), ("O1-", "O")],
)
def test_stated_elements_stand(pdb, stated, symbol):
    row = line(" XYZ")[:76] + (f"{stated:>2}" if len(stated) < 3 else f" {stated}") + "\n"
    assert symbols(pdb(row)) == symbol


def test_deuterium_has_its_mass(pdb):
    rows = [line(" O  ", "DOD"), line(" D1 ", "DOD"), line(" D2 ", "DOD", "D")]
    np.testing.assert_allclose(
        read_structure(pdb(*rows)).get_masses(), [15.999, 2.014, 2.014], 1e-4
    )


def test_formal_charges_are_the_atoms(pdb):
    rows = [line(" N  ", element="N")[:78] + "1+\n", line(" O  ", element="O")[:78] + "1-\n"]
    assert read_structure(pdb(*rows)).get_initial_charges().tolist() == [1, -1]


@pytest.mark.parametrize("cell", [(1, 1, 1), (0, 0, 0)])
def test_placeholder_cells_are_none(pdb, tmp_path, ethanol, cell):
    text = io.StringIO()
    PDBFile.writeFile(openmm_topology(ethanol), ethanol.positions * unit.angstrom, text)
    record = "CRYST1{:9.3f}{:9.3f}{:9.3f}  90.00  90.00  90.00 P 1           1\n".format(*cell)
    path = pdb(record, text.getvalue())
    assert not read_structure(path).pbc.any()
    with read_trajectory(path) as reader:
        assert next(iter(reader)).cells is None
    arguments = ["run", str(path), "-o", str(tmp_path / "o.dcd"), "--time", "32fs", "--seed", "1"]
    assert main(arguments) == 0


def test_cells_of_models(pdb):
    """One for all, or each its own."""
    record = "CRYST1{0:9.3f}{0:9.3f}{0:9.3f}  90.00  90.00  90.00 P 1           1\n"
    model = "MODEL     1\n" + line(" O  ", element="O") + "ENDMDL\n"
    cases = [
        ((record.format(20), model, model, model), [20, 20, 20]),
        ((record.format(20), model, record.format(21), model, model), [20, 21, None]),
        ((model, record.format(21), model, record.format(1), model), [None, 21, None]),
        ((model, model), [None, None]),
    ]
    for lines, expected in cases:
        with read_trajectory(pdb(*lines)) as reader:
            found = [
                None if block.cells is None else float(cell[0, 0])
                for block in reader
                for cell in (block.positions if block.cells is None else block.cells)
            ]
            assert len(reader) == len(expected)
        assert found == expected


def test_alternate_locations_are_not_more_atoms(pdb):
    rows = [
        line(" N  ", "ALA", "N"),
        line(" CA ", "ALA", "C", alt="A", x=1.5),
        line(" CA ", "ALA", "C", alt="B", x=1.7),
        line(" O  ", "ALA", "O", number="  1A "[:5], alt="B", x=3.0),
    ]
    with pytest.warns(TrajectoryWarning, match="not read: alternate locations of 1 atoms"):
        atoms = read_structure(pdb(*rows))
    assert str(atoms.symbols) == "NCO"
    np.testing.assert_allclose(atoms.positions[:, 0], [0, 1.5, 3.0])


def test_numbers_beyond_their_columns(pdb):
    rows = [
        line(" O  ", "HOH", "O", number="A000 ", serial="A0000"),
        line(" H1 ", "HOH", "H", number="A000 ", serial="*****", x=1.0),
    ]
    assert symbols(pdb(*rows)) == "OH"


def test_models_of_other_atoms_are_refused(pdb):
    models = [
        f"MODEL {i}\n" + line(n, element=n.strip()) + "ENDMDL\n"
        for i, n in enumerate((" O  ", " N  "))
    ]
    with (
        pytest.raises(TrajectoryError, match="frame 2 has other atoms than the first"),
        read_trajectory(pdb(*models)) as reader,
    ):
        list(reader)


@pytest.mark.parametrize("end", ["MODEL     2\n", "MODEL     2\nATO", "MODEL     2\n{}"])
def test_a_file_that_ends_within_a_model_is_called_cut(pdb, end):
    atom = line(" O  ", element="O")
    path = pdb("MODEL     1\n", atom, "ENDMDL\n", end.format(atom))
    with (
        pytest.warns(TrajectoryWarning, match="1 whole frame is read, 1 is lost"),
        read_trajectory(path) as reader,
    ):
        assert len(list(reader)) == 1


# ---- what other programs write -------------------------------------------------------------------


def chloroethanol():
    made = Chem.AddHs(Chem.MolFromSmiles("OCCCl"))
    AllChem.EmbedMolecule(made, randomSeed=1)
    return made


def by_rdkit(path, _):
    Chem.MolToPDBFile(chloroethanol(), str(path))


def by_ase(path, atoms):
    ase_write(path, atoms)


def by_openmm(path, atoms):
    with path.open("w") as file:
        PDBFile.writeFile(openmm_topology(atoms), atoms.positions * unit.angstrom, file)


def by_mdtraj(path, atoms):
    by_openmm(path.with_name("source.pdb"), atoms)
    mdtraj.load(str(path.with_name("source.pdb"))).save_pdb(str(path))


def by_mdanalysis(path, atoms):
    by_openmm(path.with_name("source.pdb"), atoms)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MDAnalysis.Universe(str(path.with_name("source.pdb"))).atoms.write(str(path))


@pytest.mark.parametrize("program", [by_rdkit, by_ase, by_openmm, by_mdtraj, by_mdanalysis])
@pytest.mark.parametrize("stated", [True, False])
def test_files_of_other_programs(tmp_path, program, stated):
    """Without their columns of elements, they are read right, or refused."""
    made = chloroethanol()
    atoms = Atoms(
        [atom.GetSymbol() for atom in made.GetAtoms()], made.GetConformer().GetPositions()
    )
    path = tmp_path / "t.pdb"
    program(path, atoms)
    if not stated:
        rows = path.read_text().splitlines()
        path.write_text("".join(row[:66] + "\n" for row in rows))
    found, refusal = read_or_refused(path)
    if found is None:
        assert not stated
        assert "may be Cl or C" in refusal
    else:
        assert list(found.symbols) == list(atoms.symbols)
        np.testing.assert_allclose(found.positions, atoms.positions, atol=6e-4)
        assert not found.pbc.any()


def read_or_refused(path):
    """Return the atoms, or None and why they are not read."""
    try:
        return read_structure(path), ""
    except TrajectoryError as error:
        return None, str(error)


@pytest.mark.parametrize(("names", "expected"), [
    (["C1", "O1", "H1", "CL"], "COHCl"), (["OW", "HW1", "HW2"], "OHH"), (["CA", "N"], None),
])  # fmt: skip
def test_names_of_a_gro_file(tmp_path, names, expected):
    residue = "SOL" if "OW" in names else "MOL"
    rows = [
        f"{1:5d}{residue:5}{name:>5}{i + 1:5d}{0.2 * i:8.3f}{0:8.3f}{0:8.3f}"
        for i, name in enumerate(names)
    ]
    path = tmp_path / "t.gro"
    path.write_text("\n".join(["title", f"{len(names):5d}", *rows, "   0.0   0.0   0.0", ""]))
    if expected is None:
        with pytest.raises(TrajectoryError, match=r"atom 1, 'CA' of residue 'MOL', may be Ca or C"):
            read_structure(path)
    else:
        atoms = read_structure(path)
        assert "".join(atoms.symbols) == expected
        assert not atoms.pbc.any()
