"""Benchmarks of operators and their peers: ``python -m training.benchmark``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer import TyperException

from ase_atom.errors import AtomError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def benchmark() -> None:
    """Published tasks, peers and trivial predictors in one harness."""


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
    from training.benchmarks.thermostatted import make_generated

    make_generated(molecule or (), frames, suite, seed, data, typer.echo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, with one line for any mistake."""
    try:
        result = app(
            args=None if arguments is None else list(arguments),
            prog_name="python -m training.benchmark",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else 0
    except AtomError as error:
        return _complain(str(error), 2)
    except TyperException as error:
        return _complain(f"{error.format_message()} (see --help)", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted; the same command goes on", 130)


def _complain(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
