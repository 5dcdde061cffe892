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
    """A process that reads files, started anew where one died."""

    def __init__(self, package: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("targets.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def read(self, name: str, path: Path) -> str:
        """Return what became of a file."""
        self.process.stdin.write(f"{name} {path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if answer:
            return answer
        code = self.process.wait()
        number = -code if code < 0 else code
        if number == signal.SIGALRM:
            return "hung"
        return f"died {signal.Signals(number).name if code < 0 else f'with code {code}'}"

    def close(self) -> None:
        """Let it end."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait()
        self.process.stdout.close()


def fuzz(
    name: str, mutants: int, seed: int = 1, package: Path = ROOT, keep: Path | None = None
) -> Counter[str]:
    """Read damaged files by one reader and count what becomes of them.

    Parameters
    ----------
    name
        One of `targets.TARGETS`.
    mutants, seed
        How many files, and of which randomness.
    package
        Checkout of the package to try.
    keep
        Folder for the files that showed a fault.

    Returns
    -------
    Number of files that were read, refused, and so on; kinds of exceptions and signals apart.
    """
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        goods = good_files(name, folder)
        child = Child(package)
        for good in goods:
            answer = child.read(name, good)
            if answer != "read":
                raise SystemExit(f"{name}: the good file {good.name} was not read: {answer}")
        for number in range(mutants):
            chance = random.Random(f"{seed} {name} {number}")
            good = chance.choice(goods)
            ending = TARGETS[name][0]
            path = folder / f"mutant{ending}"
            path.write_bytes(mutant(good.read_bytes(), ending, chance))
            beside = good.with_suffix(".pdb")
            if ending not in (".pdb", ".psf") and beside.exists():
                path.with_suffix(".pdb").write_bytes(beside.read_bytes())
            answer = child.read(name, path)
            kind = answer.split(":")[0]
            if kind not in ("read", "refused"):
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{seed}-{number}{ending}").write_bytes(path.read_bytes())
                    with (keep / "answers.txt").open("a") as notes:
                        notes.write(f"{name}-{seed}-{number}{ending} {answer}\n")
                if answer.startswith(("died", "hung")):
                    child.close()
                    child = Child(package)
            found[kind] += 1
        child.close()
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
        found = fuzz(name, given.mutants, given.seed, given.package.resolve(), given.keep)
        faults += sum(n for kind, n in found.items() if kind not in ("read", "refused"))
        listed = ", ".join(f"{n} {kind}" for kind, n in found.most_common())
        print(f"{name:<10} {listed}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
