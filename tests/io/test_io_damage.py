"""Numbers that say how a file goes on are checked against what is there."""

from __future__ import annotations

import struct

import ase.io
import h5py
import numpy as np
import pytest
from io_files import make_frames, read_back, write
from scipy.io import netcdf_file

from ase_atom.analysis.inputs.sources import load_trajectory
from ase_atom.errors import DataError, FileFormatError, TrajectoryError
from ase_atom.io import (
    TrajectoryWarning,
    convert_trajectory,
    open_trajectory,
    read_structure,
    read_trajectory,
)

ATOMS = 268  # where the number of atoms is in a DCD file of OpenMM's header


def test_another_number_of_atoms_in_a_dcd_header(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, ethanol, 20)
    good = path.read_bytes()
    assert struct.unpack_from("<3i", good, ATOMS - 4) == (4, 9, 4)
    for atoms in (-1, 0, 1, 2, 8, 10, 12, 90, 2**31 - 1):
        path.write_bytes(good[:ATOMS] + struct.pack("<i", atoms) + good[ATOMS + 4 :])
        with pytest.raises(FileFormatError, match=r"t\.dcd cannot be read|no whole frame"):
            _ = read_trajectory(path).atoms


def test_a_record_of_another_length_in_the_middle_of_a_dcd(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, ethanol, 20)
    data = bytearray(path.read_bytes())
    frame = 3 * (9 * 4 + 8)
    data[ATOMS + 8 + 7 * frame] ^= 1
    path.write_bytes(data)
    with read_trajectory(path) as reader:
        blocks = reader.blocks(stop=7)
        assert len(next(blocks)) == 7
        with pytest.raises(FileFormatError, match="frame 8 is damaged"):
            list(reader)


@pytest.mark.parametrize("part", range(10))
def test_negative_sizes_in_a_trr_frame(tmp_path, ethanol, part):
    path = tmp_path / "t.trr"
    write(path, ethanol, 3)
    data = bytearray(path.read_bytes())
    data[24 + 4 * part : 28 + 4 * part] = struct.pack(">i", -(2**30) + 4)
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"t\.trr cannot be read: sizes of its parts"):
        read_trajectory(path)


def test_a_pdb_that_ends_inside_a_model_is_called_cut(tmp_path, ethanol):
    path = tmp_path / "t.pdb"
    ethanol.write(path)
    atoms = [line for line in path.read_text().splitlines() if line.startswith("ATOM")]
    whole = ["MODEL        1", *atoms, "ENDMDL"]
    for rows in range(len(atoms) + 1):
        path.write_text("\n".join([*whole, "MODEL        2", *atoms[:rows], ""]))
        with pytest.warns(TrajectoryWarning, match="1 whole frame is read, 1 is lost"):
            count(path)
        path.write_text("\n".join(["MODEL        1", *atoms[:rows], ""]))
        for read in (read_trajectory, read_structure):
            with pytest.raises(FileFormatError, match=r"t\.pdb"):
                read(path)
    path.write_text("\n".join([*whole, ""]))
    count(path)


def count(path):
    """Look to the end of a file with one whole frame."""
    with read_trajectory(path) as reader:
        assert len(reader) == 1


def test_frames_that_were_never_written_are_no_frames(tmp_path, ethanol):
    """HDF5 reads zeros where an array says it is longer than what was stored."""
    import h5py

    path = tmp_path / "t.h5"
    with open_trajectory(path, ethanol) as writer:
        writer.write_frames(*make_frames(ethanol, 5))
    with h5py.File(path, "r+") as file:
        for name in ("coordinates", "time", "velocities"):
            file[name].resize(10**7, axis=0)
    with pytest.warns(TrajectoryWarning, match="are lost"):
        reader = read_trajectory(path)
    with reader:
        assert len(reader) < 1000
        assert np.concatenate([block.positions for block in reader]).shape[1:] == (9, 3)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_a_packed_structure_that_is_far_too_long(tmp_path, ethanol, ending):
    from ase.io.formats import open_with_compression

    path = tmp_path / f"t.xyz{ending}"
    ethanol.write(tmp_path / "t.xyz")
    text = (tmp_path / "t.xyz").read_bytes()
    with open_with_compression(str(path), "wb") as file:
        file.write(text)
    assert len(read_structure(path)) == 9
    with open_with_compression(str(path), "wb") as file:
        file.write(text)
        for _ in range(70):
            file.write(bytes(2**20))
    with pytest.raises(FileFormatError, match="does not hold"):
        read_structure(path)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("bad", [0, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_frames_that_are_not_finite_are_not_converted(tmp_path, ethanol, align, bad, value):
    frames = [ethanol.copy() for _ in range(6)]
    frames[bad].positions[2, 1] = value
    for time, frame in enumerate(frames):
        frame.info["time_fs"] = float(time)
    ase.io.write(tmp_path / "t.traj", frames)
    target = tmp_path / "out.xtc"
    with pytest.raises(
        TrajectoryError, match=r"not finite|cannot be superposed|too far out|cannot hold a position"
    ):
        convert_trajectory(tmp_path / "t.traj", target, align=align)
    if value == 1e300:
        return  # a block with a frame that cannot be turned or held is not written at all
    assert target.exists() is bool(bad)
    if bad:
        assert len(read_back(target)) == bad


@pytest.mark.parametrize("ending", ["extxyz", "traj", "nc", "h5", "trr"])
@pytest.mark.parametrize("bad", [0, 3])
def test_velocities_that_are_not_numbers_are_not_taken_for_missing_ones(
    tmp_path, ethanol, ending, bad
):
    path = tmp_path / f"t.{ending}"
    write(path, ethanol, 25)
    _spoil(path, bad)
    with pytest.raises(
        DataError, match=rf"velocities of frame {bad} of .*t\.{ending} are not finite"
    ):
        load_trajectory(path)
    with pytest.raises(TrajectoryError, match="not finite"):
        convert_trajectory(path, tmp_path / "out.extxyz")
    assert (tmp_path / "out.extxyz").exists() is bool(bad)


def _spoil(path, bad):
    """Make the velocities of a frame not a number, in the file itself."""
    if path.suffix in (".extxyz", ".traj"):
        frames = ase.io.read(path, ":")
        frames[bad].set_momenta(np.full((9, 3), np.nan))
        ase.io.write(path, frames)
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file["velocities"][bad] = np.nan
    elif path.suffix == ".nc":
        with netcdf_file(path, "a", mmap=False) as file:
            file.variables["velocities"].data[bad] = np.nan
    else:
        size = path.stat().st_size // 25
        data = bytearray(path.read_bytes())
        end = (bad + 1) * size
        data[end - 9 * 3 * 4 : end] = struct.pack(">27f", *[np.nan] * 27)
        path.write_bytes(data)
