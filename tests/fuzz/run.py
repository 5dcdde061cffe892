"""Damage files at random, read them in processes of their own, and count what becomes of it.

    python tests/fuzz/run.py                         all readers, 1500 files each
    python tests/fuzz/run.py xtc h5 --mutants 200
    python tests/fuzz/run.py --package OTHER/CHECKOUT   another version of the package

Every damaged file must be read, or refused by an error of the package in one line. What is counted
as *foreign* (another exception), *died* (by which signal) or *hung* is a fault; the file is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from mutants import mutant  # noqa: E402 - beside this file
from targets import TARGETS, good_files  # noqa: E402

ROOT = Path(__file__).parents[2]


class Child:
    """A process that reads files, started anew where one died; also a context manager.

    Parameters
    ----------
    package
        Checkout of the package to try.
    """

    def __init__(self, package: Path = ROOT) -> None:
        self.package = package
        self._process: subprocess.Popen | None = None

    def read(self, name: str, path: Path) -> str:
        """Return what became of a file."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("targets.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": str(self.package), "OMP_NUM_THREADS": "1"},
                text=True,
            )
        self._process.stdin.write(f"{name} {path}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer:
            return answer
        code = self._process.wait()
        self.close()
        if -code in (signal.SIGALRM, signal.SIGPROF):
            return "hung"
        return f"died {signal.Signals(-code).name if code < 0 else f'with code {code}'}"

    def close(self) -> None:
        """Let the process end."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def fuzz(
    name: str, mutants: int, child: Child, seed: int = 1, keep: Path | None = None
) -> Counter[str]:
    """Read damaged files by one reader and count what becomes of them.

    Parameters
    ----------
    name
        One of `targets.TARGETS`.
    mutants, seed
        How many files, and of which randomness.
    child
        What reads them.
    keep
        Folder for the files that showed a fault, with a list of these in ``answers.txt``.

    Returns
    -------
    Number of files that were read, refused, and so on; kinds of exceptions and signals apart.
    """
    found: Counter[str] = Counter()
    ending = TARGETS[name][0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        goods = good_files(name, folder, child.package)
        for good in goods:
            answer = child.read(name, good)
            if answer != "read":
                raise SystemExit(f"{name}: the good file {good.name} was not read: {answer}")
        path = folder / f"mutant{ending}"
        for number in range(mutants):
            chance = random.Random(f"{seed} {name} {number}")
            good = chance.choice(goods)
            path.write_bytes(mutant(good.read_bytes(), ending, chance))
            beside = good.with_suffix(".pdb")
            if ending not in (".pdb", ".psf") and beside.exists():
                path.with_suffix(".pdb").write_bytes(beside.read_bytes())
            answer = child.read(name, path)
            kind = answer.split(":")[0]
            found[kind] += 1
            if keep is not None and kind not in ("read", "refused"):
                keep.mkdir(parents=True, exist_ok=True)
                kept = keep / f"{name}-{seed}-{number}{ending}"
                kept.write_bytes(path.read_bytes())
                with (keep / "answers.txt").open("a") as notes:
                    notes.write(f"{kept.name} {answer}\n")
    return found


def main() -> int:
    """Run the command line; 1 if there was a fault."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("readers", nargs="*", choices=[[], *TARGETS], default=[])
    words.add_argument("--mutants", type=int, default=1500)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--package", type=Path, default=ROOT)
    words.add_argument("--keep", type=Path, help="folder for files that showed a fault")
    given = words.parse_args()
    faults = 0
    for name in given.readers or TARGETS:
        with Child(given.package.resolve()) as child:
            found = fuzz(name, given.mutants, child, given.seed, given.keep)
        faults += sum(n for kind, n in found.items() if kind not in ("read", "refused"))
        listed = ", ".join(f"{n} {kind}" for kind, n in found.most_common())
        print(f"{name:<10} {listed}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
