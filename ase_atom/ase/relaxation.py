"""Minima of an operator's own potential, or of a calculator's."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.optimize import BFGS

from ase_atom.ase.calculator import ATOMCalculator
from ase_atom.molecules.topology import perceive_bonds
from ase_atom.operator import OperatorLike

FORCE = 0.05
"""eV/Å, the largest that is left."""

STEPS = 200

MOST = 0.2
"""Relative change of a bond's length up to which a minimum is that of the same molecule."""


def relax(atoms: Atoms, by: OperatorLike | GetPropertiesMixin, steps: int = STEPS) -> bool:
    """Relax a molecule, and say whether it came to a minimum.

    Where bonds break or form on the way the atoms stay as they were; also where an operator's
    energy head changes one by more than `MOST`, as it does not know the molecule then, or where
    there is none. A potential of its own is believed as a calculator is.

    Parameters
    ----------
    atoms
        One molecule; its positions are changed.
    by
        An operator, whose own potential it is, or an ASE calculator.
    steps
        At most.
    """
    # A calculator need not be derived from ASE's classes.
    operator = None if hasattr(by, "get_forces") else by
    if operator is not None and not operator.has_energy:
        return False
    moving = atoms.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a molecule unseen, which the run says itself
        moving.calc = by if operator is None else ATOMCalculator(operator)
        converged = BFGS(moving, logfile=None).run(fmax=FORCE, steps=steps)
    before, after = (perceive_bonds(each.numbers, each.positions) for each in (atoms, moving))
    if before != after:
        return False
    learned = operator is not None and getattr(operator, "potential", None) is None
    lengths = [[each.get_distance(i, j) for i, j in before] for each in (atoms, moving)]
    if learned and before and np.abs(np.divide(lengths[1], lengths[0]) - 1).max() > MOST:
        return False
    atoms.set_positions(moving.positions)
    return bool(converged)
