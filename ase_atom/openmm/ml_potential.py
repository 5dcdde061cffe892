"""An operator's energy as a potential of openmmml."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openmm
from openmm.app import Topology
from openmmml.mlpotential import MLPotentialImpl

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import nearest_keyword
from ase_atom.openmm.potential import ATOMForce, Precision
from ase_atom.operator import OperatorLike


class ATOMPotential(MLPotentialImpl):
    """Adds an `ATOMForce` to Systems, for all atoms or for one molecule among others.

    Parameters
    ----------
    operator
        A shipped operator's name, a checkpoint file, or an operator.
    """

    def __init__(self, operator: str | Path | OperatorLike) -> None:
        self.operator = operator

    def addForces(
        self,
        topology: Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        precision: Precision = "single",
        charge: int | None = None,
        **others: Any,
    ) -> None:
        """Add the force; see `ATOMForce` for ``precision``, ``charge`` and what is refused.

        Raises
        ------
        CoverageError
            For a charge that the operator was not trained for.
        ConfigError
            For an argument that this potential does not have.
        """
        for name in others:
            hint = nearest_keyword(name, ("precision", "charge"))
            raise ConfigError(f"the potential of an operator takes no {name}: {hint}")
        force = ATOMForce(self.operator, topology, atoms, precision, charge)
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Say that the molecule does not interact with its periodic images."""
        return False
