"""Bonds, angles and torsions of a molecule, perceived once, in classes of equivalent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds
from rdkit.Geometry import Point3D

from ase_atom.analysis.molecule.symmetry import automorphisms, graph
from ase_atom.molecules.topology import BOND_FACTOR, group_name, numbered_names

Kind = Literal["bond", "angle", "torsion"]
_STRAIGHT = 165.0  # degrees; about a straighter angle a torsion is not defined


@dataclass(frozen=True)
class CoordinateClass:
    """Internal coordinates that the molecule's symmetry makes equivalent, pooled in statistics.

    Attributes
    ----------
    kind
        ``bond``, ``angle`` or ``torsion``.
    label
        Elements and atom indices, such as ``C0–C1–O2``; several atoms of one place are listed.
    atoms
        Atom indices, ``[P, 2]``, ``[P, 3]`` or ``[P, 4]``.
    mirrored
        Whether torsions φ and −φ are equivalent too.
    """

    kind: Kind
    label: str
    atoms: np.ndarray
    mirrored: bool = False

    def values(self, positions: np.ndarray) -> np.ndarray:
        """Lengths in Å, or angles in degrees, torsions in (−180, 180]: ``[..., P]``."""
        points = [positions[..., self.atoms[:, k], :] for k in range(self.atoms.shape[1])]
        if self.kind == "bond":
            lengths: np.ndarray = np.linalg.norm(points[1] - points[0], axis=-1)
            return lengths
        degrees: np.ndarray = np.degrees(
            _angle(*points) if self.kind == "angle" else _torsion(*points)
        )
        return degrees

    def rates(
        self, positions: np.ndarray, velocities: np.ndarray, step: float = 0.01
    ) -> np.ndarray:
        """Time derivatives per fs, by a central difference over a fraction ``step`` of a fs."""
        change = self.values(positions + step * velocities) - self.values(
            positions - step * velocities
        )
        if self.kind == "torsion":
            change = (change + 180.0) % 360.0 - 180.0
        rates: np.ndarray = change / (2 * step)
        return rates


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    u, v = a - b, c - b
    # The arc tangent is accurate near straight angles too, where the arc cosine is not.
    angle: np.ndarray = np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1))
    return angle


def _torsion(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    length = np.linalg.norm(axis, axis=-1)
    angle: np.ndarray = np.arctan2(length * ((b - a) * right).sum(-1), (left * right).sum(-1))
    return angle


@dataclass(frozen=True)
class Coordinates:
    """A molecule's graph and what can be measured on it.

    Attributes
    ----------
    numbers
        Atomic numbers, ``[N]``.
    bonds
        Bonded pairs, ``[B, 2]``.
    classes
        Bonds, then angles, then torsions.
    relabellings
        Permutations of the atoms that keep the graph, ``[P, N]``; the identity alone if there are
        too many.
    chiral
        Whether it has stereocentres. If not, mirror images are one ensemble, and torsions φ and
        −φ are pooled.
    """

    numbers: np.ndarray
    bonds: np.ndarray
    classes: tuple[CoordinateClass, ...]
    relabellings: np.ndarray
    chiral: bool

    def of_kind(self, kind: Kind) -> list[CoordinateClass]:
        """The classes of one kind."""
        return [one for one in self.classes if one.kind == kind]


def typical_frame(positions: np.ndarray, at_most: int = 200) -> np.ndarray:
    """The frame whose interatomic distances are nearest to their medians, ``[N, 3]``.

    Bonds are perceived from it: in a hot frame a bond may be stretched past recognition.
    """
    picks = np.unique(np.linspace(0, len(positions) - 1, at_most).astype(int))
    some = positions[picks]
    i, j = np.triu_indices(positions.shape[1], 1)
    distances = np.linalg.norm(some[:, i] - some[:, j], axis=-1)
    misfit = np.abs(distances - np.median(distances, axis=0)).sum(1)
    typical: np.ndarray = some[int(np.argmin(misfit))]
    return typical


def perceive(
    numbers: ArrayLike, positions: np.ndarray, names: Sequence[str] | None = None
) -> Coordinates:
    """Perceive the internal coordinates of a molecule from its frames.

    RDKit finds the bonds, from distances up to 1.3 times the sum of covalent radii in one typical
    frame; the graph's symmetry, which pools coordinates; and stereocentres.

    Parameters
    ----------
    numbers
        Atomic numbers, ``[N]``.
    positions
        Å, ``[T, N, 3]``.
    names
        What the atoms are called, by default C1, C2, O1, H1, … by element and count.
    """
    numbers = np.asarray(numbers)
    names = numbered_names(numbers) if names is None else names
    frame = typical_frame(positions)
    bonds = connectivity(numbers, frame)
    relabellings = automorphisms(numbers, bonds)
    chiral = _has_stereocentres(numbers, bonds, frame)
    neighbours: list[list[int]] = [[] for _ in numbers]
    for i, j in bonds:
        neighbours[i].append(int(j))
        neighbours[j].append(int(i))
    angles = [
        (i, j, k)
        for j, around in enumerate(neighbours)
        for n, i in enumerate(around)
        for k in around[n + 1 :]
    ]
    bent = {
        tuple(atoms)
        for i, j, k in angles
        if np.degrees(_angle(*frame[[i, j, k]])) < _STRAIGHT
        for atoms in ((i, j, k), (k, j, i))
    }
    torsions = [
        (i, j, k, m)
        for j, k in bonds
        for i in neighbours[j]
        for m in neighbours[k]
        if i != k and m not in (j, i) and (i, j, k) in bent and (j, k, m) in bent
    ]
    groups: list[CoordinateClass] = []
    kinds: tuple[tuple[Kind, Sequence[Sequence[int]]], ...] = (
        ("bond", bonds.tolist()),
        ("angle", angles),
        ("torsion", torsions),
    )
    for kind, members in kinds:
        groups += _classes(kind, numbers, names, bonds, members, relabellings, not chiral)
    return Coordinates(numbers, bonds, tuple(groups), relabellings, chiral)


def connectivity(numbers: ArrayLike, frame: np.ndarray) -> np.ndarray:
    """Bonded pairs (i < j) of one structure, ``[B, 2]``."""
    molecule = Chem.RWMol()
    conformer = Chem.Conformer(len(frame))
    for index, (number, place) in enumerate(zip(np.asarray(numbers), frame, strict=True)):
        molecule.AddAtom(Chem.Atom(int(number)))
        conformer.SetAtomPosition(index, Point3D(*map(float, place)))
    molecule.AddConformer(conformer)
    rdDetermineBonds.DetermineConnectivity(
        molecule, useHueckel=False, useVdw=False, covFactor=BOND_FACTOR
    )
    pairs = [sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in molecule.GetBonds()]
    return np.array(sorted(pairs), dtype=int).reshape(-1, 2)


def _has_stereocentres(numbers: np.ndarray, bonds: np.ndarray, frame: np.ndarray) -> bool:
    molecule = Chem.RWMol(graph(numbers, bonds))
    conformer = Chem.Conformer(len(frame))
    for index, place in enumerate(frame):
        conformer.SetAtomPosition(index, Point3D(*map(float, place)))
    molecule.AddConformer(conformer)
    with rdBase.BlockLogs():
        Chem.AssignStereochemistryFrom3D(molecule)
        return bool(Chem.FindMolChiralCenters(molecule, useLegacyImplementation=False))


def _classes(
    kind: Kind,
    numbers: np.ndarray,
    names: Sequence[str],
    bonds: np.ndarray,
    members: Sequence[Sequence[int]],
    relabellings: np.ndarray,
    mirrored: bool,
) -> list[CoordinateClass]:
    """Group coordinates into orbits of the graph's symmetry group."""
    if len(members) == 0:
        return []
    array = np.array([list(member) for member in members])
    if len(relabellings) == 1:
        # None, or too many to list: the ranks of the atoms then tell what is equivalent.
        ranks = np.array(Chem.CanonicalRankAtoms(graph(numbers, bonds), breakTies=False))
        images = ranks[array][None]
    else:
        images = relabellings[:, array]
    base = len(numbers) ** np.arange(array.shape[1])[::-1]
    keys = np.minimum(images @ base, images[..., ::-1] @ base).min(0)
    groups: dict[int, list[np.ndarray]] = {}
    for key, atoms in zip(keys.tolist(), array, strict=True):
        groups.setdefault(key, []).append(atoms)
    return [
        CoordinateClass(
            kind,
            _label(numbers, names, turned, relabellings),
            turned,
            mirrored=mirrored and kind == "torsion",
        )
        for atoms in groups.values()
        for turned in [_aligned(np.array(atoms), numbers, relabellings)]
    ]


def _aligned(atoms: np.ndarray, numbers: np.ndarray, relabellings: np.ndarray) -> np.ndarray:
    """Turn the members of a class round so that equivalent ends stand on one side."""
    first = atoms[0]
    if numbers[first[0]] == 1 and numbers[first[-1]] != 1:
        first = first[::-1]  # hydrogen last
    orbit = [set(relabellings[:, atom].tolist()) for atom in first]
    out = []
    for member in atoms:
        forward = all(atom in place for atom, place in zip(member, orbit, strict=True))
        backward = all(atom in place for atom, place in zip(member[::-1], orbit, strict=True))
        out.append(member[::-1] if backward and not forward else member)
    out[0] = first
    return np.array(out)


def _label(
    numbers: np.ndarray, names: Sequence[str], atoms: np.ndarray, relabellings: np.ndarray
) -> str:
    places = []
    for atom in atoms[0]:
        there = sorted(set(relabellings[:, atom].tolist()) & set(atoms.ravel().tolist()))
        if len(there) <= 3:
            places.append(group_name([names[one] for one in there]))
        else:
            places.append(f"{chemical_symbols[numbers[atom]]}({len(there)})")
    return "–".join(places)
