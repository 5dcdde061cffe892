"""Ctrl-C and a polite kill at any moment: one line, an exit code, and files that are whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import mdtraj
import pytest
from conftest import ETHANOL

from ase_atom.cli import main


def started(words: list[object], folder: Path) -> subprocess.Popen[str]:
    """Begin a command in a process of its own."""
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Shells start background jobs with the signal ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_frames_and_goes_on(
    tmp_path: Path, tiny_checkpoint: Path, number: signal.Signals
) -> None:
    output, restart = tmp_path / "t.dcd", tmp_path / "t.restart"
    command = [sys.executable, "-m", "ase_atom", "run", ETHANOL, "--output", output]
    command += ["--operator", tiny_checkpoint, "--keep-zero-velocities", "--ensemble", "nve"]
    command += ["--uncorrected", "--time", "2fs", "--stride", "0.001fs"]  # very many jumps
    command += ["--frame-interval", "0.004fs", "--restart", restart, "--log", tmp_path / "t.csv"]
    process = started(command, tmp_path)
    while process.poll() is None and not (output.exists() and output.stat().st_size > 2000):
        time.sleep(0.05)
    process.send_signal(number)
    text, notes = process.communicate()
    assert (process.returncode, text) == (128 + number, ""), notes
    count = mdtraj.load(output, top=output.with_suffix(".pdb")).n_frames
    told = f"ase-atom: interrupted; {output} holds the good frames, {count} up to "
    assert notes.splitlines()[-1].startswith(told)
    assert notes.splitlines()[-1].endswith(f"; ase-atom run --resume {restart} goes on")
    assert json.loads((tmp_path / "t.json").read_text())["state"] == "interrupted"
    assert main(["run", "--resume", str(restart)]) == 0
    assert mdtraj.load(output, top=output.with_suffix(".pdb")).n_frames == 501


STRUCK = """
    import sys

    class Strike:
        def find_spec(self, name, *_):
            if name == {name!r}:
                sys.meta_path.remove(self)
                raise {raised}

    sys.meta_path.insert(0, Strike())
    from ase_atom.__main__ import main
    sys.exit(main())
"""


@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("ase_atom.cli", "KeyboardInterrupt"),
        ("ase", "ImportError('half of it') from KeyboardInterrupt()"),
        ("torch", "KeyboardInterrupt"),
        ("torch", "ImportError('half of it') from KeyboardInterrupt()"),
    ],
)
def test_an_interrupt_while_modules_load_is_one_line(
    tmp_path: Path, name: str, raised: str
) -> None:
    """Modules that are cut in two raise errors of all kinds."""
    script = textwrap.dedent(STRUCK).format(name=name, raised=raised)
    process = started([sys.executable, "-c", script, "run", ETHANOL, "-o", "t.dcd"], tmp_path)
    assert process.communicate() == ("", "ase-atom: interrupted\n")
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())


def test_an_import_that_fails_by_itself_is_no_interrupt(tmp_path: Path) -> None:
    script = textwrap.dedent(STRUCK).format(name="torch", raised="ImportError('broken torch')")
    process = started([sys.executable, "-c", script, "run", ETHANOL, "-o", "t.dcd"], tmp_path)
    assert "broken torch" in process.communicate()[1]
    assert process.returncode == 1


@pytest.mark.parametrize("command", [["finetune"], ["leap-train"], ["import"]])
def test_commands_of_training_say_once_that_they_stopped(
    tmp_path: Path, command: list[str]
) -> None:
    words = {
        "finetune": ["ethanol-gfn2", "nosuch.xyz"],
        "leap-train": ["ethanol-gfn2", "-o", "l.safetensors"],
        "import": [ETHANOL, "-o", "a.h5"],
    }[command[0]]
    script = textwrap.dedent(STRUCK).format(name="h5py", raised="KeyboardInterrupt")
    process = started([sys.executable, "-c", script, *command, *words], tmp_path)
    _, notes = process.communicate()
    assert process.returncode == 130
    assert len(notes.split()) < 15
    assert len(notes.strip().splitlines()) == 1, notes
    assert not list(tmp_path.iterdir())
