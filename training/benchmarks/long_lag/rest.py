"""Where a molecule goes when its motion is forgotten, and how it swings about it until then."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.benchmarks.long_lag.config import LongLagConfig

FLAT = 0.03
"""A structure this much thinner than long is planar; fluctuations leave no mean one flatter."""


@dataclass(frozen=True)
class Alignment:
    """How the structure at rest is rotated and placed in some states.

    Attributes
    ----------
    structures
        Its terms about their common centre of mass, Å, ``[K, N, 3]``.
    centre
        Of mass, of each state, Å, ``[B, 1, 3]``.
    rotations
        Frames whose answers do not mix, each ``[B, 3, 3]`` for column vectors: the `best_rotation`,
        and for a planar structure what leads its normal to that of the state.
    """

    structures: Tensor
    centre: Tensor
    rotations: tuple[Tensor, ...]


class AlignedRest(nn.Module):
    """A mean path in the frame of a state, and what answers linearly to the state.

    The path is s(t) = Σ_k s_k e^(−2kt/T), T the length of a segment. With a response, the
    displacements u = Qᵀ(x − c) − s(0) and velocities w = Qᵀv of all atoms together make coefficient
    vectors Q M [u/τ, w]: without any network, the exact answer to small vibrations.
    """

    def __init__(self, config: LongLagConfig) -> None:
        super().__init__()
        count = len(config.rest_numbers)
        self.register_buffer("numbers", torch.tensor(config.rest_numbers), persistent=False)
        self.half, self.tau = config.segment / 2, config.carrier_time
        self.structures = nn.Parameter(torch.zeros(config.rest_terms, count, 3))
        self.response = None
        if config.response:
            functions = 2 * config.modes + 1
            self.response = nn.Parameter(torch.zeros(6 * count, 3 * count, functions))

    def alignment(self, masses: Tensor, x: Tensor) -> Alignment:
        """How the structure lies in states; masses ``[B, N]``, positions in Å, ``[B, N, 3]``."""
        weights = (masses / masses.sum(1, keepdim=True)).unsqueeze(-1).to(x)
        about = self.structures.to(x)
        about = about - (weights[0] * about).sum(1, keepdim=True)
        centre = (weights * x).sum(1, keepdim=True)
        # All terms together are where the path starts.
        start = about.detach().sum(0)
        rotation = best_rotation(start, x - centre, masses)
        across = None if self.response is None else _across(start, masses[0], rotation)
        return Alignment(about, centre, (rotation,) if across is None else (rotation, across))

    def path(self, alignment: Alignment, times: Tensor) -> tuple[Tensor, Tensor]:
        """The mean path in the orientation of each state, and its derivative, ``[B, T, N, 3]``."""
        shape, rotation = alignment.structures.shape[1:], alignment.rotations[0][:, None]
        place, pace = (
            rotate((side.T @ alignment.structures.flatten(1)).unflatten(1, shape), rotation)
            for side in self.weights(times)
        )
        return place + alignment.centre[:, None], pace

    def weights(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the terms at times, and their derivatives, each ``[K, T]``."""
        order = torch.arange(len(self.structures), dtype=times.dtype, device=times.device)
        rates = -order[:, None] / self.half
        weights = torch.exp(rates * times)
        return weights, rates * weights

    def seen(self, alignment: Alignment, x: Tensor, v: Tensor) -> list[Tensor]:
        """What the response answers to, in Å/fs: [u/τ, w] rotated back, ``[B, 6 N]``."""
        moved = (
            x - alignment.centre - rotate(alignment.structures.sum(0), alignment.rotations[0])
        ) / self.tau
        both = torch.cat([moved, v], dim=1)
        return [(both @ rotation).flatten(1) for rotation in alignment.rotations]

    def answer(self, alignment: Alignment, x: Tensor, v: Tensor) -> Tensor:
        """Coefficient vectors of the decoder's basis in Å/fs, ``[B, N, 3, 2 K + 1]``."""
        matrix = self.response.to(x).flatten(1)
        shape = x.shape[1], 3, self.response.shape[-1]
        found = [
            torch.einsum("bxy,bnyk->bnxk", rotation, (seen @ matrix).unflatten(1, shape))
            for rotation, seen in zip(alignment.rotations, self.seen(alignment, x, v), strict=True)
        ]
        return torch.stack(found).sum(0)


def best_rotation(
    structure: Tensor, positions: Tensor, masses: Tensor, handed: bool = False
) -> Tensor:
    """Rotation, or rotation and reflection, that aligns a structure best with each of some states.

    The orthogonal matrix Q of least Σ_i m_i |x_i − Q s_i|² (Kabsch, Acta Cryst. A 32, 922 (1976)).
    Weighted by mass it is nearly the Eckart frame, which small vibrations without angular momentum
    leave at rest. Q commutes with rotations and reflections of the state. Across a planar structure
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
        Take the best rotation, without reflections. It commutes with rotations of the state alone,
        and has an axis across a planar structure.

    Returns
    -------
    Tensor
        Q for column vectors, ``[B, 3, 3]``, in the precision of ``positions``.
    """
    with torch.no_grad():
        weighted = positions.double() * masses.double().unsqueeze(-1)
        left, _, right = torch.linalg.svd(weighted.transpose(-1, -2) @ structure.double())
        if handed:
            signs = torch.ones_like(left[..., 0, :])
            signs[..., 2] = torch.linalg.det(left @ right).sign()
            return ((left * signs.unsqueeze(-2)) @ right).to(positions.dtype)
        extents, _ = _axes(structure, masses)
        kept = (extents > FLAT * extents[..., :1]).to(left).unsqueeze(-2)
        return ((left * kept) @ right).to(positions.dtype)


def _axes(structure: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
    """Extents of a structure, falling, ``[..., 3]``, and the axes of them, rows of ``[..., 3, 3]``.

    Extents are √eigenvalues of Σ_i m_i s_i s_iᵀ, amu^½ Å.
    """
    weighted = structure.double() * masses.double().sqrt().unsqueeze(-1)
    _, squares, axes = torch.linalg.svd(weighted.transpose(-1, -2) @ weighted)
    return squares.sqrt(), axes


def _across(structure: Tensor, masses: Tensor, rotation: Tensor) -> Tensor | None:
    """What leads the normal of a planar structure ``[N, 3]`` to that of each state, ``[B, 3, 3]``.

    None for a structure that is not planar, or a line. It is the same for both normals.
    """
    extents, axes = _axes(structure, masses)
    flat, line = (bool(extents[side] <= FLAT * extents[0]) for side in (2, 1))
    if not flat or line:
        return None
    first, second, _ = axes.to(rotation)
    normal = torch.linalg.cross(rotation @ first, rotation @ second)
    return normal.unsqueeze(-1) * torch.linalg.cross(first, second)


def rotate(structure: Tensor, rotation: Tensor) -> Tensor:
    """A structure ``[N, 3]`` rotated by each Q, ``[B, N, 3]``."""
    return structure @ rotation.transpose(-1, -2)
