"""The energy head: an invariant network of the trunk's first blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ase_atom.operator.scaling import thermal_speeds
from ase_atom.operator.trunk.blocks import Trunk
from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.operator.trunk.lifting import Features, Lift


class EnergyHead(nn.Module):
    """Lift, blocks and readout of their own, for an architecture that does not stand on the trunk.

    Parameters
    ----------
    elements
        Atomic numbers.
    sizes
        Of `TrunkConfig`.
    """

    def __init__(self, elements: Sequence[int], **sizes: Any) -> None:
        super().__init__()
        config = TrunkConfig(
            architecture="energy", elements=elements, energy_blocks=sizes["blocks"], **sizes
        )
        self.temperature_scale = config.temperature_scale
        self.lift = Lift(config)
        self.trunk = Trunk(config)
        self.energy_atoms, self.energy_pairs = readouts(config)

    def forward(self, species: Tensor, masses: Tensor, x: Tensor) -> Tensor:
        """Dimensionless energy at zero velocity, ``[B]``; see `Operator.energy_output`."""
        speeds = thermal_speeds(masses, self.temperature_scale)
        features = self.trunk(self.lift(species, x, torch.zeros_like(x), speeds))
        return read_energy(features, self.energy_atoms, self.energy_pairs)


def readouts(config: TrunkConfig) -> tuple[nn.Module, nn.Module]:
    """Networks from the features of an atom, and of a pair, to their energies."""
    atoms = nn.Sequential(
        nn.RMSNorm(config.width),
        nn.Linear(config.width, config.width),
        nn.SiLU(),
        nn.Linear(config.width, 1),
    )
    return atoms, nn.Linear(config.pair_width, 1, bias=False)


def read_energy(features: Features, atoms: nn.Module, pairs: nn.Module) -> Tensor:
    """Sum of the atoms' and pairs' energies, ``[B]``."""
    of_atoms = atoms(features.scalars) * features.atom_mask
    of_pairs = pairs(features.pairs) * features.pair_mask
    return of_atoms.sum((1, 2)) + of_pairs.sum((1, 2, 3))
