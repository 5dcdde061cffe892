"""What reads files from elsewhere, good files for each, and a process that reads damaged ones.

Run as a program it reads the files named on standard input, one after the other, and says after
each what became of it. It knows the package by its public names alone, so that it also runs with
another version of it on the path.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

MEMORY = 6 * 2**30  # bytes of addresses; torch alone takes some GiB
SECONDS = 30
"""Of processor time: a busy machine must not look like a hang."""


def read_all(path: Path) -> None:
    """Look at a trajectory in every way, and convert it."""
    from ase_atom.io import convert_trajectory, read_trajectory

    with read_trajectory(path) as reader:
        len(reader)
        for look in (reader.last_time, reader.frame_interval):
            look()
        for block in reader:
            block.positions.sum()
        _ = reader.numbers, reader.masses
        alone = not reader.atoms.pbc.any()
    for align in (False, True) if alone else (False,):
        target = path.with_name("out.dcd" if align else "out.extxyz")
        convert_trajectory(path, target, overwrite=True, align=align)


def compare(path: Path) -> None:
    """Read a trajectory as ``ase-atom compare`` does."""
    from ase_atom.analysis import load_trajectory

    load_trajectory(path)


def structure(path: Path) -> None:
    """Read a molecule."""
    from ase_atom.io import read_structure

    read_structure(path)


def topology(path: Path) -> None:
    """Read elements."""
    from ase_atom.io.topology import read_elements

    read_elements(path)


def operator(path: Path) -> None:
    """Load an operator and move a molecule."""
    from ase.build import molecule

    from ase_atom.operator import load_operator
    from ase_atom.state import PhaseState

    loaded = load_operator(path)
    loaded(PhaseState.from_atoms([molecule("CH3CH2OH")]), np.array([1.0]))


def bursts(path: Path) -> None:
    """Read reference bursts as training does."""
    import_module("training.data.store").read_bursts(path)


def imported(path: Path) -> None:
    """Read a trajectory of another program to learn from."""
    from training.importing.reading import read_frames

    read_frames(path)


def restart(path: Path) -> None:
    """Read the state of a run that was killed."""
    from ase_atom.propagation.restart import read_restart

    read_restart(path)


TARGETS: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{kind: (f".{kind}", read_all) for kind in ("dcd", "xtc", "trr", "nc", "h5")},
    **{kind: (f".{kind}", read_all) for kind in ("xyz", "extxyz", "traj", "pdb")},
    "psf": (".psf", topology),
    **{kind: (f".{kind}", structure) for kind in ("sdf", "gro", "cif")},
    "structure": (".pdb", structure),
    "npz": (".npz", compare),
    "compare": (".h5", compare),
    "bursts": (".h5", bursts),
    "import": (".extxyz", imported),
    "operator": (".safetensors", operator),
    "restart": (".safetensors", restart),
}
"""Names of readers, the endings of their files, and what reads them."""


def good_files(name: str, folder: Path, package: Path) -> list[Path]:
    """Make good files for a reader; an operator is the package's own."""
    from ase.build import bulk, molecule

    from ase_atom.io import open_trajectory

    ending, _ = TARGETS[name]
    if name == "operator":
        return [package / "ase_atom" / "weights" / "ethanol-gfn2.safetensors"]
    if name in ("bursts", "compare"):
        return [_few_bursts(folder)]
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    if name == "restart":
        return [_restart(folder)]
    made = []
    for number, atoms in enumerate((molecule("CH3CH2OH"), molecule("C6H6"), salt)):
        path = folder / f"good{number}{ending}"
        rng = np.random.default_rng(number)
        positions = atoms.positions + 0.1 * rng.normal(size=(6, len(atoms), 3))
        if name in ("pdb", "structure"):
            from ase.io import write

            write(path, [type(atoms)(atoms, positions=frame) for frame in positions])
        elif name in ("sdf", "gro", "cif"):
            from ase.io import write

            if name == "gro":
                names = [f"{symbol}{n}" for n, symbol in enumerate(atoms.symbols)]
                atoms.set_array("atomtypes", np.array(names))
            if name == "cif":
                atoms.set_cell([9, 9, 9])
                atoms.pbc = True
            write(path, atoms)
        elif name == "psf":
            path.write_text(_psf(atoms.get_chemical_symbols()))
        elif name == "npz":
            np.savez(path, numbers=atoms.numbers, positions=positions, times=np.arange(6.0))
        elif name == "import":
            from ase.calculators.singlepoint import SinglePointCalculator
            from ase.io import write

            frames = [type(atoms)(atoms, positions=frame) for frame in positions]
            for time, frame in enumerate(frames):
                frame.calc = SinglePointCalculator(frame, energy=1.0, forces=0 * frame.positions)
                frame.info["time_fs"] = float(time)
            write(path, frames, format="extxyz")
        else:
            atoms.set_momenta(rng.normal(size=(len(atoms), 3)))
            velocities = 0.01 * rng.normal(size=positions.shape)
            with open_trajectory(path, atoms, "w") as writer:
                writer.write_frames(positions, velocities, np.arange(6.0))
        made.append(path)
    return made


def _few_bursts(folder: Path) -> Path:
    store = import_module("training.data.store")
    source = Path(__file__).parents[2] / "examples" / "data" / "ethanol-pbe.h5"
    few = []
    for burst in store.iterate_bursts(source):
        few.append(burst)
        if len(few) == 2:
            break
    for burst in few:
        for name in ("positions", "velocities", "forces", "energies"):
            setattr(burst, name, getattr(burst, name)[:20])
    path = folder / "bursts.h5"
    store.write_bursts(path, few)
    return path


def _restart(folder: Path) -> Path:
    import torch

    from ase_atom.propagation.restart import write_restart

    path = folder / "restart.safetensors"
    tensors = {"positions": torch.zeros(1, 9, 3), "noise": {"state": torch.zeros(4)}}
    write_restart(path, {"frames": 3, "interval": "16", "names": ["a"], **tensors})
    return path


def _psf(symbols: list[str]) -> str:
    lines = ["PSF", "", "       1 !NTITLE", " REMARKS", "", f"{len(symbols):8d} !NATOM"]
    masses = {"H": 1.008, "C": 12.011, "O": 15.999, "Na": 22.99, "Cl": 35.45}
    for number, symbol in enumerate(symbols, start=1):
        name = f"{symbol}{number}"
        lines.append(
            f"{number:8d} MOL  1    MOL  {name:<4} {symbol:<4} {0.0:10.6f} {masses[symbol]:13.4f}"
            "           0"
        )
    return "\n".join([*lines, "", "       0 !NBOND: bonds", "", ""])


def main() -> None:
    """Read the files named on standard input, one a line after the reader's name."""
    from ase_atom.errors import AtomError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        name, path = line.rstrip("\n").split(" ", 1)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(20 * SECONDS)  # for what waits without working
        try:
            TARGETS[name][1](Path(path))
            answer = "read"
        except AtomError as error:
            lines = str(error).splitlines()
            answer = f"refused: {lines[0]}" if len(lines) == 1 else "several lines"
        except Exception as error:
            answer = f"foreign {type(error).__name__}: {str(error)[:100]!r}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        answers.write(answer + "\n")
    with contextlib.suppress(OSError):
        answers.close()


if __name__ == "__main__":
    main()
