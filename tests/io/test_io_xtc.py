"""XTC: frames are followed before mdtraj unpacks them, so that damaged ones harm nobody."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from ase import Atoms
from conftest import ROOT
from io_files import read_back

from ase_atom.errors import FileFormatError, TrajectoryError
from ase_atom.io import open_trajectory, read_trajectory


def shapes(atoms: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """Frames in which differences of successive atoms are small, large, and both, in Å."""
    loose = size * rng.normal(size=(3, atoms, 3))
    chained = np.cumsum(size / 10 * rng.normal(size=(3, atoms, 3)), axis=1)
    clusters = np.repeat(loose[:, ::3], 3, axis=1)[:, :atoms] + rng.normal(size=(3, atoms, 3))
    return np.concatenate([loose, chained, clusters])


@pytest.mark.parametrize("atoms", [1, 9, 10, 60])
@pytest.mark.parametrize("size", [0.1, 3.0, 3e3])
def test_whole_frames_are_read(tmp_path, atoms, size):
    """None of what the writer takes is called damaged, and mdtraj reads it as it was."""
    path = tmp_path / "t.xtc"
    frames = shapes(atoms, size, np.random.default_rng(atoms))
    with open_trajectory(path, Atoms("O" * atoms, frames[0])) as writer:
        writer.write_frames(frames, times=np.arange(len(frames)))
    with read_trajectory(path) as reader:
        found = np.concatenate([block.positions for block in reader])
    np.testing.assert_allclose(found, frames, rtol=2e-7, atol=0.0051)
    np.testing.assert_allclose(read_back(path), frames, rtol=2e-7, atol=0.0051)


def test_atoms_too_far_apart_are_refused(tmp_path):
    frames = shapes(12, 2e5, np.random.default_rng(0))
    writer = open_trajectory(tmp_path / "t.xtc", Atoms("O12", frames[0]))
    with writer, pytest.raises(TrajectoryError, match="too far apart"):
        writer.write_frames(frames, times=np.arange(len(frames)))


HEADS = {
    "atoms": (4, -1),
    "no atoms": (4, 0),
    "many atoms": (4, 2**30),
    "atoms again": (52, 11),
    "lowest beyond highest": (60, 2**30),
    "no size of differences": (84, 8),
    "size of differences beyond the table": (84, 73),
    "length": (88, 2**31 - 1),
    "no length": (88, 0),
    "negative length": (88, -8),
}


@pytest.mark.parametrize("case", HEADS)
def test_headers_that_cannot_be(tmp_path, case):
    path = tmp_path / "t.xtc"
    frames = shapes(12, 1.0, np.random.default_rng(0))
    with open_trajectory(path, Atoms("O12", frames[0])) as writer:
        writer.write_frames(frames, times=np.arange(len(frames)))
    data = bytearray(path.read_bytes())
    where, value = HEADS[case]
    data[where : where + 4] = struct.pack(">i", value)
    if case == "many atoms":
        data[52:56] = data[4:8]
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"t\.xtc cannot be read|no whole frame"):
        list(read_trajectory(path))


def test_damaged_frames_do_not_take_the_process_down(tmp_path):
    """Bits of packed positions are flipped; mdtraj alone dies of some of these files."""
    path = tmp_path / "good.xtc"
    frames = shapes(24, 2.0, np.random.default_rng(1))
    with open_trajectory(path, Atoms("O24", frames[0])) as writer:
        writer.write_frames(frames, times=np.arange(len(frames)))
    good, chance = path.read_bytes(), random.Random(5)
    for number in range(150):
        data = bytearray(good)
        for _ in range(3):
            data[chance.randrange(92, len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / f"{number}.xtc").write_bytes(data)
    code = f"""
        import warnings
        from pathlib import Path
        from ase_atom.errors import AtomError
        from ase_atom.io import read_trajectory

        warnings.simplefilter("ignore")
        refused = 0
        for number in range(150):
            try:
                with read_trajectory(Path({str(tmp_path)!r}) / f"{{number}}.xtc") as reader:
                    list(reader)
            except AtomError:
                refused += 1
        print(refused)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) > 50
