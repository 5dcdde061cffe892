"""What happens beside the training loop: progress, logs, checkpoints, the operator's file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from ase_atom.operator import save_operator


class Progress(TQDMProgressBar):
    """One bar over all steps with the live loss, and a line of errors after each validation."""

    @property
    def total_train_batches(self) -> int:
        """Steps of the whole run."""
        return self.trainer.max_steps

    def init_train_tqdm(self) -> Tqdm:
        """A bar that counts steps, not epochs."""
        bar = super().init_train_tqdm()
        bar.total = self.total_train_batches
        bar.set_description(module_name(self.trainer))
        return bar

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Keep the bar as it is: there is one epoch."""

    def init_validation_tqdm(self) -> Tqdm:
        """No bar of its own for the validation's second or two."""
        return Tqdm(disable=True)

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """The live loss alone."""
        metrics = super().get_metrics(trainer, module)
        metrics.pop("v_num", None)
        return metrics

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print relative errors by lag and the force error."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        for prefix, label in (("validation/", ""), ("unseen/", "unseen molecules: ")):
            found = {
                key.removeprefix(prefix): float(value)
                for key, value in trainer.callback_metrics.items()
                if key.startswith(prefix)
            }
            if found:
                self.print(f"step {trainer.global_step}: {label}{_described(found)}")


def _described(found: dict[str, float]) -> str:
    paths = ", ".join(
        f"{key.removeprefix('position_')} {value:.4f} (v {found['velocity' + key[8:]]:.4f})"
        for key, value in sorted(found.items(), key=lambda item: (len(item[0]), item[0]))
        if key.startswith("position_")
    )
    energies = ""
    if "force_meV_A" in found:
        energies = f"; force {found['force_meV_A']:.1f} meV/Å"
    if "energy_meV" in found:
        energies += f", energy {found['energy_meV']:.1f} meV"
    return f"position error {paths}{energies}"


class Checkpoints(ModelCheckpoint):
    """The latest state of the run, replaced every so many steps, each written atomically."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        super().__init__(
            dirpath=folder,
            filename="{step}",
            every_n_train_steps=every,
            save_top_k=-1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        """Save now and then."""
        super().on_train_batch_end(trainer, *rest)
        self.prune(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Save the last step, whatever its number."""
        trainer.save_checkpoint(self.folder / f"step={trainer.global_step}.ckpt")
        self.prune(trainer)

    def prune(self, trainer: Trainer) -> None:
        """Remove all checkpoints but the one of this step, if there is one.

        Lightning's own ``save_top_k=1`` forgets those that a killed run has left.
        """
        latest = self.folder / f"step={trainer.global_step}.ckpt"
        if trainer.is_global_zero and latest.exists():
            for path in self.folder.glob("step=*.ckpt"):
                if path != latest:
                    path.unlink()


class ExportOperator(Callback):
    """The operator as it stands, beside each checkpoint, so that it can be tried meanwhile."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Write ``NAME-unfinished.safetensors``."""
        step = trainer.global_step
        if step % self.every or step >= trainer.max_steps or not trainer.is_global_zero:
            return
        card = pl_module.operator.card
        state = f"unfinished: step {step} of {trainer.max_steps}"
        pl_module.operator.card = card.model_copy(update={"notes": f"{state}. {card.notes}"})
        pl_module.swap_average()
        try:
            save_operator(pl_module.operator, self.path(card.name))
        finally:
            pl_module.swap_average()
            pl_module.operator.card = card

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove it: the finished operator takes its place."""
        if trainer.is_global_zero and trainer.global_step >= trainer.max_steps:
            self.path(pl_module.operator.card.name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """File of the unfinished operator."""
        return self.folder / f"{name}-unfinished.safetensors"


def module_name(trainer: Trainer) -> str:
    """Name of the operator in training."""
    return trainer.lightning_module.operator.card.name


def make_loggers(folder: Path, resume: Path | None) -> list[Logger]:
    """CSV and TensorBoard logs; a resumed run keeps its rows up to the checkpoint's step."""
    rows: list[dict[str, Any]] = []
    file = folder / "metrics.csv"
    if resume is not None and file.exists() and rank_zero_only.rank == 0:
        last = int(resume.stem.partition("=")[2])
        with file.open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if int(row["step"]) < last]
    table = CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)
    if rows:
        # CSVLogger starts every session with an empty file.
        table.experiment.metrics.extend(rows)
        table.save()
    return [table, TensorBoardLogger(folder, name="", version="")]
