"""What is refused before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import openmm
from ase.data import atomic_masses
from openmm.app import Topology

from ase_atom.errors import ConfigError, CoverageError, StateError
from ase_atom.molecules.coverage import MASS_TOLERANCE, check_composition, wrong_size
from ase_atom.molecules.topology import atom_label
from ase_atom.openmm.molecule import Molecule
from ase_atom.operator import OperatorCard, OperatorLike
from ase_atom.units import format_charge

if TYPE_CHECKING:
    from rdkit.Chem import Mol

SystemForces = Literal["refuse", "report"]

FORCE_NAME = "ATOMIntegrator"
"""Name of the force that the integrator adds to a System."""

POTENTIAL_NAME = "ATOMForce"
"""Name of an operator's energy as a force, by which it is known from other Python forces."""

FORCE_FIELD = frozenset(
    {
        "HarmonicBondForce",
        "HarmonicAngleForce",
        "PeriodicTorsionForce",
        "RBTorsionForce",
        "CMAPTorsionForce",
        "NonbondedForce",
        "GBSAOBCForce",
        "GayBerneForce",
        "CustomNonbondedForce",
        "CustomGBForce",
        "CustomHbondForce",
        "CustomManyParticleForce",
        "AmoebaGeneralizedKirkwoodForce",
        "AmoebaMultipoleForce",
        "AmoebaTorsionTorsionForce",
        "AmoebaVdwForce",
        "AmoebaWcaDispersionForce",
        "HippoNonbondedForce",
    }
)
"""Forces that are terms of a force field and nothing else, which reporters may evaluate.

Custom forces on bonds, angles, torsions, centroids and collective variables are not among them:
nothing tells a restraint or a bias from a force field's own term there.
"""

MOST_NAMED = 3
"""Atoms, bonds or forces that a message names before it says "and others"."""


def check_kinds(system: object, topology: object) -> None:
    """Check that a System is one, and a topology.

    Raises
    ------
    ConfigError
        If one is something else, as where they are given in another order.
    """
    for name, given, wanted in (
        ("system", system, openmm.System),
        ("topology", topology, Topology),
    ):
        if not isinstance(given, wanted):
            raise ConfigError(
                f"{name} is an OpenMM {wanted.__name__}, not a {type(given).__name__}"
            )


def check_molecule(
    topology: Topology,
    operator: OperatorLike,
    chosen: Sequence[int] | None = None,
    charge: int | None = None,
) -> Molecule:
    """Check what a topology says about the molecule.

    Parameters
    ----------
    topology
        With bonds, the molecule is known by them; without, only its elements are checked here.
    operator
        One without a card is taken to cover everything.
    chosen
        Indices of the molecule's atoms in a larger topology.
    charge
        Total charge in e; by default the sum of the topology's formal charges, and where it has
        none, 0 if the operator was trained for that, else what it was.

    Returns
    -------
    The molecule, with the masses that the operator was trained with.

    Raises
    ------
    CoverageError
        For atoms without an element, a periodic box, several molecules, or a molecule or charge
        that the operator was not trained for.
    StateError
        For indices that the topology does not have.
    """
    atoms = list(topology.atoms())
    if chosen is None and topology.getPeriodicBoxVectors() is not None:
        raise CoverageError(
            "the topology has a periodic box, and operators are for isolated molecules: remove it "
            "with topology.setPeriodicBoxVectors(None)"
        )
    if chosen is not None:
        wrong = [index for index in chosen if not 0 <= index < len(atoms)]
        if wrong or len(set(chosen)) < len(chosen):
            what = f"atom {wrong[0]}" if wrong else "an atom twice"
            raise StateError(f"the topology has {len(atoms)} atoms, and {what} is asked for")
        atoms = [atoms[index] for index in chosen]
    if not atoms:
        raise CoverageError("the topology holds no atoms")
    for atom in atoms:
        if atom.element is None:
            raise CoverageError(
                f"atom {atom.index} ({atom.name}) of the topology has no element: operators know "
                "atoms only, no extra particles or beads"
            )
    numbers = np.array([atom.element.atomic_number for atom in atoms])
    card = operator.card
    stated = [atom.formalCharge for atom in atoms if atom.formalCharge is not None]
    if charge is None and stated:
        charge = sum(stated)
    if card is None:
        return Molecule(numbers, atomic_masses[numbers], charge or 0)
    place = {atom.index: row for row, atom in enumerate(atoms)}
    bonds = [
        (place[a.index], place[b.index])
        for a, b in topology.bonds()
        if a.index in place and b.index in place
    ]
    trained = np.array([card.masses.get(number, 0.0) for number in numbers.tolist()])
    check_composition(numbers, trained, card)
    reason = wrong_size("topology", len(numbers), card)
    if reason is not None:
        raise CoverageError(reason)
    if bonds:
        _check_bonds(numbers, bonds, card)
    if charge is None:
        charge = 0 if 0 in card.charges else card.charges[0]
    if charge not in card.charges:
        what = "the topology's formal charges add up" if stated else "the molecule's charge is set"
        raise CoverageError(
            f"{what} to {charge:+g}, and {card.name} was trained for a total charge of "
            f"{format_charge(card.charges)}"
        )
    return Molecule(numbers, trained, charge)


