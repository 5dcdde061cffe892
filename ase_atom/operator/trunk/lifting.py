"""Equivariant lift: from positions and velocities to scalars, vectors and pair invariants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_atom.operator.trunk.config import TrunkConfig
from ase_atom.units import AMU_A2_FS2_IN_EV

# Bonds deviate from their length by hundredths of an ångström, so the near basis is narrow.
_NEAR = (0.8, 2.8, 24, 0.1)
_FAR = (3.0, 6.0, 8, 0.5)
RELATIVE_SPEED_SCALE = 0.02
"""Å/fs, about a hydrogen's thermal speed."""

PUSH_TIME = 8.0
"""fs. Forces are heard as the change of velocity in this time, over the thermal speed."""


def push_scale(masses: Tensor, speeds: Tensor) -> Tensor:
    """What makes pushes of forces in eV/Å, ``[B, N, 1]``; see `PUSH_TIME`.

    Parameters
    ----------
    masses
        amu, 0 on padding, ``[B, N]``.
    speeds
        Thermal speeds, Å/fs, ``[B, N, 1]``.
    """
    inverse = PUSH_TIME / AMU_A2_FS2_IN_EV / masses.clamp(min=1e-3).unsqueeze(-1) / speeds
    return inverse * (masses > 0).to(masses.dtype).unsqueeze(-1)


def push_limits(masses: Tensor) -> Tensor:
    """Sizes that pushes do not exceed, by masses in amu, ``[B, N, 1]``; see `limited`.

    Above all that training data hold: 17 for hydrogen, 9 for others.
    """
    return torch.where(masses < _HEAVIEST_HYDROGEN, 30.0, 10.0).to(masses).unsqueeze(-1)


def limited(pushes: Tensor, limits: Tensor) -> Tensor:
    """Pushes p as p / (1 + (|p|/c)⁴)^¼, which leaves usual ones as they are.

    A network that hears forces beyond what it learned from throws atoms about, and they never come
    back from there.
    """
    parts = (pushes / limits).square().sum(-1, keepdim=True)
    return pushes * (1 + parts.square()) ** -0.25


_HEAVIEST_HYDROGEN = 4.0
SPEED_FLOOR = 1e-4
"""Square of the least relative speed, in those units; without it the root has no gradient."""


@dataclass
class Features:
    """What the trunk works on. Shapes: B molecules, N atoms, C vector channels.

    Attributes
    ----------
    scalars
        ``[B, N, width]``, invariant.
    vectors
        ``[B, N, 3, C]``, equivariant.
    pairs
        ``[B, N, N, pair_width]``; entry (i, j) is the message from j to i.
    directions
        Unit vectors from j to i, ``[B, N, N, 3]``; zero on the diagonal and on padding.
    relative_velocities
        v_i − v_j in units of the relative speed scale, ``[B, N, N, 3]``.
    pair_mask
        1 for two different real atoms, else 0, ``[B, N, N, 1]``.
    atom_mask
        ``[B, N, 1]``.
    """

    scalars: Tensor
    vectors: Tensor
    pairs: Tensor
    directions: Tensor
    relative_velocities: Tensor
    pair_mask: Tensor
    atom_mask: Tensor


Grid = tuple[float, float, int, float]
"""First and last centre of Gaussians in Å, how many there are, and their width in Å."""


def gaussians(near: Grid = _NEAR, far: Grid = _FAR) -> tuple[Tensor, Tensor]:
    """Centres in Å and inverse widths in 1/Å of the Gaussians of the distance, each ``[G]``."""
    grids = near, far
    centres = [torch.linspace(*grid[:3]) for grid in grids]
    widths = [torch.full((grid[2],), 1 / grid[3]) for grid in grids]
    return torch.cat(centres), torch.cat(widths)


