"""The trunk: a stack of blocks over the positions' stream, with residuals of the first block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_atom.operator.paper.config import PaperConfig
from ase_atom.operator.paper.equivariant_trunk import EquivariantBlock
from ase_atom.operator.paper.layers import Block
from ase_atom.operator.paper.lift import Lifted
from ase_atom.operator.paper.remembering import Remembering
from ase_atom.operator.paper.shared import Ahead, Folded, fold, shared_trunk
from ase_atom.operator.paper.tokens import Tokens


class Trunk(Remembering):
    """Blocks that update the positions' stream; velocities and phase space stay as lifted.

    Each later block's output is mixed with the first block's: w of its own and 1 − w of that one,
    w = sigmoid(0.5) at the start.
    """

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        kind = EquivariantBlock if config.trunk == "equivariant" else Block
        self.blocks = nn.ModuleList(kind(config) for _ in range(config.blocks))
        start = torch.full((config.blocks - 1,), 0.5)
        if config.value_residual == "none" or config.blocks == 1:
            self.residual = None
        elif config.value_residual == "learned":
            self.residual = nn.Parameter(start)
        else:
            self.register_buffer("residual", start, persistent=False)
        self.shareable = (
            config.trunk == "unconstrained"
            and config.attention == "heterogeneous"
            and config.positional in ("temporal_rope", "none")
        )
        self.attention_dropout = config.attention_dropout
        self._ahead: tuple[tuple[object, ...], Ahead] | None = None

    def forward(self, lifted: Lifted, tokens: Tokens) -> Tensor:
        """Features of all tokens, ``[B, T, N, width]``."""
        one_copy = all(side.numbers.shape[1] == 1 for side in (lifted.x, lifted.v, lifted.phase))
        dropping = self.training and self.attention_dropout > 0
        mixed = torch.is_autocast_enabled(lifted.x.numbers.device.type)
        if one_copy and self.shareable and not dropping and not mixed:
            folded = self.derived()
            rows = shared_trunk(self, folded, self._maps_ahead(folded, lifted), lifted, tokens)
            if rows is not None:
                return rows
        return self.each_copy(lifted, tokens)

    def each_copy(self, lifted: Lifted, tokens: Tokens) -> Tensor:
        """Features of all tokens when each has a copy of the state of its own."""
        x = start = tokens.place(self.blocks[0](lifted.x, lifted.v, lifted.phase, tokens))
        for index, block in enumerate(self.blocks[1:], start=1):
            x = block(x, lifted.v, lifted.phase, tokens)
            x = start + self.own_share(index) * (x - start)
        return x

    def own_share(self, index: int) -> Tensor:
        """Weight of a block's own output against the first block's."""
        if index == 0 or self.residual is None:
            return next(self.parameters()).new_ones(())
        return torch.sigmoid(self.residual[index - 1])

    def _maps_ahead(self, folded: Folded, lifted: Lifted) -> Ahead:
        """The maps of `Ahead`: kept for as long as trunk and lift keep what they derive."""
        sources = (folded, lifted.x.basis, lifted.v.basis, lifted.phase.basis)
        if any(basis.requires_grad for basis in sources[1:]) or folded.gates.requires_grad:
            return Ahead.of(folded, lifted)
        if self._ahead is None or any(
            old is not new for old, new in zip(self._ahead[0], sources, strict=True)
        ):
            with torch.inference_mode(False), torch.no_grad():
                self._ahead = sources, Ahead.of(folded, lifted)
        return self._ahead[1]

    def derive(self) -> Folded:
        """Multiplied weights."""
        return fold(self)
