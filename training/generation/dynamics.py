"""One burst of reference dynamics: start, thermalise, record, check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import ase
import numpy as np
from ase import Atoms
from ase import units as ase_units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ase_atom.cluster.workers import describe_failure
from ase_atom.errors import DataError
from ase_atom.units import velocities_from_ase
from training.data.burst import EXTRAS, PATHS, Burst
from training.data.molecules import Molecule
from training.engines.factory import Engine, Moving, get_engine, recorded_options
from training.engines.forcefield import ForceField
from training.generation.verification import Connectivity, energy_conservation

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

FORCE_FIELD_STEPS = 200


class Settings(BaseModel):
    """All that decides what a burst contains, besides its molecule and index.

    A ``displaced`` burst is no path: each of its frames is the thermalised start with every
    coordinate moved at random, by a normal deviate of a width of its own up to ``displacement``.

    Lengths in Å, times in fs, temperatures in K, frictions in 1/fs, energies in eV. Files record
    these settings; a field that an older record lacks had its default, so new fields default to
    what was done before them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str = "gfn2"
    engine_options: str = "{}"
    ensemble: Literal["nve", "langevin", "displaced"] = "nve"
    duration: Positive = 1000.0
    timestep: Positive = 0.5
    interval: Positive = 1.0
    temperatures: tuple[Positive, ...] = Field((300.0, 400.0, 500.0), min_length=1)
    friction: Positive = 0.01
    thermalise: NotNegative = 600.0
    thermal_timestep: Positive = 1.0
    thermal_friction: Positive = 0.02
    relax_steps: int = Field(30, ge=0)
    force_field: NotNegative = 0.0
    thermal_engine: str | None = None
    settle: NotNegative = 0.0
    bond_changes: Literal["drop", "keep"] = "drop"
    precision: Literal["double", "single"] = "double"
    max_energy_error: Positive = 0.01
    seed: int = Field(0, ge=0)
    displacement: Positive = 0.08

    @model_validator(mode="after")
    def _check_multiples(self) -> Settings:
        for name, unit in (
            ("interval", "timestep"),
            ("duration", "interval"),
            ("thermalise", "thermal_timestep"),
            ("force_field", "thermal_timestep"),
            ("settle", "thermal_timestep"),
        ):
            value, step = getattr(self, name), getattr(self, unit)
            ratio = value / step
            if abs(ratio - round(ratio)) > 1e-6:
                raise ValueError(f"{name} ({value:g} fs) is no multiple of {unit} ({step:g} fs)")
        if self.settle and self.thermal_engine is None:
            raise ValueError("settle is for after another thermal_engine: lengthen thermalise")
        return self

    @property
    def frames(self) -> int:
        """Number of frames of a burst, the start among them."""
        return round(self.duration / self.interval) + 1

    def temperature(self, index: int) -> float:
        """Return the temperature in K of a burst."""
        return self.temperatures[index % len(self.temperatures)]


