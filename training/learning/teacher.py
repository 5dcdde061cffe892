"""A teacher's own network as the potential of an operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ase_atom.operator import Operator
from ase_atom.operator.potential import PotentialConfig, PotentialNetwork
from ase_atom.state import PhaseState
from training.data.molecules import Molecule
from training.engines.potential import Potential


def network_of(member: nn.Module, elements: Sequence[int]) -> PotentialNetwork:
    """AIMNet2's weights in a network of this package, for some of its elements.

    Parameters
    ----------
    member
        One of the ensemble, from `training.engines.aimnet2.load_ensemble`.
    elements
        Atomic numbers.
    """
    given = dict(member.state_dict())
    config = PotentialConfig(elements=tuple(elements))
    network = PotentialNetwork(config)
    rows = torch.tensor([0, *elements])
    own: dict[str, Tensor] = {
        "embedding.weight": given["module.afv.weight"][rows],
        "alone": given["module.outputs.atomic_shift.shifts.weight"][rows, 0].double(),
        "centres": given["module.aev.shifts_s"],
        "mix": given["module.conv_a.agh"],
        "mix_charges": given["module.conv_q.agh"][0],
    }
    for place in range(len(config.hidden)):
        own |= _layers(given, f"module.mlps.{place}", f"passes.{place}")
    own |= _layers(given, "module.outputs.energy_mlp.mlp", "energy")
    own |= _dispersion(given, rows)
    network.load_state_dict(own)
    return network


def compare(
    operator: Operator, engine: Potential, molecules: Sequence[Molecule]
) -> tuple[float, float, float]:
    """Largest differences of energies (eV), forces (eV/Å) and charges (e) on conformers."""
    largest = np.zeros(3)
    for molecule in molecules:
        atoms = molecule.start(0, 0)
        state = PhaseState.from_atoms(atoms).replace(charge=torch.tensor([molecule.charge]))
        energy, forces = operator.energy_and_forces(state)
        assert operator.atomic_charges is not None
        charges = operator.atomic_charges(state)
        expected = engine(atoms.positions[None], atoms.numbers[None], np.array([molecule.charge]))
        pairs = (
            (energy, expected.energies),
            (forces, expected.forces),
            (charges, expected.atomic_charges),
        )
        off = [np.abs(ours.numpy() - theirs).max() for ours, theirs in pairs]
        largest = np.maximum(largest, off)
    return float(largest[0]), float(largest[1]), float(largest[2])


def _layers(given: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    prefix = theirs + "."
    return {
        f"{ours}.{key.removeprefix(prefix)}": value
        for key, value in given.items()
        if key.startswith(prefix)
    }


def _dispersion(given: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """C6 coefficients by element, and the coordination numbers that they belong to."""
    prefix = "module.outputs.d3bj."
    table = given[prefix + "c6ab"][rows[1:]][:, rows[1:]]
    count = len(rows)
    c6 = torch.zeros(count, count, *table.shape[2:4])
    c6[1:, 1:] = table[..., 0]
    references = torch.full((count, table.shape[2]), -1.0)
    # A reference system's coordination number is the same beside any other.
    there = table[..., 0] > 0
    references[1:] = torch.where(there, table[..., 1], -1.0).amax((1, 3))
    return {
        "dispersion.c6": c6,
        "dispersion.references": references,
        "dispersion.radii": given[prefix + "rcov"][rows],
        "dispersion.most_neighbours": given[prefix + "cnmax"][rows],
        "dispersion.ratios": given[prefix + "r4r2"][rows],
    }
