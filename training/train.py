"""Train an operator: ``python -m training.train CONFIG.yaml``.

The same command goes on where a killed run stopped, to the same result. ``--decay STEPS`` makes an
operator to ship of a run with a constant rate, which itself may go on meanwhile and after.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import lightning
import torch
import typer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only

from ase_atom.commandline import BAD_INPUT, run_command
from ase_atom.errors import ConfigError
from ase_atom.files import replace_file
from ase_atom.operator import save_operator
from ase_atom.operator.torch_settings import set_threads
from training.data.store import data_folder
from training.learning.callbacks import Checkpoints, ExportOperator, Progress, make_loggers
from training.learning.card import make_card
from training.learning.config import TrainerConfig, TrainingConfig, load_config
from training.learning.folder import RunFolder
from training.learning.loop import make_trainer
from training.learning.run import (
    load_reference,
    make_module,
    make_operator,
    take_energy_scale,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def train(
    config: TrainingConfig, output: Path, *, command: str = "", restart: bool = False
) -> Path:
    """Train an operator, or go on training it.

    Parameters
    ----------
    config
        Settings.
    output
        Folder of the run. A run with the same settings that was begun there goes on.
    command
        Command line that goes into the operator's card.
    restart
        Discard the run in the folder.

    Returns
    -------
    Path
        File of the trained operator.

    Raises
    ------
    ConfigError, DataError, CheckpointError
        For settings, data or an operator to start from that do not fit.
    KeyboardInterrupt
        If the run was stopped.
    """
    if config.trainer.threads:
        set_threads(config.trainer.threads)
    folder = RunFolder(output)
    if restart and rank_zero_only.rank == 0:
        folder.discard()
    if folder.started:
        folder.check_same(config)
    reference = load_reference(config, folder)
    checkpoint = folder.last_checkpoint() if folder.started else None
    operator = make_operator(config, reference.part("train"), fit_energies=checkpoint is None)
    operator.card = make_card(config, reference, command)
    if checkpoint:
        take_energy_scale(operator, checkpoint)
    module = make_module(config, reference, operator)
    trainer = _trainer(config, folder, checkpoint, operator.potential is not None)
    if rank_zero_only.rank == 0:
        folder.begin(config, reference.split, reference.fingerprint)
        counts = ", ".join(f"{len(keys)} {part}" for part, keys in reference.split.items())
        parameters = sum(p.numel() for p in operator.parameters())
        start = f"from {checkpoint.stem}" if checkpoint else "from the beginning"
        print(f"{config.name}: {parameters} parameters; bursts: {counts}; {start}; in {output}")
    try:
        trainer.fit(module, ckpt_path=checkpoint)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C and of a signal to end
        raise KeyboardInterrupt from stop
    path = output / f"{config.name}.safetensors"
    next(call for call in trainer.callbacks if isinstance(call, Checkpoints)).finish(trainer)
    if trainer.is_global_zero:
        module.swap_average()
        save_operator(operator, path)
        module.swap_average()
    return path


def decaying(config: TrainingConfig, output: Path, steps: int) -> tuple[TrainingConfig, Path]:
    """A branch of a run in which the rate falls to zero, from the run's latest checkpoint.

    Parameters
    ----------
    config
        Settings of the run.
    output
        Its folder.
    steps
        Length of the branch.

    Returns
    -------
    Settings and folder of the branch, ready for `train`: that of an earlier call which was not
    finished, if there is one, else a new one, ``decay-STEP``, with a copy of the checkpoint.

    Raises
    ------
    ConfigError
        If the run has another schedule than ``constant``, other settings, or no checkpoint.
    """
    run = RunFolder(output)
    if config.optimiser.schedule != "constant":
        raise ConfigError(
            f"--decay is for optimiser.schedule: constant, not {config.optimiser.schedule}, which "
            "ends by itself"
        )
    if run.started:
        run.check_same(config)
    source = run.last_checkpoint() if run.started else None
    if source is None:
        raise ConfigError(f"{output} has no checkpoint to branch from: train first")
    for branch in sorted(output.glob("decay-*")):
        begun = RunFolder(branch)
        if begun.started and not (branch / f"{config.name}.safetensors").exists():
            return _branch(config, int(branch.name.partition("-")[2]), steps), branch
    first = int(source.stem.partition("=")[2])
    branch = RunFolder(output / f"decay-{first}")
    settings = _branch(config, first, steps)
    if branch.started:
        length = branch.settings().trainer.steps - first
        if length != steps:
            raise ConfigError(
                f"{branch.path} is finished, a branch of {length} steps and not {steps}: train on "
                "first, or remove it"
            )
    else:
        branch.checkpoints.mkdir(parents=True, exist_ok=True)
        replace_file(branch.checkpoints / source.name, partial(shutil.copyfile, source))
        reference = load_reference(settings, run)
        branch.begin(settings, reference.split, reference.fingerprint)
    return settings, branch.path


def _branch(config: TrainingConfig, first: int, steps: int) -> TrainingConfig:
    optimiser = config.optimiser.model_copy(update={"schedule": "decay", "decay_from": first})
    trainer = config.trainer.model_copy(update={"steps": first + steps})
    return config.model_copy(update={"optimiser": optimiser, "trainer": trainer})


def _trainer(
    config: TrainingConfig, folder: RunFolder, resume: Path | None, potential: bool
) -> lightning.Trainer:
    settings, loss = config.trainer, config.loss
    strategy = "auto"
    if settings.devices > 1:
        heads = (loss.force or loss.energy) and not potential
        everything = (loss.position or loss.velocity) and heads
        strategy = "ddp" if everything else "ddp_find_unused_parameters_true"
    return make_trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=strategy,
        precision=_precision(settings),
        max_steps=settings.steps,
        gradient_clip_val=config.optimiser.clip or None,
        logger=make_loggers(folder.path, resume),
        callbacks=[
            Progress(refresh_rate=min(settings.log_every, 20)),
            ExportOperator(folder.path, settings.checkpoint_every),
            Checkpoints(folder.checkpoints, settings.checkpoint_every),
        ],
        log_every_n_steps=settings.log_every,
        val_check_interval=settings.validate_every,
        check_val_every_n_epoch=None,
    )


def _precision(settings: TrainerConfig) -> str:
    if settings.precision != "auto":
        return settings.precision
    gpu = settings.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "32-true"


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file of settings.")],
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; by default runs/NAME in the data folder."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a setting, as in trainer.steps=100. Repeatable."),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the run in the folder and begin anew.")
    ] = False,
    decay: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Make an operator of the run's latest checkpoint: so many more steps, in a folder "
            "of their own, while the rate falls to zero. The run is left as it is.",
        ),
    ] = None,
) -> None:
    """Train an operator; the same command goes on where a killed run stopped."""
    settings = load_config(config, set_ or ())
    folder = output or data_folder() / "runs" / settings.name
    words = [str(config)] + [word for item in set_ or () for word in ("--set", item)]
    if decay is not None:
        if restart:
            raise ConfigError("--restart discards the run that --decay branches from")
        settings, folder = decaying(settings, folder, decay)
        words += ["--decay", str(decay)]
    command = f"python -m training.train {shlex.join(words)}"
    path = train(settings, folder, command=command, restart=restart)
    if rank_zero_only.rank == 0:
        print(f"trained operator: {path}")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    stopped = "the same command goes on from the last checkpoint"
    codes = {MisconfigurationException: BAD_INPUT}
    sys.exit(run_command(app, "python -m training.train", stopped=stopped, codes=codes))


if __name__ == "__main__":
    main()
