"""Training one row of a table, to a budget, from where it was cut off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ase_atom.errors import DataError
from ase_atom.files import replace_file
from training.benchmarks.models import predict
from training.benchmarks.samples import Samples
from training.benchmarks.scoring import seconds
from training.benchmarks.suites import Budget, Row
from training.benchmarks.suites import Optimiser as OptimiserSettings
from training.benchmarks.trivial import masked_mse
from training.learning.averaging import RunningAverage
from training.learning.checkpoints import load_plain
from training.learning.config import OptimiserConfig
from training.learning.optimisers import build_optimiser

LOOKS, LOOKED_AT = 96, 500
"""Looks in the course of a budget, and at how many of the validation samples at most."""

PATIENCE, FALL = 4, 1 / 3
"""Looks without a better one after which rates fall, and to what part, on a plateau."""

PROCEDURE = {"looks": LOOKS, "looked_at": LOOKED_AT, "patience": PATIENCE, "fall": FALL}
"""What a result's settings tell of these."""

SAVE_SECONDS = 30.0

NOISE_TIME = 25.0  # fs


@dataclass(frozen=True)
class Trained:
    """What training came to; the model holds the weights of the best look.

    Attributes
    ----------
    steps
        Optimiser steps taken.
    minutes
        They took, validation not counted: of the processor, or of the clock on an accelerator.
    best_step
        Step of the best look.
    history
        Step and validation S2T in Å², of each look.
    """

    steps: int
    minutes: float
    best_step: int
    history: list[tuple[int, float]]


