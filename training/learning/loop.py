"""The loop that all training runs by: Lightning's, over steps instead of epochs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import lightning
from torch import nn

from training.learning.averaging import RunningAverage
from training.learning.checkpoints import PlainCheckpointIO


class Steps:
    """An endless loader: what a step sees follows from its number alone, see `Sampler`.

    It has a state to save only so that Lightning knows that a run can resume between epochs.
    """

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 0

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""


class AveragedModule(lightning.LightningModule):
    """A network in training, with a running average of its weights if it is to have one."""

    average: RunningAverage | None = None

    def start_average(self, network: nn.Module, decay: float) -> None:
        """Average a network's weights from what they are now on; with a decay of 0, do not."""
        self.average = RunningAverage(network, decay) if decay else None

    def on_fit_start(self) -> None:
        """Put the average where the weights are."""
        if self.average is not None:
            self.average.values = [value.to(self.device) for value in self.average.values]

    def swap_average(self) -> None:
        """Exchange the weights and their running average, if there is one."""
        if self.average is not None:
            self.average.swap()

    def train_dataloader(self) -> Steps:
        """An endless loader."""
        return Steps()


def make_trainer(**settings: Any) -> lightning.Trainer:
    """A trainer without epochs, whose checkpoints hold tensors and plain data alone.

    Parameters
    ----------
    **settings
        Of `lightning.Trainer`, beside these.
    """
    # Lightning's advice on loaders and its tips do not apply here.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        **settings,
        max_epochs=-1,
        plugins=[PlainCheckpointIO()],
        num_sanity_val_steps=0,
        inference_mode=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
