"""Small potentials of random weights, beside operators in tests."""

import torch

from ase_atom.operator.potential import (
    Potential,
    PotentialCard,
    PotentialConfig,
    PotentialNetwork,
)

CARD = PotentialCard(reference="random weights", licence="MIT")


def random_potential(elements: tuple[int, ...] = (1, 6, 8), seed: int = 0) -> Potential:
    """A small network of random weights, with dispersion."""
    torch.manual_seed(seed)
    config = PotentialConfig(
        elements=elements, features=4, radial=6, mixed=3, hidden=((16,), (12,), (10, 8)),
        readout=(8,),
    )  # fmt: skip
    network = PotentialNetwork(config)
    network.alone.copy_(-100.0 * torch.arange(len(elements) + 1))
    rows = slice(1, None)
    dispersion = network.dispersion
    dispersion.c6[rows, rows] = 20.0 + torch.rand(len(elements), len(elements), 5, 5)
    dispersion.c6.copy_(dispersion.c6 + dispersion.c6.permute(1, 0, 3, 2))
    dispersion.references[rows, :2] = torch.tensor([0.0, 1.5])
    dispersion.most_neighbours[rows] = 4.0
    dispersion.ratios[rows] = 2.5
    return Potential(network, CARD)
