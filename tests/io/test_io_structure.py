"""Structures in other formats: stated isotopes, charges and elements, and cells that are none."""

import gzip

import numpy as np
import pytest
from ase.io import write as ase_write

from ase_atom.errors import TrajectoryError
from ase_atom.io import read_structure
from ase_atom.molecules.atoms import total_charge

MOLFILE = """

{lines}
    0.0000    0.0000    0.1190 O   0  0
    0.0000    0.7630   -0.4770 H   0  0
    0.0000   -0.7630   -0.4770 {last}   0  0
  1  2  1  0
  1  3  1  0
{properties}M  END
$$$$
"""


@pytest.mark.parametrize("ending", [".sdf", ".mol"])
@pytest.mark.parametrize(
    ("last", "properties", "masses", "charge"),
    [
        ("H", "", [15.999, 1.008, 1.008], 0),
        ("D", "", [15.999, 1.008, 2.014], 0),
        ("H", "M  ISO  1   3   2\n", [15.999, 1.008, 2.014], 0),
        ("H", "M  CHG  1   1   1\n", [15.999, 1.008, 1.008], 1),
        ("H", "M  ISO  1   1  18\nM  CHG  1   1  -1\n", [17.999, 1.008, 1.008], -1),
    ],
)
def test_isotopes_and_charges_of_a_molfile(tmp_path, ending, last, properties, masses, charge):
    counts = "\n  3  2  0  0  0  0  0  0  0  0999 V2000"
    path = tmp_path / f"t{ending}"
    path.write_text(MOLFILE.format(lines=counts, last=last, properties=properties))
    atoms = read_structure(path)
    assert str(atoms.symbols) == "OH2"
    np.testing.assert_allclose(atoms.get_masses(), masses, atol=1e-3)
    np.testing.assert_allclose(atoms.positions[1], [0, 0.763, -0.477])
    assert total_charge(atoms) == charge


def test_a_cell_into_which_atoms_were_folded_is_refused(tmp_path, ethanol):
    ethanol.set_cell(np.eye(3))
    ethanol.pbc = True
    ase_write(tmp_path / "t.cif", ethanol)
    with pytest.raises(TrajectoryError, match="wraps its atoms into a placeholder cell"):
        read_structure(tmp_path / "t.cif")
    ethanol.set_cell(12 * np.eye(3))
    ase_write(tmp_path / "t.cif", ethanol)
    assert read_structure(tmp_path / "t.cif").pbc.all()


def test_elements_that_ase_would_guess_are_refused(tmp_path, ethanol):
    dump = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
    (tmp_path / "t.lammpstrj").write_text(f"{dump}ITEM: ATOMS id type x y z\n1 1 0 0 0\n")
    ase_write(tmp_path / "t.pdb", ethanol)
    with gzip.open(tmp_path / "t.pdb.gz", "wt") as file:
        file.write((tmp_path / "t.pdb").read_text())
    for name in ("t.lammpstrj", "t.pdb.gz"):
        with pytest.raises(TrajectoryError, match="ASE would guess its elements"):
            read_structure(tmp_path / name)
    (tmp_path / "t.lammpstrj").write_text(
        f"{dump}ITEM: ATOMS id type element x y z\n1 1 Cl 0 0 0\n"
    )
    assert str(read_structure(tmp_path / "t.lammpstrj").symbols) == "Cl"


def test_a_pdb_file_by_another_ending_and_with_a_byte_order_mark(tmp_path, ethanol):
    ase_write(tmp_path / "t.pdb", ethanol)
    text = (tmp_path / "t.pdb").read_text()
    (tmp_path / "t.ent").write_text(text, encoding="utf-8-sig")
    found = read_structure(tmp_path / "t.ent")
    assert list(found.symbols) == list(ethanol.symbols)
    np.testing.assert_allclose(found.positions, ethanol.positions, atol=6e-4)


@pytest.mark.parametrize("name", ["a.mol2", "a.molden", "notes"])
def test_formats_that_ase_does_not_know_are_called_so(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"@<TRIPOS>MOLECULE\nx\n")
    with pytest.raises(TrajectoryError) as caught:
        read_structure(path)
    assert str(caught.value).startswith(
        f"{path} is no structure that ASE can read: it is in no format that ASE knows; an .xyz, "
    )
