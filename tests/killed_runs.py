"""Runs that are killed at random and go on: ``python tests/killed_runs.py --kills 50``.

Each run is a process that is killed with SIGKILL at a random moment, and again in its continuation,
until it is done. Its trajectory is then compared with that of the same run undisturbed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ase_atom.cli import main
from ase_atom.io import read_trajectory

ETHANOL = Path(__file__).parent.parent / "examples" / "ethanol.xyz"
BYTES_ALIKE = ("dcd", "xtc", "trr", "xyz")
ENDINGS = (*BYTES_ALIKE, "nc", "h5", "extxyz", "traj")
RESTART_EVERY = 3


def command(folder: Path, ending: str, duration: str, *options: str) -> list[str]:
    """Return the words of a run that can go on."""
    return [
        "run", str(ETHANOL), "--output", str(folder / f"run.{ending}"), "--time", duration,
        "--no-equilibration", "--replicas", "2", "--frame-interval", "10fs",
        "--log", str(folder / "run.csv"), "--restart", str(folder / "run.restart"),
        "--restart-interval", str(RESTART_EVERY), *options,
    ]  # fmt: skip


def killed_after(seconds: float, words: list[str]) -> bool:
    """Run a command in a process of its own, and say whether it had to be killed."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(main(words))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if not os.WIFEXITED(status) or os.WEXITSTATUS(status):
                raise RuntimeError(f"{' '.join(words)} ended with status {status}")
            return False
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def disturbed(folder: Path, words: list[str], random_time, most: int) -> int:
    """Run a command to its end, killing it up to so many times, and return how often."""
    restart = folder / "run.restart"
    kills = 0
    while True:
        again = ["run", "--resume", str(restart)] if restart.exists() else [*words, "--overwrite"]
        if not killed_after(random_time() if kills < most else 1e9, again):
            return kills
        kills += 1


def differences(one: Path, other: Path, ending: str) -> list[str]:
    """Name what differs between the files of two runs."""
    found = []
    for name in (f"run-0.{ending}", f"run-1.{ending}", "run.csv"):
        a, b = one / name, other / name
        if name.endswith(("csv", *BYTES_ALIKE)):
            if a.read_bytes() != b.read_bytes():
                found.append(f"{name}: bytes")
            continue
        with read_trajectory(a) as left, read_trajectory(b) as right:
            if len(left) != len(right):
                found.append(f"{name}: {len(left)} frames, not {len(right)}")
                continue
            for x, y in zip(left, right, strict=True):
                for field in ("positions", "velocities", "times", "energies"):
                    p, q = getattr(x, field), getattr(y, field)
                    if (p is None) != (q is None) or (p is not None and not np.array_equal(p, q)):
                        found.append(f"{name}: {field}")
    return found


def try_one(folder: Path, ending: str, duration: str, generator: random.Random, most: int) -> tuple:
    """Compare a disturbed run with one that is not, and return kills and differences."""
    whole, cut = folder / "whole", folder / "cut"
    whole.mkdir()
    cut.mkdir()
    started = time.monotonic()
    killed_after(1e9, command(whole, ending, duration))
    took = time.monotonic() - started
    words = command(cut, ending, duration)
    kills = disturbed(cut, words, lambda: generator.uniform(0.1, 1.0) * took, most)
    return kills, differences(cut, whole, ending)


def go(kills: int, duration: str, seed: int, endings: tuple[str, ...] = ENDINGS) -> int:
    """Kill so many runs, and return how many came out otherwise."""
    generator = random.Random(seed)
    counted, bad = dict.fromkeys(endings, 0), 0
    while sum(counted.values()) < kills:
        ending = min(counted, key=lambda each: counted[each])
        folder = Path(tempfile.mkdtemp())
        try:
            done, wrong = try_one(folder, ending, duration, generator, 3)
            counted[ending] += max(done, 1)
            bad += bool(wrong)
            print(f"{ending}: killed {done} times; {', '.join(wrong) or 'the same'}", flush=True)
        finally:
            shutil.rmtree(folder)
    print(f"{sum(counted.values())} kills, {bad} runs that differ")
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--time", default="3ps")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sys.exit(1 if go(chosen.kills, chosen.time, chosen.seed) else 0)
