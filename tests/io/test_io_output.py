"""One writer a file; pipes, devices and links in a circle; and Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest
from conftest import ROOT
from fuzz.interrupts import interrupted
from io_files import ENDINGS, INTERVAL, make_frames, read_back

from ase_atom.ase.trajectory import ObservedTrajectory
from ase_atom.cli import main
from ase_atom.errors import TrajectoryError
from ase_atom.io import (
    check_output,
    interrupts,
    open_trajectory,
    read_structure,
    read_trajectory,
)
from ase_atom.io.interrupts import Uninterrupted

NOT_STRUCK = (__file__, interrupts.__file__, weakref.__file__)
"""Where no exception comes from: signals wait there, or Python does not hand them on."""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_second_writer_is_refused_by_name(tmp_path, ethanol, ending):
    path = tmp_path / f"run{ending}"
    frames = make_frames(ethanol, 4)
    with open_trajectory(path, ethanol) as writer:
        writer.write_frames(*(part[:2] for part in frames))
        for mode in "wa":
            with pytest.raises(TrajectoryError, match=rf"run\{ending} is being written already"):
                open_trajectory(path, ethanol, mode)
        writer.write_frames(*(part[2:] for part in frames))
    assert len(read_back(path)) == 4
    with open_trajectory(path, ethanol, "a") as writer:  # it is free again
        assert writer.frames == 4


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_lock_dies_with_its_process(tmp_path, ethanol, ending):
    path = tmp_path / f"run{ending}"
    code = f"""
        import time
        from ase_atom.io import open_trajectory, read_structure
        atoms = read_structure({str(ROOT / "examples/ethanol.xyz")!r})
        writer = open_trajectory({str(path)!r}, atoms, frame_interval=1.0)
        writer.write()
        print("open", flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        try:
            assert child.stdout.readline() == b"open\n"
            with pytest.raises(TrajectoryError, match="is being written already"):
                open_trajectory(path, ethanol, "w")
            with read_trajectory(path) as reader:
                assert len(reader) == 1
        finally:
            child.kill()
            child.wait()
    with open_trajectory(path, ethanol, "w", frame_interval=1.0) as writer:
        writer.write()


def test_a_closed_or_forgotten_writer_holds_no_lock(tmp_path, ethanol):
    path = tmp_path / "run.dcd"
    writer = open_trajectory(path, ethanol)
    with pytest.warns(ResourceWarning):
        del writer
    with open_trajectory(path, ethanol, "w") as writer, pytest.raises(TrajectoryError):
        writer.write_frames(np.full((1, 9, 3), np.nan), times=[0])
    open_trajectory(path, ethanol, "w").remove()
    open_trajectory(path, ethanol, "x").close()


def test_an_integrator_that_is_made_again_takes_its_file_over(tmp_path, ethanol):
    """As a cell of a notebook that is run a second time."""
    first = ObservedTrajectory(tmp_path / "run.dcd", ethanol, None, 1.0)
    second = ObservedTrajectory(tmp_path / "run.dcd", ethanol, None, 1.0)
    second.writer.write()
    with pytest.raises(TrajectoryError, match="is closed"):
        first.writer.write()
    assert len(second) == 1
    second.writer.close()


@pytest.fixture(params=["pipe", "circle", "device", "folder"])
def special(request, tmp_path):
    """A path of each kind that is no file, with the ending of a trajectory."""
    path = tmp_path / "special.xyz"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "circle":
        path.symlink_to(tmp_path / "other.xyz")
        (tmp_path / "other.xyz").symlink_to(path)
    elif request.param == "device":
        path.symlink_to("/dev/null")
    else:
        path.mkdir()
    return path


def test_what_is_no_file_is_neither_read_nor_written(special, tmp_path, ethanol, capsys):
    for action in (
        lambda: read_trajectory(special),
        lambda: read_structure(special),
        lambda: open_trajectory(special, ethanol, "w"),
        lambda: open_trajectory(special, ethanol, "a"),
        lambda: open_trajectory(special, ethanol, "x"),
        lambda: check_output(special, overwrite=True, atoms=ethanol),
    ):
        with pytest.raises(TrajectoryError, match=r"special\.xyz"):
            action()
    ethanol.info["time_fs"] = 0.0
    ethanol.write(tmp_path / "good.xyz", format="extxyz")
    good, there = str(tmp_path / "good.xyz"), str(special)
    for words in (
        ["convert", there, str(tmp_path / "out.dcd")],
        ["convert", good, there, "--overwrite"],
        ["run", there, "-o", str(tmp_path / "out.dcd")],
        ["run", good, "-o", there, "--overwrite", "--time", "32fs"],
        ["compare", there, there, "--report", str(tmp_path / "report")],
    ):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error
        assert "special.xyz" in error
    assert not (tmp_path / "out.dcd").exists()


@pytest.fixture
def interruptible():
    """Python's own answer to Ctrl-C: a shell starts jobs in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_waits_for_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), Uninterrupted():
        with Uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_frame_stands_after_an_interrupt(tmp_path, ending):
    """tests/fuzz/interrupts.py does this 300 times for each format."""
    assert interrupted(tmp_path / f"t{ending}", times=8) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore:.* is truncated")
def test_frames_before_an_error_in_a_frame_stand(tmp_path, ethanol, ending):
    """Whatever breaks into the writing of a frame, after any of the calls that it makes."""
    path = tmp_path / f"t{ending}"
    frames = make_frames(ethanol, 4)
    for event in range(0, 200, 7):
        calls = 0

        def strike(frame, what, _, event=event):
            nonlocal calls
            if what == "c_call" and frame.f_code.co_filename not in NOT_STRUCK:
                calls += 1
                if calls == event:
                    raise KeyboardInterrupt

        writer = open_trajectory(path, ethanol, "w", frame_interval=INTERVAL)
        with writer:
            writer.write_frames(*(part[:3] for part in frames))
            sys.setprofile(strike)
            try:
                writer.write_frames(*(part[3:] for part in frames))
            except (KeyboardInterrupt, TypeError):  # the latter is what NumPy makes of it
                pass
            finally:
                sys.setprofile(None)
        with read_trajectory(path) as reader:
            assert len(reader) in (3, 4), event
            assert reader.lost == 0
        assert len(read_back(path)) in (3, 4), event


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["operators", "--json"]])
def test_a_closed_pipe_is_one_line_and_an_exit_code(words):
    """As in ``ase-atom operators | head -1``."""
    code = f"import sys; from ase_atom.cli import main; sys.exit(main({words}))"
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    os.close(write_end)
    assert done.returncode == 141
    assert done.stderr == "ase-atom: the output was closed before its end\n"
