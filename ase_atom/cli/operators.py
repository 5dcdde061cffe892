"""``ase-atom operators``: what is shipped, and what it was trained for."""

from __future__ import annotations

import json

import typer


def operators(
    as_json: bool = typer.Option(False, "--json", help="Print all facts as JSON."),
) -> None:
    """List the operators in the package with the facts on their cards."""
    from ase_atom.operator import list_operators

    cards = list_operators()
    if as_json:
        typer.echo(json.dumps([card.model_dump(mode="json") for card in cards], indent=2))
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
            ("reference", card.level_of_theory),
            ("trained by", card.training_command),
            ("data", f"sha256 {card.data_fingerprint}"),
            ("notes", card.notes),
        ):
            if value:
                table.add_row(name, value)
        console.print(table)
