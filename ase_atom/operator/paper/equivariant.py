"""Equivariant linear maps and the tensor product of vectors and scalars, as e3nn defines them.

A feature of V vectors and S scalars (V × 1o + S × 0e) is a row of 3 V + S numbers: x, y and z of
the first vector, of the second, ..., then the scalars. Weights are drawn from a standard normal
distribution and outputs divided by the root of the number of terms in their sum, e3nn's
"element" normalisation of paths with "component" normalisation of irreps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Irreps(NamedTuple):
    """Numbers of vectors and of scalars in a feature."""

    vectors: int
    scalars: int

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 3 * self.vectors + self.scalars

    @classmethod
    def of_width(cls, width: int) -> Irreps:
        """As many vectors as fit into a width; the rest are scalars."""
        return cls(width // 3, width % 3)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``[..., V, 3]`` and scalars ``[..., S]`` of rows ``[..., 3 V + S]``."""
        vectors, scalars = rows.split([3 * self.vectors, self.scalars], dim=-1)
        return vectors.unflatten(-1, (self.vectors, 3)), scalars


def join(vectors: Tensor, scalars: Tensor) -> Tensor:
    """Rows of vectors ``[..., V, 3]`` and scalars ``[..., S]``."""
    return torch.cat([vectors.flatten(-2), scalars], dim=-1)


class EquivariantLinear(nn.Module):
    """A linear map without bias that commutes with rotations and reflections.

    Vectors mix with vectors and scalars with scalars: y_w = Σ_u W_uw x_u / √(number of u).

    Parameters
    ----------
    before, after
        What goes in and comes out.
    """

    def __init__(self, before: Irreps, after: Irreps) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.vectors = nn.Parameter(torch.randn(after.vectors, before.vectors))
        self.scalars = nn.Parameter(torch.randn(after.scalars, before.scalars))

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``[..., before.width]`` to ``[..., after.width]``."""
        return nn.functional.linear(rows, self.matrix())

    def matrix(self) -> Tensor:
        """The same map as one matrix, ``[after.width, before.width]``."""
        identity = torch.eye(3, dtype=self.vectors.dtype, device=self.vectors.device)
        vectors = torch.kron(self.vectors / math.sqrt(max(self.before.vectors, 1)), identity)
        scalars = self.scalars / math.sqrt(max(self.before.scalars, 1))
        return torch.block_diag(vectors, scalars)


class TensorProduct(nn.Module):
    """Fully connected tensor product of two features with the same irreps, into those irreps.

    With a and b the factors, indices u, v over their channels and w over the outputs':

    scalars: (Σ_uv W_uvw a_u·b_v / √3 + Σ_uv W_uvw a_u b_v) / √(V² + S²),
    vectors: Σ_uv W_uvw (a_u b_v with one of them a vector) / √(2 V S).

    Two vectors make no vector: their cross product has the wrong parity.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        v, s = irreps
        self.vector_vector = nn.Parameter(torch.randn(v, v, s))
        self.vector_scalar = nn.Parameter(torch.randn(v, s, v))
        self.scalar_vector = nn.Parameter(torch.randn(s, v, v))
        self.scalar_scalar = nn.Parameter(torch.randn(s, s, s))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Product of ``[..., width]`` and ``[..., width]``."""
        v, s = self.irreps
        a, a0 = self.irreps.split(first)
        b, b0 = self.irreps.split(second)
        # Sums over one factor's channels come first, as matrix products over all atoms at once.
        a, b = a.transpose(-1, -2), b.transpose(-1, -2)
        left = torch.cat([self.vector_vector.flatten(1), self.vector_scalar.flatten(1)], dim=1)
        mixed = (a @ left).split([v * s, s * v], dim=-1)
        dots = (mixed[0].unflatten(-1, (v, s)) * b.unsqueeze(-1)).sum((-3, -2)) / math.sqrt(3)
        ahead = (mixed[1].unflatten(-1, (s, v)) * b0[..., None, :, None]).sum(-2)
        right = b @ self.scalar_vector.permute(1, 0, 2).flatten(1)
        behind = (right.unflatten(-1, (s, v)) * a0[..., None, :, None]).sum(-2)
        plain = torch.einsum("...u,...v,uvw->...w", a0, b0, self.scalar_scalar)
        vectors = (ahead + behind).transpose(-1, -2) / math.sqrt(max(2 * v * s, 1))
        return join(vectors, (dots + plain) / math.sqrt(v * v + s * s))
