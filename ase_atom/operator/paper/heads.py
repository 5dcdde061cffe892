"""From features to vectors: one or several equivariant maps, mixed by a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.operator.paper.affine import Factored
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.equivariant import EquivariantLinear, Irreps
from ase_atom.operator.paper.layers import FeedForward


class OutputHeads(nn.Module):
    """Equivariant linear maps to one vector per token, or to two where velocities are predicted.

    With several heads a small network on the mean phase-space feature of a molecule gives each its
    share. The mean is over real atoms, so that padding has no say. With an equivariant trunk the
    network sees the lengths of the mean's vectors and its scalars.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.count = config.output_heads
        outputs = 2 if config.velocities else 1
        irreps = Irreps.of_width(config.width)
        self.maps = EquivariantLinear(irreps, Irreps(self.count * outputs, 0))
        self.invariant = irreps if config.trunk == "equivariant" else None
        self.gate = None
        if self.count > 1:
            before = sum(irreps) if self.invariant else config.width
            self.gate = FeedForward(
                before, config.width // 4, self.count, config.activation, config.dropout
            )

    def forward(self, rows: Tensor, phase: Factored, real: Tensor) -> Tensor:
        """Vectors for tokens.

        Parameters
        ----------
        rows
            Features, ``[B, T, N, width]``.
        phase
            Lifted phase space, rows ``[B, T or 1, N, width]``.
        real
            True where there is an atom, ``[B, N]``.

        Returns
        -------
        Tensor
            ``[B, T, N, 1 or 2, 3]``.
        """
        vectors = self.maps(rows).unflatten(-1, (self.count, -1, 3))
        if self.gate is None:
            return vectors[..., 0, :, :]
        numbers = phase.numbers
        weights = real.to(numbers.dtype)[:, None, :, None]
        pooled = (numbers * weights).sum((1, 2)) / (weights.sum((1, 2)) * numbers.shape[1])
        pooled = pooled @ phase.basis
        if self.invariant:
            of_vectors, scalars = self.invariant.split(pooled)
            pooled = torch.cat([torch.linalg.vector_norm(of_vectors, dim=-1), scalars], dim=-1)
        shares = torch.softmax(self.gate(pooled), dim=-1)
        return (vectors * shares[:, None, None, :, None, None]).sum(-3)
