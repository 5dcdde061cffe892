"""Long thermostatted trajectories in the layout of the public MD17 files.

The molecule is followed in its own frame: neither linear nor angular momentum, centre of mass at
the origin. Velocity Verlet with stochastic velocity rescaling (Bussi, Donadio and Parrinello
2007), which multiplies all velocities by one factor and so keeps both momenta at zero and disturbs
the paths least. Temperatures count the 3N - 6 degrees of freedom that are left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ase import units as ase_units
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ase_atom.errors import ConfigError, DataError
from ase_atom.propagation.conservation import restore_angular_momentum
from ase_atom.propagation.stochastic import rescale_kinetic_energy, torch_noise
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV
from training.benchmarks.files import replace_file, write_md17, write_rmd17
from training.dynamics import burst_seed, stop_centre_of_mass
from training.engines import Moving, get_engine
from training.molecules import Molecule, from_smiles
from training.store import data_folder
from training.verification import Connectivity

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

THERMOSTAT_STEPS = 10
STARTS = 2000.0  # fs of thermalisation, by each of two thermostats
FRICTION = 0.02  # 1/fs, of the first


@dataclass(frozen=True)
class Protocol:
    """What decides the frames, besides molecule and length.

    Attributes
    ----------
    engine, engine_options
        See `training.engines`.
    temperature
        K.
    timestep
        fs, also between frames.
    relaxation
        Time of the velocity rescaling, fs.
    chunk
        Frames that are written together.
    seed
        Root of all random numbers.
    """

    engine: str = "gfn2"
    engine_options: str = '{"accuracy": 1.0}'
    temperature: float = 500.0
    timestep: float = 0.5
    relaxation: float = 1000.0
    chunk: int = 5000
    seed: int = 0


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
        state = _start(molecule, protocol) if index == 0 else _last(work, index - 1)
        arrays, state = _run(molecule, protocol, state, index)
        arrays |= {"last_positions": state.positions[0], "last_velocities": state.velocities[0]}
        replace_file(work / f"{index:05d}.npz", lambda path, a=arrays: np.savez(path, **a))
        kelvin = float(arrays["T"].mean())
        say(f"{molecule.name}: {(index + 1) * protocol.chunk} frames, {kelvin:.0f} K in the last")
    chunks = [np.load(work / f"{index:05d}.npz") for index in range(count)]
    joined = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in ("R", "E", "F")}
    theory = f"{engine.theory}, {protocol.temperature:g} K, {protocol.timestep:g} fs"
    path = folder / f"{prefix}_{molecule.name}.npz"
    numbers = _masses(molecule)[0]
    if shuffled:
        order = np.random.default_rng(protocol.seed).permutation(len(joined["R"]))
        replace_file(path, lambda to: write_rmd17(to, numbers, joined, order))
    else:
        replace_file(path, lambda to: write_md17(to, numbers, joined, molecule.name, theory))
    say(f"{path}: {len(joined['R'])} frames")
    return path


def _masses(molecule: Molecule) -> tuple[NDArray, NDArray]:
    atoms = molecule.start(0, 0)
    return atoms.numbers, atoms.get_masses()


def _state(numbers: NDArray, masses: NDArray, x: NDArray, v: NDArray) -> PhaseState:
    sides = (torch.as_tensor(np.array(side))[None] for side in (masses, x, v))
    return PhaseState(torch.as_tensor(numbers.astype(np.int64))[None], *sides)


def _still(state: PhaseState) -> PhaseState:
    """The state without linear and angular momentum."""
    state = state.without_drift()
    return restore_angular_momentum(state, torch.zeros_like(state.angular_momentum()))


def _freedom(atoms: int) -> int:
    return 3 * atoms - 6


def _start(molecule: Molecule, protocol: Protocol) -> PhaseState:
    """A relaxed conformer, thermalised by Langevin dynamics and then by the rescaling."""
    seed = burst_seed(protocol.seed, molecule.name, 0)
    atoms = molecule.start(0, seed)
    atoms.calc = Moving(get_engine(protocol.engine, protocol.engine_options).make())
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=200)
    rng = np.random.default_rng(seed)
    spread = np.sqrt(atoms.get_masses() * ase_units.kB * protocol.temperature)[:, None]
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread)
    Langevin(
        atoms,
        protocol.timestep * ase_units.fs,
        temperature_K=protocol.temperature,
        friction=FRICTION / ase_units.fs,
        fixcm=False,
        rng=rng,
    ).run(round(STARTS / protocol.timestep))
    stop_centre_of_mass(atoms)
    state = _still(PhaseState.from_atoms(atoms))
    # What the momenta took along is given back before the dynamics without them begins.
    kelvin = float(state.temperature(_freedom(len(atoms))))
    state = state.replace(velocities=state.velocities * (protocol.temperature / kelvin) ** 0.5)
    return _integrate(molecule, protocol, state, round(STARTS / protocol.timestep), seed)[1]


def _last(work: Path, index: int) -> PhaseState:
    with np.load(work / f"{index:05d}.npz") as chunk:
        return _state(*_chunk_masses(work), chunk["last_positions"], chunk["last_velocities"])


def _chunk_masses(work: Path) -> tuple[NDArray, NDArray]:
    return _masses(from_smiles(MOLECULES[work.stem], work.stem))


def _run(
    molecule: Molecule, protocol: Protocol, state: PhaseState, index: int
) -> tuple[dict[str, NDArray], PhaseState]:
    seed = burst_seed(protocol.seed, molecule.name, index + 1)
    arrays, state = _integrate(molecule, protocol, state, protocol.chunk, seed)
    relaxed = molecule.start(0, 0)
    # Covalent bonds of a conformer will do: only changes by half a bond's length are looked for.
    changes = Connectivity.of(relaxed.numbers, relaxed.positions, molecule.bonds()).changes(
        arrays["R"]
    )
    broken = [change for change in changes.split(", ") if "broke" in change]
    if broken:
        raise DataError(f"{molecule.name}, chunk {index}: {', '.join(broken)}")
    return arrays, state


def _integrate(
    molecule: Molecule, protocol: Protocol, state: PhaseState, steps: int, seed: int
) -> tuple[dict[str, NDArray], PhaseState]:
    """So many frames after a state, and the state at the last; each call with a fresh engine."""
    engine = get_engine(protocol.engine, protocol.engine_options)
    atoms = molecule.start(0, 0)
    calculator = Moving(engine.make())
    atoms.calc = calculator
    noise = torch_noise(seed)
    h, inverse = protocol.timestep, 1 / (state.masses[0].numpy()[:, None] * AMU_A2_FS2_IN_EV)
    freedom = torch.tensor([_freedom(len(atoms))])
    x, v = state.positions[0].numpy().copy(), state.velocities[0].numpy().copy()

    def forces() -> NDArray:
        atoms.positions[:] = x
        return calculator.get_property("forces", atoms)

    shape = (steps, len(atoms), 3)
    kept = {"R": np.empty(shape), "F": np.empty(shape), "E": np.empty(steps), "T": np.empty(steps)}
    force = forces()
    for step in range(steps):
        v += 0.5 * h * inverse * force
        x += h * v
        force = forces()
        v += 0.5 * h * inverse * force
        if (step + 1) % THERMOSTAT_STEPS == 0:
            now = _state(atoms.numbers, state.masses[0].numpy(), x, v)
            now = now.replace(positions=now.positions - now.center_of_mass()[0][:, None])
            now = rescale_kinetic_energy(
                _still(now),
                freedom,
                protocol.temperature,
                protocol.relaxation,
                THERMOSTAT_STEPS * h,
                noise(torch.Size((1, 3 * len(atoms)))),
            )
            v = now.velocities[0].numpy().copy()
        kept["R"][step], kept["F"][step] = x, force
        kept["E"][step] = calculator.get_property("energy", atoms)
        kept["T"][step] = (v * v / inverse).sum() / (float(freedom) * ase_units.kB)
    return kept, _state(atoms.numbers, state.masses[0].numpy(), x, v)
