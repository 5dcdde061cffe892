"""Settings of a leap decoder's training."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ase_atom.operator.leap.config import LeapConfig
from training.learning.config import OptimiserConfig


class LeapTrainingConfig(BaseModel):
    """How a leap decoder is trained.

    Attributes
    ----------
    network
        The decoder; elements and longest lag are those of operator and teacher.
    optimiser
        How weights follow gradients.
    steps, batch_size
        Optimiser steps, and pairs of structures in each.
    seed
        Of weights, pairs and noise.
    held_out
        Share of each run's replicas that is not learned from.
    lags
        Shortest and longest time between the structures of a pair, fs.
    level_mean, level_spread
        Of the normal distribution whose logistic function the noise levels are.
    threads
        CPU threads.
    checkpoint_every, log_every
        In steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: LeapConfig = LeapConfig()
    optimiser: OptimiserConfig = OptimiserConfig(
        name="muon", lr=1.5e-3, muon_lr=0.006, weight_decay=0.01, warmup=100, ema=0.998
    )
    steps: int = Field(default=12000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)
    held_out: float = Field(default=1 / 6, gt=0, lt=1)
    lags: tuple[float, float] = (320.0, 16000.0)
    level_mean: float = -1.0
    level_spread: float = Field(default=1.3, gt=0)
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)
    log_every: int = Field(default=50, ge=1)

    def started(self, parent: LeapConfig) -> LeapTrainingConfig:
        """Settings of a training that begins with weights that are there: at half the rates."""
        rates = {"lr": self.optimiser.lr / 2, "muon_lr": self.optimiser.muon_lr / 2}
        optimiser = self.optimiser.model_copy(update=rates)
        return self.model_copy(update={"network": parent, "optimiser": optimiser})
