"""Lists of molecules for ``ase-atom run``: read, checked, and given a folder each."""

from __future__ import annotations

from pathlib import Path

from ase_atom.cli.member import Member
from ase_atom.errors import DataError
from ase_atom.io.library import Record, ending_of, read_records

_LONGEST = 100  # characters of a name: it stands twice in a path


def is_library(path: Path) -> bool:
    """Whether a file lists molecules: SMILES, CSV, or SDF of more than one."""
    ending = ending_of(path)
    if ending in (".smi", ".smiles", ".csv"):
        return True
    if ending not in (".sdf", ".sd") or not path.is_file():
        return False
    found = read_records(path)
    return next(found, None) is not None and next(found, None) is not None


def read_members(source: Path, folder: Path, ending: str) -> list[Member]:
    """Return the molecules of a list, each with a folder of its own.

    Raises
    ------
    DataError
        If there are none, some cannot be read, or two have one name.
    """
    wrong: list[str] = []
    found: dict[str, tuple[Record, Member]] = {}
    for record in read_records(source):
        where = f"line {record.line}"
        try:
            kind, text, formula = _molecule(record)
        except DataError as error:
            wrong.append(f"{where}: {error}")
            continue
        name = record.name or f"{formula}-{record.line}"
        own = _folder_name(name)
        if len(name) > _LONGEST:
            wrong.append(f"{where}: a name of {len(name)} characters; {_LONGEST} are the most")
            continue
        first = found.get(own.casefold())
        if first is not None:
            same = "" if first[1].name == name else f", as {first[1].name}, in its folder's name"
            wrong.append(f"{where}: {name} stands in line {first[0].line} already{same}")
            continue
        found[own.casefold()] = record, Member(name, folder / own, kind, text, ending)
    if wrong:
        more = f"; {len(wrong) - 1} more lines are wrong" if len(wrong) > 1 else ""
        raise DataError(f"{source}, {wrong[0]}{more}")
    if not found:
        raise DataError(f"{source} holds no molecules")
    return [member for _, member in found.values()]


def _molecule(record: Record) -> tuple[str, str, str]:
    """Kind and text of a record that can be read, and the formula.

    Raises
    ------
    DataError
        If RDKit cannot read it.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdMolDescriptors import CalcMolFormula

    with rdBase.BlockLogs():
        if record.kind == "smiles":
            parsed = Chem.MolFromSmiles(record.text)
            if parsed is None or parsed.GetNumAtoms() == 0:
                raise DataError(f"{record.text!r} is no SMILES that RDKit can read")
            return "smiles", record.text, CalcMolFormula(parsed)
        head = record.text.splitlines()[1:2]
        drawn = bool(head) and head[0][20:22] == "2D"
        parsed = Chem.MolFromMolBlock(record.text, sanitize=drawn, removeHs=drawn)
        if parsed is None or parsed.GetNumAtoms() == 0:
            raise DataError("RDKit finds no molecule in this entry")
        if drawn:
            return "smiles", Chem.MolToSmiles(parsed), CalcMolFormula(parsed)
        parsed.UpdatePropertyCache(strict=False)
        return "mol", record.text, CalcMolFormula(parsed)


def _folder_name(name: str) -> str:
    """A name as that of a folder: letters, digits and some signs stay, others become ``_``."""
    own = "".join(sign if sign.isalnum() or sign in "._+-(),=@[]" else "_" for sign in name)
    return f"_{own}" if own.startswith((".", "-")) else own
