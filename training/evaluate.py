"""Evaluate an operator: ``python -m training.evaluate CHECKPOINT DATA``.

Errors by lag beside trivial baselines, the energy head, harmonic frequencies and long rollouts,
on reference bursts that training did not see. Tables on the screen, JSON and figures in a folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError


class Split(StrEnum):
    """Which bursts to evaluate on."""

    test = "test"
    validation = "validation"
    all = "all"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    data: Annotated[
        list[Path],
        typer.Argument(help="Reference bursts: merged files or folders, also of the data folder."),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; default: evaluation/NAME.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report that is already there.")
    ] = False,
    split: Annotated[Split, typer.Option(help="Bursts to evaluate on.")] = Split.test,
    lags: Annotated[
        str | None,
        typer.Option(help="fs, with commas; default: 8,16,32,64 as far as horizon and data go."),
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Starts in each burst.")] = 16,
    stride: Annotated[
        float | None, typer.Option(help="Jump in fs; default: the operator's own.")
    ] = None,
    engine: Annotated[
        bool, typer.Option("--engine/--no-engine", help="Use the reference engine.")
    ] = True,
    rollouts: Annotated[
        bool, typer.Option("--rollouts/--no-rollouts", help="Run long rollouts.")
    ] = True,
    langevin: Annotated[float, typer.Option(help="Langevin dynamics in ps; 0 for none.")] = 100.0,
    nve: Annotated[float, typer.Option(help="Microcanonical dynamics in ps; 0 for none.")] = 20.0,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas of each rollout.")] = 64,
    temperature: Annotated[float, typer.Option(help="Of the rollouts, K.")] = 300.0,
    friction: Annotated[float, typer.Option(help="Of Langevin dynamics, 1/fs.")] = 0.01,
    uncorrected: Annotated[
        bool,
        typer.Option(
            "--uncorrected", help="Do not restore the operator's energy after jumps of rollouts."
        ),
    ] = False,
    reversible: Annotated[
        bool | None,
        typer.Option(
            "--reversible/--single-pass",
            help="Make jumps of rollouts reversible in time. Default: in NVE, and on average in "
            "Langevin dynamics.",
            show_default=False,
        ),
    ] = None,
    molecule: Annotated[
        str | None, typer.Option(help="SMILES to roll out, if the data hold several.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="The engine's own run: training.generate --ensemble langevin."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of starts and noise.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: PyTorch's choice.")
    ] = None,
) -> None:
    """Measure an operator against reference data and baselines.

    Ctrl-C during a rollout writes what there is. Exit codes: 0 done, 2 bad input, 130 interrupted.
    """
    # Torch and the rest take seconds to import: --help and a bad option answer at once.
    from training.evaluation.pipeline import Settings, run

    run(
        Settings(
            checkpoint=checkpoint,
            data=tuple(data),
            output=output,
            overwrite=overwrite,
            split=split.value,
            lags=None if lags is None else parse_lags(lags),
            starts=starts,
            stride=stride,
            engine=engine,
            langevin_ps=langevin if rollouts else 0.0,
            nve_ps=nve if rollouts else 0.0,
            replicas=replicas,
            temperature=temperature,
            friction=friction,
            energy_correction=not uncorrected,
            reversible=reversible,
            molecule=molecule,
            reference=reference,
            seed=seed,
            threads=threads,
        )
    )


def parse_lags(text: str) -> tuple[float, ...]:
    """Lags in fs from numbers with commas between, sorted.

    Raises
    ------
    ConfigError
        If one is no number above zero.
    """
    try:
        lags = sorted({float(part) for part in text.split(",")})
    except ValueError:
        lags = []
    if not lags or not 0 < lags[0] <= lags[-1] < float("inf"):
        raise ConfigError(f"--lags takes times in fs above 0, such as 8,16,32,64, not {text!r}")
    return tuple(lags)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, with one line for any mistake."""
    return run_command(app, "python -m training.evaluate", arguments)


if __name__ == "__main__":
    sys.exit(main())