def scaled_gaussians(grid: tuple[Tensor, Tensor]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Arrays w and o, ``[G]``, with which `gaussians` of d are exp(−(d w − o)²), for engines."""
    centres, inverse_widths = (side.numpy() for side in grid)
    widths = inverse_widths * np.sqrt(0.5, dtype=np.float32)
    return widths, centres * widths


class AtomEmbedding(nn.Embedding):
    """A vector for each element, plus one for the molecule's charge where there are several.

    Parameters
    ----------
    elements, charges
        How many of each.
    width
        Length of the vectors.
    """

    def __init__(self, elements: int, charges: int, width: int) -> None:
        super().__init__(elements + 1, width)
        self.elements = elements
        self.charge = nn.Parameter(torch.zeros(charges, width)) if charges > 1 else None

    def forward(self, species: Tensor) -> Tensor:
        """Vectors of atoms by `Operator.index`, ``[..., width]``."""
        if self.charge is None:
            return super().forward(species)
        real = species > 0
        before = (species - 1).clamp(min=0)
        element = torch.where(real, before % self.elements + 1, 0)
        of_charge = self.charge[before // self.elements]
        return super().forward(element) + of_charge * real.unsqueeze(-1)


class Lift(nn.Module):
    """Lift a phase-space point (positions and velocities about the centre of mass).

    Pair features are invariants only: Gaussians of the distance, 1/(d + 0.5), the radial relative
    velocity and the relative speed. Node vectors are the velocities in units of the element's
    thermal speed, gated by the element; where ``forces`` are heard, these are added, gated by the
    element too. Where there are several charges, each adds a vector of its own to what the element
    says.
    """

    def __init__(self, config: TrunkConfig, forces: bool = False) -> None:
        super().__init__()
        elements, charges = len(config.elements), len(config.charges)
        pair = 2 * config.pair_width
        self.embedding = AtomEmbedding(elements, charges, config.width)
        self.velocity_gate = AtomEmbedding(elements, charges, config.vector_channels)
        self.force_gate = None
        if forces:
            self.force_gate = AtomEmbedding(elements, charges, config.vector_channels)
            with torch.no_grad():
                self.force_gate.weight.mul_(0.5)
        self.receiver = AtomEmbedding(elements, charges, pair)
        self.sender = AtomEmbedding(elements, charges, pair)
        centres, inverse_widths = gaussians()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("inverse_widths", inverse_widths, persistent=False)
        features = len(self.centres) + 3
        self.pair_in = nn.Linear(features, 2 * config.pair_width)
        self.pair_out = nn.Linear(2 * config.pair_width, config.pair_width)

    def forward(
        self,
        species: Tensor,
        positions: Tensor,
        velocities: Tensor,
        thermal_speeds: Tensor,
        pushes: Tensor | None = None,
    ) -> Features:
        """Lift one batch.

        Parameters
        ----------
        species
            Index of element and charge, 0 for padding, ``[B, N]``; see `Operator.index`.
        positions
            Å, ``[B, N, 3]``.
        velocities
            Å/fs, ``[B, N, 3]``.
        thermal_speeds
            √(k_B T/m) of each atom, Å/fs, ``[B, N, 1]``; anything above zero on padding.
        pushes
            Where forces are heard, what they change velocities by in `PUSH_TIME`, over the
            thermal speeds, ``[B, N, 3]``; None at rest.

        Returns
        -------
        Features
        """
        atoms = (species > 0).to(positions.dtype)
        atom_mask = atoms.unsqueeze(-1)
        number = species.shape[1]
        off_diagonal = 1 - torch.eye(number, dtype=positions.dtype, device=positions.device)
        pair_mask = (atoms[:, :, None] * atoms[:, None, :] * off_diagonal).unsqueeze(-1)

        separation = positions[:, :, None] - positions[:, None, :]
        # Masked pairs get a harmless distance of 1 Å: no infinities, not even in gradients.
        squared = (separation * separation).sum(-1, keepdim=True) + (1 - pair_mask)
        distance = squared.sqrt()
        directions = separation / distance * pair_mask

        relative = (velocities[:, :, None] - velocities[:, None, :]) / RELATIVE_SPEED_SCALE
        radial = (relative * directions).sum(-1, keepdim=True)
        speed = ((relative * relative).sum(-1, keepdim=True) + SPEED_FLOOR).sqrt()
        gaussians = torch.exp(-0.5 * ((distance - self.centres) * self.inverse_widths) ** 2)
        invariants = torch.cat([gaussians, 1 / (distance + 0.5), radial, speed], dim=-1)
        hidden = (
            self.pair_in(invariants)
            + self.receiver(species)[:, :, None]
            + self.sender(species)[:, None, :]
        )
        pairs = self.pair_out(nn.functional.silu(hidden))

        gate = self.velocity_gate(species) * atom_mask
        vectors = (velocities / thermal_speeds).unsqueeze(-1) * gate.unsqueeze(-2)
        if pushes is not None and self.force_gate is not None:
            gate = self.force_gate(species) * atom_mask
            vectors = vectors + pushes.unsqueeze(-1) * gate.unsqueeze(-2)
        return Features(
            scalars=self.embedding(species) * atom_mask,
            vectors=vectors,
            pairs=pairs,
            directions=directions,
            relative_velocities=relative * pair_mask,
            pair_mask=pair_mask,
            atom_mask=atom_mask,
        )
