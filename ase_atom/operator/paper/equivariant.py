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
        return rows @ self.matrix()

    def matrix(self) -> Tensor:
        """The map as one matrix, ``[before.width, after.width]``."""
        vectors, scalars = self.matrices()
        return block_matrix(vectors.T, scalars.T)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Matrices that mix vectors, and scalars, normalisation included: ``[after, before]``."""
        vectors = self.vectors / math.sqrt(max(self.before.vectors, 1))
        return vectors, self.scalars / math.sqrt(max(self.before.scalars, 1))


def block_matrix(vectors: Tensor, scalars: Tensor) -> Tensor:
    """One matrix from rows to rows, given what mixes vectors and what mixes scalars."""
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    before, after = vectors.shape
    mixed = vectors[:, None, :, None] * identity[:, None]
    return torch.block_diag(mixed.reshape(3 * before, 3 * after), scalars)


class TensorProduct(nn.Module):
    """Fully connected tensor product of two features with the same irreps, into those irreps.

    With a and b the factors, indices u, v over their channels and w over the outputs':

    scalars: (Σ_uv W_uvw a_u·b_v / √3 + Σ_uv W_uvw a_u b_v) / √(V² + S²),
    vectors: Σ_uv W_uvw (a_u b_v with one of them a vector) / √(2 V S).

    Two vectors make no vector: their cross product has the wrong parity. The factors are linear
    maps of a single vector and a few scalars each, x and a, y and b. So the product is linear in
    b x, a y, x·y and a b, and no sum over pairs of channels is ever taken for an atom.

    Parameters
    ----------
    irreps
        Of the factors and of the product.
    """

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        v, s = irreps
        self.vector_vector = nn.Parameter(torch.randn(v, v, s))
        self.vector_scalar = nn.Parameter(torch.randn(v, s, v))
        self.scalar_vector = nn.Parameter(torch.randn(s, v, v))
        self.scalar_scalar = nn.Parameter(torch.randn(s, s, s))

    def basis(self, first: EquivariantLinear, second: EquivariantLinear) -> Tensor:
        """What each of the `products` contributes, with the maps that lift the factors."""
        (x, a), (y, b) = first.matrices(), second.matrices()
        x, y = x[:, 0], y[:, 0]
        v, s = self.irreps
        to_vectors = 1 / math.sqrt(max(2 * v * s, 1))
        to_scalars = 1 / math.sqrt(v * v + s * s)
        along_x = torch.einsum("usw,u,sj->jw", self.vector_scalar, x, b) * to_vectors
        along_y = torch.einsum("suw,u,si->iw", self.scalar_vector, y, a) * to_vectors
        dot = torch.einsum("utw,u,t->w", self.vector_vector, x, y) * to_scalars / math.sqrt(3)
        both = torch.einsum("stw,si,tj->ijw", self.scalar_scalar, a, b) * to_scalars
        scalars = torch.cat([dot.unsqueeze(0), both.flatten(0, 1)])
        return block_matrix(torch.cat([along_x, along_y]), scalars)

    @staticmethod
    def products(first: Tensor, second: Tensor) -> Tensor:
        """b x, a y, x·y and a b from the rows x, a and y, b: what the product is linear in."""
        x, a = first[..., None, :3], first[..., 3:]
        y, b = second[..., None, :3], second[..., 3:]
        along_x, along_y = b.unsqueeze(-1) * x, a.unsqueeze(-1) * y
        both = (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2)
        return torch.cat([along_x.flatten(-2), along_y.flatten(-2), (x * y).sum(-1), both], dim=-1)
