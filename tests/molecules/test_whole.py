"""Molecules that a periodic cell has cut."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from ase_atom.errors import CoverageError
from ase_atom.io import read_structure
from ase_atom.molecules.atoms import check_isolated
from ase_atom.molecules.whole import is_cut, made_whole

CELLS = {
    "cube": np.diag([9.0, 9.0, 9.0]),
    "box": np.diag([8.0, 11.0, 9.0]),
    "skewed": np.array([[10.0, 0, 0], [4.5, 9.0, 0], [-4.0, 3.0, 9.0]]),
}


def wandering(atoms: Atoms, frames: int = 60) -> np.ndarray:
    """Å, ``[T, N, 3]``: a molecule that turns and goes through several cells."""
    rng = np.random.default_rng(3)
    path = np.cumsum(rng.normal(0.5, 0.8, (frames, 3)), axis=0)
    turning = []
    for n in range(frames):
        turned = atoms.copy()
        turned.rotate(11.0 * n, (1, 2, 3), center="COM")
        turning.append(turned.positions + path[n])
    return np.array(turning)


def wrapped(positions: np.ndarray, cell: np.ndarray, pbc: object = True) -> np.ndarray:
    atoms = Atoms(f"H{positions.shape[1]}", cell=cell, pbc=pbc)
    found = []
    for x in positions:
        atoms.positions[:] = x
        atoms.wrap()
        found.append(atoms.get_positions())
    return np.array(found)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_a_molecule_is_followed_through_the_walls(ethanol, name, pbc) -> None:
    there = wandering(ethanol)
    found = made_whole(wrapped(there, CELLS[name], pbc), CELLS[name], pbc)
    shift = there[0] - found[0]
    np.testing.assert_allclose(shift, shift[:1].repeat(len(ethanol), 0), atol=1e-9)
    np.testing.assert_allclose(found + shift, there, atol=1e-9)


def test_cells_may_change_and_be_missing(ethanol) -> None:
    there = wandering(ethanol, 4)
    cells = np.array([np.eye(3) * side for side in (9.0, 9.5, 0.0, 10.0)])
    cut = np.array(
        [x if not c.any() else wrapped(x[None], c)[0] for x, c in zip(there, cells, strict=True)]
    )
    found = made_whole(cut, cells)
    for one, other in zip(found, there, strict=True):
        np.testing.assert_allclose(one - one[0], other - other[0], atol=1e-9)
    np.testing.assert_array_equal(made_whole(there, np.zeros((3, 3))), there)


def test_what_is_cut_is_called_so_and_the_advice_helps(ethanol, tmp_path) -> None:
    """Also as a file whose Lattice is there and whose pbc is false, which ASE's users make."""
    ethanol.set_cell([12, 12, 12])
    ethanol.positions -= ethanol.positions[1]
    ethanol.wrap(pbc=True)
    write(tmp_path / "cut.extxyz", ethanol)
    atoms = read_structure(tmp_path / "cut.extxyz")
    assert not atoms.pbc.any()
    with pytest.raises(CoverageError, match=r"cut by the walls .* atoms\.wrap\(pbc=True, center="):
        check_isolated(atoms)
    atoms.wrap(pbc=True, center=atoms.get_scaled_positions()[0])
    check_isolated(atoms)


def test_two_molecules_in_a_cell_are_not_one_that_is_cut() -> None:
    two = molecule("H2O") + molecule("H2O")
    two.positions[3:] += 4.0
    two.set_cell([9, 9, 9])
    assert not is_cut(two.numbers, two.positions, two.cell.array)
    with pytest.raises(CoverageError, match="holds 2 molecules"):
        check_isolated(two)


def test_a_periodic_structure_says_what_to_do(ethanol, tmp_path) -> None:
    ethanol.center(vacuum=5.0)
    ethanol.pbc = True
    write(tmp_path / "POSCAR", ethanol)
    with pytest.raises(
        CoverageError, match=r"periodic cell; .* ase convert -e 'atoms\.pbc = False'"
    ):
        check_isolated(read(tmp_path / "POSCAR"))
