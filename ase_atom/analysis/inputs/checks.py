"""Bad input: what cannot be compared, said in words that help to mend it."""

from __future__ import annotations

from collections import Counter

import numpy as np
from rdkit import Chem

from ase_atom.analysis.inputs.trajectory import Trajectory
from ase_atom.analysis.molecule.coordinates import connectivity, typical_frame
from ase_atom.analysis.molecule.symmetry import graph
from ase_atom.errors import DataError
from ase_atom.molecules.coverage import MASS_TOLERANCE
from ase_atom.molecules.lengths import neighbour_ratio, other_unit
from ase_atom.molecules.topology import atom_label, formula
from ase_atom.superposition import superposing_rotations

LEAST_FRAMES = 20


def check_alone(trajectory: Trajectory) -> None:
    """Check one trajectory by itself.

    Raises
    ------
    DataError
        If it has too few frames, or its lengths are not in Å.
    """
    if trajectory.frames < LEAST_FRAMES:
        raise DataError(
            f"{trajectory.name} holds {trajectory.frames} frames: a comparison needs at least "
            f"{LEAST_FRAMES}"
        )
    ratio = neighbour_ratio(trajectory.numbers, trajectory.pooled("positions", 50))
    if (what := other_unit(ratio)) is not None:
        raise DataError(
            f"nearest neighbours in {trajectory.name} are {ratio:.2f} times as far apart as "
            f"bonded atoms are: its positions seem to be in {what}"
        )
    if not 0.6 <= ratio <= 1.6:
        raise DataError(
            f"nearest neighbours in {trajectory.name} are {ratio:.2g} times as far apart as bonded "
            "atoms are: its positions are not in Å, or it is no molecule"
        )


def check_pair(
    trajectory: Trajectory, reference: Trajectory, reorder: bool = False
) -> tuple[Trajectory, str]:
    """Check that two trajectories are of one molecule with the atoms in one order.

    Parameters
    ----------
    trajectory, reference
        To be compared.
    reorder
        Put the trajectory's atoms into the reference's order where bonds tell how.

    Returns
    -------
    The trajectory, perhaps reordered, and one sentence about atoms that are mixed up although the
    elements stand in the same order; empty if they are not.

    Raises
    ------
    DataError
        If the molecules differ or the elements stand in another order; the message offers the
        permutation if one fits.
    """
    ours, theirs = (Counter(side.numbers.tolist()) for side in (trajectory, reference))
    if ours != theirs:
        raise DataError(
            f"{trajectory.name} is of {formula(trajectory.numbers)} and {reference.name} of "
            f"{formula(reference.numbers)}: these are different molecules"
        )
    same_elements = np.array_equal(trajectory.numbers, reference.numbers)
    bonds, reference_bonds = bonds_of(trajectory), bonds_of(reference)
    if same_elements and np.array_equal(bonds, reference_bonds):
        return trajectory, ""
    order = find_order(trajectory, bonds, reference, reference_bonds)
    if order is not None:
        if reorder:
            return trajectory.reordered(order), ""
        listed = " ".join(map(str, order))
        if not same_elements:
            raise DataError(
                f"the atoms of {trajectory.name} stand in another order than those of "
                f"{reference.name}: in the order {listed} they fit, and --reorder uses this order"
            )
        return trajectory, (
            "the elements stand in the same order, but other atoms are bonded: the molecule is the "
            f"reference's with its atoms in the order {listed}, which --reorder uses"
        )
    if not same_elements:
        raise DataError(
            f"the atoms of {trajectory.name} stand in another order than those of "
            f"{reference.name}, and no order was found in which their bonds are the same"
        )
    if len(bonds) == len(reference_bonds) and _pieces(trajectory.numbers, bonds) == 1:
        raise DataError(
            f"{trajectory.name} and {reference.name} are of different isomers of "
            f"{formula(trajectory.numbers)}: {_difference(bonds, reference_bonds)}"
        )
    return trajectory, f"its bonds are not the reference's: {_difference(bonds, reference_bonds)}"


def with_masses_noted(trajectory: Trajectory, reference: Trajectory) -> Trajectory:
    """Say where the two are of different isotopes, or one file does not say of which it is."""
    differ = np.abs(trajectory.masses - reference.masses) > MASS_TOLERANCE
    if not differ.any():
        return trajectory
    atom = int(np.argmax(differ))
    return trajectory.noting(
        f"its masses are not the reference's: atom {atom_label(trajectory.numbers, atom)} has "
        f"{trajectory.masses[atom]:.3f} amu, and {reference.masses[atom]:.3f} amu there; a file "
        "without masses is taken to have standard ones, unless a topology gives others"
    )


def bonds_of(trajectory: Trajectory) -> np.ndarray:
    """Bonded pairs in a typical frame, ``[B, 2]``."""
    return connectivity(trajectory.numbers, typical_frame(trajectory.pooled("positions", 200)))


def find_order(
    trajectory: Trajectory, bonds: np.ndarray, reference: Trajectory, reference_bonds: np.ndarray
) -> np.ndarray | None:
    """Order in which the trajectory's atoms have the reference's bonds, None if there is none.

    Of several, that whose first frame lies nearest to the reference's.
    """
    ours = graph(trajectory.numbers, bonds)
    theirs = graph(reference.numbers, reference_bonds)
    if ours.GetNumBonds() != theirs.GetNumBonds():
        return None
    matches = ours.GetSubstructMatches(theirs, uniquify=False, maxMatches=512)
    if not matches:
        return None
    start = reference.segments[0].positions[0]
    there = trajectory.segments[0].positions[0]
    orders = np.array(matches)
    _, misfits = superposing_rotations((there - there.mean(0))[orders], start - start.mean(0))
    best: np.ndarray = orders[np.argmin(misfits)]
    return best


def _pieces(numbers: np.ndarray, bonds: np.ndarray) -> int:
    return len(Chem.GetMolFrags(graph(numbers, bonds)))


def _difference(bonds: np.ndarray, reference: np.ndarray) -> str:
    ours, theirs = ({tuple(pair) for pair in side.tolist()} for side in (bonds, reference))

    def listed(pairs: set[tuple[int, ...]]) -> str:
        return ", ".join(f"{i}–{j}" for i, j in sorted(pairs)[:6]) or "none"

    return f"it lacks the bonds {listed(theirs - ours)} and has {listed(ours - theirs)} instead"
