"""The total charge of a molecule: it goes with its trajectory, and energies are of the ion."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import mdtraj
import numpy as np
import openmm.app
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read

from ase_atom.analysis import Trajectory, load_trajectory
from ase_atom.analysis.measures.energies import with_energies
from ase_atom.analysis.measures.infrared import with_dipoles
from ase_atom.analysis.options import Options
from ase_atom.analysis.sides import load_sides
from ase_atom.errors import DataError, TrajectoryError
from ase_atom.io import convert_trajectory, open_trajectory, read_structure, read_trajectory
from ase_atom.molecules.atoms import total_charge

ENDINGS = ("dcd", "xtc", "trr", "nc", "h5", "extxyz", "traj")


class Counting(Calculator):
    """Say what charge a calculator is given, both ways in which calculators ask for it."""

    implemented_properties: ClassVar[list[str]] = ["energy", "dipole"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        summed = self.atoms.get_initial_charges().sum()
        assert summed == pytest.approx(total_charge(self.atoms))
        self.results = {"energy": float(summed), "dipole": np.full(3, summed)}


def formate(charge: int | None = -1) -> Atoms:
    atoms = Atoms("CO2H", [[0, 0, 0], [1.1, 0.6, 0], [-1.1, 0.6, 0], [0, -1.12, 0]])
    if charge is not None:
        atoms.info["charge"] = charge
    return atoms


def written(path: Path, atoms: Atoms, frames: int = 24) -> Path:
    moved = atoms.positions + 0.01 * np.random.default_rng(0).normal(size=(frames, len(atoms), 3))
    with open_trajectory(path, atoms) as file:
        file.write_frames(moved, times=np.arange(frames))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_keeps_it(ending: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"formate.{ending}", formate())
    with read_trajectory(path) as reader:
        assert reader.charge == -1
        assert total_charge(reader.atoms) == -1
    assert load_trajectory(path).charge == -1
    other = tmp_path / ("other.h5" if ending != "h5" else "other.extxyz")
    convert_trajectory(path, other)
    assert load_trajectory(other).charge == -1


def test_other_readers_find_it(tmp_path: Path) -> None:
    written(tmp_path / "formate.extxyz", formate())
    assert read(tmp_path / "formate.extxyz", 3).info["charge"] == -1
    written(tmp_path / "formate.traj", formate())
    assert read(tmp_path / "formate.traj", 3).info["charge"] == -1
    written(tmp_path / "formate.dcd", formate())
    atoms = list(openmm.app.PDBFile(str(tmp_path / "formate.pdb")).topology.atoms())
    assert sum(atom.formalCharge or 0 for atom in atoms) == -1
    assert all(atom.element.symbol == "O" for atom in atoms if atom.formalCharge)
    written(tmp_path / "formate.h5", formate())
    assert mdtraj.load(str(tmp_path / "formate.h5")).n_frames == 24
    assert total_charge(read_structure(tmp_path / "formate.pdb")) == -1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_neutral_molecule_says_no_more_than_before(ending: str, tmp_path: Path) -> None:
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    path = written(tmp_path / f"water.{ending}", water)
    with read_trajectory(path) as reader:
        assert reader.charge is None
        assert "charge" not in reader.atoms.info
    assert load_trajectory(path).charge == 0


def test_frames_of_another_charge_are_not_appended(tmp_path: Path) -> None:
    path = written(tmp_path / "formate.extxyz", formate())
    with pytest.raises(TrajectoryError, match=r"charge -1; frames of charge \+1"):
        open_trajectory(path, formate(+1), "a")
    pdb = written(tmp_path / "formate.dcd", formate()).with_suffix(".pdb").read_text()
    with pytest.raises(TrajectoryError, match=r"formate\.pdb"):
        open_trajectory(tmp_path / "formate.xtc", formate(+1))
    assert (tmp_path / "formate.pdb").read_text() == pdb


def test_calculators_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "formate.dcd", formate())
    loaded = load_trajectory(path)
    (run,) = with_energies(loaded, Counting(), 10)
    np.testing.assert_allclose(run.energies, -1)
    (run,) = with_dipoles(loaded, Counting())
    np.testing.assert_allclose(run.dipoles, -1)


def test_a_charge_that_nothing_states_is_not_guessed(tmp_path: Path) -> None:
    silent = written(tmp_path / "silent.xyz", formate(None))
    loaded = load_trajectory(silent)
    for what in (lambda: with_energies(loaded, Counting(), 10), lambda: loaded.charge):
        with pytest.raises(DataError, match=r"does not state its charge.*CHO2.*--charge"):
            what()
    assert load_trajectory(silent, charge=-1).charge == -1
    assert load_trajectory(silent, charge=0).charge == 0  # a radical
    stated = written(tmp_path / "stated.xyz", formate())
    with pytest.raises(DataError, match=r"states a charge of -1, not \+1"):
        load_trajectory(stated, charge=+1)


def test_the_sides_of_a_comparison_share_it(tmp_path: Path) -> None:
    silent = written(tmp_path / "silent.xyz", formate(None))
    stated = written(tmp_path / "stated.xyz", formate())
    sides = load_sides(silent, stated, Options())
    assert sides.trajectory.charge == sides.reference.charge == -1
    other = written(tmp_path / "other.xyz", formate(+1))
    with pytest.raises(DataError, match=r"different molecules.*\+1, -1"):
        load_sides(other, stated, Options())


def test_archives_and_arrays(tmp_path: Path) -> None:
    positions = np.tile(formate().positions, (5, 1, 1))
    fields = {"numbers": formate().numbers, "positions": positions}
    np.savez(tmp_path / "ion.npz", charge=-1, **fields)
    assert load_trajectory(tmp_path / "ion.npz").charge == -1
    np.savez(tmp_path / "odd.npz", charge=0.4, **fields)
    with pytest.raises(DataError, match=r"0\.4 e"):
        load_trajectory(tmp_path / "odd.npz")
    assert Trajectory.from_arrays(formate().numbers, positions, charge=-1).charge == -1
