"""The training step and the validation of one operator, as Lightning wants them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ase_atom.errors import ConfigError
from ase_atom.operator import Operator
from training.data.frames import Sampler, Windows
from training.learning.config import TrainingConfig
from training.learning.loop import AveragedModule
from training.learning.losses import (
    Scales,
    energy_and_gradient,
    energy_losses,
    learns_energies,
    path_losses,
)
from training.learning.optimisers import build_optimiser, build_schedule
from training.learning.validation import Validation


def rotated(windows: Windows, generator: torch.Generator) -> Windows:
    """Windows turned at random, half of them mirrored too: physics does not tell the difference.

    Orthogonal matrices are drawn uniformly (Stewart, SIAM J. Numer. Anal. 17, 403 (1980)).
    """
    normal = torch.randn(len(windows.numbers), 3, 3, generator=generator)
    matrix, triangle = torch.linalg.qr(normal)
    matrix = matrix * triangle.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
    matrix = matrix.to(windows.positions).unsqueeze(1)
    return replace(
        windows,
        positions=windows.positions @ matrix,
        velocities=windows.velocities @ matrix,
        forces=windows.forces @ matrix.squeeze(1),
    )


class TrainingModule(AveragedModule):
    """An operator in training.

    Parameters
    ----------
    operator
        What to train; its energy scale and offsets are set.
    config
        The run's settings.
    samplers
        Of the training windows, one for each group of molecules of similar size.
    scales
        Of the losses.
    held_out
        Held-out states: of molecules in training as ``""``, of others by the molecule's name.
    """

    def __init__(
        self,
        operator: Operator,
        config: TrainingConfig,
        samplers: Sequence[Sampler],
        scales: Scales,
        held_out: Mapping[str, Validation],
    ) -> None:
        super().__init__()
        self.operator = operator
        self.config = config
        self.samplers, self.scales, self.held_out = list(samplers), scales, dict(held_out)
        self.segment, self.energy = operator.segment, energy_and_gradient
        if config.trainer.compile:
            self.segment = torch.compile(self.segment, dynamic=False)
            self.energy = torch.compile(self.energy, dynamic=False)
        # A potential that is trained along is saved with the module's state.
        self.potential: nn.Module | None = None
        if operator.potential is not None and learns_energies(operator):
            self.potential = operator.potential.network
        self.rotations = config.data.rotations
        if self.rotations is None:
            self.rotations = not operator.equivariant
        self.start_average(self.trained(), config.optimiser.ema)
        self._sums: dict[str, Tensor] = {}
        self._summed = 0

    def trained(self) -> nn.Module:
        """The operator, with its potential where that is trained along."""
        if self.potential is None:
            return self.operator
        return nn.ModuleList([self.operator, self.potential])

    # -- training --------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Put data and scales where the weights are."""
        super().on_fit_start()
        for sampler in self.samplers:
            sampler.rank = self.global_rank
            sampler.to(self.device)
        self.scales = self.scales.to(self.device)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of the step whose number is ``global_step``."""
        terms = self.loss_of_step(self.global_step)
        self._note(terms)
        return terms["loss"]

    def loss_of_step(self, step: int) -> dict[str, Tensor]:
        """Terms of the loss, and their weighted sum ``loss``, at one step."""
        weights = self.config.loss
        generator = self.samplers[0].generator(step)
        if self.operator.stochastic:
            # Noise and dropout too follow from the step's number alone.
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        terms: dict[str, Tensor] = {}
        windows = sum(sampler.batch_size for sampler in self.samplers)
        states = sum(sampler.state_batch_size for sampler in self.samplers)
        for sampler in self.samplers:
            if weights.position or weights.velocity:
                share = sampler.batch_size / windows
                found = self.path_terms(sampler, generator)
                _add(terms, ("position", "velocity"), found, share)
            if (weights.force or weights.energy) and learns_energies(self.operator):
                drawn = sampler.states(generator)
                # Second derivatives in half precision lose too much: always float32.
                with torch.autocast(self.device.type, enabled=False):
                    found = energy_losses(
                        self.operator, drawn, self.scales, self.energy, weights.measure
                    )
                _add(terms, ("force", "energy"), found, sampler.state_batch_size / states)
        loss = sum(getattr(weights, name) * term for name, term in terms.items())
        return {"loss": loss, **terms}

    def path_terms(self, sampler: Sampler, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Position and velocity loss of windows drawn with a generator."""
        windows = sampler.windows(generator)
        if self.rotations:
            windows = rotated(windows, generator)
        species = self.operator.index(windows.numbers, windows.charge)
        lags, length = windows.lags, sampler.window
        interval = sampler.data.interval
        x, v = windows.positions[:, 0], windows.velocities[:, 0]
        paths = []
        hears = getattr(self.operator.config, "force_input", False)
        # Those at the start are the data's, which the operator's own surface is or is to become.
        known: Tensor | None = windows.forces
        for jump in lags.view(sampler.chain, -1) - length * torch.arange(sampler.chain).unsqueeze(
            1
        ):
            times = (jump * interval).to(x)
            heard = {}
            if hears:
                # Errors of a jump's end are not learned from by way of the forces there.
                if known is None:
                    known = self.operator.forces_heard(species, x.detach())
                heard, known = {"forces": known}, None
            path = self.segment(species, windows.masses, x, v, times, **heard)
            x, v = path[0][:, -1], path[1][:, -1]
            paths.append(path)
        predicted = paths[0]
        if len(paths) > 1:
            predicted = tuple(torch.cat(side, dim=1) for side in zip(*paths, strict=True))
        return path_losses(
            predicted,
            (windows.positions[:, 1:], windows.velocities[:, 1:]),
            windows.masses,
            self.scales.displacement[(lags - 1).to(self.device)],
            self.scales.temperature,
            self.config.loss.measure,
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, and let the averaged weights follow: before any checkpoint of this step."""
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.follow(self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log now and then."""
        if self.global_step % self.config.trainer.log_every == 0:
            self._log_sums()

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimiser and schedule of the configuration."""
        settings = self.config.optimiser
        optimiser = build_optimiser(self.operator, settings, beside=self.potential)
        steps = self.config.trainer.steps
        schedule = build_schedule(
            optimiser,
            settings.warmup,
            steps,
            settings.schedule,
            settings.decay_from,
            settings.cooling,
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    # -- validation ------------------------------------------------------------------------------

    def val_dataloader(self) -> list[int]:
        """Numbers of the batches of held-out states, through all groups of them."""
        return list(range(sum(held.batches for held in self.held_out.values())))

    def on_validation_epoch_start(self) -> None:
        """Use the averaged weights."""
        self.swap_average()
        for held in self.held_out.values():
            held.reset(self.device)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Errors of one batch; each process takes its share."""
        if batch % self.trainer.world_size != self.global_rank:
            return
        for held in self.held_out.values():
            if batch < held.batches:
                with torch.autocast(self.device.type, enabled=False):
                    held.add(self.operator, batch)
                return
            batch -= held.batches

    def on_validation_epoch_end(self) -> None:
        """Log errors over all held-out states; of molecules not in training, their median."""
        self.swap_average()
        strange: list[dict[str, float]] = []
        for molecule, held in self.held_out.items():
            sums = self.trainer.strategy.reduce(held.sums, reduce_op="sum")
            found = held.metrics(sums)
            if molecule:
                strange.append(found)
            for name, value in found.items():
                place = f"compounds/{molecule}/{name}" if molecule else f"validation/{name}"
                self.log(place, value, rank_zero_only=True)
        for name in strange[0] if strange else ():
            middle = statistics.median(found[name] for found in strange)
            self.log(f"unseen/{name}", middle, rank_zero_only=True)

    # -- state -----------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the average, and no checkpoint of a run that has diverged."""
        self._check_finite()
        if not all(bool(torch.isfinite(weight).all()) for weight in self.parameters()):
            raise ConfigError(self._diverged())
        if self.average is not None:
            checkpoint["average"] = self.average.values

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average back."""
        if self.average is not None:
            self.average.values = checkpoint["average"]

    def _note(self, terms: dict[str, Tensor]) -> None:
        for name, term in terms.items():
            value = term.detach()
            self._sums[name] = self._sums[name] + value if self._summed else value
        self._summed += 1

    def _check_finite(self) -> None:
        if self._summed and not bool(torch.isfinite(self._sums["loss"])):
            raise ConfigError(self._diverged())

    def _diverged(self) -> str:
        return (
            f"the loss is no longer finite by step {self.global_step}: lower optimiser.lr, "
            "lengthen optimiser.warmup or clip harder, and begin anew with --restart"
        )

    def _log_sums(self) -> None:
        self._check_finite()
        for name, total in self._sums.items():
            self.log(f"train/{name}", total / self._summed, sync_dist=True)
        self.log("loss", self._sums["loss"] / self._summed, prog_bar=True, logger=False)
        self.log("lr", self.optimizers().param_groups[-1]["lr"])
        self._sums, self._summed = {}, 0


def _add(
    terms: dict[str, Tensor], names: Sequence[str], found: Sequence[Tensor], share: float
) -> None:
    for name, term in zip(names, found, strict=True):
        terms[name] = terms[name] + share * term if name in terms else share * term