def check_system(system: openmm.System, molecule: Molecule, system_forces: SystemForces) -> None:
    """Check that a System is one free molecule whose forces need not act.

    Parameters
    ----------
    system
        The System.
    molecule
        What the topology says of it.
    system_forces
        "refuse" for no forces at all, "report" to let a force field be there for reporters.

    Raises
    ------
    StateError
        If the System's particles are not the topology's atoms in their order.
    CoverageError
        For constraints, virtual sites, massless particles, altered masses, or a periodic System.
    ConfigError
        For forces that would have to act, or another value of ``system_forces``.
    """
    if system_forces not in ("refuse", "report"):
        raise ConfigError(f"system_forces is 'refuse' or 'report', not {system_forces!r}")
    numbers, particles = molecule.numbers, system.getNumParticles()
    if particles != len(numbers):
        raise StateError(
            f"the System has {particles} particles and the topology {len(numbers)} atoms: both "
            "must be of the same molecule"
        )
    for index in range(particles):
        if system.isVirtualSite(index):
            raise CoverageError(f"particle {index} is a virtual site, which operators do not know")
    if system.getNumConstraints():
        i, j, _ = system.getConstraintParameters(0)
        raise CoverageError(
            f"the System has {system.getNumConstraints()} constraints, the first between "
            f"{atom_label(numbers, i)} and {atom_label(numbers, j)}; operators move all atoms "
            "freely: create the System with constraints=None and rigidWater=False"
        )
    _check_masses(system, numbers, molecule.masses)
    _check_forces(system, system_forces)
    if system.usesPeriodicBoundaryConditions():
        raise CoverageError(
            "the System's force field is periodic, and operators are for isolated molecules: "
            "create it with nonbondedMethod=NoCutoff"
        )
    if system_forces == "report" and not any(_acts(force) for force in system.getForces()):
        raise ConfigError(
            'system_forces="report" is for a System with a force field to report, and this one has '
            "no forces: leave it out, and reporters see the operator's energy"
        )


def _check_masses(system: openmm.System, numbers: np.ndarray, masses: np.ndarray) -> None:
    found = np.array([system.getParticleMass(i)._value for i in range(len(numbers))])
    for index in np.flatnonzero(found == 0).tolist():
        raise CoverageError(
            f"particle {index} ({atom_label(numbers, index)}) has no mass: OpenMM would hold it in "
            "place, and operators move all atoms"
        )
    wrong = np.flatnonzero(np.abs(found - masses) > MASS_TOLERANCE)
    if not len(wrong):
        return
    what = (
        f"particle {wrong[0]} of the System has a mass of {found[wrong[0]]:.3f} amu, and the "
        f"topology's atom {wrong[0]} is {atom_label(numbers, wrong[0])} with "
        f"{masses[wrong[0]]:.3f} amu"
    )
    if np.allclose(np.sort(found), np.sort(masses), atol=MASS_TOLERANCE):
        raise StateError(f"{what}: System and topology must have the same order of atoms")
    raise CoverageError(
        f"{what}; other isotopes and repartitioned masses move differently: create the System "
        "without hydrogenMass"
    )


def _check_forces(system: openmm.System, system_forces: SystemForces) -> None:
    forces = [force for force in system.getForces() if _acts(force)]
    if any(force.getName() == FORCE_NAME for force in forces):
        raise ConfigError(
            "the System already belongs to an ATOMIntegrator: make a new System for this one"
        )
    names = [_kind(force) for force in forces]
    if system_forces == "refuse" and names:
        raise ConfigError(
            f"the System has forces ({_listed(names)}), which have no effect on jumps: leave them "
            'out, or give system_forces="report" if they are a force field for reporters'
        )
    others = [name for name in names if name not in FORCE_FIELD and name != POTENTIAL_NAME]
    if others:
        raise ConfigError(
            f"the System has {_listed(others)}, which must act on the molecule and has no effect "
            'on jumps: leave it out; system_forces="report" accepts only plain force-field terms'
        )


def _acts(force: openmm.Force) -> bool:
    return type(force) is not openmm.CMMotionRemover


def _kind(force: openmm.Force) -> str:
    """Return a force's class, in which a deserialised `ATOMForce` is not known from others."""
    name = type(force).__name__
    return POTENTIAL_NAME if name == "CustomCVForce" and force.getName() == POTENTIAL_NAME else name


def _check_bonds(numbers: np.ndarray, bonds: list[tuple[int, int]], card: OperatorCard) -> None:
    """Compare the bonds with the card's molecules, without orders, which topologies lack."""
    from rdkit import Chem

    molecule = Chem.RWMol()
    for number in numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for i, j in {(min(pair), max(pair)) for pair in bonds}:
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    parts = Chem.GetMolFrags(molecule)
    if len(parts) > 1:
        raise CoverageError(
            f"the bonds of the topology make {len(parts)} molecules; operators move one at a time"
        )
    if card.largest_molecule is not None:  # it is for any molecule of its elements
        return
    known = {_skeleton(Chem.AddHs(Chem.MolFromSmiles(smiles))) for smiles in card.smiles}
    if _skeleton(molecule) not in known:
        raise CoverageError(
            f"the bonds of the topology are not those of a molecule that {card.name} was trained "
            f"for ({', '.join(card.smiles)})"
        )


def _skeleton(molecule: Mol) -> str:
    """Name a molecule with explicit hydrogens by elements and bonds alone."""
    from rdkit import Chem

    bare = Chem.RWMol()
    for atom in molecule.GetAtoms():
        copy = Chem.Atom(atom.GetAtomicNum())
        copy.SetNoImplicit(True)
        bare.AddAtom(copy)
    for bond in molecule.GetBonds():
        bare.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return Chem.MolToSmiles(bare)


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = " and others" if len(unique) > MOST_NAMED else ""
    return ", ".join(unique[:MOST_NAMED]) + more
