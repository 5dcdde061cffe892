"""Optimisers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from training.learning.config import OptimiserConfig

# Quintic iteration of K. Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Momentum whose step is the nearest orthogonal matrix, for matrices of hidden layers.

    The update of `torch.optim.Muon`, with matrices of one shape orthogonalised together and, on a
    CPU, in float32: bfloat16 products, which that one takes, are emulated there and two orders of
    magnitude slower.

    Parameters
    ----------
    params
        Matrices.
    lr, momentum, weight_decay
        Rate, Nesterov momentum and decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for matrices in shapes.values():
                self._step_together(matrices, group)
        return loss

    def _step_together(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        buffers = []
        for matrix in matrices:
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            buffers.append(state["momentum_buffer"])
        gradients = [matrix.grad for matrix in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))
        rows, columns = matrices[0].shape
        rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, list(orthogonalise(ahead).unbind()), alpha=-rate)


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearly the orthogonal factors of matrices ``[M, R, C]``: singular values of about one.

    Five quintic Newton-Schulz iterations leave them between 0.7 and 1.2, which serves as well.
    """
    first, second, third = _QUINTIC
    work = matrices if matrices.device.type == "cpu" else matrices.bfloat16()
    tall = work.shape[-2] > work.shape[-1]
    if tall:
        work = work.transpose(-1, -2)
    work = work / work.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = work @ work.transpose(-1, -2)
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        work = torch.baddbmm(work, polynomial, work, beta=first)
    return (work.transpose(-1, -2) if tall else work).to(matrices.dtype)


class Pair(Optimizer):
    """Two optimisers over different parameters that step, save and load as one.

    Parameters
    ----------
    first, second
        Optimisers without a parameter in common.
    """

    def __init__(self, first: Optimizer, second: Optimizer) -> None:
        self.parts = (first, second)
        groups = [group for part in self.parts for group in part.param_groups]
        super().__init__([p for group in groups for p in group["params"]], {})
        self._share()

    def _share(self) -> None:
        # The very groups of the parts, so that a schedule that sets a rate here sets it there.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
        """Load the state of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


def build_optimiser(
    model: nn.Module,
    config: OptimiserConfig,
    fused: bool = True,
    beside: nn.Module | None = None,
) -> Optimizer:
    """The optimiser that a configuration names, over the parameters of a model.

    AdamW alone may be had unfused, whose rounding is that of published runs.

    Muon takes the weights of linear layers whose sides both exceed eight; embeddings, biases,
    gains and narrow matrices, which have no spectrum worth equalising, go to AdamW. So does all of
    a model ``beside``, another's trained one, which Muon's long steps would spoil.
    """
    more = [] if beside is None else list(beside.parameters())
    adamw = {
        "lr": config.lr,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
        "amsgrad": config.amsgrad,
    }
    matrices = [
        layer.weight
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and min(layer.weight.shape) > 8
    ]
    if config.name == "adamw" or not matrices:
        return AdamW([*model.parameters(), *more], fused=fused, **adamw)
    chosen = {id(weight) for weight in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen] + more
    muon = Muon(matrices, config.muon_lr, config.muon_momentum, config.weight_decay)
    # Frequencies and gains have no reason to shrink.
    adamw["weight_decay"] = 0.0
    return Pair(muon, AdamW(rest, fused=True, **adamw))


def build_schedule(
    optimiser: Optimizer,
    warmup: int,
    steps: int,
    shape: str = "cosine",
    decay_from: int = 0,
    cooling: int = 0,
) -> LambdaLR:
    """Linear warm-up, then a cosine to zero at the last step, or ``constant``.

    ``decay`` is constant until step ``decay_from`` and then falls to zero as 1 − √x, which served
    better than a straight line (Hägele et al., arXiv 2405.18392). With ``cooling`` the constant is
    none, but falls as 1/√(1 + step/cooling), without an end.
    """

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup + 1))
        if cooling:
            rise /= math.sqrt(1 + step / cooling)
        if shape == "constant":
            return rise
        if shape == "decay":
            done = (step - decay_from) / max(steps - decay_from, 1)
            return rise * (1 - math.sqrt(min(max(done, 0.0), 1.0)))
        return rise * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))

    return LambdaLR(optimiser, factor)
