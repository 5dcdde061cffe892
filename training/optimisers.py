"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ase_atom.errors import ConfigError
from training.config import OptimiserConfig


class Pair(Optimizer):
    """Two optimisers over different parameters that step, save and load as one.

    Parameters
    ----------
    first, second
        Optimisers without a parameter in common.
    """

    def __init__(self, first: Optimizer, second: Optimizer) -> None:
        self.parts = (first, second)
        # Sets up hooks and defaults; the groups themselves are then shared with the parts, so
        # that a schedule that changes their rate changes the parts' rate.
        super().__init__(
            [p for part in self.parts for g in part.param_groups for p in g["params"]], {}
        )
        self._share()

    def _share(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        """Step both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load state of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """The optimiser that a configuration names, over the parameters of a model.

    Muon takes the weights of linear layers whose sides both exceed eight; embeddings, biases,
    gains and narrow matrices, which have no spectrum worth equalising, go to AdamW.

    Raises
    ------
    ConfigError
        If this PyTorch has no Muon.
    """
    adamw = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.name == "adamw":
        return AdamW(model.parameters(), **adamw)
    if not hasattr(torch.optim, "Muon"):
        raise ConfigError(
            f"optimiser.name muon needs PyTorch 2.9 or newer, and this is {torch.__version__}"
        )
    matrices = [
        layer.weight
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and min(layer.weight.shape) > 8
    ]
    chosen = {id(weight) for weight in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    if not matrices:
        return AdamW(rest, **adamw)
    muon = torch.optim.Muon(
        matrices,
        lr=config.muon_lr,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
    )
    return Pair(muon, AdamW(rest, **adamw))


def build_schedule(optimiser: Optimizer, warmup: int, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to zero at the last step."""

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup + 1))
        return rise * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

    return LambdaLR(optimiser, factor)
