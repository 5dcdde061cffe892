"""Give an operator its teacher's own potential: ``python -m training.potential OPERATOR``.

Energies, forces, atomic charges and dipoles are then the teacher's, to rounding; paths stay the
operator's.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.operator import Operator, load_operator, save_operator
from ase_atom.operator.atomic_charges import PotentialCharges
from ase_atom.operator.potential import Potential, PotentialCard
from ase_atom.operator.spectral.model import SpectralOperator
from ase_atom.operator.torch_settings import set_threads
from training.data.molecules import Molecule

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

LICENCE = "MIT, copyright 2024 Isayev Lab, Carnegie Mellon"
LARGEST_ERRORS = 0.05, 1e-3, 1e-4
"""eV, eV/Å and e. What rounding in single precision may come to."""


@app.command()
def run(
    operator: Annotated[
        str, typer.Argument(help="Name of a shipped operator, or a .safetensors file.")
    ],
    path: Annotated[
        str | None,
        typer.Option(help="AIMNet2's file. [default: as python -m training.generate finds it]"),
    ] = None,
    table: Annotated[
        Path, typer.Option(help="CSV of compounds on which both are compared: part validation.")
    ] = Path("training/data/general.csv"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Operator file to write.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the operator's file.")] = False,
) -> None:
    """Put the first member of AIMNet2 beside an operator, once it is compared with its file."""
    from training.engines.aimnet2 import load_ensemble
    from training.engines.factory import get_engine
    from training.generation.presets import read_compounds
    from training.learning.destination import destination
    from training.learning.teacher import compare, network_of

    set_threads(1)
    written = destination(operator, output, write)
    model = load_operator(operator)
    if not isinstance(model, SpectralOperator):
        raise ConfigError(
            f"{model.name} is {model.config.architecture}: only spectral operators have a potential"
        )
    place = {} if path is None else {"path": path}
    engine, ensemble = get_engine("aimnet2", json.dumps(place)), load_ensemble(**place)
    unknown = sorted(set(model.config.elements) - set(ensemble.elements))
    if unknown:
        raise ConfigError(f"{ensemble.theory} knows nothing of atomic numbers {unknown}")
    command = f"python -m training.potential {shlex.join(sys.argv[1:])}"
    card = PotentialCard(reference=ensemble.theory, licence=LICENCE, command=command)
    model.potential = Potential(network_of(ensemble.members[0], model.config.elements), card)
    model.has_energy, model.atomic_charges = True, PotentialCharges(model)
    molecules = [
        molecule
        for molecule in read_compounds([table], _refused, {"part": "validation"}, engine)
        if _known(model, molecule)
    ]
    if not molecules:
        raise ConfigError(f"{table}: {model.name} knows no compound of part validation")
    found = compare(model, ensemble, molecules)
    energy, force, charge = found
    print(
        f"{len(molecules)} compounds: energies differ by up to {1000 * energy:.1g} meV, forces by "
        f"{1000 * force:.1g} meV/Å, charges by {charge:.0e} e"
    )
    if any(off > largest for off, largest in zip(found, LARGEST_ERRORS, strict=True)):
        raise ConfigError(f"{ensemble.theory} is not of the form that this version computes")
    if model.card and model.card.calibration is not None:
        # One of its features is the change of the total energy, which is another one now.
        model.card = model.card.model_copy(update={"calibration": None})
        print("its expected error is no longer known: python -m training.calibrate measures it")
    print(f"written to {save_operator(model, written)}")


def _refused(name: str, why: str) -> None:
    print(f"{name}: {why}")


def _known(model: Operator, molecule: Molecule) -> bool:
    """Whether the operator knows a molecule's elements and charge."""
    elements = set(molecule.numbers().tolist())
    return elements <= set(model.config.elements) and molecule.charge in model.config.charges


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.potential"))


if __name__ == "__main__":
    main()
