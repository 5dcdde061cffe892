"""Minima of an operator's own potential."""

from __future__ import annotations

import warnings

from ase import Atoms
from ase.optimize import BFGS

from ase_atom.ase.calculator import ATOMCalculator
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import OperatorLike

FORCE = 0.05
"""eV/Å, the largest that is left."""

STEPS = 200


def relax(atoms: Atoms, operator: OperatorLike, steps: int = STEPS) -> bool:
    """Relax a molecule with an operator's own potential, and say whether it came to a minimum.

    Where the bonds change on the way, or there is no energy head, the atoms stay as they were.

    Parameters
    ----------
    atoms
        One molecule; its positions are changed.
    operator
        Covers it.
    steps
        At most.
    """
    if not operator.has_energy:
        return False
    moving = atoms.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a molecule unseen, which the run says itself
        moving.calc = ATOMCalculator(operator)
        converged = BFGS(moving, logfile=None).run(fmax=FORCE, steps=steps)
    before, after = (perceive_bonds(each.numbers, each.positions) for each in (atoms, moving))
    if before != after:
        return False
    atoms.set_positions(moving.positions)
    return bool(converged)
