"""Judge an operator's leaps: ``python -m training.leap.evaluate OPERATOR RUN.safetensors``.

RUN is a run of the teacher, which the operator's own Langevin dynamics are taken from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.analysis.reference_engines import make_calculator
from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator.torch_settings import set_threads
from ase_atom.units import PS, format_time
from training.leap import futures, samples
from training.leap.judge import Judge, load_leaping
from training.leap.teacher import TeacherRun, read_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    operator: Annotated[str, typer.Argument(help="Name or file of an operator with leaps.")],
    teacher: Annotated[Path, typer.Argument(help="Run of its teacher.")],
    starts: Annotated[int, typer.Option(min=8, help="Leaps of each test.")] = 1024,
    chain: Annotated[int, typer.Option(min=8, help="Leaps of the chain.")] = 100,
    replicas: Annotated[int, typer.Option(min=2, help="Of the chain.")] = 64,
    engine: Annotated[
        str | None,
        typer.Option(help="Also judge energies by it: gfn2, pyscf:FUNCTIONAL/BASIS, MODULE:CLASS."),
    ] = None,
    lags: Annotated[str, typer.Option(help="In ps.")] = "0.512,1.024,4.096,16",
    brief: Annotated[bool, typer.Option("--brief", help="Tests of single leaps alone.")] = False,
    only_chain: Annotated[bool, typer.Option("--only-chain", help="The chain alone.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print a table of what leaps are judged by."""
    set_threads(threads)
    found = load_leaping(operator)
    run = read_run(teacher)
    judge = Judge(found, run, starts, seed)
    calculator = None if engine is None else make_calculator(engine, "--engine")
    long = futures.chain(judge, 4000.0, chain, replicas)
    single = [samples.at(judge, frames, calculator) for frames in frames_of(lags, run)]
    more = [
        futures.baseline(judge),
        futures.diversity(judge, round(PS / run.interval)),
        futures.chapman_kolmogorov(judge, 1024.0),
        *(samples.orientation(judge, round(lag * PS / run.interval)) for lag in (0.512, 1.024)),
        long,
    ]
    tests = [long] if only_chain else single if brief else [*single, *more]
    for test in tests:
        for name, value in test:
            print(f"{name:44s}  {value}", flush=True)


def frames_of(lags: str, run: TeacherRun) -> list[int]:
    """Lags in ps as numbers of frames of a run.

    Raises
    ------
    ConfigError
        For what is no number, or no lag that the run has.
    """
    try:
        found = [round(float(lag) * PS / run.interval) for lag in lags.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lags {lags}: give numbers, such as 0.5,4") from error
    longest = run.positions.shape[1] - 1
    if not all(1 <= frames < longest for frames in found):
        raise ConfigError(f"--lags {lags}: the run is {format_time(run.duration)} long")
    return found


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.leap.evaluate"))


if __name__ == "__main__":
    main()
