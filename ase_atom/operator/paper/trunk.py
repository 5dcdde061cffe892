"""The trunk: a stack of blocks over the positions' stream, with residuals of the first block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.layers import Block
from ase_atom.operator.paper.lift import Lifted
from ase_atom.operator.paper.tokens import Tokens


class Trunk(nn.Module):
    """Blocks that update the positions' stream; velocities and phase space stay as lifted.

    Each later block's output is mixed with the first block's: w of its own and 1 − w of that one,
    w = sigmoid(0.5) at the start.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.residual = None
        start = torch.full((config.blocks - 1,), 0.5)
        if config.value_residual == "learned":
            self.residual = nn.Parameter(start)
        elif config.value_residual == "fixed":
            self.register_buffer("residual", start, persistent=False)

    def forward(self, lifted: Lifted, tokens: Tokens) -> Tensor:
        """Features of all tokens, ``[B, T, N, width]``."""
        x = first = self.blocks[0](lifted.x, lifted.v, lifted.phase, tokens)
        for index, block in enumerate(self.blocks[1:]):
            x = block(x, lifted.v, lifted.phase, tokens)
            if self.residual is not None:
                x = torch.lerp(first, x, torch.sigmoid(self.residual[index]))
        return x


def build_trunk(config: PaperConfig) -> nn.Module:
    """The trunk that a configuration names."""
    return Trunk(config)
