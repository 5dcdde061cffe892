"""Help texts fit on a terminal of 80 columns."""

from __future__ import annotations

import pytest

from ase_atom.cli import app


@pytest.mark.parametrize("command", [each.callback for each in app.registered_commands])
def test_examples_are_not_folded(command) -> None:
    for line in (command.__doc__ or "").splitlines():
        if line.startswith("      "):
            # Typer takes off the indentation of the text and puts a space before.
            assert len(line) - 3 <= 80, line
