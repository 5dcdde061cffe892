"""``ase-atom estimate``: how far an operator's jumps can be believed on a molecule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ase_atom.cli.options import check_positive
from ase_atom.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from ase_atom.operator import OperatorLike
    from ase_atom.propagation.fallback import Fallback, Stretch
    from ase_atom.state import PhaseState

STRIDES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""fs"""


def estimate(
    structures: list[Path] | None = typer.Argument(
        None, help="Structure files, anything that ASE reads.", show_default=False
    ),
    smiles: list[str] | None = typer.Option(None, help="A molecule as SMILES; may be repeated."),
    operator: str | None = typer.Option(
        None, help="Name or file of an operator.", show_default="the one for the molecule"
    ),
    temperature: float = typer.Option(300.0, help="K."),
    states: int = typer.Option(8, min=2, max=1000, help="Thermal states to look at."),
    against: str | None = typer.Option(
        None,
        help="Measure the errors too, against gfn2, gfn1, pyscf:FUNCTIONAL/BASIS, or an ASE "
        "calculator as MODULE:CLASS.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the numbers as JSON."),
) -> None:
    """Print the expected error of jumps, without a reference: from their round trips.

    The error is the RMS error of positions at a jump's end over their RMS displacement. Nine jumps
    in ten err less than the bound. The last column is what is expected of molecules that the
    operator was trained on: compare the molecule's own with it.
    """
    from ase_atom.cli.report import print_table

    check_positive("--temperature", temperature, "K")
    sources: list[Path | str] = [*(structures or ()), *(smiles or ())]
    if not sources:
        raise ConfigError("a structure file or --smiles is missing: ase-atom estimate MOLECULE")
    found = [_of(source, operator, temperature, states, against) for source in sources]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    heading = ["molecule", "stride", "expected", "bound", "of trained molecules"]
    lines = [(*heading, f"against {against}") if against else tuple(heading)]
    for one in found:
        for row in one["strides"]:
            low, high = row["trained_molecules"]
            line = [
                one["molecule"],
                f"{row['stride_fs']:g} fs",
                f"{row['expected']:.3f}",
                f"{row['bound']:.3f}",
                f"{low:.3f} to {high:.3f}",
            ]
            lines.append((*line, f"{row['measured']:.3f}") if against else tuple(line))
    print_table(lines)


def _of(
    source: Path | str, name: str | None, temperature: float, states: int, against: str | None
) -> dict[str, Any]:
    """Return the numbers of one molecule."""
    from ase_atom.ase.conformer import from_smiles
    from ase_atom.ase.relaxation import relax
    from ase_atom.io import read_structure
    from ase_atom.molecules.catalogue import operator_for
    from ase_atom.propagation import expect
    from ase_atom.state import PhaseState

    atoms = from_smiles(source) if isinstance(source, str) else read_structure(source)
    atoms.set_constraint()
    model = operator_for(atoms, name, engine="auto")
    if isinstance(source, str):
        relax(atoms, model)
    card = model.card
    if card is None or card.calibration is None:
        which = "it" if card is None else card.name
        raise ConfigError(f"{which} was never calibrated and does not know its error")
    state = PhaseState.from_atoms([atoms])
    rows = []
    for stride in STRIDES:
        if stride > model.horizon:
            break
        (one,) = expect(model, state, stride, temperature, states)
        row: dict[str, Any] = {
            "stride_fs": stride,
            "expected": one.error,
            "bound": one.error * card.calibration.margin,
            "trained_molecules": one.usual,
        }
        if against is not None:
            row["measured"] = _measured(model, state, stride, temperature, states, against)
        rows.append(row)
    return {
        "molecule": source if isinstance(source, str) else source.name,
        "operator": card.name,
        "temperature_K": temperature,
        "states": states,
        "strides": rows,
    }


def _measured(
    model: OperatorLike,
    state: PhaseState,
    stride: float,
    temperature: float,
    states: int,
    against: str,
) -> float:
    """RMS error of jumps against velocity Verlet with a calculator, from thermal states."""
    import torch

    from ase_atom.analysis.reference_engines import make_calculator
    from ase_atom.propagation import Fallback, jump, sample_velocities

    reference = Fallback(make_calculator(against, "--against"), against)
    draw = torch.Generator().manual_seed(0)
    start = sample_velocities(state.repeat(states), temperature, draw)
    times = torch.tensor([stride], dtype=torch.float64)
    # A jump away from the structure, where velocities are drawn anew.
    away = _path(reference, start, torch.tensor([16.0], dtype=torch.float64))
    start = start.replace(positions=away.positions[:, 0], velocities=away.velocities[:, 0])
    start = sample_velocities(start, temperature, draw)
    true = _path(reference, start, times).positions
    found, _ = jump(model, start, times)
    missed = (found - true).square().sum()
    went = (true - start.positions[:, None]).square().sum()
    return float((missed / went).sqrt())


def _path(reference: Fallback, start: PhaseState, times: Tensor) -> Stretch:
    """All of a path by forces; what the calculator could not do is an error."""
    stretch = reference.path(start, times)
    if stretch.failure is not None:
        raise stretch.failure
    return stretch
