"""What a file claims is not believed: sizes beyond its own, and contents in other files."""

from __future__ import annotations

import io
import resource
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from io_files import make_frames
from numpy.lib import format as npy

from ase_atom.analysis.inputs.archives import read_npz
from ase_atom.errors import FileFormatError
from ase_atom.io import open_trajectory, read_trajectory
from ase_atom.io.bounds import Budget


@contextmanager
def little_memory():
    """Let the process take no more than 1 GiB beyond what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def member(shape: tuple[int, ...], data: bytes = b"", kind: str = "<f8") -> bytes:
    """An array whose header says what its data need not hold."""
    made = io.BytesIO()
    npy.write_array_header_1_0(made, {"descr": kind, "fortran_order": False, "shape": shape})
    return made.getvalue() + data


ARRAYS = {
    "huge": member((2**40, 3, 3)),
    "overflowing": member((2**62, 2**62)),
    "negative": member((1, 3, 3)).replace(b"(1, 3, 3)", b"(-1, 3, 3)"[:9]),
    "longer": member((2, 3, 3), bytes(72)),
    "shorter": member((1, 3, 3), bytes(200)),
    "no header": b"\x93NUMPY\x01\x00",
    "other version": b"\x93NUMPY\x09\x00" + bytes(100),
    "deep header": b"\x93NUMPY\x01\x00\x00\x08" + b"(" * 2048,
}


@pytest.mark.parametrize("case", ARRAYS)
def test_archives_that_claim_more_than_they_hold(tmp_path, case):
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("numbers.npy", member((3,), np.array([8, 1, 1]).tobytes(), "<i8"))
        archive.writestr("positions.npy", ARRAYS[case])
    with little_memory(), pytest.raises(FileFormatError, match=r"t\.npz is no npz archive"):
        read_npz(path)


def test_an_archive_that_unpacks_to_far_more_than_its_length(tmp_path):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, numbers=[8, 1, 1], positions=np.zeros((2_000_000, 3, 3)))
    assert path.stat().st_size < 2**18
    with little_memory(), pytest.raises(FileFormatError, match="does not hold"):
        read_npz(path)


def test_a_budget_counts_all_arrays_together():
    budget = Budget(stored=2**20)
    for _ in range(5):
        budget.take(20 * 2**20, "an array")
    with pytest.raises(ValueError, match=r"would take 120 MiB of memory, which a file of 1 MiB"):
        budget.take(20 * 2**20, "an array")
    with pytest.raises(ValueError, match="at most 8 GiB are read from one file"):
        Budget(stored=2**40).take(9 * 2**30, "an array")


@pytest.fixture
def good(tmp_path, ethanol) -> Path:
    """A whole HDF5 file."""
    path = tmp_path / "good.h5"
    with open_trajectory(path, ethanol) as writer:
        writer.write_frames(*make_frames(ethanol, 5))
    return path


def replaced(file: h5py.File, name: str, case: str, good: Path) -> None:
    """Put something else in the place of an array."""
    shape = file[name].shape
    del file[name]
    if case == "external link":
        file[name] = h5py.ExternalLink(str(good), f"/{name}")
    elif case == "soft link":
        file[name] = h5py.SoftLink("/topology")
    elif case == "dangling link":
        file[name] = h5py.SoftLink("/nowhere")
    elif case == "numbers in another file":
        outside = [(str(good), 0, int(np.prod(shape)) * 4)]
        file.create_dataset(name, shape, np.float32, external=outside)
    elif case == "virtual":
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[:] = h5py.VirtualSource(str(good), name, shape)
        file.create_virtual_dataset(name, layout)
    elif case == "references":
        array = file.create_dataset(name, (5,), h5py.ref_dtype)
        array[0] = file.ref
    elif case == "group":
        file.create_group(name)
    elif case == "type":
        file[name] = np.dtype("f4")
    elif case == "compound":
        file[name] = np.zeros(5, [("a", "f4"), ("b", "S3")])
    elif case == "texts":
        file[name] = np.array(["a", "b"], dtype=h5py.string_dtype())
    elif case == "huge atoms":
        file.create_dataset(name, (5, 2**40, 3), np.float32, chunks=(1, 1024, 3))
    elif case == "huge chunk":
        chunks = (1, 2**25, 3)
        file.create_dataset(name, (5, 2**25, 3), np.float32, chunks=chunks, compression="gzip")
    elif case == "empty":
        file.create_dataset(name, data=h5py.Empty("f4"))
    else:
        file[name] = np.zeros((5, 9))


def look_at(path: Path) -> None:
    """Read all of a trajectory."""
    with read_trajectory(path) as reader:
        list(reader)
        _ = reader.numbers


CASES = [
    *("external link", "soft link", "dangling link", "numbers in another file", "virtual"),
    *("references", "group", "type", "compound", "texts", "huge atoms", "huge chunk", "empty"),
    "shape",
]


@pytest.mark.parametrize("name", ["coordinates", "velocities", "time", "topology"])
@pytest.mark.parametrize("case", CASES)
def test_hdf5_arrays_that_are_none(tmp_path, good, name, case):
    path = tmp_path / "t.h5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        replaced(file, name, case, good)
    with little_memory(), pytest.raises(FileFormatError, match=r"t\.h5 cannot be read") as caught:
        look_at(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "topology",
    [
        b"{",
        b"[]",
        b'{"chains": 3}',
        b"[" * 40_000,
        b'{"chains": [{"index": 0, "residues": []}], "bonds": []}',
        b"9" * 5000,
        b'{"chains": [{"index": {}, "residues": [{"index": 0, "atoms": [{"element": []}]}]}]}',
        b" " * 200_000,
    ],
)
def test_topologies_inside_hdf5_that_are_none(tmp_path, good, topology):
    with h5py.File(good, "r+") as file:
        del file["topology"]
        file["topology"] = np.array([topology])
    with read_trajectory(good) as reader:
        assert len(reader) == 5
        with pytest.raises(FileFormatError, match=r"good\.h5 cannot be read"):
            _ = reader.numbers


@pytest.mark.parametrize(
    "unit", ["parsecs", b"\xff\xfe", 3, np.zeros(4), h5py.Empty("f4"), "x" * 9000]
)
def test_units_of_hdf5_arrays_that_are_none(good, unit):
    with h5py.File(good, "r+") as file:
        file["coordinates"].attrs["units"] = unit
    with pytest.raises(FileFormatError, match=r"good\.h5 cannot be read"):
        read_trajectory(good)


def test_units_of_hdf5_arrays_are_honoured(good):
    with read_trajectory(good) as reader:
        before = np.concatenate([block.positions for block in reader])
    with h5py.File(good, "r+") as file:
        file["coordinates"].attrs["units"] = "angstroms"
        file["coordinates"][:] = 10 * file["coordinates"][:]
    with read_trajectory(good) as reader:
        after = np.concatenate([block.positions for block in reader])
    np.testing.assert_allclose(after, before, rtol=1e-6)
