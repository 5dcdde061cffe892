"""Dispersion energies, D3 with the damping of Becke and Johnson."""

from __future__ import annotations

import torch
from ase.units import Bohr, Hartree
from torch import Tensor, nn

REFERENCES = 5
"""Reference systems of an element, at most."""

# Grimme, Antony, Ehrlich and Krieg, J. Chem. Phys. 132, 154104 (2010).
STEEPNESS, WIDTH = 16.0, 4.0
"""Of the coordination number in the distance, and of the weights in the coordination number."""


class Dispersion(nn.Module):
    """E = −½ Σ_ij C6_ij [s6/(r⁶ + R⁶) + 3 s8 Q_i Q_j/(r⁸ + R⁸)], R = a1 √(3 Q_i Q_j) + a2.

    C6 coefficients are interpolated between reference systems by fractional coordination numbers
    (Grimme, Ehrlich and Goerigk, J. Comput. Chem. 32, 1456 (2011)).

    Parameters
    ----------
    elements
        How many; their index counts from 1.
    s6, s8, a1, a2
        Of the functional; a2 in bohr.
    """

    c6: Tensor
    references: Tensor
    radii: Tensor
    most_neighbours: Tensor
    ratios: Tensor

    def __init__(self, elements: int, s6: float, s8: float, a1: float, a2: float) -> None:
        super().__init__()
        self.s6, self.s8, self.a1, self.a2 = s6, s8, a1, a2
        rows = elements + 1
        # Atomic units. Coordination numbers of reference systems that are not there are -1.
        self.register_buffer("c6", torch.zeros(rows, rows, REFERENCES, REFERENCES))
        self.register_buffer("references", torch.full((rows, REFERENCES), -1.0))
        self.register_buffer("radii", torch.ones(rows))
        self.register_buffer("most_neighbours", torch.ones(rows))
        self.register_buffer("ratios", torch.ones(rows))

    def forward(self, kinds: Tensor, distances: Tensor, pairs: Tensor) -> Tensor:
        """Energy in eV, ``[B]``, float64.

        Parameters
        ----------
        kinds
            Index of the element, 0 for padding, ``[B, N]``.
        distances
            Å, ``[B, N, N]``; anything above zero where there is no pair.
        pairs
            1 for two different real atoms, else 0, ``[B, N, N]``.
        """
        r = distances / Bohr
        radii = self.radii[kinds]
        near = STEEPNESS * ((radii[:, :, None] + radii[:, None]) / r - 1)
        neighbours = (torch.sigmoid(near) * pairs).sum(-1)
        neighbours = torch.minimum(neighbours, self.most_neighbours[kinds])
        off = neighbours.unsqueeze(-1) - self.references[kinds]
        weights = torch.softmax(-WIDTH * off.square(), dim=-1)
        table = self.c6[kinds[:, :, None], kinds[:, None]]
        c6 = torch.einsum("bia,bijac,bjc->bij", weights, table, weights) * pairs
        ratios = self.ratios[kinds]
        product = 3 * ratios[:, :, None] * ratios[:, None]
        damped = self.a1 * product.sqrt() + self.a2
        energy = c6 * (
            self.s6 / (r**6 + damped**6) + self.s8 * product / (r**8 + damped**8)
        )  # fmt: skip
        return -0.5 * Hartree * energy.sum((1, 2), dtype=torch.float64)
