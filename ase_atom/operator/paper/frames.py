"""A molecule's own axes."""

from __future__ import annotations

import torch
from torch import Tensor


def body_axes(positions: Tensor, masses: Tensor) -> Tensor:
    """Axes that turn with a molecule and do not ask for an order of its atoms.

    They are the principal axes of the second moments of the atoms weighted by their squared
    masses, so that a skeleton of heavy atoms decides and a turning methyl group hardly matters.
    The two longer ones point to where the third moment is positive; the third makes the system
    right-handed, so that a mirror image has mirrored axes but for that one. Where moments are
    equal, or a third moment vanishes, as symmetry may have it, axes jump as the atoms swing.

    Parameters
    ----------
    positions
        Å, ``[B, N, 3]``.
    masses
        amu, ``[B, N]``; 0 on padding.

    Returns
    -------
    Tensor
        Rotations with the axes as columns, ``[B, 3, 3]``: ``positions @ axes`` are coordinates
        along them.
    """
    weights = masses.double().square().unsqueeze(-1)
    weights = weights / weights.sum(1, keepdim=True)
    places = positions.double()
    places = places - (weights * places).sum(1, keepdim=True)
    moments = torch.einsum("bni,bnj->bij", weights * places, places)
    axes = torch.linalg.eigh(moments).eigenvectors[:, :, 1:]
    skew = (weights * (places @ axes) ** 3).sum(1, keepdim=True)
    axes = axes * torch.where(skew < 0, -1.0, 1.0).to(axes)
    third = torch.linalg.cross(axes[:, :, 0], axes[:, :, 1])
    return torch.cat([third.unsqueeze(-1), axes], dim=-1).to(positions)
