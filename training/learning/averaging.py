"""A running average of weights, which is measured and kept in the place of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningAverage:
    """Exponential average of a model's weights over its latest steps.

    After step n it moves towards the weights by 1 − min(decay, n / (n + 10)) of the distance.

    Parameters
    ----------
    model
        Its weights are averaged, from what they are now on.
    decay
        Between 0 and 1: an average over about 1 / (1 − decay) steps.

    Attributes
    ----------
    values
        One tensor for each of the model's parameters, in their order.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.values: list[Tensor] = [weight.detach().clone() for weight in model.parameters()]

    def follow(self, step: int) -> None:
        """Take up the weights that a step has left; ``step`` counts from 1."""
        rate = 1 - min(self.decay, step / (step + 10))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(self.values, weights, rate)

    def swap(self) -> None:
        """Exchange the weights and their average."""
        with torch.no_grad():
            for weight, average in zip(self.model.parameters(), self.values, strict=True):
                kept = weight.clone()
                weight.copy_(average)
                average.copy_(kept)
