"""The operator's energy as an OpenMM force."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm.app import Topology
from torch import Tensor

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import known_keywords
from ase_atom.openmm.checks import POTENTIAL_NAME, check_molecule
from ase_atom.openmm.molecule import Molecule, molecule_bonds, positions_of
from ase_atom.openmm.source import OperatorSource
from ase_atom.operator import OperatorLike
from ase_atom.operator.torch_settings import own_torch
from ase_atom.propagation import Guard
from ase_atom.units import KJ_MOL, NM

Precision = Literal["single", "double"]

WALL = 100.0
"""Stiffness in eV/Å² of the wall past the guard's limits.

OpenMM's minimiser begins with a trial step of 1 nm. An energy head may be anything there, also very
low; with the wall such a step is taken back, as it is with a force field.
"""


class ATOMForce(openmm.CustomCVForce):
    """Energy and forces of an operator's energy head, for OpenMM's own integrators.

    It contains an `openmm.PythonForce`, and bonds with zero force constant, so that OpenMM keeps
    the molecule whole in a periodic box.

    The energy head is trained on thermal geometries of the molecules on the operator's card, and is
    accurate only in the basins that they visit. Beyond the guard's limits on bonds and distances a
    wall is added (see `wall_energy_and_forces`). Forces are the exact gradient of the energy.

    Serialised Systems contain the operator's name or path and a checksum of its file. The same
    operator must be available where they are read. With an operator that exists only in memory,
    they can be read only in the same process, while the operator exists.

    Parameters
    ----------
    operator
        A shipped operator's name, an operator file, or an operator.
    topology
        Topology of the System.
    atoms
        Indices of the molecule's atoms in a larger System. The molecule must be whole, not wrapped
        around a periodic box.
    precision
        Precision of the energy head. ``single`` is faster; energies are then smooth to about 1 µeV.
    charge
        Total charge of the molecule in e. By default the sum of the topology's formal charges; if
        it has none, 0 if the operator was trained for neutral molecules, else the first charge on
        its card.

    Raises
    ------
    CheckpointError
        If there is no such operator, or its file is damaged.
    CoverageError
        For a molecule that the operator was not trained for, or a periodic topology. Checks that
        need positions are made when these are first used.
    ConfigError
        For an unknown precision or keyword, or an operator without an energy head.
    """

    @known_keywords()
    @own_torch()
    def __init__(
        self,
        operator: str | Path | OperatorLike,
        topology: Topology,
        atoms: Iterable[int] | None = None,
        precision: Precision = "single",
        charge: int | None = None,
    ) -> None:
        if precision not in ("single", "double"):
            raise ConfigError(f"precision is 'single' or 'double', not {precision!r}")
        source = OperatorSource(operator)
        if not source.operator.has_energy:
            raise ConfigError("the operator has no energy head, and so no forces")
        chosen = None if atoms is None else [int(index) for index in atoms]
        molecule = check_molecule(topology, source.operator, chosen, charge)
        computed = openmm.PythonForce(EnergyCallback(source, molecule, precision))
        if chosen is not None:
            computed.setParticles(chosen)
        super().__init__("energy")
        self.addCollectiveVariable("energy", computed)
        self.addCollectiveVariable("bonds", molecule_bonds(chosen or range(len(molecule.numbers))))
        self.setName(POTENTIAL_NAME)


class EnergyCallback:
    """The callback of `ATOMForce`: energy in kJ/mol and forces ``[N, 3]`` in kJ/mol/nm.

    Parameters
    ----------
    source
        The operator.
    molecule
        What it is asked about.
    precision
        Of the energy head.
    """

    def __init__(
        self, source: OperatorSource, molecule: Molecule, precision: Precision = "single"
    ) -> None:
        self.source, self.molecule, self.precision = source, molecule, precision
        self._head: OperatorLike | None = None
        self._limits: Guard | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A Context computes with a copy of this that OpenMM makes by pickling.
        return _unpickle, (*self.source.ticket(), self.molecule, self.precision)

    @own_torch(1)
    @torch.no_grad()
    def __call__(self, state: openmm.State) -> tuple[float, NDArray[np.float64]]:
        """Return energy and forces at the positions of a State."""
        positions = positions_of(state)
        if self._limits is None or not np.isfinite(positions).all():
            self.molecule.check(self.source.operator, positions)
        if self._head is None:
            self._head = self.source.operator
            if self.precision == "double":
                self._head = self._head.in_double_precision()
        asked = self.molecule.state(positions)
        if self._limits is None:
            self._limits = Guard.watch(asked)
        energy, forces = self._head.energy_and_forces(asked)
        wall, push = wall_energy_and_forces(self._limits, asked.positions)
        energy, forces = energy + wall, forces + push
        return float(energy[0]) / KJ_MOL, forces[0].numpy() * (NM / KJ_MOL)


def _unpickle(
    ticket: str, where: str | None, checksum: str, molecule: Molecule, precision: Precision
) -> EnergyCallback:
    source = OperatorSource.of_ticket(ticket, where, checksum)
    return EnergyCallback(source, molecule, precision)


def wall_energy_and_forces(limits: Guard, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energy of a wall around the geometries that are still a molecule.

    It is `WALL` times the sum of the squared excess of all distances over the guard's limits, and
    so zero wherever the guard finds nothing broken.

    Parameters
    ----------
    limits
        The guard of the batch.
    positions
        Å, ``[B, N, 3]``.

    Returns
    -------
    Energies in eV, ``[B]``, and forces in eV/Å, ``[B, N, 3]``.
    """
    apart = positions[:, limits.first] - positions[:, limits.second]
    distance = apart.norm(dim=-1)
    excess = (distance - limits.upper).clamp(min=0) - (limits.lower - distance).clamp(min=0)
    pull = (-2.0 * WALL * excess / distance.clamp(min=1e-6)).unsqueeze(-1) * apart
    forces = torch.zeros_like(positions)
    forces.index_add_(1, limits.first, pull).index_add_(1, limits.second, -pull)
    return WALL * excess.square().sum(dim=1), forces
