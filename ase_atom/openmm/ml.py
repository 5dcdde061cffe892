"""Operators as potentials of openmmml, which finds them by an entry point.

potential = MLPotential("ase-atom", operator="ethanol-gfn2")
system = potential.createSystem(topology)

openmmml loads its entry points while it is being imported itself. So this module imports nothing of
openmmml: it can be the first import of a process, and openmmml the first as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase_atom.errors import ConfigError
from ase_atom.errors.keywords import nearest_keyword

if TYPE_CHECKING:
    from ase_atom.openmm.ml_potential import ATOMPotential


class ATOMPotentialFactory:
    """Makes the potential for ``MLPotential("ase-atom", operator=...)``.

    It has the interface of `openmmml.mlpotential.MLPotentialImplFactory`.
    """

    def createImpl(self, name: str, **args: Any) -> ATOMPotential:
        """Return the potential of an operator.

        Raises
        ------
        ConfigError
            If none is named, or for any other argument.
        """
        from ase_atom.openmm.ml_potential import ATOMPotential

        operator = args.pop("operator", None)
        for other in args:
            hint = nearest_keyword(other, ("operator",))
            raise ConfigError(f"the potential {name!r} takes no {other}: {hint}")
        if operator is None:
            raise ConfigError(f"the potential {name!r} needs operator=, an operator's name or file")
        return ATOMPotential(operator)
