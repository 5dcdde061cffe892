"""Collections of reference data that one command makes: ``--preset tg80``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase_atom.errors import ConfigError, DataError
from training.dynamics import Settings
from training.engines import Engine
from training.molecules import Molecule, from_smiles

COMPOUNDS = Path(__file__).parent / "data"

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
    """

    folder: str
    compounds: tuple[Path, ...]
    settings: Settings
    bursts: int


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
    }


def get_preset(name: str, bursts: int | None = None) -> list[Part]:
    """Look a collection up.

    Parameters
    ----------
    bursts
        Make only the first so many microcanonical bursts of each compound.

    Raises
    ------
    ConfigError
        If there is none of the name.
    """
    known = presets()
    if name not in known:
        raise ConfigError(f"unknown preset {name!r}: there are {', '.join(known)}")
    if bursts is None:
        return known[name]
    return [
        Part(part.folder, part.compounds, part.settings, bursts)
        for part in known[name]
        if part.settings.ensemble == "nve"
    ]


def read_compounds(
    paths: Sequence[Path],
    refused: Callable[[str, str], None] | None = None,
    part: str | None = None,
    engine: Engine | None = None,
) -> list[Molecule]:
    """Read lists of compounds: CSV with the columns ``name`` and ``smiles``.

    Parameters
    ----------
    refused
        Called with the name and the reason for each compound that cannot be simulated; without
        it, the first such compound raises.
    part
        Only rows with this in a column ``part``.
    engine
        Whose charges and elements they may have; by default neutral ones of any element.

    Raises
    ------
    DataError
        If a file is missing or has no such columns or part, or a name or compound stands there
        twice.
    """
    molecules: list[Molecule] = []
    for path in paths:
        for name, smiles in _rows(path, part):
            try:
                molecule = from_smiles(smiles, name, engine.charges if engine else (0,))
                if engine is not None:
                    engine.check(molecule)
                molecules.append(molecule)
            except DataError as error:
                if refused is None:
                    raise DataError(f"{path}, {name}: {error}") from error
                refused(name, str(error))
    for field in ("name", "smiles"):
        values = [getattr(molecule, field) for molecule in molecules]
        for twice in sorted({value for value in values if values.count(value) > 1}):
            raise DataError(f"{' and '.join(map(str, paths))}: {twice} stands there twice")
    return molecules


def _rows(path: Path, part: str | None) -> list[tuple[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        wanted = ["name", "smiles"] + (["part"] if part else [])
        if not set(wanted) <= set(reader.fieldnames or ()):
            raise DataError(f"{path}: has no columns {', '.join(wanted[:-1])} and {wanted[-1]}")
        rows = list(reader)
    chosen = [row for row in rows if part is None or row["part"] == part]
    if part and not chosen:
        parts = ", ".join(sorted({row["part"] for row in rows}))
        raise DataError(f"{path}: has no compounds of part {part!r}, but of {parts}")
    return [(row["name"] or "", row["smiles"] or "") for row in chosen]
