"""Formats that other packages bring."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from installed_package import install

from ase_atom.cli import main
from ase_atom.errors import ConfigError
from ase_atom.io import FORMATS, open_trajectory, read_trajectory
from ase_atom.io import formats as registry

ROWS = """
import os

import numpy as np

from ase_atom.io.appending import AppendingWriter
from ase_atom.io.formats import Format
from ase_atom.io.frames import FrameBlock
from ase_atom.io.reader import TrajectoryReader


class RowsReader(TrajectoryReader):
    def _open(self):
        self._file = self.path.open("rb")
        self.atom_count = int.from_bytes(self._file.read(8), "little")
        self._size = 8 * (1 + 3 * self.atom_count)
        self._frames, rest = divmod(os.path.getsize(self.path) - 8, self._size)
        self.whole_size = 8 + self._frames * self._size
        self._report_lost(self._frames, int(rest > 0))

    def __len__(self):
        return self._frames

    def _read(self, first, count):
        count = max(0, min(count, self._frames - first))
        self._file.seek(8 + first * self._size)
        rows = np.fromfile(self._file, float, count * self._size // 8)
        rows = rows.reshape(count, 1 + 3 * self.atom_count)
        return FrameBlock(rows[:, 1:].reshape(count, self.atom_count, 3), times=rows[:, 0])

    def _close(self):
        self._file.close()


class RowsWriter(AppendingWriter):
    def _start(self):
        self._file.write(len(self.numbers).to_bytes(8, "little"))
        return 8

    def _encode(self, block):
        rows = np.column_stack([block.known_times, block.positions.reshape(len(block), -1)])
        return rows.tobytes(), 8 * rows.shape[1] * np.arange(1, len(block) + 1)


ROWS = Format((".rows",), __name__, "RowsReader", "RowsWriter", has_topology=False)
CLASH = Format((".new", ".xyz"), __name__, "RowsReader", None, has_topology=False)
LOUD = Format(("ROWS",), __name__, "RowsReader", None, has_topology=False)
NAMELESS = Format((), __name__, "RowsReader", None, has_topology=False)
GONE = Format((".rows",), __name__, "NoReader", "NoWriter", has_topology=False)
OTHER = Format((".rows",), __name__, "Format", "Format", has_topology=False)
"""


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Install a package with one format, and look for formats anew."""
    monkeypatch.setattr(registry, "_KNOWN", list(registry._KNOWN))
    registry._find_all.cache_clear()

    def add(value: str) -> None:
        install(monkeypatch, tmp_path / "site", ROWS, {registry.GROUP: {"rows": value}})

    yield add
    registry._find_all.cache_clear()


def test_a_package_adds_a_format_by_an_entry_point(installed, tmp_path, ethanol: Atoms, capsys):
    installed("elsewhere:ROWS")
    source, rows, back = (tmp_path / f"t{ending}" for ending in (".xyz", ".rows", ".traj"))
    moved = np.random.default_rng(0).normal(size=(5, 9, 3))
    with open_trajectory(source, ethanol, frame_interval=2.0) as writer:
        writer.write_frames(ethanol.positions + moved)
    assert main(["convert", str(source), str(rows)]) == 0
    with open_trajectory(rows, ethanol, "a") as writer:
        writer.write_frames(ethanol.positions + moved[:1])
    assert main(["convert", str(rows), str(back)]) == 0
    with read_trajectory(rows) as first, read_trajectory(back) as second:
        (one,), (other,) = first, second
        assert one.times.tolist() == other.times.tolist() == [0, 2, 4, 6, 8, 10]
        np.testing.assert_array_equal(one.positions, other.positions)
        assert first.numbers.tolist() == second.numbers.tolist() == ethanol.numbers.tolist()
    assert rows.with_suffix(".pdb").exists()
    capsys.readouterr()
    assert main(["convert", str(source), str(tmp_path / "t.unknown")]) == 2
    assert ".traj, .rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:X", "format 'rows' of no_such_package:X cannot be loaded: No module"),
        ("elsewhere:np", "cannot be loaded: it is a module, and no ase_atom.io.formats.Format"),
        ("elsewhere:CLASH", "cannot be loaded: there is a format of the ending .xyz already"),
        ("elsewhere:LOUD", "cannot be loaded: 'ROWS' is no ending: one is like '.dcd'"),
        ("elsewhere:NAMELESS", "cannot be loaded: a format needs an ending"),
        ("elsewhere:GONE", "the format .rows of elsewhere cannot be used: module 'elsewhere'"),
        ("elsewhere:OTHER", "the format .rows of elsewhere cannot be used: Format is no Traj"),
    ],
)
def test_a_format_that_cannot_be_used_is_one_line(
    installed, tmp_path: Path, ethanol: Atoms, capsys, value: str, message: str
):
    source, target = tmp_path / "t.xyz", tmp_path / "t.rows"
    with open_trajectory(source, ethanol, frame_interval=2.0) as writer:
        writer.write()
    registry._find_all.cache_clear()
    installed(value)
    assert main(["convert", str(source), str(target)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not target.exists()
    with pytest.raises(ConfigError):
        open_trajectory(target, ethanol)
    assert not target.exists()


def test_the_formats_of_this_package_are_known():
    assert {".dcd", ".xtc", ".extxyz"} <= {ending for one in FORMATS for ending in one.endings}
