"""Fine-tune an operator: ``python -m training.finetune CHECKPOINT DATA``.

A few picoseconds of one molecule at the user's level of theory turn an operator of another level
of theory into one of that level.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import typer
from lightning.fabric.utilities.exceptions import MisconfigurationException

from ase_atom.commandline import BAD_INPUT, run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, load_operator
from ase_atom.operator.checkpoint import SUFFIX
from ase_atom.operator.torch_settings import set_threads
from training.auditing.trust import calibrate_file
from training.curation.scaffolds import identity
from training.data.export import find_data
from training.data.split import PARTS
from training.data.store import Burst, read_bursts, write_bursts
from training.import_trajectory import DEFAULT_SHARE, described, import_all
from training.importing.bursts import divide
from training.importing.harvest import read_harvest
from training.learning.config import TrainingConfig
from training.learning.folder import RunFolder
from training.learning.run import load_reference, make_module, make_operator, refit_energies
from training.learning.tuning import held_out_errors, make_config, shortened, table
from training.train import train

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MOST_APART = 0.2
"""eV per atom between medians of energies: several times what heat does."""

_NAMED = 6  # compounds of a card, of which some list hundreds


def check_parent(parent: Operator, bursts: Sequence[Burst], from_scratch: bool = False) -> None:
    """Check that an operator can learn the bursts' molecules.

    Parameters
    ----------
    parent
        The operator to start from.
    bursts
        What it is to learn.
    from_scratch
        Take its architecture alone, which is for any molecule of its elements.

    Raises
    ------
    ConfigError
        For elements that it does not know, or for molecules that it was not trained for: there its
        errors are so large that a few steps do not mend them.
    """
    present = {int(number) for burst in bursts for number in burst.numbers}
    strange = sorted(present - set(parent.config.elements))
    if strange:
        raise ConfigError(
            f"{parent.name} knows atomic numbers {sorted(parent.config.elements)}, but the data "
            f"holds {strange}: start from an operator that knows them"
        )
    if from_scratch:
        return
    card = parent.card
    if card.largest_molecule is not None:
        # Of another size than it is for, too: that is what a molecule's own data are to mend.
        return
    known = {identity(smiles) for smiles in card.smiles}
    for smiles in dict.fromkeys(burst.smiles for burst in bursts):
        # Names of imported molecules say nothing of stereochemistry.
        if identity(smiles) not in known:
            more = ", …" if len(card.smiles) > _NAMED else ""
            raise ConfigError(
                f"{parent.name} was not trained on {smiles} (its card lists "
                f"{', '.join(card.smiles[:_NAMED])}{more}): start from an operator for molecules "
                "in general, such as organic-wb97m"
            )


def read_data(
    data: Path,
    held_out: float | None = None,
    interval: float | None = None,
    theory: str | None = None,
) -> tuple[list[Burst], bool]:
    """Reference bursts from a file or folder of them, or from a trajectory of another program.

    A single burst is divided in time, see `training.importing.bursts.divide`.

    Parameters
    ----------
    data
        The file or folder.
    held_out
        Share to hold out, or number of bursts where there are several; by default a quarter.
    interval, theory
        As for `training.importing.bursts.import_trajectory`.

    Returns
    -------
    The bursts, and whether they are others than those in the file.

    Raises
    ------
    DataError
        If it cannot be read, or cannot be what it is said to be.
    ConfigError
        If the data are divided already, or in time, and ``held_out`` is about something else.
    """
    if data.is_dir() or (data.is_file() and h5py.is_hdf5(data)):
        if interval is not None or theory is not None:
            raise ConfigError("--interval and --theory are for trajectories of other programs")
        bursts = read_bursts(data)
        if held_out is not None and all(burst.attrs.get("part") in PARTS for burst in bursts):
            raise ConfigError(
                f"{data} was divided when it was made, and --held-out {held_out:g} would change "
                "nothing: give it to ase-atom import"
            )
        if len(bursts) > 1:
            return bursts, False
        return divide(bursts[0], _share_of_time(data, held_out)), True
    share = _share_of_time(data, held_out)
    bursts = import_all([data], data.stem, held_out=share, interval=interval, theory=theory)
    print(described(bursts))
    return bursts, True


def _share_of_time(data: Path, held_out: float | None) -> float:
    if held_out is not None and held_out >= 1:
        raise ConfigError(
            f"--held-out {held_out:g} is a number of runs, and {data} holds one, which is divided "
            "in time: give a share below 1"
        )
    return DEFAULT_SHARE if held_out is None else held_out


def time_per_step(config: TrainingConfig, folder: RunFolder) -> float:
    """Seconds that one step takes, forward, backward and optimiser."""
    if config.trainer.threads:
        set_threads(config.trainer.threads)
    reference = load_reference(config, folder)
    operator = make_operator(config, reference.part("train"))
    module = make_module(config, reference, operator)
    optimiser = module.configure_optimizers()["optimizer"]
    times = []
    for step in range(6):
        begun = time.perf_counter()
        optimiser.zero_grad()
        module.loss_of_step(step)["loss"].backward()
        optimiser.step()
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[2]


def _keep(path: Path, bursts: Sequence[Burst], resumed: bool) -> None:
    """Write the bursts to learn from, or see that they are those that a run began with."""
    if not resumed:
        write_bursts(path, bursts)
        return
    there = {burst.key: burst.checksum() for burst in read_bursts(path)}
    if there != {burst.key: burst.checksum() for burst in bursts}:
        raise ConfigError(
            f"{path.parent} holds a run on other data: give another --output, or --overwrite"
        )


def _harvested(path: Path, parent: Operator, bursts: Sequence[Burst]) -> list[Burst]:
    """Geometries for the potential beside the paths.

    Raises
    ------
    ConfigError
        If the operator has no potential, or they are of other molecules.
    DataError
        If they cannot be read.
    """
    if not parent.has_energy:
        raise ConfigError(f"--harvest is for operators with an energy head, not for {parent.name}")
    found = read_harvest(path, bursts[0].molecule)
    # Names of imported molecules say nothing of stereochemistry.
    known = {identity(burst.smiles): burst for burst in bursts}
    for burst in found:
        path_of_it = known.get(identity(burst.smiles))
        if path_of_it is None:
            of = ", ".join(each.smiles for each in known.values())
            raise ConfigError(f"{path} is of {burst.smiles}, and the trajectory of {of}")
        apart = float(np.median(burst.energies) - np.median(path_of_it.energies))
        if abs(apart) > MOST_APART * len(burst.numbers):
            raise ConfigError(
                f"energies of {path} are {apart:+.1f} eV beside those of the trajectory: they are "
                "of another level of theory"
            )
        burst.smiles = path_of_it.smiles
    print(f"{sum(len(burst.energies) for burst in found)} geometries of {path} for the potential")
    return found


@app.command()
def run(
    checkpoint: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    data: Annotated[Path, typer.Argument(help="Reference bursts, or an ab initio trajectory.")],
    output: Annotated[
        Path | None, typer.Option(help="File of the new operator; default: NAME.safetensors.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the new operator; default: the output's, or the data's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps; default: 1500.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Minutes to train, in place of --steps.")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Share of the bursts to measure errors on, at least one of them, or a count; of "
            "a single run, a share of its time; default: 0.25.",
        ),
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(help="Learn from so many fs only, for a learning curve; same held-out data."),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Random weights: what the data alone teach.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(help="Time between frames of a trajectory in fs, if it has none."),
    ] = None,
    theory: Annotated[
        str | None, typer.Option(help="Level of theory of a trajectory, for the operator's card.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Factor on the learning rates.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the division and of what is drawn.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: PyTorch's choice.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Some minutes at the start, then faster steps.")
    ] = False,
    harvest: Annotated[
        Path | None,
        typer.Option(
            help="More energies and forces of the molecule at the same level of theory, of "
            "geometries that are no path, as ase-atom sample --harvest keeps them."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the operator and its run, if there.")
    ] = False,
) -> None:
    """Fine-tune an operator on a few picoseconds of one molecule at another level of theory."""
    if steps is not None and budget is not None:
        raise ConfigError("give --steps or --budget, not both")
    if held_out == 0:
        raise ConfigError("--held-out takes a share or a count above 0: nothing else is measured")
    if budget is not None and not 0 < budget < math.inf:
        raise ConfigError(f"--budget takes minutes above 0, not {budget:g}")
    if not 0 < rate < math.inf:
        raise ConfigError(f"--rate takes a factor above 0, not {rate:g}")
    parent = load_operator(checkpoint)
    data = find_data(data)
    name = name or (
        output.stem if output else data.absolute().stem + ("-scratch" if from_scratch else "")
    )
    output = output or Path(f"{name}{SUFFIX}")
    if output.suffix != SUFFIX:
        raise ConfigError(f"an operator's file ends in {SUFFIX}: {output} does not")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: give another --output, or --overwrite")
    folder = RunFolder(output.with_name(f"{output.stem}.run"))
    bursts, imported = read_data(data, held_out, interval, theory)
    check_parent(parent, bursts, from_scratch)
    geometries = [] if harvest is None else _harvested(harvest, parent, bursts)
    held_out = DEFAULT_SHARE if held_out is None else held_out
    if held_out < 1 and held_out * len(bursts) < 1:
        held_out = 1.0
    if length is not None:
        bursts, imported = shortened(bursts, length, held_out, seed), True
    if imported:
        data = folder.path / "data.h5"

    def settings(steps: int) -> TrainingConfig:
        return make_config(
            parent,
            checkpoint,
            data,
            name,
            steps=steps,
            held_out=held_out,
            from_scratch=from_scratch,
            seed=seed,
            rate=rate,
            threads=threads,
            compiled=compiled,
            displaced=folder.path / "harvest.h5" if geometries else None,
        )

    # Settings are checked before anything is written.
    settings(steps or 1500)
    resumed = folder.started and not overwrite
    if imported:
        _keep(data, bursts, resumed)
    if geometries:
        _keep(folder.path / "harvest.h5", geometries, resumed)
    if steps is None:
        steps = 1500
        if budget is not None and resumed:
            # What is measured differs from time to time, and the rate falls to zero over the steps.
            steps = folder.settings().trainer.steps
        elif budget is not None:
            each = time_per_step(settings(steps), folder)
            steps = max(10, round(60 * budget / each))
            print(f"{1000 * each:.0f} ms a step: {steps} steps in {budget:g} minutes")
    config = settings(steps)
    reference = load_reference(config, folder)
    taught, held = reference.part("train"), reference.part("validation")
    length = sum((len(burst.energies) - 1) * burst.interval for burst in taught) / 1000
    print(f"{len(taught)} bursts to learn from ({length:g} ps), {len(held)} held out")
    rows = {}
    if parent.has_energy:
        refit_energies(parent, taught)
    rows[f"before: {parent.name}"] = held_out_errors(parent, held)
    print(table(rows), flush=True)
    command = f"python -m training.finetune {shlex.join(sys.argv[1:])}"
    path = train(config, folder.path, command=command, restart=overwrite)
    path.replace(output)
    rows[f"after: {name}"] = held_out_errors(load_operator(output), held)
    print(table(rows))
    if calibrate_file(output, held, command) is None:
        print("too little is held out to calibrate it: runs will not say what error to expect")
    print(f"operator: {output}")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    code = run_command(
        app,
        "python -m training.finetune",
        stopped="the same command goes on from the last checkpoint",
        codes={MisconfigurationException: BAD_INPUT},
        reword=_reworded,
    )
    sys.exit(code)


def _reworded(message: str) -> str:
    """Advice of the training underneath, by this command's own options."""
    rate = "lower optimiser.lr, lengthen optimiser.warmup or clip harder"
    return message.replace("--restart", "--overwrite").replace(rate, "lower --rate")


if __name__ == "__main__":
    main()
