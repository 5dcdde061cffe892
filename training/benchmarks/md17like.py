"""Long trajectories under MD17's protocol and in its layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ase_atom.errors import ConfigError, DataError
from ase_atom.files import replace_file
from ase_atom.io.npz import PlainArchive
from ase_atom.state import PhaseState
from training.benchmarks.thermostatted import Protocol, run_chunk, start_state, state_of
from training.data.md17 import save_arrays, write_md17, write_rmd17
from training.data.molecules import Molecule, from_smiles
from training.data.store import data_folder
from training.engines.factory import get_engine

MOLECULES = {
    "ethanol": "CCO",
    "benzene": "c1ccccc1",
    "malonaldehyde": "O=CCC=O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
    "naphthalene": "c1ccc2ccccc2c1",
    "salicylic": "O=C(O)c1ccccc1O",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "Ac-Ala3-NHMe": "CC(=O)N[C@@H](C)C(=O)N[C@@H](C)C(=O)N[C@@H](C)C(=O)NC",
}
"""The eight of MD17, by their names in its files, and the peptide of MD22."""


def make_generated(
    names: Sequence[str],
    frames: int,
    suite: str,
    seed: int,
    folder: Path | None,
    say: Callable[[str], None],
) -> None:
    """Generate the trajectories that a suite's public files would hold; see `make_trajectory`.

    Parameters
    ----------
    names
        Molecules; if empty, the eight of MD17, or the peptide for ``md22``.
    frames
        Of each.
    suite
        ``md17``, ``rmd17`` or ``md22``.
    seed
        Root of all random numbers.
    folder
        By default ``md17like`` in the data folder.
    say
        Takes lines on how it goes.

    Raises
    ------
    ConfigError
        For an unknown suite or molecule.
    """
    if suite not in ("md17", "rmd17", "md22"):
        raise ConfigError(f"unknown suite {suite!r}: make md17, rmd17 or md22")
    chosen = list(names) or (["Ac-Ala3-NHMe"] if suite == "md22" else list(MOLECULES)[:-1])
    unknown = [name for name in chosen if name not in MOLECULES]
    if unknown:
        raise ConfigError(f"unknown molecule {unknown[0]!r}: there are {', '.join(MOLECULES)}")
    protocol = Protocol(timestep=1.0 if suite == "md22" else 0.5, seed=seed)
    for name in chosen:
        make_trajectory(
            folder or data_folder() / "md17like",
            name,
            frames,
            protocol,
            say,
            prefix=suite,
            shuffled=suite == "rmd17",
        )


def make_trajectory(
    folder: Path,
    name: str,
    frames: int,
    protocol: Protocol,
    say: Callable[[str], None] = print,
    *,
    prefix: str = "md17",
    shuffled: bool = False,
) -> Path:
    """Generate one molecule's trajectory, or go on generating it.

    Chunks of frames are written as they are done; a killed run goes on after the last of them, to
    the very frames that it would have made, and a longer one goes on from a finished one.

    Parameters
    ----------
    folder
        Where ``PREFIX_NAME.npz`` comes to lie.
    name
        One of `MOLECULES`.
    frames
        At least so many, rounded up to whole chunks.
    protocol
        Settings.
    say
        Takes lines on how it goes.
    prefix
        Of the file.
    shuffled
        Write the layout of rMD17, frames shuffled and their order in ``old_indices``.

    Raises
    ------
    ConfigError
        For an unknown molecule, or other settings than those the folder's frames were made with.
    DataError
        If a bond broke, or another process is making the same trajectory.
    """
    if name not in MOLECULES:
        raise ConfigError(f"unknown molecule {name!r}: there are {', '.join(MOLECULES)}")
    molecule = from_smiles(MOLECULES[name], name)
    work = folder / f"{name}.chunks"
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0):
            return _make(folder, molecule, work, frames, protocol, say, prefix, shuffled)
    except Timeout as error:
        raise DataError(f"another process is making {name} in {folder}") from error


def _make(
    folder: Path,
    molecule: Molecule,
    work: Path,
    frames: int,
    protocol: Protocol,
    say: Callable[[str], None],
    prefix: str,
    shuffled: bool,
) -> Path:
    engine = get_engine(protocol.engine, protocol.engine_options)
    record = work / "protocol.json"
    facts = asdict(protocol) | {"version": engine.version}
    if record.exists():
        before = json.loads(record.read_text())
        if before != facts:
            raise ConfigError(
                f"{work} holds frames made with other settings ({before}, now {facts}): choose "
                "another folder, or remove it"
            )
    else:
        replace_file(record, lambda path: path.write_text(json.dumps(facts, indent=1)))
    count = -(-frames // protocol.chunk)
    done = sum(1 for _ in work.glob("[0-9]*.npz"))
    for index in range(done, count):
        before = work / f"{index - 1:05d}.npz"
        state = _last(molecule, before) if index else start_state(molecule, protocol)
        arrays, state = run_chunk(molecule, protocol, state, index)
        arrays |= {"last_positions": state.positions[0], "last_velocities": state.velocities[0]}
        replace_file(work / f"{index:05d}.npz", partial(save_arrays, arrays))
        kelvin = float(arrays["T"].mean())
        say(f"{molecule.name}: {(index + 1) * protocol.chunk} frames, {kelvin:.0f} K in the last")
    chunks = [_frames(work / f"{index:05d}.npz") for index in range(count)]
    joined = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in ("R", "E", "F")}
    theory = f"{engine.theory}, {protocol.temperature:g} K, {protocol.timestep:g} fs"
    path = folder / f"{prefix}_{molecule.name}.npz"
    numbers = molecule.start(0, 0).numbers
    if shuffled:
        order = np.random.default_rng(protocol.seed).permutation(len(joined["R"]))
        replace_file(path, lambda to: write_rmd17(to, numbers, joined, order))
    else:
        replace_file(path, lambda to: write_md17(to, numbers, joined, molecule.name, theory))
    say(f"{path}: {len(joined['R'])} frames")
    return path


def _last(molecule: Molecule, chunk: Path) -> PhaseState:
    """The state at the end of a chunk."""
    atoms = molecule.start(0, 0)
    with PlainArchive(chunk) as arrays:
        x, v = arrays["last_positions"], arrays["last_velocities"]
    return state_of(atoms.numbers, atoms.get_masses(), x, v)


def _frames(chunk: Path) -> dict[str, NDArray]:
    with PlainArchive(chunk) as arrays:
        return {key: arrays[key] for key in ("R", "E", "F")}
