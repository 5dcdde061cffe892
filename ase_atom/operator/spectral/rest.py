"""Where a molecule goes when its motion is forgotten: a structure laid into the state's frame."""

from __future__ import annotations

import torch
from torch import Tensor

FLAT = 0.03
"""A structure this much thinner than long is planar; fluctuations leave no mean one flatter."""


def orientation(
    structure: Tensor, positions: Tensor, masses: Tensor, handed: bool = False
) -> Tensor:
    """Rotation, or rotation and reflection, that lays a structure into each of some poses best.

    The orthogonal matrix Q of least Σ_i m_i |x_i − Q s_i|² (Kabsch, Acta Cryst. A 32, 922 (1976)).
    Weighted by mass it is nearly the Eckart frame, which small vibrations without angular momentum
    leave at rest. Q commutes with rotations and reflections of the pose. Across a planar structure
    its sign would be arbitrary, so that Q is left without that axis: vectors across the plane are
    mapped to zero. No gradients.

    Parameters
    ----------
    structure
        About its centre of mass, Å, ``[N, 3]`` or ``[B, N, 3]``.
    positions
        About their centres of mass, Å, ``[B, N, 3]``.
    masses
        amu, 0 on padding, ``[B, N]``.
    handed
        Take the best rotation, without reflections. It commutes with rotations of the pose alone,
        and has an axis across a planar structure.

    Returns
    -------
    Tensor
        Q for column vectors, ``[B, 3, 3]``, in the precision of ``positions``.
    """
    with torch.no_grad():
        weighted = positions.double() * masses.double().unsqueeze(-1)
        still = structure.double()
        left, _, right = torch.linalg.svd(weighted.transpose(-1, -2) @ still)
        if handed:
            signs = torch.ones_like(left[..., 0, :])
            signs[..., 2] = torch.linalg.det(left @ right).sign()
            return ((left * signs.unsqueeze(-2)) @ right).to(positions.dtype)
        extents = torch.linalg.svdvals(still * masses.double().sqrt().unsqueeze(-1))
        kept = (extents > FLAT * extents[..., :1]).to(left).unsqueeze(-2)
        return ((left * kept) @ right).to(positions.dtype)


def laid(structure: Tensor, turn: Tensor) -> Tensor:
    """The structure ``[N, 3]`` turned by each Q, ``[B, N, 3]``."""
    return structure @ turn.transpose(-1, -2)
