"""Calibrate an operator's error estimate: ``python -m training.calibrate OPERATOR --fit DATA``.

Errors of jumps on reference bursts, beside what the round trips of these jumps miss. The line that
joins them goes onto the operator's card, and by it every run says what error to expect.
"""

from __future__ import annotations

import csv
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, load_operator, save_operator
from ase_atom.operator.checkpoint import find_operator
from ase_atom.operator.torch_settings import set_threads
from training.data.export import find_data
from training.evaluate import parse_lags

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TABLE = Path("training/data/trust.csv")


@app.command()
def run(
    operator: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    fit: Annotated[
        list[Path] | None,
        typer.Option(help="Bursts to fit on; without, the card's calibration is tried."),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Bursts of other molecules to try it on.")
    ] = None,
    table: Annotated[
        Path, typer.Option(help="CSV with the columns smiles, name and set, for the report.")
    ] = TABLE,
    part: Annotated[
        str | None,
        typer.Option(help="Of the bursts, only those of the table's compounds of this part."),
    ] = None,
    strides: Annotated[str, typer.Option(help="fs, with commas.")] = "4,8,16,32,64",
    starts: Annotated[int, typer.Option(min=1, help="Starts in each burst.")] = 4,
    parts: Annotated[
        bool, typer.Option("--held-out", help="Of the bursts, only those held out by the card.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Put the calibration onto the operator's card.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for the report's figure.")] = None,
) -> None:
    """Fit what a round trip says of a jump's error, and try it on molecules left out."""
    from training.auditing import reliability, trust
    from training.auditing.compounds import read_part
    from training.curation.scaffolds import identity
    from training.data.store import Burst, iterate_collection

    set_threads(1)
    if write and not fit:
        raise ConfigError("--write is for a new calibration: give bursts to --fit")
    if not (fit or test):
        raise ConfigError("nothing to do: give bursts to --fit, to --test, or both")
    model = load_operator(operator, "auto")
    lengths = [float(each) for each in parse_lags(strides)]
    card = model.card
    assert card is not None
    held_out = {*card.split.get("validation", ()), *card.split.get("test", ())}
    chosen = None if part is None else {identity(each) for each in read_part(table, part).names}

    def is_wanted(burst: Burst) -> bool:
        if parts and burst.key not in held_out:
            return False
        return chosen is None or identity(burst.smiles) in chosen

    def windows(folders: list[Path]) -> trust.Windows:
        bursts = [
            burst
            for folder in folders
            for burst in iterate_collection(find_data(folder))
            if is_wanted(burst)
        ]
        return trust.measure(model, bursts, lengths, starts)

    command = f"python -m training.calibrate {shlex.join(sys.argv[1:])}"
    calibration = card.calibration
    if fit:
        fitted = windows(fit)
        calibration = trust.fit(fitted, trust.known_to(card, fitted.molecules), command)
        print(reliability.described(calibration))
        print(reliability.judge(calibration, fitted, _names(table)).verdicts())
    if calibration is None:
        raise ConfigError(f"{card.name} has no calibration yet: give bursts to --fit")
    if test:
        found = reliability.judge(calibration, windows(test), _names(table))
        print(found.as_markdown())
        if output is not None:
            print(f"figure  {found.draw(output)}")
    if write:
        path = find_operator(operator)
        weights = load_operator(path)
        assert isinstance(weights, Operator)
        assert weights.card is not None
        weights.card = weights.card.model_copy(update={"calibration": calibration})
        save_operator(weights, path)
        print(f"written to {path}")


def _names(table: Path) -> dict[str, tuple[str, str]]:
    """Name and set by SMILES; none where there is no such table."""
    if not table.exists():
        return {}
    with table.open(newline="") as stream:
        return {row["smiles"]: (row["name"], row["set"]) for row in csv.DictReader(stream)}


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.calibrate"))


if __name__ == "__main__":
    main()
