"""Press Ctrl-C at a random moment of writing, many times, and look at what is left.

    python tests/fuzz/interrupts.py                  all formats, 300 times each
    python tests/fuzz/interrupts.py traj h5 --times 50
    python tests/fuzz/interrupts.py --package OTHER/CHECKOUT   another version of the package

Every frame whose writing returned must be in the file, for the package's reader and for another
library's; the frame under way may be.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from io_files import ENDINGS, INTERVAL, read_back

ROOT = Path(__file__).parents[2]


def interrupted(path: Path, times: int, seed: int = 1) -> list[str]:
    """Write frames one by one until Ctrl-C, many times, and return what was lost.

    Parameters
    ----------
    path
        The trajectory, in a folder of its own; its ending chooses the format.
    times, seed
        How often, and of which randomness.
    """
    from ase.io import read

    from ase_atom.errors import AtomError
    from ase_atom.io import open_trajectory, read_trajectory

    atoms = read(ROOT / "examples" / "ethanol.xyz")
    chance = random.Random(seed)
    # A timer strikes in the midst of system calls, too; Python treats it as it does Ctrl-C.
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    losses = []
    for number in range(times):
        for file in path.parent.glob("*"):
            file.unlink()
        returned = 0
        try:
            with open_trajectory(path, atoms, frame_interval=INTERVAL) as writer:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 0.02))
                for _ in range(5000):  # Python loses an interrupt that falls into a destructor
                    writer.write()
                    returned += 1
        except KeyboardInterrupt:
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with read_trajectory(path) as reader:
                    whole = len(reader)
            if whole not in (returned, returned + 1) or caught:
                losses.append(f"{number}: {returned} written, {whole} read, {len(caught)} warnings")
            elif whole and len(read_back(path)) != whole:
                losses.append(f"{number}: another reader does not read {whole} frames")
        except AtomError as error:
            if returned:
                losses.append(f"{number}: {returned} written; {error}")
        except Exception as error:  # other readers have exceptions of their own
            losses.append(f"{number}: another reader fails, {type(error).__name__}: {error}")
    signal.signal(signal.SIGALRM, before)
    return losses


def main() -> int:
    """Run the command line; 1 if anything was lost."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("formats", nargs="*")
    words.add_argument("--times", type=int, default=300)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--package", type=Path, default=ROOT)
    words.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    faults = 0
    for name in given.formats or [ending[1:] for ending in ENDINGS]:
        if not given.here:  # in a process of its own, with the package asked for
            command = [sys.executable, __file__, name, "--here", "--times", str(given.times)]
            environment = os.environ | {"PYTHONPATH": str(given.package.resolve())}
            done = subprocess.run([*command, "--seed", str(given.seed)], env=environment)
            faults += done.returncode != 0
            continue
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for mdtraj's reader of DCD talks
        with tempfile.TemporaryDirectory() as folder:
            losses = interrupted(Path(folder) / f"t.{name}", given.times, given.seed)
        print(f"{name:<8} {given.times} interrupts, {len(losses)} with losses", file=answers)
        for loss in losses[:3]:
            print(f"         {loss[:150]}", file=answers)
        answers.close()
        faults += bool(losses)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
