"""Appending, truncated files, and processes that are killed while they write."""

import os
import signal
import struct

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from io_files import (
    BINARY,
    ENDINGS,
    INTERVAL,
    TOLERANCE,
    by_ase,
    by_mdanalysis,
    by_mdtraj,
    make_frames,
    read_back,
    write,
    write_all,
)

from ase_atom.errors import TrajectoryError
from ase_atom.io import FrameBlock, TrajectoryWarning, open_trajectory, read_trajectory

GROWING = [ending for ending in ENDINGS if ending != ".h5"]  # frames one after the other


def check(path, frames, count: int) -> None:
    """Check positions and times of a file's first frames by a reader of another library."""
    reader = by_ase if path.suffix in (".xyz", ".extxyz", ".traj") else by_mdtraj
    positions, times, _ = by_mdanalysis(path) if path.suffix == ".dcd" else reader(path)
    assert len(positions) >= count
    atol = TOLERANCE[path.suffix]
    np.testing.assert_allclose(positions, frames[0][: len(positions)], rtol=0, atol=atol)
    np.testing.assert_allclose(times, frames[2][: len(times)], rtol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_append(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    frames = make_frames(ethanol, 30)
    with open_trajectory(path, ethanol, "a", frame_interval=INTERVAL) as writer:  # a new file
        write_all(writer, [part[:10] for part in frames])
    with open_trajectory(path, ethanol, "a") as writer:
        assert writer.frames == 10
        write_all(writer, [part[:20] for part in frames], start=10)
    with open_trajectory(path, ethanol, "a") as writer:  # times are counted on
        for frame in range(20, 30):
            writer.write_frames(frames[0][frame : frame + 1], frames[1][frame : frame + 1])
        assert writer.frames == 30
    check(path, frames, 30)


def test_append_to_one_dcd_frame(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    for time in (3.0, 4.5, 6.0):
        with open_trajectory(path, ethanol, "a") as writer:
            writer.write(time=time)
    np.testing.assert_allclose(by_mdanalysis(path)[1], [3.0, 4.5, 6.0], rtol=1e-6)
    with (
        open_trajectory(path, ethanol, "a", start_time=9.0, frame_interval=1.5) as writer,
        pytest.raises(TrajectoryError, match=r"at 9 fs .* should be at 7\.5 fs"),
    ):
        writer.write()


def test_append_after_a_bond_has_stretched(tmp_path, ethanol):
    path = tmp_path / "t.dcd"
    write(path, ethanol)
    before = path.with_suffix(".pdb").read_bytes()
    ethanol.positions[0] += 0.6
    with open_trajectory(path, ethanol, "a") as writer:
        writer.write()
    assert len(read_back(path)) == 21
    assert path.with_suffix(".pdb").read_bytes() == before


def test_append_at_a_later_time(tmp_path, ethanol):
    for ending in (".xtc", ".trr", ".nc", ".h5", ".xyz", ".traj"):
        path = tmp_path / f"t{ending}"
        write(path, ethanol, 8, mode="w")
        with open_trajectory(path, ethanol, "a", start_time=100.0, frame_interval=3.0) as writer:
            writer.write_frames(*make_frames(ethanol, 2)[:2])
        with read_trajectory(path) as reader:
            (block,) = reader[-2:]
        np.testing.assert_allclose(block.times, [100.0, 103.0], rtol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_append_other_atoms(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    write(path, ethanol)
    before = path.read_bytes()
    with pytest.raises(TrajectoryError, match=r"holds 9 atoms; frames of 12 atoms cannot be app"):
        open_trajectory(path, molecule("C6H6"), "a")
    with pytest.raises(TrajectoryError, match=r"cannot be appended: other|describes other atoms"):
        open_trajectory(path, molecule("CH3OCH3"), "a")
    ethanol.set_velocities(np.zeros((9, 3)))
    boxed = Atoms(ethanol, cell=[9, 9, 9], pbc=True)
    if ending in (".dcd", ".nc"):
        with pytest.raises(TrajectoryError, match="cannot append to"):
            open_trajectory(path, boxed, "a")
    if ending == ".h5":
        with (
            pytest.raises(TrajectoryError, match="holds no cell, and this frame has some"),
            open_trajectory(path, boxed, "a") as writer,
        ):
            writer.write()
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", [".xyz", ".traj"])
def test_append_other_isotopes(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    write(path, ethanol)
    before = path.read_bytes()
    masses = ethanol.get_masses()
    masses[-1] = 2.014
    ethanol.set_masses(masses)
    with pytest.raises(
        TrajectoryError, match=r"atom H6 has a mass of 1\.008 amu in .* with 2\.014 amu cannot be"
    ):
        open_trajectory(path, ethanol, "a")
    assert path.read_bytes() == before


def test_append_to_what_is_no_trajectory(tmp_path, ethanol):
    for ending in ENDINGS:
        path = tmp_path / f"t{ending}"
        path.write_bytes(b"dear diary, today\n")
        with pytest.raises(TrajectoryError, match=rf"t\{ending} "):
            open_trajectory(path, ethanol, "a")
        assert path.read_bytes() == b"dear diary, today\n"


def read_all(path) -> tuple[list[FrameBlock], int, int]:
    """Return a file's frames, how many there are, and how many are lost."""
    with read_trajectory(path) as reader:
        return list(reader), len(reader), reader.lost


@pytest.mark.parametrize("ending", [*GROWING, ".pdb"])
@pytest.mark.parametrize("name", ["ethanol", "benzene"])
@pytest.mark.parametrize("cut", [2, 100])
def test_truncated_files(tmp_path, ethanol, ending, name, cut):
    """What is whole is read, and a warning tells how much is not; then frames can follow."""
    atoms = ethanol if name == "ethanol" else molecule("C6H6")
    path = tmp_path / f"t{ending}"
    frames = make_frames(atoms, 60)
    if ending == ".pdb":
        with path.open("w") as file:
            for model in frames[0]:
                file.write("MODEL\n")
                for atom, (x, y, z) in zip(atoms, model, strict=True):
                    file.write(
                        f"HETATM    1 {atom.symbol:4s} MOL     1    "
                        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {atom.symbol:>2s}\n"
                    )
                file.write("ENDMDL\n")
    else:
        write(path, atoms, 60)
    size = path.stat().st_size
    os.truncate(path, size - (size // 60 * 2 + cut if cut > 2 else 2))
    with pytest.warns(TrajectoryWarning) as seen:
        blocks, count, lost = read_all(path)
    assert len(seen) == 1
    verb = "is" if lost == 1 else "are"
    assert f"its {count} whole frames are read, {lost} {verb} lost" in str(seen[0].message)
    assert count + lost == 60 if ending in (".dcd", ".nc", ".traj") or cut == 2 else lost == 1
    assert 56 <= count < 60
    found = np.concatenate([block.positions for block in blocks])
    atol = 0.00051 if ending == ".pdb" else TOLERANCE[ending]
    np.testing.assert_allclose(found, frames[0][:count], rtol=0, atol=atol)
    if ending == ".pdb":
        return
    with pytest.warns(TrajectoryWarning), open_trajectory(path, atoms, "a") as writer:
        write_all(writer, frames, start=count)
    check(path, frames, 60)


WATER = "\nO 0.00 0.00 0.12\nH 0.00 -0.76 -0.48\nH 0.00 0.76 "
TAGGED = "Properties=species:S:1:pos:R:3:tags:I:1\nH 0.0 0.0 0.7 10\nH 0.0 0.0 0.0 "


@pytest.mark.parametrize(
    ("frame", "good", "end", "whole"),
    [
        (f"3\n{WATER}", "0.00", "0.48", True),  # shorter than the line above, and whole
        (f"3\n{WATER}", "0.00", "-0.4", False),
        (f"3\n{WATER}", "0.00", "-", False),
        (f"3\n{WATER}", "0.00", "", False),
        ("3\n\nO 0 0 0.119\nH 0 -0.76 -0.48\nH 0 0.76 ", "0.00", "0.5", True),  # by hand
        ("2\n\nH 0 0 0.74\nH 0 0 ", "0.00", "0", True),
        ("1\n\nAr 0.000 0.000 ", "0.000", "0.000", True),
        ("1\n\nAr 0.000 0.000 ", "0.000", "0.00", False),
        ("1\nProperties=species:S:1:pos:R:3:tags:I:1\nAr 0.0 0.0 0.0 ", "10", "", False),
        (f"2\n{TAGGED}", "10", "1", False),
        (f"2\n{TAGGED}", "10", "11", True),
        (
            "2\nProperties=species:S:1:pos:R:3:at:L:1\nH 0.0 0.0 0.7 T\nH 0.0 0.0 0.0 ",
            "T",
            "F",
            True,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.* is truncated")
def test_append_to_xyz_without_its_last_newline(tmp_path, frame, good, end, whole):
    """A last frame that is all there stays, and one that is torn goes."""
    path = tmp_path / "t.xyz"
    first = f"{frame}{good}\n"
    path.write_text(first + frame + end)
    with read_trajectory(path) as reader:
        atoms = reader.atoms
        assert (len(reader), reader.lost) == ((2, 0) if whole else (1, 1))
    with open_trajectory(path, atoms, "a", frame_interval=1.0) as writer:
        writer.write()
    assert path.read_text().startswith(f"{first}{frame}{end}\n" if whole else first)
    assert len(read_back(path)) == 2 + whole


def test_xyz_is_torn_at_any_byte(tmp_path, ethanol):
    path = tmp_path / "t.xyz"
    write(path, ethanol)
    whole = path.read_bytes()
    last = len(whole[: whole.rstrip().rindex(b"\n")])
    for end in range(last + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.warns(TrajectoryWarning, match="its 19 whole frames are read, 1 is lost"):
            assert read_all(path)[1:] == (19, 1)
    path.write_bytes(whole[:-1])
    assert read_all(path)[1:] == (20, 0)


@pytest.mark.parametrize("cut", [40_000, 200])
def test_a_truncated_hdf5_file_is_refused(tmp_path, ethanol, cut):
    path = tmp_path / "t.h5"
    write(path, ethanol)
    os.truncate(path, path.stat().st_size - cut)
    for mode in ("r", "a"):
        with pytest.raises(TrajectoryError, match="cut short: such cannot be read in part"):
            read_trajectory(path) if mode == "r" else open_trajectory(path, ethanol, "a")


def test_a_kill_while_hdf5_adds_a_chunk(tmp_path, ethanol):
    """The tables name a chunk behind the end of the file as its superblock has it."""
    path = tmp_path / "t.h5"
    frames = make_frames(ethanol, 700)
    with open_trajectory(path, ethanol) as writer:
        writer.write_frames(*(part[:600] for part in frames))
    end = path.stat().st_size
    with open_trajectory(path, ethanol, "a") as writer:
        writer.write_frames(*(part[600:] for part in frames))
    data = bytearray(path.read_bytes())
    assert struct.unpack("<q", data[40:48])[0] > end
    data[40:48] = struct.pack("<q", end)
    path.write_bytes(data)
    with pytest.warns(TrajectoryWarning, match="its 606 whole frames are read, 94 are lost"):
        blocks, count, lost = read_all(path)
    assert (count, lost) == (606, 94)
    found = np.concatenate([block.positions for block in blocks])
    np.testing.assert_allclose(found, frames[0][:606], rtol=0, atol=1e-6)
    with (
        pytest.raises(TrajectoryError, match="damaged behind its 606 whole frames"),
        pytest.warns(TrajectoryWarning),
    ):
        open_trajectory(path, ethanol, "a")
    assert path.read_bytes() == data


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_interrupt_within_a_frame(tmp_path, ethanol, ending):
    """Ctrl-C may strike anywhere; what is whole stays, and can be continued."""
    path = tmp_path / f"t{ending}"
    frames = make_frames(ethanol, 12)
    with open_trajectory(path, ethanol) as writer:
        write_all(writer, [part[:5] for part in frames])
        if ending == ".h5":
            writer._file["coordinates"].resize(6, axis=0)
        elif ending not in (".xtc", ".traj"):
            writer._torn = True
            writer._file.write(b"part of a frame")
    check(path, frames, 5)
    with open_trajectory(path, ethanol, "a") as writer:
        write_all(writer, frames, start=5)
    check(path, frames, 12)


@pytest.mark.parametrize("ending", [".traj", ".nc", ".dcd", ".xtc", ".trr", ".xyz"])
@pytest.mark.filterwarnings("ignore:.* is truncated")
def test_files_without_a_whole_frame(tmp_path, ethanol, ending):
    path = tmp_path / f"t{ending}"
    write(path, ethanol, 8)
    os.truncate(path, 60)
    with pytest.raises(TrajectoryError, match=rf"t\{ending}"):
        _ = read_trajectory(path).atoms


@pytest.mark.parametrize("ending", BINARY)
def test_frames_damaged_in_the_middle(tmp_path, ending, ethanol):
    path = tmp_path / f"t{ending}"
    write(path, ethanol)
    data = bytearray(path.read_bytes())
    step = (len(data) - (412 if ending == ".nc" else 276 if ending == ".dcd" else 0)) // 20
    data[-3 * step : -3 * step + 40] = bytes(40)
    path.write_bytes(data)
    if ending in (".xtc", ".trr"):
        with pytest.raises(TrajectoryError, match="frame 18 is damaged"):
            read_trajectory(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_frame_is_on_the_disk_at_once(tmp_path, ethanol, ending):
    """As another process sees it that opens the file while it is written."""
    path = tmp_path / f"open{ending}"
    frames = make_frames(ethanol, 3)
    with open_trajectory(path, ethanol, frame_interval=INTERVAL) as writer:
        for count in range(1, 4):
            write_all(writer, [part[:count] for part in frames], start=count - 1)
            seen = tmp_path / f"seen{count}{ending}"
            seen.write_bytes(path.read_bytes())
            if path.with_suffix(".pdb").exists():
                seen.with_suffix(".pdb").write_bytes(path.with_suffix(".pdb").read_bytes())
            assert len(read_back(seen)) == count


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore:.* is truncated")
def test_kill_9(tmp_path, ethanol, ending):
    """After a kill the file opens, holds every frame that was written, and can be continued.

    A kernel that is writing when the kill comes may stop between two pages. Files that do not count
    their frames then end in part of one, at which other readers stop and the package's own warns.
    """
    path = tmp_path / f"t{ending}"
    frames = make_frames(ethanol, 4000)
    rng = np.random.default_rng(3)
    for _ in range(4):
        for file in (path, path.with_suffix(".pdb")):
            file.unlink(missing_ok=True)
        done = write_until_killed(path, ethanol, frames, int(rng.integers(20, 200)))
        _, whole, torn = read_all(path)
        assert whole >= done
        assert not torn or ending not in (".nc", ".traj")
        if not torn or ending == ".dcd":
            check(path, frames, done)
        if torn and ending == ".h5":
            continue  # its headers lie across two pages; it cannot be continued, but read
        with open_trajectory(path, ethanol, "a") as writer:
            assert writer.frames == whole
            write_all(writer, [part[: writer.frames + 3] for part in frames], writer.frames)
        check(path, frames, writer.frames)


def write_until_killed(path, atoms, frames, after: int) -> int:
    """Write frames in a process that is killed, and return how many it said it had written."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open_trajectory(path, atoms, frame_interval=INTERVAL) as writer:
                for frame in range(len(frames[0])):
                    writer.write_frames(*(part[frame : frame + 1] for part in frames))
                    os.write(write_end, b".")
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        done = 0
        while done < after and (got := pipe.read(after - done)):
            done += len(got)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended before it was killed"
        return done + len(pipe.read(len(frames[0])))
