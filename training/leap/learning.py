"""Flow matching: the loss of a leap decoder, its training run, and how that resumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ase_atom.errors import ConfigError
from ase_atom.operator.leap.flow import LEAST, centred
from ase_atom.operator.leap.network import LeapNetwork, conditions_of
from ase_atom.operator.torch_settings import set_threads
from training.leap.config import LeapTrainingConfig
from training.leap.pairs import Pairs, PairSampler
from training.leap.teacher import TeacherRun
from training.learning.callbacks import Checkpoints, make_loggers
from training.learning.config import differences, listed
from training.learning.folder import RunFolder
from training.learning.heritage import relative_of
from training.learning.loop import AveragedModule, make_trainer
from training.learning.optimisers import build_optimiser, build_schedule

_VALIDATIONS = 4
"""Batches of held-out pairs that a validation takes."""

_LEAST_TRAINED = 10 * LEAST


class LeapModule(AveragedModule):
    """A leap decoder in training.

    The loss is |x̂_1 - x_1|² / (scale s)², a mean over atoms and directions, with x̂_1 the guess
    from x_s: the squared error of what the network itself gives.

    Parameters
    ----------
    network
        To train.
    config
        Settings.
    train, held_out
        Pairs to learn from, and to measure the loss with.
    """

    def __init__(
        self,
        network: LeapNetwork,
        config: LeapTrainingConfig,
        train: PairSampler,
        held_out: PairSampler | None,
    ) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.train_pairs, self.held_out_pairs = train, held_out
        self.start_average(network, config.optimiser.ema)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of the step whose number is ``global_step``."""
        step = self.global_step
        loss = self.loss(self.train_pairs.draw(step), self._generator(step))
        self.log("loss", loss, batch_size=1)
        return loss

    def loss(self, pairs: Pairs, generator: torch.Generator) -> Tensor:
        """Mean of the loss over a batch."""
        config, shape = self.config, pairs.start.shape
        mask = (pairs.species > 0).to(pairs.start).unsqueeze(-1)
        normal = torch.randn(len(pairs.lags), generator=generator)
        level = torch.sigmoid(normal * config.level_spread + config.level_mean)
        level = level.clamp(min=_LEAST_TRAINED)
        spread = config.network.spread * torch.randn(shape, generator=generator)
        noise = centred(pairs.start + spread, mask)
        s = level[:, None, None]
        noisy = pairs.end + (noise - pairs.end) * s
        conditions = conditions_of(pairs.lags, pairs.temperatures)
        found = self.network(pairs.species, noisy, pairs.start, level, conditions)
        errors = ((found - pairs.end) / (config.network.scale * s)).square()
        return errors.sum() / (3 * mask.sum())

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Take a step, and let the average follow."""
        super().optimizer_step(*arguments, **named)
        if self.average is not None:
            self.average.follow(self.global_step)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss of the averaged weights on held-out pairs, the same each time."""
        if self.held_out_pairs is None:
            return
        self.swap_average()
        losses = [
            self.loss(self.held_out_pairs.draw(index), self._generator(index))
            for index in range(_VALIDATIONS)
        ]
        self.swap_average()
        self.log("held_out", torch.stack(losses).mean(), prog_bar=True, batch_size=1)

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.config.seed * 2**32 + step)

    def configure_optimizers(self) -> dict[str, Any]:
        """Muon and AdamW, with a cosine to zero."""
        optimiser = build_optimiser(self.network, self.config.optimiser)
        schedule = build_schedule(optimiser, self.config.optimiser.warmup, self.config.steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def val_dataloader(self) -> list[int]:
        """One step of validation."""
        return [0]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the average."""
        if self.average is not None:
            checkpoint["average"] = self.average.values

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the average."""
        if self.average is not None:
            self.average.values = checkpoint["average"]


def divided(runs: Sequence[TeacherRun], share: float) -> tuple[list[TeacherRun], list[TeacherRun]]:
    """Runs of the replicas to learn from, and of the last ones, which are held out."""
    first = [max(1, round(len(run.positions) * (1 - share))) for run in runs]
    train = [run.part(slice(0, count)) for run, count in zip(runs, first, strict=True)]
    rest = [run.part(slice(count, None)) for run, count in zip(runs, first, strict=True)]
    return train, [run for run in rest if len(run.positions)]


@torch.no_grad()
def take_over(network: LeapNetwork, parent: LeapNetwork) -> None:
    """Give a network the weights of another of the same shape, by element where they differ.

    Elements that the other does not know begin as those of `relative_of`, or as the mean of all.

    Raises
    ------
    ConfigError
        If the two are of other sizes.
    """
    ours, theirs = network.config, parent.config
    free = {"elements", "horizon", "segment"}
    changed = differences(
        theirs.model_dump(mode="json", exclude=free), ours.model_dump(mode="json", exclude=free)
    )
    if changed:
        raise ConfigError(f"these leaps have other settings ({listed(changed)})")
    known = [relative_of(number, theirs.elements) for number in ours.elements]
    rows = [0 if number is None else theirs.elements.index(number) + 1 for number in known]
    weights = dict(parent.state_dict())
    for name, layer in parent.named_modules():
        if isinstance(layer, nn.Embedding):
            table = layer.weight
            mean = table[1:].mean(0)
            elements = [table[row] if row else mean for row in rows]
            weights[f"{name}.weight"] = torch.stack([table[0], *elements])
    network.load_state_dict(weights)


def learn(
    config: LeapTrainingConfig,
    runs: Sequence[TeacherRun],
    folder: Path,
    parent: LeapNetwork | None = None,
    held_out: Sequence[TeacherRun] | None = None,
) -> LeapNetwork:
    """Train a decoder, or go on with the run in a folder, and return it with averaged weights.

    A training that goes on learns from all runs that it is given now.

    Parameters
    ----------
    config
        Settings.
    runs
        Of the teacher.
    folder
        Of logs and checkpoints.
    parent
        Whose weights a new training begins with.
    held_out
        Runs to measure the loss with; by default the last replicas of the others, as the settings
        say. Those that are too short for any lag are left out.

    Raises
    ------
    ConfigError
        If the parent has other settings.
    DataError
        If runs are too short.
    """
    set_threads(config.threads)
    torch.manual_seed(config.seed)
    network = LeapNetwork(config.network)
    if parent is not None:
        take_over(network, parent)
    parts = divided(runs, config.held_out)
    if held_out is not None:
        parts = list(runs), [run for run in held_out if run.duration > config.lags[0]]
    samplers = [
        PairSampler(part, config.network.elements, config.lags, config.batch_size, config.seed)
        if part
        else None
        for part in parts
    ]
    assert samplers[0] is not None
    module = LeapModule(network, config, samplers[0], samplers[1])
    place = RunFolder(folder)
    place.checkpoints.mkdir(parents=True, exist_ok=True)
    resume = place.last_checkpoint()
    checkpoints = Checkpoints(place.checkpoints, config.checkpoint_every)
    trainer = make_trainer(
        accelerator="cpu",
        max_steps=config.steps,
        gradient_clip_val=config.optimiser.clip or None,
        logger=make_loggers(folder, resume),
        callbacks=[checkpoints],
        log_every_n_steps=config.log_every,
        val_check_interval=config.checkpoint_every,
        check_val_every_n_epoch=None,
    )
    try:
        trainer.fit(module, ckpt_path=None if resume is None else str(resume))
    except SystemExit as stop:  # what Lightning makes of Ctrl-C and of a signal to end
        raise KeyboardInterrupt from stop
    checkpoints.finish(trainer)
    module.swap_average()
    return network.eval().requires_grad_(False)
