"""Mix an operator with the one that its training began with: ``python -m training.mix OLD NEW``.

What is learned last makes a network forget some of what it knew. The mean of the weights before and
after keeps more of both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_atom.commandline import run_command
from ase_atom.errors import ConfigError
from ase_atom.io.registry import check_free
from ase_atom.operator import Operator, load_operator, save_operator
from training.learning.config import differences, listed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def mixed(old: Operator, new: Operator, share: float) -> Operator:
    """Return the new operator with the weighted mean of both operators' weights.

    Its card is that of the new one, without the calibration, which is of other weights. Leaps and
    atomic charges of neither are kept.

    Parameters
    ----------
    old
        From whose weights the training of the other started.
    new
        Its weights are changed.
    share
        Of the new weights, above 0 up to 1.

    Raises
    ------
    ConfigError
        If the operators are of different architectures or levels of theory.
    """
    changed = differences(old.config.model_dump(), new.config.model_dump())
    if changed:
        raise ConfigError(f"the two are different operators ({listed(changed, 'operator.')})")
    assert old.card is not None
    assert new.card is not None
    if old.card.level_of_theory != new.card.level_of_theory:
        raise ConfigError(
            f"{old.card.name} is of {old.card.level_of_theory}, {new.card.name} of "
            f"{new.card.level_of_theory}: their energies do not mix"
        )
    before, after = old.state_dict(), new.state_dict()
    for name, value in after.items():
        if value.is_floating_point():
            after[name] = before[name].lerp(value, share)
    new.load_state_dict(after)
    new.card = new.card.model_copy(update={"calibration": None})
    new.leaps = new.atomic_charges = None
    return new


@app.command()
def run(
    old: Annotated[str, typer.Argument(help="Name or file of the operator begun with.")],
    new: Annotated[str, typer.Argument(help="Name or file of the one trained from it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Operator file to write.")],
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Of the new weights in the mean.")
    ] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write the operator with the mean of the weights."""
    check_free(output, overwrite)
    both = load_operator(old), load_operator(new)
    found = mixed(*both, share)
    assert found.card is not None
    command = f"python -m training.mix {shlex.join(sys.argv[1:])}"
    made = f"{found.card.training_command}; {command}"
    found.card = found.card.model_copy(update={"training_command": made})
    print(f"written to {save_operator(found, output)}")


def main() -> None:
    """Run the command; a mistake is one line and exit code 2."""
    sys.exit(run_command(app, "python -m training.mix"))


if __name__ == "__main__":
    main()
