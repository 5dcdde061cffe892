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

from ase_atom.errors import ConfigError, CoverageError
from ase_atom.openmm.potential import ATOMForce, Precision
from ase_atom.operator import Operator, load_operator
from ase_atom.units import format_charge


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
        if operator is None or args:
            other = f", and takes no {next(iter(args))}" if args else ""
            raise ConfigError(
                f"the potential {name!r} needs operator=, an operator's name or file{other}"
            )
        return ATOMPotential(operator)


class ATOMPotential(MLPotentialImpl):
    """Adds an `ATOMForce` to Systems, for all atoms or for one molecule among others.

    Parameters
    ----------
    operator
        A shipped operator's name, a checkpoint file, or an operator.
    """

    def __init__(self, operator: str | Path | Operator) -> None:
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
        """Add the force; see `ATOMForce` for ``precision`` and what is refused.

        Raises
        ------
        CoverageError
            For a charge that the operator was not trained for.
        ConfigError
            For an argument that this potential does not have.
        """
        if others:
            raise ConfigError(f"the potential of an operator takes no {next(iter(others))}")
        if charge is not None:
            operator = self.operator
            card = (operator if isinstance(operator, Operator) else load_operator(operator)).card
            if card is not None and charge not in card.charges:
                raise CoverageError(
                    f"{card.name} was trained for a total charge of "
                    f"{format_charge(card.charges)}, not {charge}"
                )
        force = ATOMForce(self.operator, topology, atoms, precision)
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Say that the molecule does not interact with its periodic images."""
        return False