def burst_seed(root: int, molecule: str, index: int) -> int:
    """Return the seed of a burst, independent of how many others there are and of their order."""
    words = np.frombuffer(hashlib.sha256(molecule.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence([root, *words.tolist(), index])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def run_burst(molecule: Molecule, index: int, settings: Settings) -> Burst:
    """Simulate one burst.

    A conformer is relaxed for a few steps, given velocities and thermalised with ASE's `Langevin`
    (``fixcm=False``, which samples the stated temperature in every degree of freedom). With
    ``force_field``, a force field relaxes it instead and shakes it for that long, which spreads
    the soft modes at next to no cost; the engine's own thermalisation then has only the
    differences of the stiff ones to settle. With ``thermal_engine``, that (cheaper) engine relaxes
    and thermalises, and the engine itself only for ``settle``. Then the centre of mass is put at
    the origin and at rest; rotation stays as it is. Microcanonical bursts are recorded with
    velocity Verlet, thermostatted ones with the same Langevin integrator at the settings' friction.

    Raises
    ------
    DataError
        If no conformer is found, the relaxed one has other bonds than its SMILES, a bond breaks or
        forms (unless ``bond_changes`` says to keep such bursts), or the total energy of a
        microcanonical burst strays by more than ``max_energy_error`` per atom.
    """
    seed = burst_seed(settings.seed, molecule.name, index)
    rng = np.random.default_rng(seed)
    temperature = settings.temperature(index)
    engine = get_engine(settings.engine, settings.engine_options)

    atoms = molecule.start(index, seed)
    calculator = preparing = Moving(engine.make())
    if settings.thermal_engine is not None:
        thermal_engine = get_engine(settings.thermal_engine)
        preparing = Moving(thermal_engine.make())
    if settings.force_field:
        relax_by_force_field(atoms, molecule)
    else:
        atoms.calc = preparing
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=settings.relax_steps)
    connectivity = Connectivity.of(atoms.numbers, atoms.positions, molecule.bonds())
    connectivity.check_relaxed()
    atoms.set_momenta(thermal_momenta(atoms.get_masses(), temperature, rng))
    phases = (
        (settings.force_field, atoms.calc),
        (settings.thermalise, preparing),
        (settings.settle, calculator),
    )
    for length, forces in phases:
        if not length:
            continue
        atoms.calc = forces
        thermostat = thermostatted(
            atoms, settings.thermal_timestep, temperature, settings.thermal_friction, rng
        )
        thermostat.run(round(length / settings.thermal_timestep))
    atoms.calc = calculator
    changes = [
        bond_changes(connectivity, atoms.positions[None], "while it was thermalised", settings)
    ]
    stop_centre_of_mass(atoms)

    if settings.ensemble == "displaced":
        arrays = _record_displaced(atoms, settings, rng)
        return finish_burst(molecule, index, settings, engine, atoms, arrays, changes)
    if settings.ensemble == "nve":
        dynamics: MolecularDynamics = VelocityVerlet(atoms, settings.timestep * ase_units.fs)
    else:
        dynamics = thermostatted(atoms, settings.timestep, temperature, settings.friction, rng)
    arrays = _record(atoms, dynamics, settings.frames, round(settings.interval / settings.timestep))
    changes.append(
        bond_changes(connectivity, arrays["positions"], "while it was recorded", settings)
    )
    return finish_burst(molecule, index, settings, engine, atoms, arrays, changes)


def attempt(make: Callable[..., Burst], *arguments: Any) -> Burst | str:
    """Return the burst that a function makes once it is checked, or in a line why there is none."""
    try:
        burst = make(*arguments)
        burst.check()
    except Exception as error:
        return describe_failure(error)
    return burst


def finish_burst(
    molecule: Molecule,
    index: int,
    settings: Settings,
    engine: Engine,
    atoms: Atoms,
    arrays: dict[str, np.ndarray],
    changes: Sequence[str],
) -> Burst:
    """Make a burst of what was recorded, with its origin, once its energy is verified.

    Parameters
    ----------
    atoms
        Whose elements and masses it has.
    arrays
        Positions, velocities, energies and forces, and others that a `Burst` may have.
    changes
        What is known of bonds that broke and formed, for bursts that are kept all the same.

    Raises
    ------
    DataError
        If the total energy of a microcanonical burst strays by more than ``max_energy_error`` per
        atom.
    """
    displaced = settings.ensemble == "displaced"
    burst = Burst(
        key=f"{molecule.name}/{index:05d}",
        smiles=molecule.smiles,
        charge=molecule.charge,
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        interval=0.0 if displaced else settings.interval,
        temperature_K=settings.temperature(index),
        seed=burst_seed(settings.seed, molecule.name, index),
        attrs={
            "engine": settings.engine,
            "engine_options": recorded_options(settings.engine, settings.engine_options),
            "program": engine.program,
            "version": engine.version,
            "theory": engine.theory,
            "ensemble": settings.ensemble,
            "timestep_fs": settings.timestep,
            "ase_version": ase.__version__,
            "root_seed": settings.seed,
        },
        **arrays,
    )
    if settings.ensemble == "nve":
        burst.attrs |= energy_conservation(burst, settings.max_energy_error)
    elif displaced:
        burst.attrs["displacement"] = settings.displacement
    else:
        burst.attrs["friction_per_fs"] = settings.friction
    if settings.thermal_engine is not None:
        burst.attrs["thermal_theory"] = get_engine(settings.thermal_engine).theory
    if found := "; ".join(filter(None, changes)):
        burst.attrs["bond_changes"] = found
    if settings.precision == "single":
        for name in (*PATHS, *EXTRAS):
            if getattr(burst, name) is not None:
                setattr(burst, name, getattr(burst, name).astype(np.float32))
    return burst


def relax_by_force_field(atoms: Atoms, molecule: Molecule) -> None:
    """Relax a conformer with its `ForceField`, which stays its calculator."""
    atoms.calc = Moving(ForceField(molecule.smiles))
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=FORCE_FIELD_STEPS)


