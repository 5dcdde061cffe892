"""What error to expect of the jumps of ``ase-atom run``, said before it starts."""

from __future__ import annotations

import torch

from ase_atom.cli.messages import Note
from ase_atom.cli.request import RunRequest
from ase_atom.cli.start import Plan
from ase_atom.cli.structures import Molecule, Molecules
from ase_atom.errors import TrustError
from ase_atom.molecules.coverage import as_covered
from ase_atom.propagation import Thermostat, expect
from ase_atom.propagation.expectation import refuse_hopeless, temperature_of
from ase_atom.state import PhaseState

_ADVICE = "--accept-error goes on, --fallback CALCULATOR moves it with forces where jumps err"


def look_at_errors(request: RunRequest, plan: Plan, molecules: Molecules) -> list[Note]:
    """Find out what to expect of each molecule, and leave out those that are out of depth.

    Parameters
    ----------
    request
        The command's options.
    plan
        How the molecules move.
    molecules
        Those that are refused go from ``good`` to ``left_out``.

    Returns
    -------
    Lines to say before the run; none for an operator that was never calibrated.

    Raises
    ------
    TrustError
        If none stays, or one goes and that is to stop all.
    ConfigError
        If strides cannot be divided as asked.
    """
    state = PhaseState.from_atoms([each.atoms for each in molecules.good])
    if request.force and plan.operator.card:
        state = as_covered(state, plan.operator.card)
    if (adaptive := request.adaptive()) is not None:
        adaptive.check(plan.operator, plan.ensemble, state)
    found = []
    for row in range(state.batch_size):
        one = state.select(torch.tensor([row]))
        kelvin = request.kelvin
        if not isinstance(plan.ensemble, Thermostat):
            kelvin = temperature_of(plan.ensemble, one, request.kelvin)
        found += expect(plan.operator, one, plan.usual, kelvin)
    if not found:
        return []
    several = len(request.names) > 1
    stays: list[Molecule] = []
    notes: list[Note] = []
    last: TrustError | None = None
    covered = request.accept_error or request.fallback is not None
    for molecule, each in zip(list(molecules.good), found, strict=True):
        who = molecule.name
        try:
            if not covered:
                refuse_hopeless(each, molecule.atoms.get_chemical_formula(), _ADVICE)
        except TrustError as error:
            if not several or request.stop_on_error:
                raise
            notes.append(Note(f"{molecule.name}: {error}; it is left out", is_warning=True))
            molecules.left_out[molecule.place] = molecule.name
            last = error
            continue
        stays.append(molecule)
        notes.append(Note(f"{who}: {each}" if several else str(each), each.is_doubtful))
    if last is not None and not stays:
        raise last
    molecules.good[:] = stays
    return notes
