"""Audit an operator's transfer: ``python -m training.audit OPERATOR DATA...``.

Errors on compounds that it was not trained on, beside how near these are to its training set: one
page of tables and figures.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import load_operator
from ase_atom.operator.torch_settings import set_threads
from ase_atom.propagation import default_stride
from ase_atom.units import PS
from training.data.export import find_data
from training.evaluate import parse_lags

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def run(
    operator: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    data: Annotated[
        list[Path],
        typer.Argument(help="Reference bursts: files, folders or collections (tg80 tg80-plus)."),
    ],
    table: Annotated[Path, typer.Option(help="CSV of compounds: name, smiles, part.")] = Path(
        "training/data/tg80_split.csv"
    ),
    part: Annotated[str, typer.Option(help="Which of its compounds.")] = "test",
    lags: Annotated[str, typer.Option(help="fs, with commas.")] = "8,16,32",
    starts: Annotated[int, typer.Option(min=1, help="Starts in each burst.")] = 16,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="LABEL=PATH of an operator to compare with, or of a folder with one for each "
            "compound, COMPOUND.safetensors. Repeatable; one label several times for seeds of one."
        ),
    ] = None,
    langevin: Annotated[
        float, typer.Option(min=0, help="Also run so many ps of Langevin dynamics of each.")
    ] = 0.0,
    replicas: Annotated[int, typer.Option(min=1, help="Of each compound in that.")] = 16,
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="K. Go on until each temperature has at most this standard error.",
        ),
    ] = None,
    longest: Annotated[
        float | None,
        typer.Option(help="ps, at which that ends. [default: ten times --langevin]"),
    ] = None,
    temperature: Annotated[float, typer.Option(min=1, help="K, of that.")] = 300.0,
    stride: Annotated[
        float | None, typer.Option(help="fs, of its jumps. [default: the operator's]")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Thermostatted reference runs of the compounds, for mean bond lengths."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; default: audit/NAME.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: PyTorch's choice.")
    ] = None,
) -> None:
    """Measure an operator on molecules that it has not seen, and on how like its own they are."""
    # Matplotlib and RDKit take seconds to import: a bad option answers at once.
    from training.auditing.page import as_markdown, write_page
    from training.auditing.report import Long, audit
    from training.evaluation.rollouts import Plan

    if threads:
        set_threads(threads)
    others = _others(also or ())
    model = load_operator(operator)
    output = output or Path("audit") / model.name
    _check_output(output)
    if reference and not langevin:
        raise ConfigError("--reference is for --langevin: say how many ps to run")
    stride = default_stride(model) if stride is None else stride
    if not 0 < stride <= model.horizon:
        raise ConfigError(f"--stride must lie in (0, {model.horizon:g}] fs, not {stride:g}")
    longest = _longest(langevin, precision, longest)
    long = None
    if langevin:
        plan = Plan(langevin * PS, stride, temperature, precision=precision, longest=longest * PS)
        long = Long(plan, replicas, output, [find_data(path) for path in reference or ()])
    found = audit(
        model,
        [find_data(path) for path in data],
        table,
        part=part,
        lags=parse_lags(lags),
        starts=starts,
        others=others,
        long=long,
        command=f"python -m training.audit {shlex.join(sys.argv[1:])}",
        say=print,
    )
    write_page(found, output)
    print(as_markdown(found))
    print(f"written to {output}")


def _longest(langevin: float, precision: float | None, longest: float | None) -> float:
    """When a run that goes on ends, ps."""
    if precision is not None and not langevin:
        raise ConfigError("--precision is for --langevin: say how many ps to run at least")
    if longest is None:
        return 10 * langevin if precision else langevin
    if precision is None:
        raise ConfigError("--longest is for --precision: say to which standard error, in K")
    if not longest >= langevin:
        raise ConfigError(
            f"--longest must be at least --langevin, {langevin:g} ps, not {longest:g}"
        )
    return longest


def _others(words: Sequence[str]) -> dict[str, list[Path]]:
    """Operators to compare with, by label, from ``LABEL=PATH``."""
    others: dict[str, list[Path]] = {}
    for word in words:
        label, equals, path = word.partition("=")
        if not equals or not label or not Path(path).exists():
            raise ConfigError(f"--also takes LABEL=PATH of an operator or a folder, not {word!r}")
        others.setdefault(label, []).append(Path(path))
    return others


def _check_output(output: Path) -> None:
    there = next(path for path in (output, *output.parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{there} is a file: --output takes a folder")
    if (output / "audit.md").exists():
        raise ConfigError(f"{output} holds an audit: give another --output, or remove it")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    stopped = "the same command keeps the long runs that are done"
    sys.exit(run_command(app, "python -m training.audit", stopped=stopped))


if __name__ == "__main__":
    main()
