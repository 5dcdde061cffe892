"""Time of one training step: ``python benchmarks/training_step.py [CONFIG]``.

The configured operator, losses and optimiser on made-up ethanol bursts, so that no reference data
is needed; loading, logging and validation are not counted. Median over steps.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from ase import Atoms
from ase.io import read
from rich.console import Console

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))  # training is run from the checkout and not installed

from training.data.burst import Burst  # noqa: E402
from training.learning.config import load_config  # noqa: E402
from training.learning.module import TrainingModule  # noqa: E402
from training.learning.run import Reference, make_module, make_operator  # noqa: E402


def made_up_burst(atoms: Atoms, seed: int, frames: int = 201) -> Burst:
    """Each coordinate of a molecule swinging about its place by 0.03 Å, at 1 fs intervals."""
    random = np.random.default_rng(seed)
    shape = (1, len(atoms), 3)
    omega, phase = random.uniform(0.05, 0.5, shape), random.uniform(0, 2 * np.pi, shape)
    angle = omega * np.arange(frames)[:, None, None] + phase
    return Burst(
        key=f"made-up/{seed:05d}",
        smiles="CCO",
        numbers=atoms.numbers,
        masses=atoms.get_masses(),
        positions=atoms.positions + 0.03 * np.sin(angle),
        velocities=0.03 * omega * np.cos(angle),
        energies=random.normal(size=frames),
        forces=random.normal(size=(frames, len(atoms), 3)),
        interval=1.0,
        temperature_K=300.0,
        seed=seed,
    )


def prepare(config: Path, batch: int, threads: int, eager: bool) -> TrainingModule:
    """The module that training would make of the configuration and made-up data."""
    changes = (f"trainer.batch_size={batch}", f"trainer.threads={threads}")
    if eager:
        changes += ("trainer.compile=false",)
    settings = load_config(config, changes)
    atoms = read(_ROOT / "examples" / "ethanol.xyz")
    bursts = {burst.key: burst for burst in (made_up_burst(atoms, seed) for seed in range(4))}
    reference = Reference(bursts, {"train": list(bursts), "validation": [], "test": []}, "")
    return make_module(settings, reference, make_operator(settings, list(bursts.values())))


def seconds_per_step(module: TrainingModule, repetitions: int) -> tuple[float, float]:
    """Wall time of the first step, which may compile, and the median of those after, s."""
    configured = module.configure_optimizers()
    optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    clip = module.config.optimiser.clip
    taken = []
    for _ in range(repetitions + 2):
        start = time.perf_counter()
        module.training_step(None, 0).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        taken.append(time.perf_counter() - start)
    return taken[0], float(np.median(taken[2:]))


def main(
    config: Annotated[Path, typer.Argument(help="YAML file of settings.")] = _ROOT
    / "training"
    / "configs"
    / "ethanol.yaml",
    batch: Annotated[int, typer.Option(help="Windows a step.")] = 128,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    repetitions: Annotated[int, typer.Option(help="Steps to take the median of.")] = 20,
    eager: Annotated[bool, typer.Option("--eager", help="Do not compile.")] = False,
) -> None:
    """Print the median time of a training step."""
    torch.set_num_threads(threads)
    module = prepare(config, batch, threads, eager)
    first, median = seconds_per_step(module, repetitions)
    size = sum(parameter.numel() for parameter in module.operator.parameters())
    Console().print(
        f"{config.name}: {size / 1e6:.2f} M parameters, batch {batch}, {threads} threads: "
        f"{median:.3f} s a step (the first took {first:.1f} s)"
    )


if __name__ == "__main__":
    typer.run(main)
