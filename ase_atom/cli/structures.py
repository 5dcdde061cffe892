"""The molecules of ``ase-atom run``: read, checked, and the operator that moves them all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ase_atom.cli.messages import say_warning
from ase_atom.errors import AtomError, ConfigError, CoverageError, StateError, TrajectoryError

if TYPE_CHECKING:
    from ase import Atoms

    from ase_atom.cli.request import RunRequest
    from ase_atom.operator import OperatorLike
    from ase_atom.propagation import Label


@dataclass(frozen=True)
class Molecule:
    """One structure that is simulated.

    Parameters
    ----------
    place
        Its place among all structures of the command.
    name
        What it is called: its file's name, or the path where names are not distinct.
    atoms
        As the file holds it, without constraints.
    """

    place: int
    name: str
    atoms: Atoms


@dataclass
class Molecules:
    """The structures of a command.

    Attributes
    ----------
    operator
        Moves them all.
    good
        Those that can be simulated, in the order of the command.
    left_out
        Name of each that cannot, by its place in the command.
    """

    operator: OperatorLike
    good: list[Molecule]
    left_out: dict[int, str] = field(default_factory=dict)


def load_molecules(request: RunRequest) -> Molecules:
    """Read all structures and find the one operator for them.

    Of several, one that cannot be simulated is left out, unless the request stops on errors.

    Raises
    ------
    TrajectoryError, CoverageError, StateError
        If none can be simulated, or one cannot and that is to stop all.
    CheckpointError
        If there is no such operator.
    ConfigError
        If molecules have operators of their own, which are not one, or for a device that is not
        there.
    """
    from ase_atom.operator.engine.choice import check_engine

    check_engine(request.engine.value, request.device)
    names = request.names
    sources: list[Path | str] = [*request.structures, *request.smiles]
    operator: OperatorLike | None = None
    whose = ""
    good, left_out, errors = [], {}, []
    for place, (path, name) in enumerate(zip(sources, names, strict=True)):
        try:
            atoms, found = _load(path, request, operator if request.operator else None)
        except (TrajectoryError, CoverageError, StateError) as error:
            if len(names) == 1 or request.stop_on_error:
                raise _named(error, path, len(names)) from error
            left_out[place] = name
            errors.append(_named(error, path, len(names)))
            continue
        if operator is None:
            operator, whose = found, str(path)
        elif request.operator is None and _card_name(found) != _card_name(operator):
            raise ConfigError(
                f"{whose} is for {_card_name(operator)} and {path} for {_card_name(found)}: "
                "run them one by one, or name one operator with --operator"
            )
        good.append(Molecule(place, name, atoms))
    for refused in errors if operator else errors[:-1]:
        say_warning(f"{refused}; it is left out")
    if operator is None:
        raise errors[-1]
    return Molecules(operator, good, left_out)


def _card_name(operator: OperatorLike) -> str | None:
    return None if operator.card is None else operator.card.name


def _load(
    source: Path | str, request: RunRequest, operator: OperatorLike | None
) -> tuple[Atoms, OperatorLike]:
    from ase_atom.ase.conformer import from_smiles
    from ase_atom.io import read_structure
    from ase_atom.molecules.atoms import fixes_centre_of_mass
    from ase_atom.molecules.catalogue import operator_for
    from ase_atom.molecules.coverage import CoverageWarning

    atoms = from_smiles(source, request.seed) if isinstance(source, str) else read_structure(source)
    if fixes_centre_of_mass(atoms):
        atoms.set_momenta(atoms.get_momenta())  # the constraint takes the drift out
    atoms.set_constraint()  # a centre of mass at rest stays there
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        found = operator_for(
            atoms,
            request.operator if operator is None else operator,
            force=request.force,
            engine=request.engine.value,
            device=request.device,
        )
    for each in caught:
        if issubclass(each.category, CoverageWarning):
            say_warning(str(each.message))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    check_start(atoms)
    if isinstance(source, str):
        from ase_atom.ase.relaxation import relax

        # An operator whose jumps need a fallback does not know the molecule's minimum either.
        if not relax(atoms, found if request.fallback is None else request.calculator()):
            say_warning(f"{source}: the conformer is RDKit's, as no minimum near it was found")
    return atoms, found


def check_start(atoms: Atoms) -> None:
    """Check that a structure is a molecule's, as the guard has it.

    Raises
    ------
    StateError
        If two atoms are too close, or a number is not finite.
    """
    from ase_atom.propagation import Guard
    from ase_atom.state import PhaseState

    state = PhaseState.from_atoms(atoms)
    guard = Guard.watch(state, [label_of("the molecule", atoms)])
    if int(guard.first_broken(state.positions[:, None], state.velocities[:, None])[0]) == 0:
        raise StateError(str(guard.explain(0, 0.0, state.positions[0], state.velocities[0])))


def label_of(name: str, atoms: Atoms) -> Label:
    """What a molecule and its atoms are called."""
    from ase_atom.molecules.atoms import atom_names
    from ase_atom.propagation import Label

    return Label(name, tuple(atom_names(atoms)))


def _named(error: AtomError, path: Path | str, count: int) -> AtomError:
    """The error, with the file that it is about where there are several."""
    if count == 1 or str(path) in str(error):
        return error
    return type(error)(f"{path}: {error}")
