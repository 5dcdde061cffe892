"""Thermostatted dynamics of one molecule in its own frame, a chunk of frames at a time.

The molecule has neither linear nor angular momentum, and its centre of mass is at the origin.
Velocity Verlet with stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007), which
multiplies all velocities by one factor and so keeps both momenta at zero and disturbs the paths
least. Temperatures count the 3N - 6 degrees of freedom that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import units as ase_units
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from numpy.typing import NDArray

from ase_atom.errors import DataError
from ase_atom.propagation.conservation import restore_angular_momentum
from ase_atom.propagation.stochastic import rescale_kinetic_energy, torch_noise
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV
from training.data.molecules import Molecule
from training.engines.factory import Moving, get_engine
from training.generation.dynamics import burst_seed, stop_centre_of_mass
from training.generation.verification import Connectivity

THERMOSTAT_STEPS = 10
STARTS = 2000.0  # fs of thermalisation, by each of two thermostats
FRICTION = 0.02  # 1/fs, of the first


@dataclass(frozen=True)
class Protocol:
    """What decides the frames, besides molecule and length.

    Attributes
    ----------
    engine, engine_options
        See `training.engines.factory`.
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


def state_of(numbers: NDArray, masses: NDArray, x: NDArray, v: NDArray) -> PhaseState:
    """A batch of one from atomic numbers, masses, positions and velocities."""
    sides = (torch.as_tensor(np.array(side))[None] for side in (masses, x, v))
    return PhaseState(torch.as_tensor(numbers.astype(np.int64))[None], *sides)


def _still(state: PhaseState) -> PhaseState:
    """The state without linear and angular momentum."""
    state = state.without_drift()
    return restore_angular_momentum(state, torch.zeros_like(state.angular_momentum()))


def _freedom(atoms: int) -> int:
    return 3 * atoms - 6


def start_state(molecule: Molecule, protocol: Protocol) -> PhaseState:
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


def run_chunk(
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
            now = state_of(atoms.numbers, state.masses[0].numpy(), x, v)
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
    return kept, state_of(atoms.numbers, state.masses[0].numpy(), x, v)
