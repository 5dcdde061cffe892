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
from torch.optim import Optimizer

from ase_atom.errors import DataError
from ase_atom.files import replace_file
from training.benchmarks.models import predict
from training.benchmarks.samples import Samples
from training.benchmarks.scoring import seconds
from training.benchmarks.suites import Budget, Row
from training.benchmarks.trivial import masked_mse
from training.learning.checkpoints import load_plain
from training.learning.config import OptimiserConfig
from training.learning.loop import AveragedModule, make_trainer
from training.learning.optimisers import build_optimiser

LOOKS, LOOKED_AT = 96, 500
"""Looks in the course of a budget, and at how many of the validation samples at most."""

PATIENCE, FALL = 4, 1 / 3
"""Looks without a better one after which rates fall, and to what part, on a plateau."""

PROCEDURE = {"looks": LOOKS, "looked_at": LOOKED_AT, "patience": PATIENCE, "fall": FALL}
"""What a result's settings tell of these."""

SAVE_SECONDS = 30.0

KEPT = ("step", "seconds", "scale", "waiting", "best", "best_weights", "history")
"""What a checkpoint holds beside weights, their average, the optimiser and the random numbers."""

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


class Fit(AveragedModule):
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
        super().__init__()
        self.model, self.samples, self.heavy = model, train, heavy
        self.validation = validation.select(slice(None, None, -(-len(validation) // LOOKED_AT)))
        self.settings = row.optimiser
        by_default = "constant" if budget.minutes is None else "plateau"
        self.schedule = row.optimiser.schedule or by_default
        self.batch_size = min(budget.batch_size or row.batch_size, len(train))
        stay = masked_mse(train.positions[:, None].expand_as(train.targets), train)
        self.noise = row.noise * stay[:, -1].mean().sqrt().item()
        self.budget, self.seed, self.checkpoint = budget, seed, checkpoint
        self.start_average(model, self.settings.ema)
        self.step, self.seconds, self.saved = 0, 0.0, 0.0
        self.scale, self.waiting = 1.0, 0
        self.best: tuple[float, int] = (math.inf, 0)
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[tuple[int, float]] = []
        self.advance: Callable[[float], None] = lambda share: None

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
        self.advance = advance
        device = self.samples.positions.device
        trainer = make_trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            gradient_clip_val=self.settings.clip or None,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        try:
            trainer.fit(self)
        except SystemExit as stop:  # what Lightning makes of Ctrl-C and of a signal to end
            if self.history:
                self._save()
            raise KeyboardInterrupt from stop
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

    def on_fit_start(self) -> None:
        """Take up an interrupted run, or look at what there is before the first step."""
        super().on_fit_start()
        self._load()
        if not self.history:
            self._look()
        self.saved = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Look if one is due, also one that an interrupted run owes; end with the budget."""
        shares = len(self.history) / LOOKS
        if self.history[-1][0] != self.step and self.progress >= min(shares, 1):
            self._look()
            self.advance(self.progress)
        if self.progress < 1:
            return None
        self.trainer.should_stop = True
        return -1

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save now and then."""
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self._save()
            self.saved = time.monotonic()

    # -- steps and looks -------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Loss of a step; None ends the run, as it is no longer finite."""
        self.model.train()
        samples = self.samples.select(self._rows())
        loss = masked_mse(self.model(self._with_noise(samples)), samples, self.heavy).mean()
        if math.isfinite(loss.item()):
            return loss
        self.trainer.should_stop = True
        return None

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step at the schedule's rate, and let the averaged weights follow."""
        rise = min(1.0, (self.step + 1) / (self.settings.warmup + 1))
        fall = 1.0
        if self.schedule == "cosine":
            fall = 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0)))
        elif self.schedule == "plateau":
            fall = self.scale
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rise * fall
        before = seconds(self.device)
        super().optimizer_step(*args, **kwargs)
        self.seconds += seconds(self.device) - before
        if not self.trainer.should_stop:
            self.step += 1
            if self.average is not None:
                self.average.follow(self.step)

    def configure_optimizers(self) -> Optimizer:
        """The optimiser that the row names; the schedule is this module's own."""
        apart = {"schedule", "warmup", "clip", "ema"}
        settings = OptimiserConfig(**self.settings.model_dump(exclude=apart))
        self.optimiser = build_optimiser(self.model, settings, fused=False)
        for group in self.optimiser.param_groups:
            group["peak"] = group["lr"]
        return self.optimiser

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
        per_epoch = len(self.samples) // self.batch_size
        epoch, place = divmod(self.step, per_epoch)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.samples), generator=draw)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return rows.to(self.device)

    def _look(self) -> None:
        """Measure the validation error, and keep the weights if they are the best so far."""
        self.swap_average()
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
            self.swap_average()
        self.history.append((self.step, error))
        if self.schedule == "plateau" and self.waiting >= PATIENCE and self.best_weights:
            self._go_back()

    def _go_back(self) -> None:
        """Start again from the best weights, by smaller steps."""
        self.model.load_state_dict(self.best_weights)
        self.start_average(self.model, self.settings.ema)
        # Momentum led away from there.
        self.trainer.strategy.setup_optimizers(self.trainer)
        self.scale, self.waiting = FALL * self.scale, 0

    # -- going on --------------------------------------------------------------------------------

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": [] if self.average is None else self.average.values,
            "random": torch.get_rng_state(),
        }
        state |= {name: getattr(self, name) for name in KEPT}
        replace_file(self.checkpoint, lambda path: torch.save(state, path))

    def _load(self) -> None:
        if not self.checkpoint.exists():
            return
        state = load_plain(self.checkpoint, self.device)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.values = state["average"]
        for name in KEPT:
            setattr(self, name, state[name])
        torch.set_rng_state(state["random"].cpu())
