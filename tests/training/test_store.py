"""Bursts on disk: round trips, atomicity, damage, fingerprints and exports."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import units

from ase_atom.errors import ConfigError, DataError
from training.data.burst import Burst
from training.data.export import export_bursts, find_data
from training.data.store import (
    data_folder,
    fingerprint,
    keys,
    merge,
    read_burst,
    read_bursts,
    write_burst,
    write_bursts,
)


def make_burst(index: int, molecule: str = "water", smiles: str = "O", frames: int = 5) -> Burst:
    rng = np.random.default_rng(index)
    return Burst(
        key=f"{molecule}/{index:05d}",
        smiles=smiles,
        numbers=np.array([8, 1, 1]),
        masses=np.array([15.999, 1.008, 1.008]),
        positions=rng.normal(size=(frames, 3, 3)),
        velocities=0.01 * rng.normal(size=(frames, 3, 3)),
        energies=-137 + rng.normal(size=frames),
        forces=rng.normal(size=(frames, 3, 3)),
        interval=1.0,
        temperature_K=300.0,
        seed=2**62 + index,
        attrs={"theory": "GFN2-xTB (tblite 0.8.0)", "ensemble": "nve", "timestep_fs": 0.5},
    )


def same(one: Burst, other: Burst) -> bool:
    return all(
        np.array_equal(getattr(one, f.name), getattr(other, f.name))
        if isinstance(getattr(one, f.name), np.ndarray)
        else getattr(one, f.name) == getattr(other, f.name)
        for f in dataclasses.fields(Burst)
    )


@pytest.mark.parametrize(("first", "last"), [(0, 25), (10, 21), (20, 25), (3, 25), (0, 1)])
def test_a_piece_has_what_was_computed_of_its_frames(first: int, last: int) -> None:
    frames, marks = np.arange(25.0), np.arange(0.0, 25.0, 10.0)
    whole = make_burst(0, frames=25)
    whole.atomic_charges = np.repeat(frames[:, None], 3, axis=1)
    whole.force_spread = np.repeat(marks[:, None], 3, axis=1)
    piece = whole.cut(first, last, key="water/00007", part="train")
    piece.check()
    np.testing.assert_array_equal(piece.positions, whole.positions[first:last])
    np.testing.assert_array_equal(piece.atomic_charges[:, 0], frames[first:last])
    if piece.force_spread is not None:
        np.testing.assert_array_equal(piece.force_spread[:, 0], frames[first:last][::10])
    assert (piece.force_spread is None) == (first == 3)
    assert piece.key == "water/00007"
    assert piece.attrs == whole.attrs | {"part": "train"}
    assert "part" not in whole.attrs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(3):
        write_burst(tmp_path / "parts" / f"{index:05d}.h5", make_burst(index))
    return tmp_path / "parts"


def test_a_burst_survives_the_disk_bit_by_bit(folder: Path) -> None:
    assert same(read_burst(folder / "00001.h5"), make_burst(1))
    assert [path.name for path in sorted(folder.iterdir())] == [f"0000{i}.h5" for i in range(3)]


def test_a_merged_file_equals_the_folder(folder: Path, tmp_path: Path) -> None:
    merged = tmp_path / "water.h5"
    assert merge(merged, [folder]) == 3
    assert fingerprint(merged) == fingerprint(folder)
    assert all(same(a, b) for a, b in zip(read_bursts(merged), read_bursts(folder), strict=True))
    write_burst(folder / "00003.h5", make_burst(3))
    assert merge(merged, [merged, folder]) == 4
    assert keys(merged) == [f"water/0000{i}" for i in range(4)]


def test_two_files_of_a_folder_must_not_share_a_key(folder: Path) -> None:
    write_burst(folder / "again.h5", make_burst(1))
    with pytest.raises(DataError, match=r"00001\.h5 and .*again\.h5 both hold a burst water/00001"):
        read_bursts(folder)


@pytest.mark.parametrize("change", ["positions", "seed", "attrs", "key"])
def test_the_fingerprint_sees_every_change(tmp_path: Path, change: str) -> None:
    burst = make_burst(0)
    write_burst(tmp_path / "a.h5", burst)
    if change == "positions":
        burst.positions[3, 1, 2] = np.nextafter(burst.positions[3, 1, 2], np.inf)
    elif change == "seed":
        burst.seed += 1
    elif change == "attrs":
        burst.attrs["theory"] = "GFN1-xTB (tblite 0.8.0)"
    else:
        burst.key = "water/00007"
    write_burst(tmp_path / "b.h5", burst)
    assert fingerprint(tmp_path / "a.h5") != fingerprint(tmp_path / "b.h5")


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "00000.h5"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"00000\.h5"):
        read_burst(path)


def test_an_altered_number_is_noticed(folder: Path) -> None:
    with h5py.File(folder / "00000.h5", "r+") as file:
        file["water/00000/forces"][0, 0, 0] += 1e-9
    with pytest.raises(DataError, match="checksum"):
        read_burst(folder / "00000.h5")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match="no file of reference bursts"):
        read_bursts(tmp_path / "other.h5")
    with pytest.raises(DataError, match="no such file"):
        read_bursts(tmp_path / "missing.h5")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "water.h5"
    write_bursts(path, [make_burst(0)])
    before = path.read_bytes()
    bad = make_burst(1)
    bad.energies[2] = np.nan
    with pytest.raises(DataError, match="water/00001: energies"):
        write_bursts(path, [make_burst(0), bad])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_environment_moves_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASE_ATOM_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    write_burst(tmp_path / "water.h5", make_burst(0))
    assert find_data(Path("water")) == tmp_path / "water.h5"
    with pytest.raises(DataError, match="ethanol"):
        find_data(Path("ethanol"))
    monkeypatch.delenv("ASE_ATOM_DATA")
    assert data_folder().name == "ase-atom"
    assert data_folder().is_absolute()


def test_md17_export(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "water.npz"
    assert export_bursts(folder, output, "md17", every=2) == 9
    bursts = read_bursts(folder)
    with np.load(output) as data:
        assert data["E"].shape == (9, 1)
        assert data["name"] == "water"
        np.testing.assert_array_equal(data["z"], [8, 1, 1])
        np.testing.assert_array_equal(data["R"][3:6], bursts[1].positions[::2])
        kcal = 23.060548  # kcal/mol in one eV, from the CODATA constants
        np.testing.assert_allclose(data["E"][:3, 0], bursts[0].energies[::2] * kcal, rtol=1e-7)
        np.testing.assert_allclose(data["F"][6:], bursts[2].forces[::2] * kcal, rtol=1e-7)


def test_extxyz_export_reads_back_through_ase(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "water.extxyz"
    assert export_bursts(folder, output, "extxyz") == 15
    frames = ase.io.read(output, index=":")
    burst = read_burst(folder / "00001.h5")
    for frame, atoms in enumerate(frames[5:10]):
        assert atoms.info["burst"] == burst.key
        assert atoms.info["time_fs"] == frame
        assert atoms.get_potential_energy() == pytest.approx(burst.energies[frame], abs=1e-7)
        np.testing.assert_allclose(atoms.positions, burst.positions[frame], atol=1e-7)
        np.testing.assert_allclose(atoms.get_forces(), burst.forces[frame], atol=1e-7)
        velocities = atoms.get_velocities() * units.fs
        np.testing.assert_allclose(velocities, burst.velocities[frame], atol=1e-7)
        kinetic = burst.kinetic_energies()[frame]
        assert atoms.get_kinetic_energy() == pytest.approx(kinetic, rel=1e-5)


def test_exports_refuse_what_they_cannot_do(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match="xtc"):
        export_bursts(folder, output, "xtc")
    write_burst(folder / "peroxide.h5", make_burst(9, "other", "OO"))
    with pytest.raises(DataError, match="one molecule"):
        export_bursts(folder, output, "md17")
    assert not output.exists()
    output.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        export_bursts(folder, output, "extxyz")
    assert output.read_text() == "mine"
    assert export_bursts(folder, output, "extxyz", overwrite=True) == 20
