"""What an audit is about: compounds with their bursts, the training set, operators beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from ase_atom.errors import ConfigError, DataError
from ase_atom.molecules.topology import canonical
from ase_atom.operator import Operator
from training.auditing.compounds import collect, read_part, without_data
from training.auditing.others import Files
from training.curation.scaffolds import identity
from training.data.burst import Burst


@dataclass(frozen=True)
class Material:
    """What is measured, and on what.

    Attributes
    ----------
    wanted
        Names of the part's compounds by SMILES.
    sets
        Their sets by name, if the table tells.
    smiles, bursts
        Of those that there are bursts of, by name.
    training
        SMILES of the compounds that the operator has learned from.
    frames
        A few structures of each compound, by SMILES.
    files
        The operators to compare with.
    left_out
        Compounds that are not measured, each with the reason.
    """

    wanted: dict[str, str]
    sets: dict[str, str]
    smiles: dict[str, str]
    bursts: dict[str, list[Burst]]
    training: list[str]
    frames: dict[str, list[Atoms]]
    files: list[Files]
    left_out: dict[str, str]


def gather(
    operator: Operator,
    data: Sequence[Path],
    table: Path,
    part: str,
    others: Mapping[str, Sequence[Path]],
) -> Material:
    """Find it all, and refuse what cannot be audited.

    Raises
    ------
    ConfigError
        If there is no such table or part, RDKit cannot read a SMILES of it, or an operator to
        compare with is not there.
    DataError
        If the operator was trained on one of the compounds, or there are no bursts of them.
    """
    chosen = read_part(table, part)
    wanted = chosen.names
    training = sorted({canonical(smiles) for smiles in operator.card.smiles})
    known = {identity(smiles) for smiles in training}
    if seen := sorted(smiles for smiles in wanted if identity(smiles) in known):
        raise DataError(
            f"{operator.name} was trained on {wanted[seen[0]]} ({seen[0]}), a {part} compound: "
            "an audit is of molecules that it has not seen"
        )
    bursts, frames = collect(data, wanted, set(training))
    if not bursts:
        raise DataError(f"{', '.join(map(str, data))} holds no bursts of a {part} compound")
    smiles = {wanted[each]: each for each in sorted(bursts, key=lambda one: wanted[one])}
    if operator.name in others:
        raise ConfigError(f"{operator.name} is audited: give the operator beside it another label")
    return Material(
        wanted,
        chosen.sets,
        smiles,
        {name: bursts[each] for name, each in smiles.items()},
        training,
        frames,
        [Files(label, paths, list(smiles)) for label, paths in others.items()],
        chosen.left_out | without_data(wanted, bursts),
    )