def displacements(shape: tuple[int, ...], largest: float, rng: np.random.Generator) -> np.ndarray:
    """Draw displacements ``[T, N, 3]`` in Å: normal, each frame with a width up to the largest."""
    widths = rng.uniform(0.0, largest, (shape[0], 1, 1))
    return widths * rng.standard_normal(shape)


def stop_centre_of_mass(atoms: Atoms) -> None:
    """Put the centre of mass at the origin and at rest; rotation and shape stay."""
    masses = atoms.get_masses()[:, None]
    atoms.positions -= (masses * atoms.positions).sum(0) / masses.sum()
    velocities = atoms.get_velocities()
    atoms.set_velocities(velocities - (masses * velocities).sum(0) / masses.sum())


def thermal_momenta(masses: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Maxwell-Boltzmann momenta ``[N, 3]`` in ASE's unit, rotation and drift included."""
    noise = rng.standard_normal((len(masses), 3))
    return noise * np.sqrt(masses * (ase_units.kB * temperature))[:, None]


def thermostatted(
    atoms: Atoms, timestep: float, temperature: float, friction: float, rng: np.random.Generator
) -> Langevin:
    return Langevin(
        atoms,
        timestep * ase_units.fs,
        temperature_K=temperature,
        friction=friction / ase_units.fs,
        fixcm=False,
        rng=rng,
    )


def _record(
    atoms: Atoms, dynamics: MolecularDynamics, frames: int, steps: int
) -> dict[str, np.ndarray]:
    shape = (frames, len(atoms), 3)
    positions, velocities, forces = np.empty(shape), np.empty(shape), np.empty(shape)
    energies = np.empty(frames)
    for frame in range(frames):
        if frame:
            dynamics.run(steps)
        positions[frame] = atoms.positions
        velocities[frame] = velocities_from_ase(atoms.get_velocities())
        energies[frame] = atoms.get_potential_energy()
        forces[frame] = atoms.get_forces()
    return {
        "positions": positions,
        "velocities": velocities,
        "energies": energies,
        "forces": forces,
    }


def _record_displaced(
    atoms: Atoms, settings: Settings, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    shape = (settings.frames, len(atoms), 3)
    positions = atoms.positions + displacements(shape, settings.displacement, rng)
    energies, forces = np.empty(len(positions)), np.empty(shape)
    for frame, displaced in enumerate(positions):
        atoms.positions[:] = displaced
        energies[frame] = atoms.get_potential_energy()
        forces[frame] = atoms.get_forces()
    return {
        "positions": positions,
        "velocities": np.zeros(shape),
        "energies": energies,
        "forces": forces,
    }


def bond_changes(
    connectivity: Connectivity, positions: np.ndarray, when: str, settings: Settings
) -> str:
    """Say which bonds broke and formed; refuse the burst for it unless such bursts are kept."""
    found = connectivity.changes(positions)
    if found and settings.bond_changes == "drop":
        raise DataError(f"{found} {when}")
    return f"{found} {when}" if found else ""
