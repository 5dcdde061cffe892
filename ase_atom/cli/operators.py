"""``ase-atom operators``: what is shipped, and what it was trained for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ase_atom.operator.atomic_charges import ChargesCard
    from ase_atom.operator.leap import LeapCard
    from ase_atom.operator.potential import PotentialCard


def operators(
    as_json: bool = typer.Option(False, "--json", help="Print all facts as JSON."),
) -> None:
    """List the operators in the package with the facts on their cards."""
    from ase_atom.operator import list_operators
    from ase_atom.operator.checkpoint import find_operator, read_part_cards

    cards = list_operators()
    beside = {card.name: read_part_cards(find_operator(card.name)) for card in cards}
    if as_json:
        facts = [
            card.model_dump(mode="json")
            | {kind: _plain(found) for kind, found in beside[card.name]._asdict().items()}
            for card in cards
        ]
        typer.echo(json.dumps(facts, indent=2))
        return
    if not cards:
        typer.echo("no operator is shipped with this package")
        return

    from ase.data import chemical_symbols
    from rich.console import Console
    from rich.table import Table

    from ase_atom.units import format_charge

    console = Console()
    for card in cards:
        parts = beside[card.name]
        table = Table(title=card.name, title_justify="left", show_header=False, box=None)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        low, high = card.temperature_range_K
        masses = ", ".join(
            f"{chemical_symbols[z]} {card.masses[z]:g}" for z in card.elements if z in card.masses
        )
        listed = ", ".join(card.smiles)
        if card.largest_molecule is not None:
            listed = (
                f"any of up to {card.largest_molecule} atoms; trained on {len(card.smiles)} "
                "(--json lists them)"
            )
        for name, value in (
            ("molecules", listed),
            ("charge", format_charge(card.charges)),
            ("masses", f"{masses} amu"),
            ("temperatures", f"{low:g} to {high:g} K"),
            ("horizon", f"{card.horizon_fs:g} fs"),
            ("stride", f"{card.stride_fs:g} fs recommended"),
            ("leaps", _leaps_in_words(parts.leaps)),
            ("charges and dipole", _charges_in_words(parts.atomic_charges)),
            ("potential", _potential_in_words(parts.potential)),
            ("reference", card.level_of_theory),
            ("trained by", card.training_command),
            ("data", f"sha256 {card.data_fingerprint}"),
            ("notes", card.notes),
        ):
            if value:
                table.add_row(name, value)
        console.print(table)


def _plain(card: BaseModel | None) -> dict[str, Any] | None:
    return None if card is None else card.model_dump(mode="json")


def _potential_in_words(card: PotentialCard | None) -> str:
    """Whose potential an operator has; nothing of none."""
    if card is None:
        return ""
    source = f", fine-tuned from {card.source}" if card.source else ""
    return f"{card.reference}{source} ({card.licence})"


def _charges_in_words(card: ChargesCard | None) -> str:
    """Where atomic charges come from; nothing of none."""
    return "" if card is None else f"of {card.reference}, learned from {card.compounds} compounds"


def _leaps_in_words(card: LeapCard | None) -> str:
    """Lags, temperatures, friction and molecules of leaps; nothing of none."""
    if card is None:
        return ""
    from ase_atom.units import PS, format_time

    (low, high), (cold, hot) = card.lags_fs, card.temperature_range_K
    whose = ", ".join(card.smiles)
    if card.largest_molecule is not None:
        size = f"any molecule of up to {card.largest_molecule} atoms"
        whose = f"{size} and charge {card.charges_in_words}"
    return (
        f"{format_time(low)} to {format_time(high)}, {cold:g} to {hot:g} K, friction "
        f"{card.friction * PS:g} per ps, {whose}"
    )
