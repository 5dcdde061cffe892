"""Reference data in the formats that other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replacing
from ase_atom.units import velocities_to_ase
from training.data.burst import Burst
from training.data.md17 import write_md17
from training.data.store import data_folder, iterate_bursts


def find_data(data: Path) -> Path:
    """Return where reference data is: the path itself, or a name or path in the data folder.

    Raises
    ------
    DataError
        If there is nothing.
    """
    if data.exists():
        return data
    inside = data_folder() / data
    candidates = (inside, inside.with_name(f"{inside.name}.h5"))
    for path in (*candidates, inside.with_name(f"{inside.name}.bursts")):
        if path.exists():
            return path
    raise DataError(f"there is no reference data at {data}, nor of that name in {data_folder()}")


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse a file that cannot be written.

    Raises
    ------
    ConfigError
        If it exists and is not to be replaced, or its folder does not.
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: give another --output, or --overwrite")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: there is no folder {output.parent}")


def export_bursts(
    data: Path, output: Path, format: str, every: int = 1, overwrite: bool = False
) -> int:
    """Write reference data in another format.

    Parameters
    ----------
    data
        Merged file or folder of files.
    output
        File that appears complete or not at all.
    format
        ``md17`` or ``extxyz``, see `write_burst_md17` and `write_frames`.
    every
        Take each burst's first frame and then every n-th.
    overwrite
        Replace the output if it exists.

    Returns
    -------
    The number of frames.

    Raises
    ------
    ConfigError
        If there is no such format or the output exists.
    DataError
        If the data is missing, damaged, or of several molecules where the format takes one.
    """
    if format not in WRITERS:
        raise ConfigError(f"unknown format {format!r}: there are {', '.join(WRITERS)}")
    if every < 1:
        raise ConfigError(f"every {every} frames is impossible: take 1 or more")
    check_output(output, overwrite)
    with replacing(output) as unfinished:
        return WRITERS[format](unfinished, iterate_bursts(data), every)


def write_burst_md17(path: Path, bursts: Iterator[Burst], every: int) -> int:
    """Write the frames of one molecule in MD17's layout, see `training.data.md17.write_md17`.

    The layout has no velocities, no charge and no mark between bursts, which follow one another.
    """
    kept: list[Burst] = []
    for burst in bursts:
        if kept and (
            burst.smiles != kept[0].smiles or not np.array_equal(burst.numbers, kept[0].numbers)
        ):
            raise DataError(
                f"the md17 format is for one molecule, but {kept[0].key} is {kept[0].smiles} and "
                f"{burst.key} is {burst.smiles}: export each by itself"
            )
        if burst.charge:
            raise DataError(
                f"{burst.key} has a total charge of {burst.charge:+d}, which the md17 format does "
                "not hold: export it as extxyz"
            )
        kept.append(burst)
    arrays = {
        letter: np.concatenate([getattr(burst, name)[::every] for burst in kept])
        for letter, name in (("R", "positions"), ("E", "energies"), ("F", "forces"))
    }
    first = kept[0]
    theory = first.attrs.get("theory", "unknown")
    write_md17(path, first.numbers, arrays, first.molecule, theory)
    return len(arrays["E"])


def write_frames(path: Path, bursts: Iterator[Burst], every: int) -> int:
    """Write extended XYZ, from which ``ase.io.read`` gives energies, forces and momenta.

    Each frame's ``info`` names its burst, time in fs, temperature in K, SMILES, seed and all else
    that is known about the burst's origin: engine, its options and version, theory, ensemble, ...
    Ions have their ``charge`` there, and atoms their ``charges`` if the engine computed them.
    """
    count = 0

    def frames() -> Iterator[Atoms]:
        nonlocal count
        for burst in bursts:
            for frame in range(0, len(burst.energies), every):
                count += 1
                yield _atoms(burst, frame)

    with open(path, "w") as file:
        write_extxyz(file, frames())
    return count


def _atoms(burst: Burst, frame: int) -> Atoms:
    atoms = Atoms(
        burst.numbers,
        burst.positions[frame],
        masses=burst.masses,
        info={
            "burst": burst.key,
            "time_fs": float(burst.times[frame]),
            "temperature_K": burst.temperature_K,
            "smiles": burst.smiles,
            "seed": burst.seed,
            "theory": "unknown",
            "ensemble": "nve",
            **({"charge": burst.charge} if burst.charge else {}),
            **burst.attrs,
        },
    )
    atoms.set_velocities(velocities_to_ase(burst.velocities[frame]))
    results = {"energy": float(burst.energies[frame]), "forces": burst.forces[frame]}
    if burst.atomic_charges is not None:
        results["charges"] = burst.atomic_charges[frame]
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


WRITERS: dict[str, Callable[[Path, Iterator[Burst], int], int]] = {
    "md17": write_burst_md17,
    "extxyz": write_frames,
}
