"""Affine maps, and rows that are themselves linear in a few numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """rows ↦ rows · weight + bias.

    Attributes
    ----------
    weight
        ``[before, after]`` and contiguous: a fifth faster than the transpose for few rows.
    bias
        ``[after]``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, *layers: nn.Linear) -> Affine:
        """The map of one linear layer, or those of several side by side."""
        weight = torch.cat([layer.weight for layer in layers])
        return cls(weight.T.contiguous(), torch.cat([layer.bias for layer in layers]))

    def after(self, first: Affine) -> Affine:
        """This map after another one."""
        return Affine(first.weight @ self.weight, first.bias @ self.weight + self.bias)

    def of_numbers(self, basis: Tensor) -> Affine:
        """The same map, of the numbers that rows are times a basis."""
        return Affine(basis @ self.weight, self.bias)

    def __call__(self, rows: Tensor | Factored) -> Tensor:
        """Map ``[..., before]`` to ``[..., after]``."""
        if isinstance(rows, Factored):
            return self.of_numbers(rows.basis)(rows.numbers)
        flat = torch.addmm(self.bias, rows.reshape(-1, rows.shape[-1]), self.weight)
        return flat.view(*rows.shape[:-1], -1)


class Factored(NamedTuple):
    """Rows that are few numbers times a basis: a linear map of them is one of the few numbers.

    Attributes
    ----------
    numbers
        ``[..., r]``.
    basis
        ``[r, width]``.
    """

    numbers: Tensor
    basis: Tensor

    def rows(self) -> Tensor:
        """The rows, ``[..., width]``."""
        flat = self.numbers.reshape(-1, self.numbers.shape[-1]) @ self.basis
        return flat.view(*self.numbers.shape[:-1], -1)


def to_length_one(rows: Tensor | Factored, epsilon: float) -> Tensor | Factored:
    """Divide rows by √(length² + ε²).

    Gates upon gates leave rows of 10¹⁸ and more in a trained operator, of which single precision
    cannot hold the squares. Rows are divided by their largest entry first.
    """
    if isinstance(rows, Factored):
        return Factored(rows.numbers / _length(rows.rows(), epsilon), rows.basis)
    largest = torch.linalg.vector_norm(rows.detach(), math.inf, dim=-1, keepdim=True).clamp(min=1.0)
    rows = rows / largest
    return rows / _length(rows, epsilon / largest)


def _length(rows: Tensor, epsilon: float | Tensor) -> Tensor:
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.hypot(length, torch.as_tensor(epsilon, dtype=length.dtype, device=length.device))
