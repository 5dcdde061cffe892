"""Collections of reference data that one command makes: ``--preset tg80``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ase_atom.errors import ConfigError, DataError
from training.data.molecules import Molecule, from_smiles
from training.engines.factory import Engine
from training.generation.dynamics import Settings

COMPOUNDS = Path(__file__).parents[1] / "data"

COMMON = {
    "engine": "gfn2",
    # tblite's own default: forces within 0.03 meV/Å of the converged ones (RMS), a sixth faster
    # than the tighter one of single molecules.
    "engine_options": '{"accuracy": 1.0}',
    "timestep": 0.5,
    "interval": 1.0,
    "force_field": 1000.0,
    "thermalise": 80.0,
    "thermal_friction": 0.04,
    "precision": "single",
}


GENERAL = {"engine": "aimnet2", "thermal_friction": 0.04, "precision": "single"}
RELAXED = {"relax_steps": 40, "thermalise": 120.0}
"""By the engine alone, where a force field does not describe the compound."""


@dataclass(frozen=True)
class Part:
    """Bursts of one kind for a list of compounds.

    Attributes
    ----------
    folder
        Where they go, inside the data folder.
    compounds
        Files of the compounds.
    settings, bursts
        What each compound gets.
    where
        Columns of the files and the values that they must have.
    """

    folder: str
    compounds: tuple[Path, ...]
    settings: Settings
    bursts: int
    where: Mapping[str, str] = field(default_factory=dict)


def presets() -> dict[str, list[Part]]:
    """Return the collections by name, each as the parts to make in turn."""
    learning = Settings(**COMMON, duration=400.0, temperatures=(300.0, 400.0, 500.0))
    # Kept if a proton changes places in all that time: the record says so.
    protocol = Settings(
        **COMMON,
        ensemble="langevin",
        duration=16000.0,
        friction=0.01,
        temperatures=(500.0,),
        bond_changes="keep",
    )
    short = learning.model_copy(update={"duration": 240.0})
    return {
        "tg80": [
            Part("tg80", (COMPOUNDS / "tg80.csv",), learning, 40),
            Part("tg80/thermostatted", (COMPOUNDS / "tg80.csv",), protocol, 1),
        ],
        "tg80-plus": [
            Part(
                "tg80-plus",
                (COMPOUNDS / "tg80_plus.csv", COMPOUNDS / "tg80_edits.csv"),
                short,
                6,
            )
        ],
        "wb97m": _general(COMPOUNDS / "general.csv"),
        "wb97m-langevin": _thermostatted(COMPOUNDS / "general.csv"),
    }


def _general(table: Path) -> list[Part]:
    """Parts of the general collection: validation, the first training block, test, the others.

    Ordinary organic compounds are relaxed and shaken by a force field first, odd ones and ions by
    the engine alone. Ions lie apart, since operators without a charge cannot learn from them. Each
    compound gets four bursts of 120 fs, and each training compound of three or four atoms sixteen:
    these are few, cost little, and are what an operator forgets first. The potential needs no data,
    since it is the teacher's own.
    """
    common = {"duration": 120.0, "temperatures": (300.0, 400.0, 500.0, 600.0)}
    shaken = Settings(**GENERAL, **common, force_field=1000.0, thermalise=80.0)
    relaxed = Settings(**GENERAL, **RELAXED, **common)
    ways = {"organic": shaken, "odd": relaxed, "ion": relaxed}
    with open(table, newline="") as file:
        rows = [
            (row["part"], int(row["block"]), row["set"], ways.get(row["set"], shaken))
            for row in csv.DictReader(file)
        ]
    folders = {"odd": "wb97m/odd", "ion": "wb97m/ions"}
    stage = {"validation": 0.0, "test": 1.5}  # training blocks count from 1
    parts = []
    for part, block, kind, settings in sorted(
        dict.fromkeys(rows), key=lambda row: (stage.get(row[0], row[1]), row[2])
    ):
        folder = folders.get(kind, "wb97m/organic")
        where = {"part": part, "block": str(block), "set": kind}
        parts.append(Part(folder, (table,), settings, 4, where))
    for kind, folder in folders.items():
        for atoms in ("3", "4"):
            where = {"part": "train", "set": kind, "atoms": atoms}
            parts.append(Part(folder, (table,), relaxed, 16, where))
    return parts


def _thermostatted(table: Path) -> list[Part]:
    """Langevin runs of the smaller test compounds, whose bonds an audit compares with.

    The friction does not change the distribution. This one lets bonds forget in 20 fs.
    """
    settings = Settings(
        **GENERAL,
        **RELAXED,
        ensemble="langevin",
        friction=0.05,
        temperatures=(300.0,),
        duration=2000.0,
        interval=8.0,
    )
    return [
        Part("wb97m-langevin", (table,), settings, 8, {"part": "test", "set": kind})
        for kind in ("odd", "ion", "tg80")
    ]


def get_preset(name: str, bursts: int | None = None, part: str | None = None) -> list[Part]:
    """Look a collection up.

    Parameters
    ----------
    bursts
        Make only the first so many microcanonical bursts of each compound.
    part
        Make only those of the compounds that are for ``train``, ``validation`` or ``test``.

    Raises
    ------
    ConfigError
        If there is none of the name, or it is not divided so.
    """
    known = presets()
    if name not in known:
        raise ConfigError(f"unknown preset {name!r}: there are {', '.join(known)}")
    parts = known[name]
    if bursts is not None:
        parts = [replace(one, bursts=bursts) for one in parts if one.settings.ensemble == "nve"]
    if part is None:
        return parts
    if name == "tg80":
        split = COMPOUNDS / "tg80_split.csv"
        return [replace(one, compounds=(split,), where={"part": part}) for one in parts]
    divided = [one for one in parts if "part" in one.where]
    if not divided:
        raise ConfigError(f"--part is for the presets tg80 and wb97m, not for {name}")
    chosen = [one for one in divided if one.where["part"] == part]
    if not chosen:
        there = ", ".join(dict.fromkeys(one.where["part"] for one in divided))
        raise ConfigError(f"--part {part!r}: {name} is divided into {there}")
    return chosen


def read_compounds(
    paths: Sequence[Path],
    refused: Callable[[str, str], None] | None = None,
    where: Mapping[str, str] | None = None,
    engine: Engine | None = None,
) -> list[Molecule]:
    """Read lists of compounds: CSV with the columns ``name`` and ``smiles``, perhaps ``charge``.

    Parameters
    ----------
    refused
        Called with the name and the reason for each compound that cannot be simulated; without
        it, the first such compound raises.
    where
        Only rows with these values in the columns of these names.
    engine
        Whose charges and elements they may have; by default neutral ones of any element.

    Raises
    ------
    DataError
        If a file is missing, has no such columns or no such rows, or a name or compound stands
        there twice.
    """
    molecules: list[Molecule] = []
    for path in paths:
        for row in _rows(path, where or {}):
            name = row["name"] or ""
            try:
                charges = engine.charges if engine else (0,)
                molecule = from_smiles(row["smiles"] or "", name, charges)
                _check_charge(molecule, row.get("charge"))
                if engine is not None:
                    engine.check(molecule)
                molecules.append(molecule)
            except DataError as error:
                if refused is None:
                    raise DataError(f"{path}, {name}: {error}") from error
                refused(name, str(error))
    for what in ("name", "smiles"):
        values = [getattr(molecule, what) for molecule in molecules]
        for twice in sorted({value for value in values if values.count(value) > 1}):
            raise DataError(f"{' and '.join(map(str, paths))}: {twice} stands there twice")
    return molecules


def _check_charge(molecule: Molecule, stated: str | None) -> None:
    """Compare a molecule's charge with that of the list, which may leave it out."""
    if stated and stated.strip() not in (f"{molecule.charge:d}", f"{molecule.charge:+d}"):
        raise DataError(
            f"the list gives {molecule.smiles} a charge of {stated}, and its SMILES one of "
            f"{molecule.charge:+d}"
        )


def _rows(path: Path, where: Mapping[str, str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        wanted = ["name", "smiles", *where]
        if not set(wanted) <= set(reader.fieldnames or ()):
            raise DataError(f"{path}: has no columns {', '.join(wanted[:-1])} and {wanted[-1]}")
        rows = list(reader)
    for column, value in where.items():
        chosen = [row for row in rows if row[column] == value]
        if not chosen:
            there = ", ".join(sorted({row[column] for row in rows}))
            raise DataError(f"{path}: has no compounds of {column} {value!r}, but of {there}")
        rows = chosen
    return rows
