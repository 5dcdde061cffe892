"""Operators as potentials of openmmml, which finds them by an entry point.

potential = MLPotential("ase-atom", operator="ethanol-gfn2")
system = potential.createSystem(topology)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openmm
from openmm.app import Topology
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import nearest_keyword
from ase_atom.openmm.potential import ATOMForce, Precision
from ase_atom.operator import OperatorLike


class ATOMPotentialFactory(MLPotentialImplFactory):
    """Makes the potential for ``MLPotential("ase-atom", operator=...)``."""

    def createImpl(self, name: str, **args: Any) -> ATOMPotential:
        """Return the potential of an operator.

        Raises
        ------
        ConfigError
            If none is named, or for any other argument.
        """
        operator = args.pop("operator", None)
        for other in args:
            hint = nearest_keyword(other, ("operator",))
            raise ConfigError(f"the potential {name!r} takes no {other}: {hint}")
        if operator is None:
            raise ConfigError(f"the potential {name!r} needs operator=, an operator's name or file")
        return ATOMPotential(operator)


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
