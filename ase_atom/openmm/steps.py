"""Jumps by the forces of an OpenMM System, which settle leaps learned from a trajectory."""

from __future__ import annotations

import hashlib

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import unit
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import known_keywords
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.openmm.molecule import positions_of
from ase_atom.operator.protocol import Leap
from ase_atom.propagation.stepwise import Array, OneByOne
from ase_atom.state import PhaseState
from ase_atom.units import KJ_MOL, NM, NM_PS, PS


class OpenMMSteps(OneByOne):
    """An OpenMM System of one molecule as an operator: velocity Verlet by its forces.

    Parameters
    ----------
    system
        Of one molecule, without constraints, virtual sites or a barostat.
    timestep
        fs.
    leaps
        Draws states at later times, such as `ase_atom.load_leaps` returns.
    platform
        Name of OpenMM's platform; by default ``Reference``, the fastest for so few atoms.

    Raises
    ------
    ConfigError
        For a System with constraints or particles without mass, an unknown platform, or a time
        step that is not above 0, or longer than a jump of 16 fs.
    """

    @known_keywords()
    def __init__(
        self,
        system: openmm.System,
        timestep: float = 0.5,
        leaps: Leap | None = None,
        platform: str = "Reference",
    ) -> None:
        super().__init__(timestep, leaps)
        if system.getNumConstraints():
            raise ConfigError(
                f"the System has {system.getNumConstraints()} constraints, of which leaps know "
                "nothing: make it with constraints=None and rigidWater=False"
            )
        count = system.getNumParticles()
        self._masses = np.array([system.getParticleMass(i)._value for i in range(count)])
        if not (self._masses > 0).all():
            raise ConfigError(f"particle {int(np.argmin(self._masses))} of the System has no mass")
        verlet = openmm.CustomIntegrator(timestep / PS)
        verlet.addUpdateContextState()
        verlet.addComputePerDof("v", "v + 0.5*dt*f/m")
        verlet.addComputePerDof("x", "x + dt*v")
        verlet.addComputePerDof("v", "v + 0.5*dt*f/m")
        try:
            chosen = openmm.Platform.getPlatformByName(platform)
            self._context = openmm.Context(system, verlet, chosen)
        except openmm.OpenMMException as error:
            raise ConfigError(f"OpenMM: {error}") from error
        self._integrator, self.engine = verlet, f"OpenMM {platform}"
        text = openmm.XmlSerializer.serialize(system)
        self._mark = hashlib.sha256(text.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the System, and the time step."""
        return f"{super().fingerprint} {self._mark} {self.timestep}"

    def evaluate(self, numbers: NDArray[np.int64], charge: int, x: Array) -> tuple[float, Array]:
        """Return energy in eV and forces in eV/Å, ``[N, 3]``, of the molecule."""
        self._check(len(x))
        self._context.setPositions(x / NM)
        state = self._context.getState(energy=True, forces=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        forces = state.getForces(asNumpy=True)._value
        return energy * KJ_MOL, forces * (KJ_MOL / NM)

    def follow(self, state: PhaseState, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return the path of one molecule, whose steps OpenMM's own integrator makes."""
        counts = self.steps_to(times.tolist())
        real = state.mask[0].cpu().numpy()
        x, v, masses = (
            each[0].double().cpu().numpy()[real]
            for each in (state.positions, state.velocities, state.masses)
        )
        self._check(len(masses), masses)
        self._context.setPositions(x / NM)
        self._context.setVelocities(v / NM_PS)
        found = np.zeros((len(counts), 2, *state.positions.shape[1:]))
        done = 0
        for place in np.argsort(counts, kind="stable"):
            self._integrator.step(counts[place] - done)
            done = counts[place]
            found[place][:, real] = self._phase()
        both = torch.from_numpy(found).to(state.positions)
        return both[None, :, 0], both[None, :, 1]

    def _phase(self) -> Array:
        """Positions and velocities in Å and Å/fs, ``[2, N, 3]``."""
        state = self._context.getState(positions=True, velocities=True)
        return np.stack([positions_of(state), state.getVelocities(asNumpy=True)._value * NM_PS])

    def _check(self, atoms: int, masses: Array | None = None) -> None:
        if atoms != len(self._masses):
            raise ConfigError(
                f"the molecule has {atoms} atoms, and the System {len(self._masses)} particles"
            )
        if masses is None:
            return
        wrong = np.abs(masses - self._masses) > MASS_TOLERANCE
        if wrong.any():
            atom = int(np.argmax(wrong))
            raise ConfigError(
                f"atom {atom} has a mass of {masses[atom]:.3f} amu, and in the System "
                f"{self._masses[atom]:.3f}: another molecule, or another order of atoms"
            )
