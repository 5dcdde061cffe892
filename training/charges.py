"""Teach an operator atomic charges: ``python -m training.charges OPERATOR DATA``.

Its weights stay as they are. A network that begins with some of them finds the charges, so that
dipoles and infrared spectra need no calculator.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.units import Debye

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import load_operator, save_operator
from ase_atom.operator.atomic_charges import AtomicCharges, ChargesCard
from ase_atom.operator.torch_settings import set_threads

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

TABLE = "training/data/general.csv"


@app.command()
def run(
    operator: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    data: Annotated[
        list[Path],
        typer.Argument(help="Bursts with atomic charges, also of the data folder."),
    ],
    table: Annotated[
        str, typer.Option(help="CSV with the columns smiles, set and part; test is never learned.")
    ] = TABLE,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    part: Annotated[
        str | None,
        typer.Option(help="Measure the charges that it has on this part of the table, and stop."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Operator file to write.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the operator's file.")] = False,
) -> None:
    """Train atomic charges on the part train of the table, and measure them on validation."""
    from ase_atom.io.bursts import fingerprint_of
    from training.curation.scaffolds import identity
    from training.data.export import find_data
    from training.data.store import iterate_collection
    from training.data.tables import read_partition
    from training.learning.charges import ChargesConfig, measure_charges, train_charges
    from training.learning.destination import destination

    set_threads(1)
    written = destination(operator, output, write) if part is None else None
    if part is not None and (output is not None or write):
        raise ConfigError("--part measures, and writes nothing: leave --output and --write out")
    model = load_operator(operator)
    parts = read_partition(table)
    bursts = [burst for folder in data for burst in iterate_collection(find_data(folder))]
    divided: dict[str, list] = {"train": [], "validation": [], "test": []}
    for burst in bursts:
        divided[parts.get(identity(burst.smiles), "train")].append(burst)
    if part is not None:
        if not divided.get(part):
            raise ConfigError(f"--part {part}: none of the {len(bursts)} bursts is of that part")
        print(_as_markdown(measure_charges(model, divided[part]), _sets(table)))
        return
    config = ChargesConfig(steps=steps, seed=seed)
    taught = divided["train"]
    if not taught:
        raise ConfigError(f"none of the {len(bursts)} bursts is of a compound in training")
    network = train_charges(model, taught, config, lambda step, loss: print(f"{step} {loss:.3f}"))
    card = ChargesCard(
        reference="; ".join(
            sorted({str(burst.attrs.get("theory", "unknown")) for burst in taught})
        ),
        compounds=len({burst.smiles for burst in taught}),
        training_command=f"python -m training.charges {shlex.join(sys.argv[1:])}",
        training_config=config.model_dump(mode="json"),
        data_fingerprint=fingerprint_of((burst.key, burst.checksum()) for burst in taught),
    )
    model.atomic_charges = AtomicCharges(model, network, card)
    if divided["validation"]:
        print(_as_markdown(measure_charges(model, divided["validation"]), _sets(table)))
    assert written is not None
    print(f"written to {save_operator(model, written)}")


def _sets(table: str) -> dict[str, str]:
    """Set of each compound by its identity."""
    import csv

    from training.curation.scaffolds import identity
    from training.data.tables import find_table

    with find_table(table).open(newline="") as stream:
        return {identity(row["smiles"]): row.get("set") or "" for row in csv.DictReader(stream)}


def _as_markdown(errors: dict, sets: dict[str, str]) -> str:
    """Medians by set."""
    from training.curation.scaffolds import identity

    lines = [
        "| set | compounds | charges, e | dipole, D | its change |",
        "|---|---|---|---|---|",
    ]
    names = {smiles: sets.get(identity(smiles), "") for smiles in errors}
    for name in [*dict.fromkeys(names.values()), None]:
        own = [each for smiles, each in errors.items() if name is None or names[smiles] == name]
        charge, dipole, change = (
            float(np.median([getattr(each, key) for each in own]))
            for key in ("charge", "dipole", "change")
        )
        lines.append(
            f"| {'all' if name is None else name} | {len(own)} | {charge:.3f} | "
            f"{dipole / Debye:.2f} | {change:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.charges"))


if __name__ == "__main__":
    main()
