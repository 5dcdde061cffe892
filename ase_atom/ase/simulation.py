"""A whole simulation in one line: ``ase_atom.simulate("CCO", time="100 ps")``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from ase_atom.ase.conformer import from_smiles
from ase_atom.ase.relaxation import relax
from ase_atom.errors import ConfigError, DataError
from ase_atom.errors.keywords import known_keywords
from ase_atom.errors.values import check_flag, whole_number
from ase_atom.errors.warning import warn
from ase_atom.io import open_trajectory, read_structure
from ase_atom.molecules.atoms import structure_of, total_charge
from ase_atom.molecules.catalogue import operator_for
from ase_atom.molecules.coverage import CoverageWarning
from ase_atom.operator import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import (
    Adaptive,
    Ensemble,
    Expectation,
    Frames,
    Guard,
    Propagator,
    Settings,
    Thermostat,
    equilibrate,
    look_ahead,
    reservations,
    sample_velocities,
)
from ase_atom.propagation.ensembles import find_ensemble
from ase_atom.propagation.frames import exact
from ase_atom.state import PhaseState
from ase_atom.units import AMU_A2_FS2_IN_EV, PS, parse_time, velocities_to_ase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ase_atom.analysis import Comparison, Trajectory


@dataclass(frozen=True)
class Simulation:
    """The frames of a simulation, in memory.

    Attributes
    ----------
    start
        The molecule, as it was given or made.
    times
        fs, ``[T]``.
    positions, velocities
        Å and Å/fs, ``[T, N, 3]``.
    energies
        Potential energies by the operator in eV, ``[T]``; None where it knows none.
    temperatures
        K, ``[T]``, with the degrees of freedom of the ensemble.
    operator
        What moved it is called.
    ensemble
        The dynamics.
    expectation
        The error that was to be expected; None of an operator that was never calibrated.
    strides
        How the time was divided, with a tolerance; else empty.
    """

    start: Atoms
    times: NDArray[np.floating]
    positions: NDArray[np.floating]
    velocities: NDArray[np.floating]
    energies: NDArray[np.floating] | None
    temperatures: NDArray[np.floating]
    operator: str
    ensemble: Ensemble
    expectation: Expectation | None
    strides: str = ""

    def __len__(self) -> int:
        """Return the number of frames T."""
        return len(self.times)

    def __getitem__(self, index: int) -> Atoms:
        """Return a frame with its momenta and, where it is known, its energy."""
        atoms: Atoms = self.start.copy()
        atoms.set_positions(self.positions[index])
        atoms.set_velocities(velocities_to_ase(self.velocities[index]))
        atoms.info["time_fs"] = float(self.times[index])
        if self.energies is not None:
            atoms.calc = SinglePointCalculator(atoms, energy=float(self.energies[index]))
        return atoms

    def __iter__(self) -> Iterator[Atoms]:
        return (self[index] for index in range(len(self)))

    @property
    def atoms(self) -> Atoms:
        """The molecule as in the last frame."""
        return self[-1]

    def write(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the frames in the format of the file's ending, and return the file.

        Raises
        ------
        TrajectoryError
            As `ase_atom.io.open_trajectory`.
        """
        path = Path(path)
        with open_trajectory(path, self.start, "w" if overwrite else "x") as writer:
            writer.write_frames(
                self.positions,
                self.velocities,
                self.times.tolist(),
                energies=self.energies if writer.holds_energies else None,
            )
        return path

    def trajectory(self) -> Trajectory:
        """Return the frames as what `ase_atom.analysis` works with."""
        from ase_atom.analysis import Trajectory

        facts = {"ensemble": self.ensemble.name}
        if isinstance(self.ensemble, Thermostat):
            facts["temperature_K"] = f"{self.ensemble.temperature_K:g}"
        return Trajectory.from_arrays(
            self.start.numbers,
            self.positions,
            self.velocities,
            self.times,
            self.energies,
            name=self.operator,
            facts=facts,
            charge=total_charge(self.start),
        )

    def compare(
        self, reference: str | Path | Trajectory | Simulation, **options: Any
    ) -> Comparison:
        """Lay the frames beside a reference; arguments are those of `ase_atom.analysis.compare`."""
        from ase_atom.analysis import compare

        other = reference.trajectory() if isinstance(reference, Simulation) else reference
        return compare(self.trajectory(), other, **options)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw temperature and energies against time, and the spectrum of the velocities.

        The spectrum only where frames lie close enough, some 4 fs with hydrogen.

        Parameters
        ----------
        path
            Picture to write as well.
        """
        from matplotlib.figure import Figure

        from ase_atom.analysis.power import power_spectrum

        try:
            spectrum = power_spectrum(self.trajectory())
        except DataError:
            spectrum = None
        rows = 2 if spectrum is None else 3
        figure = Figure(figsize=(7, 2 * rows), layout="constrained")
        top, middle, *rest = figure.subplots(rows, 1)
        picoseconds = self.times / PS
        top.plot(picoseconds, self.temperatures, lw=0.8)
        top.set_ylabel("temperature (K)")
        if self.energies is not None:
            moving = 0.5 * AMU_A2_FS2_IN_EV * self.start.get_masses()[:, None] * self.velocities**2
            kinetic = moving.sum((1, 2))
            potential = self.energies - self.energies.min()
            middle.plot(picoseconds, potential, lw=0.8, label="potential")
            middle.plot(picoseconds, potential + kinetic, lw=0.8, label="total")
            middle.legend(frameon=False)
        middle.set_ylabel("energy (eV)")
        middle.set_xlabel("time (ps)")
        if spectrum is not None:
            rest[0].plot(spectrum.wavenumbers, spectrum.total, lw=0.8)
            rest[0].set_xlabel("wavenumber (cm⁻¹)")
            rest[0].set_ylabel("power of velocities")
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


@known_keywords()
@own_torch(1)
def simulate(
    molecule: str | Path | Atoms,
    time: str = "10 ps",
    *,
    operator: str | Path | OperatorLike | None = None,
    temperature_K: float = 300.0,
    ensemble: str = "langevin",
    frame_interval: str | None = None,
    equilibration: str = "1 ps",
    seed: int = 0,
    tolerance: float | None = None,
    fallback: Any = None,
    accept_error: bool = False,
    friction: float | None = None,
    taut: str | None = None,
    stride: str | None = None,
    reversible: bool | None = None,
    energy_correction: bool = True,
) -> Simulation:
    """Simulate a molecule and return its frames.

    A molecule at rest gets velocities and is brought to equilibrium first, as by ``ase-atom run``.

    Parameters
    ----------
    molecule
        SMILES, a structure file, or atoms. A conformer of a SMILES is relaxed with the operator's
        own potential.
    time, frame_interval, equilibration
        Text such as ``"100 ps"``. Frames are a stride apart by default; ``"0 ps"`` equilibrates
        nothing.
    operator
        Name, file or operator; by default the shipped one for the molecule.
    temperature_K
        Of the thermostat and of first velocities.
    ensemble
        ``langevin``, ``bussi``, ``nve``, or an ensemble of another package.
    seed
        Of the conformer, the velocities and the noise.
    tolerance, fallback
        Divide strides where jumps err more, and move the molecule with an ASE calculator's forces
        where even short ones do; see `ase_atom.propagation.Adaptive`.
    accept_error
        Go on where the jumps' expected error is so large that the run would be refused.
    friction
        Of Langevin dynamics, 1/ps.
    taut, stride
        Relaxation time of Bussi's thermostat and length of a jump, as text.
    reversible, energy_correction
        As of `ase_atom.ATOMPropagator`.

    Raises
    ------
    AtomError
        For whatever cannot be simulated, saying why.
    BrokenStateError
        If the molecule breaks.
    """
    check_flag("accept_error", accept_error)
    seed = whole_number("seed", seed)
    duration = _time("time", time)
    settle = _time("equilibration", equilibration, zero=True)
    atoms = _structure(molecule, seed)
    model = operator_for(atoms, operator, engine="auto")
    if isinstance(molecule, str) and not _is_file(molecule):
        relax(atoms, model if fallback is None else fallback)
    thermostatted = issubclass(find_ensemble(ensemble), Thermostat)
    settings = Settings(
        kind=ensemble,
        temperature=temperature_K if thermostatted else None,
        own={
            "friction": None if friction is None else float(friction) / PS,
            "taut": None if taut is None else _time("taut", taut),
        },
        energy_correction=energy_correction,
        reversible=reversible,
        stride=None if stride is None else _time("stride", stride),
    )
    chosen = settings.ensemble(model)
    adaptive = Adaptive.asked(tolerance, fallback)
    usual = settings.choose_stride(model)
    jump = settings.choose_stride(model, adaptive is not None)
    interval = usual if frame_interval is None else _time("frame_interval", frame_interval)
    state = PhaseState.from_atoms([atoms])
    for line in reservations(model.card, [structure_of(atoms)], chosen):
        warn(line, CoverageWarning)
    accepts = accept_error or fallback is not None
    expected = look_ahead(model, state, chosen, usual, accepts)
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()
    guard = Guard.watch(state)
    if not bool(state.velocities.any()):
        state = sample_velocities(state, temperature_K, torch.Generator().manual_seed(seeds[0]))
        if settle:
            calm = None if adaptive is None else Adaptive(adaptive.tolerance, adaptive.fallback)
            done = equilibrate(
                model,
                state,
                temperature_K,
                duration=settle,
                stride=jump,
                energy_correction=energy_correction,
                seed=seeds[2],
                guard=guard,
                adaptive=calm,
            )
            if done.broken:
                raise done.broken[0]
            state = done.state
    run = Propagator(model, state, chosen, jump, interval, seeds[1], guard=guard, adaptive=adaptive)
    frames = math.ceil(exact(duration) / exact(interval))
    return _gathered(run, float(frames * exact(interval)), atoms, expected)


def _structure(molecule: str | Path | Atoms, seed: int) -> Atoms:
    if isinstance(molecule, Atoms):
        copy: Atoms = molecule.copy()
        return copy
    if not isinstance(molecule, str | Path):
        raise ConfigError(
            "a molecule is an ase.Atoms, a SMILES or the name of a file, not a "
            f"{type(molecule).__name__}; one at a time"
        )
    if isinstance(molecule, Path) or _is_file(molecule):
        return read_structure(molecule)
    if re.search(r"\.(xyz|extxyz|pdb|sdf|mol2?|traj|cif|gro|ent|json|gz)$", molecule):
        raise ConfigError(f"{molecule}: there is no such file")
    return from_smiles(molecule, seed)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a SMILES that is longer than a name can be
        return False


def _time(name: str, text: Any, zero: bool = False) -> float:
    """Read a time.

    Raises
    ------
    ConfigError
        For a number without a unit, or one that is not above zero.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{name} is text with a unit, such as '10 ps', not {text!r}")
    try:
        value = parse_time(text)
    except ValueError as error:
        raise ConfigError(f"{name} {text!r} is no time; give {error}") from error
    if value < 0 or (value == 0 and not zero):
        raise ConfigError(f"{name} must be above zero, not {text}")
    return value


def _gathered(
    run: Propagator, duration: float, atoms: Atoms, expected: list[Expectation]
) -> Simulation:
    parts, energies, kelvin = [], [], []
    for part in run.run(duration):
        parts.append(part)
        flat = part.flat()
        kelvin.append(run.ensemble.temperature(flat))
        if run.operator.has_energy:
            energies.append(run.operator.energy(flat))
    frames = Frames.joined(parts)
    card = run.operator.card
    return Simulation(
        atoms,
        frames.times.numpy(),
        frames.positions[0].cpu().numpy(),
        frames.velocities[0].cpu().numpy(),
        torch.cat(energies).cpu().numpy() if energies else None,
        torch.cat(kelvin).cpu().numpy(),
        type(run.operator).__name__ if card is None else card.name,
        run.ensemble,
        expected[0] if expected else None,
        "" if run.adaptive is None else run.adaptive.sentence(),
    )