class Fit:
    """A model in training.

    Parameters
    ----------
    model
        To train, in place.
    train, validation
        Samples on the model's device.
    row, budget, seed
        Settings. A schedule that the row does not name is `plateau` under a budget of minutes,
        which may be far too long for few samples, and `constant`, as published, under one of steps.
    checkpoint
        File to go on from and to save to now and then.
    heavy
        Learn from, and choose by, the errors of heavy atoms alone.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Samples,
        validation: Samples,
        row: Row,
        budget: Budget,
        seed: int,
        checkpoint: Path,
        heavy: bool = False,
    ) -> None:
        self.model, self.train, self.heavy = model, train, heavy
        self.validation = validation.select(slice(None, None, -(-len(validation) // LOOKED_AT)))
        self.row, self.settings = row, row.optimiser
        by_default = "constant" if budget.minutes is None else "plateau"
        self.schedule = row.optimiser.schedule or by_default
        self.batch_size = min(budget.batch_size or row.batch_size, len(train))
        stay = masked_mse(train.positions[:, None].expand_as(train.targets), train)
        self.noise = row.noise * stay[:, -1].mean().sqrt().item()
        self.budget, self.seed, self.checkpoint = budget, seed, checkpoint
        self.optimiser = self._fresh_optimiser()
        self.average = RunningAverage(model, self.settings.ema)
        self.step, self.seconds = 0, 0.0
        self.scale, self.waiting = 1.0, 0
        self.best: tuple[float, int] = (math.inf, 0)
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[tuple[int, float]] = []

    # -- the run ---------------------------------------------------------------------------------

    def run(self, advance: Callable[[float], None] = lambda share: None) -> Trained:
        """Train to the end of the budget.

        Parameters
        ----------
        advance
            Told the share of the budget that is spent.

        Raises
        ------
        DataError
            If the loss is no longer finite and no weights from before are left.
        """
        self._load()
        if not self.history:
            self._look()
        saved = time.monotonic()
        device = self.train.positions.device
        try:
            while True:
                # A look that an interrupted run owes comes before the next step.
                if self._due():
                    self._look()
                    advance(self.progress)
                if self.progress >= 1:
                    break
                before = seconds(device)
                finite = self._train_step()
                self.seconds += seconds(device) - before
                if not finite:
                    break
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._save()
            raise
        if not math.isfinite(self.best[0]):
            raise DataError("training diverged before its first look: lower the rate")
        self.model.load_state_dict(self.best_weights)
        return Trained(self.step, self.seconds / 60, self.best[1], self.history)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        if self.budget.steps is not None:
            return self.step / self.budget.steps
        return self.seconds / (60 * self.budget.minutes)

    def _due(self) -> bool:
        if self.history[-1][0] == self.step:
            return False
        return self.progress >= len(self.history) / LOOKS or self.progress >= 1

    # -- steps and looks -------------------------------------------------------------------------

    def _train_step(self) -> bool:
        self.model.train()
        batch = self.train.select(self._rows())
        loss = masked_mse(self.model(self._with_noise(batch)), batch, self.heavy).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        rise = min(1.0, (self.step + 1) / (self.settings.warmup + 1))
        fall = 1.0
        if self.schedule == "cosine":
            fall = 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0)))
        elif self.schedule == "plateau":
            fall = self.scale
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rise * fall
        if not math.isfinite(loss.item()):
            return False
        self.optimiser.step()
        self.step += 1
        if self.settings.ema:
            self.average.follow(self.step)
        return True

    def _with_noise(self, batch: Samples) -> Samples:
        """The batch with noise on its states; targets stay."""
        if not self.noise:
            return batch
        real = batch.mask.unsqueeze(-1)
        x, v = (
            side + size * torch.randn_like(side) * real
            for side, size in (
                (batch.positions, self.noise),
                (batch.velocities, self.noise / NOISE_TIME),
            )
        )
        return replace(batch, positions=x, velocities=v)

    def _rows(self) -> Tensor:
        """The step's batch: every sample once an epoch, in an order that the epoch decides."""
        per_epoch = len(self.train) // self.batch_size
        epoch, place = divmod(self.step, per_epoch)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.train), generator=draw)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return rows.to(self.train.positions.device)

    def _look(self) -> None:
        """Measure the validation error, and keep the weights if they are the best so far."""
        self._swap()
        try:
            predicted = predict(self.model, self.validation)
            error = masked_mse(predicted, self.validation, self.heavy).mean().item()
            if error < self.best[0]:
                state = self.model.state_dict()
                self.best_weights = {name: value.detach().clone() for name, value in state.items()}
                self.best, self.waiting = (error, self.step), 0
            else:
                self.waiting += 1
        finally:
            # What is saved after an interruption are the weights, and not their average.
            self._swap()
        self.history.append((self.step, error))
        if self.schedule == "plateau" and self.waiting >= PATIENCE and self.best_weights:
            self._go_back()

    def _go_back(self) -> None:
        """Start again from the best weights, by smaller steps."""
        self.model.load_state_dict(self.best_weights)
        self.average = RunningAverage(self.model, self.settings.ema)
        # Momentum led away from there.
        self.optimiser = self._fresh_optimiser()
        self.scale, self.waiting = FALL * self.scale, 0

    def _fresh_optimiser(self) -> Optimizer:
        optimiser = make_optimiser(self.model, self.settings)
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
        return optimiser

    def _swap(self) -> None:
        """Exchange the weights and their average, if there is one."""
        if self.settings.ema and self.step:
            self.average.swap()

    # -- going on --------------------------------------------------------------------------------

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.values,
            "step": self.step,
            "seconds": self.seconds,
            "scale": self.scale,
            "waiting": self.waiting,
            "best": self.best,
            "best_weights": self.best_weights,
            "history": self.history,
            "random": torch.get_rng_state(),
        }
        replace_file(self.checkpoint, lambda path: torch.save(state, path))

    def _load(self) -> None:
        if not self.checkpoint.exists():
            return
        device = self.train.positions.device
        state = load_plain(self.checkpoint, device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.values = state["average"]
        self.step, self.seconds = state["step"], state["seconds"]
        self.scale, self.waiting = state["scale"], state["waiting"]
        self.best, self.best_weights = tuple(state["best"]), state["best_weights"]
        self.history = [tuple(look) for look in state["history"]]
        torch.set_rng_state(state["random"].cpu())


def make_optimiser(model: nn.Module, settings: OptimiserSettings) -> Optimizer:
    """The optimiser that settings name."""
    if settings.name == "muon":
        # The schedule, the clipping and the average are this module's own.
        apart = {"schedule", "warmup", "clip", "ema"}
        return build_optimiser(model, OptimiserConfig(**settings.model_dump(exclude=apart)))
    return AdamW(
        model.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        amsgrad=settings.amsgrad,
    )
