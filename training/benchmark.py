"""Benchmarks of operators and their peers: ``python -m training.benchmark``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def benchmark() -> None:
    """Published tasks, peers and trivial predictors in one harness."""


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a YAML file.")],
    molecules: Annotated[
        str, typer.Option(help="Only these of the suite's molecules, with commas between.")
    ] = "",
    deltas: Annotated[str, typer.Option(help="Only these of its horizons Δ, in frames.")] = "",
    rows: Annotated[
        str, typer.Option(help="These rows in place of the suite's; none: only trivial.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="These seeds in place of the suite's.")] = "",
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Training minutes of each row.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Train by the published schedule instead.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="In place of the data folder, for trajectories and results."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="By default results/SUITE in the data folder.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    table_only: Annotated[
        bool, typer.Option("--table", help="Only write the tables of what is there.")
    ] = False,
) -> None:
    """Train and score what is missing of a suite; a killed suite goes on where it was.

    Trivial rows come first, and both splits always. Tables are written after every result.
    """
    from training.benchmarks.commands import run_suites

    run_suites(
        suite,
        {"molecules": molecules, "deltas": deltas, "rows": rows, "seeds": seeds},
        minutes=minutes,
        published=published,
        data=data,
        output=output,
        device=device,
        threads=threads,
        table_only=table_only,
    )


@app.command()
def figure(
    suite: Annotated[str, typer.Argument(help="Name of a suite with several horizons.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image, such as x.png.")],
    table: Annotated[
        Path | None, typer.Option(help="By default results/SUITE/table.json in the data folder.")
    ] = None,
) -> None:
    """Draw a suite's errors against the horizon, relative to the mean structure's."""
    from training.benchmarks.figures import draw_horizons
    from training.data.store import data_folder

    draw_horizons(table or data_folder() / "results" / suite / "table.json", output)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Name of a suite, or a YAML file: folds.")],
    second: Annotated[str, typer.Argument(help="Of one with the same test starts: folds-runs.")],
    data: Annotated[
        Path | None, typer.Option(help="In place of the data folder, where results lie.")
    ] = None,
) -> None:
    """Lay rows of two suites beside each other that are one model on the same test starts."""
    from training.benchmarks.comparing import as_markdown, compare_suites
    from training.benchmarks.running import Options, output_folder
    from training.benchmarks.suites import load_suite

    suites = [load_suite(name) for name in (first, second)]
    roots = [output_folder(suite, Options(data=data)) for suite in suites]
    print(as_markdown(compare_suites(*suites, *roots)))


@app.command("download")
def fetch(
    layout: Annotated[str, typer.Argument(help="md17, rmd17, md22 or tg80.")],
    molecules: Annotated[list[str] | None, typer.Argument(help="Only these molecules.")] = None,
    data: Annotated[Path | None, typer.Option(help="In place of the data folder.")] = None,
) -> None:
    """Fetch public files and check them; without a network, say what to put where."""
    from training.benchmarks.sources import download

    download(layout, tuple(molecules or ()), data, typer.echo)


@app.command("make-md17like")
def make_md17like(
    molecule: Annotated[
        list[str] | None, typer.Argument(help="Molecules in turn; by default the eight of MD17.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each, 0.5 fs apart.")] = 200_000,
    suite: Annotated[
        str, typer.Option(help="Whose files to make: md17, rmd17 (frames shuffled) or md22 (1 fs).")
    ] = "md17",
    seed: Annotated[int, typer.Option(min=0, help="Root of all random numbers.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Folder; by default md17like in the data folder.")
    ] = None,
) -> None:
    """Generate trajectories under MD17's protocol with GFN2-xTB, in MD17's layout.

    500 K, frames 0.5 fs apart, one trajectory each, thermostatted by velocity rescaling; neither
    linear nor angular momentum. The same command resumes a run that was killed.
    """
    from training.benchmarks.md17like import make_generated

    make_generated(molecule or (), frames, suite, seed, data, typer.echo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, with one line for any mistake."""
    return run_command(
        app, "python -m training.benchmark", arguments, stopped="the same command goes on"
    )


if __name__ == "__main__":
    sys.exit(main())
