"""The command line: ``ase-atom run`` and its neighbours.

Nothing heavy is imported here, so that ``ase-atom --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from ase_atom.cli.compare import compare
from ase_atom.cli.convert import convert
from ase_atom.cli.estimate import estimate
from ase_atom.cli.operators import operators
from ase_atom.cli.run import run
from ase_atom.cli.sample import sample
from ase_atom.cli.spectrum import spectrum
from ase_atom.cli.workshop import HANDED_ON, finetune, import_, leap_train
from ase_atom.commandline import run_command
from ase_atom.errors import BrokenStateError

BROKEN = 3

app = typer.Typer(
    name="ase-atom",
    help="Molecular dynamics by jumps of a trained neural operator.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(operators)
app.command()(convert)
app.command()(compare)
app.command()(spectrum)
app.command()(sample)
app.command()(estimate)
app.command(context_settings=HANDED_ON)(finetune)
app.command("leap-train", context_settings=HANDED_ON)(leap_train)
app.command("import", context_settings=HANDED_ON)(import_)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        from ase_atom import __version__

        typer.echo(f"ase-atom {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    0 if all went well, 2 for a bad input or a file that cannot be read or written, 3 for a
    simulation that broke, 4 for one whose mean temperature is not its thermostat's, 130 or 143 if
    interrupted; but for the first with one line on standard error.
    """
    return run_command(
        app, "ase-atom", arguments, name="ase-atom", codes={BrokenStateError: BROKEN}
    )
