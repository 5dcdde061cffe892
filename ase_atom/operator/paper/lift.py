"""Inputs of the published architecture, and their equivariant lift."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ase_atom.operator.paper.affine import Factored
from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.equivariant import EquivariantLinear, Irreps, TensorProduct
from ase_atom.operator.paper.remembering import Remembering

_LONGEST_BOND = 10.0  # Å; no graph is sought beyond


class Lifted(NamedTuple):
    """Features of each token; T is 1 where all copies of the state are the same.

    Attributes
    ----------
    x, v, phase
        Lifted positions, velocities and phase space, rows ``[B, T, N, width]``.
    inputs
        Positions and velocities as they were lifted, noise included, each ``[B, T, N, 3]``.
    """

    x: Factored
    v: Factored
    phase: Factored
    inputs: tuple[Tensor, Tensor]


class Lift(Remembering):
    """Lift (x, ‖x‖), (v, ‖v‖) and, as phase space, both with Z and return probabilities.

    With ``lift: tensor_product`` the phase space is the tensor product of the lifted positions
    with a lift of (v, ‖v‖, Z, walks); with ``equivariant`` or ``plain``, one linear map of it all.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.kind = config.lift
        self.constant = config.constant_input
        irreps = Irreps.of_width(config.width)
        one = 1 if config.constant_input else 0
        rest = 1 + config.walks
        if config.lift == "plain":
            self.positions = nn.Linear(4 + one, config.width)
            self.velocities = nn.Linear(4 + one, config.width)
            self.phase = nn.Linear(8 + one + rest, config.width)
            return
        self.positions = EquivariantLinear(Irreps(1, 1 + one), irreps)
        self.velocities = EquivariantLinear(Irreps(1, 1 + one), irreps)
        if config.lift == "tensor_product":
            self.partner = EquivariantLinear(Irreps(1, 1 + one + rest), irreps)
            self.phase = TensorProduct(irreps)
        else:
            self.phase = EquivariantLinear(Irreps(2, 2 + one + rest), irreps)

    def forward(self, x: Tensor, v: Tensor, extra: Tensor, noise: float, copies: int) -> Lifted:
        """Lift positions and velocities.

        Parameters
        ----------
        x, v
            Å and the velocities' unit, ``[B, N, 3]``; zero on padding.
        extra
            Atomic numbers and return probabilities, ``[B, N, 1 + walks]``; zero on padding.
        noise
            Standard deviation of the noise on what is lifted; 0 for none, and then one copy.
        copies
            Copies of the state if there is noise, each with its own.

        Returns
        -------
        Lifted
        """
        position, velocity = (_with_norm(side)[:, None] for side in (x, v))
        extra = extra[:, None]
        again = (position, velocity, extra)
        if noise:
            again = tuple(row.expand(-1, copies, -1, -1) for row in again)
            real = (extra[..., :1] != 0).to(x.dtype) * noise
            position, velocity, *others = (
                row + torch.randn_like(row) * real for row in (*again[:2], *again[:2])
            )
            # The last channel of all is exempt: with walks Z is noised, without it is not.
            shaken = extra.expand(-1, copies, -1, -1).clone()
            shaken[..., :-1] += torch.randn_like(shaken[..., :-1]) * real
            again = (*others, shaken)
        return self._lift(position, velocity, again)

    def derive(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the numbers that are lifted contribute to positions, velocities, phase space."""
        if self.kind == "plain":
            layers = (self.positions, self.velocities, self.phase)
            return tuple(torch.cat([layer.weight.T, layer.bias[None]]) for layer in layers)
        phase = self.phase
        if self.kind == "tensor_product":
            phase = phase.basis(self.positions, self.partner)
        else:
            phase = phase.matrix()
        return self.positions.matrix(), self.velocities.matrix(), phase

    def _lift(self, position: Tensor, velocity: Tensor, again: tuple[Tensor, ...]) -> Lifted:
        x, v, extra = again
        real = (extra[..., :1] != 0).to(position.dtype)
        one = real if self.constant else None
        first, second = _beside(position, one), _beside(velocity, one)
        if self.kind == "tensor_product":
            both = TensorProduct.products(first, _beside(v, one, extra))
        elif self.kind == "plain":
            first, second = _beside(first, real), _beside(second, real)
            both = _beside(x, v, one, extra, real)
        else:
            both = _beside(x[..., :3], v[..., :3], x[..., 3:], v[..., 3:], one, extra)
        lifted = map(Factored, (first, second, both), self.derived())
        return Lifted(*lifted, inputs=(position[..., :3], velocity[..., :3]))


def return_probabilities(positions: Tensor, real: Tensor, steps: int, radius: float) -> Tensor:
    """Probabilities that a random walk along bonds is back after 1, 2, ..., ``steps`` steps.

    A pair closer than ``radius`` is a bond; where a molecule has none, the radius grows by half
    until it has, up to 10 Å or a little beyond.

    Parameters
    ----------
    positions
        Å, ``[B, N, 3]``.
    real
        True where there is an atom, ``[B, N]``.

    Returns
    -------
    Tensor
        ``[B, N, steps]``; zero for an atom without bonds.
    """
    gap = (positions[:, :, None] - positions[:, None]).square().sum(-1).sqrt()
    pair = real[:, :, None] & real[:, None] & ~torch.eye(real.shape[1], dtype=torch.bool).to(real)
    closest = gap.masked_fill(~pair, torch.inf).amin((1, 2))
    reach = torch.full_like(closest, radius)
    for _ in range(16):
        reach = torch.where((closest >= reach) & (reach < _LONGEST_BOND), 1.5 * reach, reach)
    bonds = (pair & (gap < reach[:, None, None])).to(positions.dtype)
    step = bonds / bonds.sum(-1, keepdim=True).clamp(min=1)
    walk, back = step, []
    for _ in range(steps):
        back.append(walk.diagonal(dim1=1, dim2=2))
        walk = walk @ step
    return torch.stack(back, dim=-1)


def _with_norm(vectors: Tensor) -> Tensor:
    return torch.cat([vectors, torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)], dim=-1)


def _beside(*parts: Tensor | None) -> Tensor:
    given = [part for part in parts if part is not None]
    return given[0] if len(given) == 1 else torch.cat(given, dim=-1)
